//! Stopping guests: whatever they do, wherever they are called from, and so that they can be called again.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sandbox_host::{
    engine::{Engine, EngineConfig},
    error::{HostTrap, Trap, TrapCode},
    interrupt::Interrupt,
    realm::{Host, HostCall, Realm},
};

use crate::guest::{Guest, compile, engine_with, imports};

on_both_engines![
    endless_guests_of_every_shape_stop,
    endless_guests_that_are_metered_stop_as_well,
    a_stopped_guest_keeps_what_it_did_and_runs_again,
    another_thread_can_stop_a_guest,
    a_guest_that_ends_before_its_deadline_is_not_stopped,
    an_interrupt_that_comes_too_late_stops_no_later_call,
    a_start_function_stops,
    a_guest_is_stopped_when_it_comes_back_from_the_host,
    a_nested_call_stops_with_the_call_around_it,
    a_nested_call_with_an_earlier_deadline_stops_alone,
    a_nested_call_in_another_realm_stops_with_the_call_around_it,
    an_interrupt_meets_a_guest_that_runs_inside_itself,
    a_call_that_is_to_stop_does_not_begin,
    a_guest_that_grows_tables_does_everything_once_between_looks,
    a_trap_of_the_guest_is_still_that_trap,
    the_exports_show_nothing_of_it,
    a_guest_may_export_any_name,
    deadlines_at_every_moment_do_no_harm,
    without_interruptible_a_guest_stops_at_its_next_host_call,
];

/// Answers nothing, and stops the guest by an interrupt.
struct Stopping<F>(Arc<Interrupt>, F);

impl<F: FnMut(HostCall<'_>) -> Result<(), HostTrap>> Host for Stopping<F> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        (self.1)(call).map_err(Box::new)
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        Some(self.0.clone())
    }
}

/// Soon, but not before the guest is running.
fn soon() -> Arc<Interrupt> {
    Interrupt::at(Instant::now() + Duration::from_millis(10)).expect("there is a thread for deadlines")
}

fn call_until<E: Engine>(guest: &Guest<E>, name: &str, interrupt: Arc<Interrupt>) -> Result<(), Box<Trap>> {
    call_with(guest, name, interrupt, |_| Ok(()))
}

fn call_with<E: Engine>(
    guest: &Guest<E>,
    name: &str,
    interrupt: Arc<Interrupt>,
    host: impl FnMut(HostCall<'_>) -> Result<(), HostTrap>,
) -> Result<(), Box<Trap>> {
    guest.realm.call(guest.index, guest.export(name), &mut [0; 2], &mut Stopping(interrupt, host))
}

fn assert_interrupted(outcome: Result<(), Box<Trap>>) {
    let trap = outcome.expect_err("it does not end by itself");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Interrupted, TrapCode::Interrupted.message()));
}

