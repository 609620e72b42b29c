//! The asynchronous calls of one JavaScript environment: from the moment they are made until JavaScript is told how they have ended.
//! TypeScript's side is `lib/sandbox/async_calls.ts`.
//!
//! Everything here happens on the JavaScript thread. It is told by its [`JsPort`] what guests ask and which calls are over;
//! TypeScript takes these events one by one ([`Calls::next`]), answers ([`Calls::answer`], [`Calls::put_off`]), and stops calls
//! ([`Calls::stop`]).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend::{AnyModule, AnyRealm, LimitedEngine, with_module},
    fuel::Fuel,
    group::Group,
    linking::Linking,
    port::{Event, JsPort},
    raw::{Scope, Throw, shut_down_before},
    scratch::{
        EVENT_ASKED, EVENT_DONE, EVENT_NONE, EVENT_REFUSED, EVENT_TIME_OVER, EVENT_TRAPPED, Scratch, WORD_CALL,
        WORD_EVENT, WORD_FUNC, WORD_HAS_GAS,
    },
    state::{State, release_if_last},
    supervisor::Deadline,
};
use crate::{
    engine::{UNLIMITED_FUEL, wasmer::Wasmer, wasmi::Wasmi},
    error::{CompileError, HostTrap, Trap, TrapCode},
    executor::{
        Begin, Call, CallId, Context, Finished, Outcome, SpinBudget,
        deadlock::{self, Waits},
        exchange::{Exchange, Held},
        lease::Lease,
        pool::{NoThread, ThreadQuota, Ticket},
    },
    interrupt::Interrupt,
    realm::{Realm, Slots, panic_message},
};

/// The asynchronous calls of an environment.
#[derive(Default)]
pub struct Calls {
    /// Made with the first call.
    port: RefCell<Option<Arc<JsPort>>>,
    context: RefCell<Option<Arc<Context>>>,
    pending: RefCell<HashMap<CallId, Pending>>,
    /// Instances that were made, until TypeScript has adopted them.
    made: RefCell<HashMap<CallId, (Rc<Group>, u32)>>,
    /// Modules that were compiled, likewise.
    compiled: RefCell<HashMap<CallId, AnyModule>>,
    last_id: Cell<CallId>,
    /// When the event loop had its last turn.
    turn_began: Cell<Option<Instant>>,
    events_in_turn: Cell<u32>,
    /// The call as a part of which code runs, whose fuel is the state's meanwhile.
    within: Cell<CallId>,
    /// How many of the pending calls were made in a supervisor call.
    nested: Cell<usize>,
    /// How long it pays to look for the next event, in µs.
    look_micros: Cell<u32>,
}

/// A call that is not over.
struct Pending {
    interrupt: Arc<Interrupt>,
    deadline: Option<Instant>,
    fuel: Fuel,
    /// What it began with, and the call in which it was made, which pays for it.
    begun: u64,
    around: CallId,
    quota: Arc<ThreadQuota>,
    /// Whether its supervisor has last put off an answer.
    is_put_off: bool,
    stage: Stage,
}

enum Stage {
    /// With what is cancelled if the call ends before it has begun.
    Compiling(Arc<Ticket>),
    /// Another call has its group.
    Waiting(Work),
    /// Between the two around this.
    Beginning,
    /// Its guest is running or waits for its supervisor.
    Running { group: Rc<Group>, extra_bytes: u64 },
}

/// What a call is to do once it is its turn.
pub struct Work {
    pub slots: Slots,
    pub what: What,
}

pub enum What {
    Call { group: Rc<Group>, instance: u32, export: u32 },
    Instantiate { engine: LimitedEngine, linking: Linking },
}

/// The most time that this thread handles events before the event loop gets a turn.
const MOST_IN_TURN: Duration = Duration::from_millis(1);
/// The clock is looked at for every so many events.
const EVENTS_PER_CLOCK: u32 = 8;
const MOST_LOOK_MICROS: u32 = 20;

