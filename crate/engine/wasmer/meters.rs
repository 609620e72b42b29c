//! The numbers that an instance of a checked module keeps for the host, see [`super::checks`]: where
//! they lie, and how a call sets them. A part of `engine/wasmer.rs`.

use std::ptr::NonNull;

use wasmer::{AsStoreMut as _, StoreMut, sys::vm::VMExtern};

use super::{super::UNLIMITED_FUEL, checks::Names};
use crate::interrupt::Flag;

/// Where an instance keeps its numbers: in globals of its own, which lie in the instance and live as
/// long as its store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meters {
    fuel: Option<Number<i64>>,
    depth: Option<Number<u32>>,
    most_depth: u32,
}

/// A number in an instance.
#[derive(Debug)]
struct Number<T>(NonNull<T>);

impl<T> Clone for Number<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Number<T> {}

impl<T: Copy> Number<T> {
    fn get(self) -> T {
        // SAFETY: valid and aligned, see `Meters::new`, and nobody else is using the store: whoever asks
        // has its context, or runs a host function of it.
        unsafe { self.0.read() }
    }

    fn set(self, value: T) {
        // SAFETY: as in `get`.
        unsafe { self.0.write(value) }
    }
}

/// The numbers of the outer call.
#[derive(Debug, Clone, Copy)]
pub struct SavedCounters {
    fuel: Option<i64>,
    depth: Option<u32>,
}

impl Meters {
    /// # Safety
    ///
    /// The pointers must be to globals of one instance, of those types, and the result must only be used
    /// by whoever has that instance's store to itself.
    pub unsafe fn new(fuel: Option<NonNull<i64>>, depth: Option<NonNull<u32>>, most_depth: u32) -> Self {
        Self { fuel: fuel.map(Number), depth: depth.map(Number), most_depth }
    }

    /// Begins a call.
    #[inline]
    pub fn begin(self, fuel: Option<u64>) -> SavedCounters {
        let saved = SavedCounters { fuel: self.fuel.map(Number::get), depth: self.depth.map(Number::get) };
        self.set_fuel(fuel.unwrap_or(UNLIMITED_FUEL));
        if let Some(depth) = self.depth {
            depth.set(0);
        }
        saved
    }

    /// Ends a call, and returns what its counters have reached.
    #[inline]
    pub fn end(self, saved: SavedCounters) -> Ended {
        let depth = self.depth.map(Number::get);
        let ended = Ended { fuel: self.fuel_left(), is_too_deep: depth.is_some_and(|depth| depth > self.most_depth) };
        if let (Some(fuel), Some(before)) = (self.fuel, saved.fuel) {
            fuel.set(before);
        }
        if let (Some(depth), Some(before)) = (self.depth, saved.depth) {
            depth.set(before);
        }
        ended
    }

    /// The remaining fuel; `None` if there was too little. Without a meter there is always enough.
    pub fn fuel_left(self) -> Option<u64> {
        match self.fuel {
            Some(fuel) => u64::try_from(fuel.get()).ok(),
            None => Some(UNLIMITED_FUEL),
        }
    }

    pub fn set_fuel(self, left: u64) {
        if let Some(fuel) = self.fuel {
            // No budget is larger.
            fuel.set(left.min(UNLIMITED_FUEL) as i64);
        }
    }

    /// Called before a host function returns to the guest: the guest counts each call that is over, but
    /// has not counted this one.
    #[inline]
    pub fn count_host_call(self) {
        if let Some(depth) = self.depth {
            depth.set(depth.get().wrapping_add(1));
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The remaining fuel; `None` if there was too little.
    pub fuel: Option<u64>,
    /// Whether it exceeded the maximum depth.
    pub is_too_deep: bool,
}

/// Finds the numbers that [`super::checks`] has added to an instance.
pub fn added_to(cx: &mut StoreMut<'_>, names: &Names, instance: &wasmer::Instance) -> (Option<Flag>, Meters) {
    let mut global = |name: &Option<String>| {
        let export = instance.exports.get_extern(name.as_ref()?)?;
        let VMExtern::Global(handle) = export.to_vm_extern().unwrap_sys() else { return None };
        Some(handle.get(cx.objects_mut().as_sys()).vmglobal())
    };
    let (stop, fuel, depth) = (global(&names.stop), global(&names.fuel), global(&names.depth));
    // SAFETY: a global's value has 16 bytes, is aligned to as many, and lies in the instance, which lives as long as its store. The
    // engine does not list this export and its handle does not leave this function, so only the checks in the code read it.
    let flag = stop.map(|stop| unsafe { Flag::new(stop.cast()) });
    // SAFETY: as above. The realm uses meters with the store's context only, and host functions while their guest waits.
    let meters = unsafe { Meters::new(fuel.map(NonNull::cast), depth.map(NonNull::cast), names.most_depth) };
    (flag, meters)
}
