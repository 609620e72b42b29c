//! Instances that are made on another thread, and start functions that ask.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, InstantiateError, TrapCode},
    executor::{Begin, Outcome, pool::ThreadQuota},
    interrupt::Interrupt,
    realm::{Realm, Slots},
};

use super::Supervisor;
use crate::guest::{Guest, compile};

on_both_engines![a_start_function_may_ask, a_start_function_may_fail, a_module_that_does_not_link_is_refused];

const STARTS: &str = r#"(module (import "e" "f" (func $f (param i64) (result i64)))
    (global $n (export "n") (mut i64) (i64.const 0))
    (func $start (global.set $n (call $f (i64.const 5)))) (start $start))"#;

fn a_start_function_may_ask<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    for _ in 0..20 {
        let realm = Realm::new(engine);
        let mut supervisor = Supervisor::new();
        let pending = supervisor.instantiate(&realm, &module);
        supervisor.asked();
        assert_eq!(pending.argument(), 5);
        pending.answer(40);
        let (_, _, finished) = supervisor.finished();
        let Outcome::Instantiated(index, Ok(())) = finished.outcome else { panic!("it was made") };
        drop(finished.lease);
        let guest = Guest { realm, module: module.clone(), index };
        assert_eq!(guest.global("n"), 40);
    }
}

fn a_start_function_may_fail<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    let realm = Realm::new(engine);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.instantiate(&realm, &module);
    supervisor.asked();
    pending.fail(HostTrap::Parked);
    let (_, _, finished) = supervisor.finished();
    let Outcome::Instantiated(_, Err(trap)) = finished.outcome else { panic!("its start function failed") };
    assert_eq!(trap.code, TrapCode::Supervisor);
}

fn a_module_that_does_not_link_is_refused<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, STARTS);
    let realm = Realm::new(engine);
    let mut supervisor = Supervisor::new();
    let begin = Begin::Instantiate { module, carried: None, imports: Vec::new() };
    supervisor.begin(&realm, &ThreadQuota::new(1), Interrupt::new(), Slots::new(0), begin);
    let (_, _, finished) = supervisor.finished();
    assert!(matches!(finished.outcome, Outcome::NotInstantiated(InstantiateError::Link(_))));
}
