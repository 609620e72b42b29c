//! A compiled module with everything that the realm needs to know about it, the same for both engines.
//!
//! The start function is taken out of the binary before an engine sees it and becomes one more export, which
//! `Realm` calls after instantiation. So an instance's memory, globals and functions are reachable while its start function
//! runs, it can be called like any other function, and a start function that traps is never confused with a
//! segment out of bounds. Neither engine can do that with a start section: they run it before they hand the instance
//! out.

use std::{borrow::Cow, collections::HashMap};

use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef, Validator, WasmFeatures};

use crate::{
    canonical_nans::canonical_nans,
    engine::{Engine, EngineId, ExportType, ImportType},
    error::CompileError,
    value::{ExternType, FuncType, PAGE_BYTES},
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
    /// In the order of the binary, without the export that stands for the start function.
    pub exports: Vec<ExportType>,
    /// The name of the export that stands for the start function.
    pub start: Option<String>,
    /// The place in `exports` of the memory with index 0, if it is exported and not imported.
    pub exported_memory0: Option<usize>,
    /// About how much native memory an instance takes, in bytes: its own memories as they start, tables, and records.
    pub instance_bytes: u64,
    /// The size of its largest own memory as it starts, in bytes.
    pub largest_memory: u64,
    /// The size of its largest own table as it starts, in elements.
    pub largest_table: u64,
    /// By how many bytes the code section moved up when the start function was taken out.
    pub code_shift: isize,
}

impl<E: Engine> Module<E> {
    /// Validates and compiles `wasm`.
    pub fn compile(engine: &E, wasm: &[u8]) -> Result<Self, CompileError> {
        Self::make(engine, wasm, |binary| engine.compile(binary))
    }

    /// The module of that binary and of the machine code that [`Module::machine_code`] gave for it.
    ///
    /// # Safety
    ///
    /// As for [`Engine::load`].
    pub unsafe fn load(engine: &E, wasm: &[u8], machine_code: &[u8]) -> Result<Self, CompileError> {
        // SAFETY: passed on to the caller; the same binary is made of `wasm` as when it was compiled.
        Self::make(engine, wasm, |binary| unsafe { engine.load(binary, machine_code) })
    }

    /// Its machine code, if the engine makes any.
    pub fn machine_code(&self, engine: &E) -> Result<Vec<u8>, CompileError> {
        engine.machine_code(&self.compiled)
    }

