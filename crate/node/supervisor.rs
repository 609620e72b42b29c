//! The host of a guest's calls. It passes each call to TypeScript's dispatch function through the
//! scratch buffer, in one crossing.

use std::{rc::Rc, sync::Arc};

use super::{
    deadline::{Begun, Deadline},
    fuel::Fuel,
    group::Group,
    raw::{JsValue, Reference, RenewedScope, Scope},
    scratch::{STATUS_DONE, STATUS_TRAPPED, Scratch, WORD_FUNC, WORD_HAS_GAS, WORD_STATUS},
    tables::Tables,
};
use crate::{
    engine::UNLIMITED_FUEL,
    error::{HostTrap, Trap},
    interrupt::Interrupt,
    realm::{Host, HostCall},
};

/// Answers the calls of one running guest, for the length of one call into it.
pub struct Supervisor<'a> {
    tables: &'a Tables,
    scope: Scope,
    group: &'a Group,
    scratch: &'a Scratch,
    begun: Begun,
    interrupt: Option<Arc<Interrupt>>,
    /// The fuel that this call began with, and the fuel of the outer call at that time.
    fuel: (u64, Option<Fuel>),
    /// The dispatch function and its receiver, once the guest has called.
    dispatch: Option<(JsValue, JsValue)>,
    handles: RenewedScope,
    thrown: Option<Reference>,
}

impl<'a> Supervisor<'a> {
    /// Begins a call whose deadline has been set.
    #[inline]
    pub fn new(tables: &'a Tables, scope: Scope, group: &'a Rc<Group>, scratch: &'a Scratch, begun: Begun) -> Self {
        tables.running.set(tables.running.get() + 1);
        group.count_running(1);
        let interrupt = tables.deadline.borrow().as_ref().map(Deadline::interrupt);
        let around_fuel = tables.fuel.get();
        let fuel = Fuel::of_call(scratch.read_fuel(), around_fuel);
        tables.fuel.set(Some(fuel));
        let fuel = (fuel.left, around_fuel);
        let handles = RenewedScope::new(scope);
        Self { tables, scope, group, scratch, begun, interrupt, fuel, dispatch: None, handles, thrown: None }
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
                self.tables.fail(self.scope, trap, self.thrown.take());
                self.scratch.write_word(WORD_STATUS, STATUS_TRAPPED);
            }
        }
    }

    fn dispatch(&mut self) -> Option<(JsValue, JsValue)> {
        if self.dispatch.is_none() {
            let function = self.tables.functions.dispatch(self.scope)?;
            self.dispatch = Some((self.scope.undefined(), function));
        }
        self.dispatch
    }

    /// Keeps what JavaScript threw if TypeScript could not catch it for lack of stack. The exception is
    /// kept in a holder object, because a reference cannot be made to a primitive.
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

impl Host for Supervisor<'_> {
    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        self.interrupt.clone()
    }

    fn fuel(&self) -> u64 {
        self.tables.fuel.get().map_or(UNLIMITED_FUEL, |fuel| fuel.left)
    }

    fn set_fuel(&mut self, left: u64) {
        self.tables.fuel.set(self.tables.fuel.get().map(|fuel| Fuel { left, ..fuel }));
    }

    fn memories_may_move(&mut self) -> bool {
        !self.group.has_transferred_buffers(self.scope)
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
        // TypeScript has caught and kept what the supervisor threw.
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
        self.tables.running.set(self.tables.running.get() - 1);
        self.group.count_running(-1);
        let (begun, around) = self.fuel;
        self.tables.fuel.set(around.map(|around| around.after(begun, self.fuel())));
        self.begun.end(&self.tables.deadline);
        if let Some(thrown) = self.thrown.take() {
            thrown.delete(self.scope);
        }
    }
}
