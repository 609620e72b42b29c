//! Every trap that a guest can cause: its code, its message, and that the instance can be used afterwards.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
};

use crate::guest::Guest;

on_both_engines![
    every_cause_has_its_code_on_both_engines,
    a_trap_has_the_standard_message_of_its_code,
    what_does_not_trap_has_a_result,
    an_instance_can_be_used_after_each_trap,
    what_was_done_before_a_trap_stays_done,
    a_trap_in_a_host_call_has_the_supervisors_code,
    a_trap_deep_in_the_guest_ends_all_of_it,
    traps_are_cheap_enough_to_happen_often,
];

/// Bodies of functions without parameters. The module around them has a memory of one page, a table of four elements
/// and the other things that they name.
const TRAPS: &[(TrapCode, &str)] = &[
    (TrapCode::Unreachable, "unreachable"),
    (TrapCode::Unreachable, "(if (i32.const 1) (then unreachable))"),
    // Loads and stores of every width, at the end, beyond it, and where address and offset add up to more than 32 bits.
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load8_u (i32.const 65536)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load16_u (i32.const 65535)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load (i32.const 65533)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i64.load (i32.const 65529)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (f32.load (i32.const 65533)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (f64.load (i32.const 65529)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (v128.load (i32.const 65521)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load (i32.const -1)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load offset=65536 (i32.const 0)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load offset=0xffffffff (i32.const 0)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i32.load offset=0xffffffff (i32.const -1)))"),
    (TrapCode::MemoryOutOfBounds, "(drop (i64.load offset=8 (i32.const -8)))"),
    (TrapCode::MemoryOutOfBounds, "(i32.store8 (i32.const 65536) (i32.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(i32.store (i32.const 65533) (i32.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(i64.store (i32.const 65529) (i64.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(f64.store offset=0xffffffff (i32.const -1) (f64.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(v128.store (i32.const 65521) (v128.const i64x2 0 0))"),
    (TrapCode::MemoryOutOfBounds, "(memory.fill (i32.const 65536) (i32.const 0) (i32.const 1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.fill (i32.const 65537) (i32.const 0) (i32.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(memory.fill (i32.const 1) (i32.const 0) (i32.const -1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.copy (i32.const 0) (i32.const 65536) (i32.const 1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.copy (i32.const 65536) (i32.const 0) (i32.const 1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.copy (i32.const 1) (i32.const 0) (i32.const -1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.init $data (i32.const 65536) (i32.const 0) (i32.const 1))"),
    (TrapCode::MemoryOutOfBounds, "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 4))"),
    (TrapCode::MemoryOutOfBounds, "(memory.init $data (i32.const 0) (i32.const 4) (i32.const 0))"),
    (TrapCode::MemoryOutOfBounds, "(memory.init $active (i32.const 0) (i32.const 0) (i32.const 1))"),
    (TrapCode::TableOutOfBounds, "(call_indirect (type $none) (i32.const 4))"),
    (TrapCode::TableOutOfBounds, "(call_indirect (type $none) (i32.const -1))"),
    (TrapCode::TableOutOfBounds, "(drop (table.get $table (i32.const 4)))"),
    (TrapCode::TableOutOfBounds, "(drop (table.get $extern (i32.const -1)))"),
    (TrapCode::TableOutOfBounds, "(table.set $table (i32.const 4) (ref.null func))"),
    (TrapCode::TableOutOfBounds, "(table.fill $table (i32.const 3) (ref.null func) (i32.const 2))"),
    (TrapCode::TableOutOfBounds, "(table.fill $extern (i32.const 1) (ref.null extern) (i32.const -1))"),
    (TrapCode::TableOutOfBounds, "(table.copy $table $table (i32.const 3) (i32.const 0) (i32.const 2))"),
    (TrapCode::TableOutOfBounds, "(table.copy $table $table (i32.const 0) (i32.const 5) (i32.const 0))"),
    (TrapCode::TableOutOfBounds, "(table.init $table $elements (i32.const 4) (i32.const 0) (i32.const 1))"),
    (TrapCode::TableOutOfBounds, "(table.init $table $elements (i32.const 0) (i32.const 1) (i32.const 1))"),
    (
        TrapCode::TableOutOfBounds,
        "(elem.drop $elements) (table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 1))",
    ),
    (TrapCode::IndirectCallNull, "(call_indirect (type $none) (i32.const 3))"),
    (TrapCode::IndirectCallSignature, "(drop (call_indirect (type $number) (i32.const 0)))"),
    (TrapCode::IndirectCallSignature, "(call_indirect (type $none) (i32.const 1))"),
    (TrapCode::IntegerDivideByZero, "(drop (i32.div_s (i32.const 1) (i32.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i32.rem_s (i32.const 1) (i32.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i32.rem_u (i32.const 0) (i32.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i64.div_s (i64.const 1) (i64.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i64.div_u (i64.const 1) (i64.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i64.rem_s (i64.const 1) (i64.const 0)))"),
    (TrapCode::IntegerDivideByZero, "(drop (i64.rem_u (i64.const 0) (i64.const 0)))"),
    // The same with operands that no compiler knows beforehand.
    (TrapCode::IntegerDivideByZero, "(drop (i32.div_s (global.get $one) (global.get $zero)))"),
    (
        TrapCode::IntegerDivideByZero,
        "(drop (i64.rem_u (i64.extend_i32_u (global.get $one)) (i64.extend_i32_u (global.get $zero))))",
    ),
    (TrapCode::IntegerOverflow, "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))"),
    (TrapCode::IntegerOverflow, "(drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))"),
    (
        TrapCode::IntegerOverflow,
        "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (global.get $zero) (global.get $one))))",
    ),
    (TrapCode::IntegerOverflow, "(drop (i32.trunc_f32_s (f32.const 2147483648)))"),
    (TrapCode::IntegerOverflow, "(drop (i32.trunc_f32_u (f32.const -1)))"),
    (TrapCode::IntegerOverflow, "(drop (i32.trunc_f64_s (f64.const -2147483649)))"),
    (TrapCode::IntegerOverflow, "(drop (i32.trunc_f64_u (f64.const 4294967296)))"),
    (TrapCode::IntegerOverflow, "(drop (i64.trunc_f32_s (f32.const inf)))"),
    (TrapCode::IntegerOverflow, "(drop (i64.trunc_f32_u (f32.const -inf)))"),
    (TrapCode::IntegerOverflow, "(drop (i64.trunc_f64_s (f64.const 0x1p63)))"),
    (TrapCode::IntegerOverflow, "(drop (i64.trunc_f64_u (f64.const 0x1p64)))"),
    (TrapCode::InvalidConversion, "(drop (i32.trunc_f32_s (f32.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i32.trunc_f32_u (f32.const -nan:0x200001)))"),
    (TrapCode::InvalidConversion, "(drop (i32.trunc_f64_s (f64.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i32.trunc_f64_u (f64.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i64.trunc_f32_s (f32.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i64.trunc_f32_u (f32.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i64.trunc_f64_s (f64.const nan)))"),
    (TrapCode::InvalidConversion, "(drop (i64.trunc_f64_u (f64.const -nan)))"),
    (TrapCode::StackOverflow, "(call $endless)"),
];

fn module() -> String {
    let funcs: String = TRAPS
        .iter()
        .enumerate()
        .map(|(at, (_, body))| format!("(func (export \"{at}\") (global.set $turns (i32.const {at})) {body})\n"))
        .collect();
    format!(
        r#"(module
            (type $none (func)) (type $number (func (result i32)))
            (memory 1) (data (i32.const 0) "\2a") (data $data "abc") (data $active (i32.const 8) "a")
            (table $table 4 funcref) (table $extern 4 externref)
            (elem (i32.const 0) $nothing $seven) (elem $elements func $nothing)
            (global $zero (export "zero") (mut i32) (i32.const 0)) (global $one (export "one") (mut i32) (i32.const 1))
            (global $turns (export "turns") (mut i32) (i32.const 0))
            (func $nothing) (func $seven (result i32) (i32.const 7))
            (func $endless (call $endless))
            (func (export "check") (result i32)
                (i32.add (i32.load8_u (i32.const 0)) (call_indirect (type $number) (i32.const 1))))
            {funcs})"#
    )
}

