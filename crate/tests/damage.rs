//! Damaged modules: no engine panics, and both give the same answer. They are compiled and not run, since a damaged
//! loop may not end.

use std::sync::Arc;

use proptest::prelude::*;
use sandbox_host::{
    engine::{Engine, wasmer::Wasmer, wasmi::Wasmi},
    module::Module,
    realm::Realm,
};
use wasmparser::{Operator, Parser, Payload};

use crate::guest::{engine, imports, pages, wasm};

/// Small modules that have every section and many kinds of instructions between them.
const MODULES: [&str; 5] = [
    r#"(module (import "e" "f" (func $f (param i32) (result i64))) (import "e" "m" (memory 1 2))
        (func $s (drop (call $f (i32.const 1)))) (func (export "a") (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
        (start $s))"#,
    r#"(module (memory (export "m") 1) (global $g (export "gear_gas") (mut i64) (i64.const 5)) (table (export "t") 2 3 funcref)
        (elem (i32.const 0) $f) (data (i32.const 3) "hi")
        (func $f (export "f") (param f32 f64) (result f64)
            (global.set $g (i64.add (global.get $g) (i64.load8_s offset=3 (i32.const 7))))
            (f64.promote_f32 (local.get 0)) (f64.mul (local.get 1))))"#,
    r#"(module (type $t (func (param i32) (result i32))) (table 1 funcref)
        (func $f (export "start") (type $t) (local i32 i64)
            (block (loop (br_if 0 (i32.eqz (local.get 0))) (br_table 0 1 1 (local.get 0))))
            (if (result i32) (local.get 1) (then (call_indirect (type $t) (i32.const 1) (local.get 0))) (else (i32.const 3))))
        (func $s) (start $s) (export "s" (func $s)))"#,
    r#"(module (memory 1) (memory 1) (data $d "abc") (elem $e func 0) (table $x 2 externref) (table $t 2 funcref)
        (func (export "f") (result v128)
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)
            (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)
            (table.set $x (i32.const 0) (ref.null extern))
            (i8x16.add (v128.load (i32.const 0)) (i8x16.splat (i32.extend8_s (memory.size 1))))))"#,
    r#"(module)"#,
];

/// What one engine answers: its imports and exports, or nothing if it refuses the module.
fn answer<E: Engine>(engine: &E, binary: &[u8]) -> Option<String> {
    let module = Module::compile(engine, binary).ok()?;
    let imports: Vec<_> = module.imports.iter().map(|import| (&import.module, &import.name, &import.ty)).collect();
    let exports: Vec<_> = module.exports.iter().map(|export| (&export.name, &export.ty)).collect();
    Some(format!("{imports:?} {exports:?} {:?}", module.exported_memory0))
}

/// Both engines, and what they disagreed on.
struct Judge {
    wasmi: Arc<Wasmi>,
    wasmer: Arc<Wasmer>,
    disagreed: Vec<String>,
    accepted: usize,
}

impl Judge {
    fn new() -> Self {
        Self { wasmi: engine(), wasmer: engine(), disagreed: Vec::new(), accepted: 0 }
    }

    fn look(&mut self, binary: &[u8], what: impl FnOnce() -> String) {
        let (wasmi, wasmer) = (answer(&*self.wasmi, binary), answer(&*self.wasmer, binary));
        self.accepted += usize::from(wasmi.is_some());
        if wasmi != wasmer && !is_known_difference(binary) {
            let reason = match (&wasmi, &wasmer) {
                (None, Some(_)) => {
                    format!("only wasmi: {}", Module::compile(&*self.wasmi, binary).err().expect("refused"))
                }
                (Some(_), None) => {
                    format!("only wasmer: {}", Module::compile(&*self.wasmer, binary).err().expect("refused"))
                }
                _ => format!("{wasmi:?} and {wasmer:?}"),
            };
            self.disagreed.push(format!("{} {}: {reason}", what(), hex(binary)));
        }
    }

    fn assert_agreed(self) {
        assert!(self.accepted > 0, "every module was refused");
        assert!(self.disagreed.is_empty(), "{} disagreements:\n{}", self.disagreed.len(), self.disagreed.join("\n"));
    }
}

fn hex(binary: &[u8]) -> String {
    binary.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tail calls, which wasmer does not have. See `features.rs`.
fn is_known_difference(binary: &[u8]) -> bool {
    Parser::new(0).parse_all(binary).flatten().any(|payload| match payload {
        Payload::CodeSectionEntry(body) => body.get_operators_reader().is_ok_and(|operators| {
            operators
                .into_iter()
                .flatten()
                .any(|operator| matches!(operator, Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. }))
        }),
        _ => false,
    })
}

#[test]
fn modules_cut_off_anywhere_are_judged_alike() {
    let mut judge = Judge::new();
    for (at, wat) in MODULES.iter().enumerate() {
        let binary = wasm(wat);
        for length in 0..=binary.len() {
            judge.look(&binary[..length], || format!("module {at} cut to {length} bytes"));
        }
    }
    judge.assert_agreed();
}

