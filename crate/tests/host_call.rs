//! Calls out of a guest: what the host gets and gives, how it fails, and what it may do meanwhile.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::{HostCall, Realm},
};

use crate::guest::{Guest, HostFn, contents, pages, pass_on};

on_both_engines![
    the_host_gets_arguments_and_gives_results,
    every_bit_pattern_of_every_numeric_type_reaches_the_host_and_comes_back,
    arguments_of_small_types_have_no_high_bits,
    the_high_bits_of_a_small_result_do_not_matter,
    a_host_function_may_have_a_thousand_parameters,
    a_host_function_may_have_many_results,
    every_small_type_of_function_is_wired_right,
    slots_are_as_many_as_the_longer_side_needs,
    a_call_says_which_instance_and_import_it_comes_from,
    types_that_fit_no_slot_trap_when_called,
    a_parked_reason_ends_the_guest,
    a_message_ends_the_guest_and_is_its_traps_message,
    a_panic_of_the_host_stops_at_the_seam,
    a_panic_in_a_nested_call_stops_at_the_innermost_seam,
    a_realm_can_be_used_while_a_panic_unwinds,
    a_failed_host_call_changes_no_result,
    the_guest_runs_on_after_a_host_call_and_not_after_a_failed_one,
    the_host_reads_and_writes_memory_while_the_guest_waits,
    the_host_grows_the_memory_while_the_guest_waits,
    the_host_reads_and_writes_globals_while_the_guest_waits,
    the_host_calls_the_same_instance_again,
    the_host_calls_another_instance_of_the_realm,
    the_host_calls_a_guest_of_another_realm,
    two_realms_may_call_each_other_in_turn,
    the_host_instantiates_in_the_realm_that_is_running,
    the_host_makes_a_memory_in_the_realm_that_is_running,
    a_nested_call_has_a_host_of_its_own,
    a_nested_trap_ends_the_nested_call_only,
    host_and_guest_call_each_other_200_deep,
    traps_unwind_through_200_levels,
    an_import_that_is_exported_can_be_called,
    an_exported_import_can_be_called_from_inside_a_host_call,
    a_panic_behind_an_exported_import_stops_at_the_seam,
    an_import_can_be_called_through_a_table,
    imports_of_the_same_type_are_told_apart_in_a_table,
    a_host_call_that_fails_through_a_table_ends_the_guest,
    many_host_calls_in_one_call,
];

fn the_host_gets_arguments_and_gives_results<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (param i32 i64) (result i64)))
            (func (export "run") (param i32 i64) (result i64)
                (i64.add (call $f (local.get 0) (local.get 1)) (i64.const 1))))"#,
    );
    let results = guest.call_with("run", &[3, 4], |call| {
        assert_eq!(call.slots, [3, 4]);
        assert!(call.carried.is_none());
        call.slots[0] = 40;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [41]);
}

const ECHO: &str = r#"(module
    (import "e" "f" (func $f (param i32 i64 f32 f64) (result i32 i64 f32 f64)))
    (func (export "run") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
        (call $f (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"#;

fn every_bit_pattern_of_every_numeric_type_reaches_the_host_and_comes_back<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ECHO);
    for values in [
        [0, 0, 0, 0],
        [0x8000_0000, 1 << 63, 0x8000_0000, 1 << 63],
        [0xffff_ffff, u64::MAX, 0xffff_ffff, u64::MAX],
        [1, 0x0123_4567_89ab_cdef, 0x7f80_0001, 0x7ff0_0000_0000_0001],
        [2, 3, 0xffa0_0001, 0xfff4_0000_0000_0001],
        [4, 5, 0x7fc0_1234, 0x7ff8_0000_dead_beef],
        [6, 7, 0x7f80_0000, 0x7ff0_0000_0000_0000],
    ] {
        let mut seen = [0; 4];
        let results = guest.call_with("run", &values, |call| {
            seen.copy_from_slice(call.slots);
            Ok(())
        });
        assert_eq!(seen, values);
        assert_eq!(results.expect("no trap"), values);
    }
}

fn arguments_of_small_types_have_no_high_bits<E: Engine>(engine: &Arc<E>) {
    // Wide arguments first, so that whatever holds the narrow ones has been written to before.
    let guest = Guest::new(
        engine,
        r#"(module
            (import "e" "wide" (func $wide (param i64 i64 f64 f64)))
            (import "e" "narrow" (func $narrow (param i32 f32 i32 f32)))
            (func (export "run") (param i64)
                (call $wide (local.get 0) (local.get 0)
                    (f64.reinterpret_i64 (local.get 0)) (f64.reinterpret_i64 (local.get 0)))
                (call $narrow (i32.wrap_i64 (local.get 0)) (f32.reinterpret_i32 (i32.wrap_i64 (local.get 0)))
                    (i32.const 5) (f32.const 1))))"#,
    );
    let seen = RefCell::new(Vec::new());
    for _ in 0..10 {
        let host = |call: HostCall<'_>| {
            if call.import == 1 {
                seen.borrow_mut().push(call.slots.to_vec());
            }
            Ok(())
        };
        guest.call_with("run", &[0xdead_beef_ffff_fff0], host).expect("no trap");
    }
    for slots in seen.take() {
        assert_eq!(slots, [0xffff_fff0, 0xffff_fff0, 5, 0x3f80_0000]);
    }
    // A slot for a result that no argument stands in is zero as well, rather than whatever the engine left there.
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (param i32) (result i64 i64 i64)))
            (func (export "run") (call $f (i32.const 1)) drop drop drop))"#,
    );
    guest
        .call_with("run", &[], |call| {
            assert_eq!(call.slots, [1, 0, 0]);
            Ok(())
        })
        .expect("no trap");
}

