//! Modules that are made to do harm: to the process, or to the modules of others. Each test has a process of its own.

use std::{sync::Arc, thread};

use sandbox_host::{engine::Engine, error::TrapCode, module::Module, realm::Realm};

use crate::guest::{Guest, compile, wasm};

on_both_engines_alone![
    types_that_collide_in_a_hash_do_no_harm_across_modules,
    types_that_collide_in_a_hash_do_no_harm_across_host_functions,
    types_that_collide_in_a_hash_are_not_confused,
    types_that_collide_with_a_common_one_lock_nobody_out,
    deeply_nested_blocks_do_no_harm,
    deeply_nested_expressions_do_no_harm,
    many_functions_do_no_harm,
    a_big_branch_table_does_no_harm,
    many_locals_do_no_harm,
    sizes_that_lie_do_no_harm,
    a_module_compiles_on_a_thread_with_a_small_stack,
    many_exports_and_imports_count_as_memory_of_an_instance,
];

/// Two lists of parameters that wasmer's 32-bit hash of a function type, a CRC of the number of results, the number of
/// parameters and the types, does not tell apart. Of any 33 places in a list, some can be changed together without a
/// change of the CRC, so anybody can make such a pair.
fn colliding() -> [String; 2] {
    const CHANGED: u64 = 0b1_1101_1011_0111_0001_0000_0110_0100_0001;
    let wide = (0..40).map(|at| if CHANGED >> at & 1 == 1 { "i64 " } else { "i32 " }).collect();
    ["i32 ".repeat(40), wide]
}

/// Others can still work with the engine.
fn assert_engine_works<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (import "e" "f" (func $f (param f64) (result i64)))
        (func (export "run") (param f64) (result i64) (call $f (local.get 0))))"#;
    let results = Guest::new(engine, wat).call_with("run", &[3], |call| {
        call.slots[0] += 1;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [4]);
}

fn types_that_collide_in_a_hash_do_no_harm_across_modules<E: Engine>(engine: &Arc<E>) {
    for params in colliding() {
        Guest::new(engine, &format!(r#"(module (func (export "f") (param {params})))"#))
            .call("f", &[0; 40])
            .expect("no trap");
    }
    assert_engine_works(engine);
}

fn types_that_collide_in_a_hash_do_no_harm_across_host_functions<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for params in colliding() {
        let wat = format!(r#"(module (import "e" "f" (func (param {params}))) (export "f" (func 0)))"#);
        let guest = Guest::linked(&realm, None, &wat, &[]);
        guest
            .call_with("f", &[1; 40], |call| {
                assert_eq!(call.slots, [1; 40]);
                Ok(())
            })
            .expect("no trap");
    }
    assert_engine_works(engine);
}

fn types_that_collide_in_a_hash_are_not_confused<E: Engine>(engine: &Arc<E>) {
    let [narrow, wide] = colliding();
    let zeros = "(i32.const 0)".repeat(40);
    let wat = format!(
        r#"(module (type $narrow (func (param {narrow}))) (type $wide (func (param {wide})))
            (table 1 funcref) (elem (i32.const 0) $f) (func $f (type $wide))
            (func (export "f") {zeros} (call_indirect (type $narrow) (i32.const 0))))"#
    );
    // An engine that cannot tell them apart may refuse the module, but not make the call.
    if let Ok(module) = Module::compile(&**engine, &wasm(&wat)) {
        let guest = Guest::of(&Realm::new(engine), &Arc::new(module), None, &[]);
        assert_eq!(guest.trap("f", &[]), TrapCode::IndirectCallSignature);
    }
    assert_engine_works(engine);
}

fn types_that_collide_with_a_common_one_lock_nobody_out<E: Engine>(engine: &Arc<E>) {
    // Made to have the hash of `(param i32) (result i32)`, and first to come.
    const WIDE: u64 = 0xc431_1200;
    let params: String = (0..40).map(|at| if WIDE >> at & 1 == 1 { "i64 " } else { "i32 " }).collect();
    let _ = Module::compile(&**engine, &wasm(&format!("(module (func (param {params})))")));
    let wat = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
        (func (export "f") (param i32) (result i32) (call $f (local.get 0))))"#;
    assert_eq!(Guest::new(engine, wat).call_with("f", &[6], |_| Ok(())).expect("no trap"), [6]);
}

/// Compiles what may be refused, and calls its `f` if it is not.
fn try_to_run<E: Engine>(engine: &Arc<E>, binary: &[u8]) {
    if let Ok(module) = Module::compile(&**engine, binary) {
        let _ = Guest::of(&Realm::new(engine), &Arc::new(module), None, &[]).call("f", &[]);
    }
    assert_engine_works(engine);
}

/// A module of one function `f` without parameters, whose body has `body` before its end. Written by hand, because the
/// text format's parser has limits of its own.
fn with_body(body: &[u8]) -> Vec<u8> {
    with_locals(&[0], body)
}

