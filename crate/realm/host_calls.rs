//! Calls from guests to their host.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};

use super::{Host, HostCall, Realm, panic_message};
use crate::{
    engine::{Engine, ImportSite},
    error::HostTrap,
    interrupt::Interrupt,
};

impl<E: Engine> Realm<E> {
    /// Keeps `cx` for host functions while `f` runs a guest, see [`StoreSlot::park`].
    pub fn park<R>(&self, cx: &mut E::Context<'_>, f: impl FnOnce() -> R) -> R {
        self.slot.park(cx, f)
    }

    /// Like [`Realm::host_call`], for an engine that parks the context.
    pub fn parked_host_call(&self, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        let outcome = self.slot.parked(|cx| self.host_call(cx, site, slots));
        outcome.unwrap_or_else(|| Err(refused("the store of the calling guest is out of reach")))
    }

    /// Takes a call from a guest to its host. Every host function of every engine calls this. `slots`
    /// holds the arguments and receives the results. No panic leaves this function. The trap is boxed,
    /// because a large result costs each of the few frames around it several nanoseconds, also when
    /// there is no trap.
    pub fn host_call(&self, cx: &mut E::Context<'_>, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        let call = || self.answer(cx, site, slots);
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|panic| Err(Box::new(HostTrap::Panicked(panic_message(&*panic)))))
    }

    #[inline]
    fn answer(&self, cx: &mut E::Context<'_>, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        // Copy only what this call needs of the instance.
        let known = self.instance(site.instance, |entry| {
            let func = entry.imported_funcs.get(site.import as usize)?;
            Some((entry.carried.is_some(), func.unsupported, func.native.clone(), entry.meters))
        });
        let Some((is_carrying, unsupported, native, meters)) = known.flatten() else {
            return Err(refused("the calling instance is not complete"));
        };
        if let Some(ty) = unsupported {
            return Err(refused(format!("Unsupported function argument: {}", ty.name())));
        }
        if let Some(native) = native {
            return self.call_native(cx, &*native, site, meters, slots);
        }
        let Some(host) = self.host.get() else {
            return Err(refused("no supervisor is there to answer"));
        };
        if self.is_metered {
            self.begin_metered(cx, host, meters)?;
        }
        let outcome = self.ask(cx, host, site, is_carrying, slots);
        if self.is_metered {
            self.end_metered(cx, host, meters);
        }
        outcome
    }

    /// Reports the remaining fuel to the host, because calls inside this one use it.
    #[cold]
    #[inline(never)]
    fn begin_metered(
        &self,
        cx: &mut E::Context<'_>,
        mut host: NonNull<dyn Host>,
        meters: E::Meters,
    ) -> Result<(), Box<HostTrap>> {
        let left = E::fuel_left(cx, meters).ok_or_else(|| Box::new(HostTrap::OutOfFuel))?;
        // SAFETY: as in `lend`.
        unsafe { host.as_mut() }.set_fuel(left);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn end_metered(&self, cx: &mut E::Context<'_>, host: NonNull<dyn Host>, meters: E::Meters) {
        // SAFETY: as in `lend`.
        E::set_fuel(cx, meters, unsafe { host.as_ref() }.fuel());
    }

    #[inline]
    fn ask(
        &self,
        cx: &mut E::Context<'_>,
        host: NonNull<dyn Host>,
        site: ImportSite,
        is_carrying: bool,
        slots: &mut [u64],
    ) -> Result<(), Box<HostTrap>> {
        let ImportSite { instance, import } = site;
        if !is_carrying {
            return self.lend(cx, host, HostCall { instance, import, carried: None, slots });
        }
        let mut value =
            self.with_carried(instance, |global| E::global_get(cx, global))?.ok_or_else(cannot_carry)? as i64;
        self.lend(cx, host, HostCall { instance, import, carried: Some(&mut value), slots })?;
        self.with_carried(instance, |global| E::global_set(cx, global, value as u64))?.map_err(|_| cannot_carry())
    }

    /// Passes the carried global of an instance to `f`.
    #[inline]
    fn with_carried<R>(&self, instance: u32, f: impl FnOnce(&E::Global) -> R) -> Result<R, Box<HostTrap>> {
        let used = self.instance(instance, |entry| match &entry.carried {
            Some(Ok(global)) => Ok(f(global)),
            Some(Err(missing)) => Err(refused(missing.clone())),
            None => Err(cannot_carry()),
        });
        used.unwrap_or_else(|| Err(cannot_carry()))
    }

    /// Lets the host answer while it can access the store.
    #[inline]
    fn lend(
        &self,
        cx: &mut E::Context<'_>,
        mut host: NonNull<dyn Host>,
        call: HostCall<'_>,
    ) -> Result<(), Box<HostTrap>> {
        // SAFETY: the pointer is the `host` of the innermost `enter` of this realm, whose frame is below
        // us on this stack and cannot end before the guest that is calling us does; that frame does not
        // use `host` itself. A nested `enter` during this call has a host of its own and puts this one
        // back.
        let outcome = self.slot.lend(cx, || unsafe { host.as_mut() }.call(call));
        match self.interrupt.get() {
            None => outcome,
            Some(interrupt) => self.unless_interrupted(interrupt, outcome),
        }
    }

    /// The outcome of a host call, or an interrupt if the guest's call must stop. Most calls have no
    /// interrupt.
    #[cold]
    #[inline(never)]
    pub(super) fn unless_interrupted(
        &self,
        interrupt: NonNull<Interrupt>,
        outcome: Result<(), Box<HostTrap>>,
    ) -> Result<(), Box<HostTrap>> {
        // Do not end a call that is being suspended here: whoever has the answer checks the interrupt.
        if matches!(outcome.as_ref().map_err(|trap| &**trap), Err(HostTrap::Suspended)) {
            return outcome;
        }
        // SAFETY: as for the host in `lend`: the interrupt is held by that same frame of `enter`.
        if unsafe { interrupt.as_ref() }.is_set() { Err(Box::new(HostTrap::Interrupted)) } else { outcome }
    }
}

#[cold]
pub(super) fn cannot_carry() -> Box<HostTrap> {
    refused("the global that travels with the call is out of reach")
}

/// The failure of a call that could not be made.
#[cold]
pub(super) fn refused(message: impl Into<Cow<'static, str>>) -> Box<HostTrap> {
    Box::new(HostTrap::Message(message.into()))
}
