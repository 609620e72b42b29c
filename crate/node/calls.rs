//! The asynchronous calls of one JavaScript environment, from their creation until JavaScript has been
//! told their outcomes. TypeScript's side is `lib/guest/async_call.ts` and `lib/guest/events.ts`.
//!
//! Everything here runs on the JavaScript thread. The [`JsPort`] tells it which guests have called their
//! supervisors and which calls are over. TypeScript takes these events one at a time ([`Calls::next`]),
//! answers guests ([`Calls::answer`], [`Calls::put_off`]), and stops calls ([`Calls::stop`]).

mod events;
mod pending;
mod work;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::Arc,
    time::Instant,
};

pub use self::work::{What, Work};
use self::{
    pending::{Pending, Stage},
    work::AnyBegin,
};
use super::{
    backend::AnyModule,
    deadline::Deadline,
    error::{ErrorKind, NativeError},
    fuel::Fuel,
    group::Group,
    port::{Event, JsPort},
    raw::{CleanupHook, Scope, ShutDown},
    scratch::Scratch,
    tables::Tables,
};
use crate::{
    engine::UNLIMITED_FUEL,
    error::CompileError,
    executor::{
        Call, CallId, Context, SpinBudget,
        exchange::Exchange,
        lease::Lease,
        pool::{ThreadQuota, Ticket},
    },
    interrupt::Interrupt,
    realm::panic_message,
};

/// The asynchronous calls of an environment.
pub struct Calls {
    /// The environment, which shuts this down too.
    environment: Weak<dyn ShutDown>,
    /// Runs before Node removes the threadsafe function.
    hook: Cell<Option<CleanupHook>>,
    /// Created for the first call.
    port: RefCell<Option<Arc<JsPort>>>,
    context: RefCell<Option<Arc<Context>>>,
    pending: RefCell<HashMap<CallId, Pending>>,
    /// New instances, until TypeScript has adopted them.
    made: RefCell<HashMap<CallId, (Rc<Group>, u32)>>,
    /// Compiled modules, until TypeScript has adopted them.
    compiled: RefCell<HashMap<CallId, AnyModule>>,
    last_id: Cell<CallId>,
    /// When the current tick of the event loop began, for limiting the time that events take.
    tick_began: Cell<Option<Instant>>,
    events_in_tick: Cell<u32>,
    /// The call that the running code is part of. Its fuel is in the tables meanwhile.
    within: Cell<CallId>,
    /// The number of pending calls that were made during a supervisor call.
    nested: Cell<usize>,
    /// How long polling for the next event pays off, in µs.
    look_micros: Cell<u32>,
}

const MOST_LOOK_MICROS: u32 = 20;

impl Calls {
    pub fn new(environment: Weak<dyn ShutDown>) -> Self {
        Self {
            environment,
            hook: Cell::default(),
            port: RefCell::default(),
            context: RefCell::default(),
            pending: RefCell::default(),
            made: RefCell::default(),
            compiled: RefCell::default(),
            last_id: Cell::default(),
            tick_began: Cell::default(),
            events_in_tick: Cell::default(),
            within: Cell::default(),
            nested: Cell::default(),
            look_micros: Cell::new(MOST_LOOK_MICROS),
        }
    }

    /// Returns the port by which threads of the pool reach this one, and creates it for the first call.
    fn port(&self, tables: &Tables, scope: Scope) -> Result<Arc<JsPort>, NativeError> {
        if let Some(port) = &*self.port.borrow() {
            return Ok(port.clone());
        }
        let port = Arc::new(JsPort::new(scope, tables.functions.clone())?);
        if let Some(before) = self.hook.replace(CleanupHook::new(scope, self.environment.clone()).ok()) {
            before.remove(scope);
        }
        let context = Context { port: port.clone(), spin_budget: SpinBudget::default() };
        self.context.replace(Some(Arc::new(context)));
        self.port.replace(Some(port.clone()));
        Ok(port)
    }

    fn new_id(&self) -> CallId {
        let mut id = self.last_id.get();
        loop {
            // 0 means no call.
            id = id.checked_add(1).unwrap_or(1);
            if !self.pending.borrow().contains_key(&id) {
                self.last_id.set(id);
                return id;
            }
        }
    }

