//! Fuel: what a call may use, what it has used, and that both engines count alike.

use std::{cell::Cell, sync::Arc, time::Duration};

use sandbox_host::{
    engine::{Engine, EngineConfig, UNLIMITED_FUEL, wasmer::Wasmer, wasmi::Wasmi},
    error::{HostTrap, Trap, TrapCode},
    interrupt::Interrupt,
    module::Module,
    realm::{Host, HostCall},
};

use crate::guest::{Guest, engine_with};

on_both_engines![
    endless_guests_of_every_shape_run_out,
    a_budget_that_is_just_enough_is_enough,
    a_guest_that_ran_out_runs_again,
    calls_of_the_host_and_what_it_calls_draw_on_the_budget,
    a_guest_without_fuel_does_not_reach_the_host,
    a_call_without_a_budget_is_counted,
    a_nested_call_of_the_same_guest_has_its_own_count,
    bulk_operations_are_paid_for_by_their_length,
    a_guest_without_meter_has_no_budget,
    a_module_cannot_reach_what_metering_adds,
];

/// A host with a budget, and maybe something that stops the guest.
struct Budget<F> {
    left: u64,
    interrupt: Option<Arc<Interrupt>>,
    answer: F,
}

impl<F: FnMut(HostCall<'_>, &mut u64) -> Result<(), HostTrap>> Host for Budget<F> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        (self.answer)(call, &mut self.left).map_err(Box::new)
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        self.interrupt.clone()
    }

    fn fuel(&self) -> u64 {
        self.left
    }

    fn set_fuel(&mut self, left: u64) {
        self.left = left;
    }
}

/// Every kind of engine that meters.
fn metered<E: Engine>(interruptible: bool) -> Arc<E> {
    engine_with(&EngineConfig { has_fuel: true, interruptible, ..EngineConfig::default() })
}

