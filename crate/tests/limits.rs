//! Limits, exact at the boundary: memories, tables, the depth of calls.

use std::{rc::Rc, sync::Arc};

use sandbox_host::{
    engine::{Engine, EngineConfig, MAX_TABLE_ELEMENTS, StoreLimits, features::Features, wasmer::Wasmer, wasmi::Wasmi},
    error::{InstantiateError, MemoryError, TrapCode},
    module::Module,
    realm::{Realm, move_memory},
    total::TotalBytes,
    value::PAGE_BYTES,
};

use crate::guest::{Guest, compile, engine_with, imports, pages, wasm};

on_both_engines![
    a_memory_begins_and_grows_within_the_limit_only,
    a_guests_own_memory_is_limited_alike,
    a_limit_between_two_pages_counts_whole_pages,
    a_table_begins_and_grows_within_the_limit_only,
    a_table_without_a_limit_has_one_all_the_same,
    a_total_bounds_the_memories_of_all_stores_together,
    a_total_counts_what_guests_begin_with_and_grow_by,
    a_total_counts_tables_by_their_elements,
    bytes_count_once_wherever_their_memory_goes,
    what_fails_counts_no_longer_than_its_store,
    a_total_holds_on_several_threads_at_once,
    calls_are_as_deep_as_they_may_be,
    host_calls_do_not_count_as_depth,
    a_nested_call_counts_from_the_beginning,
    a_feature_that_is_off_is_refused,
];

fn limited<E: Engine>(engine: &Arc<E>, memory_bytes: u64, table_elements: u32) -> Rc<Realm<E>> {
    let limits = StoreLimits { memory_bytes: Some(memory_bytes), table_elements: Some(table_elements), total: None };
    Realm::with_limits(engine, limits)
}

fn a_memory_begins_and_grows_within_the_limit_only<E: Engine>(engine: &Arc<E>) {
    let realm = limited(engine, 3 * PAGE_BYTES, 0);
    let error = realm.new_memory(pages(4, None)).expect_err("one page too many");
    assert!(matches!(error, MemoryError::Limit { bytes, limit } if (bytes, limit) == (4 * PAGE_BYTES, 3 * PAGE_BYTES)));
    realm.new_memory(pages(3, None)).expect("just as much");
    for maximum in [None, Some(2), Some(3), Some(100)] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a small one");
        let most = maximum.unwrap_or(u64::MAX).min(3);
        assert_eq!(realm.memory_grow(memory, most - 1).expect("up to the limit"), 1);
        let error = realm.memory_grow(memory, 1).expect_err("one more").to_string();
        assert!(maximum == Some(2) || error.contains("196608"), "{error}");
        assert_eq!(realm.memory_grow(memory, 0).expect("none"), most);
        let guest = Guest::linked(
            &realm,
            None,
            r#"(module (import "e" "m" (memory 1))
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
            &[realm.new_memory(pages(1, maximum)).expect("a small one")],
        );
        assert_eq!(guest.call("grow", &[most]).expect("no trap"), [u64::from(u32::MAX)], "{maximum:?}");
        assert_eq!(guest.call("grow", &[most - 1]).expect("no trap"), [1]);
        assert_eq!(guest.call("grow", &[1]).expect("no trap"), [u64::from(u32::MAX)]);
        assert_eq!(guest.call("grow", &[0]).expect("no trap"), [most]);
    }
}

