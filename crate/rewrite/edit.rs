//! Changes to a module, collected first and then applied in one go.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use smallvec::SmallVec;
use wasm_encoder::{Encode, SectionId, ValType};
use wasmparser::FunctionBody;

use super::{MAX_LOCALS, Offsets, Section, Sections, at};
use crate::error::CompileError;

/// The changes to a module. All offsets are those of the given binary.
#[derive(Default)]
pub struct Edits {
    added: HashMap<u8, Added>,
    removed: Vec<SectionId>,
    /// Single bytes, in ascending order of their offsets.
    overwritten: Vec<(usize, u8)>,
    /// In ascending order.
    bodies: Vec<Body>,
    splices: Vec<Splice>,
    /// The bytes that all splices insert.
    bytes: Vec<u8>,
}

/// The entries that are appended to a section.
#[derive(Default)]
struct Added {
    count: u32,
    entries: Vec<u8>,
}

/// A changed function body.
struct Body {
    /// Includes the length field.
    range: Range<usize>,
    content: usize,
    /// Its range in `Edits::splices`, in ascending order.
    splices: Range<usize>,
}

/// A replacement for a part of the binary.
struct Splice {
    at: Range<usize>,
    /// A range of `Edits::bytes`.
    with: Range<usize>,
}

/// A binary, and the map of its offsets to the given one.
pub struct Rewritten<'a> {
    pub wasm: Cow<'a, [u8]>,
    pub offsets: Offsets,
}

impl Edits {
    /// Appends an entry to a section.
    pub fn add(&mut self, section: SectionId, write: impl FnOnce(&mut Vec<u8>)) {
        let added = self.added.entry(section.into()).or_default();
        added.count += 1;
        write(&mut added.entries);
    }

    /// Removes a section.
    pub fn remove(&mut self, section: SectionId) {
        self.removed.push(section);
    }

    /// Replaces one byte outside the code section.
    pub fn overwrite(&mut self, at: usize, byte: u8) {
        let place = self.overwritten.partition_point(|(other, _)| *other < at);
        self.overwritten.insert(place, (at, byte));
    }

    pub fn is_empty(&self) -> bool {
        let Self { added, removed, overwritten, bodies, .. } = self;
        added.is_empty() && removed.is_empty() && overwritten.is_empty() && bodies.is_empty()
    }

    /// Begins the changes to a function's body. `begin` is the offset of its length, `locals` the number
    /// of its parameters and locals.
    pub(super) fn body(
        &mut self,
        body: &FunctionBody<'_>,
        begin: usize,
        locals: u32,
    ) -> Result<BodyEdits<'_>, CompileError> {
        let groups = body.get_locals_reader()?;
        let content = at(body.range().start)..at(body.range().end);
        let group_count = groups.get_count();
        let groups_begin = at(groups.original_position());
        let first = self.splices.len();
        Ok(BodyEdits {
            edits: self,
            range: begin..content.end,
            content: content.start,
            groups_begin,
            group_count,
            locals,
            added: SmallVec::new(),
            first,
            operator: content.start,
            pending: first,
        })
    }

    /// The binary with all changes.
    ///
    /// # Errors
    ///
    /// Refuses a module whose sections cannot be separated, which no validator accepts.
    pub fn apply<'a>(&self, sections: &Sections<'a>) -> Result<Rewritten<'a>, CompileError> {
        let wasm = sections.wasm();
        if self.is_empty() {
            return Ok(Rewritten { wasm: Cow::Borrowed(wasm), offsets: Offsets::default() });
        }
        if sections.all().is_empty() && !wasm.is_empty() && !self.bodies.is_empty() {
            return Err(CompileError::Refused("the sections of the module are out of order".to_owned()));
        }
        let missing = self.added.keys().copied().filter_map(section_id).filter(|id| sections.get(*id).is_none());
        let mut missing: Vec<_> = missing.map(|id| (sections.place_of_missing(id), u8::from(id))).collect();
        missing.sort_unstable();
        let mut missing = missing.into_iter().peekable();

        let more: usize = self.added.values().map(|added| added.entries.len() + MOST_HEADER_BYTES).sum();
        let room = wasm.len() + more + self.bytes.len() + self.bodies.len() * MOST_LENGTH_BYTES;
        let mut writer = Writer { wasm, edits: self, out: Vec::with_capacity(room), offsets: Offsets::default() };
        let mut copied = 0;
        for (place, section) in sections.all().iter().enumerate() {
            while let Some((_, id)) = missing.next_if(|(before, _)| *before == place) {
                writer.copy(copied..section.range.start);
                copied = section.range.start;
                writer.new_section(id);
            }
            if self.removed.iter().any(|removed| section.is(*removed)) {
                writer.copy(copied..section.range.start);
                copied = section.range.end;
            } else if self.added.contains_key(&section.id()) || (section.is(SectionId::Code) && !self.bodies.is_empty())
            {
                writer.copy(copied..section.range.start);
                copied = section.range.end;
                let entries = sections.entries(section);
                let entries = entries.ok_or_else(|| CompileError::Refused("a section has no count".to_owned()))?;
                writer.section(section, entries);
            }
        }
        writer.copy(copied..wasm.len());
        for (_, id) in missing {
            writer.new_section(id);
        }
        Ok(Rewritten { wasm: Cow::Owned(writer.out), offsets: writer.offsets })
    }
}

