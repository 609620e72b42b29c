//! Asynchronous calls without JavaScript: guests on threads of the pool, and this thread in the place of the JavaScript thread.

use std::{
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use proptest::prelude::*;
use sandbox_host::{
    engine::{Engine, EngineConfig, UNLIMITED_FUEL, wasmer::Wasmer, wasmi::Wasmi},
    error::{HostTrap, InstantiateError, Trap, TrapCode},
    executor::{
        Begin, Call, CallId, Context, Finished, Outcome, Port, SpinBudget,
        exchange::Exchange,
        lease::Lease,
        pool::{self, NoThread, Pool, ThreadQuota, Ticket},
    },
    interrupt::Interrupt,
    module::Module,
    realm::{Realm, Slots},
    value::ExternType,
};

use crate::guest::{Guest, compile, contents, engine, engine_with, imports};

on_both_engines![
    a_call_runs_on_another_thread_and_gives_its_results,
    a_guest_that_asks_gets_the_answer,
    a_guest_may_ask_again_and_again,
    a_global_goes_to_the_supervisor_and_comes_back,
    a_guest_may_ask_last_of_all,
    an_import_that_is_exported_can_be_called,
    an_import_can_be_called_through_a_table,
    the_high_bits_of_a_small_result_do_not_matter,
    a_guest_that_waits_holds_its_thread_only_if_its_engine_must,
    a_failure_ends_the_guest,
    a_guest_that_has_left_needs_no_thread_to_end,
    a_trap_of_the_guest_is_that_trap,
    an_interrupt_ends_a_guest_that_waits,
    an_interrupt_ends_a_guest_that_comes_back_with_an_answer,
    an_interrupt_ends_a_guest_that_computes,
    a_call_that_is_to_stop_does_not_begin,
    a_guest_that_nobody_will_answer_is_interrupted,
    a_panic_of_the_port_stops_at_the_seam,
    a_guest_that_cannot_be_interrupted_waits_alike,
    the_store_of_a_guest_that_waits_can_be_used,
    a_start_function_may_ask,
    a_start_function_may_fail,
    a_module_that_does_not_link_is_refused,
    a_lease_comes_back_with_the_results,
    the_last_lease_may_be_dropped_on_a_thread_of_the_pool,
    guests_that_are_answered_in_any_order_all_end,
];

on_both_engines_alone![
    many_guests_that_wait_hold_few_threads_unless_their_engine_must,
    more_guests_than_cores_compute_at_once,
];

/// What a guest's thread tells.
struct Told {
    call: CallId,
    on: ThreadId,
    what: What,
}

enum What {
    Asked,
    Done(Finished),
}

/// A port to the thread that has the other end of the channel.
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

/// A port whose `asked` is the function.
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
    /// What the guest has asked.
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

/// When a guest takes so long, it is stuck.
const LONG: Duration = Duration::from_secs(120);

/// This thread's side of a port.
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

/// Returns when a guest that has asked, and has the one thread of `quota`, has left that thread. Where the engine's guests
/// stay on their threads, it returns after a while in which that guest may have gone to sleep.
fn until_it_waits<E: Engine>(engine: &Arc<E>, quota: &Arc<ThreadQuota>) {
    let guest = Guest::new(engine, r#"(module (func (export "f")))"#);
    let mut supervisor = Supervisor::new();
    let (calls, quota) = if E::SUSPENDS { (1, quota.clone()) } else { (50, ThreadQuota::new(1)) };
    for _ in 0..calls {
        let pending = supervisor.call(&guest, "f", &[], &quota);
        supervisor.ended(&pending).result.expect("no trap");
    }
}

/// Runs a test twice: with answers that come as soon as they can, and with answers that come when the guest waits for them.
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

fn a_call_runs_on_another_thread_and_gives_its_results<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "add", &[3, 4], &ThreadQuota::new(1));
    let ended = supervisor.ended(&pending);
    assert_eq!(ended.result.expect("no trap"), 7);
    assert_ne!(ended.on, thread::current().id());
}

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

fn a_guest_that_asks_gets_the_answer<E: Engine>(engine: &Arc<E>) {
    assert_asks(engine, &Guest::new(engine, ASKS), "ask", 41);
}