fn a_guests_own_memory_is_limited_alike<E: Engine>(engine: &Arc<E>) {
    let realm = limited(engine, 3 * PAGE_BYTES, 0);
    let own = |declared: &str| {
        format!(
            r#"(module (memory (export "m") {declared})
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#
        )
    };
    for declared in ["1", "1 100", "3"] {
        let guest = Guest::linked(&realm, None, &own(declared), &[]);
        let begins = guest.call("grow", &[0]).expect("no trap")[0];
        assert_eq!(guest.call("grow", &[4 - begins]).expect("no trap"), [u64::from(u32::MAX)]);
        assert_eq!(guest.call("grow", &[3 - begins]).expect("no trap"), [begins]);
        assert_eq!(guest.call("grow", &[1]).expect("no trap"), [u64::from(u32::MAX)]);
        assert!(realm.memory_grow(guest.memory("m"), 1).is_err(), "nor may the host");
    }
    let module = compile(&**engine, &own("4"));
    let error = realm.instantiate(&module, None, &[]).expect_err("too large from the start");
    assert!(matches!(error, InstantiateError::Limit { .. }), "{error}");
    assert_eq!(error.to_string(), "a memory of 262144 bytes exceeds the limit of 196608");
}

fn a_limit_between_two_pages_counts_whole_pages<E: Engine>(engine: &Arc<E>) {
    let realm = limited(engine, 2 * PAGE_BYTES - 1, 0);
    let memory = realm.new_memory(pages(1, None)).expect("one page");
    assert!(realm.memory_grow(memory, 1).is_err());
    assert!(realm.new_memory(pages(2, None)).is_err());
    assert!(limited(engine, 0, 0).new_memory(pages(0, None)).is_ok());
}

fn a_table_begins_and_grows_within_the_limit_only<E: Engine>(engine: &Arc<E>) {
    let realm = limited(engine, 0, 10);
    let with_table = |declared: &str| {
        format!(
            r#"(module (table {declared} funcref)
                (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0)))
                (func (export "size") (result i32) (table.size 0)))"#
        )
    };
    for declared in ["4", "4 1000", "10"] {
        let guest = Guest::linked(&realm, None, &with_table(declared), &[]);
        let begins = guest.call("size", &[]).expect("no trap")[0];
        assert_eq!(guest.call("grow", &[11 - begins]).expect("no trap"), [u64::from(u32::MAX)]);
        assert_eq!(guest.call("grow", &[10 - begins]).expect("no trap"), [begins]);
        assert_eq!(guest.call("grow", &[1]).expect("no trap"), [u64::from(u32::MAX)]);
        assert_eq!(guest.call("size", &[]).expect("no trap"), [10]);
    }
    let module = compile(&**engine, &with_table("11"));
    let error = realm.instantiate(&module, None, &[]).expect_err("too large from the start");
    assert_eq!(error.to_string(), "a table of 11 elements exceeds the limit of 10");
}

fn a_table_without_a_limit_has_one_all_the_same<E: Engine>(engine: &Arc<E>) {
    let with_table = |elements: u32| {
        format!(
            r#"(module (table {elements} funcref)
                (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0))))"#
        )
    };
    let guest = Guest::new(engine, &with_table(1));
    for delta in [0xffff_fff0, 0x7fff_ffff, MAX_TABLE_ELEMENTS] {
        assert_eq!(guest.call("grow", &[delta.into()]).expect("no trap"), [u64::from(u32::MAX)], "{delta}");
    }
    assert_eq!(guest.call("grow", &[1000]).expect("no trap"), [1]);
    let module = compile(&**engine, &with_table(MAX_TABLE_ELEMENTS + 1));
    let error = Realm::new(engine).instantiate(&module, None, &[]).expect_err("too large from the start");
    assert_eq!(error.to_string(), "a table of 10000001 elements exceeds the limit of 10000000");
}

const FAILED: u64 = u32::MAX as u64;

fn counted<E: Engine>(engine: &Arc<E>, total: &Arc<TotalBytes>) -> Rc<Realm<E>> {
    Realm::with_limits(engine, StoreLimits { total: Some(total.clone()), ..StoreLimits::default() })
}

