//! Host functions, and how they and guests end a call. A part of `engine/wasmer.rs`.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
};

use thiserror::Error;
use wasmer::{
    AsStoreMut as _, StoreMut,
    sys::vm::{
        self, MaybeInstanceOwned, StoreHandle, StoreObject as _, VMCallerCheckedAnyfunc, VMContext,
        VMDynamicFunctionContext, VMFunction, VMFunctionContext, VMFunctionKind,
    },
};
use wasmer_types::RawValue;

use super::{
    Func, Wasmer, frames,
    meters::Meters,
    tables,
    types::{slot_of, types},
};
use crate::{
    engine::{ImportSite, RealmPtr},
    error::{Frame, HostTrap},
    realm::Slots,
    value::{FuncType, ValueType},
};

/// The data of a host function: its realm and import, and its type.
pub(super) struct HostFunc {
    pub(super) realm: RealmPtr<Wasmer>,
    pub(super) site: ImportSite,
    /// The larger of the numbers of parameters and results.
    pub(super) slots: usize,
    pub(super) params: Box<[ValueType]>,
    /// The meters of the instance that it was created for, once that exists.
    pub(super) meters: Cell<Meters>,
}

impl HostFunc {
    /// Runs the host function on the thread's own stack.
    ///
    /// # Safety
    ///
    /// `values` must point to as many values as the type of the function has parameters or results,
    /// whichever is more.
    unsafe fn run(&self, values: *mut RawValue) -> Result<(), Box<HostTrap>> {
        // SAFETY: `values` is good for `self.slots` values, see above, and the guest is waiting for us
        // to return.
        let values = unsafe { std::slice::from_raw_parts_mut(values, self.slots) };
        // Beyond the parameters, and above the 32 bits of a small one, the buffer holds whatever was on
        // the stack before.
        let mut slots = Slots::new(self.slots);
        for ((slot, value), ty) in slots.iter_mut().zip(values.iter()).zip(&self.params) {
            // SAFETY: the guest has written a value of this type there, and any bits are a number.
            *slot = unsafe { slot_of(value, *ty) };
        }
        // SAFETY: this is a host function that the engine is calling, made with this pointer.
        unsafe { self.realm.get() }.parked_host_call(self.site, &mut slots)?;
        self.meters.get().count_host_call();
        for (value, slot) in values.iter_mut().zip(slots.iter()) {
            *value = RawValue { u128: u128::from(*slot) };
        }
        Ok(())
    }
}

/// Makes a host function in a store.
pub(super) fn new_host_func(cx: &mut StoreMut<'_>, realm: RealmPtr<Wasmer>, site: ImportSite, ty: &FuncType) -> Func {
    let signature = wasmer::FunctionType::new(types(&ty.params), types(&ty.results));
    // The hash itself, because the engine's registry panics when two types have the same hash.
    let type_signature_hash = vm::VMSignatureHash::new(signature.signature_hash());
    let mut context = Box::new(VMDynamicFunctionContext {
        address: ptr::null(),
        ctx: HostFunc { realm, site, slots: ty.slots(), params: ty.params.clone(), meters: Cell::default() },
    });
    context.address = host_func as *const () as *const vm::VMFunctionBody;
    let host = Some(NonNull::from(&mut *context));
    let anyfunc = VMCallerCheckedAnyfunc {
        // The linker puts a trampoline with the signature of the wasm type here when it imports the function.
        func_ptr: ptr::null(),
        type_signature_hash,
        vmctx: VMFunctionContext { host_env: (&raw mut *context).cast() },
        call_trampoline: host_func_trampoline,
    };
    let function = VMFunction {
        anyfunc: MaybeInstanceOwned::Host(Box::new(anyfunc.into())),
        kind: VMFunctionKind::Dynamic,
        signature,
        host_data: context,
    };
    let anyfunc = function.anyfunc.as_ptr();
    let handle = StoreHandle::new(cx.objects_mut().as_sys_mut(), function).internal_handle();
    Func { anyfunc, handle, host }
}

/// The reason why a host function ends its guest. It travels through wasmer as the error of a user's
/// trap.
#[derive(Debug, Error)]
#[error("{trap}")]
pub(super) struct HostEnd {
    pub(super) trap: HostTrap,
    pub(super) frames: Vec<Frame>,
}

/// The reason why a guest ends itself, by `unreachable` or by a check in its code.
#[derive(Debug, Error)]
#[error("the guest has trapped")]
pub(super) struct GuestEnd {
    pub(super) code: wasmer_types::TrapCode,
    pub(super) frames: Vec<Frame>,
}

