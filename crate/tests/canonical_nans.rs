//! Canonical NaNs: an instruction whose NaNs may be any gives the canonical one on both engines, and nothing else
//! about a module changes.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use sandbox_host::{
    engine::{Engine, wasmer::Wasmer, wasmi::Wasmi},
    module::Module,
    realm::Realm,
    rewrite::canonical_nans::canonical_nans,
};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::guest::{Guest, engine, no_host, wasm};

on_both_engines![
    nans_become_canonical_and_nothing_else_changes,
    any_operands_give_the_same_but_for_nans,
    exact_instructions_keep_the_bits_of_nans,
    control_flow_stays_as_it_is,
    a_start_function_is_rewritten_too,
    vectors_work_beside_a_start_function,
];

/// How floats lie in a value.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F32x4 => "f32x4",
            Self::F64x2 => "f64x2",
        }
    }

    /// Takes a value out of two i64 parameters.
    fn of_parameters(self, low: usize) -> String {
        match self {
            Self::F32 => format!("(f32.reinterpret_i32 (i32.wrap_i64 (local.get {low})))"),
            Self::F64 => format!("(f64.reinterpret_i64 (local.get {low}))"),
            Self::F32x4 | Self::F64x2 => {
                format!("(i64x2.replace_lane 1 (i64x2.splat (local.get {low})) (local.get {}))", low + 1)
            }
        }
    }

    /// Makes two i64 results of a value.
    fn results(self, value: &str) -> String {
        match self {
            Self::F32 => format!("(i64.extend_i32_u (i32.reinterpret_f32 {value})) (i64.const 0)"),
            Self::F64 => format!("(i64.reinterpret_f64 {value}) (i64.const 0)"),
            Self::F32x4 | Self::F64x2 => format!(
                "(local.set $v {value}) (i64x2.extract_lane 0 (local.get $v)) (i64x2.extract_lane 1 (local.get $v))"
            ),
        }
    }

    /// What bits of that shape are with canonical NaNs.
    fn canonical(self, bits: &[u64]) -> Vec<u64> {
        let in_f32 = |bits: u32| if f32::from_bits(bits).is_nan() { 0x7fc0_0000 } else { bits };
        let in_f64 = |bits: u64| if f64::from_bits(bits).is_nan() { 0x7ff8_0000_0000_0000 } else { bits };
        let in_both_halves = |bits: u64| u64::from(in_f32((bits >> 32) as u32)) << 32 | u64::from(in_f32(bits as u32));
        match self {
            Self::F32 | Self::F32x4 => bits.iter().map(|bits| in_both_halves(*bits)).collect(),
            Self::F64 | Self::F64x2 => bits.iter().map(|bits| in_f64(*bits)).collect(),
        }
    }

    fn has_nan(self, bits: &[u64]) -> bool {
        let of_f32 = |bits: u64| f32::from_bits(bits as u32).is_nan() || f32::from_bits((bits >> 32) as u32).is_nan();
        match self {
            Self::F32 | Self::F32x4 => bits.iter().any(|bits| of_f32(*bits)),
            Self::F64 | Self::F64x2 => bits.iter().any(|bits| f64::from_bits(*bits).is_nan()),
        }
    }
}

/// An instruction that may give any NaN.
struct Instruction {
    name: String,
    operand: Shape,
    operands: usize,
    result: Shape,
}

/// All of them.
fn instructions() -> Vec<Instruction> {
    let mut all = Vec::new();
    for shape in [Shape::F32, Shape::F64, Shape::F32x4, Shape::F64x2] {
        let of_shape = |name: &&str, operands| Instruction {
            name: format!("{}.{name}", shape.name()),
            operand: shape,
            operands,
            result: shape,
        };
        all.extend(["sqrt", "ceil", "floor", "trunc", "nearest"].iter().map(|name| of_shape(name, 1)));
        all.extend(["add", "sub", "mul", "div", "min", "max"].iter().map(|name| of_shape(name, 2)));
    }
    for (name, operand, result) in [
        ("f32.demote_f64", Shape::F64, Shape::F32),
        ("f64.promote_f32", Shape::F32, Shape::F64),
        ("f32x4.demote_f64x2_zero", Shape::F64x2, Shape::F32x4),
        ("f64x2.promote_low_f32x4", Shape::F32x4, Shape::F64x2),
    ] {
        all.push(Instruction { name: name.to_owned(), operand, operands: 1, result });
    }
    all
}

