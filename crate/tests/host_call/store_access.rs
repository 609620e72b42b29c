//! What the host may do with the realm of a guest that waits.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use sandbox_host::{engine::Engine, realm::Realm};

use super::CALLS_OUT;
use crate::guest::{Guest, contents, pages};

on_both_engines![
    the_host_reads_and_writes_memory_while_the_guest_waits,
    the_host_grows_the_memory_while_the_guest_waits,
    the_host_reads_and_writes_globals_while_the_guest_waits,
    the_host_instantiates_in_the_realm_that_is_running,
    the_host_makes_a_memory_in_the_realm_that_is_running,
];

fn the_host_reads_and_writes_memory_while_the_guest_waits<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("write then run", &[100], |call| {
        let (realm, memory, at) = (&guest.realm, guest.memory("m"), call.slots[0]);
        let mut byte = [0];
        realm.memory_read(memory, at, &mut byte).expect("in bounds");
        realm.memory_write(memory, at + 1, &[byte[0] + 1]).expect("in bounds");
        assert!(realm.memory_write(memory, 65_536, &[1]).is_err());
        assert_eq!(realm.memory_type(memory), Ok(pages(1, 4)));
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [8]);
}

fn the_host_grows_the_memory_while_the_guest_waits<E: Engine>(engine: &Arc<E>) {
    // The guest must see the new size and the new place of its memory as soon as it runs on.
    let wat = |memory: &str| {
        format!(
            r#"(module (import "e" "f" (func $f)) {memory} (export "m" (memory 0))
                (func (export "run") (result i32 i32)
                    (i32.store8 (i32.const 0) (i32.const 5))
                    (call $f)
                    (i32.store8 (i32.const 65536) (i32.const 6))
                    memory.size
                    (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 65537)))))"#
        )
    };
    let realm = Realm::new(engine);
    let imported = realm.new_memory(pages(1, 9)).expect("a good type");
    for guest in [
        Guest::linked(&realm, None, &wat(r#"(import "e" "m" (memory 1))"#), &[imported]),
        Guest::linked(&realm, None, &wat("(memory 1)"), &[]),
        Guest::linked(&realm, None, &wat("(memory 1 9)"), &[]),
    ] {
        let results = guest.call_with("run", &[], |_| {
            let memory = guest.memory("m");
            assert_eq!(realm.memory_grow(memory, 3).expect("below the maximum"), 1);
            realm.memory_write(memory, 65_537, &[10]).expect("in bounds");
            Ok(())
        });
        assert_eq!(results.expect("no trap"), [4, 15]);
        assert_eq!(contents(&realm, guest.memory("m"))[65_536], 6);
    }
}

fn the_host_reads_and_writes_globals_while_the_guest_waits<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f)) (global $g (export "g") (mut i64) (i64.const 0))
            (func (export "run") (result i64) (global.set $g (i64.const 5)) (call $f) (global.get $g)))"#,
    );
    let results = guest.call_with("run", &[], |_| {
        assert_eq!(guest.global("g"), 5);
        guest.realm.global_set(guest.index, guest.export("g"), 6).expect("mutable");
        assert_eq!(guest.global("g"), 6);
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [6]);
}

fn the_host_instantiates_in_the_realm_that_is_running<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let made = RefCell::new(Vec::new());
    for turn in 0..3 {
        let results = guest.call_with("run", &[turn], |call| {
            let new = Guest::linked(&guest.realm, None, CALLS_OUT, &[]);
            call.slots[0] = new.call("add", &[call.slots[0], 30]).expect("no trap")[0];
            made.borrow_mut().push(new);
            Ok(())
        });
        assert_eq!(results.expect("no trap"), [turn + 30]);
    }
    for guest in made.take() {
        assert_eq!(guest.call("add", &[1, 2]).expect("no trap"), [3]);
    }
}

fn the_host_makes_a_memory_in_the_realm_that_is_running<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let made = Cell::new(0);
    let results = guest.call_with("run", &[0], |_| {
        let memory = guest.realm.new_memory(pages(1, 2)).expect("a good type");
        guest.realm.memory_write(memory, 9, &[9]).expect("in bounds");
        guest.realm.memory_grow(memory, 1).expect("below the maximum");
        made.set(memory);
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(contents(&guest.realm, made.get())[9], 9);
}
