//! Calls of exported functions: what goes in, what comes out, what cannot be called.

use std::sync::Arc;

use sandbox_host::{engine::Engine, error::TrapCode, realm::Realm};

use crate::guest::{Guest, no_host};

on_both_engines![
    every_bit_pattern_of_every_numeric_type_goes_in_and_comes_out,
    the_high_bits_of_a_small_argument_do_not_matter,
    results_of_small_types_have_no_high_bits,
    a_function_may_have_a_thousand_parameters,
    a_function_may_have_a_thousand_results,
    a_function_may_have_many_parameters_and_results_of_mixed_types,
    types_that_fit_no_slot_are_refused,
    functions_of_unsupported_types_do_no_harm_unless_called,
    what_is_no_function_cannot_be_called,
    too_few_slots_are_refused,
    more_slots_than_needed_are_left_alone,
    state_lasts_from_call_to_call,
    functions_with_many_locals_run,
    big_functions_run,
];

/// Signalling and quiet NaNs with payloads, of both signs, and other patterns that conversions may spoil.
const F32_BITS: [u64; 9] =
    [0, 0x8000_0000, 0x7f80_0001, 0xff80_0001, 0x7fa0_1234, 0x7fc0_0000, 0xffff_ffff, 1, 0x7f80_0000];
const F64_BITS: [u64; 9] = [
    0,
    1 << 63,
    0x7ff0_0000_0000_0001,
    0xfff0_0000_0000_0001,
    0x7ff4_0000_1234_5678,
    0x7ff8_0000_0000_0000,
    u64::MAX,
    1,
    0x7ff0_0000_0000_0000,
];
const I32: [u64; 9] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1234_5678, 2, 3, 4];
const I64: [u64; 9] = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 32, 0xffff_ffff, 5];

const ECHO: &str = r#"(module
    (func (export "echo") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
        (local.get 0) (local.get 1) (local.get 2) (local.get 3))
    (func (export "turn") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
        (local.get 3) (local.get 2) (local.get 1) (local.get 0))
    (func (export "i32") (param i32) (result i32) (local.get 0))
    (func (export "i64") (param i64) (result i64) (local.get 0))
    (func (export "f32") (param f32) (result f32) (local.get 0))
    (func (export "f64") (param f64) (result f64) (local.get 0))
    (func (export "bits") (param f32 f64) (result i32 i64)
        (i32.reinterpret_f32 (local.get 0)) (i64.reinterpret_f64 (local.get 1)))
    (func (export "floats") (param i32 i64) (result f32 f64)
        (f32.reinterpret_i32 (local.get 0)) (f64.reinterpret_i64 (local.get 1))))"#;

fn every_bit_pattern_of_every_numeric_type_goes_in_and_comes_out<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ECHO);
    for at in 0..9 {
        let [a, b, c, d] = [I32[at], I64[at], F32_BITS[at], F64_BITS[at]];
        let call = |name, arguments: &[u64]| guest.call(name, arguments).expect("no trap");
        assert_eq!(call("echo", &[a, b, c, d]), [a, b, c, d]);
        assert_eq!(call("turn", &[a, b, c, d]), [d, c, b, a]);
        assert_eq!(call("bits", &[c, d]), [c, d]);
        assert_eq!(call("floats", &[c, d]), [c, d]);
        for (name, value) in [("i32", a), ("i64", b), ("f32", c), ("f64", d)] {
            assert_eq!(call(name, &[value]), [value]);
        }
    }
}

fn the_high_bits_of_a_small_argument_do_not_matter<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ECHO);
    let dirt = 0xdead_beef_0000_0000;
    assert_eq!(guest.call("echo", &[dirt | 5, 6, dirt | 7, 8]).expect("no trap"), [5, 6, 7, 8]);
    for name in ["i32", "f32"] {
        assert_eq!(guest.call(name, &[dirt | 0xffff_fffe]).expect("no trap"), [0xffff_fffe]);
    }
}

fn results_of_small_types_have_no_high_bits<E: Engine>(engine: &Arc<E>) {
    // The arguments fill the slots with ones, and each result is narrower than the argument that was there.
    let guest = Guest::new(
        engine,
        r#"(module (func (export "f") (param i64 i64 f64) (result i32 f32 i32)
            (i32.const -1) (f32.const -1) (i32.wrap_i64 (local.get 0))))"#,
    );
    let results = guest.call("f", &[u64::MAX; 3]).expect("no trap");
    assert_eq!(results, [0xffff_ffff, 0xbf80_0000, 0xffff_ffff]);
}

