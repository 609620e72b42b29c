//! Memories of a realm: how they are made, grown, read and written, and moved to another realm.

use std::sync::Arc;

use proptest::prelude::*;
use sandbox_host::{
    engine::Engine,
    error::MemoryError,
    realm::{Realm, move_memory},
    value::{MAX_PAGES, PAGE_BYTES},
};

use crate::guest::{Guest, compile, contents, is_zero, pages};

on_both_engines![
    a_new_memory_has_the_type_and_size_that_were_asked_for,
    a_new_memory_is_zero,
    a_memory_of_no_pages_can_be_used,
    an_initial_size_above_the_maximum_is_refused,
    more_than_65536_pages_are_refused,
    a_refused_memory_takes_no_index,
    the_host_grows_a_memory,
    the_host_cannot_grow_beyond_the_maximum,
    the_host_cannot_grow_beyond_65536_pages,
    a_guest_grows_an_imported_memory,
    a_guest_cannot_grow_beyond_the_maximum,
    what_the_host_grows_the_guest_can_use,
    grown_pages_are_zero,
    a_memory_does_not_move_when_it_grows,
    a_pinned_memory_does_not_move,
    bytes_are_read_back_as_written,
    access_out_of_bounds_is_refused_and_changes_nothing,
    an_error_says_what_was_out_of_bounds,
    the_bounds_follow_growth,
    instances_share_an_imported_memory,
    fresh_memories_are_zero_although_dropped_ones_were_written_to,
    a_moved_memory_keeps_contents_size_and_maximum,
    a_memory_moves_after_growth,
    a_moved_memory_can_be_imported,
    moving_copies_and_does_not_share,
    an_empty_memory_moves,
    any_sequence_of_accesses_agrees_with_a_model,
];

const PAGE: usize = PAGE_BYTES as usize;

fn size<E: Engine>(realm: &Realm<E>, memory: u32) -> usize {
    realm.memory_region(memory).expect("not busy").bytes
}

fn a_new_memory_has_the_type_and_size_that_were_asked_for<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for (index, (minimum, maximum)) in
        [(1, None), (1, Some(1)), (3, Some(10)), (2, Some(MAX_PAGES)), (0, None), (0, Some(0)), (0, Some(5))]
            .into_iter()
            .enumerate()
    {
        let ty = pages(minimum, maximum);
        let memory = realm.new_memory(ty).expect("a good type");
        assert_eq!(memory, index as u32);
        assert_eq!(realm.memory_type(memory), Ok(ty));
        assert_eq!(size(&realm, memory), minimum as usize * PAGE);
    }
    assert_eq!(realm.memory_count(), 7);
}

fn a_pinned_memory_does_not_move<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let given = realm.new_memory(pages(1, Some(100))).expect("a good type");
    let text = r#"(module (import "e" "m" (memory $given 1)) (memory $own (export "own") 1 100)
        (func (export "grow given") (result i32) (memory.grow $given (i32.const 1)))
        (func (export "grow own") (result i32) (memory.grow $own (i32.const 1))))"#;
    let guest = Guest::linked(&realm, None, text, &[given]);
    let own = guest.memory("own");
    realm.pin_memories(true);
    for (memory, export) in [(given, "grow given"), (own, "grow own")] {
        let before = realm.memory_region(memory).expect("not busy");
        let by_guest = guest.call(export, &[]).expect("no trap")[0];
        let by_host = realm.memory_grow(memory, 1);
        assert_eq!(by_guest == u64::from(u32::MAX), by_host.is_err());
        assert!(memory == own || by_host.is_ok(), "it never moves");
        let after = realm.memory_region(memory).expect("not busy");
        assert_eq!((after.base, after.bytes > before.bytes), (before.base, by_host.is_ok()));
    }
    realm.pin_memories(false);
    let size = realm.memory_region(own).expect("not busy").bytes / PAGE;
    assert_eq!(guest.call("grow own", &[]).expect("no trap"), [size as u64]);
}

fn a_new_memory_is_zero<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for maximum in [None, Some(8)] {
        let memory = realm.new_memory(pages(8, maximum)).expect("a good type");
        assert!(is_zero(&contents(&realm, memory)));
    }
}