/// A function for each instruction, from bits to bits: four i64 are two operands, two i64 the result.
fn calculator(instructions: &[Instruction]) -> Vec<u8> {
    let function = |instruction: &Instruction| {
        let Instruction { name, operand, operands, result } = instruction;
        let operands: String = (0..*operands).map(|at| operand.of_parameters(2 * at)).collect();
        let results = result.results(&format!("({name} {operands})"));
        format!(r#"(func (export "{name}") (param i64 i64 i64 i64) (result i64 i64) (local $v v128) {results})"#)
    };
    wasm(&format!("(module {})", instructions.iter().map(function).collect::<String>()))
}

/// Rewrites a module that has something to rewrite.
fn rewritten(wasm: &[u8]) -> Vec<u8> {
    let rewritten = canonical_nans(wasm).unwrap_or_else(|error| panic!("{error}"));
    let rewritten = rewritten.expect("it has an instruction that may give any NaN");
    assert!(is_valid(&rewritten));
    rewritten
}

fn is_valid(wasm: &[u8]) -> bool {
    Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).is_ok()
}

/// An instance of a binary.
fn guest<E: Engine>(engine: &Arc<E>, wasm: &[u8]) -> Guest<E> {
    let module = Module::compile(&**engine, wasm).unwrap_or_else(|error| panic!("{error}"));
    Guest::of(&Realm::new(engine), &Arc::new(module), None, &[])
}

/// Operands of all kinds, each a vector: infinities, zeros, quiet and signalling NaNs of both signs, and numbers.
fn operands() -> Vec<[u64; 2]> {
    const F32: [u32; 16] = [
        0x0000_0000, // 0
        0x8000_0000, // -0
        0x7f80_0000, // inf
        0xff80_0000, // -inf
        0x7fc0_0000, // nan
        0xffc0_0000, // -nan
        0x7fc1_2345, // nan with a payload
        0xffd5_4321, // -nan with a payload
        0x7f80_0001, // signalling nan
        0xffa1_2345, // -signalling nan
        0x3f80_0000, // 1
        0xbf80_0000, // -1
        0x4020_0000, // 2.5
        0xc020_0000, // -2.5
        0x0000_0001, // the smallest
        0x7f7f_ffff, // the largest
    ];
    const F64: [u64; 16] = [
        0x0000_0000_0000_0000,
        0x8000_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0000,
        0x7ff8_1234_5678_9abc,
        0xfffa_8765_4321_0fed,
        0x7ff0_0000_0000_0001,
        0xfff4_1234_5678_9abc,
        0x3ff0_0000_0000_0000,
        0xbff0_0000_0000_0000,
        0x4004_0000_0000_0000,
        0xc004_0000_0000_0000,
        0x0000_0000_0000_0001,
        0x7fef_ffff_ffff_ffff,
    ];
    // Each value comes in the lowest lane, which is the one of scalars; in the other lanes there are others.
    let of_f32 = |at: usize, lane: usize| u64::from(F32[(at + 5 * lane) % 16]) << (32 * (lane % 2));
    let f32s = (0..16).map(|at| [of_f32(at, 0) | of_f32(at, 1), of_f32(at, 2) | of_f32(at, 3)]);
    let f64s = (0..16).map(|at| [F64[at], F64[(at + 5) % 16]]);
    f32s.chain(f64s).collect()
}

