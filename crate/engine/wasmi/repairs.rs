//! Changes a module so that wasmi 2.0.0 does right what it would do wrong. A part of `engine/wasmi.rs`, and nobody else's business.
//!
//! - `memory.grow` and `table.grow` become calls of host functions, in a table that the module gets in addition. wasmi's own leave a frame on the native
//!   stack each time they run, until the process dies, and `table.grow` goes on at the wrong place when it is resumed after it ran out of fuel.
//! - Before a block with parameters comes an empty block. Before a block wasmi saves what locals are on the stack, but leaves out as many of them as the block has
//!   parameters, be those locals or not.
//! - Before `i32.store`, `i32.store8` and `i32.store16` with a large offset, or to another memory than the first, too: where address and
//!   value are the same local it would panic, and after an empty block they are none.
//! - Before `select`, if its condition may be a comparison of an i32 with zero, too: wasmi drops the comparison and looks at the register that its result would
//!   be in, instead of at the slot that is compared.
//! - The default of a `br_table` that takes several values along becomes the end of a block around it, from where a `br` goes on. If all targets are at the
//!   same height wasmi takes the values to be in place, even if there is something else below them; the new one is not.
//!
//! A block costs no fuel, and an empty one makes no code but for what it saves. What else is added costs as much on wasmer, see `wasmer/checks.rs`.

use std::collections::HashMap;

use wasm_encoder::Encode;
use wasmparser::{
    BlockType, BrTable, CompositeInnerType, Frame, FrameKind, Operator, RefType, TypeRef, ValType, WasmModuleResources,
};

use crate::{
    error::CompileError,
    rewrite::{BodyEdits, Edits, Function, Pass, SectionId, Sections},
};

/// The exports that a module got so that the host can grow what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Growth {
    /// All their names begin with this, and no others do.
    prefix: String,
    /// In the order of their elements in the table.
    pub grown: Vec<Grown>,
}

/// What a module grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    Memory(u32),
    Table(u32, Element),
}

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Func,
    Extern,
}

impl Growth {
    /// With names that no export of the module has.
    fn named(sections: &Sections<'_>, grown: Vec<Grown>) -> Self {
        let marks = |export: wasmparser::Export<'_>| {
            let rest = export.name.strip_prefix(PREFIX)?;
            Some(rest.len() - rest.trim_start_matches('\'').len() + 1)
        };
        let marks = sections.exports().filter_map(marks).max().unwrap_or(0);
        Self { prefix: format!("{PREFIX}{}", "'".repeat(marks)), grown }
    }

    /// Whether that export was added.
    pub fn has_added(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
    }

    /// The export that is the table of host functions.
    pub fn table(&self) -> &str {
        &self.prefix
    }

    /// The export that is the memory or table to be grown by the host function at that place of the table.
    pub fn target(&self, place: usize) -> String {
        format!("{}{place}", self.prefix)
    }
}

/// The pass.
#[derive(Default)]
pub struct Repairs {
    /// What each of the module's tables holds; `None` for what wasmi has no tables of.
    elements: Vec<Option<Element>>,
    /// How many types the module has.
    types: u32,
    /// The types that are added, and which of these each is.
    added: HashMap<Vec<u8>, u32>,
    /// The same in their order.
    added_types: Vec<Vec<u8>>,
    grown: Vec<Grown>,
    /// Whether what lies on the stack may be a comparison with zero, see [`may_be_test_of_zero`].
    may_fuse: bool,
    /// What it needs to grow its memories and tables, if it does that; known when the pass has ended.
    pub growth: Option<Growth>,
}

const FUNCTION_TYPE: u8 = 0x60;
const I32: u8 = 0x7f;
const I64: u8 = 0x7e;
const F32: u8 = 0x7d;
const F64: u8 = 0x7c;
const V128: u8 = 0x7b;
const FUNCREF: u8 = 0x70;
const EXTERNREF: u8 = 0x6f;
const TABLE_EXPORT: u8 = 1;
const MEMORY_EXPORT: u8 = 2;
const HAS_MAXIMUM: u8 = 1;

const I32_CONST: u8 = 0x41;
const CALL_INDIRECT: u8 = 0x11;
const BLOCK: u8 = 0x02;
const BR: u8 = 0x0c;
const BR_TABLE: u8 = 0x0e;
const END: u8 = 0x0b;
const EMPTY_BLOCK: [u8; 3] = [BLOCK, 0x40, END];