fn a_guest_may_ask_last_of_all<E: Engine>(engine: &Arc<E>) {
    assert_asks(engine, &Guest::new(engine, ASKS), "ask last", 40);
}

fn an_import_that_is_exported_can_be_called<E: Engine>(engine: &Arc<E>) {
    assert_asks(engine, &Guest::new(engine, ASKS), "f", 40);
}

fn an_import_can_be_called_through_a_table<E: Engine>(engine: &Arc<E>) {
    assert_asks(engine, &Guest::new(engine, ASKS), "ask through a table", 41);
}

/// wasmer has no tail calls.
#[test]
fn a_guest_on_wasmi_may_ask_by_a_tail_call() {
    let engine = engine::<Wasmi>();
    let wat = r#"(module (import "e" "f" (func $f (param i64) (result i64)))
        (func $g (export "ask") (param i64) (result i64) (return_call $f (local.get 0)))
        (func (export "ask in another") (param i64) (result i64) (i64.add (call $g (local.get 0)) (i64.const 1))))"#;
    let guest = Guest::new(&engine, wat);
    assert_asks(&engine, &guest, "ask", 40);
    assert_asks(&engine, &guest, "ask in another", 41);
}

fn the_high_bits_of_a_small_result_do_not_matter<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
        (func (export "ask") (param i32) (result i64) (i64.extend_i32_u (call $f (local.get 0)))))"#;
    let guest = Guest::new(engine, wat);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask", &[5], quota);
        supervisor.asked();
        until_it_waits();
        pending.answer(u64::MAX);
        assert_eq!(supervisor.ended(&pending).result.expect("no trap"), u64::from(u32::MAX));
    });
}

fn a_guest_may_ask_again_and_again<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let quota = ThreadQuota::new(1);
    let pending = supervisor.call(&guest, "sum", &[200], &quota);
    for asked in (1..=200).rev() {
        supervisor.asked();
        // Some wait, most do not.
        if asked % 20 == 0 {
            until_it_waits(engine, &quota);
        }
        assert_eq!(pending.argument(), asked);
        pending.answer(asked * 10);
    }
    assert_eq!(supervisor.ended(&pending).result.expect("no trap"), 201_000);
}

fn a_global_goes_to_the_supervisor_and_comes_back<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (import "e" "f" (func $f)) (global $counter (export "counter") (mut i64) (i64.const 100))
        (func (export "run") (result i64) (call $f) (global.get $counter)))"#;
    at_once_and_late(engine, |quota, until_it_waits| {
        let guest = Guest::linked(&Realm::new(engine), Some("counter"), wat, &[]);
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "run", &[], quota);
        supervisor.asked();
        until_it_waits();
        let mut held = pending.exchange.hold();
        let asked = held.asked().expect("it has asked");
        assert_eq!((asked.carried.replace(-7), asked.site.import), (Some(100), 0));
        held.answer(None);
        assert_eq!(supervisor.ended(&pending).result.expect("no trap") as i64, -7);
        assert_eq!(guest.global("counter") as i64, -7);
    });
}

fn a_guest_that_waits_holds_its_thread_only_if_its_engine_must<E: Engine>(engine: &Arc<E>) {
    let (waits, other) = (Guest::new(engine, ASKS), Guest::new(engine, ASKS));
    let mut supervisor = Supervisor::new();
    let quota = ThreadQuota::new(1);
    let first = supervisor.call(&waits, "ask", &[5], &quota);
    supervisor.asked();
    let second = supervisor.call(&other, "nothing", &[], &quota);
    let end_first = |supervisor: &Supervisor| {
        first.answer(40);
        assert_eq!(supervisor.ended(&first).result.expect("no trap"), 41);
    };
    if E::SUSPENDS {
        supervisor.ended(&second).result.expect("no trap");
        end_first(&supervisor);
    } else {
        until_it_waits(engine, &quota);
        end_first(&supervisor);
        supervisor.ended(&second).result.expect("no trap");
    }
}

