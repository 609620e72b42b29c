//! Running out of stack: always a trap, wherever the guest was called from, and never the end of the process. Each test
//! has a process of its own, so that a failure says which one it was.

use std::{sync::Arc, thread};

use sandbox_host::{
    engine::{Engine, EngineConfig},
    error::TrapCode,
    realm::Realm,
};

use crate::guest::{Guest, compile, engine_with};

on_both_engines_alone![
    endless_recursion_is_a_stack_overflow,
    endless_recursion_through_a_table_is_a_stack_overflow,
    endless_recursion_with_big_frames_is_a_stack_overflow,
    endless_recursion_with_many_parameters_is_a_stack_overflow,
    reasonable_recursion_is_fine,
    a_stack_overflow_can_happen_again_and_again,
    a_stack_overflow_in_a_nested_call_ends_that_call_only,
    a_stack_overflow_in_nested_calls_of_two_realms,
    a_guest_that_overflows_around_a_host_call_is_stopped,
    the_host_function_has_room_however_deep_the_guest_is,
    a_thread_with_a_small_stack_can_run_guests,
    threads_overflow_side_by_side,
    the_depth_does_not_depend_on_what_ran_before,
    the_depth_is_the_same_on_every_thread,
    the_depth_is_the_same_in_nested_calls,
    a_larger_stack_is_deeper_by_as_much,
    stacks_of_extreme_sizes_work,
    what_the_engine_does_for_a_guest_has_room_at_the_end_of_its_stack,
];

const RECURSION: &str = r#"(module (import "e" "f" (func $f))
    (type $t (func (param i32) (result i32)))
    (table 1 funcref) (elem (i32.const 0) $indirect)
    (func $endless (export "endless") (param i32) (result i32)
        (i32.add (call $endless (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
    (func $indirect (export "indirect") (param i32) (result i32)
        (i32.add (call_indirect (type $t) (local.get 0) (i32.const 0)) (i32.const 1)))
    (func $to (export "to") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (call $to (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))))
    (func $calling (export "calling") (param i32) (result i32)
        (call $f) (i32.add (call $calling (local.get 0)) (i32.const 1)))
    (func $down (export "out at") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
            (then (call $f) (i32.const 0))
            (else (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))))
    (func (export "run") (call $f))
    (func (export "fine") (result i32) (i32.const 7)))"#;

fn assert_overflows<E: Engine>(guest: &Guest<E>, name: &str) {
    let trap = guest.call(name, &[0]).expect_err("it is endless");
    assert_eq!(trap.code, TrapCode::StackOverflow);
    assert!(trap.message.starts_with(TrapCode::StackOverflow.message()), "{}", trap.message);
    assert!(trap.message.contains("limits.stackBytes is 1048576"), "{}", trap.message);
    assert_eq!(guest.call("fine", &[]).expect("still usable"), [7]);
}

fn endless_recursion_is_a_stack_overflow<E: Engine>(engine: &Arc<E>) {
    assert_overflows(&Guest::new(engine, RECURSION), "endless");
}

fn endless_recursion_through_a_table_is_a_stack_overflow<E: Engine>(engine: &Arc<E>) {
    assert_overflows(&Guest::new(engine, RECURSION), "indirect");
}

fn endless_recursion_with_big_frames_is_a_stack_overflow<E: Engine>(engine: &Arc<E>) {
    // A frame larger than the guard page must not step over it: 20,000 live values are 160 KB.
    for locals in [100, 1000, 20_000] {
        let sets: String =
            (1..=locals).map(|at| format!("(local.set {at} (i64.add (local.get 0) (i64.const {at})))")).collect();
        let adds: String = (1..=locals).map(|at| format!("(i64.add (local.get {at}))")).collect();
        let wat = format!(
            r#"(module (func $f (export "endless") (param i64) (result i64) (local {}) {sets}
                (call $f (local.get {locals})) {adds})
                (func (export "fine") (result i32) (i32.const 7)))"#,
            "i64 ".repeat(locals)
        );
        assert_overflows(&Guest::new(engine, &wat), "endless");
    }
}

