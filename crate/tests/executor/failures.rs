//! Calls that fail: by their host, by a trap of their own, by a panic.

use std::{sync::Arc, thread};

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    executor::pool::ThreadQuota,
};

use super::{ASKS, Asking, Supervisor, at_once_and_late, until_it_waits};
use crate::guest::Guest;

on_both_engines![
    a_failure_ends_the_guest,
    a_guest_that_has_left_needs_no_thread_to_end,
    a_trap_of_the_guest_is_that_trap,
    a_panic_of_the_port_stops_at_the_seam,
];

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
