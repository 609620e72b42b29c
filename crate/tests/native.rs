//! Imported functions that are answered in Rust, where the guest runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sandbox_host::{
    engine::{Engine, EngineConfig},
    error::{HostTrap, Trap, TrapCode},
    interrupt::Interrupt,
    realm::{Answer, Caller, Entry, Host, HostCall, Import, NativeFunc, Realm},
};

use crate::guest::{Guest, HostFn, compile, engine_with, no_host};

on_both_engines![
    it_answers_with_what_it_makes_of_the_arguments,
    it_reads_and_writes_the_memory_of_its_caller,
    it_takes_fuel,
    its_trap_ends_the_call,
    its_panic_ends_the_call,
    it_sees_the_interrupt,
    it_is_called_through_a_table,
    it_is_called_in_a_start_function,
    it_is_called_in_a_call_that_is_left_and_gone_on_with,
];

fn native(run: impl Fn(&mut Caller<'_>, &mut [u64]) -> Result<(), Box<HostTrap>> + Send + Sync + 'static) -> Import {
    let native: Arc<dyn NativeFunc> = Arc::new(run);
    Import::Native(native)
}

fn linked<E: Engine>(engine: &Arc<E>, wat: &str, imports: &[Import]) -> Guest<E> {
    let realm = Realm::new(engine);
    let module = compile(&**engine, wat);
    let index = realm.instantiate(&module, None, imports).expect("it links");
    Guest { realm, module, index }
}

/// Answers with the argument doubled.
fn doubling() -> Import {
    native(|_, slots| {
        slots[0] = u64::from(slots[0] as u32 * 2);
        Ok(())
    })
}

const CALLS: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"#;

fn it_answers_with_what_it_makes_of_the_arguments<E: Engine>(engine: &Arc<E>) {
    assert_eq!(linked(engine, CALLS, &[doubling()]).call("run", &[21]).expect("no trap"), [42]);
}

fn it_reads_and_writes_the_memory_of_its_caller<E: Engine>(engine: &Arc<E>) {
    let text = |memories: &str| {
        format!(
            r#"(module (import "e" "f" (func $f (param i32) (result i32))) {memories}
                (data (i32.const 8) "\01\02\03\04")
                (func (export "run") (param i32) (result i32) (drop (call $f (local.get 0))) (i32.load (i32.const 0))))"#
        )
    };
    for (memories, name) in [(r#"(memory (export "m") 1)"#, Some("m")), ("(memory 1)", None)] {
        let reverse = native(move |caller, slots| {
            let memory = match name {
                Some(name) => caller.exported_memory(name),
                None => caller.memory0(),
            };
            let memory = memory.expect("it has a memory");
            let mut bytes = [0; 4];
            caller.memory_read(memory, slots[0], &mut bytes).expect("in bounds");
            bytes.reverse();
            caller.memory_write(memory, 0, &bytes).expect("in bounds");
            assert!(caller.memory_read(memory, 65_533, &mut bytes).is_err());
            assert!(caller.memory_write(memory, u64::MAX, &bytes).is_err());
            assert_eq!((caller.exported_memory("x"), caller.memory_region(memory).bytes), (None, 65_536));
            Ok(())
        });
        assert_eq!(linked(engine, &text(memories), &[reverse]).call("run", &[8]).expect("no trap"), [0x0102_0304]);
    }
}

/// A host with so much fuel.
struct Fuel(u64);

impl Host for Fuel {
    fn call(&mut self, _call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        unreachable!("all functions are native")
    }

    fn fuel(&self) -> u64 {
        self.0
    }

    fn set_fuel(&mut self, left: u64) {
        self.0 = left;
    }
}

fn it_takes_fuel<E: Engine>(_: &Arc<E>) {
    let engine = engine_with::<E>(&EngineConfig { has_fuel: true, ..EngineConfig::default() });
    let taking = native(|caller, slots| {
        assert!(caller.fuel().is_some_and(|fuel| fuel < 1_000_000));
        caller.take_fuel(slots[0])
    });
    let guest = linked(&engine, CALLS, &[taking]);
    let left_of = |taken: u64| {
        let mut host = Fuel(1_000_000);
        let outcome = guest.realm.call(guest.index, guest.export("run"), &mut [taken], &mut host);
        (outcome.map_err(|trap: Box<Trap>| trap.code), host.0)
    };
    let (outcome, left) = left_of(0);
    assert_eq!(outcome, Ok(()));
    assert_eq!(left_of(500_000), (Ok(()), left - 500_000));
    assert_eq!(left_of(2_000_000), (Err(TrapCode::OutOfFuel), 0));
    let unmetered = native(|caller, _| {
        assert_eq!(caller.fuel(), None);
        caller.take_fuel(u64::MAX)
    });
    linked(&engine_with::<E>(&EngineConfig::default()), CALLS, &[unmetered]).call("run", &[1]).expect("no trap");
}

fn its_trap_ends_the_call<E: Engine>(engine: &Arc<E>) {
    let failing = native(|_, _| Err(Box::new(HostTrap::Message("no such file".into()))));
    let trap = linked(engine, CALLS, &[failing]).call("run", &[1]).expect_err("it traps");
    assert_eq!((trap.code, &*trap.message), (TrapCode::Supervisor, "no such file"));
    let suspending = native(|_, _| Err(Box::new(HostTrap::Suspended)));
    let trap = linked(engine, CALLS, &[suspending]).call("run", &[1]).expect_err("nobody has an answer later");
    assert_eq!(trap.code, TrapCode::Supervisor);
}

fn its_panic_ends_the_call<E: Engine>(engine: &Arc<E>) {
    let guest = linked(engine, CALLS, &[native(|_, _| panic!("on purpose"))]);
    let trap = guest.call("run", &[1]).expect_err("it traps");
    assert_eq!(trap.code, TrapCode::Internal);
    assert!(trap.message.contains("on purpose"), "{}", trap.message);
}

/// A host whose calls that interrupt stops.
struct Stopped(Arc<Interrupt>);

impl Host for Stopped {
    fn call(&mut self, _call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        unreachable!("all functions are native")
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        Some(self.0.clone())
    }
}

fn it_sees_the_interrupt<E: Engine>(engine: &Arc<E>) {
    let interrupt = Interrupt::new();
    let has_seen = Arc::new(AtomicBool::new(false));
    let (setting, seeing) = (interrupt.clone(), has_seen.clone());
    let waiting = native(move |caller, _| {
        assert!(caller.interrupt().is_some_and(|interrupt| !interrupt.is_set()));
        setting.set();
        seeing.store(caller.interrupt().is_some_and(Interrupt::is_set), Ordering::SeqCst);
        Ok(())
    });
    let guest = linked(engine, CALLS, &[waiting]);
    let outcome = guest.realm.call(guest.index, guest.export("run"), &mut [1], &mut Stopped(interrupt));
    assert_eq!(outcome.map_err(|trap| trap.code), Err(TrapCode::Interrupted));
    assert!(has_seen.load(Ordering::SeqCst));
}

fn it_is_called_through_a_table<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (type $t (func (param i32) (result i32))) (import "e" "f" (func $f (type $t)))
        (table 1 funcref) (elem (i32.const 0) $f)
        (func (export "run") (param i32) (result i32) (call_indirect (type $t) (local.get 0) (i32.const 0))))"#;
    assert_eq!(linked(engine, wat, &[doubling()]).call("run", &[4]).expect("no trap"), [8]);
}

