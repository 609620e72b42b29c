//! How many threads guests hold while they wait and while they compute.

use std::{sync::Arc, thread};

use sandbox_host::{
    engine::Engine,
    error::TrapCode,
    executor::pool::{Pool, ThreadQuota},
    realm::Realm,
};

use super::{ASKS, Supervisor, until_it_waits};
use crate::guest::{Guest, compile};

on_both_engines![a_guest_that_waits_holds_its_thread_only_if_its_engine_must];

on_both_engines_alone![
    many_guests_that_wait_hold_few_threads_unless_their_engine_must,
    more_guests_than_cores_compute_at_once,
];

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
