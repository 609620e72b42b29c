//! Instances that import what other instances of their realm export.

use std::{
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sandbox_host::{
    engine::{Engine, EngineConfig},
    error::{HostTrap, InstantiateError, TrapCode},
    interrupt::Interrupt,
    realm::{Host, HostCall, Import, Realm},
};

use crate::guest::{Guest, compile, engine_with};

on_both_engines![
    a_function_of_another_instance_is_called,
    a_function_runs_in_its_own_instance,
    a_host_function_that_is_exported_stays_that_of_its_instance,
    a_global_is_shared,
    a_memory_is_shared,
    a_table_is_shared,
    a_function_of_another_type_is_not_called_through_a_shared_table,
    an_export_has_one_index,
    what_is_no_object_of_the_realm_is_not_linked,
    what_has_another_type_is_not_linked,
    a_failed_instance_leaves_its_functions_in_a_shared_table,
    a_loop_in_another_instance_is_stopped,
    counted_instances_are_linked_or_refused,
];

fn link<E: Engine>(realm: &Rc<Realm<E>>, wat: &str, imports: &[Import]) -> Result<Guest<E>, InstantiateError> {
    let module = compile(&**realm.engine(), wat);
    let index = realm.instantiate(&module, None, imports)?;
    Ok(Guest { realm: realm.clone(), module, index })
}

fn linked<E: Engine>(realm: &Rc<Realm<E>>, wat: &str, imports: &[Import]) -> Guest<E> {
    link(realm, wat, imports).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

fn exported<E: Engine>(guest: &Guest<E>, name: &str) -> Import {
    guest.realm.exported(guest.index, guest.export(name)).expect("it can be imported")
}

const GIVES: &str = r#"(module
    (global $g (export "g") (mut i64) (i64.const 5))
    (memory (export "m") 1)
    (table (export "t") 2 funcref)
    (func $add (export "add") (param i64) (result i64) (global.set $g (i64.add (global.get $g) (local.get 0))) (global.get $g))
    (elem (i32.const 0) $add))"#;

fn a_function_of_another_instance_is_called<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let wat = r#"(module (import "e" "f" (func $f (param i64) (result i64)))
        (func (export "run") (param i64) (result i64) (call $f (local.get 0))) (export "again" (func $f)))"#;
    let takes = linked(&realm, wat, &[exported(&gives, "add")]);
    assert_eq!(takes.call("run", &[2]).expect("no trap"), [7]);
    assert_eq!(takes.call("again", &[3]).expect("no trap"), [10]);
    let third = linked(&realm, wat, &[exported(&takes, "again")]);
    assert_eq!(third.call("run", &[1]).expect("no trap"), [11]);
    assert_eq!(gives.global("g"), 11);
}

fn a_function_runs_in_its_own_instance<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let loads = r#"(module (memory 1) (data (i32.const 0) "\07") (func (export "load") (result i32) (i32.load (i32.const 0))))"#;
    let gives = linked(&realm, loads, &[]);
    let wat = r#"(module (import "e" "f" (func $f (result i32))) (memory 1) (data (i32.const 0) "\09")
        (func (export "run") (result i32) (i32.add (i32.mul (call $f) (i32.const 10)) (i32.load (i32.const 0)))))"#;
    assert_eq!(linked(&realm, wat, &[exported(&gives, "load")]).call("run", &[]).expect("no trap"), [79]);
}

fn a_host_function_that_is_exported_stays_that_of_its_instance<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let wat = r#"(module (import "e" "f" (func $f (param i32) (result i32))) (export "f" (func $f))
        (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"#;
    let gives = linked(&realm, wat, &[Import::Host]);
    let takes = linked(&realm, wat, &[exported(&gives, "f")]);
    for guest in [&takes, &gives] {
        let results = guest.call_with("run", &[4], |call| {
            assert_eq!((call.instance, call.import), (gives.index, 0));
            call.slots[0] += 1;
            Ok(())
        });
        assert_eq!(results.expect("no trap"), [5]);
    }
}

fn a_global_is_shared<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let wat = r#"(module (import "e" "g" (global $g (mut i64))) (export "mine" (global $g))
        (func (export "set") (param i64) (global.set $g (local.get 0))))"#;
    let takes = linked(&realm, wat, &[exported(&gives, "g")]);
    takes.call("set", &[77]).expect("no trap");
    assert_eq!((gives.global("g"), takes.global("mine")), (77, 77));
}

fn a_memory_is_shared<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let wat = r#"(module (import "e" "m" (memory 1)) (func (export "set") (param i32) (i32.store8 (i32.const 3) (local.get 0))))"#;
    linked(&realm, wat, &[exported(&gives, "m")]).call("set", &[9]).expect("no trap");
    let mut byte = [0];
    realm.memory_read(gives.memory("m"), 3, &mut byte).expect("in bounds");
    assert_eq!(byte, [9]);
}

const CALLS_TABLE: &str = r#"(module (type $t (func (param i64) (result i64))) (import "e" "t" (table $table 2 funcref))
    (func $double (param i64) (result i64) (i64.mul (local.get 0) (i64.const 2)))
    (elem (i32.const 1) $double)
    (func (export "call") (param i64 i32) (result i64) (call_indirect (type $t) (local.get 0) (local.get 1))))"#;

fn a_table_is_shared<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let takes = linked(&realm, CALLS_TABLE, &[exported(&gives, "t")]);
    assert_eq!(takes.call("call", &[3, 0]).expect("no trap"), [8]);
    assert_eq!(takes.call("call", &[3, 1]).expect("no trap"), [6]);
    assert_eq!(gives.global("g"), 8);
}

