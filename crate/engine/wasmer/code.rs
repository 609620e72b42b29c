//! The machine code of a module, of which there can be two kinds, see `memory.rs`. A part of `engine/wasmer.rs`.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::memory::Bounds;
use crate::error::CompileError;

/// Code of one kind, with a wasmer engine of its own.
pub struct Code {
    pub module: wasmer::Module,
    pub bounds: Bounds,
    /// Below the module, so that it is dropped after it.
    pub _engine: wasmer::Engine,
}

/// The code of a module: of the kind that it was compiled as first, and of the other once an instance needs it.
pub struct Codes {
    first: Code,
    other: OnceLock<Code>,
    /// Held by whoever makes the other.
    compiling: Mutex<()>,
    compile: Box<dyn Fn(Bounds) -> Result<Code, CompileError> + Send + Sync>,
}

impl Codes {
    /// `compile` makes the same module with the other bounds.
    pub fn new(first: Code, compile: impl Fn(Bounds) -> Result<Code, CompileError> + Send + Sync + 'static) -> Self {
        Self { first, other: OnceLock::new(), compiling: Mutex::new(()), compile: Box::new(compile) }
    }

    /// Of whichever kind.
    pub fn first(&self) -> &Code {
        &self.first
    }

    /// Of this kind; it is compiled now if there is none yet.
    pub fn with(&self, bounds: Bounds) -> Result<&Code, CompileError> {
        if self.first.bounds == bounds {
            return Ok(&self.first);
        }
        if let Some(other) = self.other.get() {
            return Ok(other);
        }
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = self.other.get() {
            return Ok(other);
        }
        let other = (self.compile)(bounds)?;
        Ok(self.other.get_or_init(|| other))
    }

    /// How many memories an instance has of its own, and whether it has any at all.
    pub fn memories(&self) -> (u64, bool) {
        let info = self.first.module.info();
        let own = info.memories.len() - info.num_imported_memories;
        (own as u64, !info.memories.is_empty())
    }
}
