//! Gives each function of a module one more local, in which `checks.rs` keeps what is left of the fuel: in memory alone each round of a tight
//! loop would wait for what the last one has stored, four times as long as the loop itself takes. A part of `engine/wasmer.rs`.

use std::{ops::Range, sync::Arc};

use wasmer::sys::wasmparser::{FunctionBody, Parser, Payload};

/// A module with these locals.
#[derive(Debug, Default)]
pub struct WithFuelLocals {
    pub binary: Vec<u8>,
    /// The local of each function, by its number there; `None` where there may be no more.
    pub locals: Vec<Option<u32>>,
    pub offsets: Arc<Offsets>,
}

/// Where the code of a rewritten binary was before.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// Of each function, where its instructions begin now and where they did.
    functions: Vec<(usize, usize)>,
}

impl Offsets {
    /// Where the instruction at that offset was.
    pub fn before(&self, offset: usize) -> usize {
        let after = self.functions.partition_point(|(now, _)| *now <= offset);
        match after.checked_sub(1).and_then(|at| self.functions.get(at)) {
            Some((now, then)) => offset - now + then,
            None => offset,
        }
    }
}

/// A function can have no more locals than this, parameters included.
const MOST_LOCALS: u64 = 50_000;
/// One local of type i64.
const ONE_I64: [u8; 2] = [1, 0x7e];
const CODE_SECTION: u8 = 10;

/// Rewrites a module; `None` for one that the compiler will refuse.
pub fn with_fuel_locals(wasm: &[u8]) -> Option<WithFuelLocals> {
    let mut params_of_types = Vec::new();
    let mut types_of_functions = Vec::new();
    let mut section: Option<Range<usize>> = None;
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    params_of_types.push(ty.ok()?.params().len());
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    types_of_functions.push(ty.ok()?);
                }
            }
            Payload::CodeSectionStart { range, .. } => section = Some(as_usize(&range)?),
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    let Some(section) = section else { return Some(WithFuelLocals { binary: wasm.to_vec(), ..Default::default() }) };
    let mut code = Vec::with_capacity(section.len() + 4 * bodies.len());
    put_leb(&mut code, bodies.len());
    let mut made = WithFuelLocals::default();
    let mut functions = Vec::with_capacity(bodies.len());
    for (body, ty) in bodies.iter().zip(&types_of_functions) {
        let params = *params_of_types.get(*ty as usize)?;
        let (local, instructions) = put_body(&mut code, wasm, body, params)?;
        made.locals.push(local);
        functions.push(instructions);
    }
    // The header of a section: its number and its length.
    let header = section_header(wasm, &section)?;
    let binary = &mut made.binary;
    binary.extend_from_slice(&wasm[..header]);
    binary.push(CODE_SECTION);
    put_leb(binary, code.len());
    for (now, _) in &mut functions {
        *now += binary.len();
    }
    made.offsets = Arc::new(Offsets { functions });
    binary.extend_from_slice(&code);
    binary.extend_from_slice(wasm.get(section.end..)?);
    Some(made)
}

/// Adds a body. Gives the number of its local, and where its instructions are, in `code` and before.
fn put_body(
    code: &mut Vec<u8>,
    wasm: &[u8],
    body: &FunctionBody<'_>,
    params: usize,
) -> Option<(Option<u32>, (usize, usize))> {
    let body_range = as_usize(&body.range())?;
    let locals = body.get_locals_reader().ok()?;
    let groups = locals.get_count();
    let declared = locals.into_iter().try_fold(0_u64, |sum, group| Some(sum + u64::from(group.ok()?.0)))?;
    let instructions = usize::try_from(body.get_operators_reader().ok()?.original_position()).ok()?;
    let count = params as u64 + declared;
    let is_added = count < MOST_LOCALS;
    let mut head = Vec::with_capacity(16);
    put_leb(&mut head, groups as usize + usize::from(is_added));
    // What the count of the groups took is not copied.
    let groups_at = body_range.start + leb_length(wasm.get(body_range.start..)?)?;
    head.extend_from_slice(wasm.get(groups_at..instructions)?);
    if is_added {
        head.extend_from_slice(&ONE_I64);
    }
    put_leb(code, head.len() + body_range.end - instructions);
    code.extend_from_slice(&head);
    let now = code.len();
    code.extend_from_slice(wasm.get(instructions..body_range.end)?);
    Some((is_added.then_some(count as u32), (now, instructions)))
}

