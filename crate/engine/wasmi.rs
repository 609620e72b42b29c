//! wasmi, the interpreter. Only this file and its folder name wasmi; see `engine.rs` for the contract.
//!
//! Functions are validated when the module is compiled and translated when they are first called. A memory that a
//! supervisor makes lies in a mapping of everything it may grow to, so it does not move and an untouched page costs
//! nothing.

mod repairs;

mod types;
mod values;

mod memory;
mod zeroing;

mod growth;
mod host_func;

mod slices;

use std::sync::Arc;

use wasmi::{AsContextMut as _, Caller, StoreContextMut, Val};

pub use self::slices::Suspension;
use self::{
    growth::add_host_functions,
    host_func::typed_host_func,
    memory::{Kept, Mappings, Reserved, grow_mapped, lock, mapping_at, memory_over, new_memory},
    repairs::{Growth, Repairs},
    slices::{SLICE, call_in_slices, is_in_slice, left_or_done, run_in_slices},
    types::{extern_type, global_type, instantiate_error, memory_type, slot_of, translate_error, types, val_of},
    values::{copy_results, room_for, take_results, vals_of, values_of},
};
use super::{
    Control, Engine, EngineConfig, EngineId, ExportType, Extern, GUEST_STACK_BYTES, ImportSite, ImportType, Linked,
    MAX_RECURSION_DEPTH, MemoryRegion, RealmPtr, StoreLimits, store_slot::Lend,
};
use crate::{
    error::{CompileError, EngineError, GlobalError, HostTrap, InstantiateError, MemoryError, Trap},
    realm::{Realm, Slots},
    rewrite::{Edits, Sections},
    total::Charge,
    value::{FuncType, GlobalType, MemoryType, PAGE_BYTES},
};

/// The engine. Its code is shared by all stores.
pub struct Wasmi {
    config: EngineConfig,
    engine: wasmi::Engine,
    id: EngineId,
}

/// A store, and the mappings that its memories lie in.
pub struct Store {
    store: wasmi::Store<Data>,
    /// Below `store`, so that it is dropped after it; `Data` holds the other reference.
    _mappings: Arc<Mappings>,
}

/// What host functions and `new_memory` find in the store.
pub struct Data {
    realm: RealmPtr<Wasmi>,
    mappings: Arc<Mappings>,
    limits: wasmi::StoreLimits,
    /// Set while an instance is being made: its initial sizes have been checked, and it has one table more than its author
    /// declared.
    no_limits: Option<wasmi::StoreLimits>,
    /// Counts the memories that the supervisor makes, and the growth of memories and tables. All of them go through functions of
    /// this engine.
    charge: Charge,
    memory_pages: u64,
    /// The fuel that the running call has left beyond the slice that the store holds.
    rest: u64,
}

/// A function of a guest or of the host.
#[derive(Clone, Copy)]
pub struct Func {
    func: wasmi::Func,
    /// The same function if it has neither parameters nor results: wasmi calls a function much faster when it knows the
    /// function's Rust type.
    without_values: Option<wasmi::TypedFunc<(), ()>>,
}

impl Func {
    fn new(cx: &StoreContextMut<'_, Data>, func: wasmi::Func) -> Self {
        Self { func, without_values: func.typed(cx).ok() }
    }
}

impl Lend for Store {
    type Context<'a> = StoreContextMut<'a, Data>;

    fn context(&mut self) -> StoreContextMut<'_, Data> {
        self.store.as_context_mut()
    }
}

/// A module, and what it needs to grow its memories and tables.
#[derive(Clone)]
pub struct Module {
    module: wasmi::Module,
    growth: Option<Arc<Growth>>,
}

impl Engine for Wasmi {
    type Module = Module;
    type Pass = Repairs;
    type Store = Store;
    type Context<'a> = StoreContextMut<'a, Data>;
    type Memory = wasmi::Memory;
    type Global = wasmi::Global;
    type Table = wasmi::Table;
    type Func = Func;
    /// All modules of an engine share its types.
    type LinkedTypes = ();
    type Suspension = Suspension;
    type Meters = ();
    type Attached = ();

    const NAME: &'static str = "wasmi";
    const DEFAULT_DEPTH: Option<usize> = Some(MAX_RECURSION_DEPTH);
    const SUSPENDS: bool = true;
    const COUNTS_IN_INSTANCES: bool = false;
    const HAS_MACHINE_CODE: bool = false;
    const HAS_CANONICAL_NANS: bool = false;

