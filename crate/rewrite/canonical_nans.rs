//! Makes NaNs the same on every engine and every machine: after each instruction whose NaN results may
//! have any sign and payload, it inserts instructions that replace them with the canonical NaN. Only the
//! code section changes. Everything else stays the same, byte for byte, including debug information and
//! branch hints, whose offsets are then wrong.
//!
//! These instructions are: <https://webassembly.github.io/spec/core/exec/numerics.html#nan-propagation>

use std::borrow::Cow;

use wasm_encoder::{Ieee32, Ieee64, InstructionSink, ValType};
use wasmparser::{Operator, WasmFeatures};

use super::{BodyEdits, Edits, Function, MAX_LOCALS, Pass, Sections, walk};
use crate::error::CompileError;

/// The module with canonical NaNs, or `None` if it has no instruction that can produce others.
///
/// Instructions of relaxed SIMD are not changed: the specification leaves more than NaNs open there.
///
/// # Errors
///
/// Refuses an invalid module, and a function that has no room for the locals. The engine decides which
/// proposals a module may use.
pub fn canonical_nans(wasm: &[u8]) -> Result<Option<Vec<u8>>, CompileError> {
    let sections = Sections::of(wasm);
    let mut edits = Edits::default();
    walk(&sections, Some(WasmFeatures::all()), &mut CanonicalNans::default(), &mut edits)?;
    match edits.apply(&sections)?.wasm {
        Cow::Owned(rewritten) => Ok(Some(rewritten)),
        Cow::Borrowed(_) => Ok(None),
    }
}

/// The pass.
#[derive(Debug, Default)]
pub struct CanonicalNans {
    /// The locals that the function needs, one for each type. A function without room for one is refused
    /// at its end.
    locals: Vec<(ValType, Option<u32>)>,
}

impl Pass for CanonicalNans {
    fn wants(&self, opcode: u8) -> bool {
        // Arithmetic on f32 and f64, demote, promote, and everything with the vector prefix.
        matches!(opcode, 0x8d..=0x97 | 0x9b..=0xa5 | 0xb6 | 0xbb | 0xfd)
    }

    fn function(&mut self, _body: &mut BodyEdits<'_>) {
        self.locals.clear();
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        _function: &Function,
        body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        if let Some(shape) = shape_with_any_nan(operator)
            && let Some(local) = self.local(shape, body)
        {
            body.after(|code| make_canonical(&mut InstructionSink::new(code), shape, local));
        }
        Ok(())
    }

    fn end_of_function(&mut self, function: &Function, body: &mut BodyEdits<'_>) -> Result<(), CompileError> {
        if self.locals.iter().all(|(_, local)| local.is_some()) {
            return Ok(());
        }
        let (index, count, more) = (function.index(), body.locals(), self.locals.len());
        Err(CompileError::Refused(format!(
            "function {index} has {count} parameters and locals, and canonical NaNs need {more} more: \
             the limit is {MAX_LOCALS}"
        )))
    }
}

impl CanonicalNans {
    /// The index of the local for values of this shape, if there is room for it.
    fn local(&mut self, shape: Shape, body: &mut BodyEdits<'_>) -> Option<u32> {
        let wanted = match shape {
            Shape::F32 => ValType::F32,
            Shape::F64 => ValType::F64,
            Shape::F32x4 | Shape::F64x2 => ValType::V128,
        };
        if let Some((_, local)) = self.locals.iter().find(|(ty, _)| *ty == wanted) {
            return *local;
        }
        let local = body.local(wanted);
        self.locals.push((wanted, local));
        local
    }
}

/// The arrangement of floats in a value.
#[derive(Clone, Copy)]
enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// The shape of an instruction's result, if the specification does not determine its NaNs.
///
/// `abs`, `neg` and `copysign` operate on bits. `pmin` and `pmax` return one of their operands
/// unchanged.
fn shape_with_any_nan(operator: &Operator<'_>) -> Option<Shape> {
    use Operator::*;
    match operator {
        F32Add | F32Sub | F32Mul | F32Div | F32Min | F32Max | F32Sqrt | F32Ceil | F32Floor | F32Trunc | F32Nearest
        | F32DemoteF64 => Some(Shape::F32),
        F64Add | F64Sub | F64Mul | F64Div | F64Min | F64Max | F64Sqrt | F64Ceil | F64Floor | F64Trunc | F64Nearest
        | F64PromoteF32 => Some(Shape::F64),
        F32x4Add | F32x4Sub | F32x4Mul | F32x4Div | F32x4Min | F32x4Max | F32x4Sqrt | F32x4Ceil | F32x4Floor
        | F32x4Trunc | F32x4Nearest | F32x4DemoteF64x2Zero => Some(Shape::F32x4),
        F64x2Add | F64x2Sub | F64x2Mul | F64x2Div | F64x2Min | F64x2Max | F64x2Sqrt | F64x2Ceil | F64x2Floor
        | F64x2Trunc | F64x2Nearest | F64x2PromoteLowF32x4 => Some(Shape::F64x2),
        _ => None,
    }
}

/// Appends instructions that make the NaNs of the value on the stack canonical and otherwise do not
/// change it. NaNs are the values that are not equal to themselves: `select` returns its first operand
/// if the condition holds, and so does `bitselect` in each lane.
fn make_canonical(code: &mut InstructionSink<'_>, shape: Shape, local: u32) {
    code.local_tee(local);
    match shape {
        Shape::F32 => code.f32_const(Ieee32::new(F32_NAN)),
        Shape::F64 => code.f64_const(Ieee64::new(F64_NAN)),
        Shape::F32x4 => code.v128_const(in_each_lane(u64::from(F32_NAN) << 32 | u64::from(F32_NAN))),
        Shape::F64x2 => code.v128_const(in_each_lane(F64_NAN)),
    };
    code.local_get(local).local_get(local);
    match shape {
        Shape::F32 => code.f32_eq().select(),
        Shape::F64 => code.f64_eq().select(),
        Shape::F32x4 => code.f32x4_eq().v128_bitselect(),
        Shape::F64x2 => code.f64x2_eq().v128_bitselect(),
    };
}

/// <https://webassembly.github.io/spec/core/syntax/values.html#floating-point>
const F32_NAN: u32 = 0x7fc0_0000;
const F64_NAN: u64 = 0x7ff8_0000_0000_0000;

/// A vector with the same 64 bits in both halves.
fn in_each_lane(bits: u64) -> i128 {
    i128::from_le_bytes((u128::from(bits) << 64 | u128::from(bits)).to_le_bytes())
}
