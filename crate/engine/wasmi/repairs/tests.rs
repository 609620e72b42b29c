use std::borrow::Cow;

use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::*;
use crate::rewrite::walk;

#[derive(Debug)]
struct Rewritten {
    wasm: Vec<u8>,
    growth: Option<Growth>,
}

fn for_wasmi(wasm: &[u8]) -> Result<Option<Rewritten>, CompileError> {
    let sections = Sections::of(wasm);
    let (mut repairs, mut edits) = (Repairs::of(&sections), Edits::default());
    walk(&sections, Some(WasmFeatures::all()), &mut repairs, &mut edits)?;
    Ok(match edits.apply(&sections)?.wasm {
        Cow::Owned(wasm) => Some(Rewritten { wasm, growth: repairs.growth }),
        Cow::Borrowed(_) => None,
    })
}

fn rewritten(wat: &str) -> Option<Rewritten> {
    let made = for_wasmi(&wat::parse_str(wat).expect("good text")).expect("a good module");
    if let Some(made) = &made {
        Validator::new_with_features(WasmFeatures::all()).validate_all(&made.wasm).expect("still a good module");
    }
    made
}

fn grown(wat: &str) -> Vec<Grown> {
    rewritten(wat).and_then(|made| made.growth).map(|growth| growth.grown).unwrap_or_default()
}

fn operators(wasm: &[u8]) -> Vec<String> {
    let body = |payload| match payload {
        Ok(Payload::CodeSectionEntry(body)) => Some(body),
        _ => None,
    };
    let bodies = Parser::new(0).parse_all(wasm).filter_map(body);
    let operators = bodies.flat_map(|body| body.get_operators_reader().expect("a good body"));
    operators.map(|operator| format!("{:?}", operator.expect("a good operator"))).collect()
}

#[test]
fn each_memory_and_table_that_is_grown_gets_a_function() {
    let made = rewritten(
        r#"(module (import "e" "t" (table 1 externref)) (import "e" "f" (func)) (table 1 funcref) (table 1 funcref) (memory 1)
            (func (export "a") (result i32) (table.grow 2 (ref.null func) (i32.const 1)))
            (func (export "b") (param externref) (result i32)
                (drop (table.grow 2 (ref.null func) (i32.const 2))) (drop (memory.grow (i32.const 1))) (table.grow 0 (local.get 0) (i32.const 300)))
            (start 0) (elem declare func 0) (data "bytes"))"#,
    )
    .expect("it grows tables");
    let growth = made.growth.expect("it grows tables");
    let grown = [Grown::Table(2, Element::Func), Grown::Memory(0), Grown::Table(0, Element::Extern)];
    assert_eq!(growth.grown, grown);
    let growing = operators(&made.wasm).iter().filter(|name| name.contains("Grow")).count();
    let calls = operators(&made.wasm).iter().filter(|name| name.contains("CallIndirect")).count();
    assert_eq!((growing, calls), (0, 4));
}

#[test]
fn a_module_without_tables_or_exports_gets_them() {
    for text in [
        "(module (memory 1) (func (drop (memory.grow (i32.const 1)))))",
        "(module (memory 1) (global i32 (i32.const 1)) (func $f (drop (memory.grow (i32.const 1)))) (start $f))",
        r#"(module (import "e" "m" (memory 1)) (func (drop (memory.grow (i32.const 1)))) (data "x"))"#,
        r#"(module (memory 1) (table 1 funcref) (func $f (drop (memory.grow (i32.const 1)))) (elem (i32.const 0) $f))"#,
        r#"(module (memory 1) (func (export "f") (drop (memory.grow (i32.const 1)))) (@custom "c" "bytes"))"#,
    ] {
        assert_eq!(grown(text), [Grown::Memory(0)], "{text}");
    }
}

#[test]
fn what_is_added_has_names_of_its_own() {
    let made = rewritten(
        r#"(module (memory (export "grow") 1) (func (export "grow''0")) (func (export "grow0") (drop (memory.grow (i32.const 1)))))"#,
    );
    let growth = made.and_then(|made| made.growth).expect("it grows a memory");
    assert_eq!((growth.table(), growth.target(0).as_str()), ("grow'''", "grow'''0"));
    assert!(["grow", "grow''0", "grow0"].into_iter().all(|name| !growth.has_added(name)));
}

