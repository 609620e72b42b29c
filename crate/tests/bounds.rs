//! The bounds of memories, byte by byte: no access of a guest reaches what is not its own, whatever keeps it there. wasmer does that in two
//! ways, so each test runs on wasmi, on wasmer as it is as long as there are plenty of addresses, and on wasmer as it is when they are short.

use std::sync::Arc;

use sandbox_host::{
    engine::{Engine, EngineConfig, StoreLimits, wasmer::Wasmer, wasmi::Wasmi},
    error::{InstantiateError, TrapCode},
    module::Module,
    realm::Realm,
    value::PAGE_BYTES,
};

use crate::guest::{Guest, compile, contents, engine_with, imports, pages, wasm};

macro_rules! in_each_way {
    ($($name:ident),* $(,)?) => {
        mod on_wasmi {
            $(#[test] fn $name() { super::$name(&super::engine::<super::Wasmi>(false)) })*
        }
        mod on_wasmer_with_plenty_of_addresses {
            $(#[test] fn $name() { super::$name(&super::engine::<super::Wasmer>(false)) })*
        }
        mod on_wasmer_short_of_addresses {
            $(#[test] fn $name() { super::$name(&super::engine::<super::Wasmer>(true)) })*
        }
    };
}

in_each_way![
    loads_and_stores_end_at_the_last_byte,
    loads_and_stores_end_at_the_last_byte_of_an_imported_memory,
    no_load_or_store_is_in_the_bounds_of_an_empty_memory,
    bulk_operations_end_at_the_last_byte,
    data_segments_end_at_the_last_byte,
    several_memories_have_bounds_of_their_own,
    a_memory_is_shared_by_modules_that_declare_other_maxima,
    a_memory_that_may_grow_further_than_declared_is_refused,
    a_memory_does_not_move_up_to_four_gib,
];

fn engine<E: Engine>(exact_memories: bool) -> Arc<E> {
    engine_with(&EngineConfig { interruptible: true, exact_memories, ..EngineConfig::default() })
}

const PAGE: u64 = PAGE_BYTES;

/// Each width in which a guest reads and writes, with the expression that makes an i64 of what is read, and that of what is written.
const WIDTHS: [(u64, &str, &str); 7] = [
    (1, "(i64.load8_u {o} (local.get 0))", "(i64.store8 {o} (local.get 0) (i64.const -1))"),
    (2, "(i64.load16_u {o} (local.get 0))", "(i64.store16 {o} (local.get 0) (i64.const -1))"),
    (4, "(i64.extend_i32_u (i32.load {o} (local.get 0)))", "(i32.store {o} (local.get 0) (i32.const -1))"),
    (
        4,
        "(i64.extend_i32_u (i32.reinterpret_f32 (f32.load {o} (local.get 0))))",
        "(f32.store {o} (local.get 0) (f32.reinterpret_i32 (i32.const -1)))",
    ),
    (8, "(i64.load {o} (local.get 0))", "(i64.store {o} (local.get 0) (i64.const -1))"),
    (
        8,
        "(i64x2.extract_lane 0 (v128.load8x8_u {o} (local.get 0)))",
        "(v128.store64_lane {o} 1 (local.get 0) (i64x2.splat (i64.const -1)))",
    ),
    (
        16,
        "(i64x2.extract_lane 0 (v128.load {o} (local.get 0)))",
        "(v128.store {o} (local.get 0) (i64x2.splat (i64.const -1)))",
    ),
];

/// Constant parts of addresses: around what lies behind a memory, and up to the largest.
const OFFSETS: [u64; 12] =
    [0, 1, 7, 4096, PAGE - 16, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 1 << 31, (1 << 32) - 16, (1 << 32) - 1];

/// A module that reads and writes in each way, a few ways at once too, and grows.
fn accessing(memory: &str) -> String {
    let mut text = format!(r#"(module {memory} (func (export "grow") (result i32) (memory.grow (i32.const 1)))"#);
    for (way, (_, load, store)) in WIDTHS.iter().enumerate() {
        for offset in OFFSETS {
            let [load, store] = [load, store].map(|text| text.replace("{o}", &format!("offset={offset}")));
            text += &format!(r#"(func (export "load {way} {offset}") (param i32) (result i64) {load})"#);
            text += &format!(r#"(func (export "store {way} {offset}") (param i32) {store})"#);
            // After an access nearby, which may have been looked at already.
            text += &format!(
                r#"(func (export "again {way} {offset}") (param i32) (result i64) (drop (i32.load8_u (local.get 0))) {load})"#
            );
        }
    }
    text + ")"
}

/// Addresses around which something may be wrong for an access of `width` at `offset` in a memory of `size` bytes.
fn addresses(size: u64, offset: u64, width: u64) -> Vec<u64> {
    let around = [0, size, size.wrapping_sub(offset), size.wrapping_sub(offset).wrapping_sub(width), 1 << 31, 1 << 32];
    let mut addresses: Vec<u64> = around
        .iter()
        .flat_map(|around| [-17, -16, -9, -8, -4, -2, -1, 0, 1, 2, 8].map(|more| around.wrapping_add_signed(more)))
        .filter(|address| *address < 1 << 32)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Tries all of them on the guest's memory, with another memory of the same realm to watch.
fn assert_bounds<E: Engine>(guest: &Guest<E>, memory: u32, watched: u32) {
    let realm = &guest.realm;
    let size = realm.memory_region(memory).expect("not busy").bytes as u64;
    let ones = vec![1; size as usize];
    let watched_before = contents(realm, watched);
    realm.memory_write(memory, 0, &ones).expect("in bounds");
    for (way, (width, ..)) in WIDTHS.into_iter().enumerate() {
        for offset in OFFSETS {
            for address in addresses(size, offset, width) {
                let what = format!("way {way}, {width} bytes at {address} + {offset} of {size}");
                let at = address + offset;
                let is_in = at + width <= size;
                for (kind, is_in) in [("load", is_in), ("again", is_in && address < size)] {
                    match guest.call(&format!("{kind} {way} {offset}"), &[address]) {
                        Ok(results) => {
                            assert!(is_in, "{kind} {what}");
                            let wide = if way == 5 { 0x0001_0001_0001_0001 } else { 0x0101_0101_0101_0101 };
                            assert_eq!(results, [wide & (u64::MAX >> (64 - width.min(8) * 8))], "{kind} {what}");
                        }
                        Err(trap) => {
                            assert_eq!((is_in, trap.code), (false, TrapCode::MemoryOutOfBounds), "{kind} {what}")
                        }
                    }
                }
                let stored = guest.call(&format!("store {way} {offset}"), &[address]);
                assert_eq!(stored.is_ok(), is_in, "store {what}: {stored:?}");
                // What can have been hit, if anything has.
                let from = at.saturating_sub(32).min(size.saturating_sub(64)) as usize;
                let mut near = vec![0; (size as usize - from).min(64 + 32)];
                realm.memory_read(memory, from as u64, &mut near).expect("in bounds");
                let hit = near.iter().filter(|byte| **byte != 1).count();
                assert_eq!(hit as u64, if is_in { width } else { 0 }, "store {what}");
                if is_in {
                    realm.memory_write(memory, at, &ones[..width as usize]).expect("in bounds");
                }
            }
        }
    }
    assert!(contents(realm, memory) == ones, "something else was written to");
    assert!(contents(realm, watched) == watched_before, "another memory was written to");
}

fn loads_and_stores_end_at_the_last_byte<E: Engine>(engine: &Arc<E>) {
    for declared in ["1", "1 3", "2 2"] {
        let realm = Realm::new(engine);
        let guest = Guest::linked(&realm, None, &accessing(&format!(r#"(memory (export "m") {declared})"#)), &[]);
        let (memory, watched) = (guest.memory("m"), realm.new_memory(pages(1, 1)).expect("a good type"));
        assert_bounds(&guest, memory, watched);
        if declared != "2 2" {
            assert_eq!(guest.call("grow", &[]).expect("no trap"), [1]);
            assert_eq!(realm.memory_grow(memory, 1).expect("below the maximum"), 2);
            assert_bounds(&guest, memory, watched);
        }
    }
}

fn loads_and_stores_end_at_the_last_byte_of_an_imported_memory<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    // Made one after the other, so that some of them may lie next to each other.
    let memories = [pages(1, 1), pages(1, 1), pages(1, 3)].map(|ty| realm.new_memory(ty).expect("a good type"));
    for (memory, watched) in [(memories[0], memories[1]), (memories[1], memories[0]), (memories[2], memories[1])] {
        let guest = Guest::linked(&realm, None, &accessing(r#"(import "e" "m" (memory 1))"#), &[memory]);
        assert_bounds(&guest, memory, watched);
    }
    let guest = Guest::linked(&realm, None, &accessing(r#"(import "e" "m" (memory 1))"#), &[memories[2]]);
    assert_eq!(realm.memory_grow(memories[2], 1).expect("below the maximum"), 1);
    assert_bounds(&guest, memories[2], memories[1]);
}

fn no_load_or_store_is_in_the_bounds_of_an_empty_memory<E: Engine>(engine: &Arc<E>) {
    for ty in [pages(0, 0), pages(0, 1), pages(0, None)] {
        let realm = Realm::new(engine);
        let [memory, watched] = [ty, pages(1, 1)].map(|ty| realm.new_memory(ty).expect("a good type"));
        let guest = Guest::linked(&realm, None, &accessing(r#"(import "e" "m" (memory 0))"#), &[memory]);
        assert_bounds(&guest, memory, watched);
    }
}

fn bulk_operations_end_at_the_last_byte<E: Engine>(engine: &Arc<E>) {
    let text = r#"(module (memory (export "m") 1 2) (data $d "0123456789")
        (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
        (func (export "copy to") (param i32 i32) (memory.copy (local.get 0) (i32.const 0) (local.get 1)))
        (func (export "copy from") (param i32 i32) (memory.copy (i32.const 0) (local.get 0) (local.get 1)))
        (func (export "init") (param i32 i32) (memory.init $d (local.get 0) (i32.const 0) (local.get 1)))
        (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#;
    let guest = Guest::new(engine, text);
    let memory = guest.memory("m");
    for _ in 0..2 {
        let size = guest.realm.memory_region(memory).expect("not busy").bytes as u64;
        for operation in ["fill", "copy to", "copy from", "init"] {
            for length in [0, 1, 9, 10, 11, size - 1, size, size + 1, (1 << 32) - 1] {
                for address in addresses(size, 0, length) {
                    let before = contents(&guest.realm, memory);
                    let is_in = address + length <= size
                        && (operation != "init" || length <= 10)
                        && (operation != "copy to" || length <= size);
                    match guest.call(operation, &[address, length]) {
                        Ok(_) => assert!(is_in, "{operation} {length} at {address} of {size}"),
                        Err(trap) => {
                            let outcome = (is_in, trap.code);
                            let what = format!("{operation} {length} at {address} of {size}");
                            assert_eq!(outcome, (false, TrapCode::MemoryOutOfBounds), "{what}");
                            assert!(contents(&guest.realm, memory) == before, "{what}");
                        }
                    }
                }
            }
        }
        guest.call("grow", &[]).expect("no trap");
    }
}

fn data_segments_end_at_the_last_byte<E: Engine>(engine: &Arc<E>) {
    for (offset, is_in) in [(PAGE - 4, true), (PAGE - 3, false), (PAGE, false), ((1 << 32) - 1, false)] {
        for memory in [r#"(memory 1)"#, r#"(import "e" "m" (memory 1))"#] {
            let realm = Realm::new(engine);
            let given = realm.new_memory(pages(1, 2)).expect("a good type");
            let text = format!(r#"(module {memory} (data (i32.const {}) "abcd"))"#, offset as u32 as i32);
            let module = compile(&**engine, &text);
            let made = realm.instantiate(&module, None, &imports(&module, &[given]));
            match made {
                Ok(_) => assert!(is_in, "{offset}"),
                Err(InstantiateError::Segment(trap)) => {
                    assert_eq!((is_in, trap.code), (false, TrapCode::MemoryOutOfBounds), "{offset}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

fn several_memories_have_bounds_of_their_own<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let [small, large] = [pages(1, 1), pages(3, None)].map(|ty| realm.new_memory(ty).expect("a good type"));
    let guest = Guest::linked(
        &realm,
        None,
        r#"(module (import "e" "s" (memory $s 1)) (import "e" "l" (memory $l 1)) (memory $own 2 2)
            (func (export "s") (param i32) (result i32) (i32.load8_u $s (local.get 0)))
            (func (export "l") (param i32) (result i32) (i32.load8_u $l (local.get 0)))
            (func (export "own") (param i32) (result i32) (i32.load8_u $own (local.get 0)))
            (func (export "to own") (param i32 i32) (memory.copy $own $l (i32.const 0) (i32.const 0) (local.get 1))))"#,
        &[small, large],
    );
    for (name, pages) in [("s", 1), ("own", 2), ("l", 3)] {
        assert_eq!(guest.call(name, &[pages * PAGE - 1]).expect("in bounds"), [0]);
        assert_eq!(guest.trap(name, &[pages * PAGE]), TrapCode::MemoryOutOfBounds);
    }
    guest.call("to own", &[0, 2 * PAGE]).expect("in bounds");
    assert_eq!(guest.trap("to own", &[0, 2 * PAGE + 1]), TrapCode::MemoryOutOfBounds);
}

fn a_memory_is_shared_by_modules_that_declare_other_maxima<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 3)).expect("a good type");
    let of = |declared: &str| {
        let text = format!(
            r#"(module (import "e" "m" (memory {declared}))
                (func (export "grow") (result i32) (memory.grow (i32.const 1)))
                (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 7)))
                (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#
        );
        Guest::linked(&realm, None, &text, &[memory])
    };
    let guests = ["1", "1 3", "0 10", "1 65536"].map(of);
    let address = realm.memory_region(memory).expect("not busy").base;
    for (before, grows) in [(1, &guests[0]), (2, &guests[3])] {
        assert_eq!(grows.call("grow", &[]).expect("no trap"), [before]);
        let last = (before + 1) * PAGE - 1;
        for (writes, reads) in guests.iter().zip(guests.iter().cycle().skip(1)) {
            realm.memory_write(memory, last, &[0]).expect("in bounds");
            writes.call("store", &[last]).expect("in bounds");
            assert_eq!(reads.call("load", &[last]).expect("in bounds"), [7]);
            assert_eq!(reads.trap("load", &[last + 1]), TrapCode::MemoryOutOfBounds);
        }
    }
    for guest in &guests {
        assert_eq!(guest.call("grow", &[]).expect("no trap"), [u64::from(u32::MAX)], "the memory's own maximum holds");
    }
    assert_eq!(realm.memory_region(memory).expect("not busy").base, address);
}

fn a_memory_that_may_grow_further_than_declared_is_refused<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let module = compile(&**engine, r#"(module (import "e" "m" (memory 1 3)))"#);
    for (ty, fits) in [(pages(1, 3), true), (pages(1, 2), true), (pages(1, 4), false), (pages(1, None), false)] {
        let memory = realm.new_memory(ty).expect("a good type");
        let made = realm.instantiate(&module, None, &imports(&module, &[memory]));
        assert_eq!(made.is_ok(), fits, "{ty:?}: {made:?}");
    }
}

fn a_memory_does_not_move_up_to_four_gib<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::with_limits(engine, StoreLimits { memory_bytes: Some(1 << 32), ..StoreLimits::default() });
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let before = realm.memory_region(memory).expect("not busy").base;
    let guest = Guest::linked(&realm, None, &accessing(r#"(import "e" "m" (memory 1))"#), &[memory]);
    assert_eq!(realm.memory_grow(memory, 65_535).expect("as much as there can be"), 1);
    let after = realm.memory_region(memory).expect("not busy");
    assert_eq!((after.base, after.bytes), (before, 1 << 32));
    realm.memory_write(memory, (1 << 32) - 1, &[9]).expect("the last byte");
    assert_eq!(guest.call("load 0 0", &[(1 << 32) - 1]).expect("the last byte"), [9]);
    assert_eq!(guest.call(&format!("load 0 {}", (1_u64 << 32) - 1), &[0]).expect("the last byte"), [9]);
    for (export, address) in [("load 1 0", (1 << 32) - 1), ("load 0 1", (1 << 32) - 1), ("load 6 4294967280", 1)] {
        assert_eq!(guest.trap(export, &[address]), TrapCode::MemoryOutOfBounds, "{export}");
    }
    assert_eq!(guest.call("grow", &[]).expect("no trap"), [u64::from(u32::MAX)]);
}

/// wasmer only: wasmi makes no machine code.
#[test]
fn machine_code_runs_whether_addresses_are_short_where_it_is_loaded_or_not() {
    let [plenty, short] = [false, true].map(engine::<Wasmer>);
    assert_eq!(plenty.identity(), short.identity());
    let binary = wasm(&accessing(r#"(import "e" "m" (memory 1))"#));
    for (made, loaded) in [(&plenty, &short), (&short, &plenty), (&short, &short)] {
        let module = Module::compile(&**made, &binary).expect("it is good");
        let code = module.machine_code(made).expect("wasmer makes it");
        // SAFETY: the code is of the same binary, and both engines have the same identity.
        let module = unsafe { Module::load(&**loaded, &binary, &code) }.expect("it is undamaged");
        let realm = Realm::new(loaded);
        let [memory, watched] = [pages(1, 1), pages(1, 1)].map(|ty| realm.new_memory(ty).expect("a good type"));
        assert_bounds(&Guest::of(&realm, &Arc::new(module), None, &[memory]), memory, watched);
    }
}
