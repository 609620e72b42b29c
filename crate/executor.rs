//! Asynchronous calls. Guests run on threads of a [`pool::Pool`]. Their supervisor calls go to the
//! JavaScript thread and back through an [`exchange::Exchange`].
//!
//! A call has exclusive use of one realm ([`lease::Lease`]). When the supervisor takes its time, a guest
//! of an engine that can suspend leaves its thread; a guest of another engine waits on it. A [`Port`]
//! tells the JavaScript thread about calls.

pub mod deadlock;
pub mod exchange;
pub mod handover;
pub mod lease;
pub mod pool;

/// The synchronization primitives of `handover.rs`. The model replaces them with its own.
mod sync {
    use std::sync::PoisonError;
    pub use std::{
        hint::spin_loop,
        sync::{
            Condvar, Mutex, MutexGuard,
            atomic::{AtomicU32, Ordering},
        },
    };

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    exchange::{Exchange, LeftCall},
    lease::Lease,
    pool::{NoThread, ThreadQuota, Ticket},
};
use crate::{
    engine::Engine,
    error::{HostTrap, InstantiateError, Trap, TrapCode},
    interrupt::Interrupt,
    module::Module,
    realm::{Answer, Carried, Entry, Host, HostCall, Import, Slots, Suspended, panic_message},
};

/// The number of a call, unique within its port.
pub type CallId = u32;

/// The way to the JavaScript thread. Once that thread is gone, a port drops everything it is given.
pub trait Port: Send + Sync {
    /// Says that the guest of this call has called its supervisor. Returns `false` if no answer will
    /// come.
    fn asked(&self, call: CallId) -> bool;

    /// Says that the call is over.
    fn done(&self, call: CallId, finished: Finished);
}

/// A call that is over.
pub struct Finished {
    pub outcome: Outcome,
    /// The results.
    pub slots: Slots,
    /// The remaining fuel.
    pub fuel: u64,
    /// The receiver of this value drops the lease.
    pub lease: Box<dyn LeaseBack>,
}

/// A lease on its way back.
pub trait LeaseBack: Send {}
impl<E: Engine> LeaseBack for Lease<E> {}

/// How a call has ended.
pub enum Outcome {
    Returned(Result<(), Box<Trap>>),
    /// An instance was created (this is its index in the realm), and its start function has run.
    Instantiated(u32, Result<(), Box<Trap>>),
    NotInstantiated(InstantiateError),
    /// The system provided no thread to begin or resume the call.
    NoThread(NoThread),
}

/// How a call begins.
pub enum Begin<E: Engine> {
    Call { instance: u32, export: u32 },
    Instantiate { module: Arc<Module<E>>, carried: Option<Carried>, imports: Vec<Import> },
}

/// How long a guest's thread polls for an answer before it leaves or sleeps. The time grows while
/// polling pays off and shrinks to almost nothing while it does not. All guests of one port share it.
#[derive(Debug)]
pub struct SpinBudget(AtomicU32);

impl SpinBudget {
    const MOST_MICROS: u32 = 50;
    const LEAST_MICROS: u32 = 2;

    fn get(&self) -> Duration {
        Duration::from_micros(u64::from(self.0.load(Ordering::Relaxed)))
    }

