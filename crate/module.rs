//! A compiled module with everything that the realm needs to know about it. It is the same for both
//! engines.
//!
//! The binary is rewritten before an engine sees it, see [`crate::rewrite`]. The start function becomes
//! an additional export, which `Realm` calls after instantiation. A memory 0 that the module defines and
//! does not export becomes another. Neither export is listed.

use std::collections::HashMap;

use crate::{
    engine::{Engine, EngineId, ExportType, ImportType},
    error::CompileError,
    rewrite::{
        Edits, ExportedMemory, Layout, Offsets, Pass as _, Sections,
        canonical_nans::CanonicalNans,
        start_export::{Added, export_hidden},
        walk,
    },
    total,
    value::{ExternType, FuncType},
};

/// A compiled module. Cheap to share between stores and threads.
pub struct Module<E: Engine> {
    pub compiled: E::Module,
    /// The engine that compiled it.
    pub engine: EngineId,
    /// In the order of the binary.
    pub imports: Vec<ImportType>,
    /// For each import in the engine's order, its place in `imports`.
    engine_order: Vec<usize>,
    /// In the order of the binary, without the exports that rewriting adds.
    pub exports: Vec<ExportType>,
    /// The name of the export that represents the start function.
    pub start: Option<String>,
    /// Where to find the memory with index 0, if there is one.
    pub memory0: Option<Memory0>,
    /// The place in `exports` of the memory with index 0, if it is exported and not imported.
    pub exported_memory0: Option<usize>,
    /// The memory that each exported memory refers to, by its place in `exports`, in ascending order.
    exported_memories: Box<[(u32, ExportedMemory)]>,
    /// The approximate native memory of an instance in bytes: its own memories at their initial size,
    /// tables, and records.
    pub instance_bytes: u64,
    /// The initial size of its own memories and tables, in bytes that count toward a total.
    pub initial_bytes: u64,
    /// The initial size of its largest own memory, in bytes.
    pub largest_memory: u64,
    /// The initial size of its largest own table, in elements.
    pub largest_table: u64,
    /// Maps offsets in the rewritten binary to the given one.
    pub offsets: Offsets,
}

/// Where to find a module's memory 0 in its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory0 {
    /// The place in `Module::imports`.
    Imported(usize),
    /// The place in `Module::exports`.
    Exported(usize),
    /// The name of an export that is not in `Module::exports`.
    Hidden(String),
}

impl<E: Engine> Module<E> {
    /// Validates and compiles `wasm`.
    pub fn compile(engine: &E, wasm: &[u8]) -> Result<Self, CompileError> {
        Self::make(engine, wasm, true, |binary, pass| engine.compile(binary, pass))
    }

    /// Loads a module from a binary and the machine code that [`Module::machine_code`] returned for it.
    ///
    /// # Safety
    ///
    /// As for [`Engine::load`].
    pub unsafe fn load(engine: &E, wasm: &[u8], machine_code: &[u8]) -> Result<Self, CompileError> {
        // SAFETY: passed on to the caller; the same binary is made of `wasm` as when it was compiled.
        Self::make(engine, wasm, false, |binary, pass| unsafe { engine.load(binary, pass, machine_code) })
    }

    /// The module's machine code, if the engine produces any.
    pub fn machine_code(&self, engine: &E) -> Result<Vec<u8>, CompileError> {
        engine.machine_code(&self.compiled)
    }

