//! Which proposals guests may use: the same on both engines, so that a module runs on both or on neither.

use std::sync::Arc;

use sandbox_host::{
    engine::{Engine, wasmer::Wasmer, wasmi::Wasmi},
    module::Module,
};

use crate::guest::{Guest, engine, wasm};

on_both_engines![what_every_engine_has_is_accepted, what_one_engine_lacks_is_refused, accepted_features_work];

/// Modules that both engines take, by what they need.
const ACCEPTED: &[(&str, &str)] = &[
    ("mutable globals", r#"(module (global (export "g") (mut i32) (i32.const 0)))"#),
    ("sign extension", "(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))"),
    ("saturating conversions", "(module (func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0))))"),
    ("multi-value", "(module (func (result i32 i64) (i32.const 0) (i64.const 0)))"),
    ("block parameters", "(module (func (i32.const 0) (block (param i32) drop)))"),
    ("bulk memory", "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))"),
    (
        "reference types",
        "(module (table 1 externref) (func (param externref) (table.set (i32.const 0) (local.get 0))))",
    ),
    ("several tables", "(module (table 1 funcref) (table 1 funcref))"),
    ("typed select", "(module (func (result i32) (select (result i32) (i32.const 1) (i32.const 2) (i32.const 0))))"),
    ("simd", "(module (func (result v128) (i32x4.splat (i32.const 1))))"),
    (
        "relaxed simd",
        "(module (func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
    ),
    ("several memories", "(module (memory 1) (memory 1))"),
    ("extended constants", "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))"),
];

/// Modules that both engines refuse, by what they would need.
const REFUSED: &[(&str, &str)] = &[
    ("memory64", "(module (memory i64 1))"),
    ("memory64 import", r#"(module (import "e" "m" (memory i64 1)))"#),
    ("table64", "(module (table i64 1 funcref))"),
    ("shared memory", "(module (memory 1 1 shared))"),
    ("shared memory import", r#"(module (import "e" "m" (memory 1 1 shared)))"#),
    ("atomics", "(module (memory 1) (func (result i32) (i32.atomic.load (i32.const 0))))"),
    ("atomic fence", "(module (func atomic.fence))"),
    ("exception tag", "(module (tag))"),
    ("exception tag import", r#"(module (import "e" "t" (tag)))"#),
    ("exception throw", "(module (tag) (func (throw 0)))"),
    ("exception try_table", "(module (func (try_table)))"),
    ("exception reference", "(module (func (param exnref)))"),
    ("gc struct", "(module (type (struct (field i32))))"),
    ("gc array", "(module (type (array i32)))"),
    ("gc anyref", "(module (func (param anyref)))"),
    ("gc i31", "(module (func (result i31ref) (ref.i31 (i32.const 0))))"),
    ("gc eqref", "(module (func (param eqref)))"),
    ("typed function reference", "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))"),
    ("non-null reference", "(module (func (param (ref func))))"),
    ("nullable typed reference", "(module (type $t (func)) (func (param (ref null $t))))"),
    ("null extern reference", "(module (func (param nullexternref)))"),
    ("recursive types", "(module (rec (type (func)) (type (func))))"),
    ("subtypes", "(module (type (sub (func))))"),
    ("table with initialiser", "(module (table 1 funcref (ref.func 0)) (func))"),
    (
        "wide arithmetic",
        "(module (func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))",
    ),
    ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
    ("stack switching", "(module (type $f (func)) (type $c (cont $f)))"),
    ("component", "(component)"),
];

/// Modules that only wasmi takes, because wasmer does not translate tail calls with Cranelift.
const ONLY_WASMI: &[(&str, &str)] = &[
    ("tail call", "(module (func $f (return_call $f)))"),
    ("indirect tail call", "(module (table 1 funcref) (func (return_call_indirect (i32.const 0))))"),
];

fn what_every_engine_has_is_accepted<E: Engine>(engine: &Arc<E>) {
    for (feature, wat) in ACCEPTED {
        if let Err(error) = Module::compile(&**engine, &wasm(wat)) {
            panic!("{feature}: {error}");
        }
    }
}

fn what_one_engine_lacks_is_refused<E: Engine>(engine: &Arc<E>) {
    let accepted: Vec<_> = REFUSED
        .iter()
        .filter(|(_, wat)| Module::compile(&**engine, &wasm(wat)).is_ok())
        .map(|(feature, _)| *feature)
        .collect();
    assert_eq!(accepted, [""; 0]);
}

fn accepted_features_work<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module
            (memory 1) (memory (export "second") 1) (table $t 2 externref) (table $f 2 funcref)
            (global $c i32 (i32.mul (i32.const 6) (i32.const 7)))
            (elem declare func 0)
            (func (export "extend") (param i32) (result i32) (i32.extend8_s (local.get 0)))
            (func (export "saturate") (param f32) (result i32) (i32.trunc_sat_f32_u (local.get 0)))
            (func (export "constant") (result i32) (global.get $c))
            (func (export "lanes") (param i32) (result i32)
                (i32x4.extract_lane 2 (i32x4.mul (i32x4.splat (local.get 0)) (v128.const i32x4 1 2 3 4))))
            (func (export "copy") (result i32)
                (memory.fill 0 (i32.const 0) (i32.const 9) (i32.const 8))
                (memory.copy 1 0 (i32.const 4) (i32.const 0) (i32.const 4))
                (i32.load 1 (i32.const 4)))
            (func (export "tables") (result i32 i32)
                (drop (table.grow $t (ref.null extern) (i32.const 3)))
                (table.set $f (i32.const 1) (ref.func 0))
                (table.size $t) (ref.is_null (table.get $f (i32.const 1))))
            (func (export "block") (param i32) (result i32)
                (local.get 0) (loop (param i32) (result i32) (i32.const 1) i32.add)))"#,
    );
    for (name, arguments, results) in [
        ("extend", &[0x80][..], &[0xffff_ff80][..]),
        ("saturate", &[0x4f80_0000], &[0xffff_ffff]),
        ("constant", &[], &[42]),
        ("lanes", &[5], &[15]),
        ("copy", &[], &[0x0909_0909]),
        ("tables", &[], &[5, 0]),
        ("block", &[1], &[2]),
    ] {
        assert_eq!(guest.call(name, arguments).expect(name), results, "{name}");
    }
}

#[test]
fn tail_calls_are_wasmis_alone() {
    for (feature, wat) in ONLY_WASMI {
        assert!(Module::compile(&*engine::<Wasmi>(), &wasm(wat)).is_ok(), "{feature}");
        assert!(Module::compile(&*engine::<Wasmer>(), &wasm(wat)).is_err(), "{feature}");
    }
    let guest = Guest::new(
        &engine::<Wasmi>(),
        r#"(module (func $f (export "f") (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 9))))
            (return_call $f (i32.sub (local.get 0) (i32.const 1)))))"#,
    );
    assert_eq!(guest.call("f", &[1_000_000]).expect("it takes no stack"), [9]);
}

/// Across both engines, so not one of those above.
#[test]
fn both_engines_agree_on_every_feature() {
    let (wasmi, wasmer) = (engine::<Wasmi>(), engine::<Wasmer>());
    let disagreed: Vec<_> = ACCEPTED
        .iter()
        .chain(REFUSED)
        .map(|(feature, wat)| {
            let binary = wasm(wat);
            (feature, Module::compile(&*wasmi, &binary).is_ok(), Module::compile(&*wasmer, &binary).is_ok())
        })
        .filter(|(_, by_wasmi, by_wasmer)| by_wasmi != by_wasmer)
        .collect();
    assert!(disagreed.is_empty(), "(feature, wasmi, wasmer): {disagreed:?}");
}