#[test]
fn modules_with_any_byte_flipped_are_judged_alike() {
    let mut judge = Judge::new();
    for (at, wat) in MODULES.iter().enumerate() {
        let mut binary = wasm(wat);
        for place in 0..binary.len() {
            let good = binary[place];
            for mask in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                binary[place] = good ^ mask;
                judge.look(&binary, || format!("module {at}, byte {place} from {good:02x} to {:02x}", good ^ mask));
            }
            binary[place] = good;
        }
    }
    judge.assert_agreed();
}

#[test]
fn modules_with_sections_left_out_doubled_or_swapped_are_judged_alike() {
    let mut judge = Judge::new();
    for (at, wat) in MODULES.iter().enumerate() {
        let binary = wasm(wat);
        let sections = sections(&binary);
        let join = |sections: &[&[u8]]| [&binary[..8], &sections.concat()].concat();
        for one in 0..sections.len() {
            let mut without = sections.clone();
            without.remove(one);
            judge.look(&join(&without), || format!("module {at} without its section {one}"));
            let mut doubled = sections.clone();
            doubled.insert(one, sections[one]);
            judge.look(&join(&doubled), || format!("module {at} with its section {one} twice"));
            for other in 0..one {
                let mut swapped = sections.clone();
                swapped.swap(one, other);
                judge.look(&join(&swapped), || format!("module {at} with its sections {one} and {other} swapped"));
            }
        }
    }
    judge.assert_agreed();
}

#[test]
fn modules_damaged_in_several_places_are_judged_alike() {
    let binaries: Vec<Vec<u8>> = MODULES.iter().map(|wat| wasm(wat)).collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1500));
    let judge = std::cell::RefCell::new(Judge::new());
    judge.borrow_mut().look(&binaries[0], String::new);
    let outcome = runner.run(&(0..binaries.len(), damage), |(module, damage)| {
        let mut binary = binaries[module].clone();
        for (place, byte, kind) in damage {
            let place = place.index(binary.len());
            match kind {
                0 => binary[place] = byte,
                1 => binary.insert(place, byte),
                _ => drop(binary.remove(place)),
            }
            if binary.is_empty() {
                break;
            }
        }
        judge.borrow_mut().look(&binary, || format!("module {module}"));
        Ok(())
    });
    outcome.expect("no panic");
    judge.into_inner().assert_agreed();
}

/// The same as above, and those that are still valid are linked as well: what initialises them may be damaged.
#[test]
fn damaged_modules_that_are_valid_are_linked_alike() {
    fn linked<E: Engine>(engine: &Arc<E>, binary: &[u8]) -> Option<Result<(), String>> {
        let module = Arc::new(Module::compile(&**engine, binary).ok()?);
        let realm = Realm::new(engine);
        let memory = realm.new_memory(pages(1, 2)).expect("a good type");
        if module.instance_bytes > 64 << 20 {
            return None;
        }
        // Only the kind of the error is the same on both: a link error's sentence is the engine's own.
        use sandbox_host::error::InstantiateError as Error;
        Some(realm.instantiate(&module, None, &imports(&module, &[memory; 3])).map(drop).map_err(|error| match error {
            Error::Link(_) => "link".to_owned(),
            Error::Segment(trap) => format!("{:?}", trap.code),
            Error::CpuFeature(feature) => feature,
            Error::Store(error) => error.to_string(),
            Error::Limit { .. } | Error::Total(_) => "limit".to_owned(),
            Error::Allocation(_) => "allocation".to_owned(),
        }))
    }
    let (wasmi, wasmer) = (engine::<Wasmi>(), engine::<Wasmer>());
    let mut disagreed = Vec::new();
    for (at, wat) in MODULES.iter().enumerate() {
        let mut binary = wasm(wat);
        for place in 0..binary.len() {
            for mask in [1, 2, 0x10, 0x40, 0x80] {
                binary[place] ^= mask;
                let both = (linked(&wasmi, &binary), linked(&wasmer, &binary));
                if both.0 != both.1 && !is_known_difference(&binary) {
                    disagreed.push(format!("module {at}, byte {place} ^ {mask:02x}: {both:?} {}", hex(&binary)));
                }
                binary[place] ^= mask;
            }
        }
    }
    assert!(disagreed.is_empty(), "(wasmi, wasmer):\n{}", disagreed.join("\n"));
}

/// The sections of a binary, headers included.
fn sections(binary: &[u8]) -> Vec<&[u8]> {
    let mut sections = Vec::new();
    let mut at = 8;
    while at < binary.len() {
        let (mut size, mut end) = (0, at + 1);
        for shift in (0..).step_by(7) {
            let byte = binary[end];
            size |= usize::from(byte & 0x7f) << shift;
            end += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        sections.push(&binary[at..end + size]);
        at = end + size;
    }
    sections
}
