//! Puts each `table.grow` of a module into a function of its own. wasmi 2.0.0 loses its place when fuel runs out there: it goes on from where it was
//! last left in the same function, with the registers of that moment, and so does things twice. In a function that does nothing else
//! that is the same as doing it once. A part of `engine/wasmi.rs`, for engines with fuel.

use std::{collections::BTreeMap, error::Error, ops::Range};

use wasm_encoder::Encode;
use wasmparser::{FunctionBody, Operator, Parser, Payload, RefType, TypeRef, Validator, WasmFeatures};

/// The module with these functions, or `None` if it grows no table.
///
/// Refuses what is not a valid module, since one that calls a function that it does not have could be valid afterwards. Which proposals a
/// module may use is for the engine to say.
pub fn with_growing_functions(wasm: &[u8]) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let module = Layout::parse(wasm)?;
    if module.growing.is_empty() {
        return Ok(None);
    }
    Validator::new_with_features(WasmFeatures::all()).validate_all(wasm)?;
    module.rewrite(wasm).map(Some)
}

/// What must be known of a module.
#[derive(Default)]
struct Layout<'a> {
    types: Section,
    functions: Section,
    code: Section,
    imported_functions: u32,
    /// The type of the elements of each table.
    tables: Vec<RefType>,
    bodies: Vec<FunctionBody<'a>>,
    /// The tables that are grown, and for each the number of its function among those that are added.
    growing: BTreeMap<u32, u32>,
}

/// A section: all of it, its entries without their count, and that count.
#[derive(Default, Clone)]
struct Section {
    range: Range<usize>,
    entries: Range<usize>,
    count: u32,
}

const TYPE_SECTION: u8 = 1;
const FUNCTION_SECTION: u8 = 3;
const CODE_SECTION: u8 = 10;
const FUNCTION_TYPE: u8 = 0x60;
const CALL: u8 = 0x10;
const LOCAL_GET: u8 = 0x20;
const TABLE_GROW: [u8; 2] = [0xfc, 0x0f];
const END: u8 = 0x0b;
const I32: u8 = 0x7f;

impl<'a> Layout<'a> {
    fn parse(wasm: &'a [u8]) -> Result<Self, Box<dyn Error>> {
        let mut layout = Self::default();
        let mut begin = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            let section = |content: Range<u64>, count: u32| Section::new(wasm, begin, content, count);
            match &payload {
                Payload::TypeSection(types) => layout.types = section(types.range(), types.count())?,
                Payload::FunctionSection(functions) => {
                    layout.functions = section(functions.range(), functions.count())?
                }
                Payload::CodeSectionStart { unchecked_range, count, .. } => {
                    layout.code = section(unchecked_range.clone(), *count)?;
                }
                Payload::ImportSection(imports) => {
                    for import in imports.clone().into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => layout.imported_functions += 1,
                            TypeRef::Table(table) => layout.tables.push(table.element_type),
                            _ => {}
                        }
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables.clone() {
                        layout.tables.push(table?.ty.element_type);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader()? {
                        if let Operator::TableGrow { table } = operator? {
                            let number = layout.growing.len() as u32;
                            layout.growing.entry(table).or_insert(number);
                        }
                    }
                    layout.bodies.push(body.clone());
                }
                _ => {}
            }
            begin = match &payload {
                Payload::Version { range, .. } => usize::try_from(range.end)?,
                Payload::CodeSectionStart { .. } => layout.code.range.end,
                other => other.as_section().map_or(Ok(begin), |(_, range)| usize::try_from(range.end))?,
            };
        }
        Ok(layout)
    }

    fn rewrite(&self, wasm: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        // In the order of their numbers.
        let mut growing: Vec<(u32, u32)> = self.growing.iter().map(|(table, number)| (*number, *table)).collect();
        growing.sort_unstable();
        let more = growing.len() as u32;

        let mut types = self.types.begin(wasm, more);
        let mut functions = self.functions.begin(wasm, more);
        let mut code = Vec::new();
        (self.code.count + more).encode(&mut code);
        for body in &self.bodies {
            self.rewrite_body(body)?.encode(&mut code);
        }
        for (number, table) in growing {
            let element = self.tables.get(table as usize).ok_or("there is no such table")?;
            let element = if *element == RefType::EXTERNREF { 0x6f } else { 0x70 };
            types.extend([FUNCTION_TYPE, 2, element, I32, 1, I32]);
            (self.types.count + number).encode(&mut functions);
            let mut body = vec![0, LOCAL_GET, 0, LOCAL_GET, 1];
            body.extend(TABLE_GROW);
            table.encode(&mut body);
            body.push(END);
            body.encode(&mut code);
        }

        let mut module = Vec::with_capacity(wasm.len() + 64);
        let mut copied = 0;
        for (id, section, content) in [
            (TYPE_SECTION, &self.types, types),
            (FUNCTION_SECTION, &self.functions, functions),
            (CODE_SECTION, &self.code, code),
        ] {
            module.extend_from_slice(wasm.get(copied..section.range.start).ok_or("the sections are out of order")?);
            module.push(id);
            content.encode(&mut module);
            copied = section.range.end;
        }
        module.extend_from_slice(&wasm[copied..]);
        Ok(module)
    }

    fn rewrite_body(&self, body: &FunctionBody<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
        let bytes = body.as_bytes();
        let begin = body.range().start;
        let mut rewritten = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            let Operator::TableGrow { table } = operator else { continue };
            let number = self.growing.get(&table).ok_or("the table has no function")?;
            rewritten.extend_from_slice(&bytes[copied..usize::try_from(offset - begin)?]);
            copied = usize::try_from(operators.original_position() - begin)?;
            rewritten.push(CALL);
            (self.imported_functions + self.functions.count + number).encode(&mut rewritten);
        }
        rewritten.extend_from_slice(&bytes[copied..]);
        Ok(rewritten)
    }
}

