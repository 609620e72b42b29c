//! Adds a local to each function of a module. The checks of a compiled guest cache the remaining fuel in
//! it: in memory alone, each iteration of a tight loop would wait for the previous iteration's store,
//! four times as long as the loop itself takes.

use wasm_encoder::ValType;

use super::{BodyEdits, Pass};

/// The pass and its result.
#[derive(Debug, Default)]
pub struct Metering {
    /// The added local of each function, by its index there; `None` where the function may have no more.
    pub locals: Vec<Option<u32>>,
}

impl Pass for Metering {
    fn function(&mut self, body: &mut BodyEdits<'_>) {
        self.locals.push(body.local(ValType::I64));
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::Encode as _;
    use wasmparser::WasmFeatures;

    use super::*;
    use crate::{
        error::CompileError,
        rewrite::{Edits, Offsets, Sections, walk},
    };

    const CODE_SECTION: u8 = 10;

    struct Made {
        binary: Vec<u8>,
        locals: Vec<Option<u32>>,
        offsets: Offsets,
    }

    fn with_fuel_locals(wasm: &[u8]) -> Result<Made, CompileError> {
        let make = |features| -> Result<Made, CompileError> {
            let (sections, mut metering, mut edits) = (Sections::of(wasm), Metering::default(), Edits::default());
            walk(&sections, features, &mut metering, &mut edits)?;
            let made = edits.apply(&sections)?;
            Ok(Made { binary: made.wasm.into_owned(), locals: metering.locals, offsets: made.offsets })
        };
        let made = make(Some(WasmFeatures::all()))?;
        let again = make(None)?;
        assert_eq!((&made.binary, &made.locals), (&again.binary, &again.locals), "it does not depend on validation");
        Ok(made)
    }

    /// A module of functions with these bodies: a count of groups of locals, the groups, and
    /// instructions. All are of type `(i32) -> ()`.
    fn module(bodies: &[&[u8]]) -> Vec<u8> {
        let mut wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x7f\0".to_vec();
        wasm.extend([3, bodies.len() as u8 + 1, bodies.len() as u8]);
        wasm.extend(vec![0; bodies.len()]);
        let mut code = Vec::new();
        bodies.len().encode(&mut code);
        for body in bodies {
            body.len().encode(&mut code);
            code.extend_from_slice(body);
        }
        wasm.push(CODE_SECTION);
        code.len().encode(&mut wasm);
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
        // 49,999 locals and a parameter are the most.
        let full = [1, 0xcf, 0x86, 0x03, 0x7f, 0x0b];
        let made = with_fuel_locals(&module(&[&full, &[0, 0x0b]])).expect("a good module");
        assert_eq!(made.locals, [None, Some(1)]);
        assert_eq!(made.binary, module(&[&full, &[1, 1, 0x7e, 0x0b]]));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let wasm = module(&[&[0, 0x0b], &[1, 3, 0x7f, 1, 0x0b]]);
        for length in 0..wasm.len() {
            let _ = with_fuel_locals(&wasm[..length]);
        }
        assert!(with_fuel_locals(b"\0asm\x01\0\0\0").is_ok_and(|made| made.binary == b"\0asm\x01\0\0\0"));
    }
}
