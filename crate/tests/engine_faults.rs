//! What an engine does wrong by itself, and does right here: see `engine/wasmi/repairs.rs`. All of it was found by fuzzing.

use std::sync::Arc;

use sandbox_host::engine::{Engine, EngineConfig};

use crate::guest::{Guest, engine_with};

on_both_engines![
    a_local_below_a_block_with_parameters_keeps_its_value,
    a_store_far_away_of_its_own_address_is_done,
    a_branch_table_takes_its_values_along,
    a_selection_by_a_comparison_with_zero_looks_at_what_is_compared,
    memories_and_tables_grow_as_guests_ask,
    what_is_added_to_grow_is_no_export,
];

// Alone, because a stack that grows with each round would end the process.
on_both_engines_alone![growing_without_end_takes_no_stack];

/// Each way in which an engine may be asked to run guests.
fn engines<E: Engine>() -> impl Iterator<Item = Arc<E>> {
    [(false, false), (false, true), (true, false), (true, true)].into_iter().map(|(has_fuel, interruptible)| {
        engine_with(&EngineConfig { has_fuel, interruptible, ..EngineConfig::default() })
    })
}

fn a_local_below_a_block_with_parameters_keeps_its_value<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module
                (func (export "block") (param i32) (result i32)
                    local.get 0  i32.const 7
                    block (param i32) (result i32)
                        local.get 0  br_if 0  i32.const 2  local.set 0
                    end
                    drop)
                (func (export "loop") (param i32) (result i32) (local $rounds i32)
                    local.get 0  i32.const 7
                    loop (param i32) (result i32)
                        (local.set 0 (i32.const 2))
                        (br_if 0 (i32.lt_u (local.tee $rounds (i32.add (local.get $rounds) (i32.const 1))) (i32.const 3)))
                    end
                    drop)
                (func (export "if") (param i32) (result i32)
                    local.get 0  i32.const 7  local.get 0
                    if (param i32) (result i32)
                        local.get 0  br_if 0  i32.const 2  local.set 0
                    else
                        i32.const 3  local.set 0
                    end
                    drop))"#,
        );
        for name in ["block", "loop", "if"] {
            for value in [0, 1, 0xffff_ffff] {
                assert_eq!(guest.call(name, &[value]).expect("it ends"), [value], "{name} {value:#x}");
            }
        }
    }
}

fn a_store_far_away_of_its_own_address_is_done<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module (memory 4)
                (func (export "store") (param i32) (result i32)
                    (local.set 0 (i32.add (local.get 0) (i32.const 8)))
                    (i32.store offset=65536 (local.get 0) (local.get 0))
                    (i32.load offset=65536 (local.get 0)))
                (func (export "store8") (param i32) (result i32)
                    (local.set 0 (i32.add (local.get 0) (i32.const 8)))
                    (i32.store8 offset=65536 (local.get 0) (local.get 0))
                    (i32.load offset=65536 (local.get 0)))
                (func (export "store16") (param i32) (result i32)
                    (local.set 0 (i32.add (local.get 0) (i32.const 8)))
                    (i32.store16 offset=65536 (local.get 0) (local.get 0))
                    (i32.load offset=65536 (local.get 0))))"#,
        );
        assert_eq!(guest.call("store8", &[0x0100]).expect("it is in bounds"), [0x08]);
        assert_eq!(guest.call("store16", &[0x1_1000]).expect("it is in bounds"), [0x1008]);
        assert_eq!(guest.call("store", &[0x1_2000]).expect("it is in bounds"), [0x1_2008]);
    }
}

fn a_branch_table_takes_its_values_along<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module
                (func $blocks (param i32) (result i64 i32)
                    (block $outer (result i64 i32)
                        (block $inner (result i64 i32)
                            i32.const 1
                            (br_table $inner $outer $outer (i64.const 127) (i32.const 5) (local.get 0)))
                        (i32.add (i32.const 1)) (return)))
                (func $function (param i32) (result i64 i32)
                    i32.const 1
                    (block $inner (result i64 i32)
                        i32.const 2
                        (br_table $inner 1 (i64.const 127) (i32.const 5) (local.get 0)))
                    (i32.add (i32.const 1)) (return))
                (func $loop (param i32) (result i64 i32)
                    (i64.const 120) (i32.const 4)
                    (loop $again (param i64 i32) (result i64 i32)
                        (if (param i64 i32) (result i64 i32) (local.get 0)
                            (then
                                (drop) (drop) (local.set 0 (i32.sub (local.get 0) (i32.const 1))) i32.const 3
                                (br_table $again $again (i64.const 127) (i32.const 5) (local.get 0))))))
                (func $vector (param i32) (result v128)
                    (block $outer (result v128)
                        (block $inner (result v128)
                            i32.const 1
                            (br_table $inner $outer (v128.const i64x2 127 5) (local.get 0)))
                        (i64x2.add (v128.const i64x2 0 1)) (return)))
                (func (export "blocks") (param i32) (result i64) (i64.add (i64.extend_i32_u (call $blocks (local.get 0)))))
                (func (export "function") (param i32) (result i64) (i64.add (i64.extend_i32_u (call $function (local.get 0)))))
                (func (export "loop") (param i32) (result i64) (i64.add (i64.extend_i32_u (call $loop (local.get 0)))))
                (func (export "vector") (param i32) (result i64) (local v128)
                    (local.set 1 (call $vector (local.get 0)))
                    (i64.add (i64x2.extract_lane 0 (local.get 1)) (i64x2.extract_lane 1 (local.get 1)))))"#,
        );
        let sums = |name: &str| [0, 1, 2].map(|index| guest.call(name, &[index]).expect("it ends")[0]);
        assert_eq!(sums("blocks"), [133, 132, 132]);
        assert_eq!(sums("function"), [133, 132, 132]);
        assert_eq!(sums("loop"), [124, 132, 132]);
        assert_eq!(sums("vector"), [133, 132, 132]);
    }
}

