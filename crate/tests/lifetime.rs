//! What lives how long: realms are dropped in any order and at any moment, and leave nothing behind; modules are
//! shared by threads.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sandbox_host::{
    engine::Engine,
    module::Module,
    realm::{HostCall, Realm, Version},
};

use crate::guest::{Guest, HostFn, compile, contents, pages};

on_both_engines![
    realms_may_be_dropped_in_any_order,
    a_realm_outlives_the_module_and_the_engine_handle_it_was_made_from,
    a_realm_is_dropped_with_its_last_handle,
    another_realm_may_be_dropped_inside_a_host_call,
    a_realm_may_be_made_and_dropped_inside_a_host_call_of_another,
    a_realm_that_called_back_may_be_dropped_by_the_one_that_it_called,
    threads_share_a_module,
    threads_compile_and_run_at_once,
    instances_are_made_while_another_thread_compiles,
    a_realm_made_while_another_runs_is_independent,
];

const WORKS: &str = r#"(module (import "e" "m" (memory 1)) (import "e" "f" (func $f (param i32) (result i32)))
    (global (mut i32) (i32.const 0)) (table 10 funcref) (elem (i32.const 0) $run)
    (func $run (export "run") (param i32) (result i32)
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (local.get 0)))
        (call $f (i32.load (i32.const 8)))))"#;

/// A realm with a memory and an instance that uses it.
fn working<E: Engine>(engine: &Arc<E>, module: &Arc<Module<E>>) -> Guest<E> {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 16)).expect("a good type");
    Guest::of(&realm, module, Version::V1, &[memory])
}

fn plus_one(call: HostCall<'_>) -> Result<(), sandbox_host::error::HostTrap> {
    call.slots[0] += 1;
    Ok(())
}

fn assert_works<E: Engine>(guest: &Guest<E>) {
    let before = contents(&guest.realm, 0)[8];
    assert_eq!(guest.call_with("run", &[2], plus_one).expect("no trap"), [u64::from(before) + 3]);
}

fn realms_may_be_dropped_in_any_order<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let mut guests: Vec<_> = (0..5).map(|_| Some(working(engine, &module))).collect();
        for at in order {
            guests.iter().flatten().for_each(assert_works);
            guests[at] = None;
        }
    }
}

fn a_realm_outlives_the_module_and_the_engine_handle_it_was_made_from<E: Engine>(_: &Arc<E>) {
    let engine = crate::guest::engine::<E>();
    let module = compile(&*engine, WORKS);
    let guest = working(&engine, &module);
    drop((module, engine));
    assert_works(&guest);
    let Guest { realm, module, index } = guest;
    let run = module.exports.iter().position(|export| export.name == "run").expect("exported") as u32;
    drop(module);
    realm.call(index, run, &mut [0], &mut HostFn(plus_one)).expect("no trap");
}

fn a_realm_is_dropped_with_its_last_handle<E: Engine>(engine: &Arc<E>) {
    let guest = working(engine, &compile(&**engine, WORKS));
    let weak = Rc::downgrade(&guest.realm);
    let other = guest.clone();
    drop(guest);
    assert!(weak.upgrade().is_some());
    assert_works(&other);
    drop(other);
    assert!(weak.upgrade().is_none());
}

fn another_realm_may_be_dropped_inside_a_host_call<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let guest = working(engine, &module);
    let mut others: Vec<_> = (0..3).map(|_| working(engine, &module)).collect();
    for other in &others {
        assert_works(other);
    }
    while !others.is_empty() {
        let call = guest.call_with("run", &[1], |call| {
            drop(others.pop());
            assert_eq!(contents(&guest.realm, 0).len(), 65_536);
            others.iter().for_each(assert_works);
            plus_one(call)
        });
        call.expect("no trap");
    }
    assert_works(&guest);
}

fn a_realm_may_be_made_and_dropped_inside_a_host_call_of_another<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let guest = working(engine, &module);
    for _ in 0..100 {
        let call = guest.call_with("run", &[0], |call| {
            assert_works(&working(engine, &module));
            plus_one(call)
        });
        assert_eq!(call.expect("no trap"), [1]);
    }
}