impl Calls {
    /// Sets the way up by which threads of the pool come back.
    fn port(&self, state: &State, scope: Scope) -> Result<Arc<JsPort>, Throw> {
        if let Some(port) = &*self.port.borrow() {
            return Ok(port.clone());
        }
        let port = Arc::new(JsPort::new(scope, state)?);
        shut_down_before(scope, state);
        let context = Context { port: port.clone(), spin_budget: SpinBudget::default() };
        self.context.replace(Some(Arc::new(context)));
        self.port.replace(Some(port.clone()));
        self.look_micros.set(MOST_LOOK_MICROS);
        Ok(port)
    }

    fn new_id(&self) -> CallId {
        let mut id = self.last_id.get();
        loop {
            // 0 is nobody's.
            id = id.checked_add(1).unwrap_or(1);
            if !self.pending.borrow().contains_key(&id) {
                self.last_id.set(id);
                return id;
            }
        }
    }

    /// Makes a call with the timeout that stands in the scratch buffer, or the deadline around it if that is sooner.
    fn add(
        &self,
        state: &State,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        fuel: Fuel,
        stage: impl FnOnce(CallId, &Arc<JsPort>, &Arc<Interrupt>) -> Result<Stage, Throw>,
    ) -> Result<CallId, Throw> {
        let port = self.port(state, scope)?;
        let id = self.new_id();
        let teller = port.clone();
        let interrupt = Interrupt::telling(move || teller.send(Event::Interrupted(id)));
        let own = Deadline::after(scratch.read_timeout());
        let around = state.deadline.borrow().as_ref().map(Deadline::at);
        let deadline = own.into_iter().chain(around).min();
        if let Some(deadline) = deadline {
            interrupt.set_at(deadline)?;
        }
        let stage = stage(id, &port, &interrupt)?;
        let mut pending = self.pending.borrow_mut();
        if pending.is_empty() {
            port.keep_alive(scope, true);
            state.keep_alive(scope, true);
        }
        let (begun, around) = (fuel.left, self.within.get());
        let quota = quota.clone();
        pending.insert(id, Pending { interrupt, deadline, fuel, begun, around, quota, is_put_off: false, stage });
        self.nested.set(self.nested.get() + usize::from(around != 0));
        Ok(id)
    }

    /// What a call may use that was given `own`. It is taken from the call around it at once, because several calls made in one could use
    /// more than there is; what is left of it is given back.
    fn take_fuel(&self, state: &State, own: Option<u64>) -> Fuel {
        let around = state.fuel.get();
        let fuel = Fuel::of_call(own, around);
        if let Some(around) = around.filter(|around| around.is_limited) {
            state.fuel.set(Some(around.after(fuel.left, 0)));
        }
        fuel
    }

    /// Settles what a call that is over has used with the call in which it was made, if that still runs.
    fn settle_fuel(&self, call: &Pending, left: u64) {
        if let Some(around) = self.pending.borrow_mut().get_mut(&call.around) {
            let fuel = &mut around.fuel;
            fuel.left =
                if fuel.is_limited { fuel.left.saturating_add(left) } else { fuel.after(call.begun, left).left };
        }
    }

    /// What runs from here on is part of that call, or of none: it must end when that must, and uses its fuel.
    pub fn set_within(&self, state: &State, id: CallId) {
        let mut pending = self.pending.borrow_mut();
        let before = self.within.replace(id);
        if let (Some(call), Some(fuel)) = (pending.get_mut(&before), state.fuel.get()) {
            call.fuel = fuel;
        }
        let call = pending.get(&id);
        state.fuel.set(call.map(|call| call.fuel));
        let deadline = call.and_then(|call| Some(Deadline::new(call.deadline?, call.interrupt.clone())));
        state.deadline.replace(deadline);
    }

    fn fuel_of(&self, state: &State, id: CallId) -> Option<u64> {
        if self.within.get() == id {
            return state.fuel.get().map(|fuel| fuel.left);
        }
        self.pending.borrow().get(&id).map(|call| call.fuel.left)
    }

    /// A guest has called its supervisor, with what it may still use.
    fn set_asked(&self, id: CallId, fuel: u64) {
        if let Some(call) = self.pending.borrow_mut().get_mut(&id) {
            call.fuel.left = fuel;
            call.is_put_off = false;
        }
    }

