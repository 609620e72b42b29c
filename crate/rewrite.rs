//! Every change that is made to a module before an engine sees it.
//!
//! [`Sections`] finds the sections of a binary. [`Edits`] collects what is added to them, removed and
//! replaced. [`walk`] validates the module once and shows each function to all passes. [`Edits::apply`]
//! then writes the new binary in one go, with a map from its offsets to those in the given binary.
//! Everything that no pass changes stays the same, byte for byte.
//!
//! The passes here are independent of the engines. A pass that works around the faults of one engine
//! lies next to that engine and uses the same building blocks.

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

/// A version on which machine code depends: it changes whenever the rewriting of binaries changes.
pub const REWRITE_VERSION: u32 = 2;

/// The most parameters and locals that all engines accept:
/// <https://webassembly.github.io/spec/js-api/#limits>.
pub const MAX_LOCALS: u32 = 50_000;

impl From<wasmparser::BinaryReaderError> for CompileError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Converts an offset from the parser, which is within the slice that the parser was given.
fn at(offset: u64) -> usize {
    offset as usize
}