fn a_total_bounds_the_memories_of_all_stores_together<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(4 * PAGE_BYTES);
    let (first, second) = (counted(engine, &total), counted(engine, &total));
    let a = first.new_memory(pages(1, None)).expect("1 of 4");
    let b = second.new_memory(pages(2, Some(3))).expect("3 of 4");
    let error = second.new_memory(pages(2, None)).expect_err("5 of 4").to_string();
    assert_eq!(error, "131072 more bytes are asked for, 196608 are in use, and limits.totalBytes is 262144");
    let error = first.memory_grow(a, 2).expect_err("5 of 4").to_string();
    assert!(error.contains("131072 more bytes are asked for") && error.contains("262144"), "{error}");
    assert_eq!(first.memory_grow(a, 1).expect("4 of 4"), 1);
    assert_eq!(total.used(), 4 * PAGE_BYTES);
    first.new_memory(pages(0, None)).expect("it takes nothing");
    assert_eq!(second.memory_grow(b, 0).expect("nor does this"), 2);
    drop(first);
    assert_eq!(total.used(), 2 * PAGE_BYTES);
    assert!(second.memory_grow(b, 2).is_err(), "beyond its own maximum");
    assert_eq!(total.used(), 2 * PAGE_BYTES);
    assert_eq!(second.memory_grow(b, 1).expect("up to it"), 2);
    drop(second);
    assert_eq!(total.used(), 0);
}

fn a_total_counts_what_guests_begin_with_and_grow_by<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(5 * PAGE_BYTES);
    let realm = counted(engine, &total);
    let imported = realm.new_memory(pages(1, Some(2))).expect("1 of 5");
    let wat = r#"(module (import "e" "m" (memory 1)) (memory (export "own") 2)
        (func (export "grow") (param i32) (result i32) (memory.grow 1 (local.get 0)))
        (func (export "grow imported") (param i32) (result i32) (memory.grow 0 (local.get 0)))
        (func $start (drop (memory.grow 1 (i32.const 1)))) (start $start))"#;
    let module = compile(&**engine, wat);
    let guest = Guest::of(&realm, &module, None, &[imported]);
    assert_eq!(total.used(), 3 * PAGE_BYTES);
    realm.start(guest.index, &mut crate::guest::no_host()).expect("it does not trap");
    assert_eq!(total.used(), 4 * PAGE_BYTES);
    let error = realm.instantiate(&module, None, &imports(&module, &[imported])).expect_err("6 of 5");
    assert_eq!(
        error.to_string(),
        "131072 more bytes are asked for, 262144 are in use, and limits.totalBytes is 327680"
    );
    assert_eq!(total.used(), 4 * PAGE_BYTES, "nothing came of it");
    assert_eq!(guest.call("grow", &[2]).expect("no trap"), [FAILED]);
    assert_eq!(guest.call("grow imported", &[1]).expect("no trap"), [1]);
    assert_eq!(guest.call("grow", &[1]).expect("no trap"), [FAILED]);
    assert_eq!(guest.call("grow imported", &[1]).expect("no trap"), [FAILED], "also beyond its maximum");
    assert_eq!(guest.call("grow", &[0]).expect("no trap"), [3]);
    assert_eq!(total.used(), 5 * PAGE_BYTES);
    drop((guest, realm));
    assert_eq!(total.used(), 0);
}