fn a_memory_of_no_pages_can_be_used<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(0, 2)).expect("a good type");
    realm.memory_read(memory, 0, &mut []).expect("nothing at the end is in bounds");
    realm.memory_write(memory, 0, &[]).expect("nothing at the end is in bounds");
    assert!(realm.memory_read(memory, 0, &mut [0]).is_err());
    assert_eq!(realm.memory_grow(memory, 2).expect("below the maximum"), 0);
    realm.memory_write(memory, 0, &[7]).expect("in bounds");
    assert_eq!(contents(&realm, memory)[..2], [7, 0]);
}

fn an_initial_size_above_the_maximum_is_refused<E: Engine>(engine: &Arc<E>) {
    let refused = Realm::new(engine).new_memory(pages(5, 3));
    assert!(matches!(refused, Err(MemoryError::InitialAboveMaximum { initial: 5, maximum: 3 })), "{refused:?}");
    assert_eq!(refused.unwrap_err().to_string(), "initial 5 pages exceed the maximum of 3");
}

fn more_than_65536_pages_are_refused<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for (ty, wrong) in [
        (pages(MAX_PAGES + 1, None), MAX_PAGES + 1),
        (pages(0, MAX_PAGES + 1), MAX_PAGES + 1),
        (pages(u64::MAX, None), u64::MAX),
        (pages(1, u64::MAX), u64::MAX),
        (pages(1, 1 << 32), 1 << 32),
    ] {
        match realm.new_memory(ty) {
            Err(MemoryError::TooLarge { pages, limit: MAX_PAGES }) => assert_eq!(pages, wrong),
            other => panic!("{other:?}"),
        }
    }
}

fn a_refused_memory_takes_no_index<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    assert!(realm.new_memory(pages(5, 3)).is_err());
    assert_eq!(realm.memory_count(), 0);
    assert_eq!(realm.new_memory(pages(1, None)).expect("a good type"), 0);
}

fn the_host_grows_a_memory<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for maximum in [Some(10), None] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        for (delta, before) in [(0, 1), (1, 1), (3, 2), (0, 5), (5, 5)] {
            assert_eq!(realm.memory_grow(memory, delta).expect("below the maximum"), before);
            assert_eq!(size(&realm, memory), (before + delta) as usize * PAGE);
        }
        assert_eq!(realm.memory_type(memory).expect("not busy").maximum, maximum);
    }
}

fn the_host_cannot_grow_beyond_the_maximum<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 3)).expect("a good type");
    for too_much in [3, 4, MAX_PAGES, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX - 1, u64::MAX] {
        match realm.memory_grow(memory, too_much) {
            Err(MemoryError::Grow { delta, .. }) => assert_eq!(delta, too_much),
            other => panic!("{other:?}"),
        }
        assert_eq!(size(&realm, memory), PAGE);
    }
    assert_eq!(realm.memory_grow(memory, 2).expect("exactly the maximum"), 1);
    assert!(realm.memory_grow(memory, 1).is_err());
    assert_eq!(realm.memory_grow(memory, 0).expect("nothing more"), 3);
}

fn the_host_cannot_grow_beyond_65536_pages<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for maximum in [None, Some(MAX_PAGES)] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        for too_much in [MAX_PAGES, u64::from(u32::MAX), u64::MAX] {
            assert!(matches!(realm.memory_grow(memory, too_much), Err(MemoryError::Grow { .. })));
        }
        assert_eq!(size(&realm, memory), PAGE);
    }
}

const GROWS: &str = r#"(module
    (import "env" "memory" (memory 0))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "size") (result i32) memory.size)
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))"#;

const NO: u64 = u32::MAX as u64;

fn a_guest_grows_an_imported_memory<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for maximum in [Some(10), None] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        let guest = Guest::linked(&realm, None, GROWS, &[memory]);
        for (delta, before) in [(0, 1), (1, 1), (3, 2), (0, 5)] {
            assert_eq!(guest.call("grow", &[delta]).expect("no trap"), [before]);
            assert_eq!(guest.call("size", &[]).expect("no trap"), [before + delta]);
            assert_eq!(size(&realm, memory), (before + delta) as usize * PAGE);
        }
    }
}