/// Each export runs for ever, or for longer than anybody waits.
pub const ENDLESS: &str = r#"(module (import "e" "f" (func $f))
    (memory (export "memory") 4)
    (type $t (func (param i32) (result i32)))
    (table 1 funcref) (elem (i32.const 0) $id)
    (global $g (mut i32) (i32.const 0)) (global $h (mut i64) (i64.const 0)) (global $zero (mut i32) (i32.const 0))
    (func $id (param i32) (result i32) (local.get 0))
    (func $nothing)
    (func (export "an empty loop") (loop $l (br $l)))
    (func (export "a loop with br_if") (loop $l (br_if $l (i32.const 1))))
    (func (export "a loop over a local") (local $i i64)
        (loop $l (local.set $i (i64.add (local.get $i) (i64.const 1))) (br_if $l (i64.ne (local.get $i) (i64.const -1)))))
    (func (export "a loop over globals")
        (loop $l (global.set $g (i32.add (global.get $g) (i32.const 1)))
            (global.set $h (i64.extend_i32_u (global.get $g))) (br $l)))
    (func (export "a loop that reads a global") (loop $l (br_if $l (i32.eqz (global.get $zero)))))
    (func (export "a loop over memory") (local $i i32)
        (loop $l (i32.store (i32.and (local.get $i) (i32.const 0xfff0)) (i32.load (i32.const 64)))
            (local.set $i (i32.add (local.get $i) (i32.const 16))) (br $l)))
    (func (export "loops in a loop") (local $i i32)
        (loop $o (local.set $i (i32.const 100))
            (loop $i (br_if $i (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) (br $o)))
    (func (export "a loop in blocks") (loop $l (block $b (block (br_if $b (i32.const 1))) (unreachable)) (br $l)))
    (func (export "br_table") (loop $l (br_table $l $l $l (i32.const 1))))
    (func (export "a loop with values") (loop $l (param) (result i32) (drop (i32.const 5)) (br $l)) (drop))
    (func (export "a loop with parameters") (i32.const 1)
        (loop $l (param i32) (i32.add (i32.const 1)) (br $l)))
    (func (export "two entries of a loop") (local $i i32)
        (loop $l (if (i32.and (local.get $i) (i32.const 1)) (then (local.set $i (i32.const 0)) (br $l)))
            (local.set $i (i32.const 1)) (br $l)))
    (func (export "calls in a loop") (loop $l (call $nothing) (br $l)))
    (func (export "indirect calls in a loop")
        (loop $l (drop (call_indirect (type $t) (i32.const 1) (i32.const 0))) (br $l)))
    (func (export "host calls in a loop") (loop $l (call $f) (br $l)))
    (func (export "bulk memory in a loop")
        (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 262144))
            (memory.copy (i32.const 0) (i32.const 8) (i32.const 262136)) (br $l)))
    (func (export "growing in a loop") (loop $l (drop (memory.grow (i32.const 0))) (br $l)))
    (func (export "divisions in a loop") (loop $l (drop (i64.div_s (i64.const 7) (i64.const 3))) (br $l)))
    (func (export "SIMD in a loop") (loop $l (drop (i32x4.splat (i32.const 7))) (br $l)))
    (func $fib (param i32) (result i32)
        (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
            (then (local.get 0))
            (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
    (func (export "calls without a loop") (drop (call $fib (i32.const 80))))
    (func (export "fine") (result i32) (i32.const 7)))"#;

fn endless_guests_of_every_shape_stop<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ENDLESS);
    let names: Vec<String> = guest.module.exports.iter().map(|export| export.name.clone()).collect();
    let endless = names.iter().filter(|name| !["memory", "fine"].contains(&name.as_str()));
    let mut count = 0;
    for name in endless {
        assert_interrupted(call_until(&guest, name, soon()));
        assert_eq!(guest.call("fine", &[]).expect("still usable"), [7], "{name}");
        count += 1;
    }
    assert_eq!(count, 20);
}

fn endless_guests_that_are_metered_stop_as_well<E: Engine>(_: &Arc<E>) {
    let config = EngineConfig { interruptible: true, has_fuel: true, ..EngineConfig::default() };
    endless_guests_of_every_shape_stop(&engine_with::<E>(&config));
}

/// wasmi loses its place when a slice ends in `table.grow`.
fn a_guest_that_grows_tables_does_everything_once_between_looks<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (table 0 funcref) (global $n (export "n") (mut i32) (i32.const 0))
            (func (export "grow") (param i32) (result i32) (local $f f64) (local.set $f (f64.const 1))
                (loop $l
                    (global.set $n (i32.add (global.get $n) (i32.const 1)))
                    (local.set $f (f64.add (local.get $f) (f64.const 1)))
                    (drop (table.grow 0 (ref.null func) (i32.const 1600)))
                    (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (i32.trunc_f64_s (local.get $f)))
            (func (export "size") (result i32) (table.size 0))
            (func (export "much") (result i32) (table.grow 0 (ref.null func) (i32.const 3_000_000))))"#,
    );
    let far = Interrupt::at(Instant::now() + Duration::from_secs(1000)).expect("there is a thread for deadlines");
    let mut slots = [3000];
    let host = &mut Stopping(far.clone(), |_: HostCall<'_>| Ok(()));
    guest.realm.call(guest.index, guest.export("grow"), &mut slots, host).expect("no trap");
    assert_eq!((slots, guest.global("n")), ([3001], 3000));
    assert_eq!(guest.call("size", &[]).expect("no trap"), [3000 * 1600]);
    // More than a slice at once.
    guest.realm.call(guest.index, guest.export("much"), &mut slots, host).expect("no trap");
    assert_eq!(slots, [3000 * 1600]);
}