/// A section's id, its length and its count.
const MOST_HEADER_BYTES: usize = 11;
const MOST_LENGTH_BYTES: usize = 5;

fn section_id(id: u8) -> Option<SectionId> {
    use SectionId::*;
    let all = [Type, Import, Function, Table, Memory, Tag, Global, Export, Start, Element, DataCount, Code, Data];
    all.into_iter().find(|known| u8::from(*known) == id)
}

/// The number of bytes of a number in LEB128.
fn leb_length(number: usize) -> usize {
    number.checked_ilog2().unwrap_or(0) as usize / 7 + 1
}

struct Writer<'a> {
    wasm: &'a [u8],
    edits: &'a Edits,
    out: Vec<u8>,
    offsets: Offsets,
}

impl Writer<'_> {
    fn copy(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let begin = self.out.len();
        self.offsets.add(begin, range.start);
        self.out.extend_from_slice(&self.wasm[range.clone()]);
        let overwritten = &self.edits.overwritten;
        let first = overwritten.partition_point(|(at, _)| *at < range.start);
        for (at, byte) in overwritten[first..].iter().take_while(|(at, _)| range.contains(at)) {
            self.out[begin + at - range.start] = *byte;
        }
    }

    fn header(&mut self, id: u8, count: u32, entries: usize) {
        self.out.push(id);
        (leb_length(count as usize) + entries).encode(&mut self.out);
        count.encode(&mut self.out);
    }

    fn new_section(&mut self, id: u8) {
        let edits = self.edits;
        let Some(added) = edits.added.get(&id) else { return };
        self.header(id, added.count, added.entries.len());
        self.out.extend_from_slice(&added.entries);
    }

    fn section(&mut self, section: &Section, (count, entries): (u32, Range<usize>)) {
        let edits = self.edits;
        let (more, added) = edits.added.get(&section.id()).map_or((0, &[][..]), |added| (added.count, &*added.entries));
        let bodies = if section.is(SectionId::Code) { &*edits.bodies } else { &[] };
        let lengths: Vec<usize> = bodies.iter().map(|body| body.length(edits)).collect();
        let before: usize = bodies.iter().map(|body| body.range.len()).sum();
        let after: usize = lengths.iter().map(|length| leb_length(*length) + length).sum();
        self.header(section.id(), count + more, entries.len() - before + after + added.len());
        let mut copied = entries.start;
        for (body, length) in bodies.iter().zip(lengths) {
            self.copy(copied..body.range.start);
            length.encode(&mut self.out);
            copied = body.content;
            for splice in &edits.splices[body.splices.clone()] {
                self.copy(copied..splice.at.start);
                self.out.extend_from_slice(&edits.bytes[splice.with.clone()]);
                copied = splice.at.end;
            }
            self.copy(copied..body.range.end);
            copied = body.range.end;
        }
        self.copy(copied..entries.end);
        self.out.extend_from_slice(added);
    }
}

impl Body {
    /// The length of its content with the changes.
    fn length(&self, edits: &Edits) -> usize {
        let splices = &edits.splices[self.splices.clone()];
        let more: usize = splices.iter().map(|splice| splice.with.len()).sum();
        let less: usize = splices.iter().map(|splice| splice.at.len()).sum();
        self.range.end - self.content - less + more
    }
}

