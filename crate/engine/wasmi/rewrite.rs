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

use std::{collections::HashMap, error::Error, ops::Range};

use wasm_encoder::Encode;
use wasmparser::{
    BlockType, BrTable, CompositeInnerType, Encoding, Frame, FrameKind, FuncValidator, FuncValidatorAllocations,
    FunctionBody, Operator, Parser, Payload, RefType, TypeRef, ValType, ValidPayload, Validator, ValidatorResources,
    WasmFeatures, WasmModuleResources,
};

/// A module that wasmi does right.
#[derive(Debug)]
pub struct Rewritten {
    pub wasm: Vec<u8>,
    /// What it needs to grow its memories and tables, if it does that.
    pub growth: Option<Growth>,
}

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

/// The module as wasmi needs it, or `None` if it can stay as it is.
///
/// Refuses what is not a valid module, since one that calls what it does not have could be valid afterwards. Which proposals a module may use is
/// for the engine to say.
pub fn for_wasmi(wasm: &[u8]) -> Result<Option<Rewritten>, Box<dyn Error>> {
    let module = Layout::validate(wasm)?;
    if module.bodies.is_empty() {
        return Ok(None);
    }
    module.rewrite(wasm).map(Some)
}

/// What must be known of a module.
#[derive(Default)]
struct Layout {
    types: Section,
    /// If it has none, where one would be.
    tables: Section,
    exports: Section,
    code: Section,
    /// What each of its tables holds; `None` for what wasmi has no tables of.
    elements: Vec<Option<Element>>,
    /// How long the names of its exports are at least that could be taken for added ones.
    prefix: usize,
    /// The bodies that are changed.
    bodies: Vec<Body>,
    grown: Vec<Grown>,
    /// The types that are added, and which of these each is.
    added: HashMap<Vec<u8>, u32>,
    /// The same in their order.
    added_types: Vec<u8>,
}

/// A section: all of it, its entries without their count, and that count.
#[derive(Default, Clone)]
struct Section {
    range: Range<usize>,
    entries: Range<usize>,
    count: u32,
}

/// A function's body that is changed.
struct Body {
    /// With its length.
    range: Range<usize>,
    content: usize,
    edits: Vec<Edit>,
}

/// What is put in an operator's place, or before it.
enum Change {
    Instead(Vec<u8>),
    Before(Vec<u8>),
}

/// What is put in the place of a part of the binary.
struct Edit {
    range: Range<usize>,
    with: Vec<u8>,
}

const TYPE_SECTION: u8 = 1;
const TABLE_SECTION: u8 = 4;
const EXPORT_SECTION: u8 = 7;
const CODE_SECTION: u8 = 10;

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