    fn make(
        engine: &E,
        wasm: &[u8],
        compile: impl FnOnce(&[u8]) -> Result<E::Module, CompileError>,
    ) -> Result<Self, CompileError> {
        let layout = Layout::parse(wasm);
        let features = engine.config().features;
        if !features.is_default() {
            validate(wasm, features.for_validation())?;
        } else if layout.start.is_some() {
            // Without its start section a module may be valid that is not valid with it.
            validate(wasm, WasmFeatures::all())?;
        }
        let (binary, start) = match layout.start.as_ref().and_then(|start| without_start(wasm, start, &layout)) {
            Some((binary, name)) => (Cow::Owned(binary), Some(name)),
            None => (Cow::Borrowed(wasm), None),
        };
        // No slice is longer than `isize::MAX`.
        let code_shift = binary.len() as isize - wasm.len() as isize;
        let is_rewritten = engine.config().deterministic && !E::HAS_CANONICAL_NANS;
        let canonical = if is_rewritten { canonical_nans(&binary)? } else { None };
        let compiled = compile(canonical.as_deref().unwrap_or(&binary))?;
        let mut exports = E::exports(&compiled);
        if let Some(start) = &start {
            let at = exports.iter().position(|export| export.name == *start);
            match at.map(|at| exports.swap_remove(at).ty) {
                Some(ExternType::Func(ty)) if ty.params.is_empty() && ty.results.is_empty() => {}
                _ => return Err(CompileError("the start function must have no parameters and no results".to_owned())),
            }
        }
        let (imports, engine_order) = layout.in_order(E::imports(&compiled));
        // wasmi lists exports by name.
        let place: HashMap<&str, usize> =
            layout.export_names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        exports.sort_by_key(|export| place.get(export.name.as_str()).copied());
        let exported_memory0 =
            layout.exported_memory0.and_then(|name| exports.iter().position(|export| export.name == name));
        Ok(Self {
            engine: engine.id(),
            imports,
            engine_order,
            exports,
            start,
            exported_memory0,
            instance_bytes: INSTANCE_BYTES + layout.own_memory_bytes,
            largest_memory: layout.largest_memory,
            largest_table: layout.largest_table,
            code_shift,
            compiled,
        })
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

/// About what an instance takes besides its memories.
const INSTANCE_BYTES: u64 = 8 * 1024;

/// What a look at the section headers tells. Anything unusual is left for the engine to refuse.
#[derive(Default)]
struct Layout<'a> {
    start: Option<Start>,
    /// The whole export section, header included, if there is one.
    export_section: Option<std::ops::Range<usize>>,
    /// The export section's entries without their count.
    export_entries: &'a [u8],
    export_names: Vec<&'a str>,
    own_memory_bytes: u64,
    largest_memory: u64,
    largest_table: u64,
    import_kinds: Vec<ImportKind>,
    exported_memory0: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ImportKind {
    Func,
    Table,
    Memory,
    Global,
    Other,
}

struct Start {
    func: u32,
    /// The whole start section, header included.
    section: std::ops::Range<usize>,
}

impl<'a> Layout<'a> {
    /// Brings an engine's list of imports, in which those of one kind are in order, into the order of the binary; also
    /// returns for each import of the engine where it went.
    fn in_order(&self, imports: Vec<ImportType>) -> (Vec<ImportType>, Vec<usize>) {
        let mut left: Vec<Option<ImportType>> = imports.into_iter().map(Some).collect();
        let mut order = vec![0; left.len()];
        let mut sorted = Vec::with_capacity(left.len());
        let mut next = HashMap::new();
        for kind in &self.import_kinds {
            let from = next.get(kind).copied().unwrap_or(0);
            let is_next =
                |import: &Option<ImportType>| import.as_ref().is_some_and(|import| kind_in_engine(&import.ty) == *kind);
            let Some(at) = left[from..].iter().position(is_next).map(|offset| from + offset) else { break };
            next.insert(*kind, at + 1);
            order[at] = sorted.len();
            sorted.extend(left[at].take());
        }
        // None is left, unless the engine counts imports in another way; then they stay in its order.
        for (at, import) in left.into_iter().enumerate() {
            if let Some(import) = import {
                order[at] = sorted.len();
                sorted.push(import);
            }
        }
        (sorted, order)
    }

    fn parse(wasm: &'a [u8]) -> Self {
        let mut layout = Self::default();
        let mut imported_memories = 0;
        let mut section_start = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let Ok(payload) = payload else { return Self::default() };
            // Payloads that stand for a whole section end where that section ends, so the next one starts there.
            let begin = section_start;
            match &payload {
                Payload::Version { encoding: Encoding::Module, range, .. } => section_start = at(range.end),
                Payload::Version { .. } => return Self::default(),
                Payload::ImportSection(reader) => {
                    section_start = at(reader.range().end);
                    for import in reader.clone().into_imports().flatten() {
                        imported_memories += u32::from(matches!(import.ty, TypeRef::Memory(_)));
                        layout.import_kinds.push(kind_in_binary(import.ty));
                    }
                }
                Payload::MemorySection(reader) => {
                    section_start = at(reader.range().end);
                    for memory in reader.clone().into_iter().flatten() {
                        let bytes = memory.initial.saturating_mul(PAGE_BYTES);
                        layout.own_memory_bytes = layout.own_memory_bytes.saturating_add(bytes);
                        layout.largest_memory = layout.largest_memory.max(bytes);
                    }
                }
                Payload::TableSection(reader) => {
                    section_start = at(reader.range().end);
                    let elements = reader.clone().into_iter().flatten().map(|table| table.ty.initial);
                    layout.largest_table = elements.max().unwrap_or(0);
                }
                Payload::ExportSection(reader) => {
                    section_start = at(reader.range().end);
                    layout.export_section = Some(begin..section_start);
                    let entries = reader.clone().into_iter_with_offsets();
                    let mut first = None;
                    for entry in entries {
                        let Ok((offset, export)) = entry else { return Self::default() };
                        first.get_or_insert(offset);
                        layout.export_names.push(export.name);
                        if export.kind == ExternalKind::Memory && export.index == 0 && imported_memories == 0 {
                            layout.exported_memory0.get_or_insert(export.name);
                        }
                    }
                    layout.export_entries = &wasm[first.map_or(section_start, at)..section_start];
                }
                Payload::StartSection { func, range } => {
                    section_start = at(range.end);
                    let start = Start { func: *func, section: begin..section_start };
                    if layout.start.replace(start).is_some() {
                        return Self::default();
                    }
                }
                // No start section can follow these, and nothing else here is looked for.
                Payload::ElementSection(_) | Payload::DataCountSection { .. } | Payload::CodeSectionStart { .. } => {
                    return layout;
                }
                other => match other.as_section() {
                    Some((_, range)) => section_start = at(range.end),
                    None => return layout,
                },
            }
        }
        layout
    }
}

/// The kind of an import as the binary tells it.
fn kind_in_binary(ty: TypeRef) -> ImportKind {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => ImportKind::Func,
        TypeRef::Table(_) => ImportKind::Table,
        TypeRef::Memory(_) => ImportKind::Memory,
        TypeRef::Global(_) => ImportKind::Global,
        TypeRef::Tag(_) => ImportKind::Other,
    }
}

/// The kind of an import as an engine tells it.
fn kind_in_engine(ty: &ExternType) -> ImportKind {
    match ty {
        ExternType::Func(_) => ImportKind::Func,
        ExternType::Memory(_) => ImportKind::Memory,
        ExternType::Table(_) => ImportKind::Table,
        ExternType::Global(_) => ImportKind::Global,
        ExternType::Other => ImportKind::Other,
    }
}

/// An offset that the parser gave, which lies in the slice it was given.
fn at(offset: u64) -> usize {
    offset as usize
}