fn the_high_bits_of_a_small_result_do_not_matter<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (result i32 f32)))
            (func (export "run") (result i32 f32) (call $f))
            (func (export "widened") (result i64) (call $f) drop i64.extend_i32_u)
            (export "direct" (func $f)))"#,
    );
    for (name, expected) in [("run", &[0xffff_fffe, 7][..]), ("widened", &[0xffff_fffe]), ("direct", &[0xffff_fffe, 7])]
    {
        let results = guest.call_with(name, &[], |call| {
            call.slots.copy_from_slice(&[0xdead_beef_ffff_fffe, 0xdead_beef_0000_0007]);
            Ok(())
        });
        assert_eq!(results.expect("no trap"), expected, "{name}");
    }
}

fn a_host_function_may_have_a_thousand_parameters<E: Engine>(engine: &Arc<E>) {
    let types = "i64 ".repeat(1000);
    let gets: String = (0..1000).map(|at| format!("(local.get {at})")).collect();
    let guest = Guest::new(
        engine,
        &format!(
            r#"(module (import "e" "f" (func $f (param {types}) (result i64)))
                (func (export "run") (param {types}) (result i64) {gets} (call $f)))"#
        ),
    );
    let arguments: Vec<u64> = (0..1000_u64).map(|at| at * at).collect();
    let results = guest.call_with("run", &arguments, |call| {
        assert_eq!(call.slots, arguments);
        call.slots[0] = 11;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [11]);
}

fn a_host_function_may_have_many_results<E: Engine>(engine: &Arc<E>) {
    for (group, times) in [("i64 ", 1000), ("i32 f64 i64 f32 ", 1), ("i32 f64 i64 f32 ", 100), ("i32 ", 2), ("f32 ", 3)]
    {
        let types = group.repeat(times);
        let guest = Guest::new(
            engine,
            &format!(
                r#"(module (import "e" "f" (func $f (result {types})))
                    (func (export "run") (result {types}) (call $f)) (export "direct" (func $f)))"#
            ),
        );
        let expected: Vec<u64> = (0..group.len() / 4 * times).map(|at| at as u64 + 1).collect();
        for name in ["run", "direct"] {
            let results = guest.call_with(name, &[], |call| {
                call.slots.copy_from_slice(&expected);
                Ok(())
            });
            assert_eq!(results.expect("no trap"), expected, "{types}");
        }
    }
}

