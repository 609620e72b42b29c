//! Imported functions that are exported again or stand in a table.

use std::{cell::Cell, rc::Rc, sync::Arc};

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::{HostCall, Realm},
};

use super::CALLS_OUT;
use crate::guest::Guest;

on_both_engines![
    an_import_that_is_exported_can_be_called,
    an_exported_import_can_be_called_from_inside_a_host_call,
    a_panic_behind_an_exported_import_stops_at_the_seam,
    an_import_can_be_called_through_a_table,
    imports_of_the_same_type_are_told_apart_in_a_table,
    a_host_call_that_fails_through_a_table_ends_the_guest,
];

fn an_import_that_is_exported_can_be_called<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module
            (import "e" "a" (func $a (param i32 i64) (result i64)))
            (import "e" "b" (func $b (param f64) (result f32 f64)))
            (import "e" "c" (func $c))
            (export "c" (func $c)) (export "b" (func $b)) (export "a" (func $a)) (export "also a" (func $a)))"#,
    );
    let host = |call: HostCall<'_>| {
        match call.import {
            0 => call.slots[0] += call.slots[1],
            1 => call.slots.copy_from_slice(&[0x7fa0_0001, call.slots[0] + 1]),
            _ => assert!(call.slots.is_empty()),
        }
        Ok(())
    };
    for name in ["a", "also a"] {
        assert_eq!(guest.call_with(name, &[4, 1 << 40], host).expect("no trap"), [4 + (1 << 40)]);
    }
    assert_eq!(guest.call_with("b", &[7], host).expect("no trap"), [0x7fa0_0001, 8]);
    assert_eq!(guest.call_with("c", &[], host).expect("no trap"), [0; 0]);
    let results = guest.call_with("a", &[0xdead_beef_0000_0004, 1], |call| {
        assert_eq!(call.slots, [4, 1], "the high bits of a small argument do not reach the host");
        Ok(())
    });
    results.expect("no trap");
}

fn an_exported_import_can_be_called_from_inside_a_host_call<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("run", &[1], |call| {
        call.slots[0] = guest
            .call_with("out", &[20], |call| {
                call.slots[0] = guest.call("add", &[call.slots[0], 1]).expect("no trap")[0];
                Ok(())
            })
            .expect("no trap")[0];
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [21]);
}

fn a_panic_behind_an_exported_import_stops_at_the_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let trap = guest.call_with("out", &[1], |_| panic!("on purpose")).expect_err("it panics");
    assert_eq!(trap.code, TrapCode::Internal);
    assert_eq!(guest.call("add", &[1, 1]).expect("still usable"), [2]);
}

const TABLE: &str = r#"(module
    (type $t (func (param i32) (result i32)))
    (import "e" "a" (func $a (type $t)))
    (import "e" "b" (func $b (type $t)))
    (import "e" "c" (func $c (param i64) (result i64)))
    (func $own (type $t) (i32.add (local.get 0) (i32.const 1)))
    (table 8 funcref)
    (elem (i32.const 0) $own $a $b)
    (elem declare func $a $c)
    (func (export "set") (table.set (i32.const 3) (ref.func $c)) (table.set (i32.const 4) (ref.func $a)))
    (func (export "run") (param i32 i32) (result i32) (call_indirect (type $t) (local.get 1) (local.get 0))))"#;

fn an_import_can_be_called_through_a_table<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, TABLE);
    let host = |call: HostCall<'_>| {
        call.slots[0] += 100 * (u64::from(call.import) + 1);
        Ok(())
    };
    let run = |at| guest.call_with("run", &[at, 5], host);
    assert_eq!(run(0).expect("no trap"), [6]);
    assert_eq!(run(1).expect("no trap"), [105]);
    assert_eq!(run(2).expect("no trap"), [205]);
    assert_eq!(run(3).expect_err("nothing there").code, TrapCode::IndirectCallNull);
    guest.call("set", &[]).expect("no trap");
    assert_eq!(run(3).expect_err("of another type").code, TrapCode::IndirectCallSignature);
    assert_eq!(run(4).expect("no trap"), [105]);
}

fn imports_of_the_same_type_are_told_apart_in_a_table<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let guests = [Guest::linked(&realm, None, TABLE, &[]), Guest::linked(&realm, None, TABLE, &[])];
    for guest in &guests {
        for (at, import) in [(1, 0), (2, 1)] {
            let seen = Rc::new(Cell::new(None));
            let results = guest.call_with("run", &[at, 0], |call| {
                seen.set(Some((call.instance, call.import)));
                Ok(())
            });
            results.expect("no trap");
            assert_eq!(seen.get(), Some((guest.index, import)));
        }
    }
}

fn a_host_call_that_fails_through_a_table_ends_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, TABLE);
    let trap = guest.call_with("run", &[1, 0], |_| Err(HostTrap::Message("no".into()))).expect_err("it fails");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, "no"));
    assert_eq!(guest.call("run", &[0, 1]).expect("still usable"), [2]);
}
