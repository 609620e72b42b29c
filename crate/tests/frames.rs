//! Where in the guest a trap happened: wasmer says it, wasmi does not.

use std::{ops::Range, sync::Arc};

use sandbox_host::{
    engine::{EngineConfig, wasmer::Wasmer, wasmi::Wasmi},
    error::{Frame, HostTrap, MAX_FRAMES, Trap, TrapCode},
    module::Module,
    realm::Realm,
};
use wasmparser::{Parser, Payload};

use crate::guest::{Guest, engine, engine_with, no_host, wasm};

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
    let trap = Guest::of(&realm, &module, None, &[]).call("run", &[]).expect_err("it traps");
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

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_names_the_functions_that_waited_for_a_host_that_failed() {
    let guest = Guest::new(
        &engine::<Wasmer>(),
        r#"(module (import "e" "f" (func $f (param i64))) (global (mut i32) (i32.const 0))
            (func $inner (param i64) (call $f (local.get 0)) (global.set 0 (i32.const 1)))
            (func $outer (export "run") (call $inner (i64.const 1)) (global.set 0 (i32.const 2))))"#,
    );
    for failure in [HostTrap::Parked, HostTrap::Message("why".into()), HostTrap::Interrupted, HostTrap::OutOfFuel] {
        let trap = guest.call_with("run", &[], |_| Err(failure.clone())).expect_err("the host fails");
        assert_eq!(trap.code, Trap::from(failure).code);
        assert_eq!(names(&trap), ["inner", "outer"]);
        let offsets: Vec<_> = trap.frames.iter().map(|frame| frame.offset.expect("wasmer knows it")).collect();
        assert!(offsets.iter().all(|offset| *offset > 0), "{offsets:?}");
    }
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn a_host_that_an_export_is_has_no_frames() {
    let guest = Guest::new(
        &engine::<Wasmer>(),
        r#"(module (import "e" "f" (func $f)) (export "run" (func $f)) (func $other (export "other") (call $f)))"#,
    );
    let trap = guest.call_with("run", &[], |_| Err(HostTrap::Parked)).expect_err("the host fails");
    assert_eq!(trap.frames, []);
    // Inside another guest too.
    let call = guest.call_with("other", &[], |_| {
        let trap = guest.call_with("run", &[], |_| Err(HostTrap::Parked)).expect_err("the host fails");
        assert_eq!(trap.frames, []);
        Ok(())
    });
    call.expect("the outer guest runs on");
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_has_both_ends_of_an_exhausted_stack() {
    let guest = Guest::new(&engine::<Wasmer>(), DEEP);
    for _ in 0..3 {
        let trap = guest.call("exhaust", &[]).expect_err("it is endless");
        assert_eq!(trap.code, TrapCode::StackOverflow);
        assert_is_both_ends(&trap, &["endless", "exhaust"]);
    }
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn wasmer_has_both_ends_of_every_deep_stack() {
    let guest = Guest::new(&engine::<Wasmer>(), DEEP);
    for depth in [100, 10_000] {
        for (way, innermost) in [(TRAP, "leaf"), (HOST, "deep"), (FILL, "deep"), (DIVIDE, "divide")] {
            let trap = guest.call_with("run", &[depth, way], |_| Err(HostTrap::Parked)).expect_err("it traps");
            assert_is_both_ends(&trap, &["deep", "run"]);
            let names = names(&trap);
            assert_eq!(names[0], innermost, "{way}");
        }
    }
    // As many as there may be, and few more or less.
    for depth in 25..=100 {
        for (way, name) in [(TRAP, "leaf"), (HOST, "leaf"), (DIVIDE, "divide")] {
            let trap = guest.call_with("run", &[depth, way], |_| Err(HostTrap::Parked)).expect_err("it traps");
            let leaf = usize::from(way != HOST);
            let all = usize::try_from(depth).expect("small") + 2 + leaf;
            let names = names(&trap);
            assert_eq!(names.len(), all.min(MAX_FRAMES), "{way} {depth}");
            assert_eq!(names.iter().filter(|name| *name == "run").count(), 1, "{way} {depth}");
            assert_eq!(names.iter().filter(|found| *found == name).count(), leaf, "{way} {depth}");
            assert_eq!(names.last().map(String::as_str), Some("run"));
        }
    }
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn frames_of_calls_inside_calls_are_those_of_their_own_call() {
    let guest = Guest::new(&engine::<Wasmer>(), DEEP);
    let trap = guest
        .call_with("run", &[3, HOST], |_| {
            let exhausted = guest.call("exhaust", &[]).expect_err("it is endless");
            assert_is_both_ends(&exhausted, &["endless", "exhaust"]);
            let inner = guest
                .call_with("host", &[], |_| Err(HostTrap::Message(exhausted.message.clone())))
                .expect_err("the host fails");
            assert_eq!(names(&inner), ["host"]);
            Err(HostTrap::Message(inner.message))
        })
        .expect_err("the host fails");
    assert_eq!(names(&trap), ["deep", "deep", "deep", "deep", "run"]);
    assert_eq!(trap.code, TrapCode::Supervisor);
}

/// Only on wasmer, because wasmi keeps no frames.
#[test]
fn a_host_that_fails_after_a_nested_call_finds_its_own_guest() {
    let guest = Guest::new(&engine::<Wasmer>(), DEEP);
    for failing in ["exhaust", "host"] {
        let trap = guest
            .call_with("run", &[1, HOST], |_| {
                guest.call_with(failing, &[], |_| Err(HostTrap::Parked)).expect_err("it traps");
                Err(HostTrap::Parked)
            })
            .expect_err("the host fails");
        assert_eq!(names(&trap), ["deep", "deep", "run"], "{failing}");
    }
}

/// Only on wasmer, because wasmi keeps no frames.
#[cfg(target_os = "linux")]
#[test]
fn a_trap_takes_no_memory_in_proportion_to_the_stack() {
    crate::guest::alone("core::frames::a_trap_takes_no_memory_in_proportion_to_the_stack", || {
        const STACK: usize = 64 * 1024 * 1024;
        let config = EngineConfig { stack_bytes: Some(STACK), ..EngineConfig::default() };
        let guest = Guest::new(&engine_with::<Wasmer>(&config), DEEP);
        let before = crate::guest::resident_bytes();
        guest.call("exhaust", &[]).expect_err("it is endless");
        for way in [TRAP, HOST, DIVIDE] {
            let trap = guest.call_with("run", &[1_000_000, way], |_| Err(HostTrap::Parked)).expect_err("it traps");
            assert_eq!(trap.frames.len(), MAX_FRAMES);
        }
        let more = peak_bytes().saturating_sub(before);
        assert!(more < STACK as u64 + 8 * 1024 * 1024, "{more} bytes");
    });
}

/// The most memory of this process that has been resident, in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line for the peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}

/// Ways for `DEEP` to end.
const TRAP: u64 = 0;
const HOST: u64 = 1;
const FILL: u64 = 2;
const DIVIDE: u64 = 3;

/// Goes as deep as the first argument says, and ends there in the way that the second says.
const DEEP: &str = r#"(module (import "e" "f" (func $f)) (memory 1) (global $way (mut i32) (i32.const 0))
    (global $done (mut i32) (i32.const 0))
    (func $leaf (unreachable))
    (func $divide (param i32) (global.set $done (i32.div_u (i32.const 1) (local.get 0))))
    (func $deep (param i32)
        (if (i32.eqz (local.get 0))
            (then
                (if (i32.eq (global.get $way) (i32.const 0)) (then (call $leaf)))
                (if (i32.eq (global.get $way) (i32.const 1)) (then (call $f)))
                (if (i32.eq (global.get $way) (i32.const 2))
                    (then (memory.fill (i32.const 1) (i32.const 0) (i32.const -1))))
                (if (i32.eq (global.get $way) (i32.const 3)) (then (call $divide (i32.const 0)))))
            (else (call $deep (i32.sub (local.get 0) (i32.const 1)))))
        (global.set $done (i32.const 1)))
    (func $run (export "run") (param $depth i32) (param $way i32)
        (global.set $way (local.get $way)) (call $deep (local.get $depth)) (global.set $done (i32.const 2)))
    (func $host (export "host") (call $f) (global.set $done (i32.const 3)))
    (func $endless (call $endless) (global.set $done (i32.const 4)))
    (func $exhaust (export "exhaust") (call $endless) (global.set $done (i32.const 5))))"#;

fn names(trap: &Trap) -> Vec<String> {
    trap.frames.iter().filter_map(|frame| frame.function_name.clone()).collect()
}

/// That there are as many frames as there may be, most of them of the first function, and the outermost of the last.
fn assert_is_both_ends(trap: &Trap, functions: &[&str; 2]) {
    let names = names(trap);
    assert_eq!(names.len(), MAX_FRAMES);
    assert!(names[1..MAX_FRAMES - 1].iter().all(|name| name == functions[0]), "{names:?}");
    assert_eq!(names[MAX_FRAMES - 1], functions[1]);
}

/// That the trap is the host's must not depend on frames.
#[test]
fn a_host_trap_has_no_frames_on_wasmi() {
    let guest = Guest::new(
        &engine::<Wasmi>(),
        r#"(module (import "e" "f" (func $f)) (func (export "run") (call $f) (call $f)))"#,
    );
    assert_eq!(guest.call_with("run", &[], |_| Err(HostTrap::Parked)).expect_err("the host fails").frames, []);
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
        let guest = Guest::of(&realm, &module, None, &[]);
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