fn nans_become_canonical_and_nothing_else_changes<E: Engine>(engine: &Arc<E>) {
    let instructions = instructions();
    let binary = calculator(&instructions);
    let (before, after) = (guest(engine, &binary), guest(engine, &rewritten(&binary)));
    let mut with_nan = BTreeSet::new();
    for Instruction { name, result, .. } in &instructions {
        for [a, b] in operands() {
            for [c, d] in operands() {
                let was = before.call(name, &[a, b, c, d]).expect(name);
                let is = after.call(name, &[a, b, c, d]).expect(name);
                assert_eq!(is, result.canonical(&was), "{name} of {a:x} {b:x} and {c:x} {d:x}");
                if result.has_nan(&was) {
                    with_nan.insert(name);
                }
            }
        }
    }
    assert_eq!(with_nan.len(), instructions.len(), "each has given a NaN");
}

/// What an engine makes of NaNs by itself may be canonical, so that running an instruction alone does not show this.
#[test]
fn each_instruction_is_rewritten() {
    for instruction in instructions() {
        rewritten(&calculator(&[instruction]));
    }
}

/// Any bits, and often those that make NaNs.
fn bits() -> impl Strategy<Value = u64> {
    let special: Vec<u64> = operands().into_iter().flatten().collect();
    prop_oneof![any::<u64>(), prop::sample::select(special)]
}

fn any_operands_give_the_same_but_for_nans<E: Engine>(engine: &Arc<E>) {
    let instructions = instructions();
    let binary = calculator(&instructions);
    let (before, after) = (guest(engine, &binary), guest(engine, &rewritten(&binary)));
    proptest!(ProptestConfig::with_cases(500), |(operands in prop::array::uniform4(bits()))| {
        for Instruction { name, result, .. } in &instructions {
            let was = before.call(name, &operands).expect(name);
            let is = after.call(name, &operands).expect(name);
            prop_assert_eq!(is, result.canonical(&was), "{} of {:x?}", name, operands);
        }
    });
}

/// Across both engines, so not one of those above.
#[test]
fn both_engines_give_the_same_bits() {
    let instructions = instructions();
    let binary = rewritten(&calculator(&instructions));
    let (wasmi, wasmer) = (guest(&engine::<Wasmi>(), &binary), guest(&engine::<Wasmer>(), &binary));
    proptest!(ProptestConfig::with_cases(500), |(operands in prop::array::uniform4(bits()))| {
        for Instruction { name, .. } in &instructions {
            let both = (wasmi.call(name, &operands).expect(name), wasmer.call(name, &operands).expect(name));
            prop_assert_eq!(&both.0, &both.1, "{} of {:x?}", name, operands);
        }
    });
}

/// Instructions about floats that the specification leaves nothing open about, with the types that they need.
const EXACT: [&str; 24] = [
    "(drop (f32.abs (local.get 0)))",
    "(drop (f32.neg (local.get 0)))",
    "(drop (f32.copysign (local.get 0) (local.get 0)))",
    "(drop (f64.abs (local.get 1)))",
    "(drop (f64.neg (local.get 1)))",
    "(drop (f64.copysign (local.get 1) (local.get 1)))",
    "(drop (f32.lt (local.get 0) (local.get 0)))",
    "(drop (f64.eq (local.get 1) (local.get 1)))",
    "(drop (i32.trunc_f32_s (local.get 0)))",
    "(drop (i64.trunc_sat_f64_u (local.get 1)))",
    "(drop (f32.convert_i64_u (i64.const 1)))",
    "(drop (f64.convert_i32_s (i32.const 1)))",
    "(drop (f32.reinterpret_i32 (i32.const 1)))",
    "(drop (i64.reinterpret_f64 (local.get 1)))",
    "(drop (f32.const nan:0x123456))",
    "(f64.store (i32.const 0) (f64.load (i32.const 8)))",
    "(drop (f32x4.abs (local.get 2)))",
    "(drop (f64x2.neg (local.get 2)))",
    "(drop (f32x4.pmin (local.get 2) (local.get 2)))",
    "(drop (f64x2.pmax (local.get 2) (local.get 2)))",
    "(drop (f32x4.splat (local.get 0)))",
    "(drop (f64x2.extract_lane 1 (local.get 2)))",
    "(drop (f64x2.convert_low_i32x4_u (local.get 2)))",
    "(drop (i32x4.trunc_sat_f32x4_s (local.get 2)))",
];