impl Section {
    fn new(wasm: &[u8], begin: usize, content: Range<u64>, count: u32) -> Result<Self, Box<dyn Error>> {
        let (start, end) = (usize::try_from(content.start)?, usize::try_from(content.end)?);
        let bytes = wasm.get(start..end).ok_or("a section is truncated")?;
        // The count may be longer than it need be.
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).ok_or("a section has no count")? + 1;
        Ok(Self { range: begin..end, entries: start + length..end, count })
    }

    /// Its content, to be added to.
    fn begin(&self, wasm: &[u8], more: u32) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.entries.len() + 64);
        (self.count + more).encode(&mut content);
        content.extend_from_slice(&wasm[self.entries.clone()]);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(wat: &str) -> Option<Vec<u8>> {
        let made = with_growing_functions(&wat::parse_str(wat).expect("good text")).expect("a good module");
        if let Some(wasm) = &made {
            Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).expect("still a good module");
        }
        made
    }

    fn growing_of(wasm: &[u8]) -> (usize, usize) {
        let layout = Layout::parse(wasm).expect("a good module");
        (layout.growing.len(), layout.bodies.len())
    }

    #[test]
    fn each_table_that_is_grown_gets_a_function() {
        let made = valid(
            r#"(module (import "e" "t" (table 1 externref)) (import "e" "f" (func)) (table 1 funcref) (table 1 funcref)
                (func (export "a") (result i32) (table.grow 2 (ref.null func) (i32.const 1)))
                (func (export "b") (param externref) (result i32)
                    (drop (table.grow 2 (ref.null func) (i32.const 2))) (table.grow 0 (local.get 0) (i32.const 300)))
                (start 0) (elem declare func 0) (data "bytes"))"#,
        );
        assert_eq!(made.map(|wasm| growing_of(&wasm)), Some((2, 4)));
    }

    #[test]
    fn a_module_that_grows_no_table_stays_as_it_is() {
        assert_eq!(valid("(module (table 1 funcref) (func (drop (table.size 0))))"), None);
        assert_eq!(valid("(module)"), None);
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        let call_of_nobody = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x04\x04\x01\x70\0\x01\x0a\x0e\x01\x0c\0\xd0\x70\x41\0\xfc\x0f\0\x1a\x10\x01\x0b";
        assert!(Layout::parse(call_of_nobody).is_ok_and(|layout| layout.growing.len() == 1));
        assert!(with_growing_functions(call_of_nobody).is_err());
    }

    #[test]
    fn damage_is_no_panic() {
        let text = "(module (table 1 funcref) (func (result i32) (table.grow 0 (ref.null func) (i32.const 1))))";
        let wasm = wat::parse_str(text).expect("good text");
        for length in 0..wasm.len() {
            let _ = with_growing_functions(&wasm[..length]);
        }
        for at in 0..wasm.len() {
            for mask in [1, 0x80, 0xff] {
                let mut damaged = wasm.clone();
                damaged[at] ^= mask;
                let _ = with_growing_functions(&damaged);
            }
        }
    }
}
