//! Removes the start function of a module and exports it instead, and exports a memory 0 that is neither
//! imported nor exported.
//!
//! Both engines run a start function before they return its instance. As an export, it is called after
//! instantiation, when the instance's memory, globals and functions are accessible, and a trap in it is
//! never confused with a segment out of bounds. Memory 0 is exported because engines only give access to
//! exports.

use std::collections::HashSet;

use wasm_encoder::{Encode as _, SectionId};
use wasmparser::{ExternalKind, TypeRef};

use super::{Edits, Sections};

/// The names of the exports that are added to a module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The name of the start function's export, if there is one.
    pub start: Option<String>,
    /// The name of memory 0's export, if the memory was hidden.
    pub memory0: Option<String>,
}

/// Makes these changes where they are needed.
pub fn export_hidden(sections: &Sections<'_>, edits: &mut Edits) -> Added {
    let names: Vec<&str> = sections.exports().map(|export| export.name).collect();
    if names.len() != sections.count(SectionId::Export) as usize {
        // The module is damaged, and the engine will refuse it.
        return Added::default();
    }
    let start = sections.start();
    let has_room = names.len() + usize::from(start.is_some()) < MAX_EXPORTS;
    let adds_memory0 = has_room && has_hidden_memory0(sections);
    let mut free = FreeNames::new(&names);
    let mut export = |wanted: &str, kind: u8, index: u32| {
        let name = free.like(wanted);
        edits.add(SectionId::Export, |exports| {
            name.as_str().encode(exports);
            exports.push(kind);
            index.encode(exports);
        });
        name
    };
    let start = start.map(|func| export("start", FUNC, func));
    let memory0 = adds_memory0.then(|| export("memory", MEMORY, 0));
    if start.is_some() {
        edits.remove(SectionId::Start);
    }
    Added { start, memory0 }
}

/// <https://webassembly.github.io/spec/core/binary/modules.html#export-section>
const FUNC: u8 = 0;
const MEMORY: u8 = 2;
/// The most exports that all engines accept: <https://webassembly.github.io/spec/js-api/#limits>.
const MAX_EXPORTS: usize = 1_000_000;

/// Whether memory 0 is neither imported nor exported.
fn has_hidden_memory0(sections: &Sections<'_>) -> bool {
    let is_exported = || sections.exports().any(|export| export.kind == ExternalKind::Memory && export.index == 0);
    sections.count(SectionId::Memory) > 0
        && !sections.imports().any(|import| matches!(import.ty, TypeRef::Memory(_)))
        && !is_exported()
}

/// Finds names that no export has. A hostile module may have very many names that resemble those tried.
pub struct FreeNames<'a> {
    listed: &'a [&'a str],
    taken: Option<HashSet<&'a str>>,
}

impl<'a> FreeNames<'a> {
    pub fn new(listed: &'a [&'a str]) -> Self {
        Self { listed, taken: None }
    }

    /// `wanted`, or the shortest free name that extends it.
    pub fn like(&mut self, wanted: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use wasmparser::{Parser, Payload};

    use super::*;

    fn rewrite(wasm: &[u8]) -> (Cow<'_, [u8]>, Added) {
        let (sections, mut edits) = (Sections::of(wasm), Edits::default());
        let added = export_hidden(&sections, &mut edits);
        (edits.apply(&sections).expect("can be rewritten").wasm, added)
    }

    fn rewritten(wat: &str) -> Vec<u8> {
        let wasm = wat::parse_str(wat).expect("valid text");
        match rewrite(&wasm).0 {
            Cow::Owned(wasm) => wasm,
            Cow::Borrowed(_) => panic!("nothing is changed"),
        }
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
        assert!(wasmparser::validate(&rewrite(wasm).0).is_err());
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
            let (rewritten, added) = rewrite(&wasm);
            assert!(matches!(rewritten, Cow::Borrowed(_)), "{wat}");
            assert_eq!(added, Added::default(), "{wat}");
        }
    }

    #[test]
    fn a_module_with_as_many_exports_as_engines_take_gets_no_more() {
        let exports: String = (0..MAX_EXPORTS).map(|at| format!("(export \"{at}\" (func 0))")).collect();
        let wasm = wat::parse_str(format!("(module (memory 1) (func) {exports})")).expect("valid text");
        assert!(matches!(rewrite(&wasm).0, Cow::Borrowed(_)));
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
}
