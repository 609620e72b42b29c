//! Gas under `Version::V2`: the guest's exported global `gear_gas`, read before each host call and written after it.
//! What is expected here is what `gear-sandbox-host` 1.10.0 does, the messages included.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::{GLOBAL_NAME_GAS, HostCall, Realm, Version},
};

use crate::guest::{Guest, HostFn};

on_both_engines![
    the_host_sees_the_gas_and_what_it_leaves_is_written_back,
    gas_of_any_value_survives,
    under_version_1_there_is_no_gas,
    gas_is_read_at_each_call,
    a_failed_host_call_leaves_the_gas_as_it_was,
    a_host_that_panics_leaves_the_gas_as_it_was,
    a_host_that_leaves_the_gas_alone_changes_nothing,
    a_guest_without_a_usable_gas_global_traps_when_it_calls,
    a_guest_without_gas_runs_until_it_calls,
    a_guest_without_gas_can_be_called_under_version_1,
    a_nested_call_sees_the_gas_of_the_guest,
    a_nested_call_of_another_instance_has_its_own_gas,
    the_outer_call_has_the_last_word,
    what_the_host_writes_to_the_global_is_overwritten,
    a_start_function_has_gas,
    an_exported_import_has_gas,
    the_gas_global_is_found_whatever_else_is_exported,
];

fn linked<E: Engine>(engine: &Arc<E>, wat: &str) -> Guest<E> {
    Guest::linked(&Realm::new(engine), Version::V2, wat, &[])
}

const GAS: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (global $gas (export "gear_gas") (mut i64) (i64.const 1000))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "spend") (param i64) (result i32)
        (global.set $gas (i64.sub (global.get $gas) (local.get 0)))
        (call $f (i32.const 0)))
    (func (export "idle") (result i64) (global.get $gas))
    (export "direct" (func $f)))"#;

fn set_gas<E: Engine>(guest: &Guest<E>, gas: i64) {
    assert!(guest.realm.global_set(guest.index, guest.export(GLOBAL_NAME_GAS), gas as u64).expect("mutable"));
}

fn gas<E: Engine>(guest: &Guest<E>) -> i64 {
    guest.global(GLOBAL_NAME_GAS) as i64
}

fn the_host_sees_the_gas_and_what_it_leaves_is_written_back<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("run", &[5], |call| {
        let gas = call.gas.expect("Version 2");
        assert_eq!((*gas, &*call.slots), (1000, &[5][..]));
        *gas -= 1;
        call.slots[0] = 6;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [6]);
    assert_eq!(gas(&guest), 999);
    assert_eq!(guest.call("idle", &[]).expect("no trap"), [999]);
}

fn gas_of_any_value_survives<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    for (before, after) in [(0, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN, -1), (-1, 1 << 32), (1 << 32, 0)] {
        set_gas(&guest, before);
        let results = guest.call_with("run", &[0], |call| {
            assert_eq!(std::mem::replace(call.gas.expect("Version 2"), after), before);
            Ok(())
        });
        results.expect("no trap");
        assert_eq!(gas(&guest), after);
    }
}

fn under_version_1_there_is_no_gas<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GAS);
    let results = guest.call_with("run", &[5], |call| {
        assert!(call.gas.is_none());
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(gas(&guest), 1000);
}

fn gas_is_read_at_each_call<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let mut expected = 1000;
    for spent in [1, 10, 100] {
        let results = guest.call_with("spend", &[spent], |call| {
            assert_eq!(*call.gas.expect("Version 2"), expected - spent as i64);
            Ok(())
        });
        results.expect("no trap");
        expected -= spent as i64;
    }
    set_gas(&guest, 50);
    guest
        .call_with("spend", &[1], |call| {
            assert_eq!(*call.gas.expect("Version 2"), 49);
            Ok(())
        })
        .expect("no trap");
}

fn a_failed_host_call_leaves_the_gas_as_it_was<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    for trap in [HostTrap::Parked, HostTrap::Message("no".into())] {
        let results = guest.call_with("run", &[0], |call| {
            *call.gas.expect("Version 2") = 1;
            Err(trap.clone())
        });
        assert_eq!(results.expect_err("it fails").code, TrapCode::Supervisor);
        assert_eq!(gas(&guest), 1000);
    }
}

fn a_host_that_panics_leaves_the_gas_as_it_was<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("run", &[0], |call| {
        *call.gas.expect("Version 2") = 1;
        panic!("on purpose")
    });
    assert_eq!(results.expect_err("it panics").code, TrapCode::Internal);
    assert_eq!(gas(&guest), 1000);
}

fn a_host_that_leaves_the_gas_alone_changes_nothing<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    guest.call_with("run", &[0], |_| Ok(())).expect("no trap");
    assert_eq!(gas(&guest), 1000);
}

/// Globals that are not what the gas global has to be: absent, of another type, immutable, not exported, no global.
const UNUSABLE: [&str; 8] = [
    "",
    r#"(global (export "gear_gas") (mut i32) (i32.const 1))"#,
    r#"(global (export "gear_gas") (mut f64) (f64.const 1))"#,
    r#"(global (export "gear_gas") (mut v128) (v128.const i64x2 1 1))"#,
    r#"(global (export "gear_gas") i64 (i64.const 1))"#,
    r#"(global (mut i64) (i64.const 1))"#,
    r#"(global (export "gear_gaz") (mut i64) (i64.const 1)) (global (export "gear_ga") (mut i64) (i64.const 1))"#,
    r#"(func (export "gear_gas"))"#,
];