    /// Adds a call. Its timeout is the one in the scratch buffer, or what remains of the surrounding
    /// deadline if that is sooner.
    fn add(
        &self,
        tables: &Tables,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        fuel: Fuel,
        stage: impl FnOnce(CallId, &Arc<JsPort>, &Arc<Interrupt>) -> Result<Stage, NativeError>,
    ) -> Result<CallId, NativeError> {
        let port = self.port(tables, scope)?;
        let id = self.new_id();
        let teller = port.clone();
        let interrupt = Interrupt::telling(move || teller.send(Event::Interrupted(id)));
        let own = Deadline::after(scratch.read_timeout());
        let around = tables.deadline.borrow().as_ref().map(Deadline::at);
        let deadline = own.into_iter().chain(around).min();
        if let Some(deadline) = deadline {
            interrupt.set_at(deadline)?;
        }
        let stage = stage(id, &port, &interrupt)?;
        let mut pending = self.pending.borrow_mut();
        if pending.is_empty() {
            port.keep_alive(scope, true);
            tables.functions.keep_alive(scope, true);
        }
        let (begun, around) = (fuel.left, self.within.get());
        let quota = quota.clone();
        pending.insert(id, Pending { interrupt, deadline, fuel, begun, around, quota, is_put_off: false, stage });
        self.nested.set(self.nested.get() + usize::from(around != 0));
        Ok(id)
    }

    /// The fuel of a call with the budget `own`. It is subtracted from the outer call at once, because
    /// several calls made in one could otherwise use more than there is. What remains of it is given
    /// back at the end.
    fn take_fuel(&self, tables: &Tables, own: Option<u64>) -> Fuel {
        let around = tables.fuel.get();
        let fuel = Fuel::of_call(own, around);
        if let Some(around) = around.filter(|around| around.is_limited) {
            tables.fuel.set(Some(around.after(fuel.left, 0)));
        }
        fuel
    }

    /// Charges the fuel that a finished call has used to the call that it was made in, if that is still
    /// pending.
    fn settle_fuel(&self, call: &Pending, left: u64) {
        if let Some(around) = self.pending.borrow_mut().get_mut(&call.around) {
            let fuel = &mut around.fuel;
            fuel.left =
                if fuel.is_limited { fuel.left.saturating_add(left) } else { fuel.after(call.begun, left).left };
        }
    }

    /// Makes the code that runs from here on part of this call, or of none: it must end when the call
    /// must, and it uses the call's fuel.
    pub fn set_within(&self, tables: &Tables, id: CallId) {
        let mut pending = self.pending.borrow_mut();
        let before = self.within.replace(id);
        if let (Some(call), Some(fuel)) = (pending.get_mut(&before), tables.fuel.get()) {
            call.fuel = fuel;
        }
        let call = pending.get(&id);
        tables.fuel.set(call.map(|call| call.fuel));
        let deadline = call.and_then(|call| Some(Deadline::new(call.deadline?, call.interrupt.clone())));
        tables.deadline.replace(deadline);
    }

    fn fuel_of(&self, tables: &Tables, id: CallId) -> Option<u64> {
        if self.within.get() == id {
            return tables.fuel.get().map(|fuel| fuel.left);
        }
        self.pending.borrow().get(&id).map(|call| call.fuel.left)
    }

    /// Records that a guest has called its supervisor, and its remaining fuel.
    fn set_asked(&self, id: CallId, fuel: u64) {
        if let Some(call) = self.pending.borrow_mut().get_mut(&id) {
            call.fuel.left = fuel;
            call.is_put_off = false;
        }
    }

    /// Removes a call that has run no guest.
    fn remove_unused(&self, tables: &Tables, scope: Scope, id: CallId) -> Option<Pending> {
        let call = self.remove(tables, scope, id)?;
        self.settle_fuel(&call, call.fuel.left);
        Some(call)
    }

