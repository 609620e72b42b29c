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
    budget::Fuel,
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
        Begin, Call, CallId, Context, Finished, Outcome, Patience,
        exchange::{Exchange, Held},
        lease::Lease,
        pool::{Budget, NoThread},
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
    stage: Stage,
}

enum Stage {
    Compiling,
    /// Another call has its group.
    Waiting(Work),
    /// Its guest is running or waits for its supervisor.
    Running {
        group: Rc<Group>,
        extra_bytes: u64,
    },
}

/// What a call is to do once it is its turn.
pub struct Work {
    pub budget: Arc<Budget>,
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
        let context = Context { port: port.clone(), patience: Patience::default() };
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
        fuel: Fuel,
        stage: impl FnOnce(CallId, &Arc<JsPort>) -> Result<Stage, Throw>,
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
        let stage = stage(id, &port)?;
        let mut pending = self.pending.borrow_mut();
        if pending.is_empty() {
            port.keep_alive(scope, true);
            state.keep_alive(scope, true);
        }
        let (begun, around) = (fuel.left, self.within.get());
        pending.insert(id, Pending { interrupt, deadline, fuel, begun, around, stage });
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

    fn set_fuel_of(&self, id: CallId, left: u64) {
        if let Some(call) = self.pending.borrow_mut().get_mut(&id) {
            call.fuel.left = left;
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
        budget: &Arc<Budget>,
        compile: impl FnOnce() -> Result<AnyModule, CompileError> + Send + 'static,
    ) -> Result<CallId, Throw> {
        // It runs no guest.
        let fuel = Fuel { left: 0, is_limited: false };
        self.add(state, scope, scratch, fuel, |id, port| {
            let port = port.clone();
            let task = move || {
                let compiled = catch_unwind(AssertUnwindSafe(compile));
                let compiled = compiled.unwrap_or_else(|panic| {
                    Err(CompileError(format!("the compiler panicked: {}", panic_message(&*panic))))
                });
                port.send(Event::Compiled(id, compiled));
            };
            budget.submit(Box::new(task))?;
            Ok(Stage::Compiling)
        })
    }

    /// Makes a call into a group, and begins it if it is its turn.
    pub fn enter(&self, state: &State, scope: Scope, scratch: &Scratch, work: Work) -> Result<CallId, Throw> {
        let around = state.fuel.get();
        let fuel = self.take_fuel(state, scratch.read_fuel());
        let id = self.add(state, scope, scratch, fuel, |_, _| Ok(Stage::Waiting(work)));
        let id = id.inspect_err(|_| state.fuel.set(around))?;
        self.begin(state, scope, id).inspect_err(|_| drop(self.remove_unused(state, scope, id)))?;
        Ok(id)
    }

    /// Begins a call if its group is free, or has it wait.
    fn begin(&self, state: &State, scope: Scope, id: CallId) -> Result<(), Throw> {
        let work = {
            let mut pending = self.pending.borrow_mut();
            let Some(pending) = pending.get_mut(&id) else { return Ok(()) };
            match std::mem::replace(&mut pending.stage, Stage::Compiling) {
                Stage::Waiting(work) => work,
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
        let Work { budget, slots, what } = work;
        let group = what.group(state, scope)?;
        let begin = what.begin(state, &group)?;
        self.set_stage(id, Stage::Running { group: group.clone(), extra_bytes: what.extra_bytes() });
        let exchange = Arc::new(Exchange::default());
        let interrupt = self.interrupt_of(id);
        let fuel = self.pending.borrow().get(&id).map_or(UNLIMITED_FUEL, |call| call.fuel.left);
        let context = self.context.borrow().clone().ok_or_else(|| Throw::internal("no port"))?;
        group.begin_turn(scope, id, &exchange);
        let is_begun = match begin {
            AnyBegin::Wasmi(realm, begin) => {
                Call::new(id, context, budget, exchange, interrupt, Lease::new(realm), slots, fuel, begin).submit()
            }
            AnyBegin::Wasmer(realm, begin) => {
                Call::new(id, context, budget, exchange, interrupt, Lease::new(realm), slots, fuel, begin).submit()
            }
        };
        is_begun.map_err(|error| {
            // Who is next is the caller's to see to.
            group.clear_turn();
            error.into()
        })
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
            Stage::Compiling | Stage::Waiting(_) => None,
        }
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
                self.remove_unused(state, scope, id)?;
                match compiled {
                    Ok(module) => {
                        self.compiled.borrow_mut().insert(id, module);
                        Some(EVENT_DONE)
                    }
                    Err(error) => {
                        state.refuse(Throw::new("module", error));
                        Some(EVENT_REFUSED)
                    }
                }
            }
            Event::Refused(id, error) => {
                scratch.write_word(WORD_CALL, id);
                self.remove_unused(state, scope, id)?;
                state.refuse(error);
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
                scratch.write_word(WORD_HAS_GAS, u32::from(asked.gas.is_some()));
                scratch.write_gas(asked.gas.unwrap_or(0));
                scratch.write_slots(&asked.slots);
            });
        }
        if !is_told {
            answer_with(group.close(scope), HostTrap::Interrupted);
            return None;
        }
        if let Some(fuel) = fuel {
            self.set_fuel_of(id, fuel);
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
            if let Some(gas) = &mut asked.gas {
                *gas = scratch.read_gas();
            }
        }
        held.answer(None);
    }

    /// The supervisor takes its time to answer.
    pub fn put_off(&self, scope: Scope, id: CallId) {
        let Some(group) = self.group_of(id).filter(|group| group.is_open(id)) else { return };
        group.put_off();
        if self.interrupt_of(id).is_set() {
            answer_with(group.close(scope), HostTrap::Interrupted);
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
                group.run_waiting();
            } else if !group.is_in_use() {
                answer_with(group.close(scope), HostTrap::Interrupted);
            }
            return None;
        }
        let call = self.remove_unused(state, scope, id)?;
        scratch.write_fuel(call.fuel.left);
        if let Stage::Waiting(Work { what, .. }) = call.stage {
            for group in what.groups(state).unwrap_or_default() {
                group.give_up_waiting(id);
                release_if_last(scope, group);
            }
        }
        scratch.write_word(WORD_CALL, id);
        state.fail(scope, Trap::new(TrapCode::Interrupted), None);
        Some(EVENT_TRAPPED)
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
                group.count_failed_instance();
                state.refuse(error.into());
                EVENT_REFUSED
            }
        };
        if let Ok(entered) = group.enter() {
            group.report(scope);
            drop(entered);
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
                let (version, imports) = (linking.version, linking.imports(state)?);
                match (&*realm, linking.module.clone()) {
                    (AnyRealm::Wasmi(realm), AnyModule::Wasmi(module)) => {
                        Ok(AnyBegin::Wasmi(realm.clone(), Begin::Instantiate { module, version, imports }))
                    }
                    (AnyRealm::Wasmer(realm), AnyModule::Wasmer(module)) => {
                        Ok(AnyBegin::Wasmer(realm.clone(), Begin::Instantiate { module, version, imports }))
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