fn it_is_called_in_a_start_function<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
        (global $g (export "g") (mut i32) (i32.const 0))
        (func $s (global.set $g (call $f (i32.const 3)))) (start $s))"#;
    let guest = linked(engine, wat, &[doubling()]);
    guest.realm.start(guest.index, &mut no_host()).expect("no trap");
    assert_eq!(guest.global("g"), 6);
}

fn it_is_called_in_a_call_that_is_left_and_gone_on_with<E: Engine>(engine: &Arc<E>) {
    let wat = r#"(module (import "e" "native" (func $n (param i32) (result i32)))
        (import "e" "later" (func $l (param i32) (result i32)))
        (func (export "run") (param i32) (result i32) (call $n (call $l (call $n (local.get 0))))))"#;
    let guest = linked(engine, wat, &[doubling(), Import::Host]);
    let mut slots = [5];
    let mut host = HostFn(|call: HostCall<'_>| {
        assert_eq!((call.import, call.slots[0]), (1, 10));
        if E::SUSPENDS {
            return Err(HostTrap::Suspended);
        }
        call.slots[0] = 11;
        Ok(())
    });
    let entry = Entry::Export(guest.export("run"));
    let left = guest.realm.call_suspendable(guest.index, entry, &mut slots, &mut host).expect("no trap");
    assert_eq!(left.is_some(), E::SUSPENDS);
    if let Some(left) = left {
        let site = sandbox_host::engine::ImportSite { instance: guest.index, import: 1 };
        let answer = Answer { site, carried: None, results: &[11] };
        assert!(guest.realm.resume(left, answer, &mut slots, &mut no_host()).expect("no trap").is_none());
    }
    assert_eq!(slots, [22]);
}
