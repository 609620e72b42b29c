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
    engine::{Engine, StoreLimits},
    module::Module,
    realm::{HostCall, Realm},
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
    a_renewed_memory_keeps_contents_place_size_and_maximum,
    a_renewed_memory_grows_as_before_by_the_host_and_by_guests,
    a_renewed_memory_is_shared_by_all_instances_made_afterwards,
    a_realm_is_renewed_again_and_again,
    memories_that_are_not_kept_go_and_the_others_close_ranks,
    an_empty_memory_is_renewed,
    a_memory_that_moves_when_it_grows_is_not_renewed_if_it_may_not_move,
    a_realm_is_not_renewed_with_a_memory_that_an_instance_has_made,
    a_memory_that_an_instance_has_made_stays_behind_with_its_bytes,
    a_realm_is_not_renewed_while_a_guest_runs,
    a_renewed_realm_keeps_its_limits,
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
    Guest::of(&realm, module, None, &[memory])
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

const PAGE: u64 = 65_536;

/// Renews a realm, with memory 0 alone.
fn renewed<E: Engine>(realm: &Rc<Realm<E>>) -> Rc<Realm<E>> {
    realm.renew(&[0], true).expect("no guest runs")
}

fn a_renewed_memory_keeps_contents_place_size_and_maximum<E: Engine>(engine: &Arc<E>) {
    for maximum in [Some(9), None] {
        let realm = Realm::new(engine);
        realm.new_memory(pages(1, maximum)).expect("a good type");
        realm.memory_grow(0, 3).expect("below the maximum");
        // Sparse: whole pages of the system between them stay untouched, and the last byte counts.
        for (address, byte) in [(0, 1), (4095, 2), (4096, 3), (100_000, 4), (4 * PAGE - 1, 5)] {
            realm.memory_write(0, address, &[byte]).expect("in bounds");
        }
        let (bytes, region) = (contents(&realm, 0), realm.memory_region(0));
        let renewed = renewed(&realm);
        drop(realm);
        assert_eq!(contents(&renewed, 0), bytes);
        assert_eq!(renewed.memory_region(0), region);
        assert_eq!(renewed.memory_type(0).expect("not busy").maximum, maximum);
        assert_eq!(renewed.memory_count(), 1);
        assert!(!renewed.has_instances());
    }
}

const GROWS: &str = r#"(module (import "e" "m" (memory 1)) (export "m" (memory 0))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))"#;

fn a_renewed_memory_grows_as_before_by_the_host_and_by_guests<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    realm.new_memory(pages(1, 6)).expect("a good type");
    Guest::linked(&realm, None, GROWS, &[0]).call("grow", &[1]).expect("no trap");
    let realm = renewed(&realm);
    assert_eq!(realm.memory_grow(0, 1).expect("below the maximum"), 2);
    assert!(realm.memory_grow(0, 4).is_err());
    let guest = Guest::linked(&realm, None, GROWS, &[0]);
    assert_eq!(guest.call("grow", &[1]).expect("no trap"), [3]);
    assert_eq!(guest.call("grow", &[3]).expect("no trap"), [u64::from(u32::MAX)]);
    assert_eq!(guest.call("load", &[4 * PAGE - 1]).expect("in bounds"), [0]);
    let realm = renewed(&realm);
    assert_eq!(realm.memory_grow(0, 2).expect("exactly the maximum"), 4);
    assert!(contents(&realm, 0).iter().all(|byte| *byte == 0));
}

fn a_renewed_memory_is_shared_by_all_instances_made_afterwards<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    realm.new_memory(pages(1, 6)).expect("a good type");
    Guest::linked(&realm, None, GROWS, &[0]).call("store", &[7, 70]).expect("in bounds");
    let realm = renewed(&realm);
    let guests: Vec<_> = (0..3).map(|_| Guest::linked(&realm, None, GROWS, &[0])).collect();
    for (place, guest) in guests.iter().enumerate() {
        assert_eq!(guest.memory("m"), 0);
        guest.call("store", &[100 + place as u64, place as u64 + 1]).expect("in bounds");
    }
    guests[0].call("grow", &[2]).expect("no trap");
    for guest in &guests {
        assert_eq!([100, 101, 102, 7].map(|at| guest.call("load", &[at]).expect("in bounds")[0]), [1, 2, 3, 70]);
        assert_eq!(guest.call("load", &[3 * PAGE - 1]).expect("in bounds"), [0]);
    }
    assert_eq!(contents(&realm, 0)[100..103], [1, 2, 3]);
}

fn a_realm_is_renewed_again_and_again<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let mut guest = working(engine, &module);
    let region = guest.realm.memory_region(0);
    for turn in 0..50 {
        assert_works(&guest);
        assert_eq!(u64::from(contents(&guest.realm, 0)[8]), 2 * (turn + 1));
        let realm = renewed(&guest.realm);
        guest = Guest::of(&realm, &module, None, &[0]);
        assert_eq!(realm.memory_region(0), region);
    }
}

fn memories_that_are_not_kept_go_and_the_others_close_ranks<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for number in 0..5 {
        let memory = realm.new_memory(pages(1, 2)).expect("a good type");
        realm.memory_write(memory, 0, &[number]).expect("in bounds");
    }
    let renewed = realm.renew(&[1, 4], true).expect("no guest runs");
    assert_eq!(renewed.memory_count(), 2);
    assert_eq!([0, 1].map(|memory| contents(&renewed, memory)[0]), [1, 4]);
    drop(realm);
    assert_eq!([0, 1].map(|memory| contents(&renewed, memory)[0]), [1, 4]);
}

