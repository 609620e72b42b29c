//! Where in the guest a trap happened: wasmer says it, wasmi does not.

use std::{ops::Range, sync::Arc};

use sandbox_host::{
    engine::{Engine, wasmer::Wasmer, wasmi::Wasmi},
    error::{Frame, HostTrap},
    module::Module,
    realm::{Realm, Version},
};
use wasmparser::{Parser, Payload};

use crate::guest::{Guest, engine, no_host, wasm};

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_names_the_functions_that_were_running_innermost_first() {
    let guest = Guest::new(
        &engine::<Wasmer>(),
        r#"(module $guest (import "e" "f" (func $import))
            (func $inner (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))) (global.set 0 (i32.const 1)))
            (func $middle (param i32) (call $inner (local.get 0)) (global.set 0 (i32.const 2)))
            (func $outer (export "run") (param i32) (call $middle (local.get 0)) (global.set 0 (i32.const 3)))
            (global (mut i32) (i32.const 0)))"#,
    );
    let trap = guest.call("run", &[0]).expect_err("it divides by zero");
    let frames: Vec<_> =
        trap.frames.iter().map(|frame| (frame.function_name.as_deref(), frame.function_index)).collect();
    assert_eq!(frames, [(Some("inner"), 1), (Some("middle"), 2), (Some("outer"), 3)]);
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_has_frames_without_names_too() {
    let binary = without_names(&wasm(r#"(module (func unreachable) (func (export "run") (call 0)))"#));
    let engine = engine::<Wasmer>();
    let module = Arc::new(Module::compile(&*engine, &binary).expect("valid"));
    let realm = Realm::new(&engine);
    let trap = Guest::of(&realm, &module, Version::V1, &[]).call("run", &[]).expect_err("it traps");
    let frames: Vec<_> = trap.frames.iter().map(|frame| (frame.function_name.clone(), frame.function_index)).collect();
    assert_eq!(frames, [(None, 0), (None, 1)]);
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_keeps_the_frames_of_each_call_apart() {
    let guest = Guest::new(
        &engine::<Wasmer>(),
        r#"(module (import "e" "f" (func $f)) (func $outer (export "outer") (call $f) unreachable)
            (func $inner (export "inner") unreachable))"#,
    );
    let names = |frames: &[Frame]| frames.iter().filter_map(|frame| frame.function_name.clone()).collect::<Vec<_>>();
    let trap = guest
        .call_with("outer", &[], |_| {
            let trap = guest.call("inner", &[]).expect_err("it traps");
            assert_eq!(names(&trap.frames), ["inner"]);
            Ok(())
        })
        .expect_err("it traps");
    assert_eq!(names(&trap.frames), ["outer"]);
}

/// On wasmi, for the day that it learns to.
#[test]
fn wasmi_has_no_frames() {
    let guest = Guest::new(&engine::<Wasmi>(), r#"(module (func $f (export "run") unreachable))"#);
    assert_eq!(guest.call("run", &[]).expect_err("it traps").frames, []);
}

/// Neither engine has frames for a trap that a host function raises; that the trap is the host's must not depend on it.
#[test]
fn a_host_trap_has_no_frames() {
    fn frames<E: Engine>() -> Vec<Frame> {
        let guest = Guest::new(
            &engine::<E>(),
            r#"(module (import "e" "f" (func $f)) (func (export "run") (call $f) (call $f)))"#,
        );
        guest.call_with("run", &[], |_| Err(HostTrap::Parked)).expect_err("the host fails").frames
    }
    assert_eq!(frames::<Wasmi>(), []);
    assert_eq!(frames::<Wasmer>(), []);
}

/// Modules whose code lies at another place in the binary that the engine gets, because their start function is taken
/// out; one that has none; and some whose export section's header changes its length.
fn modules() -> Vec<(String, Vec<u8>)> {
    let body = r#"(func $before (result i32) (i32.const 1)) (func $a unreachable)
        (func $b (export "run") (drop (call $before)) (call $a)) (func $after)"#;
    let mut texts = vec![
        ("no start function".to_owned(), format!("(module {body})")),
        ("a start function".to_owned(), format!("(module {body} (start $b))")),
        ("an exported start function".to_owned(), format!("(module {body} (export \"start\" (func $b)) (start $b))")),
        (
            "everything else too".to_owned(),
            format!(
                r#"(module (import "e" "f" (func)) {body} (memory 1) (table 1 funcref) (global i32 (i32.const 0))
                    (elem (i32.const 0) $a) (data (i32.const 0) "some data") (start $a))"#
            ),
        ),
    ];
    for length in 100..=135 {
        let name = "n".repeat(length);
        texts.push((
            format!("an export section of about {length} bytes"),
            format!("(module {body} (export \"{name}\" (func $a)) (start $a))"),
        ));
    }
    // The number of exports is written in one byte up to 127.
    for exports in 125..=129 {
        let more: String = (0..exports).map(|at| format!("(export \"{at}\" (func $a))")).collect();
        texts.push((format!("{exports} more exports"), format!("(module {body} {more} (start $a))")));
    }
    let mut modules: Vec<_> = texts.iter().map(|(what, text)| (what.clone(), wasm(text))).collect();
    // A start section without any export section, which is then new in the binary.
    let unexported = wasm("(module (func $before) (func $a unreachable) (func $b (call $a)) (start $b))");
    modules.push(("no exports".to_owned(), unexported));
    // Another place for the code than the text format gives it, and a size that takes more bytes than it needs.
    let spread = wasm(&format!("(module {body} (start $b))"));
    let at = section(&spread, 8).start;
    let custom = b"\0\x86\x80\0\x03odd-\0";
    modules.push(("a custom section in between".to_owned(), [&spread[..at], custom, &spread[at..]].concat()));
    modules
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn offsets_are_those_of_the_binary_that_was_given() {
    let engine = engine::<Wasmer>();
    for (what, binary) in modules() {
        let module = Arc::new(Module::compile(&*engine, &binary).unwrap_or_else(|error| panic!("{what}: {error}")));
        let realm = Realm::new(&engine);
        let guest = Guest::of(&realm, &module, Version::V1, &[]);
        let mut traps = Vec::new();
        traps.extend(realm.start(guest.index, &mut no_host()).err());
        if module.exports.iter().any(|export| export.name == "run") {
            traps.extend(guest.call("run", &[]).err());
        }
        let bodies = bodies(&binary);
        assert!(!traps.is_empty(), "{what}");
        for trap in traps {
            assert!(!trap.frames.is_empty(), "{what}");
            for (depth, frame) in trap.frames.iter().enumerate() {
                let offset = frame.offset.expect("wasmer knows it");
                let body = &bodies[frame.function_index as usize - module.imports.len()];
                assert!(body.contains(&offset), "{what}: {frame:?} is not in {body:?}");
                if depth == 0 {
                    assert_eq!(binary[offset], 0x00, "{what}: {frame:?} is not at an unreachable instruction");
                } else {
                    assert_eq!(binary[offset], 0x10, "{what}: {frame:?} is not at a call instruction");
                }
            }
        }
    }
}

/// Where the bodies of the functions lie in a binary.
fn bodies(binary: &[u8]) -> Vec<Range<usize>> {
    Parser::new(0)
        .parse_all(binary)
        .filter_map(|payload| match payload.expect("valid") {
            Payload::CodeSectionEntry(body) => Some(body.range().start as usize..body.range().end as usize),
            _ => None,
        })
        .collect()
}

/// Where a section lies in a binary, header included.
fn section(binary: &[u8], id: u8) -> Range<usize> {
    let mut at = 8;
    while at < binary.len() {
        // Short sections only: their size takes one byte.
        let end = at + 2 + usize::from(binary[at + 1]);
        if binary[at] == id {
            return at..end;
        }
        at = end;
    }
    panic!("no section {id}");
}

/// A binary without its name section, which the text format makes.
fn without_names(binary: &[u8]) -> Vec<u8> {
    let at = binary.windows(5).position(|bytes| bytes == b"\x04name").map_or(binary.len(), |at| at - 2);
    binary[..at].to_vec()
}