fn a_function_may_have_a_thousand_parameters<E: Engine>(engine: &Arc<E>) {
    let adds: String = (1..1000).map(|at| format!("(i64.add (local.get {at}))")).collect();
    let guest = Guest::new(
        engine,
        &format!(r#"(module (func (export "sum") (param {}) (result i64) (local.get 0) {adds}))"#, "i64 ".repeat(1000)),
    );
    let arguments: Vec<u64> = (0..1000_u64).map(|at| at * at).collect();
    assert_eq!(guest.call("sum", &arguments).expect("no trap"), [arguments.iter().sum::<u64>()]);
}

fn a_function_may_have_a_thousand_results<E: Engine>(engine: &Arc<E>) {
    let results: String = (0..1000).map(|at| format!("(i64.add (local.get 0) (i64.const {at}))")).collect();
    let guest = Guest::new(
        engine,
        &format!(r#"(module (func (export "f") (param i64) (result {}) {results}))"#, "i64 ".repeat(1000)),
    );
    let expected: Vec<u64> = (7..1007).collect();
    assert_eq!(guest.call("f", &[7]).expect("no trap"), expected);
}

fn a_function_may_have_many_parameters_and_results_of_mixed_types<E: Engine>(engine: &Arc<E>) {
    let types = "i32 f64 i64 f32 ".repeat(50);
    let body: String = (0..200).map(|at| format!("(local.get {at})")).collect();
    let guest = Guest::new(engine, &format!(r#"(module (func (export "f") (param {types}) (result {types}) {body}))"#));
    let arguments: Vec<u64> =
        (0..50).flat_map(|at| [I32[at % 9], F64_BITS[at % 9], I64[at % 9] ^ at as u64, F32_BITS[at % 9]]).collect();
    assert_eq!(guest.call("f", &arguments).expect("no trap"), arguments);
}

const UNSUPPORTED: &str = r#"(module
    (func (export "v128 in") (param v128))
    (func (export "v128 out") (result v128) (v128.const i64x2 0 0))
    (func (export "funcref in") (param i32 funcref))
    (func (export "funcref out") (result i32 funcref) (i32.const 0) (ref.null func))
    (func (export "externref in") (param externref))
    (func (export "externref out") (result externref) (ref.null extern))
    (func (export "fine") (result i32) (i32.const 1)))"#;

fn types_that_fit_no_slot_are_refused<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, UNSUPPORTED);
    for (export, ty) in ["v128", "v128", "funcref", "funcref", "externref", "externref"].into_iter().enumerate() {
        for slots in [0, 1, 2, 10] {
            let trap = guest
                .realm
                .call(guest.index, export as u32, &mut vec![0; slots], &mut no_host())
                .expect_err("it cannot be called");
            assert_eq!(trap.code, TrapCode::Internal);
            assert_eq!(trap.message, format!("a value of type {ty} cannot be passed"));
        }
    }
}

fn functions_of_unsupported_types_do_no_harm_unless_called<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, UNSUPPORTED);
    assert_eq!(guest.call("fine", &[]).expect("no trap"), [1]);
}

fn what_is_no_function_cannot_be_called<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory (export "m") 1) (global (export "g") i32 (i32.const 0)) (table (export "t") 1 funcref)
            (func (export "f")))"#,
    );
    for (instance, export) in [(0, 0), (0, 1), (0, 2), (0, 4), (0, u32::MAX), (1, 3), (u32::MAX, 3)] {
        let call = guest.realm.call(guest.index + instance, export, &mut [0; 4], &mut no_host());
        assert_eq!(call.expect_err("no function there").code, TrapCode::Internal, "{instance} {export}");
    }
    guest.call("f", &[]).expect("no trap");
}

fn too_few_slots_are_refused<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ECHO);
    for slots in 0..4 {
        let trap = guest
            .realm
            .call(guest.index, guest.export("echo"), &mut vec![0; slots], &mut no_host())
            .expect_err("too few slots");
        assert_eq!((trap.code, &*trap.message), (TrapCode::Internal, "too few slots for the function's type"));
    }
}

fn more_slots_than_needed_are_left_alone<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ECHO);
    let mut slots = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    guest.realm.call(guest.index, guest.export("i32"), &mut slots, &mut no_host()).expect("no trap");
    assert_eq!(slots, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

fn state_lasts_from_call_to_call<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (global (mut i64) (i64.const 0))
        (func (export "add") (param i64) (result i64)
            (global.set 0 (i64.add (global.get 0) (local.get 0))) (global.get 0)))"#;
    let realm = Realm::new(engine);
    let (one, two) = (Guest::linked(&realm, None, wat, &[]), Guest::linked(&realm, None, wat, &[]));
    for turn in 1..=1000 {
        assert_eq!(one.call("add", &[1]).expect("no trap"), [turn]);
        assert_eq!(two.call("add", &[2]).expect("no trap"), [2 * turn]);
    }
}

fn functions_with_many_locals_run<E: Engine>(engine: &Arc<E>) {
    // wasmi translates no function with more than 30,000 parameters and locals, and says so when it is called.
    for locals in [1000, 10_000, 29_999] {
        let wat = format!(
            r#"(module (func (export "f") (param i64) (result i64) (local {})
                (local.set {locals} (local.get 0)) (i64.add (local.get {locals}) (local.get 1))))"#,
            "i64 ".repeat(locals)
        );
        assert_eq!(Guest::new(engine, &wat).call("f", &[9]).expect("no trap"), [9], "{locals}");
    }
}

fn big_functions_run<E: Engine>(engine: &Arc<E>) {
    let adds = "(i64.add (i64.const 3)) (i64.xor (local.get 0))".repeat(20_000);
    let wat = format!(r#"(module (func (export "f") (param i64) (result i64) (local.get 0) {adds}))"#);
    let expected = (0..20_000).fold(5_u64, |value, _| value.wrapping_add(3) ^ 5);
    assert_eq!(Guest::new(engine, &wat).call("f", &[5]).expect("no trap"), [expected]);
}