    fn new(options: &EngineConfig) -> Result<Self, EngineError> {
        let mut config = wasmi::Config::default();
        config
            .consume_fuel(options.interruptible || options.has_fuel)
            // A function is translated at its first call. The guest that happens to make that call must not pay for it.
            .fuel_cost(wasmi::CustomFuelCosts {
                bytes_copied_per_fuel: 64,
                fuel_per_bytes_translated: 0,
                fuel_per_bytes_validated: 0,
            })
            .compilation_mode(wasmi::CompilationMode::LazyTranslation)
            // wasmer has no 64-bit memories, and a module must not run on only one of the engines.
            .wasm_memory64(false)
            .set_max_recursion_depth(options.recursion_depth.map_or(MAX_RECURSION_DEPTH, |depth| depth as usize))
            .set_max_stack_height(options.stack_bytes.unwrap_or(GUEST_STACK_BYTES))
            .set_max_cached_stacks(CACHED_STACKS);
        Ok(Self { config: options.clone(), engine: wasmi::Engine::new(&config), id: EngineId::next() })
    }

    fn id(&self) -> EngineId {
        self.id
    }

    fn config(&self) -> &EngineConfig {
        &self.config
    }

    fn pass(&self, sections: &Sections<'_>, _edits: &mut Edits) -> Repairs {
        Repairs::of(sections)
    }

    fn compile(&self, wasm: &[u8], pass: Repairs) -> Result<Self::Module, CompileError> {
        let module = wasmi::Module::new(&self.engine, wasm);
        let module = module.map_err(|error| CompileError::Refused(error.to_string()))?;
        Ok(Module { module, growth: pass.growth.map(Arc::new) })
    }

    fn identity(&self) -> Option<String> {
        None
    }

    fn machine_code(&self, _module: &Self::Module) -> Result<Vec<u8>, CompileError> {
        Err(CompileError::Refused("wasmi makes no machine code".to_owned()))
    }

    unsafe fn load(&self, wasm: &[u8], pass: Repairs, _machine_code: &[u8]) -> Result<Self::Module, CompileError> {
        self.compile(wasm, pass)
    }

    fn imports(module: &Self::Module) -> Vec<ImportType> {
        module
            .module
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
            .module
            .exports()
            .filter(|export| module.growth.as_ref().is_none_or(|growth| !growth.has_added(export.name())))
            .map(|export| ExportType { name: export.name().to_owned(), ty: extern_type(export.ty()) })
            .collect()
    }

    fn new_store(engine: &Arc<Self>, limits: &StoreLimits, realm: RealmPtr<Self>) -> Self::Store {
        let mappings = Arc::new(Mappings::default());
        let data = Data {
            realm,
            mappings: mappings.clone(),
            limits: store_limits(limits),
            no_limits: None,
            charge: Charge::new(limits.total.clone()),
            memory_pages: limits.memory_pages(),
            rest: 0,
        };
        let mut store = wasmi::Store::new(&engine.engine, data);
        store.limiter(|data| data.no_limits.as_mut().unwrap_or(&mut data.limits));
        // For calls that nobody meters or may interrupt: more than they can use up. It fails if the engine has no fuel.
        let _ = store.set_fuel(u64::MAX);
        Store { store, _mappings: mappings }
    }