fn a_guest_cannot_grow_beyond_the_maximum<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for (maximum, fits) in [(Some(3), 2), (None, 0)] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        let guest = Guest::linked(&realm, None, GROWS, &[memory]);
        for too_much in [MAX_PAGES, 0x7fff_ffff, 0x8000_0000, NO] {
            assert_eq!(guest.call("grow", &[too_much]).expect("no trap"), [NO]);
        }
        assert_eq!(guest.call("grow", &[fits]).expect("no trap"), [1]);
        assert_eq!(size(&realm, memory), (1 + fits) as usize * PAGE);
    }
}

fn what_the_host_grows_the_guest_can_use<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 4)).expect("a good type");
    let guest = Guest::linked(&realm, None, GROWS, &[memory]);
    let last = 2 * PAGE_BYTES - 1;
    assert!(guest.call("load", &[last]).is_err());
    realm.memory_grow(memory, 1).expect("below the maximum");
    assert_eq!(guest.call("size", &[]).expect("no trap"), [2]);
    guest.call("store", &[last, 9]).expect("in bounds now");
    assert!(guest.call("load", &[last + 1]).is_err());
    let mut byte = [0];
    realm.memory_read(memory, last, &mut byte).expect("in bounds");
    assert_eq!(byte, [9]);
}

fn grown_pages_are_zero<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    for maximum in [Some(16), None] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        let guest = Guest::linked(&realm, None, GROWS, &[memory]);
        for by_guest in [false, true, false, true] {
            let before = size(&realm, memory);
            realm.memory_write(memory, 0, &vec![0xaa; before]).expect("in bounds");
            if by_guest {
                guest.call("grow", &[2]).expect("no trap");
            } else {
                realm.memory_grow(memory, 2).expect("below the maximum");
            }
            let bytes = contents(&realm, memory);
            assert_eq!(bytes.len(), before + 2 * PAGE);
            assert!(bytes[..before].iter().all(|byte| *byte == 0xaa));
            assert!(is_zero(&bytes[before..]));
        }
    }
}

fn a_memory_does_not_move_when_it_grows<E: Engine>(engine: &Arc<E>) {
    if E::NAME == "wasmi" && cfg!(not(unix)) {
        // There a mapping cannot be reserved without being committed, and the memory may move.
        return;
    }
    let realm = Realm::new(engine);
    for maximum in [Some(200), Some(MAX_PAGES), None] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        let guest = Guest::linked(&realm, None, GROWS, &[memory]);
        let base = realm.memory_region(memory).expect("not busy").base;
        for _ in 0..9 {
            realm.memory_grow(memory, 10).expect("below the maximum");
            assert_eq!(realm.memory_region(memory).expect("not busy").base, base);
            guest.call("grow", &[10]).expect("no trap");
            assert_eq!(realm.memory_region(memory).expect("not busy").base, base);
        }
        assert_eq!(size(&realm, memory), 181 * PAGE);
    }
}

fn bytes_are_read_back_as_written<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(2, 2)).expect("a good type");
    for (address, bytes) in [(0, vec![1, 2, 3]), (65_534, vec![4; 4]), (131_068, vec![5, 6, 7, 8]), (7, vec![])] {
        realm.memory_write(memory, address, &bytes).expect("in bounds");
        let mut read = vec![0; bytes.len()];
        realm.memory_read(memory, address, &mut read).expect("in bounds");
        assert_eq!(read, bytes);
    }
    let all: Vec<u8> = (0..2 * PAGE).map(|at| (at % 251) as u8).collect();
    realm.memory_write(memory, 0, &all).expect("in bounds");
    assert_eq!(contents(&realm, memory), all);
}

