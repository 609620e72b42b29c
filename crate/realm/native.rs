//! Host functions in Rust that run on the guest's thread.

use super::{Realm, host_calls::refused, memories::in_bounds};
use crate::{
    engine::{Engine, ImportSite, MemoryRegion},
    error::{HostTrap, MemoryError},
    interrupt::Interrupt,
};

/// An imported function that runs without the [`Host`](super::Host) of the call. It may run on any
/// thread, and in several stores at once.
pub trait NativeFunc: Send + Sync {
    /// Answers one call. `slots` holds the arguments; the function replaces them with the results.
    fn call(&self, caller: &mut Caller<'_>, slots: &mut [u64]) -> Result<(), Box<HostTrap>>;
}

impl<F> NativeFunc for F
where
    F: Fn(&mut Caller<'_>, &mut [u64]) -> Result<(), Box<HostTrap>> + Send + Sync,
{
    fn call(&self, caller: &mut Caller<'_>, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        self(caller, slots)
    }
}

/// The guest that is calling a native function.
pub struct Caller<'a>(&'a mut dyn Access);

impl Caller<'_> {
    /// The guest's memory 0, whether it is imported, exported or neither.
    pub fn memory0(&mut self) -> Option<u32> {
        self.0.memory0()
    }

    /// The memory that the guest exports by this name.
    pub fn exported_memory(&mut self, name: &str) -> Option<u32> {
        self.0.exported_memory(name)
    }

    /// Where a memory lies. This is valid until the guest runs or the memory grows.
    pub fn memory_region(&mut self, memory: u32) -> MemoryRegion {
        self.0.memory_region(memory)
    }

    /// Copies `dest.len()` bytes at `address` out of a memory.
    pub fn memory_read(&mut self, memory: u32, address: u64, dest: &mut [u8]) -> Result<(), MemoryError> {
        let from = in_bounds("read", self.memory_region(memory), address, dest.len())?;
        // SAFETY: `from` is `dest.len()` bytes of the memory, which stays as it is while the guest
        // waits. The copy allows overlap.
        unsafe { std::ptr::copy(from, dest.as_mut_ptr(), dest.len()) };
        Ok(())
    }

    /// Copies `src` into a memory at `address`.
    pub fn memory_write(&mut self, memory: u32, address: u64, src: &[u8]) -> Result<(), MemoryError> {
        let to = in_bounds("write", self.memory_region(memory), address, src.len())?;
        // SAFETY: `to` is `src.len()` bytes of the memory, which stays as it is while the guest waits.
        // The copy allows overlap.
        unsafe { std::ptr::copy(src.as_ptr(), to, src.len()) };
        Ok(())
    }

    /// The remaining fuel of the guest; `None` if it is not metered.
    pub fn fuel(&mut self) -> Option<u64> {
        self.0.fuel()
    }

    /// Takes fuel from the guest, if it is metered.
    ///
    /// # Errors
    ///
    /// [`HostTrap::OutOfFuel`] if less fuel remains; then none remains.
    pub fn take_fuel(&mut self, cost: u64) -> Result<(), Box<HostTrap>> {
        let Some(fuel) = self.0.fuel() else { return Ok(()) };
        self.0.set_fuel(fuel.saturating_sub(cost));
        if fuel < cost { Err(Box::new(HostTrap::OutOfFuel)) } else { Ok(()) }
    }

    /// The interrupt of the guest's call, for a function that takes long.
    pub fn interrupt(&self) -> Option<&Interrupt> {
        self.0.interrupt()
    }
}

/// What a [`Caller`] can access, independent of the engine.
trait Access {
    fn memory0(&mut self) -> Option<u32>;
    fn exported_memory(&mut self, name: &str) -> Option<u32>;
    fn memory_region(&mut self, memory: u32) -> MemoryRegion;
    fn fuel(&mut self) -> Option<u64>;
    fn set_fuel(&mut self, fuel: u64);
    fn interrupt(&self) -> Option<&Interrupt>;
}

struct NativeCall<'a, 'c, E: Engine> {
    realm: &'a Realm<E>,
    cx: &'a mut E::Context<'c>,
    instance: u32,
    meters: E::Meters,
}

impl<E: Engine> Access for NativeCall<'_, '_, E> {
    fn memory0(&mut self) -> Option<u32> {
        self.realm.memory0(self.instance)
    }

    fn exported_memory(&mut self, name: &str) -> Option<u32> {
        let place = |exports: &[crate::engine::ExportType]| exports.iter().position(|export| export.name == name);
        let export = self.realm.instance(self.instance, |entry| place(&entry.module.exports))??;
        self.realm.exported_memory(self.instance, export as u32)
    }

    fn memory_region(&mut self, memory: u32) -> MemoryRegion {
        E::memory_region(self.cx, &self.realm.memory(memory))
    }

    fn fuel(&mut self) -> Option<u64> {
        self.realm.is_metered.then(|| E::fuel_left(self.cx, self.meters).unwrap_or(0))
    }

    fn set_fuel(&mut self, fuel: u64) {
        E::set_fuel(self.cx, self.meters, fuel);
    }

    fn interrupt(&self) -> Option<&Interrupt> {
        // SAFETY: the interrupt is held by the frame of `enter` that runs the guest, which is below us
        // on this stack.
        self.realm.interrupt.get().map(|interrupt| unsafe { interrupt.as_ref() })
    }
}

impl<E: Engine> Realm<E> {
    /// Calls a native function.
    pub(super) fn call_native(
        &self,
        cx: &mut E::Context<'_>,
        native: &dyn NativeFunc,
        site: ImportSite,
        meters: E::Meters,
        slots: &mut [u64],
    ) -> Result<(), Box<HostTrap>> {
        let mut call = NativeCall { realm: self, cx, instance: site.instance, meters };
        let outcome = native.call(&mut Caller(&mut call), slots);
        if matches!(outcome.as_ref().map_err(|trap| &**trap), Err(HostTrap::Suspended)) {
            return Err(refused("a native function cannot put its answer off"));
        }
        match self.interrupt.get() {
            None => outcome,
            Some(interrupt) => self.unless_interrupted(interrupt, outcome),
        }
    }
}
