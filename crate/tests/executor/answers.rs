//! Guests that ask their host, and go on with the answer.

use std::{sync::Arc, thread};

use sandbox_host::{
    engine::{Engine, wasmi::Wasmi},
    error::TrapCode,
    executor::pool::ThreadQuota,
    realm::Realm,
};

use super::{ASKS, Supervisor, assert_asks, at_once_and_late, until_it_waits};
use crate::guest::{Guest, contents, engine};

on_both_engines![
    a_call_runs_on_another_thread_and_gives_its_results,
    a_guest_that_asks_gets_the_answer,
    a_guest_may_ask_again_and_again,
    a_global_goes_to_the_supervisor_and_comes_back,
    a_guest_may_ask_last_of_all,
    an_import_that_is_exported_can_be_called,
    an_import_can_be_called_through_a_table,
    the_high_bits_of_a_small_result_do_not_matter,
    the_store_of_a_guest_that_waits_can_be_used,
];

fn a_call_runs_on_another_thread_and_gives_its_results<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "add", &[3, 4], &ThreadQuota::new(1));
    let ended = supervisor.ended(&pending);
    assert_eq!(ended.result.expect("no trap"), 7);
    assert_ne!(ended.on, thread::current().id());
}

fn a_guest_that_asks_gets_the_answer<E: Engine>(engine: &Arc<E>) {
    assert_asks(engine, &Guest::new(engine, ASKS), "ask", 41);
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