const COUNTING: &str = r#"(module (import "e" "f" (func $f)) (memory (export "memory") 1)
    (global $n (export "n") (mut i64) (i64.const 0))
    (func (export "count") (loop $l
        (global.set $n (i64.add (global.get $n) (i64.const 1))) (i64.store (i32.const 8) (global.get $n)) (br $l)))
    (func (export "call f") (call $f) (global.set $n (i64.const -1)))
    (func (export "short") (global.set $n (i64.const 5)))
    (func (export "trap") unreachable))"#;

fn a_stopped_guest_keeps_what_it_did_and_runs_again<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let mut before = 0;
    for _ in 0..5 {
        assert_interrupted(call_until(&guest, "count", soon()));
        let counted = guest.global("n");
        assert!(counted > before, "it has counted on from {before} to {counted}");
        before = counted;
    }
    guest.call("short", &[]).expect("no trap");
    assert_eq!(guest.global("n"), 5);
}

fn another_thread_can_stop_a_guest<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let interrupt = Interrupt::new();
    let other = interrupt.clone();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(10));
        other.set();
    });
    assert_interrupted(call_until(&guest, "count", interrupt));
    thread.join().expect("it does not panic");
}

fn a_guest_that_ends_before_its_deadline_is_not_stopped<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    for _ in 0..1000 {
        let far = Interrupt::at(Instant::now() + Duration::from_secs(1000)).expect("there is a thread for deadlines");
        call_until(&guest, "short", far).expect("no trap");
    }
}

fn an_interrupt_that_comes_too_late_stops_no_later_call<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let interrupt = Interrupt::new();
    call_until(&guest, "short", interrupt.clone()).expect("no trap");
    interrupt.set();
    call_until(&guest, "short", Interrupt::new()).expect("no trap");
    guest.call("short", &[]).expect("no trap");
}

fn a_start_function_stops<E: Engine>(engine: &Arc<E>) {
    let wat = "(module (func $start (loop $l (br $l))) (start $start))";
    let realm = Realm::new(engine);
    let guest = Guest::linked(&realm, None, wat, &[]);
    assert_interrupted(realm.start(guest.index, &mut Stopping(soon(), |_: HostCall<'_>| Ok(()))));
}

fn a_guest_is_stopped_when_it_comes_back_from_the_host<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let interrupt = Interrupt::new();
    let answer = |succeeds| {
        let other = interrupt.clone();
        move |_: HostCall<'_>| {
            other.set();
            if succeeds { Ok(()) } else { Err(HostTrap::Message("the host fails, too".into())) }
        }
    };
    assert_interrupted(call_with(&guest, "call f", interrupt.clone(), answer(true)));
    assert_eq!(guest.global("n"), 0, "it has not gone on");
    let interrupt = Interrupt::new();
    let other = interrupt.clone();
    let fails = move |_: HostCall<'_>| {
        other.set();
        Err(HostTrap::Message("the host fails, too".into()))
    };
    assert_interrupted(call_with(&guest, "call f", interrupt, fails));
    guest.call_with("call f", &[], |_| Ok(())).expect("no trap");
}

fn a_nested_call_stops_with_the_call_around_it<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let inner = guest.clone();
    let interrupt = soon();
    let nested = interrupt.clone();
    let outcome = call_with(&guest, "call f", interrupt, move |_| {
        assert_interrupted(call_until(&inner, "count", nested.clone()));
        Ok(())
    });
    assert_interrupted(outcome);
}