#[test]
fn there_is_nothing_to_rewrite_in_exact_instructions() {
    for instruction in EXACT {
        let binary = wasm(&format!("(module (memory 1) (func (param f32 f64 v128) {instruction}))"));
        assert_eq!(canonical_nans(&binary).expect(instruction), None, "{instruction}");
    }
    assert_eq!(canonical_nans(&wasm("(module)")).expect("valid"), None);
}

#[test]
fn relaxed_instructions_stay_as_they_are() {
    for instruction in [
        "(f32x4.relaxed_madd (local.get 0) (local.get 0) (local.get 0))",
        "(f64x2.relaxed_nmadd (local.get 0) (local.get 0) (local.get 0))",
        "(f32x4.relaxed_min (local.get 0) (local.get 0))",
        "(f64x2.relaxed_max (local.get 0) (local.get 0))",
    ] {
        let binary = wasm(&format!("(module (func (param v128) (drop {instruction})))"));
        assert_eq!(canonical_nans(&binary).expect(instruction), None, "{instruction}");
    }
}

fn exact_instructions_keep_the_bits_of_nans<E: Engine>(engine: &Arc<E>) {
    let binary = wasm(
        r#"(module (memory 1)
            (func (export "neg") (param i64) (result i64) (local f64)
                (local.set 1 (f64.reinterpret_i64 (local.get 0)))
                (drop (f64.add (local.get 1) (local.get 1)))
                (f64.store (i32.const 0) (local.get 1))
                (i64.reinterpret_f64 (f64.neg (f64.load (i32.const 0)))))
            (func (export "pmin") (param i64) (result i64)
                (drop (f64x2.add (i64x2.splat (local.get 0)) (i64x2.splat (local.get 0))))
                (i64x2.extract_lane 1 (f64x2.pmin (i64x2.splat (local.get 0)) (v128.const f64x2 1 1)))))"#,
    );
    let guest = guest(engine, &rewritten(&binary));
    assert_eq!(guest.call("neg", &[0x7ff0_1234_5678_9abc]).expect("no trap"), [0xfff0_1234_5678_9abc]);
    assert_eq!(guest.call("pmin", &[0x7ff0_1234_5678_9abc]).expect("no trap"), [0x7ff0_1234_5678_9abc]);
}

fn control_flow_stays_as_it_is<E: Engine>(engine: &Arc<E>) {
    // Locals of several groups and kinds; values that go along with branches; code that is never reached.
    let binary = wasm(
        r#"(module
            (func $half (param $x f64) (result f64)
                (return (f64.mul (local.get $x) (f64.const 0.5)))
                f64.add f32.demote_f64 f64.promote_f32)
            (func (export "root") (param i64) (result i64)
                (local i32) (local $x f64) (local $y f64) (local $z f32) (local $v v128) (local i32)
                (local.set $x (f64.convert_i64_u (local.get 0)))
                (local.set $y (f64.const 1))
                (local.set 1 (i32.const 40))
                (loop
                    (local.set $y (call $half (f64.add (local.get $y) (f64.div (local.get $x) (local.get $y)))))
                    (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
                (local.set $v (f64x2.sqrt (f64x2.splat (local.get $x))))
                (local.set $z (f32.sqrt (f32.demote_f64 (local.get $x))))
                (block (result f64)
                    (f64.sub (local.get $y) (f64x2.extract_lane 1 (local.get $v)))
                    (br_if 0 (i32.const 1))
                    f64.floor)
                (f64.promote_f32 (f32.sub (local.get $z) (f32.demote_f64 (local.get $y))))
                f64.add
                (if (param f64) (result f64) (f64.gt (local.get $y) (f64.const 0))
                    (then (f64.add (local.get $y))) (else f64.neg))
                (i64.trunc_f64_s)))"#,
    );
    let (before, after) = (guest(engine, &binary), guest(engine, &rewritten(&binary)));
    for (square, root) in [(1, 1), (144, 12), (1_000_000, 1000)] {
        assert_eq!(before.call("root", &[square]).expect("no trap"), [root]);
        assert_eq!(after.call("root", &[square]).expect("no trap"), [root]);
    }
}

fn a_start_function_is_rewritten_too<E: Engine>(engine: &Arc<E>) {
    let binary = wasm(
        r#"(module (global $g (export "g") (mut i64) (i64.const 0))
            (func $s (global.set $g (i64.reinterpret_f64 (f64.sqrt (f64.const -nan:0x8000000000123)))))
            (start $s))"#,
    );
    let guest = guest(engine, &rewritten(&binary));
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    assert_eq!(guest.global("g"), 0x7ff8_0000_0000_0000);
}