fn a_realm_that_called_back_may_be_dropped_by_the_one_that_it_called<E: Engine>(engine: &Arc<E>) {
    // The inner realm's only handle is given up while its guest waits; the call that runs keeps it alive.
    let module = compile(&**engine, WORKS);
    let guest = working(engine, &module);
    let shared = RefCell::new(Some(working(engine, &module)));
    let call = guest.call_with("run", &[0], |call| {
        let inner = shared.borrow().clone().expect("there");
        let weak = Rc::downgrade(&inner.realm);
        let results = inner.call_with("run", &[5], |call| {
            drop(shared.take());
            plus_one(call)
        });
        assert_eq!(results.expect("no trap"), [6]);
        assert_works(&inner);
        drop(inner);
        assert!(weak.upgrade().is_none());
        plus_one(call)
    });
    call.expect("no trap");
    assert_works(&guest);
}

fn threads_share_a_module<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (engine, module, barrier) = (engine.clone(), module.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..100 {
                    let guest = working(&engine, &module);
                    for turn in 1..=20 {
                        assert_eq!(guest.call_with("run", &[1], plus_one).expect("no trap"), [turn + 1]);
                    }
                    assert!(guest.call_with("run", &[1], |_| panic!("on purpose")).is_err());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn threads_compile_and_run_at_once<E: Engine>(engine: &Arc<E>) {
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let engine = engine.clone();
            thread::spawn(move || {
                for turn in 0..20 {
                    let number = thread * 100 + turn;
                    let wat = format!(r#"(module (func (export "f") (result i32) (i32.const {number})))"#);
                    assert_eq!(Guest::new(&engine, &wat).call("f", &[]).expect("no trap"), [number]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn instances_are_made_while_another_thread_compiles<E: Engine>(engine: &Arc<E>) {
    // Compiling takes a second for a big module; a JavaScript thread must not stand still meanwhile.
    let mix = "(i64.xor (i64.rotl (i64.mul (local.get 0)) (local.get 0)) (i64.const 0x123456789abcdef))".repeat(150);
    let funcs = format!("(func (param i64) (result i64) (local.get 0) {mix})").repeat(100);
    let big = crate::guest::wasm(&format!("(module {funcs})"));
    let module = compile(&**engine, WORKS);
    let (started, compiled) = (Barrier::new(2), AtomicBool::new(false));
    let made = thread::scope(|scope| {
        scope.spawn(|| {
            started.wait();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(300) {
                assert!(Module::compile(&**engine, &big).is_ok());
            }
            compiled.store(true, Ordering::SeqCst);
        });
        started.wait();
        let mut made = 0;
        while !compiled.load(Ordering::SeqCst) {
            assert_works(&working(engine, &module));
            made += 1;
        }
        made
    });
    assert!(made > 200, "{made} instances");
}

fn a_realm_made_while_another_runs_is_independent<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let guest = working(engine, &module);
    let kept = RefCell::new(None);
    let call = guest.call_with("run", &[0], |call| {
        kept.replace(Some(working(engine, &module)));
        plus_one(call)
    });
    call.expect("no trap");
    drop(guest);
    assert_works(&kept.take().expect("made"));
}

#[cfg(target_os = "linux")]
on_both_engines_alone![
    realms_leave_no_memory_behind,
    instances_of_a_dropped_realm_leave_no_memory_behind,
    calls_leave_no_memory_behind,
    traps_leave_no_memory_behind,
    engines_leave_no_memory_behind,
];

/// How much resident memory grows, per turn, once `turn` has run for a while.
#[cfg(target_os = "linux")]
fn growth_per_turn(turns: u64, mut turn: impl FnMut(u64)) -> u64 {
    (0..turns / 4).for_each(&mut turn);
    let before = crate::guest::resident_bytes();
    (0..turns).for_each(&mut turn);
    crate::guest::resident_bytes().saturating_sub(before) / turns
}

#[cfg(target_os = "linux")]
fn realms_leave_no_memory_behind<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let each = growth_per_turn(20_000, |_| assert_works(&working(engine, &module)));
    assert!(each < 64, "{each} bytes each");
}

#[cfg(target_os = "linux")]
fn instances_of_a_dropped_realm_leave_no_memory_behind<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let each = growth_per_turn(400, |_| {
        let guest = working(engine, &module);
        for _ in 0..50 {
            Guest::of(&guest.realm, &module, Version::V1, &[0]);
        }
    });
    assert!(each < 2048, "{each} bytes for each realm of 50 instances");
}

#[cfg(target_os = "linux")]
fn calls_leave_no_memory_behind<E: Engine>(engine: &Arc<E>) {
    let guest = working(engine, &compile(&**engine, WORKS));
    let each = growth_per_turn(400_000, |_| {
        guest.call_with("run", &[0], plus_one).expect("no trap");
    });
    assert_eq!(each, 0, "bytes for each call");
}

#[cfg(target_os = "linux")]
fn traps_leave_no_memory_behind<E: Engine>(engine: &Arc<E>) {
    use sandbox_host::error::HostTrap;

    let guest = working(engine, &compile(&**engine, WORKS));
    let each = growth_per_turn(100_000, |turn| {
        let fail = |_: HostCall<'_>| match turn % 2 {
            0 => Err(HostTrap::Parked),
            _ => Err(HostTrap::Message("a message that takes memory of its own".to_owned().into())),
        };
        assert!(guest.call_with("run", &[0], fail).is_err());
    });
    assert!(each < 2, "{each} bytes for each host trap");
    let guest = Guest::new(engine, r#"(module (func $f (export "run") unreachable))"#);
    let each = growth_per_turn(20_000, |_| assert!(guest.call("run", &[]).is_err()));
    assert!(each < 8, "{each} bytes for each trap");
}

#[cfg(target_os = "linux")]
fn engines_leave_no_memory_behind<E: Engine>(_: &Arc<E>) {
    let binaries = binaries();
    let each = growth_per_turn(300, |turn| compile_and_run(&crate::guest::engine::<E>(), &binaries[turn as usize % 8]));
    assert!(each < 4096, "{each} bytes for each engine");
}

/// Compiled code must go when its module does: a server compiles more modules in its life than it ever holds. In a
/// process of its own, see `on_both_engines_alone`.
#[cfg(target_os = "linux")]
#[test]
fn modules_of_wasmer_leave_no_memory_behind() {
    crate::guest::alone("core::lifetime::modules_of_wasmer_leave_no_memory_behind", || {
        let (engine, binaries) = (crate::guest::engine::<sandbox_host::engine::wasmer::Wasmer>(), binaries());
        let each = growth_per_turn(300, |turn| compile_and_run(&engine, &binaries[turn as usize % 8]));
        assert!(each < 4096, "{each} bytes for each module");
    });
}

/// wasmi keeps the code of each function that it has ever seen as long as its engine lives. This is to notice when that
/// gets worse, or better.
#[cfg(target_os = "linux")]
#[test]
fn modules_of_wasmi_leave_no_more_behind_than_their_code() {
    crate::guest::alone("core::lifetime::modules_of_wasmi_leave_no_more_behind_than_their_code", || {
        let (engine, binaries) = (crate::guest::engine::<sandbox_host::engine::wasmi::Wasmi>(), binaries());
        let each = growth_per_turn(300, |turn| compile_and_run(&engine, &binaries[turn as usize % 8]));
        let code = binaries[0].len() as u64;
        assert!((code / 2..code * 3 / 2).contains(&each), "{each} bytes for each module of {code} bytes");
    });
}

/// Modules of 10 KB.
#[cfg(target_os = "linux")]
fn binaries() -> Vec<Vec<u8>> {
    let mix = "(i64.xor (i64.rotl (i64.mul (local.get 0)) (local.get 0)) (i64.const 0x123456789abcdef))".repeat(150);
    let funcs = format!("(func (param i64) (result i64) (local.get 0) {mix})").repeat(4);
    let text = |number| format!(r#"(module {funcs} (func (export "f") (result i32) (i32.const {number})))"#);
    (0..8).map(|number| crate::guest::wasm(&text(number))).collect()
}

#[cfg(target_os = "linux")]
fn compile_and_run<E: Engine>(engine: &Arc<E>, binary: &[u8]) {
    let module = Arc::new(Module::compile(&**engine, binary).expect("valid"));
    let guest = Guest::of(&Realm::new(engine), &module, Version::V1, &[]);
    assert!(guest.call("f", &[]).expect("no trap")[0] < 8);
}