fn a_selection_by_a_comparison_with_zero_looks_at_what_is_compared<E: Engine>(_: &Arc<E>) {
    const CONDITIONS: [(&str, [u64; 2]); 6] = [
        ("i32.eqz", [1, 2]),
        ("i32.const 0 i32.eq", [1, 2]),
        ("i32.const 0 i32.ne", [2, 1]),
        ("i32.eqz i32.eqz", [2, 1]),
        ("i32.eqz nop i32.const 0 i32.or", [1, 2]),
        ("i32.eqz local.tee 1", [1, 2]),
    ];
    for engine in engines::<E>() {
        for (condition, expected) in CONDITIONS {
            for value in ["local.get 0", "(call $same (local.get 0))", "(i32.add (local.get 0) (i32.const 0))"] {
                for (yes, no) in
                    [("i64.const 1", "i64.const 2"), ("(call $one)", "i64.const 2"), ("i64.const 1", "(call $two)")]
                {
                    let guest = Guest::new(
                        &engine,
                        &format!(
                            r#"(module (func $one (result i64) (i64.const 1)) (func $two (result i64) (i64.const 2))
                                (func $same (param i32) (result i32) (local.get 0))
                                (func (export "f") (param i32) (result i64) (local i32) {yes} {no} {value} {condition} select))"#
                        ),
                    );
                    let selected = [0, 1].map(|value| guest.call("f", &[value]).expect("it ends")[0]);
                    assert_eq!(selected, expected, "{yes} {no} {value} {condition}");
                }
            }
        }
    }
}

fn memories_and_tables_grow_as_guests_ask<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module (memory 1 9) (table $other 3 5 externref) (table $t 2 1000000 funcref) (elem declare func $five)
                (func $five (result i32) (i32.const 5))
                (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
                (func (export "size") (result i32) (memory.size))
                (func (export "other") (param i32) (result i32) (table.grow $other (ref.null extern) (local.get 0)))
                (func (export "table") (param i32) (result i32) (table.grow $t (ref.func $five) (local.get 0)))
                (func (export "call") (param i32) (result i32) (call_indirect $t (result i32) (local.get 0))))"#,
        );
        let call = |name: &str, argument: u64| guest.call(name, &[argument]).expect("it ends")[0];
        let failed = u64::from(u32::MAX);
        let grown = [0, 2, 0xffff_ffff, 65_536, 6, 0, 1].map(|delta| call("memory", delta));
        assert_eq!(grown, [1, 1, failed, failed, 3, 9, failed]);
        assert_eq!(guest.call("size", &[]).expect("it ends"), [9]);
        assert_eq!([2, 1, 0].map(|delta| call("other", delta)), [3, failed, 5]);
        assert_eq!([3, 0x7fff_ffff, 100, 0].map(|delta| call("table", delta)), [2, failed, 5, 105]);
        assert_eq!([2, 4, 104].map(|place| call("call", place)), [5; 3]);
        guest.call("call", &[0]).expect_err("it was there before");
    }
}

fn what_is_added_to_grow_is_no_export<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module (memory 1) (global (export "grow0") i32 (i32.const 1)) (table 1 funcref)
                (func (export "grow") (drop (memory.grow (i32.const 1))) (drop (table.grow (ref.null func) (i32.const 1)))))"#,
        );
        let names: Vec<_> = guest.module.exports.iter().map(|export| export.name.as_str()).collect();
        assert_eq!(names, ["grow0", "grow"]);
        guest.call("grow", &[]).expect("there is no limit");
    }
}

fn growing_without_end_takes_no_stack<E: Engine>(_: &Arc<E>) {
    for engine in engines::<E>() {
        let guest = Guest::new(
            &engine,
            r#"(module (memory 1 1) (table 1 1 funcref)
                (func (export "memory") (param i32)
                    (loop $l (drop (memory.grow (i32.const 1)))
                        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
                (func (export "table") (param i32)
                    (loop $l (drop (table.grow (ref.null func) (i32.const 1)))
                        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#,
        );
        for name in ["memory", "table"] {
            guest.call(name, &[1_000_000]).expect("it fails to grow, and that is all");
        }
    }
}
