//! Arguments and results: what the host gets and what the guest gets back.

use std::{cell::RefCell, sync::Arc};

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::{HostCall, Realm},
};

use crate::guest::Guest;

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
