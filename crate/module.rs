//! A compiled module with everything that the realm needs to know about it, the same for both engines.
//!
//! Before an engine sees the binary it is rewritten, see [`crate::rewrite`]. The start function becomes one more export, which `Realm` calls after
//! instantiation, and so does a memory 0 that the module defines and does not export. Neither export is listed.

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
    /// Whose code it is.
    pub engine: EngineId,
    /// In the order of the binary.
    pub imports: Vec<ImportType>,
    /// For each import, in the order of the engine, its place in `imports`.
    engine_order: Vec<usize>,
    /// In the order of the binary, without the exports that the author of the module does not know of.
    pub exports: Vec<ExportType>,
    /// The name of the export that stands for the start function.
    pub start: Option<String>,
    /// Where the memory with index 0 is to be found, if there is one.
    pub memory0: Option<Memory0>,
    /// The place in `exports` of the memory with index 0, if it is exported and not imported.
    pub exported_memory0: Option<usize>,
    /// Which memory each exported memory is, by its place in `exports`, in ascending order.
    exported_memories: Box<[(u32, ExportedMemory)]>,
    /// About how much native memory an instance takes, in bytes: its own memories as they start, tables, and records.
    pub instance_bytes: u64,
    /// What its own memories and tables come to as they start, in bytes that count to a total.
    pub initial_bytes: u64,
    /// The size of its largest own memory as it starts, in bytes.
    pub largest_memory: u64,
    /// The size of its largest own table as it starts, in elements.
    pub largest_table: u64,
    /// Where its bytes were before it was rewritten.
    pub offsets: Offsets,
}

/// Where a module's memory 0 is to be found in its instances.
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

    /// The module of that binary and of the machine code that [`Module::machine_code`] gave for it.
    ///
    /// # Safety
    ///
    /// As for [`Engine::load`].
    pub unsafe fn load(engine: &E, wasm: &[u8], machine_code: &[u8]) -> Result<Self, CompileError> {
        // SAFETY: passed on to the caller; the same binary is made of `wasm` as when it was compiled.
        Self::make(engine, wasm, false, |binary, pass| unsafe { engine.load(binary, pass, machine_code) })
    }

    /// Its machine code, if the engine makes any.
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
        // Without its start section a module may be valid that is not valid with it, and so after any change to its functions. What a binary needs of
        // proposals is not part of what machine code depends on.
        let features = config.features.before_engine();
        let is_changed = start.is_some() || passes.is_needed();
        let is_validated = !config.features.is_default() || (is_changed && (is_new || !E::HAS_MACHINE_CODE));
        if is_validated || passes.is_needed() {
            walk(&sections, is_validated.then_some(features), &mut passes, &mut edits)?;
        }
        let rewritten = edits.apply(&sections)?;
        let compiled = compile(&rewritten.wasm, passes.0).or_else(|error| {
            // An export of a memory that exists makes no invalid module valid, so it is early enough to look now. The error then has
            // the offset in the binary that was given.
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
        // wasmi lists exports by name.
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

    /// Which memory the export in that place stands for; `None` if it is no memory.
    pub fn exported_memory(&self, export: u32) -> Option<ExportedMemory> {
        let at = self.exported_memories.binary_search_by_key(&export, |(at, _)| *at).ok()?;
        Some(self.exported_memories[at].1)
    }

    /// Brings one thing for each import into the order that the engine wants.
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

/// About what an instance takes besides its memories and what grows with its module, in bytes.
const INSTANCE_BYTES: u64 = 8 * 1024;
/// About what it takes for each element of a table, each export besides its name, and each import: measured, the larger of the two engines.
const ELEMENT_BYTES: u64 = 16;
const EXPORT_BYTES: u64 = 128;
const IMPORT_BYTES: u64 = 256;