fn endless_recursion_with_many_parameters_is_a_stack_overflow<E: Engine>(engine: &Arc<E>) {
    let gets: String = (0..1000).map(|at| format!("(local.get {at})")).collect();
    let wat = format!(
        r#"(module (func $f (export "endless") (param {}) {gets} (call $f) (global.set 0 (i32.const 1)))
            (global (mut i32) (i32.const 0)) (func (export "fine") (result i32) (i32.const 7)))"#,
        "i64 ".repeat(1000)
    );
    let guest = Guest::new(engine, &wat);
    assert_eq!(guest.trap("endless", &[0; 1000]), TrapCode::StackOverflow);
    assert_eq!(guest.call("fine", &[]).expect("still usable"), [7]);
}

fn reasonable_recursion_is_fine<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, RECURSION);
    for depth in [1, 100, 1000, 5000, 10_000] {
        assert_eq!(guest.call("to", &[depth]).expect("no trap"), [depth]);
    }
}

fn a_stack_overflow_can_happen_again_and_again<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, RECURSION);
    for _ in 0..200 {
        assert_overflows(&guest, "endless");
    }
}

fn a_stack_overflow_in_a_nested_call_ends_that_call_only<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, RECURSION);
    for _ in 0..20 {
        let call = guest.call_with("run", &[], |_| {
            assert_overflows(&guest, "endless");
            guest
                .call_with("run", &[], |_| {
                    assert_overflows(&guest, "indirect");
                    Ok(())
                })
                .expect("the inner guest runs on");
            Ok(())
        });
        call.expect("the outer guest runs on");
    }
}

fn a_stack_overflow_in_nested_calls_of_two_realms<E: Engine>(engine: &Arc<E>) {
    let (outer, inner) = (Guest::new(engine, RECURSION), Guest::new(engine, RECURSION));
    for _ in 0..20 {
        let call = outer.call_with("run", &[], |_| {
            assert_overflows(&inner, "endless");
            assert_overflows(&outer, "endless");
            Ok(())
        });
        call.expect("the outer guest runs on");
    }
}

fn a_guest_that_overflows_around_a_host_call_is_stopped<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, RECURSION);
    let mut calls = 0;
    let trap = guest
        .call_with("calling", &[0], |_| {
            calls += 1;
            // A host function that needs stack of its own gets it at any depth of the guest.
            std::hint::black_box([calls; 4096]);
            Ok(())
        })
        .expect_err("it is endless");
    assert_eq!(trap.code, TrapCode::StackOverflow);
    assert!(calls > 1000, "{calls}");
    assert_eq!(guest.call("fine", &[]).expect("still usable"), [7]);
}

fn the_host_function_has_room_however_deep_the_guest_is<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, RECURSION);
    let call = guest.call_with("out at", &[9000], |_| {
        std::hint::black_box([1_u8; 512 * 1024]);
        assert_eq!(guest.call("to", &[9000]).expect("a stack of its own"), [9000]);
        Ok(())
    });
    assert_eq!(call.expect("no trap"), [9000]);
}

fn a_thread_with_a_small_stack_can_run_guests<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, RECURSION);
    let engine = engine.clone();
    let run = move || {
        let realm = Realm::new(&engine);
        let index = realm.instantiate(&module, None, &[sandbox_host::realm::Import::Host]).expect("it links");
        let guest = Guest { realm, module, index };
        for _ in 0..10 {
            assert_overflows(&guest, "endless");
            assert_overflows(&guest, "indirect");
            assert_eq!(guest.call("to", &[9000]).expect("no trap"), [9000]);
            let call = guest.call_with("run", &[], |_| {
                assert_overflows(&guest, "endless");
                Ok(())
            });
            call.expect("the outer guest runs on");
        }
    };
    thread::Builder::new().stack_size(256 * 1024).spawn(run).expect("a thread").join().expect("no panic");
}