/// Replaces wasmer's function that ends guests, which would inspect every frame of the guest's stack,
/// while running on that stack.
#[cfg(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")))]
#[unsafe(naked)]
unsafe extern "C" fn raise_trap(code: wasmer_types::TrapCode) -> ! {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov rsi, rbp", "mov rdx, [rsp]", "jmp {}", sym raise_trap_of);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x1, x29", "mov x2, x30", "b {}", sym raise_trap_of);
}

/// Ends the guest whose last frame is `frame`, and whose code would continue at `returns`.
#[cfg(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe extern "C-unwind" fn raise_trap_of(code: wasmer_types::TrapCode, frame: usize, returns: usize) -> ! {
    let end = vm::on_host_stack(|| Box::new(GuestEnd { code, frames: frames::of_waiting_guest(frame, returns) }));
    // SAFETY: as in `host_func_of`.
    unsafe { vm::raise_user_trap(end) }
}

/// Makes the newest instance of a store use our [`raise_trap`].
#[cfg(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn replace_raise_trap(cx: &mut StoreMut<'_>) {
    let Some(instance) = vm::VMInstance::list(cx.objects_mut().as_sys()).last() else { return };
    let place = tables::pointer_to_builtin(instance, vm::VMBuiltinFunctionIndex::get_raise_trap_index());
    // SAFETY: it is the place of an address, and no guest runs.
    unsafe {
        if place.read() == vm::libcalls::wasmer_vm_raise_trap as *const () as usize {
            place.write(raise_trap as *const () as usize);
        }
    }
}

#[cfg(not(all(unix, any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn replace_raise_trap(_cx: &mut StoreMut<'_>) {}

/// The body of every host function, called by a trampoline that wasmer generated for its type, which is
/// the guest's last frame: this passes on where that is.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[unsafe(naked)]
pub(super) unsafe extern "C-unwind" fn host_func(this: *mut VMDynamicFunctionContext<HostFunc>, values: *mut RawValue) {
    #[cfg(all(target_arch = "x86_64", not(windows)))]
    core::arch::naked_asm!("mov rdx, rbp", "jmp {}", sym host_func_of);
    #[cfg(all(target_arch = "x86_64", windows))]
    core::arch::naked_asm!("mov r8, rbp", "jmp {}", sym host_func_of);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x2, x29", "b {}", sym host_func_of);
}

/// The body of every host function on processors where the guest's last frame is unknown.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe extern "C-unwind" fn host_func(this: *mut VMDynamicFunctionContext<HostFunc>, values: *mut RawValue) {
    // SAFETY: passed on to the caller.
    unsafe { host_func_of(this, values, 0) }
}

/// The body of a host function. `frame` is the guest's last frame, or 0 if it is unknown.
unsafe extern "C-unwind" fn host_func_of(
    this: *mut VMDynamicFunctionContext<HostFunc>,
    values: *mut RawValue,
    frame: usize,
) {
    // SAFETY: the trampoline passes the context that `new_host_func` put into `vmctx`, alive as long as
    // the store, and a buffer for all parameters and results.
    let outcome = vm::on_host_stack(|| unsafe { (*this).ctx.run(values) }.map_err(|trap| host_end(*trap, frame)));
    // Nothing may be allocated from here on: this is the guest's stack.
    if let Err(end) = outcome {
        // SAFETY: a guest is below us on this stack, and no value with a destructor is left in this
        // frame but the box, which moves into the trap.
        unsafe { vm::raise_user_trap(end) }
    }
}

/// Reads the guest's frames, which must happen while it waits.
#[cold]
#[inline(never)]
pub(super) fn host_end(trap: HostTrap, frame: usize) -> Box<HostEnd> {
    Box::new(HostEnd { trap, frames: frames::of_waiting_guest(frame, 0) })
}

/// Calls a host function directly, when an instance exports one that it imported.
pub(super) unsafe extern "C" fn host_func_trampoline(
    context: *mut VMContext,
    _body: *const vm::VMFunctionBody,
    values: *mut RawValue,
) {
    // SAFETY: wasmer passes the `vmctx` next to which this trampoline stands in the
    // `VMCallerCheckedAnyfunc`, which is the context of a `HostFunc`, and the caller's buffer.
    unsafe { host_func_of(context.cast(), values, 0) }
}