    fn context(store: &mut Self::Store) -> Self::Context<'_> {
        store.store.as_context_mut()
    }

    fn new_memory(cx: &mut Self::Context<'_>, ty: MemoryType) -> Result<Self::Memory, MemoryError> {
        let bytes = ty.minimum * PAGE_BYTES;
        cx.data_mut().charge.add(bytes).map_err(|exceeded| MemoryError::Total(exceeded.to_string()))?;
        new_memory(cx, ty).inspect_err(|_| cx.data_mut().charge.give_back(bytes))
    }

    fn memory_region(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryRegion {
        MemoryRegion { base: memory.data_ptr(&*cx), bytes: memory.data_size(&*cx) }
    }

    fn memory_type(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryType {
        let ty = memory_type(&memory.ty(&*cx));
        let base = memory.data_ptr(&*cx);
        let mappings = lock(&cx.data().mappings);
        MemoryType { minimum: mapping_at(&mappings, base).map_or(ty.minimum, |reserved| reserved.minimum), ..ty }
    }

    fn memory_moves(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> bool {
        let base = memory.data_ptr(&*cx);
        let mappings = lock(&cx.data().mappings);
        mapping_at(&mappings, base).is_none()
    }

    fn memory_grow(cx: &mut Self::Context<'_>, memory: &Self::Memory, delta: u64) -> Result<u64, MemoryError> {
        let refused = |error: &dyn std::fmt::Display| MemoryError::Grow { delta, reason: error.to_string() };
        let bytes = delta.saturating_mul(PAGE_BYTES);
        cx.data_mut().charge.add(bytes).map_err(|exceeded| refused(&exceeded))?;
        let mappings = cx.data().mappings.clone();
        let mappings = lock(&mappings);
        let grown = match mapping_at(&mappings, memory.data_ptr(&*cx)) {
            Some(reserved) => grow_mapped(cx, *memory, &reserved.mapping, delta),
            None => memory.grow(&mut *cx, delta).map_err(wasmi::Error::from),
        };
        grown.map_err(|error| {
            cx.data_mut().charge.give_back(bytes);
            refused(&error)
        })
    }

    fn move_memory(
        from: &mut Self::Context<'_>,
        memory: &Self::Memory,
        to: &mut Self::Context<'_>,
    ) -> Result<Self::Memory, MemoryError> {
        let refused = |error: &dyn std::fmt::Display| MemoryError::Allocation(error.to_string());
        let MemoryRegion { base, bytes } = Self::memory_region(from, memory);
        let mut ty = wasmi::MemoryType::builder();
        ty.min(bytes as u64 / PAGE_BYTES).max(memory.ty(&*from).maximum());
        let ty = ty.build().map_err(|error| refused(&error))?;
        let reserved = {
            let mut mappings = lock(&from.data().mappings);
            let at = mappings.iter().position(|reserved| reserved.mapping.as_ptr() == base.cast_const());
            at.map(|at| mappings.swap_remove(at))
        };
        let Some(Reserved { mapping, minimum }) = reserved else {
            // wasmi has allocated this memory and keeps it.
            let moved = wasmi::Memory::new(&mut *to, ty).map_err(|error| refused(&error))?;
            moved.data_mut(&mut *to).copy_from_slice(memory.data(&*from));
            from.data_mut().charge.hand_over(bytes as u64, &mut to.data_mut().charge);
            return Ok(moved);
        };
        // wasmi writes zeros over the initial pages of a memory.
        let kept = Kept::of(mapping.get(..bytes).unwrap_or_default());
        let moved = memory_over(to, ty, &mapping);
        if moved.is_ok() {
            from.data_mut().charge.hand_over(bytes as u64, &mut to.data_mut().charge);
        }
        // On success the new store owns the mapping, and nothing in the old store uses it again. On failure it stays with
        // the old store.
        let mut mapping = mapping;
        if let Some(bytes) = mapping.get_mut(..bytes) {
            kept.write_back(bytes);
        }
        let owner = if moved.is_ok() { &to.data().mappings } else { &from.data().mappings };
        lock(owner).push(Reserved { mapping, minimum });
        moved
    }

    fn global_type(cx: &mut Self::Context<'_>, global: &Self::Global) -> GlobalType {
        global_type(&global.ty(&*cx))
    }

    fn global_get(cx: &mut Self::Context<'_>, global: &Self::Global) -> Option<u64> {
        slot_of(&global.get(&*cx))
    }

    fn global_set(cx: &mut Self::Context<'_>, global: &Self::Global, slot: u64) -> Result<(), GlobalError> {
        let ty = Self::global_type(cx, global);
        if !ty.mutable {
            return Err(GlobalError::Immutable);
        }
        let value = val_of(ty.value, slot).ok_or(GlobalError::Type(ty.value))?;
        global.set(cx, value).map_err(|_| GlobalError::Type(ty.value))
    }

    fn admit((): &mut (), _module: &Self::Module) -> Result<(), InstantiateError> {
        Ok(())
    }

    fn new_host_func(cx: &mut Self::Context<'_>, realm: RealmPtr<Self>, site: ImportSite, ty: &FuncType) -> Self::Func {
        // Only guests call it, so it needs no fast path for calls by the host.
        let host = |func| Func { func, without_values: None };
        if let Some(func) = typed_host_func(cx, realm, site, ty) {
            return host(func);
        }
        let slots = ty.slots();
        let result_types = ty.results.clone();
        let wasmi_ty = wasmi::FuncType::new(types(&ty.params), types(&ty.results));
        host(wasmi::Func::new(cx, wasmi_ty, move |mut caller: Caller<'_, Data>, params, results| {
            let mut buffer = Slots::new(slots);
            for (slot, value) in buffer.iter_mut().zip(params) {
                *slot = slot_of(value).unwrap_or(0);
            }
            // SAFETY: this is a host function that the engine is calling, made with this pointer.
            let realm = unsafe { realm.get() };
            realm
                .host_call(&mut caller.as_context_mut(), site, &mut buffer)
                .map_err(|trap| wasmi::Error::host(*trap))?;
            for ((result, slot), ty) in results.iter_mut().zip(buffer.iter()).zip(&result_types) {
                if let Some(value) = val_of(*ty, *slot) {
                    *result = value;
                }
            }
            Ok(())
        }))
    }

    fn instantiate(
        cx: &mut Self::Context<'_>,
        _limits: &StoreLimits,
        module: &Self::Module,
        imports: &[Extern<Self>],
        exports: &[&str],
    ) -> Result<Linked<Self>, InstantiateError> {
        let externs = imports
            .iter()
            .map(|import| match import {
                Extern::Func(func) => Ok(wasmi::Extern::Func(func.func)),
                Extern::Memory(memory) => Ok(wasmi::Extern::Memory(*memory)),
                Extern::Global(global) => Ok(wasmi::Extern::Global(*global)),
                Extern::Table(table) => Ok(wasmi::Extern::Table(*table)),
                Extern::Other => Err(InstantiateError::Link("an import has no handle".to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        cx.data_mut().no_limits = Some(any_number().build());
        let instance = wasmi::Instance::new(cx.as_context_mut(), &module.module, &externs);
        cx.data_mut().no_limits = None;
        let instance = instance.map_err(|error| instantiate_error(&error))?;
        if let Some(growth) = &module.growth {
            add_host_functions(cx, &instance, growth).map_err(|error| InstantiateError::Link(error.to_string()))?;
        }
        let exports = exports
            .iter()
            .map(|name| match instance.get_export(&*cx, name) {
                Some(wasmi::Extern::Func(func)) => Extern::Func(Func::new(cx, func)),
                Some(wasmi::Extern::Memory(memory)) => Extern::Memory(memory),
                Some(wasmi::Extern::Global(global)) => Extern::Global(global),
                Some(wasmi::Extern::Table(table)) => Extern::Table(table),
                None => Extern::Other,
            })
            .collect();
        Ok(Linked { exports, flag: None, meters: (), attached: () })
    }

    fn call(
        cx: &mut Self::Context<'_>,
        _realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<(), Box<Trap>> {
        if control.interrupt.is_none() && control.fuel.is_none() && !is_in_slice(cx) {
            if let Some(func) = func.without_values {
                return func.call(cx.as_context_mut(), ()).map_err(translate_error);
            }
            let mut values = values_of(ty, slots)?;
            let (inputs, outputs) = values.split_at_mut(ty.params.len());
            func.func.call(cx.as_context_mut(), inputs, outputs).map_err(translate_error)?;
            return take_results(outputs, slots);
        }
        let mut values = values_of(ty, slots)?;
        let (inputs, outputs) = values.split_at_mut(ty.params.len());
        if call_in_slices(cx, func, inputs, outputs, control)?.is_some() {
            return Err(HostTrap::Suspended.into());
        }
        take_results(outputs, slots)
    }

    fn fuel_left(cx: &mut Self::Context<'_>, (): ()) -> Option<u64> {
        Some(cx.get_fuel().unwrap_or(0).saturating_add(cx.data().rest))
    }

    fn set_fuel(cx: &mut Self::Context<'_>, (): (), fuel: u64) {
        let slice = fuel.min(cx.get_fuel().unwrap_or(0).max(SLICE));
        let _ = cx.set_fuel(slice);
        cx.data_mut().rest = fuel - slice;
    }

    fn call_suspendable(
        cx: &mut Self::Context<'_>,
        _realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>> {
        let mut values = values_of(ty, slots)?;
        let (inputs, outputs) = values.split_at_mut(ty.params.len());
        let left = call_in_slices(cx, func, inputs, outputs, control)?;
        left_or_done(left, outputs, slots)
    }

    fn resume(
        cx: &mut Self::Context<'_>,
        suspension: Self::Suspension,
        host_ty: &FuncType,
        results: &[u64],
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>> {
        let Suspension::Inside(call) = suspension else {
            // The results of the host function are those of the call.
            copy_results(&ty.results, results, slots)?;
            return Ok(None);
        };
        let answer = vals_of(&host_ty.results, results)?;
        let mut outputs = room_for(ty.results.len());
        let begin = |cx: &mut StoreContextMut<'_, Data>, outputs: &mut [Val]| {
            call.resume(cx.as_context_mut(), &answer, outputs)
        };
        let left = run_in_slices(cx, begin, &mut outputs, control)?;
        left_or_done(left, &outputs, slots)
    }
}

fn store_limits(limits: &StoreLimits) -> wasmi::StoreLimits {
    any_number()
        .memory_size((limits.memory_pages() * PAGE_BYTES) as usize)
        .table_elements(limits.table_elements() as usize)
        .build()
}

fn any_number() -> wasmi::StoreLimitsBuilder {
    wasmi::StoreLimitsBuilder::new().instances(usize::MAX).tables(usize::MAX).memories(usize::MAX)
}

/// The engine keeps this many value stacks of finished calls, so that nested calls need not make new ones.
const CACHED_STACKS: usize = 64;