fn a_function_of_another_type_is_not_called_through_a_shared_table<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let wat = r#"(module (type $t (func (param i32) (result i32))) (import "e" "t" (table 2 funcref))
        (func (export "call") (param i32) (result i32) (call_indirect (type $t) (i32.const 1) (local.get 0))))"#;
    let takes = linked(&realm, wat, &[exported(&gives, "t")]);
    assert_eq!(takes.trap("call", &[0]), TrapCode::IndirectCallSignature);
    assert_eq!(takes.trap("call", &[1]), TrapCode::IndirectCallNull);
}

fn an_export_has_one_index<E: Engine>(engine: &Arc<E>) {
    let gives = linked(&Realm::new(engine), GIVES, &[]);
    let indices = || {
        ["add", "g", "t", "m"].map(|name| match exported(&gives, name) {
            Import::Func(index) | Import::Global(index) | Import::Table(index) | Import::Memory(index) => index,
            Import::Host | Import::Native(_) => panic!("{name} is no object"),
        })
    };
    assert_eq!((indices(), indices()), ([0; 4], [0; 4]));
}

fn what_is_no_object_of_the_realm_is_not_linked<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    linked(&realm, GIVES, &[]);
    for (import, given) in [
        ("(func)", Import::Func(0)),
        ("(global i32)", Import::Global(1)),
        ("(table 1 funcref)", Import::Table(9)),
        ("(memory 1)", Import::Memory(u32::MAX)),
    ] {
        let error = link(&realm, &format!(r#"(module (import "e" "x" {import}))"#), &[given]).err().expect("no object");
        assert!(error.to_string().starts_with("the realm has no "), "{error}");
    }
}

fn what_has_another_type_is_not_linked<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    for (import, name) in [
        ("(func (param i32))", "add"),
        ("(global i64)", "g"),
        ("(global (mut i32))", "g"),
        ("(table 3 funcref)", "t"),
        ("(table 1 externref)", "t"),
        ("(memory 2)", "m"),
        ("(func)", "m"),
        ("(memory 1)", "t"),
    ] {
        let wat = format!(r#"(module (import "e" "x" {import}))"#);
        let outcome = link(&realm, &wat, &[exported(&gives, name)]).map(drop);
        assert!(matches!(outcome, Err(InstantiateError::Link(_))), "{import}: {outcome:?}");
    }
    assert_eq!(gives.call("add", &[1]).expect("no trap"), [6]);
}

fn a_failed_instance_leaves_its_functions_in_a_shared_table<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, GIVES, &[]);
    let failing = r#"(module (import "e" "t" (table 2 funcref)) (memory 1)
        (func $f (param i64) (result i64) (i64.const 99)) (elem (i32.const 1) $f) (data (i32.const 65536) "x"))"#;
    let outcome = link(&realm, failing, &[exported(&gives, "t")]).map(drop);
    assert!(matches!(outcome, Err(InstantiateError::Segment(_))), "{outcome:?}");
    let calls = r#"(module (type $t (func (param i64) (result i64))) (import "e" "t" (table 2 funcref))
        (func (export "call") (result i64) (call_indirect (type $t) (i64.const 0) (i32.const 1))))"#;
    assert_eq!(linked(&realm, calls, &[exported(&gives, "t")]).call("call", &[]).expect("no trap"), [99]);
}

struct Stopped(Arc<Interrupt>);

impl Host for Stopped {
    fn call(&mut self, _call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        unreachable!("there are no host functions")
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        Some(self.0.clone())
    }
}

fn a_loop_in_another_instance_is_stopped<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let gives = linked(&realm, r#"(module (func (export "spin") (loop (br 0))))"#, &[]);
    let wat = r#"(module (import "e" "f" (func $f)) (func (export "run") (call $f)) (func (export "idle")))"#;
    let takes = linked(&realm, wat, &[exported(&gives, "spin")]);
    let interrupt = Interrupt::new();
    let setting = interrupt.clone();
    let setter = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        setting.set();
    });
    let begin = Instant::now();
    let outcome = realm.call(takes.index, takes.export("run"), &mut [], &mut Stopped(interrupt));
    assert_eq!(outcome.map_err(|trap| trap.code), Err(TrapCode::Interrupted));
    assert!(begin.elapsed() < Duration::from_secs(20));
    setter.join().expect("it sets the interrupt");
    takes.call("idle", &[]).expect("the next call is not stopped");
}

/// Instances on wasmer count for themselves, so those that would share code are refused where something is counted.
fn counted_instances_are_linked_or_refused<E: Engine>(engine: &Arc<E>) {
    let _ = engine;
    for config in [
        EngineConfig { has_fuel: true, ..EngineConfig::default() },
        EngineConfig { recursion_depth: Some(100), ..EngineConfig::default() },
    ] {
        let realm = Realm::new(&engine_with::<E>(&config));
        let gives = linked(&realm, GIVES, &[]);
        let outcome = link(&realm, CALLS_TABLE, &[exported(&gives, "t")]);
        match outcome {
            Ok(takes) => assert_eq!(takes.call("call", &[3, 0]).expect("no trap"), [8]),
            Err(error) => {
                assert!(E::COUNTS_IN_INSTANCES, "{error}");
                assert!(error.to_string().contains("cannot share functions and tables"), "{error}");
            }
        }
        let wat =
            r#"(module (import "e" "g" (global $g (mut i64))) (func (export "get") (result i64) (global.get $g)))"#;
        linked(&realm, wat, &[exported(&gives, "g")]);
    }
}
