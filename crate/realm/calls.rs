//! Calls into guests.

use std::{cell::Cell, ptr::NonNull, rc::Rc, sync::LazyLock};

use super::{Answer, Entry, HeldModule, Host, Realm, Suspended, host_calls::cannot_carry};
use crate::{
    engine::{Control, Engine, Extern, GUEST_STACK_BYTES},
    error::{Trap, TrapCode},
    interrupt::{Flag, Interrupt},
    module::Module,
    value::ExternType,
    value::FuncType,
};

/// A function and the data needed to enter it.
struct Callee<E: Engine> {
    entry: Entry,
    func: E::Func,
    module: Rc<HeldModule<E>>,
    flag: Option<Flag>,
    meters: E::Meters,
}

impl<E: Engine> Callee<E> {
    fn ty(&self) -> Result<&FuncType, Box<Trap>> {
        /// `Module` refuses a start function of another type.
        static OF_START: LazyLock<FuncType> =
            LazyLock::new(|| FuncType { params: Box::default(), results: Box::default() });
        let Entry::Export(export) = self.entry else { return Ok(&OF_START) };
        match self.module.exports.get(export as usize).map(|export| &export.ty) {
            Some(ExternType::Func(ty)) => Ok(ty),
            _ => Err(no_function(self.entry).into()),
        }
    }
}

#[cold]
fn no_function(entry: Entry) -> Trap {
    Trap::with_message(TrapCode::Internal, format!("{entry:?} is not a function"))
}

impl<E: Engine> Realm<E> {
    /// Calls an exported function. `slots` holds the arguments and receives the results; its length must
    /// be the larger of the two counts. `host` answers the supervisor calls that the guest makes
    /// meanwhile.
    pub fn call(&self, instance: u32, export: u32, slots: &mut [u64], host: &mut dyn Host) -> Result<(), Box<Trap>> {
        self.call_entry(instance, Entry::Export(export), slots, host)
    }

    /// Runs the start function, if there is one.
    pub fn start(&self, instance: u32, host: &mut dyn Host) -> Result<(), Box<Trap>> {
        if self.has_start(instance) { self.call_entry(instance, Entry::Start, &mut [], host) } else { Ok(()) }
    }

    #[inline]
    fn call_entry(&self, instance: u32, entry: Entry, slots: &mut [u64], host: &mut dyn Host) -> Result<(), Box<Trap>> {
        let callee = self.callee(instance, entry)?;
        self.enter(&callee, slots, host, |cx, ty, slots, control| E::call(cx, self, &callee.func, ty, slots, control))
    }

    /// Like [`Realm::call`] and [`Realm::start`], but on an engine that can suspend, `host` may put off
    /// an answer with [`HostTrap::Suspended`]: then the call is suspended, and [`Realm::resume`]
    /// continues it.
    pub fn call_suspendable(
        &self,
        instance: u32,
        entry: Entry,
        slots: &mut [u64],
        host: &mut dyn Host,
    ) -> Result<Option<Suspended<E>>, Box<Trap>> {
        if entry == Entry::Start && !self.has_start(instance) {
            return Ok(None);
        }
        let callee = self.callee(instance, entry)?;
        let left = self.enter(&callee, slots, host, |cx, ty, slots, control| {
            E::call_suspendable(cx, self, &callee.func, ty, slots, control)
        })?;
        Ok(left.map(|suspension| Suspended { instance, entry, suspension }))
    }

    /// Continues a suspended call. `answer` is the result of the host function for the import at which
    /// the call was suspended.
    pub fn resume(
        &self,
        suspended: Suspended<E>,
        answer: Answer<'_>,
        slots: &mut [u64],
        host: &mut dyn Host,
    ) -> Result<Option<Suspended<E>>, Box<Trap>> {
        let Suspended { instance, entry, suspension } = suspended;
        let callee = self.callee(instance, entry)?;
        let Some(host_ty) = callee.module.imported_funcs().nth(answer.site.import as usize) else {
            return Err(Trap::with_message(TrapCode::Internal, "no such import").into());
        };
        if answer.results.len() < host_ty.results.len() {
            return Err(Trap::with_message(TrapCode::Internal, "too few slots for the host function's type").into());
        }
        if let Some(carried) = answer.carried {
            let global = self.instance(answer.site.instance, |entry| entry.carried.clone()).flatten();
            let is_set =
                global.map(|global| self.slot.with(|cx| E::global_set(cx, &global.ok()?, carried as u64).ok()));
            if !matches!(is_set, Some(Ok(Some(())))) {
                return Err((*cannot_carry()).into());
            }
        }
        let left = self.enter(&callee, slots, host, |cx, ty, slots, control| {
            E::resume(cx, suspension, host_ty, answer.results, ty, slots, control)
        })?;
        Ok(left.map(|suspension| Suspended { instance, entry, suspension }))
    }

