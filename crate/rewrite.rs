//! Every change that is made to a module before an engine sees it.
//!
//! [`Sections`] finds the sections of a binary, [`Edits`] collects what is added to them, removed and replaced, and
//! [`walk`] validates the module once and shows each function to all passes. [`Edits::apply`] then writes the new binary in one go, along with a map
//! that takes offsets in it back to the given one. What no pass touches stays byte for byte.
//!
//! The passes here know no engine. A pass that works around the faults of one engine lies beside that engine and uses the same pieces.

pub mod canonical_nans;
mod edit;
mod layout;
pub mod metering;
mod offsets;
mod sections;
pub mod start_export;
mod walk;

pub use self::{
    edit::{BodyEdits, Edits, Rewritten},
    layout::{ExportedMemory, Layout},
    offsets::Offsets,
    sections::{Section, Sections},
    walk::{Function, Pass, walk},
};
pub use wasm_encoder::SectionId;

use crate::error::CompileError;

/// Part of what machine code depends on: it changes with what is made of a binary before an engine sees it.
pub const REWRITE_VERSION: u32 = 2;

/// How many parameters and locals all engines take: <https://webassembly.github.io/spec/js-api/#limits>.
pub const MAX_LOCALS: u32 = 50_000;

impl From<wasmparser::BinaryReaderError> for CompileError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// An offset that the parser gave, which lies in the slice it was given.
fn at(offset: u64) -> usize {
    offset as usize
}