fn many_guests_that_wait_hold_few_threads_unless_their_engine_must<E: Engine>(engine: &Arc<E>) {
    const GUESTS: usize = 50;
    let module = compile(&**engine, ASKS);
    let mut supervisor = Supervisor::new();
    let quota = ThreadQuota::new(if E::SUSPENDS { 1 } else { GUESTS });
    let mut waiting = Vec::new();
    for _ in 0..GUESTS {
        let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
        let pending = supervisor.call(&guest, "ask", &[5], &quota);
        supervisor.asked();
        if E::SUSPENDS {
            until_it_waits(engine, &quota);
        }
        waiting.push((guest, pending));
    }
    let threads = Pool::get().thread_count();
    assert_eq!(threads >= GUESTS, !E::SUSPENDS, "{threads} threads");
    for (guest, pending) in waiting.into_iter().rev() {
        pending.answer(u64::from(pending.id));
        assert_eq!(supervisor.ended(&pending).result.expect("no trap"), u64::from(pending.id) + 1);
        drop(guest);
    }
}

fn more_guests_than_cores_compute_at_once<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, ASKS);
    let mut supervisor = Supervisor::new();
    let quota = ThreadQuota::new(100);
    let count = thread::available_parallelism().map_or(1, usize::from) + 3;
    let guests: Vec<_> = (0..=count).map(|_| Guest::of(&Realm::new(engine), &module, None, &[])).collect();
    let (last, endless) = guests.split_last().expect("there is one");
    let pending: Vec<_> = endless.iter().map(|guest| supervisor.call(guest, "ask and run on", &[], &quota)).collect();
    for _ in endless {
        let asked = supervisor.asked();
        pending.iter().find(|pending| pending.id == asked).expect("one of these").answer(0);
    }
    let short = supervisor.call(last, "add", &[3, 4], &quota);
    assert_eq!(supervisor.ended(&short).result.expect("no trap"), 7);
    for pending in &pending {
        pending.interrupt.set();
        assert_eq!(supervisor.ended(pending).trap(), TrapCode::Interrupted);
    }
}

fn a_failure_ends_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    for (name, asks) in [("ask", 1), ("sum", 3)] {
        at_once_and_late(engine, |quota, until_it_waits| {
            let mut supervisor = Supervisor::new();
            let pending = supervisor.call(&guest, name, &[3], quota);
            for _ in 1..asks {
                supervisor.asked();
                until_it_waits();
                pending.answer(1);
            }
            supervisor.asked();
            until_it_waits();
            pending.fail(HostTrap::Message("no".into()));
            let trap = supervisor.ended(&pending).result.expect_err("it traps");
            assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, "no"));
            guest.call("nothing", &[]).expect("still usable");
        });
    }
}

fn a_guest_that_has_left_needs_no_thread_to_end<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let quota = ThreadQuota::new(1);
    let pending = supervisor.call(&guest, "ask", &[5], &quota);
    supervisor.asked();
    until_it_waits(engine, &quota);
    pending.fail(HostTrap::Parked);
    let ended = supervisor.ended(&pending);
    assert_eq!(ended.on == thread::current().id(), E::SUSPENDS);
    assert_eq!(ended.trap(), TrapCode::Supervisor);
}

fn a_trap_of_the_guest_is_that_trap<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask and trap", &[], quota);
        supervisor.asked();
        until_it_waits();
        pending.answer(0);
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Unreachable);
        guest.call("nothing", &[]).expect("still usable");
    });
}

fn an_interrupt_ends_a_guest_that_waits<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let (tells, told) = channel();
        let tell = move || tells.send(thread::current().id()).expect("this thread is there");
        let pending = supervisor.call_until(&guest, "ask", &[5], quota, Interrupt::telling(tell));
        supervisor.asked();
        until_it_waits();
        let other = pending.interrupt.clone();
        let setter = thread::spawn(move || other.set());
        // Nothing but this tells the thread that is to end the guest.
        assert_eq!(told.recv_timeout(LONG).expect("it is told"), setter.thread().id());
        pending.fail(HostTrap::Interrupted);
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
        setter.join().expect("it does not panic");
        guest.call("nothing", &[]).expect("still usable");
    });
}

