//! Names of functions for the frames of traps. A part of `engine/wasmer.rs`.
//!
//! wasmer copies a function's entire name for each frame of a trap, and a guest chooses both: a module
//! of 30 KB could use gigabytes with one trap. So names are hidden from wasmer, and traps take them,
//! shortened, from here.

use std::collections::HashMap;

use wasmparser::{KnownCustom, Name};

use crate::rewrite::{Edits, Sections};

/// The name of the custom section with names:
/// <https://webassembly.github.io/spec/core/appendix/custom.html#name-section>.
const SECTION: &str = "name";

/// The names of a module's functions.
#[derive(Default)]
pub struct FunctionNames(HashMap<u32, Box<str>>);

impl FunctionNames {
    /// The names in a binary, each with at most `most` characters. wasmer gets the binary without a
    /// section of that name. If a section is damaged, the names after the damage are missing.
    pub fn hide(sections: &Sections<'_>, most: usize, edits: &mut Edits) -> Self {
        let mut names = Self::default();
        for (section, name) in sections.custom(SECTION) {
            // wasmer ignores a custom section with another name.
            edits.overwrite(name.start, b'-');
            if let KnownCustom::Name(section) = section.as_known() {
                names.read(section, most);
            }
        }
        names
    }

    fn read(&mut self, section: wasmparser::NameSectionReader<'_>, most: usize) {
        for name in section.into_iter().map_while(Result::ok) {
            let Name::Function(functions) = name else { continue };
            for naming in functions.into_iter().map_while(Result::ok) {
                self.0.insert(naming.index, naming.name.chars().take(most).collect());
            }
        }
    }

    /// The name of a function, if it has one.
    pub fn get(&self, function: u32) -> Option<&str> {
        self.0.get(&function).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn hide(wasm: &[u8]) -> (FunctionNames, Cow<'_, [u8]>) {
        let (sections, mut edits) = (Sections::of(wasm), Edits::default());
        let names = FunctionNames::hide(&sections, 256, &mut edits);
        (names, edits.apply(&sections).expect("its sections are in order").wasm)
    }

    #[test]
    fn names_are_found_and_cut_and_hidden() {
        let wasm = wat::parse_str(format!("(module (func ${}) (func) (func $\"\u{e9}t\u{e9}\"))", "n".repeat(300)))
            .expect("valid text");
        let (names, hidden) = hide(&wasm);
        assert_eq!(names.get(0).map(str::len), Some(256));
        assert_eq!(names.get(1), None);
        assert_eq!(names.get(2), Some("\u{e9}t\u{e9}"));
        assert_eq!(hidden.len(), wasm.len());
        let (none, again) = hide(&hidden);
        assert_eq!(none.get(0), None);
        wasmparser::validate(&again).expect("still a valid module");
    }

    #[test]
    fn a_module_without_names_stays_as_it_is() {
        let (_, hidden) = hide(b"\0asm\x01\0\0\0");
        assert!(matches!(hidden, Cow::Borrowed(_)));
    }
}
