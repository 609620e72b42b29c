//! What the tests stand on: engines, guests made from text, hosts made from closures, and the macros that run one
//! test on both engines. Nothing here checks anything of its own.

use std::{env, process::Command, rc::Rc, sync::Arc};

use sandbox_host::{
    engine::{Engine, EngineConfig},
    error::{HostTrap, Trap, TrapCode},
    module::Module,
    realm::{Carried, Host, HostCall, Import, Realm},
    value::{ExternType, MemoryType},
};

/// Makes a `#[test]` for each engine out of each generic function named.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_wasmi {
            $(#[test] fn $name() { super::$name(&$crate::guest::engine::<sandbox_host::engine::wasmi::Wasmi>()) })*
        }
        mod on_wasmer {
            $(#[test] fn $name() { super::$name(&$crate::guest::engine::<sandbox_host::engine::wasmer::Wasmer>()) })*
        }
    };
}

/// The same, each test in a process of its own: for those that measure the process or that may end it.
macro_rules! on_both_engines_alone {
    ($($name:ident),* $(,)?) => {
        mod alone_on_wasmi {
            use sandbox_host::engine::wasmi::Wasmi;
            $(#[test] fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                $crate::guest::alone(path, || super::$name(&$crate::guest::engine::<Wasmi>()));
            })*
        }
        mod alone_on_wasmer {
            use sandbox_host::engine::wasmer::Wasmer;
            $(#[test] fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                $crate::guest::alone(path, || super::$name(&$crate::guest::engine::<Wasmer>()));
            })*
        }
    };
}

/// An engine as the package makes it for its users unless they ask for another.
pub fn engine<E: Engine>() -> Arc<E> {
    engine_with(&EngineConfig { interruptible: true, ..EngineConfig::default() })
}

/// An engine with another configuration.
pub fn engine_with<E: Engine>(config: &EngineConfig) -> Arc<E> {
    Arc::new(E::new(config).expect("the configuration is good"))
}

/// The binary of a module in the text format.
pub fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"))
}

/// A compiled module from text.
pub fn compile<E: Engine>(engine: &E, wat: &str) -> Arc<Module<E>> {
    Arc::new(Module::compile(engine, &wasm(wat)).unwrap_or_else(|error| panic!("{error}\n{wat}")))
}

/// What a module is linked with: functions of the host, and `memories` in turn.
pub fn imports<E: Engine>(module: &Module<E>, memories: &[u32]) -> Vec<Import> {
    let mut memories = memories.iter();
    let import = |ty: &ExternType| match ty {
        ExternType::Memory(_) => Import::Memory(*memories.next().expect("a memory for each memory import")),
        _ => Import::Host,
    };
    module.imports.iter().map(|import| &import.ty).map(import).collect()
}

/// What a test passes where no host call may happen.
pub fn no_host() -> impl Host {
    HostFn(|_: HostCall<'_>| Err(HostTrap::Message("the test expects no host call".into())))
}

/// What a guest's host calls fail with if it has no global that could travel with them.
pub const MISSING: &str = "the guest has no such global";

/// A host made from a closure.
pub struct HostFn<F>(pub F);

impl<F: FnMut(HostCall<'_>) -> Result<(), HostTrap>> Host for HostFn<F> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        (self.0)(call).map_err(Box::new)
    }
}

/// An instance with its realm and its module.
pub struct Guest<E: Engine> {
    pub realm: Rc<Realm<E>>,
    pub module: Arc<Module<E>>,
    pub index: u32,
}

impl<E: Engine> Clone for Guest<E> {
    fn clone(&self) -> Self {
        Self { realm: self.realm.clone(), module: self.module.clone(), index: self.index }
    }
}

impl<E: Engine> Guest<E> {
    /// An instance in a realm of its own. All its imports are functions of the host.
    pub fn new(engine: &Arc<E>, wat: &str) -> Self {
        Self::linked(&Realm::new(engine), None, wat, &[])
    }

    /// An instance in `realm`, of whose exports the global `carried` travels with its host calls. Its function imports are the host's, its memory imports take `memories` in turn.
    pub fn linked(realm: &Rc<Realm<E>>, carried: Option<&str>, wat: &str, memories: &[u32]) -> Self {
        Self::of(realm, &compile(&**realm.engine(), wat), carried, memories)
    }