fn an_interrupt_ends_a_guest_that_comes_back_with_an_answer<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask", &[5], quota);
        supervisor.asked();
        until_it_waits();
        pending.interrupt.set();
        pending.answer(40);
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
    });
}

fn an_interrupt_ends_a_guest_that_computes<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask and run on", &[], quota);
        supervisor.asked();
        until_it_waits();
        pending.answer(0);
        pending.interrupt.set();
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
        guest.call("nothing", &[]).expect("still usable");
    });
}

fn a_call_that_is_to_stop_does_not_begin<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let interrupt = Interrupt::new();
    interrupt.set();
    let pending = supervisor.call_until(&guest, "add to n", &[5], &ThreadQuota::new(1), interrupt);
    assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
    assert_eq!(guest.global("n"), 0);
}

fn a_guest_that_nobody_will_answer_is_interrupted<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::with_port(|port| Asking(|| false, port));
    let pending = supervisor.call(&guest, "ask", &[5], &ThreadQuota::new(1));
    assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
}

fn a_panic_of_the_port_stops_at_the_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::with_port(|port| Asking(|| panic!("a test's panic"), port));
    let quota = ThreadQuota::new(1);
    let pending = supervisor.call(&guest, "ask", &[5], &quota);
    let trap = supervisor.ended(&pending).result.expect_err("it traps");
    assert_eq!(trap.code, TrapCode::Internal);
    assert!(trap.message.contains("a test's panic"), "{trap}");
    // The quota has its thread back, which runs the next call.
    let pending = supervisor.call(&guest, "add", &[3, 4], &quota);
    assert_eq!(supervisor.ended(&pending).result.expect("no trap"), 7);
}

fn a_guest_that_cannot_be_interrupted_waits_alike<E: Engine>(_: &Arc<E>) {
    let engine = &engine_with::<E>(&EngineConfig::default());
    let guest = Guest::new(engine, ASKS);
    assert_asks(engine, &guest, "ask", 41);
    assert_asks(engine, &guest, "f", 40);
    an_interrupt_ends_a_guest_that_waits(engine);
    an_interrupt_ends_a_guest_that_comes_back_with_an_answer(engine);
}

fn the_store_of_a_guest_that_waits_can_be_used<E: Engine>(engine: &Arc<E>) {
    at_once_and_late(engine, |quota, until_it_waits| {
        let guest = Guest::new(engine, ASKS);
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask and look", &[], quota);
        supervisor.asked();
        until_it_waits();
        let memory = {
            let _held = pending.exchange.hold();
            guest.memory("memory")
        };
        // Held again and again, and in use whenever it is.
        for round in 1..=3 {
            let _held = pending.exchange.hold();
            guest.call("add to n", &[10]).expect("no trap");
            assert_eq!(guest.global("n"), round * 10);
            let nested = guest.call_with("ask", &[round], |call| {
                guest.call("add to n", &[0]).expect("no trap");
                call.slots[0] *= 2;
                Ok(())
            });
            assert_eq!(nested.expect("no trap"), [round * 2 + 1]);
            assert_eq!(guest.trap("ask", &[0]), TrapCode::Supervisor);
            guest.realm.memory_write(memory, 8, &[round as u8]).expect("in bounds");
            assert_eq!(guest.realm.memory_grow(memory, 1).expect("it grows"), round);
        }
        pending.answer(0);
        assert_eq!(supervisor.ended(&pending).result.expect("no trap"), 3 + 30 + 4);
        assert_eq!(contents(&guest.realm, memory)[8], 3);
    });
}

const STARTS: &str = r#"(module (import "e" "f" (func $f (param i64) (result i64)))
    (global $n (export "n") (mut i64) (i64.const 0))
    (func $start (global.set $n (call $f (i64.const 5)))) (start $start))"#;

fn a_start_function_may_ask<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    for _ in 0..20 {
        let realm = Realm::new(engine);
        let mut supervisor = Supervisor::new();
        let pending = supervisor.instantiate(&realm, &module);
        supervisor.asked();
        assert_eq!(pending.argument(), 5);
        pending.answer(40);
        let (_, _, finished) = supervisor.finished();
        let Outcome::Instantiated(index, Ok(())) = finished.outcome else { panic!("it was made") };
        drop(finished.lease);
        let guest = Guest { realm, module: module.clone(), index };
        assert_eq!(guest.global("n"), 40);
    }
}