/// Calls an export with a budget, and says what it has left.
fn spend<E: Engine>(guest: &Guest<E>, name: &str, argument: u64, budget: u64) -> (Result<u64, Box<Trap>>, u64) {
    let mut slots = [argument, 0];
    let mut host = Budget { left: budget, interrupt: None, answer: |_: HostCall<'_>, _: &mut u64| Ok(()) };
    let outcome = guest.realm.call(guest.index, guest.export(name), &mut slots, &mut host);
    (outcome.map(|()| slots[0]), host.left)
}

/// What a call that ends by itself uses.
fn used<E: Engine>(guest: &Guest<E>, name: &str, argument: u64) -> u64 {
    let (outcome, left) = spend(guest, name, argument, 1 << 40);
    outcome.unwrap_or_else(|trap| panic!("{name}: {trap}"));
    (1 << 40) - left
}

const WORK: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 4 16)
    (table $t 4096 8192 funcref) (elem (i32.const 0) $fib)
    (type $unary (func (param i32) (result i32)))
    (type $none (func))
    (func (export "nothing"))
    (func (export "straight") (result i32) (i32.add (i32.const 1) (i32.mul (i32.const 2) (i32.const 3))))
    (func (export "loop") (param i32) (result i32) (local $sum i32)
        (loop $l (local.set $sum (i32.add (local.get $sum) (local.get 0)))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get $sum))
    (func (export "loop first") (param i32)
        loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))) end)
    (func $fib (export "fib") (param i32) (result i32)
        (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
            (then (local.get 0))
            (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
    (func (export "indirect") (param i32) (result i32) (call_indirect (type $unary) (local.get 0) (i32.const 0)))
    (func (export "early exit") (param i32) (result i32)
        (block $b (br_if $b (local.get 0)) (local.set 0 (i32.const 5)) (local.set 0 (i32.const 6)))
        (local.get 0))
    (func (export "switch") (param i32) (result i32)
        (block $c (block $b (block $a (br_table $a $b $c (local.get 0))) (return (i32.const 10))) (return (i32.const 20)))
        (i32.const 30))
    (func (export "switch values") (param i32) (result i32)
        (block $b (result i32 i32)
            (block $a (result i32 i32) (i32.const 1) (br_table $a $b $b (i32.const 2) (i32.const 3) (local.get 0))) (return (i32.add)))
        (i32.sub))
    (func (export "if with values") (param i32) (result i32)
        (i32.const 5)
        (if (param i32) (result i32) (local.get 0) (then (i32.const 1) (i32.add)))
        (if (type $none) (local.get 0) (then (local.set 0 (i32.const 3)) (local.set 0 (i32.const 3))))
        (if (param i32) (result i32) (i32.eqz (local.get 0)) (then (if (param i32) (result i32) (local.get 0) (then (i32.const 2) (i32.add)))) (else (i32.const 1) (i32.sub))))
    (func (export "nested") (param i32) (result i32) (local $i i32) (local $n i32)
        (loop $o (local.set $i (i32.const 3))
            (loop $i
                (if (i32.and (local.get $i) (i32.const 1)) (then (local.set $n (i32.add (local.get $n) (i32.const 1)))))
                (br_if $i (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
            (br_if $o (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get $n))
    (func (export "host") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "call first") (result i32) (call $zero))
    (func $zero (result i32) (i32.const 0))
    (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 7) (local.get 0)))
    (func (export "copy") (param i32) (memory.copy (i32.const 0) (i32.const 65536) (local.get 0)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table.fill") (param i32) (table.fill $t (i32.const 0) (ref.null func) (local.get 0)))
    (func (export "table.copy") (param i32) (table.copy $t $t (i32.const 0) (i32.const 64) (local.get 0)))
    (func (export "table.grow") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
    (func (export "trap") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
    (func (export "endless") (loop $l (br $l))))"#;

/// Of everything in `WORK` that ends, with some arguments.
const CALLS: &[(&str, &[u64])] = &[
    ("nothing", &[0]),
    ("straight", &[0]),
    ("loop", &[1, 2, 1000]),
    ("loop first", &[1, 2, 1000]),
    ("fib", &[0, 1, 2, 15]),
    ("indirect", &[0, 9]),
    ("early exit", &[0, 1]),
    ("switch", &[0, 1, 2, 9]),
    ("switch values", &[0, 1, 2]),
    ("if with values", &[0, 1]),
    ("nested", &[1, 7]),
    ("host", &[3]),
    ("call first", &[0]),
    ("fill", &[0, 1, 63, 64, 65_536]),
    ("copy", &[0, 1, 63, 64, 65_536]),
    ("grow", &[0, 1, 2, 65_535, 100_000_000]),
    ("table.copy", &[0, 1, 15, 16, 1000]),
    ("table.fill", &[0, 1, 15, 16, 1000]),
    ("table.grow", &[0, 1, 100, 0xffff_ffff]),
];

#[test]
fn both_engines_count_alike() {
    let wasmi = Guest::new(&metered::<Wasmi>(true), WORK);
    let wasmer = Guest::new(&metered::<Wasmer>(true), WORK);
    for (name, arguments) in CALLS {
        for argument in *arguments {
            let counts = (used(&wasmi, name, *argument), used(&wasmer, name, *argument));
            assert_eq!(counts.0, counts.1, "{name}({argument})");
            assert_eq!(used(&wasmi, "nothing", 0), 1, "each call costs something");
        }
    }
}

fn endless_guests_of_every_shape_run_out<E: Engine>(_: &Arc<E>) {
    for interruptible in [true, false] {
        let guest = Guest::new(&metered::<E>(interruptible), crate::interrupt::ENDLESS);
        for export in &guest.module.exports {
            if matches!(export.name.as_str(), "memory" | "fine") {
                continue;
            }
            let (outcome, left) = spend(&guest, &export.name, 0, 1_000_000);
            let trap = outcome.expect_err(&export.name);
            assert_eq!((trap.code, left), (TrapCode::OutOfFuel, 0), "{}: {trap}", export.name);
            assert_eq!(spend(&guest, "fine", 0, 100).0.expect("it is usable"), 7, "{}", export.name);
        }
    }
}

fn a_budget_that_is_just_enough_is_enough<E: Engine>(_: &Arc<E>) {
    for interruptible in [true, false] {
        for (name, arguments) in CALLS {
            // A fresh guest for each, because some change it.
            let argument = arguments[arguments.len() - 1];
            let fresh = || Guest::new(&metered::<E>(interruptible), WORK);
            let needed = used(&fresh(), name, argument);
            let (outcome, left) = spend(&fresh(), name, argument, needed);
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
            assert_eq!(left, 0, "{name}");
            let (outcome, left) = spend(&fresh(), name, argument, needed - 1);
            assert_eq!(outcome.map_err(|trap| trap.code), Err(TrapCode::OutOfFuel), "{name}");
            assert_eq!(left, 0, "{name}");
        }
    }
}

fn a_guest_that_ran_out_runs_again<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let needed = used(&guest, "fib", 12);
    for budget in [0, 1, needed / 2, needed - 1, needed, needed + 1] {
        let (outcome, left) = spend(&guest, "fib", 12, budget);
        assert_eq!(outcome.is_ok(), budget >= needed, "{budget}: {outcome:?}");
        assert_eq!(left, budget.saturating_sub(needed));
    }
    let (outcome, left) = spend(&guest, "trap", 0, 1000);
    assert_eq!(outcome.map_err(|trap| trap.code), Err(TrapCode::IntegerDivideByZero));
    assert!((990..1000).contains(&left), "a trap leaves what was not used: {left}");
}

fn calls_of_the_host_and_what_it_calls_draw_on_the_budget<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let alone = used(&guest, "host", 3);
    let mut host = Budget {
        left: 1000,
        interrupt: None,
        answer: |_: HostCall<'_>, left: &mut u64| {
            assert!(*left < 1000, "the host is told what is left");
            *left -= 100;
            Ok(())
        },
    };
    guest.realm.call(guest.index, guest.export("host"), &mut [3], &mut host).expect("there is enough");
    assert_eq!(host.left, 1000 - 100 - alone);

    let mut host = Budget {
        left: 1000,
        interrupt: None,
        answer: |_: HostCall<'_>, left: &mut u64| {
            *left = 0;
            Ok(())
        },
    };
    // What stands after the call has been paid for already; a call of a guest that does more must end.
    let outcome = guest.realm.call(guest.index, guest.export("host"), &mut [3], &mut host);
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(host.left, 0);
}

fn a_guest_without_fuel_does_not_reach_the_host<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let calls = Cell::new(0);
    for budget in 0..used(&guest, "host", 3) {
        let answer = |_: HostCall<'_>, _: &mut u64| {
            calls.set(calls.get() + 1);
            Ok(())
        };
        let mut host = Budget { left: budget, interrupt: None, answer };
        let outcome = guest.realm.call(guest.index, guest.export("host"), &mut [3], &mut host);
        assert_eq!(outcome.expect_err("too little").code, TrapCode::OutOfFuel);
    }
    assert_eq!(calls.get(), 0);
}

fn a_call_without_a_budget_is_counted<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let needed = used(&guest, "fib", 12);
    let (outcome, left) = spend(&guest, "fib", 12, UNLIMITED_FUEL);
    assert_eq!((outcome.expect("it ends"), left), (144, UNLIMITED_FUEL - needed));
}

fn a_nested_call_of_the_same_guest_has_its_own_count<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let (alone, inner) = (used(&guest, "host", 3), used(&guest, "fib", 10));
    let nested = guest.clone();
    let answer = move |_: HostCall<'_>, left: &mut u64| {
        let (outcome, after) = spend(&nested, "fib", 10, 5000);
        assert_eq!((outcome.expect("there is enough"), after), (55, 5000 - inner));
        let (outcome, after) = spend(&nested, "fib", 10, 5);
        assert_eq!((outcome.map_err(|trap| trap.code), after), (Err(TrapCode::OutOfFuel), 0));
        *left -= 7;
        Ok(())
    };
    let mut host = Budget { left: 1000, interrupt: None, answer };
    guest.realm.call(guest.index, guest.export("host"), &mut [3], &mut host).expect("there is enough");
    assert_eq!(host.left, 1000 - 7 - alone);
}

