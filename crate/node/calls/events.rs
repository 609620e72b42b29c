//! Events of calls: guests call their supervisors, calls end, or calls are stopped.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    Calls, MOST_LOOK_MICROS,
    pending::{Pending, Stage, answer_with, fail_interrupted, forget},
};
use crate::{
    error::HostTrap,
    executor::{CallId, Finished, Outcome, deadlock, pool::NoThread},
    node::{
        backend::AnyModule,
        group::{Group, release_if_last},
        port::{Event, JsPort},
        raw::Scope,
        scratch::{
            EVENT_DONE, EVENT_HOST_CALL, EVENT_NONE, EVENT_REFUSED, EVENT_TIME_OVER, EVENT_TRAPPED, Scratch, WORD_CALL,
            WORD_EVENT, WORD_FUNC, WORD_HAS_GAS,
        },
        tables::Tables,
    },
};

/// The maximum time that this thread handles events within one tick of the event loop.
const MOST_IN_TICK: Duration = Duration::from_millis(1);
/// The clock is read once for this many events.
const EVENTS_PER_CLOCK: u32 = 8;

impl Calls {
    /// Writes the next event to the scratch buffer. `is_new_tick` says that a new tick of the event loop
    /// has begun, `looks` that polling for an event for a short while may pay off.
    pub fn next(&self, tables: &Tables, scope: Scope, scratch: &Scratch, is_new_tick: bool, looks: bool) {
        let event = self.next_event(tables, scope, scratch, is_new_tick, looks);
        scratch.write_word(WORD_EVENT, event);
    }

    fn next_event(&self, tables: &Tables, scope: Scope, scratch: &Scratch, is_new_tick: bool, looks: bool) -> u32 {
        let Some(port) = self.port.borrow().clone() else { return EVENT_NONE };
        if is_new_tick {
            self.tick_began.set(None);
            self.events_in_tick.set(0);
        }
        loop {
            if self.is_time_over() {
                return EVENT_TIME_OVER;
            }
            if port.is_empty() && looks {
                self.look(&port);
            }
            let Some(event) = port.receive() else { return EVENT_NONE };
            if let Some(told) = self.handle(tables, scope, scratch, event) {
                return told;
            }
        }
    }

    /// Whether the event loop must proceed to its next tick.
    fn is_time_over(&self) -> bool {
        let events = self.events_in_tick.get();
        self.events_in_tick.set(events + 1);
        if !events.is_multiple_of(EVENTS_PER_CLOCK) {
            return false;
        }
        match self.tick_began.get() {
            Some(began) => began.elapsed() > MOST_IN_TICK,
            None => {
                self.tick_began.set(Some(Instant::now()));
                false
            }
        }
    }

    /// Polls for an event: a guest that has its answer may call its supervisor again at once.
    fn look(&self, port: &JsPort) {
        let micros = self.look_micros.get();
        let until = Instant::now() + Duration::from_micros(u64::from(micros));
        let has_come = loop {
            for _ in 0..16 {
                std::hint::spin_loop();
            }
            if !port.is_empty() {
                break true;
            }
            if Instant::now() >= until {
                break false;
            }
        };
        self.look_micros.set(if has_come { micros * 2 } else { micros / 2 }.clamp(1, MOST_LOOK_MICROS));
    }

    /// Handles an event, and returns what to tell TypeScript, if anything.
    fn handle(&self, tables: &Tables, scope: Scope, scratch: &Scratch, event: Event) -> Option<u32> {
        match event {
            Event::HostCall(id) => {
                scratch.write_word(WORD_CALL, id);
                self.ask(scope, scratch, id)
            }
            Event::Done(id, finished) => {
                scratch.write_word(WORD_CALL, id);
                self.finish(tables, scope, scratch, id, finished)
            }
            Event::Compiled(id, compiled) => {
                scratch.write_word(WORD_CALL, id);
                let call = self.remove_unused(tables, scope, id)?;
                match compiled {
                    Ok(module) => {
                        self.compiled.borrow_mut().insert(id, module);
                        Some(EVENT_DONE)
                    }
                    // The compile ended early because of the interrupt.
                    Err(_) if call.interrupt.is_set() => Some(fail_interrupted(tables, scope, scratch, &call)),
                    Err(error) => {
                        tables.refuse(error.into());
                        Some(EVENT_REFUSED)
                    }
                }
            }
            Event::Refused(id, error) => {
                scratch.write_word(WORD_CALL, id);
                let call = self.remove_unused(tables, scope, id)?;
                forget(tables, scope, id, call);
                tables.refuse(error);
                self.refuse_if_stuck(tables);
                Some(EVENT_REFUSED)
            }
            Event::Interrupted(id) => self.stop_waiting(tables, scope, scratch, id),
        }
    }