fn every_cause_has_its_code_on_both_engines<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, &module());
    let wrong: Vec<_> = TRAPS
        .iter()
        .enumerate()
        .map(|(at, (expected, body))| (expected, guest.call(&at.to_string(), &[]).err().map(|trap| trap.code), body))
        .filter(|(expected, found, _)| Some(**expected) != *found)
        .collect();
    assert!(wrong.is_empty(), "(expected, found, body): {wrong:#?}");
}

fn a_trap_has_the_standard_message_of_its_code<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, &module());
    for at in 0..TRAPS.len() {
        let trap = guest.call(&at.to_string(), &[]).expect_err("it traps");
        assert_eq!(trap.to_string(), trap.message);
        // That of the stack names the limits as well.
        let limits = trap.message.strip_prefix(trap.code.message()).expect("begins with the message");
        assert_eq!(limits.starts_with(" (limits.stackBytes is "), trap.code == TrapCode::StackOverflow, "{limits}");
        assert_eq!(limits.is_empty(), trap.code != TrapCode::StackOverflow, "{limits}");
    }
}

fn what_does_not_trap_has_a_result<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory 1) (table 2 funcref)
            (func (export "rem i32") (result i32) (i32.rem_s (i32.const 0x80000000) (i32.const -1)))
            (func (export "rem i64") (result i64) (i64.rem_s (i64.const 0x8000000000000000) (i64.const -1)))
            (func (export "last byte") (result i32) (i32.load8_u (i32.const 65535)))
            (func (export "last word") (result i64) (i64.load (i32.const 65528)))
            (func (export "nothing at the end") (memory.fill (i32.const 65536) (i32.const 0) (i32.const 0))
                (memory.copy (i32.const 65536) (i32.const 65536) (i32.const 0))
                (table.fill (i32.const 2) (ref.null func) (i32.const 0)))
            (func (export "trunc") (result i32) (i32.trunc_f64_s (f64.const 2147483647.9)))
            (func (export "trunc u") (result i32) (i32.trunc_f64_u (f64.const -0.9)))
            (func (export "no memory left") (result i32) (memory.grow (i32.const 65536)))
            (func (export "no table left") (result i32) (table.grow (ref.null func) (i32.const -1))))"#,
    );
    for (name, results) in [
        ("rem i32", &[0][..]),
        ("rem i64", &[0]),
        ("last byte", &[0]),
        ("last word", &[0]),
        ("nothing at the end", &[]),
        ("trunc", &[0x7fff_ffff]),
        ("trunc u", &[0]),
        ("no memory left", &[0xffff_ffff]),
        ("no table left", &[0xffff_ffff]),
    ] {
        assert_eq!(guest.call(name, &[]).expect(name), results, "{name}");
    }
}

