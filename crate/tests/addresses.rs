//! How many addresses memories take of the process, and what happens when it has no more. Each test has a process of its own.

#![cfg(target_os = "linux")]

use std::{fs, rc::Rc, sync::Arc};

use sandbox_host::{
    engine::{Engine, EngineConfig, StoreLimits, wasmer::Wasmer},
    error::{CompileError, InstantiateError, MemoryError},
    module::Module,
    realm::Realm,
    value::{MAX_PAGES, MemoryType, PAGE_BYTES},
};

use crate::guest::{Guest, alone, compile, engine, engine_with, pages, resident_bytes, wasm};

on_both_engines_alone![
    a_memory_reserves_what_maximum_and_limit_allow,
    there_can_be_many_thousand_small_memories,
    guests_run_under_a_limit_of_addresses,
    running_out_of_addresses_is_no_fault_of_the_module,
    the_largest_memory_takes_no_memory_until_it_is_used,
];

const MIB: u64 = 1 << 20;

/// How many addresses this process has taken, in bytes.
fn addresses() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find(|line| line.starts_with("VmSize:")).expect("a line for addresses");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}

/// Lets this process have so many addresses more, in bytes.
fn limit_addresses(more: u64) {
    let limit = libc::rlimit { rlim_cur: addresses() + more, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads `limit`, which is of the type that it wants.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

fn limited<E: Engine>(engine: &Arc<E>, memory_bytes: u64) -> Rc<Realm<E>> {
    Realm::with_limits(engine, StoreLimits { memory_bytes: Some(memory_bytes), ..StoreLimits::default() })
}

fn exact<E: Engine>() -> Arc<E> {
    engine_with(&EngineConfig { exact_memories: true, ..EngineConfig::default() })
}

fn a_memory_reserves_what_maximum_and_limit_allow<E: Engine>(_engine: &Arc<E>) {
    let engine = exact::<E>();
    let reserves = |realm: &Rc<Realm<E>>, ty: MemoryType| {
        let before = addresses();
        let memory = realm.new_memory(ty).expect("there is room");
        let region = realm.memory_region(memory).expect("not busy");
        assert_eq!(region.bytes as u64, ty.minimum * PAGE_BYTES);
        (addresses() - before) / MIB
    };
    let free = Realm::new(&engine);
    // The first one may find other things to be made.
    reserves(&free, pages(1, 1));
    for (ty, mib) in
        [(pages(1, 1), 0), (pages(0, 16 * 100), 100), (pages(16 * 64, 16 * 100), 100), (pages(1, None), 4096)]
    {
        assert!((mib..mib + 2).contains(&reserves(&free, ty)), "{ty:?}");
    }
    let limited = limited(&engine, 50 * MIB);
    for (ty, mib) in [(pages(1, 1), 0), (pages(1, 16 * 100), 50), (pages(1, None), 50), (pages(1, 16 * 20), 20)] {
        assert!((mib..mib + 2).contains(&reserves(&limited, ty)), "{ty:?}");
    }
}

fn there_can_be_many_thousand_small_memories<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let module = compile(
        &**engine,
        r#"(module (import "e" "m" (memory 1))
            (func (export "add") (result i32)
                (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
                (i32.load8_u (i32.const 0)))
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#,
    );
    // As long as addresses are plenty wasmer reserves 8 GiB for each, of which 16,384 are all that there are.
    let memories: Vec<u32> = (0..25_000).map(|_| realm.new_memory(pages(1, 1)).expect("there is room")).collect();
    for memory in [0, 1, 4094, 4095, 4096, 4097, 16_383, 16_384, 24_999] {
        let guest = Guest::of(&realm, &module, None, &[memories[memory]]);
        assert_eq!(guest.call("add", &[]).expect("in bounds"), [1], "{memory}");
        assert_eq!(guest.call("add", &[]).expect("in bounds"), [2], "{memory}");
        assert!(guest.call("load", &[PAGE_BYTES]).is_err(), "{memory}");
    }
}

fn guests_run_under_a_limit_of_addresses<E: Engine>(_engine: &Arc<E>) {
    limit_addresses(512 * MIB);
    let engine = engine::<E>();
    let sum = r#"(func (export "sum") (result i32) (local $at i32) (local $sum i32)
        (loop $next
            (i32.store8 (local.get $at) (i32.const 1))
            (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 65536))))
        (local.get $sum))"#;
    // By its own maximum, by that of what it imports, and by a limit.
    let own = Guest::new(&engine, &format!("(module (memory 1 16) {sum})"));
    let realm = Realm::new(&engine);
    let memory = realm.new_memory(pages(1, 16)).expect("there is room");
    let importing = format!(r#"(module (import "e" "m" (memory 1)) {sum})"#);
    let importing = Guest::linked(&realm, None, &importing, &[memory]);
    let limited = Guest::linked(&limited(&engine, 64 * MIB), None, &format!("(module (memory 1) {sum})"), &[]);
    for guest in [own, importing, limited] {
        assert_eq!(guest.call("sum", &[]).expect("no trap"), [65_536]);
    }
}