fn a_start_function_may_fail<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    let realm = Realm::new(engine);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.instantiate(&realm, &module);
    supervisor.asked();
    pending.fail(HostTrap::Parked);
    let (_, _, finished) = supervisor.finished();
    let Outcome::Instantiated(_, Err(trap)) = finished.outcome else { panic!("its start function failed") };
    assert_eq!(trap.code, TrapCode::Supervisor);
}

fn a_module_that_does_not_link_is_refused<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    let realm = Realm::new(engine);
    let mut supervisor = Supervisor::new();
    let begin = Begin::Instantiate { module, carried: None, imports: Vec::new() };
    supervisor.begin(&realm, &ThreadQuota::new(1), Interrupt::new(), Slots::new(0), begin);
    let (_, _, finished) = supervisor.finished();
    assert!(matches!(finished.outcome, Outcome::NotInstantiated(InstantiateError::Link(_))));
}

fn a_lease_comes_back_with_the_results<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "ask", &[5], &ThreadQuota::new(1));
    assert_eq!(Rc::strong_count(&guest.realm), 2);
    supervisor.asked();
    pending.answer(40);
    let (_, _, finished) = supervisor.finished();
    assert_eq!(Rc::strong_count(&guest.realm), 2);
    drop(finished);
    assert_eq!(Rc::strong_count(&guest.realm), 1);
}

/// A port to a thread that takes nothing back any more.
struct Dropping(ToThread, Sender<ThreadId>);

impl Port for Dropping {
    fn asked(&self, call: CallId) -> bool {
        self.0.asked(call)
    }

    fn done(&self, _: CallId, finished: Finished) {
        drop(finished);
        self.1.send(thread::current().id()).expect("the test waits for it");
    }
}

fn the_last_lease_may_be_dropped_on_a_thread_of_the_pool<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
        let (tells, dropped) = channel();
        let mut supervisor = Supervisor::with_port(|port| Dropping(port, tells));
        let pending = supervisor.call(&guest, "ask", &[5], quota);
        supervisor.asked();
        until_it_waits();
        let realm = Rc::downgrade(&guest.realm);
        drop(guest);
        assert_eq!(realm.strong_count(), 1);
        pending.answer(40);
        assert_ne!(dropped.recv_timeout(LONG).expect("the call ends"), thread::current().id());
        assert_eq!(realm.strong_count(), 0);
    });
}

/// What is done with a guest that has asked.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Answer(u32),
    UseItsStore(u32),
    Fail,
    Stop,
}

fn replies() -> impl Strategy<Value = Vec<(usize, bool, Reply)>> {
    let reply = prop_oneof![
        8 => any::<u32>().prop_map(Reply::Answer),
        4 => any::<u32>().prop_map(Reply::UseItsStore),
        1 => Just(Reply::Fail),
        1 => Just(Reply::Stop),
    ];
    prop::collection::vec((any::<usize>(), any::<bool>(), reply), 0..60)
}

/// A guest and what is known of it.
struct Known<E: Engine> {
    guest: Guest<E>,
    pending: Pending,
    /// How often it will ask.
    asks: u64,
    sum: u64,
    n: u64,
    /// The trap that it is to end with.
    trap: Option<TrapCode>,
}