fn an_empty_memory_is_renewed<E: Engine>(engine: &Arc<E>) {
    for maximum in [Some(0), Some(2), None] {
        let realm = Realm::new(engine);
        realm.new_memory(pages(0, maximum)).expect("a good type");
        let realm = renewed(&realm);
        assert_eq!(realm.memory_type(0), Ok(pages(0, maximum)));
        assert_eq!(realm.memory_grow(0, 2).is_ok(), maximum != Some(0));
    }
}

fn a_memory_that_moves_when_it_grows_is_not_renewed_if_it_may_not_move<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    // wasmi has no mapping for this one.
    realm.new_memory(pages(0, 0)).expect("a good type");
    realm.new_memory(pages(1, 2)).expect("a good type");
    let is_renewed = realm.renew(&[0, 1], false).is_some();
    assert_eq!(is_renewed, E::NAME == "wasmer");
    if !is_renewed {
        realm.memory_write(1, 0, &[1]).expect("it is here as before");
        assert_eq!(contents(&realm.renew(&[1], false).expect("this one does not move"), 0)[0], 1);
    }
}

const MAKES: &str = r#"(module (import "e" "m" (memory 1)) (memory (export "own") 1 4)
    (func (export "f") (result i32) (i32.load8_u 1 (i32.const 0))))"#;

fn a_realm_is_not_renewed_with_a_memory_that_an_instance_has_made<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    realm.new_memory(pages(1, 16)).expect("a good type");
    let guest = Guest::linked(&realm, None, MAKES, &[0]);
    let own = guest.memory("own");
    assert!(realm.is_made(0) && !realm.is_made(own) && !realm.is_made(own + 1));
    for kept in [&[0, own][..], &[own], &[own + 1]] {
        assert!(realm.renew(kept, true).is_none(), "{kept:?}");
    }
    realm.memory_write(own, 0, &[5]).expect("it is here as before");
    assert_eq!(guest.call("f", &[]).expect("no trap"), [5]);
}

fn a_memory_that_an_instance_has_made_stays_behind_with_its_bytes<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    realm.new_memory(pages(1, 16)).expect("a good type");
    realm.memory_write(0, 0, &[1]).expect("in bounds");
    let own = Guest::linked(&realm, None, MAKES, &[0]).memory("own");
    realm.memory_write(own, 0, &[2]).expect("in bounds");
    let renewed = renewed(&realm);
    realm.empty_memories(&[0]);
    assert_eq!((contents(&renewed, 0)[0], contents(&realm, own)[0]), (1, 2));
    assert_eq!(contents(&realm, 0), []);
    assert_eq!(realm.memory_grow(own, 1).expect("below the maximum"), 1);
    let guest = Guest::linked(&renewed, None, MAKES, &[0]);
    drop(realm);
    assert_eq!(contents(&renewed, guest.memory("own"))[0], 0);
    assert_eq!(contents(&renewed, 0)[0], 1);
}

fn a_realm_is_not_renewed_while_a_guest_runs<E: Engine>(engine: &Arc<E>) {
    let guest = working(engine, &compile(&**engine, WORKS));
    let call = guest.call_with("run", &[2], |call| {
        assert!(guest.realm.renew(&[0], true).is_none());
        plus_one(call)
    });
    call.expect("no trap");
    assert_works(&guest);
    assert!(guest.realm.renew(&[0], true).is_some());
}

fn a_renewed_realm_keeps_its_limits<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::with_limits(engine, StoreLimits { memory_bytes: Some(2 * PAGE), ..StoreLimits::default() });
    realm.new_memory(pages(1, None)).expect("within the limit");
    let realm = renewed(&realm);
    assert!(realm.memory_grow(0, 2).is_err());
    let guest = Guest::linked(&realm, None, GROWS, &[0]);
    assert_eq!(guest.call("grow", &[2]).expect("no trap"), [u64::from(u32::MAX)]);
    assert_eq!(guest.call("grow", &[1]).expect("no trap"), [1]);
    assert!(realm.new_memory(pages(3, None)).is_err());
}

#[cfg(target_os = "linux")]
on_both_engines_alone![
    realms_leave_no_memory_behind,
    instances_of_a_dropped_realm_leave_no_memory_behind,
    calls_leave_no_memory_behind,
    traps_leave_no_memory_behind,
    engines_leave_no_memory_behind,
    instances_of_a_memory_that_is_renewed_leave_no_memory_behind,
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
            Guest::of(&guest.realm, &module, None, &[0]);
        }
    });
    assert!(each < 2048, "{each} bytes for each realm of 50 instances");
}

#[cfg(target_os = "linux")]
fn instances_of_a_memory_that_is_renewed_leave_no_memory_behind<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, WORKS);
    let mut realm = Realm::new(engine);
    realm.new_memory(pages(1, 16)).expect("a good type");
    let each = growth_per_turn(2000, |_| {
        for _ in 0..20 {
            assert_works(&Guest::of(&realm, &module, None, &[0]));
        }
        realm.memory_write(0, 8, &[0]).expect("in bounds");
        realm = realm.renew(&[0], false).expect("no guest runs");
    });
    assert!(each < 512, "{each} bytes for each renewal after 20 instances");
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
    let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
    assert!(guest.call("f", &[]).expect("no trap")[0] < 8);
}
