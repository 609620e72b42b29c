//! A compiled module with everything that the realm needs to know about it, the same for both engines.
//!
//! The start function is taken out of the binary before an engine sees it and becomes one more export, which
//! `Realm` calls after instantiation. So an instance's memory, globals and functions are reachable while its start function
//! runs, it can be called like any other function, and a start function that traps is never confused with a
//! segment out of bounds. Neither engine can do that with a start section: they run it before they hand the instance
//! out.
//!
//! A memory 0 that the module defines and does not export becomes an export as well, because engines give handles of
//! exports only, and the host may read and write the memory 0 of whoever calls it. Neither export is listed.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Range,
};

use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef, Validator, WasmFeatures};

use crate::{
    canonical_nans::canonical_nans,
    engine::{Engine, EngineId, ExportType, ImportType},
    error::CompileError,
    total,
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
    /// By how many bytes the code section moved up when the start function was taken out and exports were added.
    pub code_shift: isize,
}

/// Part of what machine code depends on: it changes with what is made of a binary before an engine sees it.
pub const REWRITE_VERSION: u32 = 1;

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

/// Which memory an export stands for. Several exports may stand for the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportedMemory {
    /// Its place among the imported memories.
    Imported(u32),
    /// Its place among the memories that the module defines.
    Own(u32),
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
        let Rewritten { binary, start, memory0: hidden_memory0 } = rewrite(wasm, &layout);
        // No slice is longer than `isize::MAX`.
        let code_shift = binary.len() as isize - wasm.len() as isize;
        let is_rewritten = engine.config().deterministic && !E::HAS_CANONICAL_NANS;
        let canonical = if is_rewritten { canonical_nans(&binary) } else { Ok(None) };
        let compiled = canonical.and_then(|canonical| compile(canonical.as_deref().unwrap_or(&binary)));
        let compiled = compiled.or_else(|error| {
            // An export of a memory that exists makes no invalid module valid, so it is early enough to look now. The error then has
            // the offset in the binary that was given.
            if hidden_memory0.is_some() {
                validate(wasm, WasmFeatures::all())?;
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
            code_shift,
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

/// What a look at the section headers tells. Anything unusual is left for the engine to refuse.
#[derive(Default)]
struct Layout<'a> {
    start: Option<Start>,
    /// The whole export section, header included; empty, and where it may stand, if there is none.
    export_section: Range<usize>,
    has_exports: bool,
    /// The export section's entries without their count.
    export_entries: &'a [u8],
    export_names: Vec<&'a str>,
    own_memory_bytes: u64,
    own_table_elements: u64,
    largest_memory: u64,
    largest_table: u64,
    import_kinds: Vec<ImportKind>,
    exported_memory0: Option<&'a str>,
    /// The place of each exported memory among the exports, and its index.
    exported_memories: Vec<(usize, u32)>,
    imported_memories: u32,
    /// Whether memory 0 is neither imported nor exported.
    has_hidden_memory0: bool,
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
    section: Range<usize>,
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
        let (mut imported_memories, mut own_memories) = (0, 0);
        let mut section_start = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let Ok(payload) = payload else { return Self::default() };
            // Payloads that stand for a whole section end where that section ends, so the next one starts there.
            let begin = section_start;
            match &payload {
                Payload::Version { encoding: Encoding::Module, range, .. } => section_start = at(range.end),
                Payload::Version { .. } => return Self::default(),
                // No start section can follow these, and nothing else here is looked for.
                Payload::ElementSection(_)
                | Payload::DataCountSection { .. }
                | Payload::CodeSectionStart { .. }
                | Payload::DataSection(_) => break,
                other => match other.as_section() {
                    Some((_, range)) => section_start = at(range.end),
                    None => break,
                },
            }
            match &payload {
                Payload::ImportSection(reader) => {
                    for import in reader.clone().into_imports().flatten() {
                        imported_memories += u32::from(matches!(import.ty, TypeRef::Memory(_)));
                        layout.import_kinds.push(kind_in_binary(import.ty));
                    }
                }
                Payload::MemorySection(reader) => {
                    for memory in reader.clone().into_iter().flatten() {
                        own_memories += 1;
                        let bytes = memory.initial.saturating_mul(PAGE_BYTES);
                        layout.own_memory_bytes = layout.own_memory_bytes.saturating_add(bytes);
                        layout.largest_memory = layout.largest_memory.max(bytes);
                    }
                }
                Payload::TableSection(reader) => {
                    for table in reader.clone().into_iter().flatten() {
                        let elements = table.ty.initial;
                        layout.own_table_elements = layout.own_table_elements.saturating_add(elements);
                        layout.largest_table = layout.largest_table.max(elements);
                    }
                }
                Payload::ExportSection(reader) => {
                    if std::mem::replace(&mut layout.has_exports, true) {
                        return Self::default();
                    }
                    layout.export_section = begin..section_start;
                    let entries = reader.clone().into_iter_with_offsets();
                    let mut first = None;
                    for entry in entries {
                        let Ok((offset, export)) = entry else { return Self::default() };
                        first.get_or_insert(offset);
                        if export.kind == ExternalKind::Memory {
                            layout.exported_memories.push((layout.export_names.len(), export.index));
                        }
                        layout.export_names.push(export.name);
                        if export.kind == ExternalKind::Memory && export.index == 0 && imported_memories == 0 {
                            layout.exported_memory0.get_or_insert(export.name);
                        }
                    }
                    layout.export_entries = &wasm[first.map_or(section_start, at)..section_start];
                }
                Payload::StartSection { func, range: _ } => {
                    let start = Start { func: *func, section: begin..section_start };
                    if layout.start.replace(start).is_some() {
                        return Self::default();
                    }
                }
                // An export section stands behind all of these but the custom ones, which stand anywhere.
                Payload::CustomSection(_) => continue,
                _ => {}
            }
            if !layout.has_exports && layout.start.is_none() {
                layout.export_section = section_start..section_start;
            }
        }
        layout.imported_memories = imported_memories;
        layout.has_hidden_memory0 = imported_memories == 0 && own_memories > 0 && layout.exported_memory0.is_none();
        layout
    }
}