    fn ask(&self, scope: Scope, scratch: &Scratch, id: CallId) -> Option<u32> {
        let group = self.group_of(id)?;
        let mut is_told = false;
        let mut fuel = None;
        group.occupancy.open();
        if !self.interrupt_of(id).is_set() {
            is_told = group.occupancy.with_request(|asked| {
                fuel = Some(asked.fuel);
                scratch.write_word(WORD_FUNC, asked.site.import);
                scratch.write_word(WORD_HAS_GAS, u32::from(asked.carried.is_some()));
                scratch.write_gas(asked.carried.unwrap_or(0));
                scratch.write_slots(&asked.slots);
            });
        }
        if !is_told {
            answer_with(group.close(scope), HostTrap::Interrupted);
            return None;
        }
        if let Some(fuel) = fuel {
            self.set_asked(id, fuel);
        }
        Some(EVENT_HOST_CALL)
    }

    /// Passes the supervisor's answer to the guest of this call: the results in the scratch buffer, or
    /// the fact that the supervisor has thrown. Does nothing if the call no longer waits for an answer.
    pub fn answer(&self, tables: &Tables, scope: Scope, scratch: &Scratch, id: CallId, has_thrown: bool) {
        let Some(group) = self.group_of(id).filter(|group| group.occupancy.is_open(id)) else { return };
        let Some(mut held) = group.close(scope) else { return };
        if has_thrown {
            // Whatever the supervisor has thrown, it may have done so because its time was up.
            let is_over = self.interrupt_of(id).is_set();
            return held.answer(Some(if is_over { HostTrap::Interrupted } else { HostTrap::Parked }));
        }
        if let Some(asked) = held.asked() {
            scratch.read_slots(&mut asked.slots);
            asked.fuel = self.fuel_of(tables, id).unwrap_or(asked.fuel);
            if let Some(gas) = &mut asked.carried {
                *gas = scratch.read_gas();
            }
        }
        held.answer(None);
    }

    /// The supervisor will answer later.
    pub fn put_off(&self, tables: &Tables, scope: Scope, id: CallId) {
        let Some(group) = self.group_of(id).filter(|group| group.occupancy.is_open(id)) else { return };
        group.occupancy.put_off();
        if self.interrupt_of(id).is_set() {
            return answer_with(group.close(scope), HostTrap::Interrupted);
        }
        if let Some(call) = self.pending.borrow_mut().get_mut(&id) {
            call.is_put_off = true;
        }
        self.refuse_if_stuck(tables);
    }

    /// Refuses a call if calls would otherwise wait for one another forever. Must be called whenever
    /// that may have happened: a call was made or refused, or its supervisor has put off its answer.
    pub(super) fn refuse_if_stuck(&self, tables: &Tables) {
        if self.nested.get() == 0 {
            return;
        }
        let calls: Vec<deadlock::Pending> =
            self.pending.borrow().iter().map(|(id, call)| call.seen(tables, *id)).collect();
        let Some(id) = deadlock::call_to_refuse(&calls) else { return };
        if let Some(group) = self.group_of(id) {
            return group.occupancy.run_waiting(Err(NoThread::AllWait));
        }
        if let Some(port) = &*self.port.borrow() {
            port.send(Event::Refused(id, NoThread::AllWait.into()));
        }
    }

    /// Stops a call as soon as possible.
    pub fn stop(&self, id: CallId) {
        // This also notifies the port. Its event is handled like that of a deadline.
        self.interrupt_of(id).set();
    }