fn threads_overflow_side_by_side<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, RECURSION);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (engine, module) = (engine.clone(), module.clone());
            thread::spawn(move || {
                let realm = Realm::new(&engine);
                let guest = Guest::of(&realm, &module, None, &[]);
                for _ in 0..50 {
                    assert_overflows(&guest, "endless");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// Counts how deep it has come, until its stack is exhausted. wasmi keeps room for the locals, wasmer does not.
const COUNTING: &str = r#"(module (import "e" "f" (func $f)) (global $depth (export "depth") (mut i32) (i32.const 0))
    (func $down (export "down") (local v128 v128 v128 v128 v128 v128 v128 v128) (local v128 v128 v128 v128 v128 v128 v128 v128)
        (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
        (call $down)
        (global.set $depth (i32.const -1)))
    (func (export "out") (call $f)))"#;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn counting<E: Engine>(stack_bytes: usize) -> Guest<E> {
    let config = EngineConfig {
        interruptible: true,
        deterministic: true,
        // Frames of wasmi take memory besides its stack.
        recursion_depth: (E::NAME == "wasmi").then_some(1_000_000),
        stack_bytes: Some(stack_bytes),
        ..EngineConfig::default()
    };
    Guest::new(&engine_with::<E>(&config), COUNTING)
}

/// How deep a guest comes until its stack is exhausted.
fn depth_in<E: Engine>(guest: &Guest<E>) -> u64 {
    guest.realm.global_set(guest.index, guest.export("depth"), 0).expect("not busy");
    assert_eq!(guest.trap("down", &[]), TrapCode::StackOverflow);
    guest.global("depth")
}

fn depth<E: Engine>(stack_bytes: usize) -> u64 {
    depth_in::<E>(&counting(stack_bytes))
}

fn the_depth_does_not_depend_on_what_ran_before<E: Engine>(_: &Arc<E>) {
    let sizes = [MIB, 64 * KIB, 200_000, 64 * MIB, 64 * KIB + 16, 16 * MIB, MIB, 64 * KIB];
    // Each as the first on its thread, and before any larger one in this process.
    let mut alone: Vec<(usize, u64)> = Vec::new();
    for size in {
        let mut sizes = sizes;
        sizes.sort_unstable();
        sizes
    } {
        let depth = thread::spawn(move || depth::<E>(size)).join().expect("no panic");
        alone.push((size, depth));
    }
    let expected = |size| alone.iter().find(|(of, _)| *of == size).expect("measured").1;
    for round in 0..3 {
        for size in sizes {
            assert_eq!(depth::<E>(size), expected(size), "{size} bytes in round {round}");
        }
    }
    // The same instance too, between neighbours.
    let guest = counting::<E>(MIB);
    for neighbour in sizes {
        depth::<E>(neighbour);
        assert_eq!(depth_in(&guest), expected(MIB), "after {neighbour} bytes");
    }
}

fn the_depth_is_the_same_on_every_thread<E: Engine>(_: &Arc<E>) {
    let sizes = [64 * KIB, MIB, 8 * MIB];
    let expected = sizes.map(depth::<E>);
    // Threads that end leave their stacks to others of another size.
    for round in 0..8 {
        let threads: Vec<_> = (0..4)
            .map(|at| {
                thread::Builder::new()
                    .stack_size(if at % 2 == 0 { 256 * KIB } else { 4 * MIB })
                    .spawn(move || {
                        for turn in 0..6 {
                            let which = (at + turn + round) % sizes.len();
                            assert_eq!(depth::<E>(sizes[which]), expected[which], "{} bytes", sizes[which]);
                        }
                    })
                    .expect("a thread")
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}

fn the_depth_is_the_same_in_nested_calls<E: Engine>(_: &Arc<E>) {
    let guests = [64 * KIB, 64 * MIB, MIB].map(counting::<E>);
    let expected = guests.each_ref().map(depth_in);
    for outer in &guests {
        let call = outer.call_with("out", &[], |_| {
            let call = guests[1].call_with("out", &[], |_| {
                assert_eq!(guests.each_ref().map(depth_in), expected, "inside two calls");
                Ok(())
            });
            call.expect("no trap");
            assert_eq!(guests.each_ref().map(depth_in), expected, "inside a call");
            Ok(())
        });
        call.expect("no trap");
        assert_eq!(guests.each_ref().map(depth_in), expected, "afterwards");
    }
}

fn a_larger_stack_is_deeper_by_as_much<E: Engine>(_: &Arc<E>) {
    let [one, two, three] = [MIB, 2 * MIB, 3 * MIB].map(depth::<E>);
    assert!(one > 1000, "{one}");
    // A frame may fit just so or just not.
    assert!((two - one).abs_diff(three - two) <= 1, "{one} {two} {three}");
}

fn stacks_of_extreme_sizes_work<E: Engine>(_: &Arc<E>) {
    for size in [64 * KIB, 64 * KIB + 1, 64 * KIB + 4095, 64 * MIB - 1, 64 * MIB] {
        let guest = counting::<E>(size);
        let depth = depth_in(&guest);
        assert!(depth > 200, "{depth} with {size} bytes");
        assert_eq!(depth_in(&guest), depth);
        guest.call_with("out", &[], |_| Ok(())).expect("a call needs little of it");
    }
}

/// Goes as deep as the first argument says, and does there what the second says.
const AT_THE_END: &str = r#"(module (memory (export "memory") 1 60000) (table $table 1 1000000 funcref) (elem declare func $down)
    (global $done (mut i32) (i32.const 0))
    (func $down (param $depth i32) (param $what i32) (local v128 v128 v128 v128 v128 v128 v128 v128)
        (if (local.get $depth)
            (then (call $down (i32.sub (local.get $depth) (i32.const 1)) (local.get $what)))
            (else (block $grow (block $table (block $bulk (block $unreachable (block $nothing
                (br_table $nothing $unreachable $bulk $table $grow (local.get $what)))
                (return))
                (unreachable))
                (memory.fill (i32.const 1) (i32.const 0) (i32.const -1)))
                (drop (table.grow $table (ref.func $down) (i32.const 1)))
                (return))
                (drop (memory.grow (i32.const 1)))))
        (global.set $done (i32.const 1)))
    (func (export "run") (param i32 i32) (call $down (local.get 0) (local.get 1)) (global.set $done (i32.const 2))))"#;

fn what_the_engine_does_for_a_guest_has_room_at_the_end_of_its_stack<E: Engine>(_: &Arc<E>) {
    let (done, is_done) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let config = EngineConfig { stack_bytes: Some(64 * KIB), interruptible: true, ..EngineConfig::default() };
        let guest = Guest::new(&engine_with::<E>(&config), AT_THE_END);
        let outcome = |depth, what| guest.call("run", &[depth, what]).map_err(|trap| trap.code).err();
        let fits = |depth: &u64| outcome(*depth, 0).is_none();
        let deepest = (0..100_000).step_by(100).take_while(fits).last().expect("it fits");
        let deepest = (deepest..).take_while(fits).last().expect("it fits");
        let ends = [None, Some(TrapCode::Unreachable), Some(TrapCode::MemoryOutOfBounds), None, None];
        for round in 0..2 {
            for (what, end) in ends.into_iter().enumerate() {
                // At the last one there may be no room for the return address of a call.
                for depth in (deepest - 300..deepest).chain(deepest + 1..deepest + 3) {
                    let expected = if depth < deepest { end } else { Some(TrapCode::StackOverflow) };
                    assert_eq!(
                        outcome(depth, what as u64),
                        expected,
                        "{what} at {depth} of {deepest} in round {round}"
                    );
                }
            }
        }
        let pages = guest.realm.memory_region(guest.memory("memory")).expect("not busy").bytes / 65_536;
        assert_eq!(pages, 1 + 2 * 300);
        // Nothing that other threads need has been left behind locked.
        thread::spawn(|| {
            let _ = std::backtrace::Backtrace::force_capture();
            assert_eq!(
                Guest::new(&engine_with::<E>(&EngineConfig::default()), AT_THE_END).trap("run", &[5, 2]),
                TrapCode::MemoryOutOfBounds
            );
        })
        .join()
        .expect("no panic");
        done.send(()).expect("somebody waits");
    });
    is_done.recv_timeout(std::time::Duration::from_secs(100)).expect("the thread is stuck or has panicked");
}

/// On wasmer, because wasmi has no native stacks: what the system has no room for is the end of that call only.
#[cfg(target_os = "linux")]
#[test]
fn a_call_for_whose_stack_there_is_no_room_is_refused() {
    use sandbox_host::engine::wasmer::Wasmer;

    crate::guest::alone("core::stack::a_call_for_whose_stack_there_is_no_room_is_refused", || {
        let (small, large) = (counting::<Wasmer>(64 * KIB), counting::<Wasmer>(64 * MIB));
        let expected = depth_in(&small);
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
        let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
        let with_room = |bytes: u64, run: &dyn Fn()| {
            let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structs are alive.
            assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut before) }, 0);
            let limit = libc::rlimit { rlim_cur: pages * 4096 + bytes, ..before };
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
            run();
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const before) }, 0);
        };
        with_room(32 * MIB as u64, &|| {
            for _ in 0..3 {
                assert_eq!(large.trap("down", &[]), TrapCode::OutOfMemory);
                let call = small.call_with("out", &[], |_| {
                    assert_eq!(large.trap("down", &[]), TrapCode::OutOfMemory);
                    Ok(())
                });
                call.expect("the outer guest runs on");
                assert_eq!(depth_in(&small), expected);
            }
        });
        assert!(depth_in(&large) > expected);
        assert_eq!(depth_in(&small), expected);
    });
}
