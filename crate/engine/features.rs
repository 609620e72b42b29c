//! The WebAssembly proposals that the modules of an engine may use. A proposal that neither engine
//! supports cannot be turned on. A proposal that one of them supports can be turned off, for both
//! engines alike, because a module is checked before an engine sees it.

use wasmparser::WasmFeatures;

/// A set of proposals. The default is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(u32);

/// The JavaScript names of the proposals and their validator features. In a set, bit `n` stands for the
/// `n`th of these.
const PROPOSALS: [(&str, WasmFeatures); 12] = [
    ("mutableGlobals", WasmFeatures::MUTABLE_GLOBAL),
    ("signExtension", WasmFeatures::SIGN_EXTENSION),
    ("saturatingFloatToInt", WasmFeatures::SATURATING_FLOAT_TO_INT),
    ("multiValue", WasmFeatures::MULTI_VALUE),
    ("bulkMemory", WasmFeatures::BULK_MEMORY),
    ("referenceTypes", WasmFeatures::REFERENCE_TYPES),
    ("simd", WasmFeatures::SIMD),
    ("relaxedSimd", WasmFeatures::RELAXED_SIMD),
    ("multiMemory", WasmFeatures::MULTI_MEMORY),
    ("extendedConst", WasmFeatures::EXTENDED_CONST),
    ("tailCall", WasmFeatures::TAIL_CALL),
    ("floats", WasmFeatures::FLOATS),
];

impl Features {
    /// The names of all proposals, in the order of their bits.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROPOSALS.iter().map(|(name, _)| *name)
    }

    /// The set with these bits. Unknown bits are ignored.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::default().0)
    }

    /// The set without the proposal of this name.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        let bit = Self::names().position(|known| known == name).map_or(0, |at| 1 << at);
        Self(self.0 & !bit)
    }

    /// Whether no proposal is turned off.
    pub fn is_default(self) -> bool {
        self == Self::default()
    }

    /// The features that a module is validated against before an engine sees it. All of them if nothing
    /// is turned off, since an engine itself refuses what it does not support.
    pub fn before_engine(self) -> WasmFeatures {
        if self.is_default() { WasmFeatures::all() } else { self.for_validation() }
    }

    /// The set as features of the validator.
    pub fn for_validation(self) -> WasmFeatures {
        let is_on = |at: usize| self.0 & (1 << at) != 0;
        let proposals = PROPOSALS.iter().enumerate().filter(|(at, _)| is_on(*at)).map(|(_, (_, proposal))| *proposal);
        // Not a proposal, but the types that engines without gc support.
        proposals.fold(WasmFeatures::GC_TYPES, WasmFeatures::union)
    }
}

impl Default for Features {
    fn default() -> Self {
        Self((1 << PROPOSALS.len()) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_its_bits_say() {
        assert!(Features::from_bits(u32::MAX).is_default());
        let some = Features::default().without("simd");
        assert_eq!(some, Features::from_bits(!(1 << 6)));
        assert!(!some.for_validation().contains(WasmFeatures::SIMD));
        assert!(some.for_validation().contains(WasmFeatures::RELAXED_SIMD));
        assert_eq!(some.without("nothing"), some);
    }
}
