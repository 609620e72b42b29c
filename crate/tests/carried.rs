//! A global that travels with each host call: it is read before the call and written after it.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::{HostCall, Realm},
};

use crate::guest::{Guest, HostFn, MISSING};

const COUNTER: &str = "counter";

on_both_engines![
    the_host_sees_the_value_and_what_it_leaves_is_written_back,
    any_value_survives,
    without_one_there_is_no_value,
    it_is_read_at_each_call,
    a_failed_host_call_leaves_the_value_as_it_was,
    a_host_that_panics_leaves_the_value_as_it_was,
    a_host_that_leaves_the_value_alone_changes_nothing,
    a_guest_without_a_usable_global_traps_when_it_calls,
    a_guest_without_the_global_runs_until_it_calls,
    a_guest_without_the_global_can_be_called_if_none_travels,
    a_nested_call_sees_the_value_of_the_guest,
    a_nested_call_of_another_instance_has_its_own_value,
    the_outer_call_has_the_last_word,
    what_the_host_writes_to_the_global_is_overwritten,
    a_start_function_has_the_value,
    an_exported_import_has_the_value,
    the_global_is_found_whatever_else_is_exported,
];

fn linked<E: Engine>(engine: &Arc<E>, wat: &str) -> Guest<E> {
    Guest::linked(&Realm::new(engine), Some(COUNTER), wat, &[])
}

const COUNTS: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (global $counter (export "counter") (mut i64) (i64.const 1000))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "spend") (param i64) (result i32)
        (global.set $counter (i64.sub (global.get $counter) (local.get 0)))
        (call $f (i32.const 0)))
    (func (export "idle") (result i64) (global.get $counter))
    (export "direct" (func $f)))"#;

fn set_value<E: Engine>(guest: &Guest<E>, value: i64) {
    assert!(guest.realm.global_set(guest.index, guest.export(COUNTER), value as u64).expect("mutable"));
}

fn value<E: Engine>(guest: &Guest<E>) -> i64 {
    guest.global(COUNTER) as i64
}

fn the_host_sees_the_value_and_what_it_leaves_is_written_back<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("run", &[5], |call| {
        let value = call.carried.expect("it travels");
        assert_eq!((*value, &*call.slots), (1000, &[5][..]));
        *value -= 1;
        call.slots[0] = 6;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [6]);
    assert_eq!(value(&guest), 999);
    assert_eq!(guest.call("idle", &[]).expect("no trap"), [999]);
}

fn any_value_survives<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    for (before, after) in [(0, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN, -1), (-1, 1 << 32), (1 << 32, 0)] {
        set_value(&guest, before);
        let results = guest.call_with("run", &[0], |call| {
            assert_eq!(std::mem::replace(call.carried.expect("it travels"), after), before);
            Ok(())
        });
        results.expect("no trap");
        assert_eq!(value(&guest), after);
    }
}

fn without_one_there_is_no_value<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTS);
    let results = guest.call_with("run", &[5], |call| {
        assert!(call.carried.is_none());
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(value(&guest), 1000);
}

fn it_is_read_at_each_call<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let mut expected = 1000;
    for spent in [1, 10, 100] {
        let results = guest.call_with("spend", &[spent], |call| {
            assert_eq!(*call.carried.expect("it travels"), expected - spent as i64);
            Ok(())
        });
        results.expect("no trap");
        expected -= spent as i64;
    }
    set_value(&guest, 50);
    guest
        .call_with("spend", &[1], |call| {
            assert_eq!(*call.carried.expect("it travels"), 49);
            Ok(())
        })
        .expect("no trap");
}

fn a_failed_host_call_leaves_the_value_as_it_was<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    for trap in [HostTrap::Parked, HostTrap::Message("no".into())] {
        let results = guest.call_with("run", &[0], |call| {
            *call.carried.expect("it travels") = 1;
            Err(trap.clone())
        });
        assert_eq!(results.expect_err("it fails").code, TrapCode::Supervisor);
        assert_eq!(value(&guest), 1000);
    }
}

fn a_host_that_panics_leaves_the_value_as_it_was<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("run", &[0], |call| {
        *call.carried.expect("it travels") = 1;
        panic!("on purpose")
    });
    assert_eq!(results.expect_err("it panics").code, TrapCode::Internal);
    assert_eq!(value(&guest), 1000);
}

fn a_host_that_leaves_the_value_alone_changes_nothing<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    guest.call_with("run", &[0], |_| Ok(())).expect("no trap");
    assert_eq!(value(&guest), 1000);
}

/// Globals that are not what the global has to be: absent, of another type, immutable, not exported, no global.
const UNUSABLE: [&str; 8] = [
    "",
    r#"(global (export "counter") (mut i32) (i32.const 1))"#,
    r#"(global (export "counter") (mut f64) (f64.const 1))"#,
    r#"(global (export "counter") (mut v128) (v128.const i64x2 1 1))"#,
    r#"(global (export "counter") i64 (i64.const 1))"#,
    r#"(global (mut i64) (i64.const 1))"#,
    r#"(global (export "counted") (mut i64) (i64.const 1)) (global (export "counte") (mut i64) (i64.const 1))"#,
    r#"(func (export "counter"))"#,
];