    /// Removes a call that has run no guest.
    fn remove_unused(&self, state: &State, scope: Scope, id: CallId) -> Option<Pending> {
        let call = self.remove(state, scope, id)?;
        self.settle_fuel(&call, call.fuel.left);
        Some(call)
    }

    fn remove(&self, state: &State, scope: Scope, id: CallId) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        let removed = pending.remove(&id);
        let is_nested = removed.as_ref().is_some_and(|call| call.around != 0);
        self.nested.set(self.nested.get() - usize::from(is_nested));
        if removed.is_some()
            && pending.is_empty()
            && let Some(port) = &*self.port.borrow()
        {
            port.keep_alive(scope, false);
            state.keep_alive(scope, false);
        }
        removed
    }

    /// Compiles off this thread.
    pub fn compile(
        &self,
        state: &State,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        compile: impl FnOnce() -> Result<Result<AnyModule, CompileError>, NoThread> + Send + 'static,
    ) -> Result<CallId, Throw> {
        // It runs no guest.
        let fuel = Fuel { left: 0, is_limited: false };
        let id = self.add(state, scope, scratch, quota, fuel, |id, port, interrupt| {
            let (port, interrupt) = (port.clone(), interrupt.clone());
            let ticket = Ticket::new(Box::new(move |thread| {
                if let Err(error) = thread {
                    return port.send(Event::Refused(id, error.into()));
                }
                let compiled = catch_unwind(AssertUnwindSafe(|| interrupt.around_compile(compile)));
                let compiled = compiled.unwrap_or_else(|panic| {
                    Ok(Err(CompileError::Refused(format!("the compiler panicked: {}", panic_message(&*panic)))))
                });
                match compiled {
                    Ok(compiled) => port.send(Event::Compiled(id, compiled)),
                    Err(error) => port.send(Event::Refused(id, error.into())),
                }
            }));
            let task = ticket.clone();
            quota.submit(Box::new(move |thread| task.run(thread)));
            Ok(Stage::Compiling(ticket))
        })?;
        self.refuse_if_stuck(state);
        Ok(id)
    }

    /// Makes a call into a group, and begins it if it is its turn.
    pub fn enter(
        &self,
        state: &State,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        work: Work,
    ) -> Result<CallId, Throw> {
        let around = state.fuel.get();
        let fuel = self.take_fuel(state, scratch.read_fuel());
        let id = self.add(state, scope, scratch, quota, fuel, |_, _, _| Ok(Stage::Waiting(work)));
        let id = id.inspect_err(|_| state.fuel.set(around))?;
        self.begin(state, scope, id).inspect_err(|_| drop(self.remove_unused(state, scope, id)))?;
        self.refuse_if_stuck(state);
        Ok(id)
    }

    /// Begins a call if its group is free, or has it wait.
    fn begin(&self, state: &State, scope: Scope, id: CallId) -> Result<(), Throw> {
        let (work, quota) = {
            let mut pending = self.pending.borrow_mut();
            let Some(pending) = pending.get_mut(&id) else { return Ok(()) };
            match std::mem::replace(&mut pending.stage, Stage::Beginning) {
                Stage::Waiting(work) => (work, pending.quota.clone()),
                other => {
                    pending.stage = other;
                    return Ok(());
                }
            }
        };
        let groups = work.what.groups(state)?;
        if groups.iter().any(|group| group.is_running()) {
            let message = "the guest, or one that shares its memory, is running in the call around this one";
            return Err(Throw::new("busy", message));
        }
        if let Some(group) = groups.iter().find(|group| group.turn_of().is_some()) {
            group.wait_for_turn(id);
            self.set_stage(id, Stage::Waiting(work));
            return Ok(());
        }
        let Work { slots, what } = work;
        let group = what.group(state, scope)?;
        let begin = what.begin(state, &group)?;
        self.set_stage(id, Stage::Running { group: group.clone(), extra_bytes: what.extra_bytes() });
        let exchange = Arc::new(Exchange::default());
        let interrupt = self.interrupt_of(id);
        let fuel = self.pending.borrow().get(&id).map_or(UNLIMITED_FUEL, |call| call.fuel.left);
        let context = self.context.borrow().clone().ok_or_else(|| Throw::internal("no port"))?;
        group.begin_turn(scope, id, &exchange);
        match begin {
            AnyBegin::Wasmi(realm, begin) => {
                Call::new(id, context, quota, exchange, interrupt, Lease::new(realm), slots, fuel, begin).submit()
            }
            AnyBegin::Wasmer(realm, begin) => {
                Call::new(id, context, quota, exchange, interrupt, Lease::new(realm), slots, fuel, begin).submit()
            }
        }
        Ok(())
    }

    fn set_stage(&self, id: CallId, stage: Stage) {
        if let Some(pending) = self.pending.borrow_mut().get_mut(&id) {
            pending.stage = stage;
        }
    }

    fn interrupt_of(&self, id: CallId) -> Arc<Interrupt> {
        self.pending.borrow().get(&id).map(|pending| pending.interrupt.clone()).unwrap_or_default()
    }

    /// The group whose turn a call has.
    fn group_of(&self, id: CallId) -> Option<Rc<Group>> {
        match &self.pending.borrow().get(&id)?.stage {
            Stage::Running { group, .. } => Some(group.clone()),
            Stage::Compiling(_) | Stage::Waiting(_) | Stage::Beginning => None,
        }
    }

    /// The guest that waits for its supervisor in a call: its group, and its instance's index there.
    pub fn asking(&self, id: CallId) -> Result<Option<(Rc<Group>, u32)>, Throw> {
        let Some(group) = self.group_of(id).filter(|group| group.is_open(id)) else { return Ok(None) };
        let mut instance = None;
        let entered = group.enter()?;
        group.with_asked(|asked| instance = Some(asked.site.instance));
        drop(entered);
        Ok(instance.map(|instance| (group, instance)))
    }

    /// Whether a call has the turn of that group.
    pub fn has_turn(&self, id: CallId, group: &Group) -> bool {
        self.pending.borrow().contains_key(&id) && group.turn_of() == Some(id)
    }

    // Events

    /// Writes the next event to the scratch buffer. `is_new_turn` says that the event loop has had a turn, `looks` that it may pay to look
    /// for an event for a little while.
    pub fn next(&self, state: &State, scope: Scope, scratch: &Scratch, is_new_turn: bool, looks: bool) {
        let event = self.next_event(state, scope, scratch, is_new_turn, looks);
        scratch.write_word(WORD_EVENT, event);
    }

    fn next_event(&self, state: &State, scope: Scope, scratch: &Scratch, is_new_turn: bool, looks: bool) -> u32 {
        let Some(port) = self.port.borrow().clone() else { return EVENT_NONE };
        if is_new_turn {
            self.turn_began.set(None);
            self.events_in_turn.set(0);
        }
        loop {
            if self.is_time_over() {
                return EVENT_TIME_OVER;
            }
            if port.is_empty() && looks {
                self.look(&port);
            }
            let Some(event) = port.receive() else { return EVENT_NONE };
            if let Some(told) = self.handle(state, scope, scratch, event) {
                return told;
            }
        }
    }

    /// Whether the event loop must have a turn.
    fn is_time_over(&self) -> bool {
        let events = self.events_in_turn.get();
        self.events_in_turn.set(events + 1);
        if !events.is_multiple_of(EVENTS_PER_CLOCK) {
            return false;
        }
        match self.turn_began.get() {
            Some(began) => began.elapsed() > MOST_IN_TURN,
            None => {
                self.turn_began.set(Some(Instant::now()));
                false
            }
        }
    }

    /// Waits awake for an event: a guest that has its answer may ask again at once.
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

    /// Handles an event, and says what TypeScript is told of it, if anything.
    fn handle(&self, state: &State, scope: Scope, scratch: &Scratch, event: Event) -> Option<u32> {
        match event {
            Event::Asked(id) => {
                scratch.write_word(WORD_CALL, id);
                self.ask(scope, scratch, id)
            }
            Event::Done(id, finished) => {
                scratch.write_word(WORD_CALL, id);
                self.finish(state, scope, scratch, id, finished)
            }
            Event::Compiled(id, compiled) => {
                scratch.write_word(WORD_CALL, id);
                let call = self.remove_unused(state, scope, id)?;
                match compiled {
                    Ok(module) => {
                        self.compiled.borrow_mut().insert(id, module);
                        Some(EVENT_DONE)
                    }
                    // It has ended early for that.
                    Err(_) if call.interrupt.is_set() => Some(fail_interrupted(state, scope, scratch, &call)),
                    Err(error) => {
                        state.refuse(error.into());
                        Some(EVENT_REFUSED)
                    }
                }
            }
            Event::Refused(id, error) => {
                scratch.write_word(WORD_CALL, id);
                let call = self.remove_unused(state, scope, id)?;
                forget(state, scope, id, call);
                state.refuse(error);
                self.refuse_if_stuck(state);
                Some(EVENT_REFUSED)
            }
            Event::Interrupted(id) => self.stop_waiting(state, scope, scratch, id),
        }
    }

    fn ask(&self, scope: Scope, scratch: &Scratch, id: CallId) -> Option<u32> {
        let group = self.group_of(id)?;
        let mut is_told = false;
        let mut fuel = None;
        group.open();
        if !self.interrupt_of(id).is_set() {
            is_told = group.with_asked(|asked| {
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
        Some(EVENT_ASKED)
    }

    /// The supervisor has answered what the guest of that call asked: with the results in the scratch buffer, or by throwing.
    /// Nothing happens if that call does not wait for an answer any more.
    pub fn answer(&self, state: &State, scope: Scope, scratch: &Scratch, id: CallId, has_thrown: bool) {
        let Some(group) = self.group_of(id).filter(|group| group.is_open(id)) else { return };
        let Some(mut held) = group.close(scope) else { return };
        if has_thrown {
            // Whatever it has thrown, it may have been because its time was up.
            let is_over = self.interrupt_of(id).is_set();
            return held.answer(Some(if is_over { HostTrap::Interrupted } else { HostTrap::Parked }));
        }
        if let Some(asked) = held.asked() {
            scratch.read_slots(&mut asked.slots);
            asked.fuel = self.fuel_of(state, id).unwrap_or(asked.fuel);
            if let Some(gas) = &mut asked.carried {
                *gas = scratch.read_gas();
            }
        }
        held.answer(None);
    }

    /// The supervisor takes its time to answer.
    pub fn put_off(&self, state: &State, scope: Scope, id: CallId) {
        let Some(group) = self.group_of(id).filter(|group| group.is_open(id)) else { return };
        group.put_off();
        if self.interrupt_of(id).is_set() {
            return answer_with(group.close(scope), HostTrap::Interrupted);
        }
        if let Some(call) = self.pending.borrow_mut().get_mut(&id) {
            call.is_put_off = true;
        }
        self.refuse_if_stuck(state);
    }

    /// Refuses a call if calls would otherwise wait for one another for ever. To be called whenever that may have come about: a call was made,
    /// was refused, or its supervisor has put off its answer.
    fn refuse_if_stuck(&self, state: &State) {
        if self.nested.get() == 0 {
            return;
        }
        let calls: Vec<deadlock::Pending> =
            self.pending.borrow().iter().map(|(id, call)| call.seen(state, *id)).collect();
        let Some(id) = deadlock::call_to_refuse(&calls) else { return };
        if let Some(group) = self.group_of(id) {
            return group.run_waiting(Err(NoThread::AllWait));
        }
        if let Some(port) = &*self.port.borrow() {
            port.send(Event::Refused(id, NoThread::AllWait.into()));
        }
    }

    /// Stops a call, as soon as that can be.
    pub fn stop(&self, id: CallId) {
        // Tells the port, too, whose event is handled like that of a deadline.
        self.interrupt_of(id).set();
    }

    /// A call's time is up, or it was stopped: a guest that is computing finds out by itself, everything else is ended here.
    fn stop_waiting(&self, state: &State, scope: Scope, scratch: &Scratch, id: CallId) -> Option<u32> {
        if let Some(group) = self.group_of(id) {
            if !group.is_open(id) {
                // It computes, or waits for a thread.
                group.run_waiting(Ok(()));
            } else if !group.is_in_use() {
                answer_with(group.close(scope), HostTrap::Interrupted);
            }
            return None;
        }
        let call = self.remove_unused(state, scope, id)?;
        scratch.write_word(WORD_CALL, id);
        let told = fail_interrupted(state, scope, scratch, &call);
        forget(state, scope, id, call);
        Some(told)
    }

    fn finish(&self, state: &State, scope: Scope, scratch: &Scratch, id: CallId, finished: Finished) -> Option<u32> {
        let Finished { outcome, slots, fuel, lease } = finished;
        drop(lease);
        let call = self.remove(state, scope, id)?;
        self.settle_fuel(&call, fuel);
        scratch.write_fuel(fuel);
        let Stage::Running { group, extra_bytes } = call.stage else { return None };
        self.end_turn(state, scope, &group);
        let told = match outcome {
            Outcome::Returned(Ok(())) => {
                scratch.write_slots(&slots);
                EVENT_DONE
            }
            Outcome::Returned(Err(trap)) | Outcome::Instantiated(_, Err(trap)) => {
                state.fail(scope, trap, None);
                EVENT_TRAPPED
            }
            Outcome::Instantiated(instance, Ok(())) => {
                group.add_extra(extra_bytes);
                self.made.borrow_mut().insert(id, (group.clone(), instance));
                EVENT_DONE
            }
            Outcome::NotInstantiated(error) => {
                state.refuse(error.into());
                EVENT_REFUSED
            }
            Outcome::NoThread(error) => {
                state.refuse(error.into());
                self.refuse_if_stuck(state);
                EVENT_REFUSED
            }
        };
        if let Ok(entered) = group.enter() {
            group.report(scope);
            drop(entered);
        }
        // Instances may have gone while it was busy. What has just been made is not counted yet.
        if told != EVENT_DONE {
            state.renew_if_worth(scope, &group);
        }
        release_if_last(scope, group);
        Some(told)
    }

    /// An instance that was made by that call.
    pub fn take_made(&self, id: CallId) -> Option<(Rc<Group>, u32)> {
        self.made.borrow_mut().remove(&id)
    }

    /// A module that was compiled by that call.
    pub fn take_compiled(&self, id: CallId) -> Option<AnyModule> {
        self.compiled.borrow_mut().remove(&id)
    }

    fn end_turn(&self, state: &State, scope: Scope, group: &Rc<Group>) {
        let mut next = group.end_turn();
        while let Some(id) = next {
            match self.begin(state, scope, id) {
                // It may have gone to wait for another group.
                Ok(()) if group.turn_of().is_none() => next = group.end_turn(),
                Ok(()) => return,
                Err(error) => {
                    if let Some(port) = &*self.port.borrow() {
                        port.send(Event::Refused(id, error));
                    }
                    next = group.end_turn();
                }
            }
        }
    }

    /// The environment ends: guests stop, and what this environment has of their realms is dropped. With `is_running` a guest is on the
    /// stack, whose realm must stay until the process has ended.
    pub fn shut_down(&self, is_running: bool) {
        let pending = self.pending.take();
        let asked = self.port.borrow().as_ref().map(|port| port.end_asking()).unwrap_or_default();
        for id in asked {
            if let Some(Pending { stage: Stage::Running { group, .. }, .. }) = pending.get(&id) {
                group.open();
            }
        }
        for (id, call) in &pending {
            call.interrupt.set();
            if let Stage::Compiling(ticket) = &call.stage {
                ticket.cancel();
            }
            if let Stage::Running { group, .. } = &call.stage
                && !is_running
                && group.is_open(*id)
            {
                answer_with(group.take_held(), HostTrap::Interrupted);
            }
        }
        let made = self.made.take();
        if is_running {
            std::mem::forget((pending, made));
        }
    }

    /// To be called when the environment has dropped everything.
    pub fn close(&self) {
        if let Some(port) = self.port.take() {
            port.close();
        }
    }
}

impl Pending {
    /// What [`deadlock`] has to know of it.
    fn seen(&self, state: &State, id: CallId) -> deadlock::Pending {
        let waits = match &self.stage {
            Stage::Running { group, .. } if group.is_open(id) && self.is_put_off => {
                Waits::ForSupervisor { holds_thread: group.holds_threads() }
            }
            Stage::Running { group, .. } if group.is_open(id) => Waits::ForNothing,
            Stage::Running { .. } | Stage::Compiling(_) => Waits::ForThread,
            Stage::Waiting(Work { what, .. }) => {
                let groups = what.groups(state).unwrap_or_default();
                Waits::ForCalls(groups.iter().filter_map(|group| group.turn_of()).collect())
            }
            Stage::Beginning => Waits::ForNothing,
        };
        let quota = Arc::as_ptr(&self.quota).addr();
        deadlock::Pending { call: id, around: self.around, quota, threads: self.quota.most(), waits }
    }
}

/// Has TypeScript told that a call was stopped that has run no guest.
fn fail_interrupted(state: &State, scope: Scope, scratch: &Scratch, call: &Pending) -> u32 {
    scratch.write_fuel(call.fuel.left);
    state.fail(scope, Box::new(Trap::new(TrapCode::Interrupted)), None);
    EVENT_TRAPPED
}

/// Takes a call that was removed out of where it waits.
fn forget(state: &State, scope: Scope, id: CallId, call: Pending) {
    match call.stage {
        Stage::Waiting(Work { what, .. }) => {
            for group in what.groups(state).unwrap_or_default() {
                group.give_up_waiting(id);
                release_if_last(scope, group);
            }
        }
        Stage::Compiling(ticket) => drop(ticket.cancel()),
        Stage::Running { .. } | Stage::Beginning => {}
    }
}

fn answer_with(held: Option<Held>, failure: HostTrap) {
    if let Some(held) = held {
        held.answer(Some(failure));
    }
}

/// A realm and what to begin in it.
enum AnyBegin {
    Wasmi(Rc<Realm<Wasmi>>, Begin<Wasmi>),
    Wasmer(Rc<Realm<Wasmer>>, Begin<Wasmer>),
}

impl What {
    /// The groups that must be free for it to begin.
    fn groups(&self, state: &State) -> Result<Vec<Rc<Group>>, Throw> {
        match self {
            Self::Call { group, .. } => Ok(vec![group.clone()]),
            Self::Instantiate { linking, .. } => linking.groups(state),
        }
    }

    /// The one group of all of them.
    fn group(&self, state: &State, scope: Scope) -> Result<Rc<Group>, Throw> {
        match self {
            Self::Call { group, .. } => Ok(group.clone()),
            Self::Instantiate { engine, linking } => linking.common_group(state, scope, engine),
        }
    }

    fn begin(&self, state: &State, group: &Group) -> Result<AnyBegin, Throw> {
        let realm = group.enter()?;
        match self {
            Self::Call { instance, export, .. } => {
                let (instance, export) = (*instance, *export);
                Ok(match &*realm {
                    AnyRealm::Wasmi(realm) => AnyBegin::Wasmi(realm.clone(), Begin::Call { instance, export }),
                    AnyRealm::Wasmer(realm) => AnyBegin::Wasmer(realm.clone(), Begin::Call { instance, export }),
                })
            }
            Self::Instantiate { linking, .. } => {
                let (carried, imports) = (linking.carried.clone(), linking.imports(state)?);
                group.count_made();
                match (&*realm, linking.module.clone()) {
                    (AnyRealm::Wasmi(realm), AnyModule::Wasmi(module)) => {
                        Ok(AnyBegin::Wasmi(realm.clone(), Begin::Instantiate { module, carried, imports }))
                    }
                    (AnyRealm::Wasmer(realm), AnyModule::Wasmer(module)) => {
                        Ok(AnyBegin::Wasmer(realm.clone(), Begin::Instantiate { module, carried, imports }))
                    }
                    _ => Err(Throw::internal("the memory and the module are of different backends")),
                }
            }
        }
    }

    fn extra_bytes(&self) -> u64 {
        match self {
            Self::Call { .. } => 0,
            Self::Instantiate { linking, .. } => with_module!(&linking.module, module => module.instance_bytes),
        }
    }
}

impl From<NoThread> for Throw {
    fn from(error: NoThread) -> Self {
        Self::new("limit", error)
    }
}
