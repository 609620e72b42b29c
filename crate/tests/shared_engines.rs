//! The engines of a process: who shares one, and which go.

use std::sync::{Arc, Weak};

use sandbox_host::engine::{
    Engine, EngineConfig,
    shared::{MOST_IDLE, SharedEngines},
};

use crate::guest::{Guest, compile};

on_both_engines![
    equal_configurations_share_an_engine,
    an_idle_engine_is_there_for_whoever_asks_next,
    idle_engines_beyond_the_bound_go_the_oldest_first,
    engines_in_use_stay_however_many_there_are,
    a_realm_keeps_its_engine,
];

/// The configurations differ in one number.
fn config(number: usize) -> EngineConfig {
    EngineConfig { recursion_depth: Some(100 + number as u32), ..EngineConfig::default() }
}

fn get<E: Engine>(engines: &SharedEngines<E>, number: usize) -> Arc<E> {
    engines.get(&config(number)).expect("the configuration is good")
}

fn is_alive<E>(engine: &Weak<E>) -> bool {
    engine.strong_count() > 0
}

fn equal_configurations_share_an_engine<E: Engine>(_: &Arc<E>) {
    let engines = SharedEngines::<E>::default();
    let (one, other) = (get(&engines, 1), get(&engines, 2));
    assert!(Arc::ptr_eq(&one, &get(&engines, 1)));
    assert!(!Arc::ptr_eq(&one, &other));
    assert_eq!(engines.len(), 2);
}

fn an_idle_engine_is_there_for_whoever_asks_next<E: Engine>(_: &Arc<E>) {
    let engines = SharedEngines::<E>::default();
    let id = get(&engines, 0).id();
    for number in 1..=MOST_IDLE {
        get(&engines, number);
    }
    assert_eq!(get(&engines, 0).id(), id);
    // Now it is the one that was asked for last.
    for number in MOST_IDLE + 1..2 * MOST_IDLE {
        get(&engines, number);
    }
    assert_eq!(get(&engines, 0).id(), id);
}

fn idle_engines_beyond_the_bound_go_the_oldest_first<E: Engine>(_: &Arc<E>) {
    let engines = SharedEngines::<E>::default();
    let made: Vec<Weak<E>> = (0..3 * MOST_IDLE).map(|number| Arc::downgrade(&get(&engines, number))).collect();
    // The one that was made last was in use while the others were counted.
    assert_eq!(engines.len(), MOST_IDLE + 1);
    let alive = made.iter().position(is_alive).expect("some are");
    assert_eq!(alive, made.len() - MOST_IDLE - 1);
    assert!(made[alive..].iter().all(is_alive));
}

fn engines_in_use_stay_however_many_there_are<E: Engine>(_: &Arc<E>) {
    let engines = SharedEngines::<E>::default();
    let used: Vec<Arc<E>> = (0..2 * MOST_IDLE).map(|number| get(&engines, number)).collect();
    for number in 0..2 * MOST_IDLE {
        get(&engines, used.len() + number);
    }
    for (number, engine) in used.iter().enumerate() {
        assert!(Arc::ptr_eq(engine, &get(&engines, number)));
    }
    drop(used);
    get(&engines, 4 * MOST_IDLE);
    assert_eq!(engines.len(), MOST_IDLE + 1);
}

fn a_realm_keeps_its_engine<E: Engine>(_: &Arc<E>) {
    let engines = SharedEngines::<E>::default();
    let guest = Guest::new(&get(&engines, 0), r#"(module (func (export "f") (result i32) (i32.const 7)))"#);
    for number in 1..3 * MOST_IDLE {
        get(&engines, number);
    }
    let engine = get(&engines, 0);
    assert!(Arc::ptr_eq(guest.realm.engine(), &engine));
    assert_eq!(guest.call("f", &[]).expect("no trap"), [7]);
    assert_eq!(compile(&*engine, "(module)").engine, guest.module.engine);
}