    fn has_start(&self, instance: u32) -> bool {
        self.instance(instance, |entry| entry.start.is_some()).unwrap_or(false)
    }

    #[inline]
    fn callee(&self, instance: u32, entry: Entry) -> Result<Callee<E>, Box<Trap>> {
        let found = self.instance(instance, |record| {
            let func = match entry {
                Entry::Start => record.start.clone()?,
                Entry::Export(export) => match record.exports.get(export as usize) {
                    Some(Extern::Func(func)) => func.clone(),
                    _ => return None,
                },
            };
            Some(Callee { entry, func, module: record.module.clone(), flag: record.flag, meters: record.meters })
        });
        found.flatten().ok_or_else(|| no_function(entry).into())
    }

    fn enter<R>(
        &self,
        callee: &Callee<E>,
        slots: &mut [u64],
        host: &mut dyn Host,
        run: impl FnOnce(&mut E::Context<'_>, &FuncType, &mut [u64], Control<'_, E>) -> Result<R, Box<Trap>>,
    ) -> Result<R, Box<Trap>> {
        let ty = callee.ty()?;
        if let Some(unsupported) = ty.first_unsupported() {
            let message = format!("a value of type {} cannot be passed", unsupported.name());
            return Err(Trap::with_message(TrapCode::Internal, message).into());
        }
        if slots.len() < ty.slots() {
            return Err(Trap::with_message(TrapCode::Internal, "too few slots for the function's type").into());
        }
        let interrupt = host.interrupt();
        let _entered = match &interrupt {
            Some(interrupt) => Some(interrupt.enter(callee.flag).ok_or_else(|| Trap::new(TrapCode::Interrupted))?),
            None => None,
        };
        let _linked = match &interrupt {
            Some(interrupt) => self.enter_linked(interrupt, callee.flag)?,
            None => None,
        };
        let mut fuel = if self.is_metered { Some(host.fuel()) } else { None };
        let reached = NonNull::from(&mut *host);
        // SAFETY: only the lifetime of the trait object changes. `HostGuard` takes the pointer out of
        // the realm again before this function returns or unwinds, so `host` is alive whenever
        // `host_call` finds it there.
        let reached: NonNull<dyn Host + 'static> = unsafe { std::mem::transmute(reached as NonNull<dyn Host + '_>) };
        let interrupt = interrupt.as_deref();
        let before = (self.host.replace(Some(reached)), self.interrupt.replace(interrupt.map(NonNull::from)));
        let turn = HostGuard { host: &self.host, interrupt: &self.interrupt, before };
        let control = Control { interrupt, fuel: fuel.as_mut(), meters: callee.meters };
        let outcome = self.slot.with(|cx| run(cx, ty, slots, control));
        drop(turn);
        if let Some(left) = fuel {
            host.set_fuel(left);
        }
        match outcome {
            Ok(outcome) => {
                outcome.map_err(|trap| with_source_offsets(self.with_limits_of_stack(*trap), &callee.module).into())
            }
            Err(error) => Err(Trap::with_message(TrapCode::Internal, error.to_string()).into()),
        }
    }

    /// Adds the stack's limit to the message of a stack overflow.
    fn with_limits_of_stack(&self, mut trap: Trap) -> Trap {
        if trap.code == TrapCode::StackOverflow {
            let config = self.engine.config();
            let depth = config.recursion_depth.map(|depth| depth as usize).or(E::DEFAULT_DEPTH);
            let depth = depth.map(|depth| format!(", limits.recursionDepth is {depth}")).unwrap_or_default();
            let bytes = config.stack_bytes.unwrap_or(GUEST_STACK_BYTES);
            trap.message = format!("{} (limits.stackBytes is {bytes}{depth})", trap.code.message()).into();
        }
        trap
    }
}

/// Restores the host and the interrupt of the outer call when a call ends.
struct HostGuard<'a> {
    host: &'a Cell<Option<NonNull<dyn Host>>>,
    interrupt: &'a Cell<Option<NonNull<Interrupt>>>,
    before: (Option<NonNull<dyn Host>>, Option<NonNull<Interrupt>>),
}

impl Drop for HostGuard<'_> {
    fn drop(&mut self) {
        self.host.set(self.before.0);
        self.interrupt.set(self.before.1);
    }
}

/// Replaces the offsets of frames with those in the binary that the user passed, which has not been
/// rewritten and still has its start section.
fn with_source_offsets<E: Engine>(mut trap: Trap, module: &Module<E>) -> Trap {
    for frame in &mut trap.frames {
        frame.offset = frame.offset.map(|offset| module.offsets.before(offset));
        frame.function_name = E::function_name(&module.compiled, frame.function_index).map(str::to_owned);
    }
    trap
}