/// From here on an offset has no short form in wasmi.
const LARGE_OFFSET: u64 = 1 << 16;

const PREFIX: &str = "grow";

impl Pass for Repairs {
    fn wants(&self, opcode: u8) -> bool {
        // Blocks, br_table, select, i32.store, i32.store8, i32.store16, memory.grow, and what has table.grow among it.
        matches!(opcode, 0x02..=0x04 | BR_TABLE | 0x1b | 0x1c | 0x36 | 0x3a | 0x3b | 0x40 | 0xfc)
    }

    fn function(&mut self, _body: &mut BodyEdits<'_>) {
        self.may_fuse = false;
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        function: &Function,
        body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        match operator {
            Operator::MemoryGrow { mem } => self.call(Grown::Memory(*mem), body),
            // Else there is no such table, or it is one that wasmi refuses.
            Operator::TableGrow { table } => {
                if let Some(Some(element)) = self.elements.get(*table as usize) {
                    self.call(Grown::Table(*table, *element), body);
                }
            }
            Operator::BrTable { targets } => self.branch_table(targets, function, body)?,
            _ if wants_nothing_at_hand(operator, function, self.may_fuse) => {
                body.before(|code| code.extend(EMPTY_BLOCK));
            }
            _ => {}
        }
        Ok(())
    }

    fn passed(&mut self, opcode: u8) {
        self.may_fuse = may_be_test_of_zero(opcode, self.may_fuse);
    }

    fn end(&mut self, sections: &Sections<'_>, edits: &mut Edits) {
        for ty in &self.added_types {
            edits.add(SectionId::Type, |types| types.extend_from_slice(ty));
        }
        if self.grown.is_empty() {
            return;
        }
        let size = self.grown.len() as u32;
        edits.add(SectionId::Table, |tables| {
            tables.extend([FUNCREF, HAS_MAXIMUM]);
            size.encode(tables);
            size.encode(tables);
        });
        let growth = Growth::named(sections, std::mem::take(&mut self.grown));
        let mut export = |name: &str, kind: u8, index: u32| {
            edits.add(SectionId::Export, |exports| {
                name.encode(exports);
                exports.push(kind);
                index.encode(exports);
            });
        };
        export(growth.table(), TABLE_EXPORT, self.elements.len() as u32);
        for (place, grown) in growth.grown.iter().enumerate() {
            let (kind, index) = match grown {
                Grown::Memory(index) => (MEMORY_EXPORT, *index),
                Grown::Table(index, _) => (TABLE_EXPORT, *index),
            };
            export(&growth.target(place), kind, index);
        }
        self.growth = Some(growth);
    }
}

impl Repairs {
    /// The pass for that module.
    pub fn of(sections: &Sections<'_>) -> Self {
        let imported = sections.imports().filter_map(|import| match import.ty {
            TypeRef::Table(table) => Some(table),
            _ => None,
        });
        let tables = imported.chain(sections.tables().map(|table| table.ty));
        let elements = tables.map(|table| element(table.element_type)).collect();
        Self { elements, types: sections.count(SectionId::Type), ..Self::default() }
    }

    /// Puts the call that grows this in the operator's place.
    fn call(&mut self, grown: Grown, body: &mut BodyEdits<'_>) {
        let place = self.grown.iter().position(|other| *other == grown).unwrap_or_else(|| {
            self.grown.push(grown);
            self.grown.len() - 1
        });
        let ty = match grown {
            Grown::Memory(_) => self.function_type(&[I32], &[I32]),
            Grown::Table(_, Element::Func) => self.function_type(&[FUNCREF, I32], &[I32]),
            Grown::Table(_, Element::Extern) => self.function_type(&[EXTERNREF, I32], &[I32]),
        };
        body.instead(|code| {
            code.push(I32_CONST);
            (place as i32).encode(code);
            code.push(CALL_INDIRECT);
            ty.encode(code);
            (self.elements.len() as u32).encode(code);
        });
    }