fn every_small_type_of_function_is_wired_right<E: Engine>(engine: &Arc<E>) {
    // Engines have special cases for few parameters of integer types; so all lists of up to five, with each result.
    const TYPES: [(&str, u64); 3] = [("i32", 0xffff_ffff), ("i64", u64::MAX), ("f64", u64::MAX)];
    let mut lists: Vec<Vec<(&str, u64)>> = vec![Vec::new()];
    for at in 0.. {
        if lists[at].len() == 5 {
            break;
        }
        lists.extend(TYPES.map(|ty| [&lists[at][..], &[ty]].concat()));
    }
    assert_eq!(lists.len(), 1 + 3 + 9 + 27 + 81 + 243);
    for results in [&[][..], &TYPES[..1], &TYPES[1..2], &TYPES[2..], &TYPES[..2], &[TYPES[0]; 6]] {
        let names = |types: &[(&str, u64)]| types.iter().map(|(name, _)| format!("{name} ")).collect::<String>();
        let (mut imports, mut funcs) = (String::new(), String::new());
        for (at, params) in lists.iter().enumerate() {
            let ty = format!("(param {}) (result {})", names(params), names(results));
            let gets: String = (0..params.len()).map(|at| format!("(local.get {at})")).collect();
            imports += &format!("(import \"e\" \"{at}\" (func {ty}))\n");
            funcs += &format!("(func (export \"call {at}\") {ty} {gets} (call {at})) (export \"{at}\" (func {at}))\n");
        }
        let guest = Guest::new(engine, &format!("(module {imports} {funcs})"));
        let value = |seed: u64, mask: u64| (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
        let values = |types: &[(&str, u64)], seed: u64| -> Vec<u64> {
            types.iter().enumerate().map(|(at, (_, mask))| value(seed + at as u64, *mask)).collect()
        };
        for (at, params) in lists.iter().enumerate() {
            for name in [format!("call {at}"), at.to_string()] {
                let (arguments, expected) = (values(params, at as u64), values(results, at as u64 + 100));
                let answer = guest.call_with(&name, &arguments, |call| {
                    assert_eq!((call.import, &call.slots[..params.len()]), (at as u32, &arguments[..]));
                    assert!(call.slots[params.len()..].iter().all(|slot| *slot == 0));
                    call.slots[..expected.len()].copy_from_slice(&expected);
                    Ok(())
                });
                assert_eq!(answer.expect("no trap"), expected, "{params:?} {results:?}");
                assert!(guest.call_with(&name, &arguments, |_| Err(HostTrap::Parked)).is_err());
            }
        }
    }
}

fn slots_are_as_many_as_the_longer_side_needs<E: Engine>(engine: &Arc<E>) {
    for (ty, slots) in [
        ("", 0),
        ("(param i32)", 1),
        ("(result i32)", 1),
        ("(param i32 i32 i32) (result i32)", 3),
        ("(param i32) (result i32 i32 i32)", 3),
    ] {
        let guest =
            Guest::new(engine, &format!(r#"(module (import "e" "f" (func $f {ty})) (export "run" (func $f)))"#));
        let mut seen = None;
        let call = guest.call_with("run", &[], |call: HostCall<'_>| {
            seen = Some(call.slots.len());
            Ok(())
        });
        call.expect("no trap");
        assert_eq!(seen, Some(slots), "{ty}");
    }
}

fn a_call_says_which_instance_and_import_it_comes_from<E: Engine>(engine: &Arc<E>) {
    let imports: String = (0..50).map(|at| format!(r#"(import "e" "f{at}" (func))"#)).collect();
    let calls: String = (0..50).rev().map(|at| format!("(call {at})")).collect();
    let wat = format!(r#"(module {imports} (func (export "run") {calls}))"#);
    let realm = Realm::new(engine);
    for _ in 0..3 {
        let guest = Guest::linked(&realm, None, &wat, &[]);
        let mut seen = Vec::new();
        let call = guest.call_with("run", &[], |call| {
            seen.push((call.instance, call.import));
            Ok(())
        });
        call.expect("no trap");
        assert!(seen.iter().copied().eq((0..50).rev().map(|at| (guest.index, at))));
    }
}

fn types_that_fit_no_slot_trap_when_called<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module
            (import "e" "v" (func $v (param i32 v128)))
            (import "e" "r" (func $r (param funcref)))
            (import "e" "x" (func $x (result externref)))
            (import "e" "ok" (func $ok (result i32)))
            (func (export "v128") (call $v (i32.const 0) (v128.const i64x2 1 2)))
            (func (export "funcref") (call $r (ref.null func)))
            (func (export "externref") (drop (call $x)))
            (func (export "ok") (result i32) (call $ok)))"#,
    );
    for ty in ["v128", "funcref", "externref"] {
        let trap = guest.call_with(ty, &[], |_| panic!("the host must not be asked")).expect_err("it traps");
        assert_eq!(
            (trap.code, &*trap.message),
            (TrapCode::Supervisor, &*format!("Unsupported function argument: {ty}"))
        );
    }
    guest.call_with("ok", &[], |_| Ok(())).expect("no trap");
}

const CALLS_OUT: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (memory (export "m") 1 4) (global $g (export "g") (mut i64) (i64.const 0))
    (func (export "run") (param i32) (result i32)
        (global.set $g (i64.const 1))
        (call $f (local.get 0))
        (global.set $g (i64.const 2)))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "size") (result i32) memory.size)
    (func (export "fail") unreachable)
    (func (export "write then run") (param i32) (result i32)
        (i32.store8 (local.get 0) (i32.const 7))
        (drop (call $f (local.get 0)))
        (i32.load8_u (i32.add (local.get 0) (i32.const 1))))
    (export "out" (func $f)))"#;

