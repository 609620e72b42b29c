//! Host functions that fail or panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    realm::HostCall,
};

use super::CALLS_OUT;
use crate::guest::{Guest, HostFn, contents};

on_both_engines![
    a_parked_reason_ends_the_guest,
    a_message_ends_the_guest_and_is_its_traps_message,
    a_panic_of_the_host_stops_at_the_seam,
    a_panic_in_a_nested_call_stops_at_the_innermost_seam,
    a_realm_can_be_used_while_a_panic_unwinds,
    a_failed_host_call_changes_no_result,
    the_guest_runs_on_after_a_host_call_and_not_after_a_failed_one,
];

fn a_parked_reason_ends_the_guest<E: Engine>(engine: &Arc<E>) {
    let trap = Guest::new(engine, CALLS_OUT).call_with("run", &[1], |_| Err(HostTrap::Parked)).expect_err("it fails");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, TrapCode::Supervisor.message()));
}

fn a_message_ends_the_guest_and_is_its_traps_message<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for message in ["no", "", "many words — and ünïcode\n\0"] {
        let fail = |_: HostCall<'_>| Err(HostTrap::Message(message.to_owned().into()));
        for name in ["run", "out"] {
            let trap = guest.call_with(name, &[1], fail).expect_err("it fails");
            assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, message));
        }
    }
}

fn a_panic_of_the_host_stops_at_the_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    for _ in 0..3 {
        let trap = guest.call_with("run", &[1], |_| panic!("number {}", 5)).expect_err("it panics");
        assert_eq!(trap.code, TrapCode::Internal);
        assert_eq!(trap.message, "the host function panicked: number 5");
        assert_eq!(guest.global("g"), 1);
        assert_eq!(guest.call("add", &[2, 3]).expect("still usable"), [5]);
        guest.realm.memory_write(guest.memory("m"), 0, &[1]).expect("still usable");
    }
    let trap = guest.call_with("run", &[1], |_| std::panic::panic_any(5_u8)).expect_err("it panics");
    assert_eq!(trap.message, "the host function panicked: no message");
}

fn a_panic_in_a_nested_call_stops_at_the_innermost_seam<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let results = guest.call_with("run", &[1], |call| {
        let trap = guest.call_with("run", &[2], |_| panic!("on purpose")).expect_err("it panics");
        assert_eq!(trap.code, TrapCode::Internal);
        // The realm can be used at once, in here as well.
        assert_eq!(guest.call("add", &[2, 3]).expect("usable"), [5]);
        guest.realm.memory_write(guest.memory("m"), 0, &[1]).expect("usable");
        call.slots[0] = 9;
        Ok(())
    });
    assert_eq!(results.expect("no trap"), [9]);
}

fn a_realm_can_be_used_while_a_panic_unwinds<E: Engine>(engine: &Arc<E>) {
    struct WritesWhenDropped<'a, E: Engine>(&'a Guest<E>, u64);

    impl<E: Engine> Drop for WritesWhenDropped<'_, E> {
        fn drop(&mut self) {
            self.0.realm.memory_write(self.0.memory("m"), self.1, &[7]).expect("usable while unwinding");
        }
    }

    let guest = Guest::new(engine, CALLS_OUT);
    let call = guest.call_with("run", &[1], |_| {
        let _writes = WritesWhenDropped(&guest, 0);
        panic!("on purpose")
    });
    assert_eq!(call.expect_err("it panics").code, TrapCode::Internal);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _writes = WritesWhenDropped(&guest, 1);
        panic!("on purpose")
    }));
    assert!(caught.is_err());
    assert_eq!(contents(&guest.realm, guest.memory("m"))[..2], [7, 7]);
}

fn a_failed_host_call_changes_no_result<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    let mut slots = [77];
    let mut host = HostFn(|call: HostCall<'_>| {
        call.slots[0] = 99;
        Err(HostTrap::Parked)
    });
    for name in ["run", "out"] {
        assert!(guest.realm.call(guest.index, guest.export(name), &mut slots, &mut host).is_err());
        assert_eq!(slots, [77], "{name}");
    }
}

fn the_guest_runs_on_after_a_host_call_and_not_after_a_failed_one<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, CALLS_OUT);
    assert!(guest.call_with("run", &[1], |_| Err(HostTrap::Parked)).is_err());
    assert_eq!(guest.global("g"), 1);
    guest.call_with("run", &[1], |_| Ok(())).expect("no trap");
    assert_eq!(guest.global("g"), 2);
}