/// The same, with `locals` for the function's declaration of locals.
fn with_locals(locals: &[u8], body: &[u8]) -> Vec<u8> {
    let function = [locals, body, &[END]].concat();
    let code = [&[1], &leb128(function.len())[..], &function].concat();
    let head = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a";
    [&head[..], &leb128(code.len()), &code].concat()
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

const BLOCK: [u8; 2] = [0x02, 0x40];
const LOOP: [u8; 2] = [0x03, 0x40];
const END: u8 = 0x0b;

fn deeply_nested_blocks_do_no_harm<E: Engine>(engine: &Arc<E>) {
    const DEPTH: usize = 20_000;
    for opening in [&BLOCK[..], &LOOP, &[0x41, 1, 0x04, 0x40]] {
        try_to_run(engine, &with_body(&[&opening.repeat(DEPTH)[..], &[END; DEPTH]].concat()));
    }
}

fn deeply_nested_expressions_do_no_harm<E: Engine>(engine: &Arc<E>) {
    const DEPTH: usize = 20_000;
    // i32.const 1 many times, i32.add one time less, drop.
    try_to_run(engine, &with_body(&[&[0x41, 1].repeat(DEPTH)[..], &[0x6a; DEPTH - 1], &[0x1a]].concat()));
}

fn many_functions_do_no_harm<E: Engine>(engine: &Arc<E>) {
    let mut wat = String::from("(module (func (export \"f\"))");
    wat.push_str(&"(func)".repeat(20_000));
    try_to_run(engine, &wasm(&(wat + ")")));
}

fn a_big_branch_table_does_no_harm<E: Engine>(engine: &Arc<E>) {
    // block, i32.const 0, br_table of 60000 entries and a default, end.
    let table = [&BLOCK[..], &[0x41, 0, 0x0e, 0xe0, 0xd4, 0x03], &[0; 60_001], &[END]].concat();
    try_to_run(engine, &with_body(&table));
}

fn many_locals_do_no_harm<E: Engine>(engine: &Arc<E>) {
    // What the validator allows at most, one more than that, and types that engines treat apart.
    for locals in [30_000, 49_999, 50_000, 50_001, u32::MAX as usize] {
        for ty in [0x7f, 0x7e, 0x7b, 0x6f] {
            try_to_run(engine, &with_locals(&[&[1][..], &leb128(locals), &[ty]].concat(), &[]));
        }
    }
}

fn sizes_that_lie_do_no_harm<E: Engine>(engine: &Arc<E>) {
    // A section of each kind that claims a huge size, and a huge number of entries.
    for id in 0..=14 {
        for content in [&b"\xff\xff\xff\xff\x0f"[..], b"\x05\xff\xff\xff\xff\x0f", b"\x0a\xff\xff\xff\x7f\0\0\0\0\0\0"]
        {
            try_to_run(engine, &[b"\0asm\x01\0\0\0", &[id][..], content].concat());
        }
    }
}

fn a_module_compiles_on_a_thread_with_a_small_stack<E: Engine>(engine: &Arc<E>) {
    let engine = engine.clone();
    let work = move || {
        try_to_run(&engine, &with_body(&[&BLOCK.repeat(1000)[..], &[END; 1000]].concat()));
        try_to_run(&engine, &with_body(&[&[0x41, 1].repeat(5000)[..], &[0x6a; 4999], &[0x1a]].concat()));
    };
    thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread").join().expect("no panic");
}

fn many_exports_and_imports_count_as_memory_of_an_instance<E: Engine>(engine: &Arc<E>) {
    let bytes = |wat: &str| compile(&**engine, wat).instance_bytes;
    let small = bytes("(module (func))");
    let name = "n".repeat(10_000);
    let exports: String = (0..100).map(|at| format!("(export \"{at}{name}\" (func 0))")).collect();
    assert!(bytes(&format!("(module (func) {exports})")) > small + 1_000_000);
    let imports = "(import \"e\" \"f\" (func))".repeat(10_000);
    assert!(bytes(&format!("(module {imports})")) > small + 1_000_000);
    assert!(bytes("(module (table 100000 funcref) (table 100000 funcref))") > small + 3_000_000);
}

/// Alone, because it looks at the most memory that the process has had, which Linux tells.
#[cfg(target_os = "linux")]
mod of_deep_stacks {
    use sandbox_host::engine::EngineConfig;

    use super::*;
    use crate::guest::engine_with;

    on_both_engines_alone![a_trap_in_a_deep_stack_takes_little_memory];

    fn most_resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line for resident memory");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
        kib * 1024
    }

    fn a_trap_in_a_deep_stack_takes_little_memory<E: Engine>(_: &Arc<E>) {
        const DEPTH: u64 = 400_000;
        let config =
            EngineConfig { stack_bytes: Some(64 << 20), recursion_depth: Some(1_000_000), ..EngineConfig::default() };
        let guest = Guest::new(
            &engine_with::<E>(&config),
            r#"(module
                (func $recurse (param $depth i32) (param $traps i32)
                    (if (i32.eqz (local.get $depth))
                        (then (if (local.get $traps) (then unreachable)) (return)))
                    (call $recurse (i32.sub (local.get $depth) (i32.const 1)) (local.get $traps))
                    (drop (i32.add (local.get $depth) (i32.const 1))))
                (func $run (export "run") (param i32 i32) (call $recurse (local.get 0) (local.get 1))))"#,
        );
        // All of the stack is touched, and a trap has been translated.
        guest.call("run", &[DEPTH + 1000, 0]).expect("the stack is large enough");
        guest.call("run", &[10, 1]).expect_err("it traps");
        let before = most_resident_bytes();
        let trap = guest.call("run", &[DEPTH, 1]).expect_err("it traps");
        assert_eq!(trap.code, TrapCode::Unreachable);
        let grown = most_resident_bytes() - before;
        assert!(grown < 4 << 20, "{grown} bytes");
        if E::NAME == "wasmer" {
            assert_eq!(trap.frames.len(), 64);
            let places: Vec<_> = trap.frames.iter().map(|frame| frame.function_index).collect();
            assert_eq!((&places[..63], places[63]), (&[0; 63][..], 1));
        }
    }
}