fn guests_that_are_answered_in_any_order_all_end<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, ASKS);
    let asks = prop::collection::vec(1..5_u64, 1..10);
    proptest!(ProptestConfig::with_cases(100), |(asks in asks, threads in 1..5_usize, replies in replies())| {
        let mut supervisor = Supervisor::new();
        let quota = ThreadQuota::new(threads);
        let mut guests: Vec<Known<E>> = Vec::new();
        for asks in asks {
            let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
            let pending = supervisor.call(&guest, "sum", &[asks], &quota);
            guests.push(Known { guest, pending, asks, sum: 0, n: 0, trap: None });
        }
        let mut replies = replies.into_iter();
        let mut waiting: Vec<CallId> = Vec::new();
        let mut left = guests.len();
        while left > 0 {
            // Where guests hold their threads, others are not heard of.
            let running = if E::SUSPENDS { left } else { left.min(threads) } - waiting.len();
            let (which, is_patient, reply) = replies.next().unwrap_or((0, true, Reply::Answer(1)));
            if running > 0 && (is_patient || waiting.is_empty()) {
                let Told { call, what, .. } = supervisor.next();
                match what {
                    What::Asked => waiting.push(call),
                    What::Done(finished) => {
                        let known = &guests[call as usize - 1];
                        let expected = known.trap.map_or(Ok(known.sum), Err);
                        prop_assert_eq!(result_of(finished).map_err(|trap| trap.code), expected);
                        prop_assert_eq!(known.guest.global("n"), known.n);
                        left -= 1;
                    }
                }
                continue;
            }
            let place = which % waiting.len();
            let known = &mut guests[waiting[place] as usize - 1];
            match reply {
                Reply::Answer(result) => {
                    prop_assert_eq!(known.pending.argument(), known.asks);
                    known.asks -= 1;
                    known.sum += u64::from(result);
                    known.pending.answer(result.into());
                }
                Reply::UseItsStore(more) => {
                    let _held = known.pending.exchange.hold();
                    known.n += u64::from(more);
                    known.guest.call("add to n", &[more.into()]).expect("no trap");
                    continue;
                }
                Reply::Fail => {
                    known.trap = Some(TrapCode::Supervisor);
                    known.pending.fail(HostTrap::Parked);
                }
                Reply::Stop => {
                    known.trap = Some(TrapCode::Interrupted);
                    known.pending.interrupt.set();
                    known.pending.fail(HostTrap::Interrupted);
                }
            }
            waiting.swap_remove(place);
        }
    });
}

// What follows needs no engine.

#[test]
fn a_budget_of_one_thread_does_its_tasks_one_after_another() {
    for most in [1, 0] {
        let quota = ThreadQuota::new(most);
        let running = Arc::new(AtomicU32::new(0));
        let (tells, told) = channel();
        for number in 0..100 {
            let (running, tells) = (running.clone(), tells.clone());
            let task = move |_| {
                let others = running.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                let _ = tells.send((number, others));
            };
            quota.submit(Box::new(task));
        }
        for number in 0..100 {
            assert_eq!(told.recv_timeout(LONG).expect("the task is done"), (number, 0));
        }
    }
}

#[test]
fn as_many_tasks_run_at_once_as_their_budget_has_threads() {
    const THREADS: usize = 3;
    let quota = ThreadQuota::new(THREADS);
    let running = Arc::new(AtomicU32::new(0));
    // None goes on until so many run.
    let barrier = Arc::new(Barrier::new(THREADS));
    let (tells, told) = channel();
    for _ in 0..10 * THREADS {
        let (running, barrier, tells) = (running.clone(), barrier.clone(), tells.clone());
        let task = move |_| {
            let count = running.fetch_add(1, Ordering::SeqCst) + 1;
            barrier.wait();
            running.fetch_sub(1, Ordering::SeqCst);
            let _ = tells.send(count);
        };
        quota.submit(Box::new(task));
    }
    for _ in 0..10 * THREADS {
        assert!(told.recv_timeout(LONG).expect("the task is done") <= THREADS as u32);
    }
}

#[test]
fn a_task_may_submit_another_to_its_budget() {
    let quota = ThreadQuota::new(1);
    let (tells, told) = channel();
    let inner = quota.clone();
    let task = move |_| {
        let task = move |_| tells.send(()).expect("the test waits for it");
        inner.submit(Box::new(task));
    };
    quota.submit(Box::new(task));
    told.recv_timeout(LONG).expect("the task is done");
}

/// A pool of its own, with so many cores, whose threads the function starts.
fn pool(cores: usize, start: fn(Box<dyn FnOnce() + Send>) -> bool) -> &'static Pool {
    Box::leak(Box::new(Pool::new(cores, start)))
}