fn a_total_counts_tables_by_their_elements<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(8 * 100);
    let wat = r#"(module (table $a 30 60 funcref) (table $b 10 externref) (table $fixed 20 20 funcref)
        (func $f) (elem declare func $f)
        (func (export "a") (param i32) (result i32) (table.grow $a (ref.func $f) (local.get 0)))
        (func (export "b") (param i32) (result i32) (table.grow $b (ref.null extern) (local.get 0)))
        (func (export "fixed") (param i32) (result i32) (table.grow $fixed (ref.null func) (local.get 0)))
        (func (export "call") (param i32) (call_indirect $a (local.get 0)))
        (func (export "sizes") (result i32 i32) (table.size $a) (table.size $b)))"#;
    let guest = Guest::linked(&counted(engine, &total), None, wat, &[]);
    assert_eq!(total.used(), 8 * 60);
    assert_eq!(guest.call("a", &[31]).expect("no trap"), [FAILED], "beyond its maximum");
    assert_eq!(guest.call("b", &[41]).expect("no trap"), [FAILED], "beyond the total");
    assert_eq!(guest.call("fixed", &[1]).expect("no trap"), [FAILED]);
    assert_eq!(guest.call("a", &[0xffff_ffff]).expect("no trap"), [FAILED]);
    assert_eq!(total.used(), 8 * 60);
    assert_eq!(guest.call("a", &[30]).expect("no trap"), [30]);
    guest.call("call", &[59]).expect("the new elements are what they should be");
    assert_eq!(guest.call("b", &[10]).expect("no trap"), [10]);
    assert_eq!(guest.call("b", &[1]).expect("no trap"), [FAILED]);
    assert_eq!(guest.call("b", &[0]).expect("no trap"), [20]);
    assert_eq!(guest.call("sizes", &[]).expect("no trap"), [60, 20]);
    let module = guest.module.clone();
    drop(guest);
    assert_eq!(total.used(), 0);
    let _whole = Guest::of(&counted(engine, &total), &module, None, &[]);
    let error = counted(engine, &total).instantiate(&module, None, &[]).expect_err("120 of 100");
    assert!(matches!(error, InstantiateError::Total(exceeded) if exceeded.asked == 8 * 60), "{error}");
}

fn bytes_count_once_wherever_their_memory_goes<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(3 * PAGE_BYTES);
    let realm = counted(engine, &total);
    let memory = realm.new_memory(pages(1, None)).expect("1 of 3");
    assert_eq!(realm.memory_grow(memory, 1).expect("2 of 3"), 1);
    let own = compile(&**engine, r#"(module (import "e" "m" (memory 1)) (memory 1))"#);
    Guest::of(&realm, &own, None, &[memory]);
    assert_eq!(total.used(), 3 * PAGE_BYTES);
    // Although there is no room for it twice.
    let renewed = realm.renew(&[memory], true).expect("nothing is in use");
    drop(realm);
    assert_eq!(total.used(), 2 * PAGE_BYTES, "without what the instance had");
    assert_eq!(renewed.memory_grow(0, 1).expect("3 of 3"), 2);
    assert!(renewed.memory_grow(0, 1).is_err());
    let other = counted(engine, &total);
    let moved = move_memory(&renewed, 0, &other).expect("it counts once");
    assert_eq!(total.used(), 3 * PAGE_BYTES);
    drop(renewed);
    assert_eq!(total.used(), 3 * PAGE_BYTES);
    assert!(other.memory_grow(moved, 1).is_err());
    drop(other);
    assert_eq!(total.used(), 0);
}

fn what_fails_counts_no_longer_than_its_store<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(2 * PAGE_BYTES);
    let bad = [
        r#"(module (memory 1) (table 8 funcref) (data (i32.const 65536) "x"))"#,
        r#"(module (memory 1) (table 8 funcref) (func $f) (elem (i32.const 8) $f))"#,
        "(module (memory 3))",
        "(module (memory 1) (table 8193 funcref))",
    ];
    for module in bad.map(|wat| compile(&**engine, wat)) {
        for _ in 0..1000 {
            counted(engine, &total).instantiate(&module, None, &[]).expect_err("it is bad");
            assert_eq!(total.used(), 0);
        }
    }
    let wants = compile(&**engine, r#"(module (import "e" "m" (memory 2)) (memory 1))"#);
    let realm = counted(engine, &total);
    let small = realm.new_memory(pages(1, None)).expect("1 of 2");
    realm.instantiate(&wants, None, &imports(&wants, &[small])).expect_err("the memory is too small");
    assert_eq!(total.used(), PAGE_BYTES);
}