/// Where the header of a section begins whose content is there.
fn section_header(wasm: &[u8], content: &Range<usize>) -> Option<usize> {
    // Its length takes one to five bytes, its number the one before.
    (1..=5).find_map(|length| {
        let at = content.start.checked_sub(length + 1)?;
        let is_header = wasm.get(at) == Some(&CODE_SECTION)
            && leb_length(&wasm[at + 1..]) == Some(length)
            && leb(&wasm[at + 1..]) == Some(content.len() as u64);
        is_header.then_some(at)
    })
}

fn as_usize<T: Copy + TryInto<usize>>(range: &Range<T>) -> Option<Range<usize>> {
    Some(range.start.try_into().ok()?..range.end.try_into().ok()?)
}

fn leb_length(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(5).position(|byte| byte & 0x80 == 0).map(|at| at + 1)
}

fn leb(bytes: &[u8]) -> Option<u64> {
    let length = leb_length(bytes)?;
    Some(bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
}

fn put_leb(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of functions with these bodies: a count of groups of locals, the groups, and instructions. All are of type `(i32) -> ()`.
    fn module(bodies: &[&[u8]]) -> Vec<u8> {
        let mut wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x7f\0".to_vec();
        wasm.extend([3, bodies.len() as u8 + 1, bodies.len() as u8]);
        wasm.extend(vec![0; bodies.len()]);
        let mut code = Vec::new();
        put_leb(&mut code, bodies.len());
        for body in bodies {
            put_leb(&mut code, body.len());
            code.extend_from_slice(body);
        }
        wasm.push(CODE_SECTION);
        put_leb(&mut wasm, code.len());
        wasm.extend(code);
        wasm
    }

    #[test]
    fn each_function_gets_a_local_behind_its_own() {
        let made = with_fuel_locals(&module(&[&[0, 0x0b], &[1, 3, 0x7f, 1, 0x0b], &[2, 1, 0x7e, 2, 0x7d, 0x0b]]));
        let made = made.expect("a good module");
        assert_eq!(made.locals, [Some(1), Some(4), Some(4)]);
        let expected: [&[u8]; 3] =
            [&[1, 1, 0x7e, 0x0b], &[2, 3, 0x7f, 1, 0x7e, 1, 0x0b], &[3, 1, 0x7e, 2, 0x7d, 1, 0x7e, 0x0b]];
        assert_eq!(made.binary, module(&expected));
    }

    #[test]
    fn an_offset_is_what_it_was() {
        let (first, second) = ([0, 1, 1, 0x0b], [1, 1, 0x7f, 1, 1, 1, 0x0b]);
        let wasm = module(&[&first, &second]);
        let made = with_fuel_locals(&wasm).expect("a good module");
        let end_of = |binary: &[u8]| binary.len() - 1;
        assert_eq!(made.offsets.before(end_of(&made.binary)), end_of(&wasm));
        let in_first = |binary: &[u8], second: usize| end_of(binary) - second - 1;
        assert_eq!(made.offsets.before(in_first(&made.binary, second.len() + 2)), in_first(&wasm, second.len()));
        assert_eq!(made.offsets.before(3), 3);
    }

    #[test]
    fn a_function_that_may_have_no_more_locals_gets_none() {
        // 49,999 and a parameter are the most.
        let full = [1, 0xcf, 0x86, 0x03, 0x7f, 0x0b];
        let made = with_fuel_locals(&module(&[&full, &[0, 0x0b]])).expect("a good module");
        assert_eq!(made.locals, [None, Some(1)]);
        assert_eq!(made.binary, module(&[&full, &[1, 1, 0x7e, 0x0b]]));
    }

    #[test]
    fn what_is_no_module_is_left_to_the_compiler() {
        let wasm = module(&[&[0, 0x0b], &[1, 3, 0x7f, 1, 0x0b]]);
        for length in 0..wasm.len() {
            let _ = with_fuel_locals(&wasm[..length]);
        }
        assert!(with_fuel_locals(b"\0asm\x01\0\0\0").is_some_and(|made| made.binary == b"\0asm\x01\0\0\0"));
    }
}
