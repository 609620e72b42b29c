//! Makes NaNs the same on every engine and every machine: after each instruction of a module whose NaN results may have
//! any sign and payload, it puts instructions that make them the canonical NaN. It knows no engine. Only the code section
//! changes: what else there is stays byte for byte, also debug information and branch hints, whose offsets are off then.
//!
//! Which instructions these are: <https://webassembly.github.io/spec/core/exec/numerics.html#nan-propagation>

use std::{error::Error, ops::Range};

use wasm_encoder::{CodeSection, Encode, Ieee32, Ieee64, InstructionSink, Section, ValType};
use wasmparser::{
    Encoding, FuncValidator, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader, Parser, Payload,
    ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use crate::error::CompileError;

/// The module with canonical NaNs, or `None` if it has no instruction that makes others.
///
/// Refuses what is not a valid module, since a module that uses a local that it does not have could be valid
/// afterwards. Which proposals a module may use is for the engine to say. The instructions of relaxed SIMD stay as they
/// are: more than NaNs is left open there.
pub fn canonical_nans(wasm: &[u8]) -> Result<Option<Vec<u8>>, CompileError> {
    rewrite(wasm).map_err(|error| CompileError::Refused(error.to_string()))
}

fn rewrite(wasm: &[u8]) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut allocations = FuncValidatorAllocations::default();
    let mut code = CodeSection::new();
    let mut is_changed = false;
    // The whole code section, header included: a section begins where the one before it ends.
    let mut code_range = 0..0;
    let mut section_end = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let mut function = function.into_validator(allocations);
            let rewritten = rewrite_body(&mut function, &body)?;
            is_changed |= rewritten.is_some();
            code.raw(rewritten.as_deref().unwrap_or(body.as_bytes()));
            allocations = function.into_allocations();
        }
        match &payload {
            Payload::Version { encoding: Encoding::Component, .. } => return Err("a component is not a module".into()),
            Payload::Version { range, .. } => section_end = at(range.end),
            Payload::CodeSectionStart { range, .. } => {
                code_range = section_end..at(range.end);
                section_end = code_range.end;
            }
            other => section_end = other.as_section().map_or(section_end, |(_, range)| at(range.end)),
        }
    }
    Ok(is_changed.then(|| with_code(wasm, code_range, &code)))
}

/// An offset that the parser gave, which lies in the slice it was given.
fn at(offset: u64) -> usize {
    offset as usize
}

/// The module with another code section.
fn with_code(wasm: &[u8], code_range: Range<usize>, code: &CodeSection) -> Vec<u8> {
    let mut module = Vec::with_capacity(wasm.len() - code_range.len() + code.byte_len() + SECTION_HEADER_BYTES);
    module.extend_from_slice(&wasm[..code_range.start]);
    module.push(code.id());
    code.encode(&mut module);
    module.extend_from_slice(&wasm[code_range.end..]);
    module
}

/// No code section has more bytes before its first function: an id, a length and a count.
const SECTION_HEADER_BYTES: usize = 1 + 5 + 5;

/// Validates a function and returns its body with canonical NaNs, or `None` if it has no instruction that makes others.
fn rewrite_body(
    validator: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let bytes = body.as_bytes();
    let begin = body.range().start;
    let groups = body.get_locals_reader()?;
    let (group_count, groups_begin) = (groups.get_count(), at(groups.original_position() - begin));
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let mut operators = OperatorsReader::new(reader);
    let groups_end = at(operators.original_position() - begin);

    let mut added = AddedLocals { first: validator.len_locals(), types: Vec::new() };
    let mut instructions = Vec::new();
    let mut copied = groups_end;
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset()?;
        validator.op(offset, &operator)?;
        let Some(shape) = shape_with_any_nan(&operator) else { continue };
        let end = at(operators.original_position() - begin);
        instructions.extend_from_slice(&bytes[copied..end]);
        copied = end;
        make_canonical(&mut InstructionSink::new(&mut instructions), shape, added.local(shape));
    }
    operators.finish()?;
    if added.types.is_empty() {
        return Ok(None);
    }
    instructions.extend_from_slice(&bytes[copied..]);

    if added.count() > MAX_LOCALS {
        let (index, count, more) = (validator.index(), added.first, added.types.len());
        return Err(format!(
            "function {index} has {count} parameters and locals, and canonical NaNs need {more} more: \
             the limit is {MAX_LOCALS}"
        )
        .into());
    }
    // Each group takes two bytes of the body at least, so their number cannot overflow.
    let mut rewritten = Vec::with_capacity(instructions.len() + groups_end + 8);
    (group_count + added.types.len() as u32).encode(&mut rewritten);
    rewritten.extend_from_slice(&bytes[groups_begin..groups_end]);
    for ty in &added.types {
        1_u32.encode(&mut rewritten);
        ty.encode(&mut rewritten);
    }
    rewritten.append(&mut instructions);
    Ok(Some(rewritten))
}

/// How many parameters and locals all engines take: <https://webassembly.github.io/spec/js-api/#limits>.
const MAX_LOCALS: usize = 50_000;

/// The locals that a function gets behind its own: one for each type that is needed.
struct AddedLocals {
    first: u32,
    types: Vec<ValType>,
}

impl AddedLocals {
    /// The index of the local for values of that shape.
    fn local(&mut self, shape: Shape) -> u32 {
        let wanted = match shape {
            Shape::F32 => ValType::F32,
            Shape::F64 => ValType::F64,
            Shape::F32x4 | Shape::F64x2 => ValType::V128,
        };
        let place = self.types.iter().position(|ty| *ty == wanted).unwrap_or_else(|| {
            self.types.push(wanted);
            self.types.len() - 1
        });
        self.first + place as u32
    }

    /// How many parameters and locals the function has with them.
    fn count(&self) -> usize {
        self.first as usize + self.types.len()
    }
}

/// How the floats lie in a value.
#[derive(Clone, Copy)]
enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// The shape of an instruction's result, if the specification leaves open which NaNs it has.
///
/// `abs`, `neg` and `copysign` are about bits, `pmin` and `pmax` give one of their operands as it is.
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

/// Appends instructions that leave the value on the stack as it is, but with canonical NaNs. NaNs are what is not equal
/// to itself: `select` gives its first operand where the condition holds, and so does `bitselect` in each lane.
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

/// A vector of twice the same 64 bits.
fn in_each_lane(bits: u64) -> i128 {
    i128::from_le_bytes((u128::from(bits) << 64 | u128::from(bits)).to_le_bytes())
}
