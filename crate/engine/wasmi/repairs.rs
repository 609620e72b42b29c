//! Rewrites a module around the faults of wasmi 2.0.0. A part of `engine/wasmi.rs`; nothing else uses it.
//!
//! - `memory.grow` and `table.grow` become calls of host functions in a table that this pass adds. wasmi's own leave a frame on
//!   the native stack each time they run, until the process dies. Its `table.grow` also continues at the wrong place when it
//!   ran out of fuel and is resumed.
//! - An empty block is put in front of each block with parameters. Before a block, wasmi saves the locals that are on the
//!   stack, but it skips as many of them as the block has parameters, whether those are locals or not.
//! - An empty block is put in front of `i32.store`, `i32.store8` and `i32.store16` with a large offset or to another memory than
//!   the first. wasmi would panic where address and value are the same local; after an empty block neither is a local.
//! - An empty block is put in front of `select` if its condition may be a comparison of an i32 with zero. wasmi drops the
//!   comparison, and then reads the register of its result instead of the slot that is compared.
//! - The default of a `br_table` that carries several values becomes the end of a block around it, where a `br` follows. If all
//!   targets are at the same height, wasmi assumes that the values are in place, even if something else lies below them. The
//!   new target is at another height.
//!
//! A block costs no fuel, and an empty one makes no code except for what it saves. Everything else that is added costs the same
//! on wasmer, see `wasmer/checks.rs`.

use std::collections::HashMap;

use wasm_encoder::Encode;
use wasmparser::{
    BlockType, BrTable, CompositeInnerType, Frame, FrameKind, Operator, RefType, TypeRef, ValType, WasmModuleResources,
};

use crate::{
    error::CompileError,
    rewrite::{BodyEdits, Edits, Function, Pass, SectionId, Sections},
};

/// The exports that a module gets so that the host can grow its memories and tables.
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
    /// Under names that no export of the module has.
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

    /// The export of the memory or table that the host function at that place of the table grows.
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
    /// Whether the operand on the stack may be a comparison with zero, see [`may_be_test_of_zero`].
    may_fuse: bool,
    /// What the module needs to grow its memories and tables, if it grows any. Known when the pass has ended.
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
            // Without an element type there is no such table, or wasmi refuses it.
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

    /// Replaces the operator by a call of the host function that grows this.
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

    /// Gives a `br_table` another default if it carries several values.
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

    /// The index of a function type, which is added to the module if the pass has not added it before.
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

/// The types of the values that a branch to a label carries, if wasmi supports them all.
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

/// Whether wasmi mistranslates this operator when locals or registers are on its stack. `may_fuse` comes from
/// [`may_be_test_of_zero`].
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

/// Whether the operand on the stack after this operator may be a comparison with zero that wasmi can still fuse with the next
/// operator, given whether that was so `before`. Operators that wasmi may fold, such as `i32.or` with zero, do not change it.
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
mod tests;
