//! The machine code of a module. There can be two kinds, see `memory.rs`. A part of `engine/wasmer.rs`.

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

/// The code of a module: the kind that it was first compiled as, and the other kind once an instance
/// needs it.
pub struct Codes {
    first: Code,
    other: OnceLock<Code>,
    /// Held while the other kind is compiled.
    compiling: Mutex<()>,
    compile: Box<dyn Fn(Bounds) -> Result<Code, CompileError> + Send + Sync>,
}

impl Codes {
    /// `compile` compiles the same module with the other bounds.
    pub fn new(first: Code, compile: impl Fn(Bounds) -> Result<Code, CompileError> + Send + Sync + 'static) -> Self {
        Self { first, other: OnceLock::new(), compiling: Mutex::new(()), compile: Box::new(compile) }
    }

    /// The code that was compiled first.
    pub fn first(&self) -> &Code {
        &self.first
    }

    /// The code of this kind, which is compiled now if there is none yet.
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

    /// The number of an instance's own memories, and whether it has any memory at all.
    pub fn memories(&self) -> (u64, bool) {
        let info = self.first.module.info();
        let own = info.memories.len() - info.num_imported_memories;
        (own as u64, !info.memories.is_empty())
    }
}