    /// Gives a `br_table` another default, if it must have one.
    fn branch_table(
        &mut self,
        targets: &BrTable<'_>,
        function: &Function,
        body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        let label = function.get_control_frame(targets.default() as usize);
        let values = label.and_then(|frame| values_of_label(frame, function)).unwrap_or_default();
        if targets.is_empty() || !(values.len() > 1 || values == [V128]) {
            return Ok(());
        }
        let with_index: Vec<u8> = values.iter().copied().chain([I32]).collect();
        let ty = self.function_type(&with_index, &values);
        let depths = targets.targets().collect::<Result<Vec<u32>, _>>()?;
        body.instead(|code| {
            code.extend(EMPTY_BLOCK);
            code.push(BLOCK);
            i64::from(ty).encode(code);
            code.push(BR_TABLE);
            targets.len().encode(code);
            for depth in depths {
                depth.wrapping_add(1).encode(code);
            }
            code.extend([0, END, BR]);
            targets.default().encode(code);
        });
        Ok(())
    }

    /// The index of a type that the module gets.
    fn function_type(&mut self, params: &[u8], results: &[u8]) -> u32 {
        let mut ty = vec![FUNCTION_TYPE];
        params.encode(&mut ty);
        results.encode(&mut ty);
        let next = self.added.len() as u32;
        let place = *self.added.entry(ty).or_insert_with_key(|ty| {
            self.added_types.push(ty.clone());
            next
        });
        self.types + place
    }
}

/// The types of the values that a branch to a label takes along, if wasmi has them all.
fn values_of_label(frame: &Frame, function: &Function) -> Option<Vec<u8>> {
    let types = match frame.block_type {
        BlockType::Empty => return None,
        BlockType::Type(_) if frame.kind == FrameKind::Loop => return None,
        BlockType::Type(ty) => vec![ty],
        BlockType::FuncType(index) => {
            let CompositeInnerType::Func(ty) = &function.resources().sub_type_at(index)?.composite_type.inner else {
                return None;
            };
            if frame.kind == FrameKind::Loop { ty.params().to_vec() } else { ty.results().to_vec() }
        }
    };
    let encoded = |ty| match ty {
        ValType::I32 => Some(I32),
        ValType::I64 => Some(I64),
        ValType::F32 => Some(F32),
        ValType::F64 => Some(F64),
        ValType::V128 => Some(V128),
        ValType::Ref(RefType::FUNCREF) => Some(FUNCREF),
        ValType::Ref(RefType::EXTERNREF) => Some(EXTERNREF),
        ValType::Ref(_) => None,
    };
    types.into_iter().map(encoded).collect()
}

/// Whether wasmi does this operator wrong if locals or registers are on its stack, `may_fuse` as in [`may_be_test_of_zero`].
fn wants_nothing_at_hand(operator: &Operator<'_>, function: &Function, may_fuse: bool) -> bool {
    match operator {
        Operator::Select | Operator::TypedSelect { .. } => may_fuse,
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => match blockty {
            BlockType::Empty | BlockType::Type(_) => false,
            // A type that does not exist is refused in a moment.
            BlockType::FuncType(index) => function.resources().sub_type_at(*index).is_some_and(
                |ty| matches!(&ty.composite_type.inner, CompositeInnerType::Func(ty) if !ty.params().is_empty()),
            ),
        },
        Operator::I32Store { memarg } | Operator::I32Store8 { memarg } | Operator::I32Store16 { memarg } => {
            memarg.offset >= LARGE_OFFSET || memarg.memory != 0
        }
        _ => false,
    }
}

/// Whether what lies on the stack after this operator may be the result of a comparison with zero that wasmi can still fuse with what comes, from how
/// that was before. Operators that may be folded, as `i32.or` with zero is, leave it as it is.
fn may_be_test_of_zero(opcode: u8, before: bool) -> bool {
    match opcode {
        // i32.eqz, i32.eq, i32.ne
        0x45..=0x47 => true,
        // nop, drop, select, locals, global.get, constants of numbers, references and vectors
        0x01 | 0x1a..=0x1c | 0x20..=0x23 | 0x41..=0x44 | 0xd0 | 0xd2 | 0xfd => before,
        // i32.add to i32.rotr, conversions between integers, i32.extend8_s, i32.extend16_s
        0x6a..=0x78 | 0xa7 | 0xac | 0xad | 0xc0 | 0xc1 => before,
        _ => false,
    }
}

fn element(ty: RefType) -> Option<Element> {
    match ty {
        RefType::FUNCREF => Some(Element::Func),
        RefType::EXTERNREF => Some(Element::Extern),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
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
}