fn without_counter(global: &str) -> String {
    format!(
        r#"(module (import "e" "f" (func $f)) {global}
            (func (export "run") (call $f)) (func (export "idle") (result i32) (i32.const 5)))"#
    )
}

fn a_guest_without_a_usable_global_traps_when_it_calls<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        let guest = linked(engine, &without_counter(global));
        let trap = guest.call_with("run", &[], |_| panic!("the host must not be asked")).expect_err("it traps");
        let expected = (TrapCode::Supervisor, MISSING);
        assert_eq!((trap.code, &*trap.message), expected, "{global}");
    }
}

fn a_guest_without_the_global_runs_until_it_calls<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        assert_eq!(linked(engine, &without_counter(global)).call("idle", &[]).expect("no trap"), [5]);
    }
}

fn a_guest_without_the_global_can_be_called_if_none_travels<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        Guest::new(engine, &without_counter(global)).call_with("run", &[], |_| Ok(())).expect("no trap");
    }
}

fn a_nested_call_sees_the_value_of_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("spend", &[100], |call| {
        let outer = call.carried.expect("it travels");
        assert_eq!(*outer, 900);
        guest
            .call_with("spend", &[10], |call| {
                let inner = call.carried.expect("it travels");
                assert_eq!(*inner, 890);
                *inner -= 1;
                Ok(())
            })
            .expect("no trap");
        assert_eq!(value(&guest), 889);
        *outer = value(&guest) - 1;
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(value(&guest), 888);
}

fn a_nested_call_of_another_instance_has_its_own_value<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let outer = Guest::linked(&realm, Some(COUNTER), COUNTS, &[]);
    let inner = Guest::linked(&realm, Some(COUNTER), COUNTS, &[]);
    let old = Guest::linked(&realm, None, COUNTS, &[]);
    set_value(&inner, 5);
    let results = outer.call_with("run", &[0], |call| {
        *call.carried.expect("it travels") -= 1;
        inner
            .call_with("run", &[0], |call| {
                *call.carried.expect("it travels") -= 1;
                old.call_with("run", &[0], |call| {
                    assert!(call.carried.is_none());
                    Ok(())
                })
                .expect("no trap");
                Ok(())
            })
            .expect("no trap");
        Ok(())
    });
    results.expect("no trap");
    assert_eq!((value(&outer), value(&inner), value(&old)), (999, 4, 1000));
}

fn the_outer_call_has_the_last_word<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("run", &[0], |call| {
        let spend = |call: HostCall<'_>| {
            *call.carried.expect("it travels") = 7;
            Ok(())
        };
        guest.call_with("run", &[0], spend).expect("no trap");
        assert_eq!((value(&guest), *call.carried.expect("it travels")), (7, 1000));
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(value(&guest), 1000);
}

fn what_the_host_writes_to_the_global_is_overwritten<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("run", &[0], |call| {
        set_value(&guest, 3);
        *call.carried.expect("it travels") -= 1;
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(value(&guest), 999);
}

fn a_start_function_has_the_value<E: Engine>(engine: &Arc<E>) {
    let guest = linked(
        engine,
        r#"(module (import "e" "f" (func $f)) (global $counter (export "counter") (mut i64) (i64.const 20))
            (func $s (global.set $counter (i64.const 15)) (call $f)) (start $s))"#,
    );
    let mut host = HostFn(|call: HostCall<'_>| {
        let value = call.carried.expect("it travels");
        assert_eq!(*value, 15);
        *value = 14;
        Ok(())
    });
    guest.realm.start(guest.index, &mut host).expect("no trap");
    assert_eq!(value(&guest), 14);
}

fn an_exported_import_has_the_value<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, COUNTS);
    let results = guest.call_with("direct", &[3], |call| {
        *call.carried.expect("it travels") -= 2;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [3]);
    assert_eq!(value(&guest), 998);
}

fn the_global_is_found_whatever_else_is_exported<E: Engine>(engine: &Arc<E>) {
    // The exports stand in another order than their names do, and a start function takes part.
    let guest = linked(
        engine,
        r#"(module (import "e" "f" (func $f))
            (global $other (mut i64) (i64.const 1)) (global $counter (mut i64) (i64.const 2))
            (export "zz" (global $other)) (export "start" (global $other)) (export "counter" (global $counter))
            (export "a" (global $other)) (export "run" (func $f)) (func $s) (start $s))"#,
    );
    guest
        .call_with("run", &[], |call| {
            assert_eq!(std::mem::replace(call.carried.expect("it travels"), 3), 2);
            Ok(())
        })
        .expect("no trap");
    assert_eq!((guest.global("counter"), guest.global("zz")), (3, 1));
}
