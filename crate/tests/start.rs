//! Start functions: they run when the realm is told to, with the instance within reach.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, Trap, TrapCode},
    module::Module,
    realm::{HostCall, Realm},
};

use crate::guest::{Guest, HostFn, contents, no_host, wasm};

on_both_engines![
    a_start_function_runs_only_when_told_to,
    an_instance_without_a_start_function_starts_at_once,
    the_right_function_is_started_whatever_the_exports_are_called,
    a_start_function_is_not_listed_as_an_export,
    a_start_function_that_is_exported_stays_exported,
    a_start_function_works_on_memory_globals_and_tables,
    a_start_function_calls_the_host,
    the_host_reaches_the_instance_while_it_starts,
    a_start_function_that_traps_reports_it,
    a_host_that_fails_in_a_start_function_is_reported,
    an_instance_is_usable_although_its_start_trapped,
    an_imported_function_may_be_the_start_function,
    a_start_function_of_a_wrong_type_is_refused,
    a_start_function_that_does_not_exist_is_refused,
    two_start_sections_are_refused,
    a_start_section_in_a_wrong_place_is_refused,
    a_start_function_counts_as_undeclared_for_ref_func,
    segments_are_written_before_the_start_function_runs,
    custom_sections_around_the_start_section_do_no_harm,
];

fn start<E: Engine>(guest: &Guest<E>, host: impl FnMut(HostCall<'_>) -> Result<(), HostTrap>) -> Result<(), Box<Trap>> {
    guest.realm.start(guest.index, &mut HostFn(host))
}

fn a_start_function_runs_only_when_told_to<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (global $g (export "g") (mut i32) (i32.const 1)) (func $s (global.set $g (i32.const 2))) (start $s)
            (func (export "get") (result i32) (global.get $g)))"#,
    );
    assert_eq!(guest.global("g"), 1);
    assert_eq!(guest.call("get", &[]).expect("callable before it starts"), [1]);
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    assert_eq!(guest.global("g"), 2);
}

fn an_instance_without_a_start_function_starts_at_once<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, r#"(module (func (export "start") unreachable))"#);
    guest.realm.start(guest.index, &mut no_host()).expect("nothing to do");
}

fn the_right_function_is_started_whatever_the_exports_are_called<E: Engine>(engine: &Arc<E>) {
    for names in [&["start"][..], &["zzz"], &["a", "start", "start'", "z"], &["", "\u{ffff}"], &["sta", "start "], &[]]
    {
        let exports: String =
            names.iter().enumerate().map(|(at, name)| format!("(export \"{name}\" (func {at}))")).collect();
        let funcs: String = (0..names.len()).map(|at| format!("(func (global.set 0 (i32.const {at})))")).collect();
        let wat = format!(
            r#"(module (global (mut i32) (i32.const 99)) {funcs} (func $s (global.set 0 (i32.const 77))) {exports}
                (export "g" (global 0)) (start $s))"#
        );
        let guest = Guest::new(engine, &wat);
        guest.realm.start(guest.index, &mut no_host()).expect("no trap");
        assert_eq!(guest.global("g"), 77, "{names:?}");
        for (at, name) in names.iter().enumerate() {
            guest.call(name, &[]).expect("no trap");
            assert_eq!(guest.global("g"), at as u64, "{name}");
        }
    }
}

fn a_start_function_is_not_listed_as_an_export<E: Engine>(engine: &Arc<E>) {
    for (exports, listed) in
        [("", &[][..]), (r#"(export "f" (func 1))"#, &["f"]), (r#"(export "start" (func 1))"#, &["start"])]
    {
        let guest = Guest::new(engine, &format!("(module (func $s) (func) {exports} (start $s))"));
        let names: Vec<_> = guest.module.exports.iter().map(|export| export.name.as_str()).collect();
        assert_eq!(names, listed);
        let trap =
            guest.realm.call(guest.index, listed.len() as u32, &mut [], &mut no_host()).expect_err("no such export");
        assert_eq!(trap.code, TrapCode::Internal);
    }
}

fn a_start_function_that_is_exported_stays_exported<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (global (export "g") (mut i32) (i32.const 0))
            (func $s (export "again") (global.set 0 (i32.add (global.get 0) (i32.const 1)))) (start $s))"#,
    );
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    guest.call("again", &[]).expect("no trap");
    assert_eq!(guest.global("g"), 2);
}