impl Layout<'_> {
    /// Which memory the export in that place stands for.
    fn exported_memory(&self, place: usize) -> Option<ExportedMemory> {
        let at = self.exported_memories.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let index = self.exported_memories[at].1;
        let own = index.checked_sub(self.imported_memories);
        Some(own.map_or(ExportedMemory::Imported(index), ExportedMemory::Own))
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

/// What an engine gets to see of a binary.
struct Rewritten<'a> {
    binary: Cow<'a, [u8]>,
    /// The name of the export that the start function has become.
    start: Option<String>,
    /// The name of the export that memory 0 has become, if it was hidden.
    memory0: Option<String>,
}

/// The binary with the start section gone and the start function exported, and with memory 0 exported. It stays as it is if there is
/// nothing to do, or if the sections do not stand as the specification wants them: such a module is the engine's to refuse.
fn rewrite<'a>(wasm: &'a [u8], layout: &Layout<'_>) -> Rewritten<'a> {
    let unchanged = Rewritten { binary: Cow::Borrowed(wasm), start: None, memory0: None };
    with_more_exports(wasm, layout).unwrap_or(unchanged)
}

fn with_more_exports<'a>(wasm: &'a [u8], layout: &Layout<'_>) -> Option<Rewritten<'a>> {
    let exports = layout.export_section.clone();
    // Where the start section is, or nothing behind the exports.
    let removed = layout.start.as_ref().map_or(exports.end..exports.end, |start| start.section.clone());
    let has_room = layout.export_names.len() + usize::from(layout.start.is_some()) < MAX_EXPORTS;
    let adds_memory0 = layout.has_hidden_memory0 && has_room;
    if exports.end > removed.start || (layout.start.is_none() && !adds_memory0) {
        return None;
    }
    let mut names = FreeNames::new(&layout.export_names);
    let start = layout.start.as_ref().map(|start| (names.like("start"), EXPORT_KIND_FUNC, start.func));
    let memory0 = adds_memory0.then(|| (names.like("memory"), EXPORT_KIND_MEMORY, 0));
    let added: Vec<_> = [&start, &memory0].into_iter().flatten().collect();
    let room: usize = added.iter().map(|(name, ..)| name.len() + MOST_BYTES_BESIDES_NAME).sum();
    let count = u32::try_from(layout.export_names.len() + added.len()).ok()?;

    // The content of the section is written behind its header, whose size depends on how much that is.
    let mut content = Vec::with_capacity(room);
    for (name, kind, index) in &added {
        leb128(&mut content, u32::try_from(name.len()).ok()?);
        content.extend_from_slice(name.as_bytes());
        content.push(*kind);
        leb128(&mut content, *index);
    }
    let mut count_bytes = Vec::with_capacity(5);
    leb128(&mut count_bytes, count);
    let size = count_bytes.len() + layout.export_entries.len() + content.len();

    let mut binary = Vec::with_capacity(wasm.len() + room + MOST_BYTES_BESIDES_NAME);
    binary.extend_from_slice(&wasm[..exports.start]);
    binary.push(EXPORT_SECTION_ID);
    leb128(&mut binary, u32::try_from(size).ok()?);
    binary.extend_from_slice(&count_bytes);
    binary.extend_from_slice(layout.export_entries);
    binary.extend_from_slice(&content);
    binary.extend_from_slice(&wasm[exports.end..removed.start]);
    binary.extend_from_slice(&wasm[removed.end..]);
    let name = |added: Option<(String, u8, u32)>| added.map(|(name, ..)| name);
    Some(Rewritten { binary: Cow::Owned(binary), start: name(start), memory0: name(memory0) })
}

