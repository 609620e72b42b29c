//! Calls into guests from inside a host function.

use std::sync::Arc;

use sandbox_host::{
    engine::{Engine, wasmer::Wasmer, wasmi::Wasmi},
    error::{HostTrap, TrapCode},
    realm::{HostCall, Realm},
};

use super::CALLS_OUT;
use crate::guest::{Guest, contents, engine, pages, pass_on};

on_both_engines![
    the_host_calls_the_same_instance_again,
    the_host_calls_another_instance_of_the_realm,
    the_host_calls_a_guest_of_another_realm,
    two_realms_may_call_each_other_in_turn,
    a_nested_call_has_a_host_of_its_own,
    a_nested_trap_ends_the_nested_call_only,
    host_and_guest_call_each_other_200_deep,
    traps_unwind_through_200_levels,
];

fn the_host_calls_the_same_instance_again<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("run", &[4], |call| {
        call.slots[0] = guest.call("add", &[call.slots[0], 38]).expect("no trap")[0];
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [42]);
}

fn the_host_calls_another_instance_of_the_realm<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let outer = Guest::linked(&realm, None, CALLS_OUT, &[]);
    let inner = Guest::linked(
        &realm,
        None,
        r#"(module (import "e" "m" (memory 1)) (import "e" "f" (func $f (result i32)))
            (func (export "run") (result i32) (i32.store8 (i32.const 3) (i32.const 1)) (call $f)))"#,
        &[memory],
    );
    let results = outer.call_with("run", &[0], |call| {
        call.slots[0] = inner
            .call_with("run", &[], |call| {
                assert_eq!(call.instance, inner.index);
                call.slots[0] = u64::from(contents(&realm, memory)[3]) + 10;
                Ok(())
            })
            .expect("no trap")[0];
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [11]);
}

fn the_host_calls_a_guest_of_another_realm<E: Engine>(engine: &Arc<E>) {
    let (outer, inner) = (Guest::new(engine, CALLS_OUT), Guest::new(engine, CALLS_OUT));
    let results = outer.call_with("run", &[1], |call| {
        call.slots[0] = inner
            .call_with("run", &[call.slots[0] + 1], |call| {
                // Both realms are within reach, each by its own context.
                inner.realm.memory_write(inner.memory("m"), 0, &[1]).expect("in bounds");
                outer.realm.memory_write(outer.memory("m"), 0, &[2]).expect("in bounds");
                assert_eq!((inner.global("g"), outer.global("g")), (1, 1));
                call.slots[0] += 1;
                Ok(())
            })
            .expect("no trap")[0];
        outer.realm.memory_write(outer.memory("m"), 1, &[3]).expect("in bounds");
        inner.realm.memory_write(inner.memory("m"), 1, &[4]).expect("in bounds");
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [3]);
    assert_eq!(contents(&inner.realm, inner.memory("m"))[..2], [1, 4]);
    assert_eq!(contents(&outer.realm, outer.memory("m"))[..2], [2, 3]);
}

fn two_realms_may_call_each_other_in_turn<E: Engine>(engine: &Arc<E>) {
    fn descend<E: Engine>(guests: &[Guest<E>; 2], depth: u64) -> u64 {
        let (here, there) = (&guests[depth as usize % 2], &guests[(depth as usize + 1) % 2]);
        here.call_with("run", &[depth], |call| {
            let depth = call.slots[0];
            assert_eq!(there.call("add", &[depth, 1]).expect("no trap"), [depth + 1]);
            call.slots[0] = if depth == 0 { 0 } else { 1 + descend(guests, depth - 1) };
            assert_eq!(here.call("add", &[depth, 2]).expect("no trap"), [depth + 2]);
            Ok(())
        })
        .expect("no trap")[0]
    }
    let guests = [Guest::new(engine, CALLS_OUT), Guest::new(engine, CALLS_OUT)];
    assert_eq!(descend(&guests, 20), 20);
}

fn a_nested_call_has_a_host_of_its_own<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (result i32)))
            (func (export "twice") (result i32) (i32.mul (call $f) (i32.add (i32.const 100) (call $f)))))"#,
    );
    let answer = |value: u64| {
        move |call: HostCall<'_>| {
            call.slots[0] = value;
            Ok(())
        }
    };
    let results = guest.call_with("twice", &[], |call| {
        assert_eq!(guest.call_with("twice", &[], answer(1)).expect("no trap"), [101]);
        call.slots[0] = 2;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [2 * 102]);
}

fn a_nested_trap_ends_the_nested_call_only<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("run", &[5], |call| {
        assert_eq!(guest.trap("fail", &[]), TrapCode::Unreachable);
        assert_eq!(guest.trap("load", &[65_536]), TrapCode::MemoryOutOfBounds);
        let trap = guest.call_with("run", &[6], |_| Err(HostTrap::Message("inner".into()))).expect_err("it fails");
        assert_eq!(trap.message, "inner");
        call.slots[0] += 1;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [6]);
}

fn descend<E: Engine>(
    guest: &Guest<E>,
    depth: u64,
    bottom: &dyn Fn() -> Result<u64, HostTrap>,
) -> Result<u64, HostTrap> {
    let results = guest.call_with("run", &[depth], |call| {
        call.slots[0] = match call.slots[0] {
            0 => bottom()?,
            depth => 1 + descend(guest, depth - 1, bottom)?,
        };
        Ok(())
    });
    Ok(results.map_err(|trap| pass_on(*trap))?[0])
}

const DEPTH: u64 = 200;

fn host_and_guest_call_each_other_200_deep<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for _ in 0..3 {
        let bottom = || Ok(u64::from(contents(&guest.realm, guest.memory("m"))[0]));
        assert_eq!(descend(&guest, DEPTH, &bottom).expect("no trap"), DEPTH);
    }
}

fn traps_unwind_through_200_levels<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for _ in 0..3 {
        let trap = descend(&guest, DEPTH, &|| Err(HostTrap::Message("from below".into()))).expect_err("it fails");
        assert_eq!(trap.to_string(), "from below");
        assert_eq!(guest.call("add", &[1, 1]).expect("still usable"), [2]);
    }
}

/// Uses both engines at once, so it stands apart: each engine finds its own guests again below those of the other.
#[test]
fn guests_of_both_engines_call_each_other() {
    fn descend(wasmi: &Guest<Wasmi>, wasmer: &Guest<Wasmer>, depth: u64) -> u64 {
        let below = |call: HostCall<'_>| {
            let depth = call.slots[0];
            assert_eq!(wasmi.call("add", &[depth, 1]).expect("no trap"), [depth + 1]);
            assert_eq!(wasmer.call("add", &[depth, 2]).expect("no trap"), [depth + 2]);
            assert_eq!(wasmer.trap("fail", &[]), TrapCode::Unreachable);
            call.slots[0] = if depth == 0 { 0 } else { 1 + descend(wasmi, wasmer, depth - 1) };
            Ok(())
        };
        let results = if depth.is_multiple_of(2) {
            wasmi.call_with("run", &[depth], below)
        } else {
            wasmer.call_with("run", &[depth], below)
        };
        results.expect("no trap")[0]
    }
    let (wasmi, wasmer) = (Guest::new(&engine(), CALLS_OUT), Guest::new(&engine(), CALLS_OUT));
    assert_eq!(descend(&wasmi, &wasmer, 20), 20);
}