fn bulk_operations_are_paid_for_by_their_length<E: Engine>(_: &Arc<E>) {
    let guest = Guest::new(&metered::<E>(true), WORK);
    let costs = |name, argument, other| used(&guest, name, argument) - used(&guest, name, other);
    assert_eq!(costs("fill", 64 * 100, 0), 100);
    assert_eq!(costs("copy", 64 * 100, 0), 100);
    assert_eq!(costs("table.fill", 16 * 100, 0), 100);
    assert_eq!(costs("grow", 2, 0), 2 * 1024);
    // None of it is done if it cannot be paid for.
    let before = guest.realm.memory_region(guest.memory("memory")).expect("not busy").bytes;
    let (outcome, _) = spend(&guest, "grow", 4, 1000);
    assert_eq!(outcome.map_err(|trap| trap.code), Err(TrapCode::OutOfFuel));
    assert_eq!(guest.realm.memory_region(guest.memory("memory")).expect("not busy").bytes, before);
}

fn a_guest_without_meter_has_no_budget<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, WORK);
    let (outcome, left) = spend(&guest, "fib", 12, 1);
    assert_eq!((outcome.expect("nobody counts"), left), (144, 1));
}

/// Its only local would be the one that its fuel is in.
fn a_module_cannot_reach_what_metering_adds<E: Engine>(_: &Arc<E>) {
    let wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x7f\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x15\x01\x13\0\x42\xff\xff\xff\xff\xff\xff\xff\xff\x3f\x21\x01\x03\x40\x0c\0\x0b\x0b";
    for interruptible in [false, true] {
        let error = Module::compile(&*metered::<E>(interruptible), wasm).err().expect("it has no such local");
        assert!(error.to_string().contains("unknown local"), "{error}");
    }
}

#[test]
fn what_a_guest_uses_does_not_depend_on_who_ran_before_or_who_looks() {
    let engine = metered::<Wasmi>(true);
    let guest = Guest::new(&engine, WORK);
    // The first call translates the function.
    let first = used(&guest, "fib", 15);
    assert_eq!(used(&guest, "fib", 15), first);
    assert_eq!(used(&Guest::new(&engine, WORK), "fib", 15), first);
    let interrupt = Some(
        Interrupt::at(std::time::Instant::now() + Duration::from_secs(1000)).expect("there is a thread for deadlines"),
    );
    let mut host = Budget { left: 1 << 40, interrupt, answer: |_: HostCall<'_>, _: &mut u64| Ok(()) };
    // In slices, which a deadline brings with it.
    guest.realm.call(guest.index, guest.export("fib"), &mut [15], &mut host).expect("it ends");
    assert_eq!((1 << 40) - host.left, first);
}