fn start_thread(run: Box<dyn FnOnce() + Send>) -> bool {
    thread::Builder::new().spawn(run).is_ok()
}

fn submit(quota: &Arc<ThreadQuota>, task: impl FnOnce(Result<(), NoThread>) + Send + 'static) {
    quota.submit(Box::new(task));
}

/// Submits a task that tells `tells` how it was called.
fn submit_telling(quota: &Arc<ThreadQuota>, tells: &Sender<Result<(), NoThread>>) {
    let tells = tells.clone();
    submit(quota, move |thread| tells.send(thread).expect("the test waits for it"));
}

#[test]
fn a_pool_has_no_more_threads_than_the_budget_that_uses_it() {
    const THREADS: usize = 4;
    let pool = pool(2, start_thread);
    let quota = ThreadQuota::of(pool, THREADS);
    let (tells, told) = channel();
    for _ in 0..2000 {
        let tells = tells.clone();
        submit(&quota, move |_| tells.send(pool.thread_count()).expect("the test waits for it"));
    }
    for _ in 0..2000 {
        assert!(told.recv_timeout(LONG).expect("the task is done") <= THREADS);
    }
}

#[test]
fn tasks_that_end_soon_need_no_more_threads_than_cores_and_one_that_looks_after_the_queue() {
    const CORES: usize = 3;
    let pool = pool(CORES, start_thread);
    let quota = ThreadQuota::of(pool, 1024);
    let (tells, told) = channel();
    for _ in 0..20_000 {
        submit_telling(&quota, &tells);
    }
    for _ in 0..20_000 {
        told.recv_timeout(LONG).expect("the task is done").expect("on a thread");
    }
    // Another one for a thread from which the system has taken its core for long.
    assert!(pool.thread_count() <= CORES + 2, "{}", pool.thread_count());
}

#[test]
fn tasks_that_never_end_keep_no_other_from_its_turn() {
    let pool = pool(1, start_thread);
    let quota = ThreadQuota::of(pool, 1024);
    let (ends, end) = channel::<()>();
    let end = Arc::new(Mutex::new(end));
    for _ in 0..100 {
        let end = end.clone();
        submit(&quota, move |_| drop(end.lock().map(|end| end.recv())));
    }
    let (tells, told) = channel();
    submit_telling(&quota, &tells);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    drop(ends);
}

#[test]
fn the_first_thread_that_is_refused_refuses_the_task_and_the_next_task_tries_again() {
    static GIVES_THREADS: AtomicBool = AtomicBool::new(false);
    let pool = pool(2, |run| GIVES_THREADS.load(Ordering::SeqCst) && start_thread(run));
    let quota = ThreadQuota::of(pool, 1);
    let (tells, told) = channel();
    for _ in 0..3 {
        submit_telling(&quota, &tells);
        assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    }
    assert_eq!(pool.thread_count(), 0);
    GIVES_THREADS.store(true, Ordering::SeqCst);
    submit_telling(&quota, &tells);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
}

/// Starts the first thread, and no other.
macro_rules! start_one_thread {
    () => {
        |run| {
            static IS_STARTED: AtomicBool = AtomicBool::new(false);
            !IS_STARTED.swap(true, Ordering::SeqCst) && start_thread(run)
        }
    };
}

#[test]
fn one_thread_does_all_tasks_where_the_system_gives_no_second_one() {
    let pool = pool(4, start_one_thread!());
    let quota = ThreadQuota::of(pool, 8);
    let (tells, told) = channel();
    for _ in 0..1000 {
        submit_telling(&quota, &tells);
    }
    for _ in 0..1000 {
        assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    }
    assert_eq!(pool.thread_count(), 1);
}