fn running_out_of_addresses_is_no_fault_of_the_module<E: Engine>(_engine: &Arc<E>) {
    limit_addresses(512 * MIB);
    let engine = engine::<E>();
    let realm = Realm::new(&engine);
    let error = realm.new_memory(pages(1, None)).expect_err("4 GiB");
    assert!(matches!(&error, MemoryError::Allocation(_)), "{error}");
    assert!(error.to_string().contains("no room") && error.to_string().contains("memoryBytes"), "{error}");
    if E::NAME == "wasmer" {
        // wasmi allocates what a guest's own memory has, and no more.
        let module = compile(&*engine, "(module (memory 1))");
        let error = realm.instantiate(&module, None, &[]).expect_err("4 GiB");
        assert!(matches!(&error, InstantiateError::Allocation(_)), "{error}");
        assert!(error.to_string().contains("no room") && error.to_string().contains("memoryBytes"), "{error}");
    }
    let module = compile(&*engine, "(module (memory 16384))");
    let error = realm.instantiate(&module, None, &[]).expect_err("1 GiB");
    assert!(matches!(&error, InstantiateError::Allocation(_)), "{error}");
    let small = Guest::linked(&realm, None, "(module (memory 1 1))", &[]);
    let mut memories = 0;
    let error = loop {
        match realm.new_memory(pages(1, 16)) {
            Ok(_) => memories += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, MemoryError::Allocation(_)) && memories > 100, "{memories}: {error}");
    drop((small, realm));
    Guest::new(&engine, "(module (memory 16 16))");
}

fn the_largest_memory_takes_no_memory_until_it_is_used<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let before = resident_bytes();
    let memory = realm.new_memory(pages(MAX_PAGES, None)).expect("there are addresses for 4 GiB");
    let mut last = [1];
    realm.memory_read(memory, MAX_PAGES * PAGE_BYTES - 1, &mut last).expect("in bounds");
    let growing = realm.new_memory(pages(0, None)).expect("there are addresses for 4 GiB");
    realm.memory_grow(growing, MAX_PAGES).expect("up to 4 GiB");
    assert_eq!(last, [0]);
    assert!(resident_bytes() - before < 64 * MIB, "{} MiB", (resident_bytes() - before) / MIB);
}

/// wasmer only: wasmi makes no machine code.
#[test]
fn a_module_that_finds_no_room_for_its_code_is_not_at_fault() {
    alone(concat!(module_path!(), "::a_module_that_finds_no_room_for_its_code_is_not_at_fault"), || {
        let most = fs::read_to_string("/proc/sys/vm/max_map_count").expect("Linux has /proc");
        if most.trim().parse::<u32>().expect("a number") > 200_000 {
            // It would take long to use up so many mappings.
            return;
        }
        let engine = exact::<Wasmer>();
        let wasm = wasm(r#"(module (func (export "f") (result i32) (i32.const 7)))"#);
        let realm = Realm::new(&engine);
        let error = loop {
            if let Err(error) = realm.new_memory(pages(1, 1)) {
                break error;
            }
        };
        assert!(matches!(&error, MemoryError::Allocation(_)), "{error}");
        let error = Module::compile(&*engine, &wasm).err().expect("there are no mappings left");
        assert!(matches!(error, CompileError::Allocation(_)), "{error}");
        drop(realm);
        let module = Module::compile(&*engine, &wasm).expect("there is room");
        let guest = Guest::of(&Realm::new(&engine), &Arc::new(module), None, &[]);
        assert_eq!(guest.call("f", &[]).expect("no trap"), [7]);
    });
}

/// wasmer only: wasmi has one kind of code.
#[test]
fn a_module_runs_with_memories_of_either_kind() {
    alone(concat!(module_path!(), "::a_module_runs_with_memories_of_either_kind"), || {
        let engine = engine::<Wasmer>();
        let module = compile(
            &*engine,
            r#"(module (import "e" "m" (memory 1)) (memory $own 1 2)
                (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
                (func (export "grow") (result i32) (memory.grow (i32.const 1)))
                (func (export "load own") (param i32) (result i32) (i32.load8_u $own (local.get 0))))"#,
        );
        let realm = Realm::new(&engine);
        let guarded = realm.new_memory(pages(1, 2)).expect("there is room");
        let assert_works = |memory: u32| {
            let size = realm.memory_region(memory).expect("not busy").bytes as u64;
            let guest = Guest::of(&realm, &module, None, &[memory]);
            for name in ["load", "load own"] {
                assert_eq!(guest.call(name, &[PAGE_BYTES - 1]).expect("in bounds"), [0]);
            }
            assert!(guest.call("load own", &[PAGE_BYTES]).is_err());
            assert!(guest.call("load", &[size]).is_err());
        };
        assert_works(guarded);
        let others = Realm::new(&engine);
        let is_guarded = |realm: &Rc<Realm<Wasmer>>| {
            let before = addresses();
            realm.new_memory(pages(1, 2)).expect("there is room");
            addresses() - before > 8 << 30
        };
        let count = (0..10_000).take_while(|_| is_guarded(&others)).count();
        assert!((1000..10_000).contains(&count), "{count}");
        // Its own memory is of the other kind than the one that it imports.
        assert_works(guarded);
        let checked = realm.new_memory(pages(1, 2)).expect("there is room");
        assert_works(checked);
        drop(others);
        assert!(is_guarded(&realm));
        assert_works(guarded);
        assert_works(checked);
    });
}