    /// `is_new` says that the engine has not compiled this binary before.
    fn make(
        engine: &E,
        wasm: &[u8],
        is_new: bool,
        compile: impl FnOnce(&[u8], E::Pass) -> Result<E::Module, CompileError>,
    ) -> Result<Self, CompileError> {
        let sections = Sections::of(wasm);
        let layout = Layout::of(&sections);
        let mut edits = Edits::default();
        let Added { start, memory0: hidden_memory0 } = export_hidden(&sections, &mut edits);
        let config = engine.config();
        let canonical_nans = config.deterministic && !E::HAS_CANONICAL_NANS;
        let mut passes = (engine.pass(&sections, &mut edits), canonical_nans.then(CanonicalNans::default));
        // Removing the start section can make an invalid module valid, and so can any change to its
        // functions. Machine code does not depend on which proposals a binary needs.
        let features = config.features.before_engine();
        let is_changed = start.is_some() || passes.is_needed();
        let is_validated = !config.features.is_default() || (is_changed && (is_new || !E::HAS_MACHINE_CODE));
        if is_validated || passes.is_needed() {
            walk(&sections, is_validated.then_some(features), &mut passes, &mut edits)?;
        }
        let rewritten = edits.apply(&sections)?;
        let compiled = compile(&rewritten.wasm, passes.0).or_else(|error| {
            // Exporting an existing memory makes no invalid module valid, so it is early enough to
            // validate now. The error then has the offset in the given binary.
            if hidden_memory0.is_some() && !is_validated {
                walk(&sections, Some(features), &mut (), &mut Edits::default())?;
            }
            Err(error)
        })?;
        let mut exports = E::exports(&compiled);
        let mut take = |name: &str| {
            let at = exports.iter().position(|export| export.name == name);
            at.map(|at| exports.swap_remove(at).ty)
        };
        if let Some(start) = &start {
            match take(start) {
                Some(ExternType::Func(ty)) if ty.params.is_empty() && ty.results.is_empty() => {}
                _ => {
                    return Err(CompileError::Refused(
                        "the start function must have no parameters and no results".to_owned(),
                    ));
                }
            }
        }
        if let Some(name) = &hidden_memory0 {
            take(name);
        }
        let (imports, engine_order) = layout.in_order(E::imports(&compiled));
        // wasmi sorts exports by name.
        let place: HashMap<&str, usize> =
            layout.export_names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        exports.sort_by_key(|export| place.get(export.name.as_str()).copied());
        let exported_memory0 =
            layout.exported_memory0.and_then(|name| exports.iter().position(|export| export.name == name));
        let exported_memories =
            exports.iter().zip(0..).filter(|(export, _)| matches!(export.ty, ExternType::Memory(_)));
        let exported_memories = exported_memories
            .filter_map(|(export, at)| Some((at, layout.exported_memory(place.get(export.name.as_str()).copied()?)?)))
            .collect();
        let imported_memory0 = imports.iter().position(|import| matches!(import.ty, ExternType::Memory(_)));
        let memory0 = imported_memory0
            .map(Memory0::Imported)
            .or(exported_memory0.map(Memory0::Exported))
            .or(hidden_memory0.map(Memory0::Hidden));
        let names: usize = exports.iter().map(|export| export.name.len()).sum();
        let instance_bytes = [
            layout.own_memory_bytes,
            layout.own_table_elements.saturating_mul(ELEMENT_BYTES),
            exports.len() as u64 * EXPORT_BYTES + names as u64,
            imports.len() as u64 * IMPORT_BYTES,
        ];
        let instance_bytes = instance_bytes.into_iter().fold(INSTANCE_BYTES, u64::saturating_add);
        Ok(Self {
            engine: engine.id(),
            imports,
            engine_order,
            exports,
            start,
            memory0,
            exported_memory0,
            exported_memories,
            instance_bytes,
            initial_bytes: layout
                .own_memory_bytes
                .saturating_add(layout.own_table_elements.saturating_mul(total::ELEMENT_BYTES)),
            largest_memory: layout.largest_memory,
            largest_table: layout.largest_table,
            offsets: rewritten.offsets,
            compiled,
        })
    }

    /// The memory that the export at this place represents; `None` if it is not a memory.
    pub fn exported_memory(&self, export: u32) -> Option<ExportedMemory> {
        let at = self.exported_memories.binary_search_by_key(&export, |(at, _)| *at).ok()?;
        Some(self.exported_memories[at].1)
    }

    /// Reorders a list with one item for each import into the order that the engine expects.
    pub fn in_engine_order<T>(&self, of_imports: Vec<T>) -> Vec<T> {
        let mut of_imports: Vec<Option<T>> = of_imports.into_iter().map(Some).collect();
        self.engine_order.iter().filter_map(|place| of_imports.get_mut(*place).and_then(Option::take)).collect()
    }

    /// The types of the imported functions, in order.
    pub fn imported_funcs(&self) -> impl Iterator<Item = &FuncType> {
        self.imports.iter().filter_map(|import| match &import.ty {
            ExternType::Func(ty) => Some(ty),
            _ => None,
        })
    }
}

/// The approximate size of an instance, in bytes, besides its memories and what grows with its module.
const INSTANCE_BYTES: u64 = 8 * 1024;
/// The approximate size of each table element, each export without its name, and each import: measured,
/// the larger of the two engines.
const ELEMENT_BYTES: u64 = 16;
const EXPORT_BYTES: u64 = 128;
const IMPORT_BYTES: u64 = 256;