    /// Ends a call whose time is up or that was stopped. A guest that computes notices the interrupt by
    /// itself; anything else is ended here.
    fn stop_waiting(&self, tables: &Tables, scope: Scope, scratch: &Scratch, id: CallId) -> Option<u32> {
        if let Some(group) = self.group_of(id) {
            if !group.occupancy.is_open(id) {
                // The guest computes, or waits for a thread.
                group.occupancy.run_waiting(Ok(()));
            } else if !group.occupancy.is_in_use() {
                answer_with(group.close(scope), HostTrap::Interrupted);
            }
            return None;
        }
        let call = self.remove_unused(tables, scope, id)?;
        scratch.write_word(WORD_CALL, id);
        let told = fail_interrupted(tables, scope, scratch, &call);
        forget(tables, scope, id, call);
        Some(told)
    }

    fn finish(&self, tables: &Tables, scope: Scope, scratch: &Scratch, id: CallId, finished: Finished) -> Option<u32> {
        let Finished { outcome, slots, fuel, lease } = finished;
        drop(lease);
        let call = self.remove(tables, scope, id)?;
        self.settle_fuel(&call, fuel);
        scratch.write_fuel(fuel);
        let Stage::Running { group, extra_bytes } = call.stage else { return None };
        self.vacate(tables, scope, &group);
        let told = match outcome {
            Outcome::Returned(Ok(())) => {
                scratch.write_slots(&slots);
                EVENT_DONE
            }
            Outcome::Returned(Err(trap)) | Outcome::Instantiated(_, Err(trap)) => {
                tables.fail(scope, trap, None);
                EVENT_TRAPPED
            }
            Outcome::Instantiated(instance, Ok(())) => {
                group.add_extra(extra_bytes);
                self.made.borrow_mut().insert(id, (group.clone(), instance));
                EVENT_DONE
            }
            Outcome::NotInstantiated(error) => {
                tables.refuse(error.into());
                EVENT_REFUSED
            }
            Outcome::NoThread(error) => {
                tables.refuse(error.into());
                self.refuse_if_stuck(tables);
                EVENT_REFUSED
            }
        };
        if let Ok(entered) = group.enter() {
            group.report(scope);
            drop(entered);
        }
        // Instances may have gone while the group was busy. A new instance is not counted yet.
        if told != EVENT_DONE {
            tables.renew_if_worth(scope, &group);
        }
        release_if_last(scope, group);
        Some(told)
    }

    /// Takes the instance that this call created.
    pub fn take_made(&self, id: CallId) -> Option<(Rc<Group>, u32)> {
        self.made.borrow_mut().remove(&id)
    }

    /// Takes the module that this call compiled.
    pub fn take_compiled(&self, id: CallId) -> Option<AnyModule> {
        self.compiled.borrow_mut().remove(&id)
    }

    fn vacate(&self, tables: &Tables, scope: Scope, group: &Rc<Group>) {
        let mut next = group.occupancy.end();
        while let Some(id) = next {
            match self.begin(tables, scope, id) {
                // The call may now wait for another group.
                Ok(()) if group.occupancy.occupant().is_none() => next = group.occupancy.end(),
                Ok(()) => return,
                Err(error) => {
                    if let Some(port) = &*self.port.borrow() {
                        port.send(Event::Refused(id, error));
                    }
                    next = group.occupancy.end();
                }
            }
        }
    }

    /// Ends all calls with the environment: stops guests and drops all that this environment holds of
    /// their realms. With `is_running`, a guest is on the stack, and its realm must stay until the
    /// process ends.
    pub fn shut_down(&self, is_running: bool) {
        let pending = self.pending.take();
        let asked = self.port.borrow().as_ref().map(|port| port.end_asking()).unwrap_or_default();
        for id in asked {
            if let Some(Pending { stage: Stage::Running { group, .. }, .. }) = pending.get(&id) {
                group.occupancy.open();
            }
        }
        for (id, call) in &pending {
            call.interrupt.set();
            if let Stage::Compiling(ticket) = &call.stage {
                ticket.cancel();
            }
            if let Stage::Running { group, .. } = &call.stage
                && !is_running
                && group.occupancy.is_open(*id)
            {
                answer_with(group.occupancy.take_held(), HostTrap::Interrupted);
            }
        }
        let made = self.made.take();
        if is_running {
            std::mem::forget((pending, made));
        }
    }

    /// Removes the hook for the end of the environment.
    pub fn unhook(&self, scope: Scope) {
        if let Some(hook) = self.hook.take() {
            hook.remove(scope);
        }
    }

    /// Closes the port. Must be called when the environment has dropped everything.
    pub fn close(&self) {
        if let Some(port) = self.port.take() {
            port.close();
        }
    }
}