    fn remove(&self, tables: &Tables, scope: Scope, id: CallId) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        let removed = pending.remove(&id);
        let is_nested = removed.as_ref().is_some_and(|call| call.around != 0);
        self.nested.set(self.nested.get() - usize::from(is_nested));
        if removed.is_some()
            && pending.is_empty()
            && let Some(port) = &*self.port.borrow()
        {
            port.keep_alive(scope, false);
            tables.functions.keep_alive(scope, false);
        }
        removed
    }

    /// Compiles a module on a thread of the pool.
    pub fn compile(
        &self,
        tables: &Tables,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        compile: impl FnOnce() -> Result<AnyModule, CompileError> + Send + 'static,
    ) -> Result<CallId, NativeError> {
        // Compiling runs no guest.
        let fuel = Fuel { left: 0, is_limited: false };
        let id = self.add(tables, scope, scratch, quota, fuel, |id, port, interrupt| {
            let (port, interrupt) = (port.clone(), interrupt.clone());
            let ticket = Ticket::new(Box::new(move |thread| {
                if let Err(error) = thread {
                    return port.send(Event::Refused(id, error.into()));
                }
                let compiled = catch_unwind(AssertUnwindSafe(|| interrupt.around_compile(compile)));
                let compiled = compiled.unwrap_or_else(|panic| {
                    Err(CompileError::Refused(format!("the compiler panicked: {}", panic_message(&*panic))))
                });
                port.send(Event::Compiled(id, compiled));
            }));
            let task = ticket.clone();
            quota.submit(Box::new(move |thread| task.run(thread)));
            Ok(Stage::Compiling(ticket))
        })?;
        self.refuse_if_stuck(tables);
        Ok(id)
    }

    /// Adds a call into a group, and begins it if the group is free.
    pub fn enter(
        &self,
        tables: &Tables,
        scope: Scope,
        scratch: &Scratch,
        quota: &Arc<ThreadQuota>,
        work: Work,
    ) -> Result<CallId, NativeError> {
        let around = tables.fuel.get();
        let fuel = self.take_fuel(tables, scratch.read_fuel());
        let id = self.add(tables, scope, scratch, quota, fuel, |_, _, _| Ok(Stage::Waiting(work)));
        let id = id.inspect_err(|_| tables.fuel.set(around))?;
        self.begin(tables, scope, id).inspect_err(|_| drop(self.remove_unused(tables, scope, id)))?;
        self.refuse_if_stuck(tables);
        Ok(id)
    }

    /// Begins a call if its group is free, or queues it.
    fn begin(&self, tables: &Tables, scope: Scope, id: CallId) -> Result<(), NativeError> {
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
        let groups = work.what.groups(tables)?;
        if groups.iter().any(|group| group.is_running()) {
            let message = "the guest, or one that shares its memory, is running in the call around this one";
            return Err(NativeError::new(ErrorKind::Busy, message));
        }
        if let Some(group) = groups.iter().find(|group| group.occupancy.occupant().is_some()) {
            group.occupancy.wait(id);
            self.set_stage(id, Stage::Waiting(work));
            return Ok(());
        }
        let Work { slots, what } = work;
        let group = what.group(tables, scope)?;
        let begin = what.begin(tables, &group)?;
        self.set_stage(id, Stage::Running { group: group.clone(), extra_bytes: what.extra_bytes() });
        let exchange = Arc::new(Exchange::default());
        let interrupt = self.interrupt_of(id);
        let fuel = self.pending.borrow().get(&id).map_or(UNLIMITED_FUEL, |call| call.fuel.left);
        let context = self.context.borrow().clone().ok_or_else(|| NativeError::internal("no port"))?;
        group.occupy(scope, id, &exchange);
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

    /// The group that a call occupies.
    fn group_of(&self, id: CallId) -> Option<Rc<Group>> {
        match &self.pending.borrow().get(&id)?.stage {
            Stage::Running { group, .. } => Some(group.clone()),
            Stage::Compiling(_) | Stage::Waiting(_) | Stage::Beginning => None,
        }
    }

    /// The guest of this call if it waits for its supervisor: its group, and its instance's index there.
    pub fn asking(&self, id: CallId) -> Result<Option<(Rc<Group>, u32)>, NativeError> {
        let Some(group) = self.group_of(id).filter(|group| group.occupancy.is_open(id)) else { return Ok(None) };
        let mut instance = None;
        let entered = group.enter()?;
        group.occupancy.with_request(|request| instance = Some(request.site.instance));
        drop(entered);
        Ok(instance.map(|instance| (group, instance)))
    }

    /// Whether the call occupies this group.
    pub fn occupies(&self, id: CallId, group: &Group) -> bool {
        self.pending.borrow().contains_key(&id) && group.occupancy.occupant() == Some(id)
    }
}