/// Names that no export has. A module may have been made to have very many that are like those tried.
struct FreeNames<'a> {
    listed: &'a [&'a str],
    taken: Option<HashSet<&'a str>>,
}

impl<'a> FreeNames<'a> {
    fn new(listed: &'a [&'a str]) -> Self {
        Self { listed, taken: None }
    }

    /// `wanted`, or the shortest name like it that is free.
    fn like(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        if !self.listed.contains(&wanted) {
            return name;
        }
        let taken = self.taken.get_or_insert_with(|| self.listed.iter().copied().collect());
        while taken.contains(name.as_str()) {
            name.push('\'');
        }
        name
    }
}

/// Refuses what is not a valid module, or needs other proposals. To be asked before a module is rewritten: what was not valid may be valid afterwards.
pub(crate) fn validate(wasm: &[u8], features: WasmFeatures) -> Result<(), CompileError> {
    let valid = Validator::new_with_features(features).validate_all(wasm);
    valid.map(drop).map_err(|error| CompileError::Refused(error.to_string()))
}

/// <https://webassembly.github.io/spec/core/binary/modules.html#export-section>
const EXPORT_SECTION_ID: u8 = 7;
const EXPORT_KIND_FUNC: u8 = 0;
const EXPORT_KIND_MEMORY: u8 = 2;
/// How many exports all engines take: <https://webassembly.github.io/spec/js-api/#limits>.
const MAX_EXPORTS: usize = 1_000_000;
/// Of an export: two LEB128 numbers and a kind. Of the section: an id and two numbers.
const MOST_BYTES_BESIDES_NAME: usize = 11;

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
        with_more_exports(&wasm, &Layout::parse(&wasm)).expect("can be rewritten").binary.into_owned()
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
            r#"(module (func) (func $s) (memory (export "m") 1) (export "a" (func 0)) (start $s) (data (i32.const 0) "x"))"#,
        );
        assert_eq!(exports(&wasm), [("m".to_owned(), 0), ("a".to_owned(), 0), ("start".to_owned(), 1)]);
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
        assert!(wasmparser::validate(&rewrite(wasm, &Layout::parse(wasm)).binary).is_err());
    }

    #[test]
    fn a_hidden_memory_becomes_the_last_export_wherever_exports_may_stand() {
        for wat in [
            "(module (memory 1))",
            "(module (memory 0) (func unreachable))",
            r#"(module (memory 1) (data (i32.const 0) "x"))"#,
            r#"(module (memory 1) (memory 2) (global i32 (i32.const 0)) (func (export "f")) (func $s) (start $s))"#,
            r#"(module (import "e" "f" (func)) (table 1 funcref) (memory 1) (elem (i32.const 0) 0))"#,
            r#"(module (memory 1) (func) (data "passive") (@custom "x" (after memory) "y") (@custom "z" (after data) "y"))"#,
            r#"(module (memory 1) (memory 1) (export "memory" (memory 1)) (export "memory'" (memory 1)))"#,
        ] {
            let wasm = rewritten(wat);
            let exports = exports(&wasm);
            let (name, index) = exports.last().expect("an export");
            assert!(name.starts_with("memory"), "{wat}: {exports:?}");
            assert_eq!(*index, 0, "{wat}: {exports:?}");
            wasmparser::validate(&wasm).unwrap_or_else(|error| panic!("{wat}: {error}"));
        }
    }

    #[test]
    fn a_module_whose_memory_0_can_be_reached_stays_as_it_is() {
        for wat in [
            "(module)",
            r#"(module (memory (export "m") 1))"#,
            r#"(module (import "e" "m" (memory 1)) (memory 1))"#,
            r#"(module (func (export "f")))"#,
        ] {
            let wasm = wat::parse_str(wat).expect("valid text");
            let rewritten = rewrite(&wasm, &Layout::parse(&wasm));
            assert!(matches!(rewritten.binary, Cow::Borrowed(_)), "{wat}");
            assert_eq!(rewritten.memory0, None, "{wat}");
        }
    }

    #[test]
    fn a_module_with_as_many_exports_as_engines_take_gets_no_more() {
        let exports: String = (0..MAX_EXPORTS).map(|at| format!("(export \"{at}\" (func 0))")).collect();
        let wasm = wat::parse_str(format!("(module (memory 1) (func) {exports})")).expect("valid text");
        assert!(matches!(rewrite(&wasm, &Layout::parse(&wasm)).binary, Cow::Borrowed(_)));
    }

    #[test]
    fn a_free_name_is_found_in_time_among_many_like_it() {
        // Names of which each is tried, and as many others as take long to compare with each.
        let tried = (0..2_000).map(|length| format!("start{}", "'".repeat(length)));
        let others = (0..500_000).map(|at| format!("start{at}"));
        let names: Vec<String> = tried.chain(others).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // A search of the whole list for each would take some 10 s.
        assert_eq!(FreeNames::new(&names).like("start").len(), "start".len() + 2_000);
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