    /// The same, of a module that is compiled already.
    pub fn of(realm: &Rc<Realm<E>>, module: &Arc<Module<E>>, carried: Option<&str>, memories: &[u32]) -> Self {
        let carried = carried.map(|name| Carried {
            export: module.exports.iter().position(|export| export.name == name).map(|place| place as u32),
            missing: MISSING.into(),
        });
        let index = realm.instantiate(module, carried, &imports(module, memories));
        let index = index.unwrap_or_else(|error| panic!("{error}"));
        Self { realm: realm.clone(), module: module.clone(), index }
    }

    /// The index of an export.
    pub fn export(&self, name: &str) -> u32 {
        let place = self.module.exports.iter().position(|export| export.name == name);
        place.unwrap_or_else(|| panic!("no export {name}")) as u32
    }

    /// The realm's index of an exported memory.
    pub fn memory(&self, name: &str) -> u32 {
        self.realm.exported_memory(self.index, self.export(name)).expect("the export is a memory")
    }

    /// The value of an exported global.
    pub fn global(&self, name: &str) -> u64 {
        self.realm.global_get(self.index, self.export(name)).expect("not busy").expect("a numeric global")
    }

    /// Calls an export that calls no host function.
    pub fn call(&self, name: &str, arguments: &[u64]) -> Result<Vec<u64>, Box<Trap>> {
        self.call_with(name, arguments, |_| Err(HostTrap::Message("the test expects no host call".into())))
    }

    /// Calls an export, with `host` to answer the calls that come out of it.
    pub fn call_with(
        &self,
        name: &str,
        arguments: &[u64],
        host: impl FnMut(HostCall<'_>) -> Result<(), HostTrap>,
    ) -> Result<Vec<u64>, Box<Trap>> {
        let export = self.export(name);
        let ExternType::Func(ty) = &self.module.exports[export as usize].ty else { panic!("{name} is no function") };
        let mut slots = vec![0; ty.slots()];
        slots[..arguments.len()].copy_from_slice(arguments);
        self.realm.call(self.index, export, &mut slots, &mut HostFn(host))?;
        slots.truncate(ty.results.len());
        Ok(slots)
    }

    /// The code of the trap that a call ends with.
    pub fn trap(&self, name: &str, arguments: &[u64]) -> TrapCode {
        match self.call(name, arguments) {
            Ok(results) => panic!("{name} has the results {results:?} and no trap"),
            Err(trap) => trap.code,
        }
    }
}

/// For a host that hands a trap of a nested call on to the guest that called it.
pub fn pass_on(trap: Trap) -> HostTrap {
    HostTrap::Message(trap.message)
}

/// A memory of `minimum` pages and at most `maximum`.
pub fn pages(minimum: u64, maximum: impl Into<Option<u64>>) -> MemoryType {
    MemoryType { minimum, maximum: maximum.into() }
}

/// All bytes of a memory.
pub fn contents<E: Engine>(realm: &Realm<E>, memory: u32) -> Vec<u8> {
    let mut bytes = vec![0xee; realm.memory_region(memory).expect("not busy").bytes];
    realm.memory_read(memory, 0, &mut bytes).expect("in bounds");
    bytes
}

/// Whether all bytes are zero. Quick, because some tests look at many megabytes.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk == &[0; 4096][..chunk.len()])
}

/// Set in the processes that `alone` starts.
const ALONE: &str = "SANDBOX_HOST_TEST_ALONE";

/// Runs `test` in a process of its own: this program once more, with nothing but the test of that path.
pub fn alone(path: &str, test: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    let (_, name) = path.split_once("::").expect("a path begins with the crate");
    let program = env::current_exe().expect("a test program has a path");
    let output = Command::new(program)
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        // One arena of the allocator for all threads, so that what is measured does not depend on which thread did it.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("the test program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{name} is not the name of a test\n{out}\n{err}");
}

/// How much memory of this process is resident, in bytes.
#[cfg(target_os = "linux")]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line for resident memory");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}
