//! The imports, exports, memories and tables of a module, read from its sections.

use std::collections::HashMap;

use wasmparser::{ExternalKind, TypeRef};

use super::Sections;
use crate::{
    engine::ImportType,
    value::{ExternType, PAGE_BYTES},
};

/// The memory that an export represents. Several exports may represent the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportedMemory {
    /// Its place among the imported memories.
    Imported(u32),
    /// Its place among the memories that the module defines.
    Own(u32),
}

/// The contents of the sections before the code. The engine must refuse anything unusual.
#[derive(Default)]
pub struct Layout<'a> {
    pub export_names: Vec<&'a str>,
    pub own_memory_bytes: u64,
    pub own_table_elements: u64,
    pub largest_memory: u64,
    pub largest_table: u64,
    import_kinds: Vec<ImportKind>,
    pub exported_memory0: Option<&'a str>,
    /// The place of each exported memory among the exports, and its index.
    exported_memories: Vec<(usize, u32)>,
    imported_memories: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ImportKind {
    Func,
    Table,
    Memory,
    Global,
    Other,
}

impl<'a> Layout<'a> {
    pub fn of(sections: &Sections<'a>) -> Self {
        let mut layout = Self::default();
        for import in sections.imports() {
            layout.imported_memories += u32::from(matches!(import.ty, TypeRef::Memory(_)));
            layout.import_kinds.push(kind_in_binary(import.ty));
        }
        for memory in sections.memories() {
            let bytes = memory.initial.saturating_mul(PAGE_BYTES);
            layout.own_memory_bytes = layout.own_memory_bytes.saturating_add(bytes);
            layout.largest_memory = layout.largest_memory.max(bytes);
        }
        for table in sections.tables() {
            let elements = table.ty.initial;
            layout.own_table_elements = layout.own_table_elements.saturating_add(elements);
            layout.largest_table = layout.largest_table.max(elements);
        }
        for (place, export) in sections.exports().enumerate() {
            layout.export_names.push(export.name);
            if export.kind == ExternalKind::Memory {
                layout.exported_memories.push((place, export.index));
                if export.index == 0 && layout.imported_memories == 0 {
                    layout.exported_memory0.get_or_insert(export.name);
                }
            }
        }
        layout
    }

    /// Sorts an engine's list of imports, in which those of one kind are in order, into the order of the
    /// binary. Also returns the new place of each of the engine's imports.
    pub fn in_order(&self, imports: Vec<ImportType>) -> (Vec<ImportType>, Vec<usize>) {
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
        // No import is left over, unless the engine lists imports differently; then they keep its order.
        for (at, import) in left.into_iter().enumerate() {
            if let Some(import) = import {
                order[at] = sorted.len();
                sorted.push(import);
            }
        }
        (sorted, order)
    }

    /// The memory that the export at this place represents.
    pub fn exported_memory(&self, place: usize) -> Option<ExportedMemory> {
        let at = self.exported_memories.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let index = self.exported_memories[at].1;
        let own = index.checked_sub(self.imported_memories);
        Some(own.map_or(ExportedMemory::Imported(index), ExportedMemory::Own))
    }
}

/// The kind of an import according to the binary.
fn kind_in_binary(ty: TypeRef) -> ImportKind {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => ImportKind::Func,
        TypeRef::Table(_) => ImportKind::Table,
        TypeRef::Memory(_) => ImportKind::Memory,
        TypeRef::Global(_) => ImportKind::Global,
        TypeRef::Tag(_) => ImportKind::Other,
    }
}

/// The kind of an import according to an engine.
fn kind_in_engine(ty: &ExternType) -> ImportKind {
    match ty {
        ExternType::Func(_) => ImportKind::Func,
        ExternType::Memory(_) => ImportKind::Memory,
        ExternType::Table(_) => ImportKind::Table,
        ExternType::Global(_) => ImportKind::Global,
        ExternType::Other => ImportKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_zero_is_found_only_when_the_module_defines_it() {
        let found = |wat: &str| {
            let wasm = wat::parse_str(wat).expect("valid text");
            Layout::of(&Sections::of(&wasm)).exported_memory0.map(str::to_owned)
        };
        assert_eq!(found(r#"(module (memory (export "m") 1))"#), Some("m".to_owned()));
        assert_eq!(found(r#"(module (import "e" "m" (memory 1)) (export "x" (memory 0)))"#), None);
        assert_eq!(found("(module (memory 1))"), None);
    }
}