/// A module with a start function is validated before an engine sees it, which must know vectors as well.
fn vectors_work_beside_a_start_function<E: Engine>(engine: &Arc<E>) {
    let binary = wasm("(module (func $s (drop (f32x4.add (v128.const i64x2 0 0) (v128.const i64x2 0 0)))) (start $s))");
    Module::compile(&**engine, &binary).expect("valid");
    Module::compile(&**engine, &rewritten(&binary)).expect("valid");
}

/// A module that has every section, custom ones between them, and a name section that is none.
const EVERY_SECTION: &str = r#"(module
    (@custom "first" (before first) "abc")
    (type $t (func (param f32) (result f32)))
    (import "e" "f" (func $f (type $t)))
    (import "e" "m" (memory 1))
    (table $table 1 funcref)
    (memory $memory 1 2)
    (tag $tag)
    (global $g (mut f32) (f32.const nan:0x1234))
    (export "double" (func $double))
    (start $s)
    (elem $e (table $table) (i32.const 0) func $double)
    (@custom "before code" (before code) "\00\0a\03")
    (func $s)
    (func $exact (param $x f64) (result f64) (local $unused i64) (f64.abs (local.get $x)))
    (func $double (type $t) (local $a i32) (f32.add (local.get 0) (call $f (local.get 0))))
    (@custom "after code" (after code) "\0a\01\00")
    (data $d (i32.const 7) "xyz")
    (func $init (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)))
    (@custom "name" (after last) "\ff\ff\ff\ff\ff"))"#;

/// The sections of a binary, each with its number.
fn sections(wasm: &[u8]) -> Vec<(u8, &[u8])> {
    let sections = Parser::new(0).parse_all(wasm).filter_map(|payload| payload.expect("well-formed").as_section());
    sections.map(|(id, range)| (id, &wasm[range.start as usize..range.end as usize])).collect()
}

const CODE_SECTION_ID: u8 = 10;

#[test]
fn what_is_not_code_stays_byte_for_byte() {
    let binary = wasm(EVERY_SECTION);
    let rewritten = rewritten(&binary);
    let (before, after) = (sections(&binary), sections(&rewritten));
    let ids: BTreeSet<u8> = before.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (0..=13).collect(), "it has every section");
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0);
        assert_eq!(before.1 == after.1, before.0 != CODE_SECTION_ID, "section {}", before.0);
    }
}

#[test]
fn headers_of_other_sections_stay_as_they_are() {
    let binary = wasm("(module (func (drop (f32.sqrt (f32.const 4)))))");
    // The first section is the types, four bytes long; its length takes more bytes than it needs.
    assert_eq!(binary[8..10], [1, 4]);
    let padded = [&binary[..9], &[0x84, 0x80, 0x00], &binary[10..]].concat();
    assert!(rewritten(&padded).starts_with(&padded[..16]));
}

#[test]
fn functions_without_such_instructions_stay_byte_for_byte() {
    let bodies = |wasm: &[u8]| -> Vec<Vec<u8>> {
        let payloads = Parser::new(0).parse_all(wasm).map(|payload| payload.expect("well-formed"));
        let bodies = payloads.filter_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => Some(body.as_bytes().to_owned()),
            _ => None,
        });
        bodies.collect()
    };
    let binary = wasm(EVERY_SECTION);
    let (before, after) = (bodies(&binary), bodies(&rewritten(&binary)));
    let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
    assert_eq!(same, [true, true, false, true]);
}