    fn has_paid(&self, has_paid: bool) {
        let micros = self.0.load(Ordering::Relaxed);
        let next = if has_paid { micros * 2 } else { micros / 2 }.clamp(Self::LEAST_MICROS, Self::MOST_MICROS);
        if next != micros {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

impl Default for SpinBudget {
    fn default() -> Self {
        Self(AtomicU32::new(Self::MOST_MICROS))
    }
}

/// The state that all calls of a port share.
pub struct Context {
    pub port: Arc<dyn Port>,
    pub spin_budget: SpinBudget,
}

/// An asynchronous call.
pub struct Call<E: Engine> {
    id: CallId,
    context: Arc<Context>,
    quota: Arc<ThreadQuota>,
    exchange: Arc<Exchange>,
    interrupt: Arc<Interrupt>,
    realm: Lease<E>,
    slots: Slots,
    /// The remaining fuel, if the guest is metered.
    fuel: u64,
    /// The new instance, once it exists.
    instance: Option<u32>,
    next: Next<E>,
}

enum Next<E: Engine> {
    Begin(Begin<E>),
    Resume(Suspended<E>),
    /// The call is running, or it is over.
    Nothing,
}

impl<E: Engine> Call<E> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        id: CallId,
        context: Arc<Context>,
        quota: Arc<ThreadQuota>,
        exchange: Arc<Exchange>,
        interrupt: Arc<Interrupt>,
        realm: Lease<E>,
        slots: Slots,
        fuel: u64,
        begin: Begin<E>,
    ) -> Box<Self> {
        Box::new(Self {
            id,
            context,
            quota,
            exchange,
            interrupt,
            realm,
            slots,
            fuel,
            instance: None,
            next: Next::Begin(begin),
        })
    }

    /// Queues the call for a thread of the pool. If there is none, the call ends with
    /// [`Outcome::NoThread`].
    pub fn submit(self: Box<Self>) {
        let (quota, exchange) = (self.quota.clone(), self.exchange.clone());
        let ticket = Ticket::new(Box::new(move |thread| self.run(thread)));
        // The exchange and the task on the ticket refer to each other until the task begins.
        exchange.set_ticket(ticket.clone());
        quota.submit(Box::new(move |thread| ticket.run(thread)));
    }

    fn run(mut self: Box<Self>, thread: Result<(), NoThread>) {
        if let Err(error) = thread {
            return self.end(Failed::NoThread(error));
        }
        let Self { id, context, exchange, interrupt, realm, slots, fuel, instance, next, .. } = &mut *self;
        let host = &mut PoolHost { id: *id, context, exchange, interrupt, fuel, may_leave: E::SUSPENDS };
        let next = std::mem::replace(next, Next::Nothing);
        let run = || match next {
            Next::Begin(Begin::Call { instance, export }) => {
                realm.call_suspendable(instance, Entry::Export(export), slots, host).map_err(Failed::Trapped)
            }
            Next::Begin(Begin::Instantiate { module, carried, imports }) => {
                let index = realm.instantiate(&module, carried, &imports).map_err(Failed::NotInstantiated)?;
                *instance = Some(index);
                realm.call_suspendable(index, Entry::Start, slots, host).map_err(Failed::Trapped)
            }
            Next::Resume(suspended) => go_on(realm, suspended, exchange, slots, host).map_err(Failed::Trapped),
            Next::Nothing => Ok(None),
        };
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            if message.contains(NO_STACK) {
                return Err(Failed::NoThread(NoThread::NoRoom));
            }
            let message = format!("the engine panicked: {message}");
            Err(Failed::Trapped(Trap::with_message(TrapCode::Internal, message).into()))
        });
        match outcome {
            Ok(Some(suspended)) => {
                self.next = Next::Resume(suspended);
                let exchange = self.exchange.clone();
                exchange.leave(self);
            }
            Ok(None) => self.finish(Ok(())),
            Err(failed) => self.finish(Err(failed)),
        }
    }

    /// Ends a call that is not running on a thread.
    fn end(mut self, failed: Failed) {
        // The suspended guest belongs to the realm, so it must be dropped before the realm.
        self.next = Next::Nothing;
        self.finish(Err(failed));
    }

    fn finish(self, outcome: Result<(), Failed>) {
        let outcome = match (outcome, self.instance) {
            (Err(Failed::NotInstantiated(error)), _) => Outcome::NotInstantiated(error),
            (Err(Failed::NoThread(error)), _) => Outcome::NoThread(error),
            (Err(Failed::Trapped(trap)), Some(instance)) => Outcome::Instantiated(instance, Err(trap)),
            (Err(Failed::Trapped(trap)), None) => Outcome::Returned(Err(trap)),
            (Ok(()), Some(instance)) => Outcome::Instantiated(instance, Ok(())),
            (Ok(()), None) => Outcome::Returned(Ok(())),
        };
        let finished = Finished { outcome, slots: self.slots, fuel: self.fuel, lease: Box::new(self.realm) };
        self.context.port.done(self.id, finished);
    }
}

/// Part of the message of the panic that wasmer raises when it cannot map a stack for a guest, before
/// the guest has run: the `Debug` form of an `io::Error`.
const NO_STACK: &str = "kind: OutOfMemory";

enum Failed {
    Trapped(Box<Trap>),
    NotInstantiated(InstantiateError),
    NoThread(NoThread),
}

impl<E: Engine> LeftCall for Call<E> {
    fn go_on(self: Box<Self>) {
        self.submit();
    }

    fn give_up(self: Box<Self>, failure: HostTrap) {
        self.end(Failed::Trapped(failure.into()));
    }
}

fn go_on<E: Engine>(
    realm: &Lease<E>,
    suspended: Suspended<E>,
    exchange: &Exchange,
    slots: &mut Slots,
    host: &mut PoolHost<'_>,
) -> Result<Option<Suspended<E>>, Box<Trap>> {
    let asked = exchange.take_answer().map_err(|trap| Trap::from(*trap))?;
    *host.fuel = asked.fuel;
    let answer = Answer { site: asked.site, carried: asked.carried, results: &asked.slots };
    realm.resume(suspended, answer, slots, host)
}

/// Passes a guest's supervisor calls to the JavaScript thread.
struct PoolHost<'a> {
    id: CallId,
    context: &'a Context,
    exchange: &'a Exchange,
    interrupt: &'a Arc<Interrupt>,
    fuel: &'a mut u64,
    /// Whether the guest's engine can suspend a call and resume it later.
    may_leave: bool,
}

impl Host for PoolHost<'_> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        let Context { port, spin_budget } = self.context;
        self.exchange.ask(&call, *self.fuel);
        if !port.asked(self.id) {
            return Err(Box::new(HostTrap::Interrupted));
        }
        let may_leave = self.may_leave;
        let mut looks = 0_u32;
        let mut until = None;
        let mut has_given_up = false;
        let keep_looking = || {
            looks += 1;
            // Reading the clock takes as long as a few polls.
            if !looks.is_multiple_of(16) {
                return true;
            }
            // Another task is waiting for a thread.
            if may_leave && pool::is_short() {
                has_given_up = true;
                return false;
            }
            let now = Instant::now();
            let until = *until.get_or_insert_with(|| now + spin_budget.get());
            has_given_up = now >= until;
            !has_given_up
        };
        let outcome = self.exchange.wait(call, self.fuel, may_leave, keep_looking);
        spin_budget.has_paid(!has_given_up);
        outcome
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        Some(self.interrupt.clone())
    }

    fn fuel(&self) -> u64 {
        *self.fuel
    }

    fn set_fuel(&mut self, left: u64) {
        *self.fuel = left;
    }
}