/// The binary with the start section gone and the start function exported under the name that is returned, or `None` if
/// the sections do not stand as the specification wants them.
fn without_start(wasm: &[u8], start: &Start, layout: &Layout<'_>) -> Option<(Vec<u8>, String)> {
    let exports = layout.export_section.clone().unwrap_or(start.section.start..start.section.start);
    if exports.end > start.section.start {
        return None;
    }
    let mut name = String::from("start");
    while layout.export_names.contains(&name.as_str()) {
        name.push('\'');
    }
    let mut content = Vec::with_capacity(layout.export_entries.len() + name.len() + 16);
    let count = u32::try_from(layout.export_names.len()).ok()?.checked_add(1)?;
    leb128(&mut content, count);
    content.extend_from_slice(layout.export_entries);
    leb128(&mut content, u32::try_from(name.len()).ok()?);
    content.extend_from_slice(name.as_bytes());
    content.push(EXPORT_KIND_FUNC);
    leb128(&mut content, start.func);

    let mut binary = Vec::with_capacity(wasm.len() + name.len() + 16);
    binary.extend_from_slice(&wasm[..exports.start]);
    binary.push(EXPORT_SECTION_ID);
    leb128(&mut binary, u32::try_from(content.len()).ok()?);
    binary.extend_from_slice(&content);
    binary.extend_from_slice(&wasm[exports.end..start.section.start]);
    binary.extend_from_slice(&wasm[start.section.end..]);
    Some((binary, name))
}

/// Refuses what is not a valid module, or needs other proposals. To be asked before a module is rewritten: what was not valid may be valid afterwards.
pub(crate) fn validate(wasm: &[u8], features: WasmFeatures) -> Result<(), CompileError> {
    let valid = Validator::new_with_features(features).validate_all(wasm);
    valid.map(drop).map_err(|error| CompileError(error.to_string()))
}

/// <https://webassembly.github.io/spec/core/binary/modules.html#export-section>
const EXPORT_SECTION_ID: u8 = 7;
const EXPORT_KIND_FUNC: u8 = 0;

/// Appends an unsigned LEB128 number.
fn leb128(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(wat: &str) -> Vec<u8> {
        let wasm = wat::parse_str(wat).expect("valid text");
        let layout = Layout::parse(&wasm);
        let start = layout.start.as_ref().expect("has a start section");
        without_start(&wasm, start, &layout).expect("can be rewritten").0
    }

    fn exports(wasm: &[u8]) -> Vec<(String, u32)> {
        Parser::new(0)
            .parse_all(wasm)
            .filter_map(|payload| match payload.expect("valid") {
                Payload::ExportSection(reader) => Some(reader),
                Payload::StartSection { .. } => panic!("the start section is still there"),
                _ => None,
            })
            .flat_map(|reader| reader.into_iter().map(|export| export.expect("valid")))
            .map(|export| (export.name.to_owned(), export.index))
            .collect()
    }

    #[test]
    fn a_start_function_becomes_the_last_export() {
        let wasm = rewritten(
            r#"(module (func) (func $s) (memory 1) (export "a" (func 0)) (start $s) (data (i32.const 0) "x"))"#,
        );
        assert_eq!(exports(&wasm), [("a".to_owned(), 0), ("start".to_owned(), 1)]);
        wasmparser::validate(&wasm).expect("still a valid module");
    }

    #[test]
    fn a_module_without_exports_gets_an_export_section() {
        let wasm = rewritten("(module (func $s) (start $s))");
        assert_eq!(exports(&wasm), [("start".to_owned(), 0)]);
        wasmparser::validate(&wasm).expect("still a valid module");
    }

    #[test]
    fn the_export_never_clashes_with_a_name_of_the_module() {
        let wasm = rewritten(r#"(module (func $s) (export "start" (func $s)) (export "start'" (func $s)) (start $s))"#);
        assert_eq!(exports(&wasm).last(), Some(&("start''".to_owned(), 0)));
        wasmparser::validate(&wasm).expect("still a valid module");
    }

    #[test]
    fn sections_out_of_order_are_left_to_the_engine() {
        // Start (8) before export (7): not a valid module, and it must stay one.
        let wasm =
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x07\x05\x01\x01a\0\0\x0a\x04\x01\x02\0\x0b";
        assert!(wasmparser::validate(wasm).is_err());
        let layout = Layout::parse(wasm);
        if let Some(start) = &layout.start
            && let Some((binary, _)) = without_start(wasm, start, &layout)
        {
            assert!(wasmparser::validate(&binary).is_err());
        }
    }

    #[test]
    fn memory_zero_is_found_only_when_the_module_defines_it() {
        let found = |wat: &str| {
            let wasm = wat::parse_str(wat).expect("valid text");
            Layout::parse(&wasm).exported_memory0.map(str::to_owned)
        };
        assert_eq!(found(r#"(module (memory (export "m") 1))"#), Some("m".to_owned()));
        assert_eq!(found(r#"(module (import "e" "m" (memory 1)) (export "x" (memory 0)))"#), None);
        assert_eq!(found("(module (memory 1))"), None);
    }
}