fn a_start_function_works_on_memory_globals_and_tables<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory (export "m") 1) (global $g (export "g") (mut i64) (i64.const 0)) (table 2 funcref)
            (elem declare func $f)
            (type $t (func (result i32)))
            (func $f (result i32) (i32.const 12))
            (func $s
                (i32.store8 (i32.const 5) (i32.load8_u (i32.const 0)))
                (global.set $g (i64.const 34))
                (table.set (i32.const 1) (ref.func $f))
                (drop (memory.grow (i32.const 1))))
            (func (export "indirect") (result i32) (call_indirect (type $t) (i32.const 1)))
            (data (i32.const 0) "x")
            (start $s))"#,
    );
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    let bytes = contents(&guest.realm, guest.memory("m"));
    assert_eq!((bytes.len(), bytes[5]), (2 * 65_536, b'x'));
    assert_eq!(guest.global("g"), 34);
    assert_eq!(guest.call("indirect", &[]).expect("no trap"), [12]);
}

fn a_start_function_calls_the_host<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f (param i32) (result i32))) (global (export "g") (mut i32) (i32.const 0))
            (func $s (global.set 0 (call $f (i32.const 20)))) (start $s))"#,
    );
    let mut seen = Vec::new();
    start(&guest, |call| {
        seen.push((call.instance, call.import, call.slots[0]));
        call.slots[0] += 1;
        Ok(())
    })
    .expect("no trap");
    assert_eq!(seen, [(guest.index, 0, 20)]);
    assert_eq!(guest.global("g"), 21);
}

fn the_host_reaches_the_instance_while_it_starts<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func $f)) (memory (export "m") 1) (global $g (export "g") (mut i32) (i32.const 5))
            (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
            (func $s (i32.store8 (i32.const 1) (i32.const 7)) (call $f)
                (if (i32.ne (i32.load8_u (i32.const 2)) (i32.const 8)) (then unreachable))
                (if (i32.ne (global.get $g) (i32.const 6)) (then unreachable)))
            (start $s))"#,
    );
    start(&guest, |_| {
        let memory = guest.memory("m");
        assert_eq!(contents(&guest.realm, memory)[..3], [0, 7, 0]);
        guest.realm.memory_write(memory, 2, &[8]).expect("in bounds");
        assert_eq!(guest.global("g"), 5);
        guest.realm.global_set(guest.index, guest.export("g"), 6).expect("mutable");
        assert_eq!(guest.call("double", &[21]).expect("no trap"), [42]);
        Ok(())
    })
    .expect("the guest saw what the host wrote");
}

fn a_start_function_that_traps_reports_it<E: Engine>(engine: &Arc<E>) {
    for (body, code) in [
        ("unreachable", TrapCode::Unreachable),
        ("(i32.store (i32.const 65536) (i32.const 0))", TrapCode::MemoryOutOfBounds),
        ("(call $s)", TrapCode::StackOverflow),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", TrapCode::IntegerDivideByZero),
    ] {
        let guest = Guest::new(engine, &format!("(module (memory 1) (func $s {body}) (start $s))"));
        let trap = guest.realm.start(guest.index, &mut no_host()).expect_err("it traps");
        assert_eq!(trap.code, code);
    }
}

fn a_host_that_fails_in_a_start_function_is_reported<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, r#"(module (import "e" "f" (func $f)) (func $s (call $f)) (start $s))"#);
    let trap = start(&guest, |_| Err(HostTrap::Message("not today".into()))).expect_err("the host fails");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, "not today"));
    start(&guest, |_| Ok(())).expect("the host answers now");
}

fn an_instance_is_usable_although_its_start_trapped<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (global (export "g") (mut i32) (i32.const 0)) (func $s (global.set 0 (i32.const 3)) unreachable)
            (func (export "get") (result i32) (global.get 0)) (start $s))"#,
    );
    assert!(guest.realm.start(guest.index, &mut no_host()).is_err());
    assert_eq!(guest.call("get", &[]).expect("no trap"), [3]);
}