#[test]
fn each_function_gets_only_the_locals_that_it_needs() {
    let locals = |wat: &str| {
        let binary = rewritten(&wasm(wat));
        let mut payloads = Parser::new(0).parse_all(&binary).map(|payload| payload.expect("well-formed"));
        let body = payloads.find_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        });
        let groups = body.expect("a function").get_locals_reader().expect("well-formed");
        let groups = groups.into_iter().map(|group| group.expect("well-formed"));
        groups.map(|(count, ty)| format!("{count} {ty}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(locals("(module (func (param f32) (drop (f32.sqrt (f32.sqrt (local.get 0))))))"), "1 f32");
    assert_eq!(
        locals("(module (func (local i32 i32 f64) (drop (f32.demote_f64 (f64.sqrt (local.get 2))))))"),
        "2 i32, 1 f64, 1 f64, 1 f32"
    );
    assert_eq!(locals("(module (func (local v128) (drop (f32x4.sqrt (f64x2.sqrt (local.get 0))))))"), "1 v128, 1 v128");
}

#[test]
fn a_function_with_too_many_locals_is_refused() {
    let with_locals = |count: usize| {
        let types = "i32 ".repeat(count);
        wasm(&format!(
            "(module (func) (func (param f32 f64) (local {types}) (drop (f32.sqrt (local.get 0))) (drop (f64.sqrt (local.get 1)))))"
        ))
    };
    rewritten(&with_locals(49_996));
    for count in 49_997..=49_998 {
        let error = canonical_nans(&with_locals(count)).expect_err("the limit is exceeded").to_string();
        let has = count + 2;
        assert_eq!(
            error,
            format!("function 1 has {has} parameters and locals, and canonical NaNs need 2 more: the limit is 50000")
        );
    }
    assert!(canonical_nans(&with_locals(49_999)).is_err());
}

/// Rewritten without a look at it, this would be a valid module: the local would be there.
#[test]
fn a_local_that_is_not_there_is_refused() {
    let binary = wasm("(module (func (drop (f32.sqrt (f32.const 4))) (drop (f32.abs (local.get 0)))))");
    let error = canonical_nans(&binary).expect_err("not valid").to_string();
    assert!(error.contains("unknown local 0"), "{error}");
}

#[test]
fn what_is_no_module_is_refused() {
    for binary in [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", &wasm("(component)"), b"(module)"] {
        assert!(canonical_nans(binary).is_err(), "{binary:x?}");
    }
}

/// Valid modules are rewritten into valid ones, and all others are refused.
fn assert_judged(damaged: &[u8]) {
    match canonical_nans(damaged) {
        Ok(Some(rewritten)) => assert!(is_valid(damaged) && is_valid(&rewritten), "{damaged:x?}"),
        Ok(None) => assert!(is_valid(damaged), "{damaged:x?}"),
        Err(error) => assert!(!is_valid(damaged), "{error}: {damaged:x?}"),
    }
}

#[test]
fn damaged_modules_are_refused_unless_they_are_valid() {
    let conversions: Vec<Instruction> =
        instructions().into_iter().filter(|instruction| instruction.operand != instruction.result).collect();
    for binary in [wasm(EVERY_SECTION), calculator(&conversions)] {
        for length in 0..binary.len() {
            assert_judged(&binary[..length]);
        }
        let mut damaged = binary;
        for place in 0..damaged.len() {
            for bit in 0..8 {
                damaged[place] ^= 1 << bit;
                assert_judged(&damaged);
                damaged[place] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn modules_damaged_in_several_places_are_refused_unless_they_are_valid() {
    let binary = wasm(EVERY_SECTION);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..5);
    proptest!(ProptestConfig::with_cases(5000), |(damage in damage)| {
        let mut binary = binary.clone();
        for (place, byte, kind) in damage {
            let place = place.index(binary.len());
            match kind {
                0 => binary[place] = byte,
                1 => binary.insert(place, byte),
                _ => drop(binary.remove(place)),
            }
        }
        assert_judged(&binary);
    });
}
