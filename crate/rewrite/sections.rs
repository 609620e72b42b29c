//! Finds the sections of a module and reads them.

use std::ops::Range;

use wasm_encoder::SectionId;
use wasmparser::{
    BinaryReader, CustomSectionReader, ExportSectionReader, Import, ImportSectionReader, MemorySectionReader,
    MemoryType, Table, TableSectionReader,
};

use super::at;

/// A section, by its place in the binary.
#[derive(Debug, Clone)]
pub struct Section {
    id: u8,
    /// Includes the id and the length.
    pub range: Range<usize>,
    pub content: Range<usize>,
}

/// The sections of a binary. The list is empty if the binary is damaged, not a module, or has its
/// sections in a different order than the specification: such a binary is left unchanged, for the
/// validator or the engine to refuse.
pub struct Sections<'a> {
    wasm: &'a [u8],
    all: Vec<Section>,
}

const HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// The non-custom sections, in their order:
/// <https://webassembly.github.io/spec/core/binary/modules.html#binary-module>.
const ORDER: [SectionId; 13] = [
    SectionId::Type,
    SectionId::Import,
    SectionId::Function,
    SectionId::Table,
    SectionId::Memory,
    SectionId::Tag,
    SectionId::Global,
    SectionId::Export,
    SectionId::Start,
    SectionId::Element,
    SectionId::DataCount,
    SectionId::Code,
    SectionId::Data,
];

/// The place of a section among the non-custom ones.
fn place_of(id: u8) -> Option<usize> {
    ORDER.iter().position(|known| u8::from(*known) == id)
}

impl<'a> Sections<'a> {
    pub fn of(wasm: &'a [u8]) -> Self {
        Self { wasm, all: find(wasm).unwrap_or_default() }
    }

    pub fn wasm(&self) -> &'a [u8] {
        self.wasm
    }

    pub(super) fn all(&self) -> &[Section] {
        &self.all
    }

    pub fn get(&self, id: SectionId) -> Option<&Section> {
        self.all.iter().find(|section| section.is(id))
    }

    /// The place in [`Sections::all`] for a missing section: directly after the last section that comes
    /// before it.
    pub(super) fn place_of_missing(&self, id: SectionId) -> usize {
        let place = place_of(id.into());
        self.all
            .iter()
            .rposition(|section| place_of(section.id).is_some_and(|other| Some(other) < place))
            .map_or(0, |last| last + 1)
    }

    fn reader(&self, section: &Section) -> BinaryReader<'a> {
        BinaryReader::new(&self.wasm[section.content.clone()], section.content.start as u64)
    }

    /// The number of a section's entries, and their range; `None` if it cannot be read.
    pub fn entries(&self, section: &Section) -> Option<(u32, Range<usize>)> {
        let mut reader = self.reader(section);
        let count = reader.read_var_u32().ok()?;
        Some((count, at(reader.original_position())..section.content.end))
    }

    /// The number of entries of this section.
    pub fn count(&self, id: SectionId) -> u32 {
        self.get(id).and_then(|section| self.entries(section)).map_or(0, |(count, _)| count)
    }

    /// The imports, up to the first that cannot be read.
    pub fn imports(&self) -> impl Iterator<Item = Import<'a>> {
        let section = self.get(SectionId::Import).map(|section| self.reader(section));
        let section = section.and_then(|reader| ImportSectionReader::new(reader).ok());
        section.into_iter().flat_map(|section| section.into_imports().map_while(Result::ok))
    }

    /// The tables that the module defines, up to the first that cannot be read.
    pub fn tables(&self) -> impl Iterator<Item = Table<'a>> {
        let section = self.get(SectionId::Table).map(|section| self.reader(section));
        let section = section.and_then(|reader| TableSectionReader::new(reader).ok());
        section.into_iter().flat_map(|section| section.into_iter().map_while(Result::ok))
    }

    /// The memories that the module defines, up to the first that cannot be read.
    pub fn memories(&self) -> impl Iterator<Item = MemoryType> {
        let section = self.get(SectionId::Memory).map(|section| self.reader(section));
        let section = section.and_then(|reader| MemorySectionReader::new(reader).ok());
        section.into_iter().flat_map(|section| section.into_iter().map_while(Result::ok))
    }

    /// The exports, up to the first that cannot be read.
    pub fn exports(&self) -> impl Iterator<Item = wasmparser::Export<'a>> {
        let section = self.get(SectionId::Export).map(|section| self.reader(section));
        let section = section.and_then(|reader| ExportSectionReader::new(reader).ok());
        section.into_iter().flat_map(|section| section.into_iter().map_while(Result::ok))
    }

    /// The index of the start function.
    pub fn start(&self) -> Option<u32> {
        self.reader(self.get(SectionId::Start)?).read_var_u32().ok()
    }

    /// The custom sections with this name, and where the name lies.
    pub fn custom(&self, name: &str) -> impl Iterator<Item = (CustomSectionReader<'a>, Range<usize>)> {
        let custom = self.all.iter().filter(|section| section.is(SectionId::Custom));
        let named = custom.filter_map(|section| CustomSectionReader::new(self.reader(section)).ok());
        named.filter(move |section| section.name() == name).map(|section| {
            let end = at(section.data_offset());
            let begin = end - section.name().len();
            (section, begin..end)
        })
    }
}

impl Section {
    pub(super) fn is(&self, id: SectionId) -> bool {
        self.id == u8::from(id)
    }

    pub(super) fn id(&self) -> u8 {
        self.id
    }
}

fn find(wasm: &[u8]) -> Option<Vec<Section>> {
    let content = wasm.strip_prefix(HEADER)?;
    let mut reader = BinaryReader::new(content, HEADER.len() as u64);
    let mut all = Vec::new();
    let mut last = None;
    while !reader.eof() {
        let begin = at(reader.original_position());
        let id = reader.read_u8().ok()?;
        let length = reader.read_var_u32().ok()?;
        let content = at(reader.original_position());
        reader.read_bytes(length as usize).ok()?;
        let end = at(reader.original_position());
        if id != u8::from(SectionId::Custom) {
            let place = place_of(id)?;
            if last.replace(place).is_some_and(|last| last >= place) {
                return None;
            }
        }
        all.push(Section { id, range: begin..end, content: content..end });
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_with_their_entries() {
        let wasm =
            wat::parse_str(r#"(module (memory 1) (func) (func (export "f")) (@custom "c" "x"))"#).expect("valid");
        let sections = Sections::of(&wasm);
        assert_eq!((sections.count(SectionId::Function), sections.count(SectionId::Global)), (2, 0));
        assert_eq!(sections.exports().map(|export| export.name).collect::<Vec<_>>(), ["f"]);
        assert_eq!(sections.memories().count(), 1);
        assert_eq!(sections.custom("c").map(|(section, _)| section.data()).collect::<Vec<_>>(), [b"x"]);
    }

    #[test]
    fn a_damaged_binary_has_no_sections() {
        let wasm = wat::parse_str(r#"(module (func (export "f")))"#).expect("valid");
        for length in 0..wasm.len() {
            let sections = Sections::of(&wasm[..length]);
            assert!(sections.all().len() <= 4);
        }
        let doubled = [wasm.as_slice(), &wasm[8..]].concat();
        assert!(Sections::of(&doubled).all().is_empty());
        assert!(Sections::of(b"\0asm\x0d\0\x01\0").all().is_empty());
    }
}