fn access_out_of_bounds_is_refused_and_changes_nothing<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 2)).expect("a good type");
    for (address, length) in [
        (PAGE_BYTES, 1),
        (PAGE_BYTES - 1, 2),
        (0, PAGE + 1),
        (PAGE_BYTES + 1, 0),
        (u64::from(u32::MAX), 1),
        (1 << 32, 1),
        ((1 << 32) + 5, 0),
        (1 << 63, 1),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX - 1, 2),
        (u64::MAX - 1, 4),
        (u64::MAX - PAGE_BYTES + 1, PAGE),
    ] {
        let mut bytes = vec![0x55; length];
        let read = realm.memory_read(memory, address, &mut bytes);
        assert!(matches!(read, Err(MemoryError::OutOfBounds { access: "read", .. })), "{address} {length} {read:?}");
        assert!(bytes.iter().all(|byte| *byte == 0x55));
        let written = realm.memory_write(memory, address, &bytes);
        assert!(matches!(written, Err(MemoryError::OutOfBounds { access: "write", .. })), "{address} {length}");
    }
    assert!(is_zero(&contents(&realm, memory)));
    realm.memory_write(memory, PAGE_BYTES, &[]).expect("nothing, exactly at the end, is in bounds");
}

fn an_error_says_what_was_out_of_bounds<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let error = realm.memory_read(memory, 65_535, &mut [0; 3]).expect_err("out of bounds");
    assert_eq!(error.to_string(), "memory read is out of bounds: 3 bytes at 65535, size 65536");
    let error = realm.memory_write(memory, u64::MAX, &[0]).expect_err("out of bounds");
    assert_eq!(error.to_string(), format!("memory write is out of bounds: 1 bytes at {}, size 65536", u64::MAX));
}

fn the_bounds_follow_growth<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 3)).expect("a good type");
    for size in [PAGE_BYTES, 3 * PAGE_BYTES] {
        realm.memory_write(memory, size - 1, &[1]).expect("the last byte");
        assert!(realm.memory_write(memory, size, &[1]).is_err());
        assert!(realm.memory_write(memory, size - 1, &[1, 1]).is_err());
        let _ = realm.memory_grow(memory, 2);
    }
}

fn instances_share_an_imported_memory<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 5)).expect("a good type");
    let one = Guest::linked(&realm, None, GROWS, &[memory]);
    let two = Guest::linked(&realm, None, GROWS, &[memory]);
    one.call("store", &[100, 42]).expect("in bounds");
    assert_eq!(two.call("load", &[100]).expect("in bounds"), [42]);
    one.call("grow", &[1]).expect("no trap");
    assert_eq!(two.call("size", &[]).expect("no trap"), [2]);
    two.call("store", &[PAGE_BYTES, 43]).expect("in bounds");
    assert_eq!(one.call("load", &[PAGE_BYTES]).expect("in bounds"), [43]);
}

fn fresh_memories_are_zero_although_dropped_ones_were_written_to<E: Engine>(engine: &Arc<E>) {
    for maximum in [Some(4), None] {
        for _ in 0..50 {
            let realm = Realm::new(engine);
            let memory = realm.new_memory(pages(2, maximum)).expect("a good type");
            assert!(is_zero(&contents(&realm, memory)));
            realm.memory_grow(memory, 2).expect("below the maximum");
            assert!(is_zero(&contents(&realm, memory)));
            realm.memory_write(memory, 0, &[0xaa; 4 * PAGE]).expect("in bounds");
        }
    }
}

fn a_moved_memory_keeps_contents_size_and_maximum<E: Engine>(engine: &Arc<E>) {
    let from = Realm::new(engine);
    let to = Realm::new(engine);
    to.new_memory(pages(1, None)).expect("a good type");
    for maximum in [Some(9), None] {
        let memory = from.new_memory(pages(4, maximum)).expect("a good type");
        // Sparse: whole 4 KiB chunks of zeros lie between what is written, and one chunk ends in a single byte.
        for (address, byte) in [(0, 1), (4095, 2), (4096, 3), (100_000, 4), (4 * PAGE_BYTES - 1, 5)] {
            from.memory_write(memory, address, &[byte]).expect("in bounds");
        }
        let moved = move_memory(&from, memory, &to).expect("both are idle");
        assert_eq!(contents(&to, moved), contents(&from, memory));
        assert_eq!(to.memory_type(moved).expect("not busy").maximum, maximum);
    }
}

