//! Asynchronous calls without JavaScript: guests run on threads of the pool, and the test's thread takes the place of the
//! JavaScript thread.
//!
//! Here are the supervisor that all of these tests use, and the guest that asks it.

mod answers;
mod starts;

mod failures;
mod interrupts;
mod leases;

mod pool;
mod quota;
mod threads;

mod orders;

use std::{
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use sandbox_host::{
    engine::{Engine, UNLIMITED_FUEL},
    error::{HostTrap, Trap, TrapCode},
    executor::{
        Begin, Call, CallId, Context, Finished, Outcome, Port, SpinBudget, exchange::Exchange, lease::Lease,
        pool::ThreadQuota,
    },
    interrupt::Interrupt,
    module::Module,
    realm::{Realm, Slots},
    value::ExternType,
};

use crate::guest::{Guest, imports};

/// A message from a guest's thread.
struct Told {
    call: CallId,
    on: ThreadId,
    what: What,
}

enum What {
    Asked,
    Done(Finished),
}

/// A port that reports to the thread at the other end of the channel.
struct ToThread(Sender<Told>);

impl ToThread {
    fn tell(&self, call: CallId, what: What) -> bool {
        self.0.send(Told { call, on: thread::current().id(), what }).is_ok()
    }
}

impl Port for ToThread {
    fn asked(&self, call: CallId) -> bool {
        self.tell(call, What::Asked)
    }

    fn done(&self, call: CallId, finished: Finished) {
        self.tell(call, What::Done(finished));
    }
}

/// A port that calls a function when a guest asks.
struct Asking<F>(F, ToThread);

impl<F: Fn() -> bool + Send + Sync> Port for Asking<F> {
    fn asked(&self, _: CallId) -> bool {
        (self.0)()
    }

    fn done(&self, call: CallId, finished: Finished) {
        self.1.done(call, finished);
    }
}

/// A call that is not over.
struct Pending {
    id: CallId,
    exchange: Arc<Exchange>,
    interrupt: Arc<Interrupt>,
}

impl Pending {
    /// The argument of the guest's host call.
    fn argument(&self) -> u64 {
        self.exchange.hold().asked().expect("it has asked").slots[0]
    }

    fn answer(&self, result: u64) {
        let mut held = self.exchange.hold();
        held.asked().expect("it has asked").slots[0] = result;
        held.answer(None);
    }

    fn fail(&self, failure: HostTrap) {
        self.exchange.hold().answer(Some(failure));
    }
}

/// How a call into a guest has ended.
struct Ended {
    on: ThreadId,
    /// The first result, or 0 if there is none.
    result: Result<u64, Box<Trap>>,
}

impl Ended {
    fn trap(self) -> TrapCode {
        self.result.expect_err("it traps").code
    }
}

/// A guest that takes longer than this is stuck.
const LONG: Duration = Duration::from_secs(120);

/// The test's thread in the place of the JavaScript thread.
struct Supervisor {
    context: Arc<Context>,
    told: Receiver<Told>,
    last: CallId,
}

impl Supervisor {
    fn new() -> Self {
        Self::with_port(|port| port)
    }

    fn with_port<P: Port + 'static>(port: impl FnOnce(ToThread) -> P) -> Self {
        let (tells, told) = channel();
        let context = Context { port: Arc::new(port(ToThread(tells))), spin_budget: SpinBudget::default() };
        Self { context: Arc::new(context), told, last: 0 }
    }

    fn begin<E: Engine>(
        &mut self,
        realm: &Rc<Realm<E>>,
        quota: &Arc<ThreadQuota>,
        interrupt: Arc<Interrupt>,
        slots: Slots,
        begin: Begin<E>,
    ) -> Pending {
        self.last += 1;
        let pending = Pending { id: self.last, exchange: Arc::default(), interrupt };
        let Pending { id, exchange, interrupt } = &pending;
        let lease = Lease::new(realm.clone());
        let (context, quota) = (self.context.clone(), quota.clone());
        let (exchange, interrupt) = (exchange.clone(), interrupt.clone());
        let call = Call::new(*id, context, quota, exchange, interrupt, lease, slots, UNLIMITED_FUEL, begin);
        call.submit();
        pending
    }

    fn call_until<E: Engine>(
        &mut self,
        guest: &Guest<E>,
        name: &str,
        arguments: &[u64],
        quota: &Arc<ThreadQuota>,
        interrupt: Arc<Interrupt>,
    ) -> Pending {
        let export = guest.export(name);
        let ExternType::Func(ty) = &guest.module.exports[export as usize].ty else { panic!("{name} is no function") };
        let mut slots = Slots::new(ty.slots());
        slots[..arguments.len()].copy_from_slice(arguments);
        self.begin(&guest.realm, quota, interrupt, slots, Begin::Call { instance: guest.index, export })
    }

    fn call<E: Engine>(
        &mut self,
        guest: &Guest<E>,
        name: &str,
        arguments: &[u64],
        quota: &Arc<ThreadQuota>,
    ) -> Pending {
        self.call_until(guest, name, arguments, quota, Interrupt::new())
    }

    fn instantiate<E: Engine>(&mut self, realm: &Rc<Realm<E>>, module: &Arc<Module<E>>) -> Pending {
        let begin = Begin::Instantiate { module: module.clone(), carried: None, imports: imports(module, &[]) };
        self.begin(realm, &ThreadQuota::new(1), Interrupt::new(), Slots::new(0), begin)
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(LONG).expect("a guest is stuck")
    }

    /// Waits until a guest has asked.
    fn asked(&self) -> CallId {
        match self.next() {
            Told { call, what: What::Asked, .. } => call,
            Told { call, .. } => panic!("call {call} is over"),
        }
    }

    /// Waits until a call is over.
    fn finished(&self) -> (CallId, ThreadId, Finished) {
        match self.next() {
            Told { call, on, what: What::Done(finished) } => (call, on, finished),
            Told { call, .. } => panic!("call {call} asks"),
        }
    }

    /// Waits until that call into a guest is over.
    fn ended(&self, pending: &Pending) -> Ended {
        let (call, on, finished) = self.finished();
        assert_eq!(call, pending.id);
        Ended { on, result: result_of(finished) }
    }
}

