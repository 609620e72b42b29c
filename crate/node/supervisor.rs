//! The host of a guest's calls: hands them to TypeScript's dispatch function through the scratch buffer, in one crossing each.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fuel::Fuel,
    group::Group,
    raw::{Reference, RenewedScope, Scope, Throw, Value},
    scratch::{STATUS_DONE, STATUS_TRAPPED, Scratch, WORD_FUNC, WORD_HAS_GAS, WORD_STATUS},
    state::State,
};
use crate::{
    engine::UNLIMITED_FUEL,
    error::{HostTrap, Trap},
    interrupt::Interrupt,
    realm::{Host, HostCall},
};

/// Answers the calls of one running guest, for the length of one call into it.
pub struct Supervisor<'a> {
    state: &'a State,
    scope: Scope,
    group: &'a Group,
    scratch: &'a Scratch,
    begun: Begun,
    interrupt: Option<Arc<Interrupt>>,
    /// What this call began with, and what the call around it had then.
    fuel: (u64, Option<Fuel>),
    /// The dispatch function and its receiver, once the guest has called.
    dispatch: Option<(Value, Value)>,
    handles: RenewedScope,
    thrown: Option<Reference>,
}

impl<'a> Supervisor<'a> {
    /// Begins a call, whose deadline has begun.
    #[inline]
    pub fn new(state: &'a State, scope: Scope, group: &'a Rc<Group>, scratch: &'a Scratch, begun: Begun) -> Self {
        state.running.set(state.running.get() + 1);
        group.count_running(1);
        let interrupt = state.deadline.borrow().as_ref().map(|deadline| deadline.interrupt.clone());
        let around_fuel = state.fuel.get();
        let fuel = Fuel::of_call(scratch.read_fuel(), around_fuel);
        state.fuel.set(Some(fuel));
        let fuel = (fuel.left, around_fuel);
        let handles = RenewedScope::new(scope);
        Self { state, scope, group, scratch, begun, interrupt, fuel, dispatch: None, handles, thrown: None }
    }

    /// Tells TypeScript how the call ended: `slots` are its results.
    pub fn finish(&mut self, outcome: Result<(), Box<Trap>>, slots: &[u64]) {
        self.group.detach_stale(self.scope);
        self.scratch.write_fuel(self.fuel());
        match outcome {
            Ok(()) => {
                self.scratch.write_slots(slots);
                self.scratch.write_word(WORD_STATUS, STATUS_DONE);
            }
            Err(trap) => {
                self.state.fail(self.scope, trap, self.thrown.take());
                self.scratch.write_word(WORD_STATUS, STATUS_TRAPPED);
            }
        }
    }

    fn dispatch(&mut self) -> Option<(Value, Value)> {
        if self.dispatch.is_none() {
            let function = self.state.dispatch(self.scope)?;
            self.dispatch = Some((self.scope.undefined(), function));
        }
        self.dispatch
    }

    /// Keeps what JavaScript threw before TypeScript could catch it, for want of stack. In a holder object, because a reference can't be made
    /// to a primitive.
    fn park(&mut self) {
        let Some(exception) = self.scope.take_exception() else { return };
        let holder = self.scope.object();
        self.scope.set(holder, "thrown", exception);
        if let Some(before) = self.thrown.take() {
            before.delete(self.scope);
        }
        self.thrown = Reference::strong(self.scope, holder).ok();
    }
}

/// The deadline of a call has begun. A single word, because each call is given one.
pub struct Begun {
    /// If it has one of its own, that of the call around it, if that has one.
    around: Option<Box<Option<Deadline>>>,
}

/// When the innermost running call must end, and what stops it then.
#[derive(Clone)]
pub struct Deadline {
    at: Instant,
    interrupt: Arc<Interrupt>,
}

impl Deadline {
    pub fn new(at: Instant, interrupt: Arc<Interrupt>) -> Self {
        Self { at, interrupt }
    }

    pub fn at(&self) -> Instant {
        self.at
    }

    /// The moment that is so many ms away; `None` for 0, or if this clock cannot tell it: then it never comes.
    pub fn after(timeout: f64) -> Option<Instant> {
        if timeout > 0.0 {
            Instant::now().checked_add(Duration::try_from_secs_f64(timeout / 1000.0).ok()?)
        } else {
            None
        }
    }

    /// Sets the deadline of a call that is about to run, if one stands in the scratch buffer that is before that of the call around
    /// it, and gives that one.
    ///
    /// Apart from [`Supervisor::new`], which cannot fail: to give that back in a `Result` would cost each call a copy of it.
    ///
    /// # Errors
    ///
    /// If nobody could watch the deadline.
    #[inline]
    pub fn begin(state: &State, scratch: &Scratch) -> Result<Begun, Box<Throw>> {
        let timeout = scratch.read_timeout();
        let around = if timeout > 0.0 { Self::begin_at(state, timeout)? } else { None };
        Ok(Begun { around })
    }

    #[cold]
    fn begin_at(state: &State, timeout: f64) -> Result<Option<Box<Option<Self>>>, Box<Throw>> {
        let Some(at) = Self::after(timeout) else { return Ok(None) };
        if state.deadline.borrow().as_ref().is_some_and(|around| around.at <= at) {
            return Ok(None);
        }
        let interrupt = Interrupt::at(at).map_err(Throw::from)?;
        Ok(Some(Box::new(state.deadline.replace(Some(Self { at, interrupt })))))
    }
}

impl Host for Supervisor<'_> {
    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        self.interrupt.clone()
    }

    fn fuel(&self) -> u64 {
        self.state.fuel.get().map_or(UNLIMITED_FUEL, |fuel| fuel.left)
    }

    fn set_fuel(&mut self, left: u64) {
        self.state.fuel.set(self.state.fuel.get().map(|fuel| Fuel { left, ..fuel }));
    }

    fn memories_may_move(&mut self) -> bool {
        !self.group.has_strays(self.scope)
    }

    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        self.group.detach_stale(self.scope);
        let Some((receiver, dispatch)) = self.dispatch() else {
            return Err(Box::new(HostTrap::Message("no dispatch function is set".into())));
        };
        self.handles.renew();
        self.scratch.write_word(WORD_FUNC, call.import);
        self.scratch.write_word(WORD_HAS_GAS, u32::from(call.carried.is_some()));
        if let Some(gas) = &call.carried {
            self.scratch.write_gas(**gas);
        }
        self.scratch.write_slots(call.slots);
        if !self.scope.call(receiver, dispatch) {
            self.park();
            return Err(Box::new(HostTrap::Parked));
        }
        // TypeScript has caught what the supervisor threw, and keeps it.
        if self.scratch.read_word(WORD_STATUS) != STATUS_DONE {
            return Err(Box::new(HostTrap::Parked));
        }
        self.scratch.read_slots(call.slots);
        if let Some(gas) = call.carried {
            *gas = self.scratch.read_gas();
        }
        Ok(())
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        self.state.running.set(self.state.running.get() - 1);
        self.group.count_running(-1);
        let (begun, around) = self.fuel;
        self.state.fuel.set(around.map(|around| around.after(begun, self.fuel())));
        if let Some(around) = self.begun.around.take() {
            self.state.deadline.replace(*around);
        }
        if let Some(thrown) = self.thrown.take() {
            thrown.delete(self.scope);
        }
    }
}