fn a_memory_moves_after_growth<E: Engine>(engine: &Arc<E>) {
    let (from, to) = (Realm::new(engine), Realm::new(engine));
    let memory = from.new_memory(pages(1, 6)).expect("a good type");
    from.memory_grow(memory, 3).expect("below the maximum");
    from.memory_write(memory, 3 * PAGE_BYTES, &[8]).expect("in bounds");
    let moved = move_memory(&from, memory, &to).expect("both are idle");
    assert_eq!(contents(&to, moved), contents(&from, memory));
    assert_eq!(to.memory_grow(moved, 2).expect("exactly the maximum"), 4);
    assert!(to.memory_grow(moved, 1).is_err());
}

fn a_moved_memory_can_be_imported<E: Engine>(engine: &Arc<E>) {
    // A guest that takes the memory as it was made, with one page, must take the moved one as well.
    let wat = r#"(module (import "env" "memory" (memory 1 6))
        (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;
    let (from, to) = (Realm::new(engine), Realm::new(engine));
    let memory = from.new_memory(pages(1, 6)).expect("a good type");
    from.memory_grow(memory, 1).expect("below the maximum");
    from.memory_write(memory, PAGE_BYTES, &[8]).expect("in bounds");
    let moved = move_memory(&from, memory, &to).expect("both are idle");
    let guest = Guest::linked(&to, None, wat, &[moved]);
    assert_eq!(guest.call("load", &[PAGE_BYTES]).expect("in bounds"), [8]);
}

fn moving_copies_and_does_not_share<E: Engine>(engine: &Arc<E>) {
    let (from, to) = (Realm::new(engine), Realm::new(engine));
    let memory = from.new_memory(pages(1, 1)).expect("a good type");
    from.memory_write(memory, 5, &[1]).expect("in bounds");
    let moved = move_memory(&from, memory, &to).expect("both are idle");
    to.memory_write(moved, 5, &[2]).expect("in bounds");
    assert_eq!(contents(&from, memory)[5], 1);
    drop(from);
    assert_eq!(contents(&to, moved)[5], 2);
}

fn an_empty_memory_moves<E: Engine>(engine: &Arc<E>) {
    let (from, to) = (Realm::new(engine), Realm::new(engine));
    for maximum in [Some(0), Some(2), None] {
        let memory = from.new_memory(pages(0, maximum)).expect("a good type");
        let moved = move_memory(&from, memory, &to).expect("both are idle");
        assert_eq!(to.memory_type(moved), Ok(pages(0, maximum)));
        assert_eq!(size(&to, moved), 0);
    }
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Grow(u64),
    GuestStore(u32, u8),
    GuestGrow(u32),
}

/// Addresses where something may go wrong: around the ends of pages and of the number ranges.
fn addresses() -> impl Strategy<Value = u64> {
    let around = |middle: u64| (middle.saturating_sub(20)..=middle.saturating_add(20)).boxed();
    prop_oneof![
        6 => 0..4 * PAGE_BYTES,
        1 => around(0),
        2 => around(PAGE_BYTES),
        2 => around(2 * PAGE_BYTES),
        2 => around(3 * PAGE_BYTES),
        1 => around(1 << 32),
        1 => around(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (addresses(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Step::Write(at, bytes)),
        4 => (addresses(), 0..40_usize).prop_map(|(at, length)| Step::Read(at, length)),
        1 => (0..4_u64).prop_map(Step::Grow),
        2 => (addresses(), any::<u8>()).prop_map(|(at, byte)| Step::GuestStore(at as u32, byte)),
        1 => (0..4_u32).prop_map(Step::GuestGrow),
    ];
    prop::collection::vec(step, 1..40)
}

/// Grows the model as a memory of at most four pages grows.
fn grow_model(model: &mut Vec<u8>, delta: u64) -> Option<u64> {
    let before = (model.len() / PAGE) as u64;
    (before + delta <= 4).then(|| {
        model.resize((before + delta) as usize * PAGE, 0);
        before
    })
}

fn any_sequence_of_accesses_agrees_with_a_model<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, GROWS);
    proptest!(ProptestConfig::with_cases(200), |(steps in steps())| {
        let realm = Realm::new(engine);
        let memory = realm.new_memory(pages(1, 4)).expect("a good type");
        let guest = Guest::of(&realm, &module, None, &[memory]);
        let mut model = vec![0; PAGE];
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let place = in_model(&model, at, bytes.len());
                    prop_assert_eq!(realm.memory_write(memory, at, &bytes).is_ok(), place.is_some());
                    if let Some(place) = place {
                        model[place].copy_from_slice(&bytes);
                    }
                }
                Step::Read(at, length) => {
                    let place = in_model(&model, at, length);
                    let mut bytes = vec![0x55; length];
                    prop_assert_eq!(realm.memory_read(memory, at, &mut bytes).is_ok(), place.is_some());
                    match place {
                        Some(place) => prop_assert_eq!(&bytes, &model[place]),
                        None => prop_assert!(bytes.iter().all(|byte| *byte == 0x55)),
                    }
                }
                Step::Grow(delta) => {
                    prop_assert_eq!(realm.memory_grow(memory, delta).ok(), grow_model(&mut model, delta));
                }
                Step::GuestStore(at, byte) => {
                    let place = in_model(&model, u64::from(at), 1);
                    let stored = guest.call("store", &[u64::from(at), u64::from(byte)]);
                    prop_assert_eq!(stored.is_ok(), place.is_some());
                    if let Some(place) = place {
                        model[place.start] = byte;
                    }
                }
                Step::GuestGrow(delta) => {
                    let grown = guest.call("grow", &[u64::from(delta)]).expect("no trap");
                    prop_assert_eq!(grown, [grow_model(&mut model, u64::from(delta)).unwrap_or(NO)]);
                }
            }
        }
        prop_assert!(contents(&realm, memory) == model);
    });
}