fn an_imported_function_may_be_the_start_function<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, r#"(module (import "e" "a" (func)) (import "e" "b" (func $b)) (start $b))"#);
    let mut called = Vec::new();
    start(&guest, |call| {
        called.push((call.instance, call.import));
        Ok(())
    })
    .expect("no trap");
    assert_eq!(called, [(guest.index, 1)]);
    let trap = start(&guest, |_| Err(HostTrap::Parked)).expect_err("the host fails");
    assert_eq!(trap.code, TrapCode::Supervisor);
}

fn a_start_function_of_a_wrong_type_is_refused<E: Engine>(engine: &Arc<E>) {
    for ty in ["(param i32)", "(result i32)", "(param f64) (result f64)", "(param externref)"] {
        for function in [format!(r#"(import "e" "f" (func {ty}))"#), format!("(func {ty} unreachable)")] {
            let binary = wasm(&format!("(module {function} (start 0))"));
            assert!(Module::compile(&**engine, &binary).is_err(), "{function}");
        }
    }
}

fn a_start_function_that_does_not_exist_is_refused<E: Engine>(engine: &Arc<E>) {
    for wat in ["(module (start 0))", "(module (func) (start 1))", "(module (func) (start 4294967295))"] {
        assert!(Module::compile(&**engine, &wasm(wat)).is_err(), "{wat}");
    }
}

const FUNC_TYPES: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0";
const EXPORT: &[u8] = b"\x07\x05\x01\x01a\0\0";
const START: &[u8] = b"\x08\x01\0";
const CODE: &[u8] = b"\x0a\x04\x01\x02\0\x0b";

fn two_start_sections_are_refused<E: Engine>(engine: &Arc<E>) {
    for sections in [&[FUNC_TYPES, START, START, CODE][..], &[FUNC_TYPES, EXPORT, START, START, CODE]] {
        assert!(Module::compile(&**engine, &sections.concat()).is_err());
    }
    assert!(Module::compile(&**engine, &[FUNC_TYPES, EXPORT, START, CODE].concat()).is_ok());
}

fn a_start_section_in_a_wrong_place_is_refused<E: Engine>(engine: &Arc<E>) {
    for sections in [
        &[FUNC_TYPES, START, EXPORT, CODE][..],
        &[FUNC_TYPES, CODE, START],
        &[FUNC_TYPES, EXPORT, CODE, START],
        &[FUNC_TYPES, START, EXPORT, EXPORT, CODE],
        &[FUNC_TYPES, EXPORT, EXPORT, START, CODE],
        &[FUNC_TYPES, EXPORT, START],
        &[b"\0asm\x01\0\0\0", START],
    ] {
        assert!(Module::compile(&**engine, &sections.concat()).is_err(), "{sections:?}");
    }
}

fn a_start_function_counts_as_undeclared_for_ref_func<E: Engine>(engine: &Arc<E>) {
    // An exported function counts as declared. That the start function becomes an export in here must not show.
    // https://webassembly.github.io/spec/core/valid/modules.html#valid-module
    for (start, valid) in [("", false), ("(start $f)", false), (r#"(export "f" (func $f)) (start $f)"#, true)] {
        let binary = wasm(&format!("(module (func $f) (func (drop (ref.func $f))) {start})"));
        assert_eq!(Module::compile(&**engine, &binary).is_ok(), valid, "{start}");
    }
}

fn segments_are_written_before_the_start_function_runs<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory 1) (data (i32.const 9) "y") (global (export "g") (mut i32) (i32.const 0))
            (func $s (global.set 0 (i32.load8_u (i32.const 9)))) (start $s))"#,
    );
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    assert_eq!(guest.global("g"), u64::from(b'y'));
}

fn custom_sections_around_the_start_section_do_no_harm<E: Engine>(engine: &Arc<E>) {
    let custom = b"\0\x04\x03any";
    let all =
        [&FUNC_TYPES[..8], custom, &FUNC_TYPES[8..], custom, EXPORT, custom, START, custom, CODE, custom].concat();
    let module = Arc::new(Module::compile(&**engine, &all).expect("valid"));
    let realm = Realm::new(engine);
    let guest = Guest::of(&realm, &module, None, &[]);
    realm.start(guest.index, &mut no_host()).expect("no trap");
    assert_eq!(module.exports.len(), 1);
}