fn a_total_holds_on_several_threads_at_once<E: Engine>(engine: &Arc<E>) {
    let total = TotalBytes::new(100 * PAGE_BYTES);
    let module = compile(
        &**engine,
        r#"(module (memory 1) (table 8192 funcref)
            (func (export "memory") (result i32) (memory.grow (i32.const 1)))
            (func (export "table") (result i32) (table.grow (ref.null func) (i32.const 8192))))"#,
    );
    let grown: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let guest = Guest::of(&counted(engine, &total), &module, None, &[]);
                    let calls = (0..100).map(|round| if round % 2 == 0 { "memory" } else { "table" });
                    let grown = calls.filter(|name| guest.call(name, &[]).expect("no trap") != [FAILED]).count();
                    assert!(total.used() <= 100 * PAGE_BYTES);
                    (guest.realm.limits().total.is_some(), grown as u64 + 2)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").1).sum()
    });
    assert!(grown >= 100, "{grown}");
    assert_eq!(total.used(), 0);
}

const DEEP: &str = r#"(module (import "e" "f" (func $f))
    (type $t (func (param i32) (result i32)))
    (table 2 funcref) (elem (i32.const 0) $indirect $f)
    (func $direct (export "direct") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (call $direct (i32.sub (local.get 0) (i32.const 1))))
            (else (i32.const 7))))
    (func $indirect (export "indirect") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))
            (else (i32.const 7))))
    (func $early (export "early") (param i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
        (br 0 (call $early (i32.sub (local.get 0) (i32.const 1)))))
    (func $many (export "many") (param i32) (result i32)
        (loop $l (drop (call $direct (i32.const 3)))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i32.const 7))
    (func (export "hosts") (param i32) (result i32)
        (loop $l (call $f) (call_indirect (i32.const 1)) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (call $direct (i32.const 98))))"#;

fn with_depth<E: Engine>(depth: u32) -> Arc<E> {
    engine_with(&EngineConfig { interruptible: true, recursion_depth: Some(depth), ..EngineConfig::default() })
}

fn calls_are_as_deep_as_they_may_be<E: Engine>(_: &Arc<E>) {
    for has_fuel in [false, true] {
        for depth in [1, 2, 100, 5000] {
            let recursion_depth = Some(depth);
            let engine = engine_with::<E>(&EngineConfig { has_fuel, recursion_depth, ..EngineConfig::default() });
            let guest = Guest::new(&engine, DEEP);
            for name in ["direct", "indirect", "early"] {
                let deepest = u64::from(depth) - 1;
                for _ in 0..2 {
                    assert_eq!(guest.call(name, &[deepest]).expect(name), [7], "{name} {depth}");
                    assert_eq!(guest.trap(name, &[deepest + 1]), TrapCode::StackOverflow, "{name} {depth}");
                }
            }
            if depth >= 100 {
                assert_eq!(guest.call("many", &[10_000]).expect("they end before the next begins"), [7]);
            }
        }
    }
}

fn host_calls_do_not_count_as_depth<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&with_depth::<E>(100), DEEP);
    assert_eq!(guest.call_with("hosts", &[1000], |_| Ok(())).expect("deep, not too deep"), [7]);
}

fn a_nested_call_counts_from_the_beginning<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&with_depth::<E>(100), DEEP);
    let nested = guest.clone();
    let outcome = guest.call_with("hosts", &[3], |_| {
        assert_eq!(nested.call("direct", &[99]).expect("it is the first of its call"), [7]);
        assert_eq!(nested.trap("direct", &[100]), TrapCode::StackOverflow);
        Ok(())
    });
    assert_eq!(outcome.expect("the call around it still knows how deep it is"), [7]);
}

