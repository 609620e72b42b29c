//! Types of the values that cross the seam. Values travel as raw 64-bit slots, and these types say how
//! to read them. This file is independent of the engines and of JavaScript.

/// The type of a WebAssembly value.
///
/// Source: <https://webassembly.github.io/spec/core/syntax/types.html#value-types>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    I32,
    I64,
    F32,
    F64,
    V128,
    FuncRef,
    ExternRef,
    /// A type that an engine supports but this crate does not (for example, an exception reference).
    Other,
}

impl ValueType {
    /// Whether a value of this type fits in one 64-bit slot and is meaningful to a supervisor.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::I32 | Self::I64 | Self::F32 | Self::F64)
    }

    /// The name of the type in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::FuncRef => "funcref",
            Self::ExternRef => "externref",
            Self::Other => "unknown",
        }
    }
}

/// The type of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FuncType {
    pub params: Box<[ValueType]>,
    pub results: Box<[ValueType]>,
}

impl FuncType {
    /// The number of slots that a call of this type needs: results replace the arguments.
    pub fn slots(&self) -> usize {
        self.params.len().max(self.results.len())
    }

    /// The first type that no slot can hold, if any.
    pub fn first_unsupported(&self) -> Option<ValueType> {
        self.params.iter().chain(self.results.iter()).copied().find(|ty| !ty.is_numeric())
    }
}

/// The type of a memory: sizes in pages of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemoryType {
    pub minimum: u64,
    pub maximum: Option<u64>,
}

/// The type of a table: sizes in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableType {
    pub element: ValueType,
    pub minimum: u64,
    pub maximum: Option<u64>,
}

/// The type of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GlobalType {
    pub value: ValueType,
    pub mutable: bool,
}

/// The type of an import or an export.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExternType {
    Func(FuncType),
    Memory(MemoryType),
    Table(TableType),
    Global(GlobalType),
    /// A kind that this crate does not support (for example, an exception tag).
    Other,
}

/// The size of a WebAssembly page in bytes.
pub const PAGE_BYTES: u64 = 65_536;

/// The most pages that a 32-bit memory can have.
pub const MAX_PAGES: u64 = 65_536;