fn an_instance_can_be_used_after_each_trap<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, &module());
    for at in 0..TRAPS.len() {
        assert!(guest.call(&at.to_string(), &[]).is_err());
        assert_eq!(guest.call("check", &[]).expect("no trap"), [49]);
        guest.realm.global_set(guest.index, guest.export("one"), 1).expect("mutable");
    }
}

fn what_was_done_before_a_trap_stays_done<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, &module());
    for at in 0..TRAPS.len() {
        assert!(guest.call(&at.to_string(), &[]).is_err());
        assert_eq!(guest.global("turns"), at as u64);
    }
}

const CALLS_OUT: &str = r#"(module (import "e" "f" (func $f)) (func (export "run") (call $f) unreachable)
    (func $down (param i32)
        (if (i32.eqz (local.get 0)) (then unreachable))
        (call $down (i32.sub (local.get 0) (i32.const 1)))
        (global.set 0 (i32.const 1)))
    (global (export "g") (mut i32) (i32.const 0))
    (export "down" (func $down))
    (func (export "fine") (result i32) (i32.const 1)))"#;

fn a_trap_in_a_host_call_has_the_supervisors_code<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    assert_eq!(
        guest.call_with("run", &[], |_| Err(HostTrap::Parked)).expect_err("it fails").code,
        TrapCode::Supervisor
    );
    assert_eq!(guest.call_with("run", &[], |_| Ok(())).expect_err("it traps").code, TrapCode::Unreachable);
    assert_eq!(guest.call("fine", &[]).expect("no trap"), [1]);
}

fn a_trap_deep_in_the_guest_ends_all_of_it<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for depth in [0, 1, 1000, 5000] {
        assert_eq!(guest.trap("down", &[depth]), TrapCode::Unreachable);
        assert_eq!(guest.global("g"), 0);
    }
}

fn traps_are_cheap_enough_to_happen_often<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, &module());
    for turn in 0..20_000 {
        let (code, _) = TRAPS[turn % TRAPS.len()];
        // A stack overflow touches a whole stack each time.
        if code != TrapCode::StackOverflow {
            assert!(guest.call(&(turn % TRAPS.len()).to_string(), &[]).is_err());
        }
    }
    assert_eq!(guest.call("check", &[]).expect("no trap"), [49]);
}
