//! How guests on wasmer grow their tables. A part of `engine/wasmer.rs`.
//!
//! wasmer's `table.grow` ends the process if there is no memory for the elements, and supports no limit
//! on the total of all tables. Compiled code calls it through an array of pointers in its instance, so
//! these pointers are replaced in instances with tables that can grow. The functions here receive only
//! that instance, so a map leads from it to the limits.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use wasmer::{
    AsStoreMut as _, StoreMut,
    sys::vm::{self, StoreObject as _, VMBuiltinFunctionIndex, VMContext, VMInstance},
};

use crate::total::{Charge, ELEMENT_BYTES, TotalBytes};

/// What `table.grow` returns to a guest whose table cannot grow.
const FAILED: u32 = u32::MAX;

/// `table.grow` as compiled code calls it: instance, first value, number of elements, table. The value
/// is a pointer or null.
type Grow = unsafe extern "C" fn(*mut VMContext, usize, u32, u32) -> u32;

/// `table.size` as compiled code calls it: instance, table.
type Size = unsafe extern "C" fn(*mut VMContext, u32) -> u32;

#[derive(Clone, Copy)]
struct Builtins {
    grow: Grow,
    size: Size,
}

struct Growing {
    own: Builtins,
    imported: Builtins,
    /// The bytes by which the tables have grown.
    charge: Mutex<Charge>,
}

/// The growing tables by the address of their instance's context.
static GROWING: LazyLock<Mutex<HashMap<usize, Arc<Growing>>>> = LazyLock::new(Mutex::default);

/// The growable tables of an instance. Must be dropped after the store.
pub struct GrowingTables {
    vmctx: usize,
    growing: Arc<Growing>,
}

impl Drop for GrowingTables {
    fn drop(&mut self) {
        let mut all = lock(&GROWING);
        // Another instance may now have the address of one that is gone.
        if all.get(&self.vmctx).is_some_and(|growing| Arc::ptr_eq(growing, &self.growing)) {
            all.remove(&self.vmctx);
        }
    }
}

impl GrowingTables {
    /// The growable tables of the newest instance in the store, if it has any.
    pub fn of_newest(cx: &mut StoreMut<'_>, module: &wasmer::Module, total: Option<&Arc<TotalBytes>>) -> Option<Self> {
        if module.info().tables.values().all(|table| table.maximum == Some(table.minimum)) {
            return None;
        }
        let instance = VMInstance::list(cx.objects_mut().as_sys()).last()?;
        let vmctx = instance.vmctx_ptr();
        let pointer = |index| pointer_to_builtin(instance, index);
        let (grow, size) =
            (VMBuiltinFunctionIndex::get_table_grow_index(), VMBuiltinFunctionIndex::get_table_size_index());
        let own = (pointer(grow), pointer(size));
        let (grow, size) = (
            VMBuiltinFunctionIndex::get_imported_table_grow_index(),
            VMBuiltinFunctionIndex::get_imported_table_size_index(),
        );
        let imported = (pointer(grow), pointer(size));
        // SAFETY: the array has been initialised, with functions of these types.
        let builtins = |(grow, size): (*mut usize, *mut usize)| unsafe {
            Builtins {
                grow: std::mem::transmute::<usize, Grow>(grow.read()),
                size: std::mem::transmute::<usize, Size>(size.read()),
            }
        };
        let charge = Mutex::new(Charge::new(total.cloned()));
        let growing = Arc::new(Growing { own: builtins(own), imported: builtins(imported), charge });
        lock(&GROWING).insert(vmctx as usize, growing.clone());
        // SAFETY: as above; the functions are of the same type as those that they replace.
        unsafe {
            own.0.write(grow_own as *const () as usize);
            imported.0.write(grow_imported as *const () as usize);
        }
        Some(Self { vmctx: vmctx as usize, growing })
    }
}

/// Where an instance keeps the address of one of the functions of wasmer that its code calls.
pub fn pointer_to_builtin(instance: &VMInstance, index: VMBuiltinFunctionIndex) -> *mut usize {
    let offset = instance.vmoffsets().vmctx_builtin_function(index) as usize;
    // SAFETY: the array of these addresses lies in the instance, at that offset from its context.
    unsafe { instance.vmctx_ptr().byte_add(offset) }.cast()
}

impl Growing {
    /// # Safety
    ///
    /// The instance of `vmctx` must be calling this, for one of its tables.
    unsafe fn grow(&self, builtins: Builtins, vmctx: *mut VMContext, init: usize, delta: u32, table: u32) -> u32 {
        // SAFETY: passed on to the caller.
        let size = unsafe { (builtins.size)(vmctx, table) };
        let bytes = u64::from(delta) * ELEMENT_BYTES;
        if !has_memory_for(u64::from(size) + u64::from(delta)) || lock(&self.charge).add(bytes).is_err() {
            return FAILED;
        }
        // SAFETY: passed on to the caller.
        let before = unsafe { (builtins.grow)(vmctx, init, delta, table) };
        if before == FAILED {
            lock(&self.charge).give_back(bytes);
        }
        before
    }
}

/// Whether a vector can grow to this many elements: it takes up to twice as much memory.
fn has_memory_for(elements: u64) -> bool {
    let bytes = usize::try_from(2 * ELEMENT_BYTES * elements);
    bytes.is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

/// # Safety
///
/// The instance of `vmctx` must be calling this, for one of its own tables.
unsafe extern "C" fn grow_own(vmctx: *mut VMContext, init: usize, delta: u32, table: u32) -> u32 {
    vm::on_host_stack(|| match growing_of(vmctx) {
        // SAFETY: passed on to the caller.
        Some(growing) => unsafe { growing.grow(growing.own, vmctx, init, delta, table) },
        None => FAILED,
    })
}

/// # Safety
///
/// The instance of `vmctx` must be calling this, for one of its imported tables.
unsafe extern "C" fn grow_imported(vmctx: *mut VMContext, init: usize, delta: u32, table: u32) -> u32 {
    vm::on_host_stack(|| match growing_of(vmctx) {
        // SAFETY: passed on to the caller.
        Some(growing) => unsafe { growing.grow(growing.imported, vmctx, init, delta, table) },
        None => FAILED,
    })
}

fn growing_of(vmctx: *mut VMContext) -> Option<Arc<Growing>> {
    lock(&GROWING).get(&(vmctx as usize)).cloned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
