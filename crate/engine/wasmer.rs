//! wasmer with the Cranelift compiler. Only this file and its folder name wasmer; see `engine.rs` for the contract.
//!
//! Guests run on a stack of their own, and host functions return to the thread's stack, so V8's stack limit holds.
//! Host functions are `VMFunction`s of kind `Dynamic` with a context of our own: wasmer's `Function::new_with_env`
//! does the same at eight times the cost, because it builds typed values that the realm would take apart again.

mod compile;
mod module;

mod checks;
mod code;
mod names;

mod linked_types;
mod types;

mod limited;
mod memory;
mod meters;
mod tables;

mod frames;
mod host_func;
mod stack;

mod errors;

use std::{convert::Infallible, ptr::NonNull, sync::Arc};

use wasmer::{
    AsStoreMut, StoreMut, VMExternToExtern as _,
    sys::{
        NativeEngineExt as _,
        vm::{self, StoreHandle, VMCallerCheckedAnyfunc, VMDynamicFunctionContext, VMExtern},
    },
};
use wasmer_types::RawValue;

pub use self::module::{Module, Preparation};
use self::{
    checks::CheckOptions,
    code::Code,
    compile::{compile, wasmer_engine},
    errors::{compiled, translate_trap},
    host_func::{HostFunc, new_host_func, replace_raise_trap},
    limited::Limited,
    linked_types::LinkedTypes,
    memory::Bounds,
    meters::{Meters, added_to},
    names::FunctionNames,
    stack::{Call, GuestStacks, Stopped},
    tables::GrowingTables,
    types::{extern_type, global_type, memory_type, slot_of, slot_of_global, value_of, value_type},
};
use super::{
    Control, Engine, EngineConfig, EngineId, ExportType, Extern, GUEST_STACK_BYTES, ImportSite, ImportType, Linked,
    MemoryRegion, RealmPtr, StoreLimits, store_slot::Lend,
};
use crate::{
    error::{CompileError, EngineError, GlobalError, InstantiateError, MAX_NAME, MemoryError, Trap, TrapCode},
    interrupt::Interrupt,
    realm::Realm,
    rewrite::{Edits, REWRITE_VERSION, Sections, metering::Metering},
    value::{FuncType, GlobalType, MAX_PAGES, MemoryType},
};

/// Part of what machine code depends on. A test compares it with `Cargo.toml`.
const WASMER_VERSION: &str = "7.4.2";

/// Part of what machine code depends on: the version of the bytes that this file adds to wasmer's.
const CODE_VERSION: u32 = 1;

/// The engine: how modules are compiled.
pub struct Wasmer {
    config: EngineConfig,
    /// For all memories and all code; `None` if it depends on how many memories there are.
    bounds: Option<Bounds>,
    /// For stores; nothing is compiled with it.
    engine: wasmer::Engine,
    stacks: GuestStacks,
    id: EngineId,
}

/// A function of a guest or of the host, as wasmer's call trampolines want it.
#[derive(Clone, Copy)]
pub struct Func {
    /// Owned by the store's function or instance table, which only grows: good as long as the store.
    anyfunc: NonNull<VMCallerCheckedAnyfunc>,
    /// The store's index of the function, for linking.
    handle: vm::VMExternFunction,
    /// Of a host function that no instance has been linked with yet.
    host: Option<NonNull<VMDynamicFunctionContext<HostFunc>>>,
}

/// A store.
pub struct Store(wasmer::Store);

impl Lend for Store {
    type Context<'a> = StoreMut<'a>;

    fn context(&mut self) -> StoreMut<'_> {
        self.0.as_store_mut()
    }
}

impl Engine for Wasmer {
    type Module = Module;
    type Pass = Preparation;
    type Store = Store;
    type Context<'a> = StoreMut<'a>;
    type Memory = wasmer::Memory;
    type Global = wasmer::Global;
    type Table = wasmer::Table;
    type Func = Func;
    type LinkedTypes = LinkedTypes;
    /// No call is suspended: wasmer's coroutines must end in the reverse order of their beginnings, so a call waits on its
    /// thread.
    type Suspension = Infallible;

    type Meters = Meters;

    type Attached = Option<GrowingTables>;

    const NAME: &'static str = "wasmer";
    const DEFAULT_DEPTH: Option<usize> = None;
    const SUSPENDS: bool = false;
    const COUNTS_IN_INSTANCES: bool = true;
    const HAS_MACHINE_CODE: bool = true;
    const HAS_CANONICAL_NANS: bool = true;

    fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let stacks = GuestStacks::new(config.stack_bytes.unwrap_or(GUEST_STACK_BYTES));
        let mut engine = wasmer_engine(config, None, Bounds::Checked);
        let bounds = config.exact_memories.then_some(Bounds::Checked);
        engine.set_tunables(Limited::new(StoreLimits::default(), bounds));
        Ok(Self { config: config.clone(), bounds, engine, stacks, id: EngineId::next() })
    }

    fn id(&self) -> EngineId {
        self.id
    }

    fn config(&self) -> &EngineConfig {
        &self.config
    }

    fn pass(&self, sections: &Sections<'_>, edits: &mut Edits) -> Preparation {
        Preparation {
            added: Arc::new(CheckOptions::of(&self.config).names_in(sections)),
            names: FunctionNames::hide(sections, MAX_NAME, edits),
            // A local that does not exist would be the one that the fuel is in, so a module with these is validated.
            metering: self.config.has_fuel.then(Metering::default),
        }
    }

    fn compile(&self, wasm: &[u8], pass: Preparation) -> Result<Self::Module, CompileError> {
        let bounds = self.bounds.unwrap_or_else(|| Bounds::for_new(1));
        let code = compile(&self.config, wasm, &pass.added, pass.metering.as_ref(), bounds)?;
        Ok(self.module(wasm, code, pass))
    }

    fn identity(&self) -> Option<String> {
        let EngineConfig { opt_level, interruptible, has_fuel, recursion_depth, deterministic, .. } = self.config;
        let target = self.engine.target();
        let (triple, cpu) = (target.triple(), target.cpu_features());
        Some(format!(
            "wasmer {} cranelift {opt_level:?} rewrite {REWRITE_VERSION} code {CODE_VERSION} checks {} {interruptible} {has_fuel} {recursion_depth:?} {deterministic} {triple} {cpu:?}",
            WASMER_VERSION,
            checks::VERSION,
        ))
    }

    fn function_name(module: &Self::Module, function: u32) -> Option<&str> {
        module.names.get(function)
    }

    fn machine_code(&self, module: &Self::Module) -> Result<Vec<u8>, CompileError> {
        let Code { module, bounds, .. } = module.codes.first();
        let bytes = module.serialize().map_err(|error| CompileError::Refused(error.to_string()))?;
        let mut bytes = bytes.to_vec();
        bytes.push(u8::from(*bounds == Bounds::Checked));
        Ok(bytes)
    }

    unsafe fn load(&self, wasm: &[u8], pass: Preparation, machine_code: &[u8]) -> Result<Self::Module, CompileError> {
        let (bounds, machine_code) = match machine_code.split_last() {
            Some((0, rest)) => (Bounds::Guarded, rest),
            Some((1, rest)) => (Bounds::Checked, rest),
            _ => {
                return Err(CompileError::Refused("the machine code does not say for which memories it is".to_owned()));
            }
        };
        let engine = wasmer_engine(&self.config, None, bounds);
        // SAFETY: passed on to the caller.
        let module = compiled(|| unsafe { wasmer::Module::deserialize(&engine, machine_code) })?;
        Ok(self.module(wasm, Code { module, bounds, _engine: engine }, pass))
    }

    fn imports(module: &Self::Module) -> Vec<ImportType> {
        module
            .any()
            .imports()
            .map(|import| ImportType {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
                ty: extern_type(import.ty()),
            })
            .collect()
    }

    fn exports(module: &Self::Module) -> Vec<ExportType> {
        module
            .any()
            .exports()
            .filter(|export| !module.added.has(export.name()))
            .map(|export| ExportType { name: export.name().to_owned(), ty: extern_type(export.ty()) })
            .collect()
    }

    fn new_store(engine: &Arc<Self>, limits: &StoreLimits, _realm: RealmPtr<Self>) -> Self::Store {
        let bounds = engine.bounds;
        let mut engine = engine.engine.clone();
        if !limits.are_default() {
            engine.set_tunables(Limited::new(limits.clone(), bounds));
        }
        Store(wasmer::Store::new(engine))
    }

    fn context(store: &mut Self::Store) -> Self::Context<'_> {
        store.0.as_store_mut()
    }

    fn new_memory(cx: &mut Self::Context<'_>, ty: MemoryType) -> Result<Self::Memory, MemoryError> {
        let pages = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX);
        let ty = wasmer::MemoryType::new(pages(ty.minimum), ty.maximum.map(pages), false);
        wasmer::Memory::new(cx, ty).map_err(|error| match error {
            // Only `Limited` says so.
            wasmer_types::MemoryError::Generic(exceeded) => MemoryError::Total(exceeded),
            error => MemoryError::Allocation(error.to_string()),
        })
    }

    fn memory_region(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryRegion {
        let view = memory.view(cx);
        // A memory that this process has mapped is no larger than its address space.
        MemoryRegion { base: view.data_ptr(), bytes: view.data_size() as usize }
    }

    fn memory_type(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryType {
        memory_type(&memory.ty(cx))
    }

    /// The memory's mapping has room for everything it may grow to.
    fn memory_moves(_cx: &mut Self::Context<'_>, _memory: &Self::Memory) -> bool {
        false
    }

    fn memory_grow(cx: &mut Self::Context<'_>, memory: &Self::Memory, delta: u64) -> Result<u64, MemoryError> {
        let refused = |reason: String| MemoryError::Grow { delta, reason };
        let pages = u32::try_from(delta).map_err(|_| refused(format!("more than {MAX_PAGES} pages")))?;
        match memory.grow(cx, pages) {
            Ok(before) => Ok(u64::from(before.0)),
            Err(wasmer_types::MemoryError::Generic(reason)) => Err(refused(reason)),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn move_memory(
        from: &mut Self::Context<'_>,
        memory: &Self::Memory,
        to: &mut Self::Context<'_>,
    ) -> Result<Self::Memory, MemoryError> {
        let refused = |reason: &str| MemoryError::Allocation(reason.to_owned());
        let VMExtern::Memory(handle) = wasmer::Extern::Memory(memory.clone()).to_vm_extern().unwrap_sys() else {
            return Err(refused("the memory has no handle"));
        };
        // The memory that stays behind has no pages and reserves next to nothing.
        let nothing = wasmer_types::MemoryStyle::Dynamic { offset_guard_size: 0 };
        let empty = vm::VMMemory::new(&wasmer::MemoryType::new(0, Some(0), false), &nothing);
        let empty = empty.map_err(|error| refused(&error.to_string()))?;
        let moved = std::mem::replace(handle.get_mut(from.objects_mut().as_sys_mut()), empty);
        let handle = StoreHandle::new(to.objects_mut().as_sys_mut(), moved).internal_handle();
        match VMExtern::Memory(handle).to_extern(to) {
            wasmer::Extern::Memory(memory) => Ok(memory),
            _ => Err(refused("the memory has become something else")),
        }
    }

    fn global_type(cx: &mut Self::Context<'_>, global: &Self::Global) -> GlobalType {
        global_type(&global.ty(cx))
    }

    fn global_get(cx: &mut Self::Context<'_>, global: &Self::Global) -> Option<u64> {
        if !value_type(global.ty(cx).ty).is_numeric() {
            return None;
        }
        slot_of_global(&global.get(cx))
    }

    fn global_set(cx: &mut Self::Context<'_>, global: &Self::Global, slot: u64) -> Result<(), GlobalError> {
        let ty = Self::global_type(cx, global);
        if !ty.mutable {
            return Err(GlobalError::Immutable);
        }
        let value = value_of(ty.value, slot).ok_or(GlobalError::Type(ty.value))?;
        global.set(cx, value).map_err(|_| GlobalError::Type(ty.value))
    }

    fn admit(types: &mut LinkedTypes, module: &Self::Module) -> Result<(), InstantiateError> {
        types.admit(module.any())
    }

    fn new_host_func(cx: &mut Self::Context<'_>, realm: RealmPtr<Self>, site: ImportSite, ty: &FuncType) -> Self::Func {
        new_host_func(cx, realm, site, ty)
    }

    fn instantiate(
        cx: &mut Self::Context<'_>,
        limits: &StoreLimits,
        module: &Self::Module,
        imports: &[Extern<Self>],
        exports: &[&str],
    ) -> Result<Linked<Self>, InstantiateError> {
        let externs = imports
            .iter()
            .map(|import| match import {
                Extern::Func(func) => Ok(VMExtern::Function(func.handle).to_extern(cx)),
                Extern::Memory(memory) => Ok(wasmer::Extern::Memory(memory.clone())),
                Extern::Global(global) => Ok(wasmer::Extern::Global(global.clone())),
                Extern::Table(table) => Ok(wasmer::Extern::Table(table.clone())),
                Extern::Other => Err(InstantiateError::Link("an import has no handle".to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let instance = module.instance(cx, &externs)?;
        let attached = GrowingTables::of_newest(cx, module.any(), limits.total.as_ref());
        replace_raise_trap(cx);
        let (flag, meters) = added_to(cx, &module.added, &instance);
        for import in imports {
            if let Extern::Func(Func { host: Some(context), .. }) = import {
                // SAFETY: the context that `new_host_func` made is alive as long as the store, and no guest runs.
                unsafe { (*context.as_ptr()).ctx.meters.set(meters) };
            }
        }
        let exports = exports
            .iter()
            .map(|name| {
                let found = instance.exports.get_extern(name);
                match found {
                    Some(wasmer::Extern::Function(_)) => Ok(Extern::Func(export_func(cx, found)?)),
                    Some(wasmer::Extern::Memory(memory)) => Ok(Extern::Memory(memory.clone())),
                    Some(wasmer::Extern::Global(global)) => Ok(Extern::Global(global.clone())),
                    Some(wasmer::Extern::Table(table)) => Ok(Extern::Table(table.clone())),
                    Some(wasmer::Extern::Tag(_)) | None => Ok(Extern::Other),
                }
            })
            .collect::<Result<_, InstantiateError>>()?;
        Ok(Linked { exports, flag, meters, attached })
    }

    fn call(
        cx: &mut Self::Context<'_>,
        realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<(), Box<Trap>> {
        debug_assert!(slots.len() >= ty.slots());
        // Written in place from the beginning: a collection would be copied once more.
        let (mut inline, mut heap);
        let values: &mut [RawValue] = if slots.len() <= INLINE_VALUES {
            inline = [RawValue { u128: 0 }; INLINE_VALUES];
            &mut inline[..slots.len()]
        } else {
            heap = vec![RawValue { u128: 0 }; slots.len()];
            &mut heap
        };
        for (value, slot) in values.iter_mut().zip(&*slots) {
            value.u128 = u128::from(*slot);
        }
        // SAFETY: `anyfunc` belongs to an object of this store, which is borrowed, and objects of a store are never
        // freed before it.
        let anyfunc = unsafe { func.anyfunc.as_ref() };
        let call = Call {
            vmctx: anyfunc.vmctx,
            trampoline: anyfunc.call_trampoline,
            callee: anyfunc.func_ptr,
            values: values.as_mut_ptr().cast(),
        };
        let stacks = &realm.engine().stacks;
        let Control { interrupt, fuel, meters } = control;
        let saved = meters.begin(fuel.as_deref().copied());
        let outcome = realm.park(cx, || {
            // SAFETY: the three come from one `VMCallerCheckedAnyfunc`, so they belong together; `values` has a slot for
            // each parameter and each result of the function's type, which the realm has looked up for this function.
            unsafe { stacks.run(call, translate_trap) }
        });
        let ended = meters.end(saved);
        if let Some(fuel) = fuel {
            *fuel = ended.fuel.unwrap_or(0);
        }
        match outcome {
            // Its last steps cost more fuel than it had left.
            Ok(()) if ended.fuel.is_none() => Err(Trap::new(TrapCode::OutOfFuel).into()),
            Ok(()) => {
                for ((slot, value), ty) in slots.iter_mut().zip(&*values).zip(&ty.results) {
                    // SAFETY: the guest has written a value of this type there, and any bits are a number.
                    *slot = unsafe { slot_of(value, *ty) };
                }
                Ok(())
            }
            Err(Stopped::NoRoom) => {
                Err(Trap::with_message(TrapCode::OutOfMemory, "the host has no room for the stack of a guest").into())
            }
            Err(Stopped::Trapped(mut trap)) => {
                // Every check in the code ends in `unreachable`.
                if trap.code == TrapCode::Unreachable {
                    let why = if interrupt.is_some_and(Interrupt::is_set) {
                        TrapCode::Interrupted
                    } else if ended.fuel.is_none() {
                        TrapCode::OutOfFuel
                    } else if ended.is_too_deep {
                        TrapCode::StackOverflow
                    } else {
                        TrapCode::Unreachable
                    };
                    *trap = Trap { frames: std::mem::take(&mut trap.frames), ..Trap::new(why) };
                }
                Err(trap)
            }
        }
    }

    fn fuel_left(_cx: &mut Self::Context<'_>, meters: Meters) -> Option<u64> {
        meters.fuel_left()
    }

    fn set_fuel(_cx: &mut Self::Context<'_>, meters: Meters, fuel: u64) {
        meters.set_fuel(fuel);
    }

    fn call_suspendable(
        cx: &mut Self::Context<'_>,
        realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>> {
        Self::call(cx, realm, func, ty, slots, control).map(|()| None)
    }

    fn resume(
        _cx: &mut Self::Context<'_>,
        suspension: Self::Suspension,
        _host_ty: &FuncType,
        _results: &[u64],
        _ty: &FuncType,
        _slots: &mut [u64],
        _control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>> {
        match suspension {}
    }
}

/// Calls with no more slots than this do not allocate for them.
const INLINE_VALUES: usize = 8;

/// The call handle of an exported function.
fn export_func(cx: &mut StoreMut<'_>, export: Option<&wasmer::Extern>) -> Result<Func, InstantiateError> {
    match export.map(|export| export.to_vm_extern().unwrap_sys()) {
        Some(VMExtern::Function(handle)) => {
            let anyfunc = handle.get(cx.objects_mut().as_sys()).anyfunc.as_ptr();
            Ok(Func { anyfunc, handle, host: None })
        }
        _ => Err(InstantiateError::Link("an exported function has no handle".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_dependency() {
        let wanted = format!("wasmer = {{ version = \"={WASMER_VERSION}\"");
        assert!(include_str!("../../Cargo.toml").contains(&wanted));
    }
}
