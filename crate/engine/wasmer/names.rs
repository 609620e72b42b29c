//! Names of functions for the frames of traps. A part of `engine/wasmer.rs`.
//!
//! wasmer copies the whole name of a function for each frame of a trap's stack, and a guest chooses both: a module of 30 KB could take gigabytes by
//! one trap. So wasmer gets to see no names, and a trap finds them here, cut.

use std::{borrow::Cow, collections::HashMap};

use wasmparser::{KnownCustom, Name, Parser, Payload};

/// What a custom section with names is called: <https://webassembly.github.io/spec/core/appendix/custom.html#name-section>.
const SECTION: &str = "name";

/// The names of a module's functions.
#[derive(Default)]
pub struct FunctionNames(HashMap<u32, Box<str>>);

impl FunctionNames {
    /// The names in a binary, each with `most` characters at most, and the binary as wasmer is to see it: as long as before, but without a section of that
    /// name. Where the binary is damaged there are no more names.
    pub fn hide(wasm: Cow<'_, [u8]>, most: usize) -> (Self, Cow<'_, [u8]>) {
        let mut names = Self::default();
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(&wasm).map_while(Result::ok) {
            if let Payload::CustomSection(section) = payload
                && section.name() == SECTION
            {
                found.push(section.data_offset() as usize - SECTION.len());
                if let KnownCustom::Name(section) = section.as_known() {
                    names.read(section, most);
                }
            }
        }
        if found.is_empty() {
            return (names, wasm);
        }
        let mut hidden = wasm.into_owned();
        for at in found {
            // A custom section of another name means nothing to wasmer.
            hidden[at] = b'-';
        }
        (names, Cow::Owned(hidden))
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
    use super::*;

    #[test]
    fn names_are_found_and_cut_and_hidden() {
        let wasm = wat::parse_str(format!("(module (func ${}) (func) (func $\"\u{e9}t\u{e9}\"))", "n".repeat(300)))
            .expect("valid text");
        let (names, hidden) = FunctionNames::hide(Cow::Borrowed(&wasm), 256);
        assert_eq!(names.get(0).map(str::len), Some(256));
        assert_eq!(names.get(1), None);
        assert_eq!(names.get(2), Some("\u{e9}t\u{e9}"));
        assert_eq!(hidden.len(), wasm.len());
        let (none, again) = FunctionNames::hide(hidden, 256);
        assert_eq!(none.get(0), None);
        wasmparser::validate(&again).expect("still a valid module");
    }

    #[test]
    fn a_module_without_names_stays_as_it_is() {
        let (_, hidden) = FunctionNames::hide(Cow::Borrowed(b"\0asm\x01\0\0\0"), 256);
        assert!(matches!(hidden, Cow::Borrowed(_)));
    }
}