/// The changes to one function's body, from its beginning to its end.
pub struct BodyEdits<'a> {
    edits: &'a mut Edits,
    range: Range<usize>,
    content: usize,
    groups_begin: usize,
    group_count: u32,
    locals: u32,
    added: SmallVec<[ValType; 4]>,
    first: usize,
    /// Where the current operator begins.
    operator: usize,
    /// The first splice of the current operator.
    pending: usize,
}

impl BodyEdits<'_> {
    /// The number of the function's parameters and locals, without added ones.
    pub fn locals(&self) -> u32 {
        self.locals
    }

    /// Adds a local after all others and returns its index, or `None` if the function may have no more.
    pub fn local(&mut self, ty: ValType) -> Option<u32> {
        let index = self.locals + self.added.len() as u32;
        (index < MAX_LOCALS).then(|| self.added.push(ty))?;
        Some(index)
    }

    /// Inserts instructions before the current operator.
    pub fn before(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.splice(self.operator..self.operator, write);
    }

    /// Replaces the current operator.
    pub fn instead(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.splice(self.operator..TO_BE_KNOWN, write);
    }

    /// Inserts instructions after the current operator.
    pub fn after(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.splice(TO_BE_KNOWN..TO_BE_KNOWN, write);
    }

    fn splice(&mut self, at: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.edits.bytes.len();
        write(&mut self.edits.bytes);
        self.edits.splices.push(Splice { at, with: begin..self.edits.bytes.len() });
    }

    pub(super) fn begin_operator(&mut self, begin: usize) {
        self.operator = begin;
        self.pending = self.edits.splices.len();
    }

    pub(super) fn end_operator(&mut self, end: usize) {
        for Splice { at, .. } in &mut self.edits.splices[self.pending..] {
            at.start = at.start.min(end);
            at.end = at.end.min(end);
        }
    }

    /// Ends the changes. `instructions` is the offset of the first operator.
    pub(super) fn end(self, instructions: usize) {
        let Self { edits, range, content, groups_begin, group_count, added, first, .. } = self;
        if !added.is_empty() {
            let begin = edits.bytes.len();
            // A group takes at least two bytes of the body, so the number of groups cannot overflow.
            (group_count + added.len() as u32).encode(&mut edits.bytes);
            let groups = edits.bytes.len();
            for ty in &added {
                1_u32.encode(&mut edits.bytes);
                ty.encode(&mut edits.bytes);
            }
            let count = Splice { at: content..groups_begin, with: begin..groups };
            let groups = Splice { at: instructions..instructions, with: groups..edits.bytes.len() };
            edits.splices.splice(first..first, [count, groups]);
        }
        if edits.splices.len() > first {
            edits.bodies.push(Body { range, content, splices: first..edits.splices.len() });
        }
    }
}

/// Represents the end of an operator until it has been read.
const TO_BE_KNOWN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(wat: &str, edit: impl FnOnce(&mut Edits)) -> Vec<u8> {
        let wasm = wat::parse_str(wat).expect("valid text");
        let mut edits = Edits::default();
        edit(&mut edits);
        edits.apply(&Sections::of(&wasm)).expect("its sections are in order").wasm.into_owned()
    }

    #[test]
    fn entries_come_behind_those_that_are_there_or_into_a_new_section() {
        let add = |edits: &mut Edits| {
            edits.add(SectionId::Export, |entries| {
                "x".encode(entries);
                entries.extend([0, 0]);
            });
        };
        for wat in ["(module (func))", r#"(module (func (export "f")))"#, r#"(module (func) (@custom "c" "x"))"#] {
            let wasm = applied(wat, add);
            wasmparser::validate(&wasm).unwrap_or_else(|error| panic!("{wat}: {error}"));
            let sections = Sections::of(&wasm);
            assert_eq!(sections.exports().last().map(|export| export.name), Some("x"), "{wat}");
        }
    }

    #[test]
    fn a_removed_section_is_gone() {
        let wasm = applied("(module (func $s) (start $s))", |edits| edits.remove(SectionId::Start));
        assert_eq!(Sections::of(&wasm).start(), None);
        wasmparser::validate(&wasm).expect("still valid");
    }

    #[test]
    fn a_number_takes_as_many_bytes_as_it_is_long() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u32::MAX as usize] {
            let mut bytes = Vec::new();
            number.encode(&mut bytes);
            assert_eq!(leb_length(number), bytes.len(), "{number}");
        }
    }
}