impl Layout {
    fn validate(wasm: &[u8]) -> Result<Self, Box<dyn Error>> {
        let mut layout = Self::default();
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut allocations = FuncValidatorAllocations::default();
        // Where the last section or body ended.
        let mut begin = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                let mut function = function.into_validator(allocations);
                let edits = layout.edits_of(&mut function, &body)?;
                allocations = function.into_allocations();
                let content = at(body.range())?;
                if !edits.is_empty() {
                    layout.bodies.push(Body { range: begin..content.end, content: content.start, edits });
                }
                begin = content.end;
                continue;
            }
            let section = |content: Range<u64>, count: u32| Section::new(wasm, begin, content, count);
            match &payload {
                Payload::TypeSection(types) => layout.types = section(types.range(), types.count())?,
                Payload::ImportSection(imports) => {
                    for import in imports.clone().into_imports() {
                        if let TypeRef::Table(table) = import?.ty {
                            layout.elements.push(element(table.element_type));
                        }
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables.clone() {
                        layout.elements.push(element(table?.ty.element_type));
                    }
                    layout.tables = section(tables.range(), tables.count())?;
                }
                Payload::ExportSection(exports) => {
                    for export in exports.clone() {
                        let rest = export?.name.strip_prefix(PREFIX);
                        let marks = rest.map(|rest| rest.len() - rest.trim_start_matches('\'').len() + 1);
                        layout.prefix = layout.prefix.max(marks.unwrap_or(0));
                    }
                    layout.exports = section(exports.range(), exports.count())?;
                }
                Payload::CodeSectionStart { range, count, .. } => {
                    layout.code = section(range.clone(), *count)?;
                }
                _ => {}
            }
            begin = match &payload {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    return Err("a component is not a module".into());
                }
                Payload::Version { range, .. } => at(range.clone())?.end,
                Payload::CodeSectionStart { .. } => layout.code.entries.start,
                other => other.as_section().map_or(Ok(begin), |(_, range)| at(range).map(|range| range.end))?,
            };
            layout.skip_absent(&payload, begin);
        }
        Ok(layout)
    }

    /// Notes that sections which may be missing come after this one.
    fn skip_absent(&mut self, payload: &Payload<'_>, end: usize) {
        let (before_tables, before_exports) = match payload {
            Payload::TypeSection(_) | Payload::ImportSection(_) | Payload::FunctionSection(_) => (true, true),
            Payload::TableSection(_)
            | Payload::MemorySection(_)
            | Payload::TagSection(_)
            | Payload::GlobalSection(_) => (false, true),
            _ => (false, false),
        };
        for (section, is_before) in [(&mut self.tables, before_tables), (&mut self.exports, before_exports)] {
            if is_before {
                *section = Section { range: end..end, entries: end..end, count: 0 };
            }
        }
    }

    fn edits_of(
        &mut self,
        function: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<Vec<Edit>, Box<dyn Error>> {
        let mut edits = Vec::new();
        let bytes = body.as_bytes();
        let begin = body.range().start;
        let mut reader = body.get_binary_reader();
        function.read_locals(&mut reader)?;
        let mut may_fuse = false;
        while !reader.eof() {
            let offset = reader.original_position();
            let opcode = bytes.get(usize::try_from(offset - begin)?).copied().unwrap_or(0);
            let change = if may_be_changed(opcode) {
                let operator = reader.peek_operator(&function.visitor(offset))?;
                self.change(&operator, function, may_fuse)?
            } else {
                None
            };
            reader.visit_operator(&mut function.visitor(offset))??;
            match change {
                Some(Change::Instead(with)) => {
                    edits.push(Edit { range: at(offset..reader.original_position())?, with });
                }
                Some(Change::Before(with)) => edits.push(Edit { range: at(offset..offset)?, with }),
                None => {}
            }
            may_fuse = may_be_test_of_zero(opcode, may_fuse);
        }
        reader.finish_expression(&function.visitor(reader.original_position()))?;
        Ok(edits)
    }

    /// What becomes of an operator, if it does not stay as it is.
    fn change(
        &mut self,
        operator: &Operator<'_>,
        function: &FuncValidator<ValidatorResources>,
        may_fuse: bool,
    ) -> Result<Option<Change>, Box<dyn Error>> {
        let instead = match operator {
            Operator::MemoryGrow { mem } => Some(self.call(Grown::Memory(*mem))),
            // Else there is no such table, or it is one that wasmi refuses.
            Operator::TableGrow { table } => match self.elements.get(*table as usize) {
                Some(Some(element)) => Some(self.call(Grown::Table(*table, *element))),
                _ => None,
            },
            Operator::BrTable { targets } => self.branch_table(targets, function)?,
            _ if wants_nothing_at_hand(operator, function, may_fuse) => {
                return Ok(Some(Change::Before(EMPTY_BLOCK.to_vec())));
            }
            _ => None,
        };
        Ok(instead.map(Change::Instead))
    }

    /// The call that grows this.
    fn call(&mut self, grown: Grown) -> Vec<u8> {
        let place = self.grown.iter().position(|other| *other == grown).unwrap_or_else(|| {
            self.grown.push(grown);
            self.grown.len() - 1
        });
        let ty = match grown {
            Grown::Memory(_) => self.function_type(&[I32], &[I32]),
            Grown::Table(_, Element::Func) => self.function_type(&[FUNCREF, I32], &[I32]),
            Grown::Table(_, Element::Extern) => self.function_type(&[EXTERNREF, I32], &[I32]),
        };
        let mut code = vec![I32_CONST];
        (place as i32).encode(&mut code);
        code.push(CALL_INDIRECT);
        ty.encode(&mut code);
        (self.elements.len() as u32).encode(&mut code);
        code
    }

    /// A `br_table` whose default is another, if it must be.
    fn branch_table(
        &mut self,
        targets: &BrTable<'_>,
        function: &FuncValidator<ValidatorResources>,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
        let label = function.get_control_frame(targets.default() as usize);
        let values = label.and_then(|frame| values_of_label(frame, function)).unwrap_or_default();
        if targets.is_empty() || !(values.len() > 1 || values == [V128]) {
            return Ok(None);
        }
        let with_index: Vec<u8> = values.iter().copied().chain([I32]).collect();
        let ty = self.function_type(&with_index, &values);
        let mut code = EMPTY_BLOCK.to_vec();
        code.push(BLOCK);
        i64::from(ty).encode(&mut code);
        code.push(BR_TABLE);
        targets.len().encode(&mut code);
        for target in targets.targets() {
            (target? + 1).encode(&mut code);
        }
        code.extend([0, END, BR]);
        targets.default().encode(&mut code);
        Ok(Some(code))
    }

    /// The index of a type that the module gets.
    fn function_type(&mut self, params: &[u8], results: &[u8]) -> u32 {
        let mut ty = vec![FUNCTION_TYPE];
        params.encode(&mut ty);
        results.encode(&mut ty);
        let next = self.added.len() as u32;
        let place = *self.added.entry(ty).or_insert_with_key(|ty| {
            self.added_types.extend(ty);
            next
        });
        self.types.count + place
    }

    fn rewrite(self, wasm: &[u8]) -> Result<Rewritten, Box<dyn Error>> {
        let code = self.code(wasm)?;
        let mut sections = Vec::with_capacity(4);
        let mut growth = None;
        if !self.added.is_empty() {
            sections.push((TYPE_SECTION, &self.types, self.types(wasm)));
        }
        if !self.grown.is_empty() {
            let prefix = format!("{PREFIX}{}", "'".repeat(self.prefix));
            let added = Growth { prefix, grown: self.grown.clone() };
            sections.push((TABLE_SECTION, &self.tables, self.tables(wasm)));
            sections.push((EXPORT_SECTION, &self.exports, self.exports(wasm, &added)));
            growth = Some(added);
        }
        sections.push((CODE_SECTION, &self.code, code));

        let more: usize = sections.iter().map(|(_, _, content)| content.len()).sum();
        let mut module = Vec::with_capacity(wasm.len() + more);
        let mut copied = 0;
        for (id, section, content) in &sections {
            module.extend_from_slice(wasm.get(copied..section.range.start).ok_or("the sections are out of order")?);
            module.push(*id);
            content.encode(&mut module);
            copied = section.range.end;
        }
        module.extend_from_slice(&wasm[copied..]);
        Ok(Rewritten { wasm: module, growth })
    }

    fn types(&self, wasm: &[u8]) -> Vec<u8> {
        let mut types = self.types.begin(wasm, self.added.len() as u32);
        types.extend(&self.added_types);
        types
    }

    fn tables(&self, wasm: &[u8]) -> Vec<u8> {
        let size = self.grown.len() as u32;
        let mut tables = self.tables.begin(wasm, 1);
        tables.extend([FUNCREF, HAS_MAXIMUM]);
        size.encode(&mut tables);
        size.encode(&mut tables);
        tables
    }

    fn exports(&self, wasm: &[u8], growth: &Growth) -> Vec<u8> {
        let mut exports = self.exports.begin(wasm, 1 + self.grown.len() as u32);
        let mut export = |name: &str, kind: u8, index: u32| {
            name.encode(&mut exports);
            exports.push(kind);
            index.encode(&mut exports);
        };
        export(growth.table(), TABLE_EXPORT, self.elements.len() as u32);
        for (place, grown) in self.grown.iter().enumerate() {
            let (kind, index) = match grown {
                Grown::Memory(index) => (MEMORY_EXPORT, *index),
                Grown::Table(index, _) => (TABLE_EXPORT, *index),
            };
            export(&growth.target(place), kind, index);
        }
        exports
    }

    fn code(&self, wasm: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut code = Vec::with_capacity(self.code.entries.len() + 64);
        self.code.count.encode(&mut code);
        let mut copied = self.code.entries.start;
        let mut changed = Vec::new();
        for body in &self.bodies {
            code.extend_from_slice(wasm.get(copied..body.range.start).ok_or("the bodies are out of order")?);
            copied = body.content;
            changed.clear();
            for edit in &body.edits {
                changed.extend_from_slice(wasm.get(copied..edit.range.start).ok_or("a body is out of order")?);
                changed.extend_from_slice(&edit.with);
                copied = edit.range.end;
            }
            changed.extend_from_slice(&wasm[copied..body.range.end]);
            changed.encode(&mut code);
            copied = body.range.end;
        }
        code.extend_from_slice(&wasm[copied..self.code.range.end]);
        Ok(code)
    }
}