fn a_feature_that_is_off_is_refused<E: Engine>(_: &Arc<E>) {
    let modules = [
        ("simd", "(module (func (result v128) (i32x4.splat (i32.const 1))))"),
        (
            "relaxedSimd",
            "(module (func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
        ),
        ("multiMemory", "(module (memory 1) (memory 1))"),
        ("multiValue", "(module (func (result i32 i64) (i32.const 0) (i64.const 0)))"),
        ("bulkMemory", "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))"),
        ("signExtension", "(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))"),
        ("floats", "(module (func (param f32)))"),
        ("mutableGlobals", r#"(module (global (export "g") (mut i32) (i32.const 0)))"#),
        ("extendedConst", "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))"),
        ("saturatingFloatToInt", "(module (func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0))))"),
    ];
    for (name, wat) in modules {
        let features = Features::default().without(name);
        assert!(!features.is_default(), "{name}");
        let without = engine_with::<E>(&EngineConfig { features, ..EngineConfig::default() });
        assert!(Module::compile(&*without, &wasm(wat)).is_err(), "{name}");
        for (other, wat) in modules.iter().filter(|(other, _)| *other != name) {
            // What is about the one is about the other, too.
            if ![("simd", "relaxedSimd"), ("floats", "saturatingFloatToInt")].contains(&(name, other)) {
                let compiled = Module::compile(&*without, &wasm(wat));
                assert!(compiled.is_ok(), "{other} without {name}: {:?}", compiled.err());
            }
        }
    }
}

#[test]
fn both_engines_trap_at_the_same_depth_with_the_same_fuel() {
    fn left<E: Engine>() -> Vec<(u64, bool)> {
        let config = EngineConfig { has_fuel: true, recursion_depth: Some(50), ..EngineConfig::default() };
        let guest = Guest::new(&engine_with::<E>(&config), DEEP);
        (45..55).map(|depth| (depth, guest.call("direct", &[depth]).is_ok())).collect()
    }
    assert_eq!(left::<Wasmi>(), left::<Wasmer>());
}

#[test]
fn machine_code_runs_only_with_the_options_that_it_was_made_with() {
    let plain = engine_with::<Wasmer>(&EngineConfig::default());
    let same = engine_with::<Wasmer>(&EngineConfig::default());
    let metered = engine_with::<Wasmer>(&EngineConfig { has_fuel: true, ..EngineConfig::default() });
    assert_eq!(plain.identity(), same.identity());
    assert_ne!(plain.identity(), metered.identity());
    for engine in [plain, metered] {
        let binary = wasm(DEEP);
        let module = Module::compile(&*engine, &binary).expect("a good module");
        let code = module.machine_code(&engine).expect("wasmer makes it");
        // SAFETY: it was just made, by this engine, of this binary.
        let loaded = Arc::new(unsafe { Module::load(&*engine, &binary, &code) }.expect("it is not damaged"));
        let names =
            |module: &Module<Wasmer>| module.exports.iter().map(|export| export.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&loaded), names(&module));
        let realm = Realm::new(&engine);
        let guest = Guest::of(&realm, &loaded, None, &[]);
        assert_eq!(guest.call("direct", &[10]).expect("it runs"), [7]);
        let _ = imports(&loaded, &[]);
    }
    assert_eq!(engine_with::<Wasmi>(&EngineConfig::default()).identity(), None);
}

/// On wasmer, whose instances reserve 8 GiB, and after a quarter of all addresses 4 GiB, for a memory of their own without a maximum: 47 bits
/// of addresses have room for no more than 28,672.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn running_out_of_address_space_is_not_blamed_on_the_module() {
    crate::guest::alone("core::limits::running_out_of_address_space_is_not_blamed_on_the_module", || {
        let engine = crate::guest::engine::<Wasmer>();
        let module = compile(&*engine, r#"(module (memory 1) (func (export "size") (result i32) memory.size))"#);
        let realm = Realm::new(&engine);
        let refused = (0..29_000).find_map(|_| realm.instantiate(&module, None, &[]).err());
        assert!(matches!(refused, Some(InstantiateError::Allocation(_))), "{refused:?}");
        drop(realm);
        assert_eq!(Guest::of(&Realm::new(&engine), &module, None, &[]).call("size", &[]).expect("there is room"), [1]);
    });
}