fn a_nested_call_with_an_earlier_deadline_stops_alone<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let inner = guest.clone();
    let far = Interrupt::at(Instant::now() + Duration::from_secs(1000)).expect("there is a thread for deadlines");
    let outcome = call_with(&guest, "call f", far, move |_| {
        assert_interrupted(call_until(&inner, "count", soon()));
        Ok(())
    });
    outcome.expect("the call around it has time");
    assert_eq!(guest.global("n") as i64, -1);
}

fn a_nested_call_in_another_realm_stops_with_the_call_around_it<E: Engine>(engine: &Arc<E>) {
    let outer = Guest::new(engine, COUNTING);
    let inner = Guest::new(engine, COUNTING);
    let interrupt = soon();
    let nested = interrupt.clone();
    let outcome = call_with(&outer, "call f", interrupt, |_| {
        assert_interrupted(call_until(&inner, "count", nested.clone()));
        Ok(())
    });
    assert_interrupted(outcome);
    for guest in [&outer, &inner] {
        guest.call("short", &[]).expect("no trap");
    }
}

fn an_interrupt_meets_a_guest_that_runs_inside_itself<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ENDLESS);
    for depth in [1, 10] {
        let interrupt = soon();
        descend(&guest, &interrupt, depth);
        assert_eq!(guest.call("fine", &[]).expect("still usable"), [7]);
    }
}

fn descend<E: Engine>(guest: &Guest<E>, interrupt: &Arc<Interrupt>, depth: u32) {
    let outcome = call_with(guest, "host calls in a loop", interrupt.clone(), |_| {
        if depth == 0 {
            assert_interrupted(call_until(guest, "an empty loop", interrupt.clone()));
        } else {
            descend(guest, interrupt, depth - 1);
        }
        Ok(())
    });
    assert_interrupted(outcome);
}

fn a_call_that_is_to_stop_does_not_begin<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let interrupt = Interrupt::new();
    interrupt.set();
    assert_interrupted(call_until(&guest, "short", interrupt));
    assert_eq!(guest.global("n"), 0);
}

fn a_trap_of_the_guest_is_still_that_trap<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    let trap = call_until(&guest, "trap", Interrupt::new()).expect_err("it traps");
    assert_eq!(trap.code, TrapCode::Unreachable);
}

fn the_exports_show_nothing_of_it<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, "(module (func (export \"a\")) (memory (export \"b\") 1))");
    let names: Vec<&str> = module.exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

fn a_guest_may_export_any_name<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (global (export "interrupt") i32 (i32.const 5)) (global (export "interrupt'") (mut i64) (i64.const 6))
        (func (export "run") (loop $l (br $l))))"#;
    let guest = Guest::new(engine, wat);
    assert_eq!((guest.global("interrupt"), guest.global("interrupt'")), (5, 6));
    assert_interrupted(call_until(&guest, "run", soon()));
    assert_eq!((guest.global("interrupt"), guest.global("interrupt'")), (5, 6));
}

fn deadlines_at_every_moment_do_no_harm<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, COUNTING);
    for micros in (0..2000).step_by(7) {
        let interrupt =
            Interrupt::at(Instant::now() + Duration::from_micros(micros)).expect("there is a thread for deadlines");
        assert_interrupted(call_until(&guest, "count", interrupt));
        // The next call has no deadline, and must not see what the last one left.
        guest.call("short", &[]).expect("no trap");
    }
}

fn without_interruptible_a_guest_stops_at_its_next_host_call<E: Engine>(_: &Arc<E>) {
    let engine = engine_with::<E>(&EngineConfig::default());
    let module = compile(&*engine, ENDLESS);
    let realm = Realm::new(&engine);
    let index = realm.instantiate(&module, None, &imports(&module, &[])).expect("it links");
    let guest = Guest { realm, module, index };
    assert_interrupted(call_until(&guest, "host calls in a loop", soon()));
    assert_eq!(guest.call("fine", &[]).expect("still usable"), [7]);
}
