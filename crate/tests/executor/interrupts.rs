//! Interrupts, which end guests that wait and guests that compute.

use std::{
    sync::{Arc, mpsc::channel},
    thread,
};

use sandbox_host::{
    engine::{Engine, EngineConfig, wasmer::Wasmer},
    error::{HostTrap, TrapCode},
    executor::pool::ThreadQuota,
    interrupt::Interrupt,
    module::Module,
};

use super::{ASKS, Asking, LONG, Supervisor, assert_asks, at_once_and_late};
use crate::guest::{Guest, engine, engine_with};

on_both_engines![
    an_interrupt_ends_a_guest_that_waits,
    an_interrupt_ends_a_guest_that_comes_back_with_an_answer,
    an_interrupt_ends_a_guest_that_computes,
    a_call_that_is_to_stop_does_not_begin,
    a_guest_that_nobody_will_answer_is_interrupted,
    a_guest_that_cannot_be_interrupted_waits_alike,
];

fn an_interrupt_ends_a_guest_that_waits<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let (tells, told) = channel();
        let tell = move || tells.send(thread::current().id()).expect("this thread is there");
        let pending = supervisor.call_until(&guest, "ask", &[5], quota, Interrupt::telling(tell));
        supervisor.asked();
        until_it_waits();
        let other = pending.interrupt.clone();
        let setter = thread::spawn(move || other.set());
        // Nothing but this tells the thread that is to end the guest.
        assert_eq!(told.recv_timeout(LONG).expect("it is told"), setter.thread().id());
        pending.fail(HostTrap::Interrupted);
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
        setter.join().expect("it does not panic");
        guest.call("nothing", &[]).expect("still usable");
    });
}

fn an_interrupt_ends_a_guest_that_comes_back_with_an_answer<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask", &[5], quota);
        supervisor.asked();
        until_it_waits();
        pending.interrupt.set();
        pending.answer(40);
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
    });
}

fn an_interrupt_ends_a_guest_that_computes<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let mut supervisor = Supervisor::new();
        let pending = supervisor.call(&guest, "ask and run on", &[], quota);
        supervisor.asked();
        until_it_waits();
        pending.answer(0);
        pending.interrupt.set();
        assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
        guest.call("nothing", &[]).expect("still usable");
    });
}

fn a_call_that_is_to_stop_does_not_begin<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let interrupt = Interrupt::new();
    interrupt.set();
    let pending = supervisor.call_until(&guest, "add to n", &[5], &ThreadQuota::new(1), interrupt);
    assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
    assert_eq!(guest.global("n"), 0);
}

fn a_guest_that_nobody_will_answer_is_interrupted<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::with_port(|port| Asking(|| false, port));
    let pending = supervisor.call(&guest, "ask", &[5], &ThreadQuota::new(1));
    assert_eq!(supervisor.ended(&pending).trap(), TrapCode::Interrupted);
}

fn a_guest_that_cannot_be_interrupted_waits_alike<E: Engine>(_: &Arc<E>) {
    let engine = &engine_with::<E>(&EngineConfig::default());
    let guest = Guest::new(engine, ASKS);
    assert_asks(engine, &guest, "ask", 41);
    assert_asks(engine, &guest, "f", 40);
    an_interrupt_ends_a_guest_that_waits(engine);
    an_interrupt_ends_a_guest_that_comes_back_with_an_answer(engine);
}

/// wasmi compiles too fast for anybody to give up.
#[test]
fn an_interrupt_ends_a_compile_on_wasmer() {
    let engine = engine::<Wasmer>();
    let wasm = wat::parse_str(ASKS).expect("valid");
    let interrupt = Interrupt::new();
    let compile = || interrupt.around_compile(|| Module::compile(&*engine, &wasm).map(drop));
    compile().expect("nobody has given up");
    interrupt.set();
    let error = compile().expect_err("somebody has");
    assert!(error.to_string().contains("nobody waits"), "{error}");
    Module::compile(&*engine, &wasm).map(drop).expect("this one is not given up");
}