fn a_parked_reason_ends_the_guest<E: Engine>(engine: &Arc<E>) {
    let trap = Guest::new(engine, CALLS_OUT).call_with("run", &[1], |_| Err(HostTrap::Parked)).expect_err("it fails");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, TrapCode::Supervisor.message()));
}

fn a_message_ends_the_guest_and_is_its_traps_message<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for message in ["no", "", "many words — and ünïcode\n\0"] {
        let fail = |_: HostCall<'_>| Err(HostTrap::Message(message.to_owned().into()));
        for name in ["run", "out"] {
            let trap = guest.call_with(name, &[1], fail).expect_err("it fails");
            assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, message));
        }
    }
}

fn a_panic_of_the_host_stops_at_the_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for _ in 0..3 {
        let trap = guest.call_with("run", &[1], |_| panic!("number {}", 5)).expect_err("it panics");
        assert_eq!(trap.code, TrapCode::Internal);
        assert_eq!(trap.message, "the host function panicked: number 5");
        assert_eq!(guest.global("g"), 1);
        assert_eq!(guest.call("add", &[2, 3]).expect("still usable"), [5]);
        guest.realm.memory_write(guest.memory("m"), 0, &[1]).expect("still usable");
    }
    let trap = guest.call_with("run", &[1], |_| std::panic::panic_any(5_u8)).expect_err("it panics");
    assert_eq!(trap.message, "the host function panicked: no message");
}

fn a_panic_in_a_nested_call_stops_at_the_innermost_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("run", &[1], |call| {
        let trap = guest.call_with("run", &[2], |_| panic!("on purpose")).expect_err("it panics");
        assert_eq!(trap.code, TrapCode::Internal);
        // The realm can be used at once, in here as well.
        assert_eq!(guest.call("add", &[2, 3]).expect("usable"), [5]);
        guest.realm.memory_write(guest.memory("m"), 0, &[1]).expect("usable");
        call.slots[0] = 9;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [9]);
}

fn a_realm_can_be_used_while_a_panic_unwinds<E: Engine>(engine: &Arc<E>) {
    struct WritesWhenDropped<'a, E: Engine>(&'a Guest<E>, u64);

    impl<E: Engine> Drop for WritesWhenDropped<'_, E> {
        fn drop(&mut self) {
            self.0.realm.memory_write(self.0.memory("m"), self.1, &[7]).expect("usable while unwinding");
        }
    }

    let guest = Guest::new(engine, CALLS_OUT);
    let call = guest.call_with("run", &[1], |_| {
        let _writes = WritesWhenDropped(&guest, 0);
        panic!("on purpose")
    });
    assert_eq!(call.expect_err("it panics").code, TrapCode::Internal);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _writes = WritesWhenDropped(&guest, 1);
        panic!("on purpose")
    }));
    assert!(caught.is_err());
    assert_eq!(contents(&guest.realm, guest.memory("m"))[..2], [7, 7]);
}

fn a_failed_host_call_changes_no_result<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let mut slots = [77];
    let mut host = HostFn(|call: HostCall<'_>| {
        call.slots[0] = 99;
        Err(HostTrap::Parked)
    });
    for name in ["run", "out"] {
        assert!(guest.realm.call(guest.index, guest.export(name), &mut slots, &mut host).is_err());
        assert_eq!(slots, [77], "{name}");
    }
}

fn the_guest_runs_on_after_a_host_call_and_not_after_a_failed_one<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    assert!(guest.call_with("run", &[1], |_| Err(HostTrap::Parked)).is_err());
    assert_eq!(guest.global("g"), 1);
    guest.call_with("run", &[1], |_| Ok(())).expect("no trap");
    assert_eq!(guest.global("g"), 2);
}

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

fn many_host_calls_in_one_call<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (param i32) (result i32)))
            (func (export "run") (param $left i32) (result i32) (local $sum i32)
                (loop $again
                    (local.set $sum (i32.add (local.get $sum) (call $f (local.get $left))))
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (local.get $sum)))"#,
    );
    let results = guest.call_with("run", &[100_000], |call| {
        call.slots[0] = 3;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [300_000]);
}

/// Across both engines, so not one of those above: each finds its own guests again below those of the other.
#[test]
fn guests_of_both_engines_call_each_other() {
    use crate::guest::engine;
    use sandbox_host::engine::{wasmer::Wasmer, wasmi::Wasmi};

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