fn result_of(finished: Finished) -> Result<u64, Box<Trap>> {
    match finished.outcome {
        Outcome::Returned(outcome) => outcome.map(|()| finished.slots.first().copied().unwrap_or(0)),
        Outcome::Instantiated(..) | Outcome::NotInstantiated(_) => panic!("it was a call into a guest"),
        Outcome::NoThread(_) => panic!("the system has threads"),
    }
}

/// Returns when a guest that has asked and runs on the only thread of `quota` has left that thread. Where the engine's guests
/// stay on their threads, it returns after a while, in which the guest may have gone to sleep.
fn until_it_waits<E: Engine>(engine: &Arc<E>, quota: &Arc<ThreadQuota>) {
    let guest = Guest::new(engine, r#"(module (func (export "f")))"#);
    let mut supervisor = Supervisor::new();
    let (calls, quota) = if E::SUSPENDS { (1, quota.clone()) } else { (50, ThreadQuota::new(1)) };
    for _ in 0..calls {
        let pending = supervisor.call(&guest, "f", &[], &quota);
        supervisor.ended(&pending).result.expect("no trap");
    }
}

/// Runs a test twice: with answers that come as soon as possible, and with answers that come when the guest already waits.
fn at_once_and_late<E: Engine>(engine: &Arc<E>, test: impl Fn(&Arc<ThreadQuota>, &dyn Fn())) {
    for is_late in [false, true] {
        let quota = ThreadQuota::new(1);
        test(&quota, &|| {
            if is_late {
                until_it_waits(engine, &quota);
            }
        });
    }
}

const ASKS: &str = r#"(module (import "e" "f" (func $f (param i64) (result i64)))
    (memory (export "memory") 1 4) (global $n (export "n") (mut i64) (i64.const 0))
    (type $t (func (param i64) (result i64))) (table 1 funcref) (elem (i32.const 0) $f)
    (func (export "nothing"))
    (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
    (func (export "ask") (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1)))
    (func (export "ask last") (param i64) (result i64) (call $f (local.get 0)))
    (func (export "ask through a table") (param i64) (result i64)
        (i64.add (call_indirect (type $t) (local.get 0) (i32.const 0)) (i64.const 1)))
    (func (export "sum") (param i64) (result i64) (local $sum i64)
        (loop $l
            (local.set $sum (i64.add (local.get $sum) (call $f (local.get 0))))
            (br_if $l (i64.ne (i64.const 0) (local.tee 0 (i64.sub (local.get 0) (i64.const 1))))))
        (local.get $sum))
    (func (export "ask and trap") (drop (call $f (i64.const 0))) unreachable)
    (func (export "ask and run on") (drop (call $f (i64.const 0))) (loop $l (br $l)))
    (func (export "ask and look") (result i64) (drop (call $f (i64.const 0)))
        (i64.add (i64.load8_u (i32.const 8)) (i64.add (global.get $n) (i64.extend_i32_u (memory.size)))))
    (func (export "add to n") (param i64) (global.set $n (i64.add (global.get $n) (local.get 0))))
    (export "f" (func $f)))"#;

/// A guest asks with 5 and gets 40.
fn assert_asks<E: Engine>(engine: &Arc<E>, guest: &Guest<E>, name: &str, expected: u64) {
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(guest, name, &[5], quota);
        assert_eq!(supervisor.asked(), pending.id);
        until_it_waits();
        assert_eq!(pending.argument(), 5);
        pending.answer(40);
        assert_eq!(supervisor.ended(&pending).result.expect("no trap"), expected);
    });
}