/// The types of the values that a branch to a label takes along, if wasmi has them all.
fn values_of_label(frame: &Frame, function: &FuncValidator<ValidatorResources>) -> Option<Vec<u8>> {
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
fn wants_nothing_at_hand(
    operator: &Operator<'_>,
    function: &FuncValidator<ValidatorResources>,
    may_fuse: bool,
) -> bool {
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

/// Whether operators that begin with this byte may be changed, so that it is worth while to look at them.
fn may_be_changed(opcode: u8) -> bool {
    // Blocks, br_table, select, i32.store, i32.store8, i32.store16, memory.grow, and what has table.grow among it.
    matches!(opcode, 0x02..=0x04 | BR_TABLE | 0x1b | 0x1c | 0x36 | 0x3a | 0x3b | 0x40 | 0xfc)
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

fn at(range: Range<u64>) -> Result<Range<usize>, Box<dyn Error>> {
    Ok(usize::try_from(range.start)?..usize::try_from(range.end)?)
}

impl Section {
    fn new(wasm: &[u8], begin: usize, content: Range<u64>, count: u32) -> Result<Self, Box<dyn Error>> {
        let content = at(content)?;
        let bytes = wasm.get(content.clone()).ok_or("a section is truncated")?;
        // The count may be longer than it need be.
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).ok_or("a section has no count")? + 1;
        Ok(Self { range: begin..content.end, entries: content.start + length..content.end, count })
    }

    /// Its content, to be added to.
    fn begin(&self, wasm: &[u8], more: u32) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.entries.len() + 64);
        (self.count + more).encode(&mut content);
        content.extend_from_slice(&wasm[self.entries.clone()]);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