fn without_gas(global: &str) -> String {
    format!(
        r#"(module (import "e" "f" (func $f)) {global}
            (func (export "run") (call $f)) (func (export "idle") (result i32) (i32.const 5)))"#
    )
}

fn a_guest_without_a_usable_gas_global_traps_when_it_calls<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        let guest = linked(engine, &without_gas(global));
        let trap = guest.call_with("run", &[], |_| panic!("the host must not be asked")).expect_err("it traps");
        let expected = (TrapCode::Supervisor, "Cannot get gas global from store environment");
        assert_eq!((trap.code, &*trap.message), expected, "{global}");
    }
}

fn a_guest_without_gas_runs_until_it_calls<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        assert_eq!(linked(engine, &without_gas(global)).call("idle", &[]).expect("no trap"), [5]);
    }
}

fn a_guest_without_gas_can_be_called_under_version_1<E: Engine>(engine: &Arc<E>) {
    for global in UNUSABLE {
        Guest::new(engine, &without_gas(global)).call_with("run", &[], |_| Ok(())).expect("no trap");
    }
}

fn a_nested_call_sees_the_gas_of_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("spend", &[100], |call| {
        let outer = call.gas.expect("Version 2");
        assert_eq!(*outer, 900);
        guest
            .call_with("spend", &[10], |call| {
                let inner = call.gas.expect("Version 2");
                assert_eq!(*inner, 890);
                *inner -= 1;
                Ok(())
            })
            .expect("no trap");
        assert_eq!(gas(&guest), 889);
        *outer = gas(&guest) - 1;
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(gas(&guest), 888);
}

fn a_nested_call_of_another_instance_has_its_own_gas<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let outer = Guest::linked(&realm, Version::V2, GAS, &[]);
    let inner = Guest::linked(&realm, Version::V2, GAS, &[]);
    let old = Guest::linked(&realm, Version::V1, GAS, &[]);
    set_gas(&inner, 5);
    let results = outer.call_with("run", &[0], |call| {
        *call.gas.expect("Version 2") -= 1;
        inner
            .call_with("run", &[0], |call| {
                *call.gas.expect("Version 2") -= 1;
                old.call_with("run", &[0], |call| {
                    assert!(call.gas.is_none());
                    Ok(())
                })
                .expect("no trap");
                Ok(())
            })
            .expect("no trap");
        Ok(())
    });
    results.expect("no trap");
    assert_eq!((gas(&outer), gas(&inner), gas(&old)), (999, 4, 1000));
}

fn the_outer_call_has_the_last_word<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("run", &[0], |call| {
        let spend = |call: HostCall<'_>| {
            *call.gas.expect("Version 2") = 7;
            Ok(())
        };
        guest.call_with("run", &[0], spend).expect("no trap");
        assert_eq!((gas(&guest), *call.gas.expect("Version 2")), (7, 1000));
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(gas(&guest), 1000);
}

fn what_the_host_writes_to_the_global_is_overwritten<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("run", &[0], |call| {
        set_gas(&guest, 3);
        *call.gas.expect("Version 2") -= 1;
        Ok(())
    });
    results.expect("no trap");
    assert_eq!(gas(&guest), 999);
}

fn a_start_function_has_gas<E: Engine>(engine: &Arc<E>) {
    let guest = linked(
        engine,
        r#"(module (import "e" "f" (func $f)) (global $gas (export "gear_gas") (mut i64) (i64.const 20))
            (func $s (global.set $gas (i64.const 15)) (call $f)) (start $s))"#,
    );
    let mut host = HostFn(|call: HostCall<'_>| {
        let gas = call.gas.expect("Version 2");
        assert_eq!(*gas, 15);
        *gas = 14;
        Ok(())
    });
    guest.realm.start(guest.index, &mut host).expect("no trap");
    assert_eq!(gas(&guest), 14);
}

fn an_exported_import_has_gas<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, GAS);
    let results = guest.call_with("direct", &[3], |call| {
        *call.gas.expect("Version 2") -= 2;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [3]);
    assert_eq!(gas(&guest), 998);
}

fn the_gas_global_is_found_whatever_else_is_exported<E: Engine>(engine: &Arc<E>) {
    // The exports stand in another order than their names do, and a start function takes part.
    let guest = linked(
        engine,
        r#"(module (import "e" "f" (func $f))
            (global $other (mut i64) (i64.const 1)) (global $gas (mut i64) (i64.const 2))
            (export "zz" (global $other)) (export "start" (global $other)) (export "gear_gas" (global $gas))
            (export "a" (global $other)) (export "run" (func $f)) (func $s) (start $s))"#,
    );
    guest
        .call_with("run", &[], |call| {
            assert_eq!(std::mem::replace(call.gas.expect("Version 2"), 3), 2);
            Ok(())
        })
        .expect("no trap");
    assert_eq!((guest.global("gear_gas"), guest.global("zz")), (3, 1));
}