#[test]
fn blocks_with_parameters_and_far_stores_come_after_an_empty_block() {
    for text in [
        "(module (func (i32.const 1) (block (param i32) (drop))))",
        "(module (func (i32.const 1) (loop (param i32) (drop))))",
        "(module (func (i32.const 1) (i32.const 1) (if (param i32) (then (drop)) (else (drop)))))",
        "(module (memory 1) (func (i32.store offset=65536 (i32.const 1) (i32.const 1))))",
        "(module (memory 1) (func (i32.store8 offset=65536 (i32.const 1) (i32.const 1))))",
        "(module (memory 1) (memory 1) (func (i32.store16 1 (i32.const 1) (i32.const 1))))",
        "(module (func (param i32) (drop (select (i64.const 1) (i64.const 2) (i32.eqz (local.get 0))))))",
        "(module (func (param i32) (drop (select (result i64) (i64.const 1) (i64.const 2) (i32.or (i32.ne (local.get 0) (i32.const 0)) (i32.const 0))))))",
    ] {
        let made = rewritten(text).expect("it is changed");
        let before = operators(&wat::parse_str(text).expect("good text"));
        let mut after = operators(&made.wasm);
        assert!(made.growth.is_none(), "{text}");
        let block = after.iter().position(|name| name.starts_with("Block { blockty: Empty")).expect("it is there");
        let added: Vec<_> = after.drain(block..block + 2).collect();
        assert_eq!((added[1].as_str(), after), ("End", before), "{text}");
    }
}

#[test]
fn branch_tables_with_several_values_branch_by_a_block_around_them() {
    for (text, table, branch) in [
        (
            "(module (func (param i32) (result i32 i64) (block (result i32 i64) (br_table 0 1 1 (i32.const 1) (i64.const 2) (local.get 0)))))",
            "BrTable { targets: BrTable { count: 2, default: 0, targets: [1, 2] } }",
            "Br { relative_depth: 1 }",
        ),
        (
            "(module (func (param i32) (i32.const 1) (i32.const 2) (loop (param i32 i32) (br_table 0 0 0 (local.get 0)))))",
            "BrTable { targets: BrTable { count: 2, default: 0, targets: [1, 1] } }",
            "Br { relative_depth: 0 }",
        ),
        (
            "(module (func (param i32) (result v128) (block (result v128) (br_table 0 1 (v128.const i64x2 1 2) (local.get 0)))))",
            "BrTable { targets: BrTable { count: 1, default: 0, targets: [1] } }",
            "Br { relative_depth: 1 }",
        ),
    ] {
        let operators = operators(&rewritten(text).expect("it is changed").wasm);
        let place = operators.iter().position(|name| name.starts_with("BrTable")).expect("it is there");
        assert_eq!(operators[place..place + 3], [table, "End", branch]);
    }
}

#[test]
fn all_other_modules_stay_as_they_are() {
    for text in [
        "(module)",
        "(module (table 1 funcref) (func (drop (table.size 0))))",
        "(module (func (block (result i32 i32) (i32.const 1) (i32.const 2)) (drop) (drop)))",
        "(module (memory 1) (func (i32.store offset=65535 (i32.const 1) (i32.const 1))))",
        "(module (func (param i32) (result i64) (block (result i64) (br_table 0 1 (i64.const 1) (local.get 0)))))",
        "(module (func (param i32) (br_table 0 0 (local.get 0))))",
        "(module (func (param i32) (drop (select (i64.const 1) (i64.const 2) (i32.lt_u (local.get 0) (i32.const 5))))))",
    ] {
        assert!(rewritten(text).is_none(), "{text}");
    }
}

#[test]
fn what_is_not_valid_is_refused() {
    // It calls through table 1, which it does not have before.
    let wasm = wat::parse_str(
        "(module (type (func (param i32) (result i32))) (memory 1) (table 1 funcref) (table 1 funcref) (func (drop (memory.grow (i32.const 1))) (drop (call_indirect 1 (type 0) (i32.const 0) (i32.const 0)))))",
    )
    .expect("good text");
    let tables: &[u8] = &[0x04, 0x07, 0x02, 0x70, 0, 1, 0x70, 0, 1];
    let at = wasm.windows(tables.len()).position(|bytes| bytes == tables).expect("they are there");
    let mut one_table = wasm.clone();
    one_table.splice(at..at + tables.len(), [0x04, 0x04, 0x01, 0x70, 0, 1]);
    assert!(for_wasmi(&wasm).is_ok());
    let error = for_wasmi(&one_table).expect_err("there is one table");
    assert!(error.to_string().contains("unknown table"), "{error}");
}

#[test]
fn damage_is_no_panic() {
    let text = "(module (table 1 funcref) (memory 1) (func (export \"grow\") (param i32) (local.get 0) (block (param i32) (drop (table.grow 0 (ref.null func))) (i32.store offset=70000 (local.get 0) (local.get 0)))))";
    let text = text.replace("(drop (table.grow 0 (ref.null func)))", "(drop (memory.grow))");
    let wasm = wat::parse_str(text).expect("good text");
    assert!(for_wasmi(&wasm).is_ok_and(|made| made.is_some()));
    for length in 0..wasm.len() {
        let _ = for_wasmi(&wasm[..length]);
    }
    for at in 0..wasm.len() {
        for mask in [1, 0x80, 0xff] {
            let mut damaged = wasm.clone();
            damaged[at] ^= mask;
            if let Ok(Some(made)) = for_wasmi(&damaged) {
                Validator::new_with_features(WasmFeatures::all())
                    .validate_all(&made.wasm)
                    .expect("what is valid stays valid");
            }
        }
    }
}