#[test]
fn tasks_behind_a_guest_that_waits_are_refused_where_the_system_gives_no_other_thread() {
    let pool = pool(4, start_one_thread!());
    let (parks, park) = channel::<()>();
    let (wakes, wake) = channel::<()>();
    let (has_parked, parked) = channel();
    let (tells, told) = channel();
    let other = ThreadQuota::of(pool, 8);
    submit(&ThreadQuota::of(pool, 1), move |_| {
        park.recv().expect("the test says when");
        pool::parked(|| {
            has_parked.send(()).expect("the test waits for it");
            wake.recv().expect("the test says when");
        });
    });
    submit_telling(&other, &tells);
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "the thread computes, and will come to it");
    parks.send(()).expect("the task waits for it");
    assert_eq!(
        told.recv_timeout(LONG),
        Ok(Err(NoThread::NotStarted)),
        "it might never come, because the answer may depend on this task"
    );
    parked.recv_timeout(LONG).expect("it waits for its supervisor");
    submit_telling(&other, &tells);
    assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    wakes.send(()).expect("the task waits for it");
    // The thread is free, at the latest after a while, and runs tasks again.
    loop {
        submit_telling(&other, &tells);
        if told.recv_timeout(LONG).expect("it is called") == Ok(()) {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn a_budget_whose_tasks_are_refused_has_all_its_threads_afterwards() {
    static GIVES_THREADS: AtomicBool = AtomicBool::new(false);
    let pool = pool(2, |run| GIVES_THREADS.load(Ordering::SeqCst) && start_thread(run));
    let quota = ThreadQuota::of(pool, 2);
    let (tells, told) = channel();
    for _ in 0..10 {
        submit_telling(&quota, &tells);
        assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    }
    GIVES_THREADS.store(true, Ordering::SeqCst);
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..2 {
        let barrier = barrier.clone();
        submit(&quota, move |_| {
            barrier.wait();
        });
    }
    barrier.wait();
}

#[test]
fn a_task_that_panics_costs_neither_its_thread_nor_the_tasks_behind_it() {
    let pool = pool(1, start_thread);
    let quota = ThreadQuota::of(pool, 1);
    let (tells, told) = channel();
    for _ in 0..10 {
        submit(&quota, |_| panic!("a test's panic"));
        submit_telling(&quota, &tells);
    }
    for _ in 0..10 {
        assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    }
    assert_eq!(pool.thread_count(), 1);
}

#[test]
fn a_task_that_is_cancelled_before_it_has_begun_does_not_run() {
    let ticket = Ticket::new(Box::new(|_| panic!("it is cancelled")));
    assert!(ticket.cancel());
    ticket.run(Ok(()));
    assert!(!ticket.cancel());
}

#[test]
fn a_guest_that_is_to_go_on_where_there_is_no_thread_ends_and_gives_back_its_realm() {
    let engine = engine::<Wasmi>();
    let guest = Guest::new(&engine, ASKS);
    let pool = pool(1, start_one_thread!());
    let quota = ThreadQuota::of(pool, 2);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "ask", &[5], &quota);
    supervisor.asked();
    until_it_waits(&engine, &quota);
    let (wakes, wake) = channel::<()>();
    let (has_parked, parked) = channel();
    submit(&quota, move |_| {
        pool::parked(|| {
            has_parked.send(()).expect("the test waits for it");
            wake.recv().expect("the test says when");
        });
    });
    parked.recv_timeout(LONG).expect("it has the one thread");
    pending.answer(40);
    let (call, on, finished) = supervisor.finished();
    assert_eq!((call, on), (pending.id, thread::current().id()));
    assert!(matches!(finished.outcome, Outcome::NoThread(NoThread::NotStarted)));
    drop(finished);
    assert_eq!(Rc::strong_count(&guest.realm), 1);
    guest.call("nothing", &[]).expect("still usable");
    wakes.send(()).expect("the task waits for it");
}

/// wasmi compiles too fast for anybody to give up.
#[test]
fn an_interrupt_ends_a_compile_on_wasmer() {
    let engine = engine::<Wasmer>();
    let wasm = wat::parse_str(ASKS).expect("valid");
    let interrupt = Interrupt::new();
    let compile = || interrupt.around_compile(|| Module::compile(&*engine, &wasm).map(drop));
    compile().expect("nobody has given up");
    interrupt.set();
    let error = compile().expect_err("somebody has");
    assert!(error.to_string().contains("nobody waits"), "{error}");
    Module::compile(&*engine, &wasm).map(drop).expect("this one is not given up");
}