/// Where `length` bytes at `at` lie in the model, found in a way that cannot overflow.
fn in_model(model: &[u8], at: u64, length: usize) -> Option<std::ops::Range<usize>> {
    let range = usize::try_from(at).ok()?..usize::try_from(u128::from(at) + length as u128).ok()?;
    model.get(range.clone()).map(|_| range)
}

#[cfg(target_os = "linux")]
on_both_engines_alone![
    untouched_memories_take_little_resident_memory,
    pages_grown_by_the_host_take_little_resident_memory,
    a_dropped_memory_takes_no_resident_memory,
];

/// An eager one-page memory takes 66 KB.
#[cfg(target_os = "linux")]
fn untouched_memories_take_little_resident_memory<E: Engine>(engine: &Arc<E>) {
    use crate::guest::resident_bytes;

    const MEMORIES: u64 = 1000;
    let realm = Realm::new(engine);
    for maximum in [Some(16), None] {
        realm.new_memory(pages(1, maximum)).expect("a good type");
        let before = resident_bytes();
        for _ in 0..MEMORIES {
            realm.new_memory(pages(1, maximum)).expect("a good type");
        }
        let each = resident_bytes().saturating_sub(before) / MEMORIES;
        assert!(each < 16 * 1024, "{each} bytes each, maximum {maximum:?}");
    }
    // Untouched they are, but there.
    realm.memory_write(5, PAGE_BYTES - 1, &[1]).expect("in bounds");
}

#[cfg(target_os = "linux")]
fn pages_grown_by_the_host_take_little_resident_memory<E: Engine>(engine: &Arc<E>) {
    use crate::guest::resident_bytes;

    let realm = Realm::new(engine);
    for maximum in [Some(2000), None] {
        let memory = realm.new_memory(pages(1, maximum)).expect("a good type");
        let before = resident_bytes();
        realm.memory_grow(memory, 1000).expect("below the maximum");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 1 << 20, "{grown} bytes for 1000 untouched pages, maximum {maximum:?}");
    }
}

#[cfg(target_os = "linux")]
fn a_dropped_memory_takes_no_resident_memory<E: Engine>(engine: &Arc<E>) {
    use crate::guest::resident_bytes;

    let before = resident_bytes();
    for maximum in [Some(1000), None] {
        let realm = Realm::new(engine);
        let memory = realm.new_memory(pages(1000, maximum)).expect("a good type");
        realm.memory_write(memory, 0, &vec![1; 1000 * PAGE]).expect("in bounds");
        assert!(resident_bytes() - before > 60 << 20);
        drop(realm);
        assert!(resident_bytes().saturating_sub(before) < 4 << 20, "{maximum:?}");
    }
}
