//! What is fuzzed, without a fuzzer: `instantiate` takes any bytes, `differential` and `fuel` take a valid module, such as
//! `crate/support/smith` makes. Each runs both engines side by side and says where they disagree. `crate/tests/fuzz.rs` runs
//! them for a few seconds, the programs in `fuzz_targets/` for as long as one likes.

use std::{cell::RefCell, collections::BTreeSet, fmt::Write, rc::Rc, sync::Arc};

use sandbox_host::{
    engine::{Engine, EngineConfig, StoreLimits, wasmer::Wasmer, wasmi::Wasmi},
    error::{HostTrap, InstantiateError, TrapCode},
    module::Module,
    realm::{Host, HostCall, Import, Realm},
    value::{ExternType, FuncType, ValueType},
};
use wasmparser::{Operator, Parser, Payload};

/// What a guest may use in one call.
const BUDGET: u64 = 100_000;

/// How often each exported function is called.
const ROUNDS: usize = 3;

/// The depth of calls at which guests trap.
const DEPTH: u32 = 200;

const LIMITS: StoreLimits = StoreLimits { memory_bytes: Some(4 << 20), table_elements: Some(10_000), total: None };

/// Modules that would take more native memory than this are only compiled.
const MOST_BYTES: u64 = 64 << 20;

/// Compiles and links any bytes on both engines and runs all that they export. The engines must agree on whether they take
/// them, and neither may panic.
pub fn instantiate(binary: &[u8]) -> Result<(), String> {
    with_engines(false, |wasmi, wasmer| {
        let (by_wasmi, by_wasmer) = (Guest::new(wasmi, binary), Guest::new(wasmer, binary));
        let (by_wasmi, by_wasmer) = match (by_wasmi, by_wasmer) {
            (Err(Refused::Module(_)), Err(Refused::Module(_))) => return Ok(()),
            (Ok(by_wasmi), Ok(by_wasmer)) => (by_wasmi, by_wasmer),
            (Err(a), Err(b)) if a.kind() == b.kind() => return Ok(()),
            (_, Err(Refused::Module(_))) if has_tail_calls(binary) => return Ok(()),
            (a, b) => return Err(format!("wasmi: {}, wasmer: {}", refusal(&a), refusal(&b))),
        };
        let outline = (by_wasmi.outline(), by_wasmer.outline());
        if outline.0 != outline.1 {
            return Err(format!("wasmi: {}\nwasmer: {}", outline.0, outline.1));
        }
        by_wasmi.run_all()?;
        by_wasmer.run_all()
    })
}

/// What comparing a module came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// How many calls had the same outcome on both engines, the start function among them.
    pub calls: usize,
    /// How many of those trapped.
    pub traps: usize,
    /// How many calls of the host they made.
    pub host_calls: usize,
    /// Whether a call ended on which the engines need not agree, so that nothing after it was compared.
    pub stopped: bool,
}

/// Runs a module on both engines, both deterministic, and compares results, traps, calls of the host, globals and memories
/// after each call. The arguments are made of `arguments`.
pub fn differential(binary: &[u8], arguments: &[u8]) -> Result<Compared, String> {
    with_engines(true, |wasmi, wasmer| compare(wasmi, wasmer, binary, arguments, &mut |_, _, _| Ok(())))
}

/// The same with engines that are not deterministic, for modules without floating-point numbers; `differ` gets what each
/// call has used on wasmi and on wasmer, if it is not the same.
pub fn fuel(
    binary: &[u8],
    arguments: &[u8],
    differ: &mut dyn FnMut(&str, u64, u64) -> Result<(), String>,
) -> Result<Compared, String> {
    with_engines(false, |wasmi, wasmer| compare(wasmi, wasmer, binary, arguments, differ))
}

/// The engines of this thread, and how many modules they have had. New ones are made from time to time, because wasmi keeps
/// the code of all functions.
struct Engines {
    is_deterministic: bool,
    wasmi: Arc<Wasmi>,
    wasmer: Arc<Wasmer>,
    modules: usize,
}

fn with_engines<R>(is_deterministic: bool, f: impl FnOnce(&Arc<Wasmi>, &Arc<Wasmer>) -> R) -> R {
    thread_local! {
        static ENGINES: RefCell<Option<Engines>> = const { RefCell::new(None) };
    }
    let of_this_thread = ENGINES.take().filter(|kept| kept.is_deterministic == is_deterministic && kept.modules < 500);
    let mut engines = of_this_thread.unwrap_or_else(|| Engines {
        is_deterministic,
        wasmi: engine(is_deterministic),
        wasmer: engine(is_deterministic),
        modules: 0,
    });
    engines.modules += 1;
    let outcome = f(&engines.wasmi, &engines.wasmer);
    ENGINES.set(Some(engines));
    outcome
}

fn engine<E: Engine>(deterministic: bool) -> Arc<E> {
    let config = EngineConfig {
        interruptible: true,
        has_fuel: true,
        recursion_depth: Some(DEPTH),
        deterministic,
        ..EngineConfig::default()
    };
    Arc::new(E::new(&config).expect("the configuration is good"))
}

fn compare(
    wasmi: &Arc<Wasmi>,
    wasmer: &Arc<Wasmer>,
    binary: &[u8],
    arguments: &[u8],
    differ: &mut dyn FnMut(&str, u64, u64) -> Result<(), String>,
) -> Result<Compared, String> {
    let mut compared = Compared::default();
    let (wasmi, wasmer) = match (Guest::new(wasmi, binary), Guest::new(wasmer, binary)) {
        (Ok(wasmi), Ok(wasmer)) => (wasmi, wasmer),
        (Err(Refused::Module(reason)), Err(Refused::Module(_))) => return Err(format!("not a valid module: {reason}")),
        (Err(a), Err(b)) if a.kind() == b.kind() => return Ok(compared),
        (a, b) => return Err(format!("wasmi: {}, wasmer: {}", refusal(&a), refusal(&b))),
    };
    let mut arguments = Arguments { bytes: arguments, at: 0 };
    let functions = wasmi.functions();
    let rounds = (0..ROUNDS).flat_map(|_| functions.iter().map(Some));
    for function in std::iter::once(None).chain(rounds) {
        let (name, slots) = match function {
            None => ("its start function".to_owned(), Vec::new()),
            Some((export, ty)) => {
                let slots: Vec<u64> = ty.params.iter().map(|ty| arguments.next(*ty)).collect();
                (format!("{}({slots:x?})", wasmi.module.exports[*export as usize].name), slots)
            }
        };
        let (a, b) = (wasmi.run(function, &slots), wasmer.run(function, &slots));
        if a.is_open() || b.is_open() {
            compared.stopped = true;
            return Ok(compared);
        }
        if let Some(reason) = a.internal.as_ref().or(b.internal.as_ref()) {
            return Err(format!("{name}: internal failure: {reason}"));
        }
        if (&a.results, &a.host_calls) != (&b.results, &b.host_calls) {
            return Err(format!("{name}:\nwasmi  {a:x?}\nwasmer {b:x?}"));
        }
        if let Some(difference) = difference(&wasmi, &wasmer) {
            return Err(format!("{name} = {:x?}: afterwards {difference}", a.results));
        }
        compared.calls += 1;
        compared.traps += usize::from(a.results.is_err());
        compared.host_calls += a.host_calls.len();
        if a.used != b.used {
            differ(&name, a.used, b.used)?;
        }
    }
    Ok(compared)
}

/// The first exported global or memory that is not the same on both.
fn difference(wasmi: &Guest<Wasmi>, wasmer: &Guest<Wasmer>) -> Option<String> {
    let exports = (0_u32..).zip(&wasmi.module.exports);
    exports.filter_map(|(at, export)| Some((&export.name, wasmi.state(at)?, wasmer.state(at)?))).find_map(
        |(name, a, b)| {
            if a == b {
                return None;
            }
            let place = a.iter().zip(&b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            let part = |bytes: &[u8]| {
                bytes[place..].iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
            };
            let (of_wasmi, of_wasmer) = (part(&a), part(&b));
            Some(format!(
                "{name} has on wasmi {} bytes, at {place} {of_wasmi}, on wasmer {} bytes, {of_wasmer}",
                a.len(),
                b.len()
            ))
        },
    )
}

/// Why there is no guest.
#[derive(Debug)]
enum Refused {
    Module(String),
    /// An import that nobody provides here, or one beyond the limits.
    Imports,
    TooLarge,
    Instance(InstantiateError),
}

impl Refused {
    /// What is the same on both engines: their sentences are their own.
    fn kind(&self) -> String {
        match self {
            Self::Module(_) => "the module is refused".to_owned(),
            Self::Imports => "an import is refused".to_owned(),
            Self::TooLarge => "too large".to_owned(),
            Self::Instance(InstantiateError::Link(_)) => "link".to_owned(),
            Self::Instance(InstantiateError::Segment(trap)) => format!("segment: {:?}", trap.code),
            Self::Instance(error) => error.to_string(),
        }
    }
}

fn refusal<E: Engine>(guest: &Result<Guest<E>, Refused>) -> String {
    match guest {
        Ok(_) => "accepted".to_owned(),
        Err(refused) => format!("{refused:?}"),
    }
}

/// An instance in a realm of its own, whose functions are answered by the same rule on each engine.
struct Guest<E: Engine> {
    realm: Rc<Realm<E>>,
    module: Arc<Module<E>>,
    index: u32,
}

impl<E: Engine> Guest<E> {
    fn new(engine: &Arc<E>, binary: &[u8]) -> Result<Self, Refused> {
        let module = Arc::new(Module::compile(&**engine, binary).map_err(|error| Refused::Module(error.to_string()))?);
        if module.instance_bytes > MOST_BYTES {
            return Err(Refused::TooLarge);
        }
        let realm = Realm::with_limits(engine, LIMITS);
        let link = |ty: &ExternType| match ty {
            ExternType::Func(_) => Some(Import::Host),
            ExternType::Memory(ty) => realm.new_memory(*ty).ok().map(Import::Memory),
            _ => None,
        };
        let imports: Option<Vec<Import>> = module.imports.iter().map(|import| link(&import.ty)).collect();
        let imports = imports.ok_or(Refused::Imports)?;
        let index = realm.instantiate(&module, None, &imports).map_err(Refused::Instance)?;
        Ok(Self { realm, module, index })
    }

    /// Its imports and exports.
    fn outline(&self) -> String {
        let mut outline = String::new();
        for import in &self.module.imports {
            let _ = writeln!(outline, "import {}.{} {:?}", import.module, import.name, import.ty);
        }
        for export in &self.module.exports {
            let _ = writeln!(outline, "export {} {:?}", export.name, export.ty);
        }
        outline
    }

    /// The exported functions that can be called from outside.
    fn functions(&self) -> Vec<(u32, FuncType)> {
        let function = |(at, ty): (u32, &ExternType)| match ty {
            ExternType::Func(ty) if ty.first_unsupported().is_none() => Some((at, ty.clone())),
            _ => None,
        };
        (0..).zip(self.module.exports.iter().map(|export| &export.ty)).filter_map(function).collect()
    }

    /// The bytes of an exported memory or global.
    fn state(&self, export: u32) -> Option<Vec<u8>> {
        match &self.module.exports[export as usize].ty {
            ExternType::Global(_) => {
                let value = self.realm.global_get(self.index, export).expect("nothing runs")?;
                Some(value.to_le_bytes().to_vec())
            }
            ExternType::Memory(_) => {
                let memory = self.realm.exported_memory(self.index, export).expect("it is a memory");
                let mut bytes = vec![0; self.realm.memory_region(memory).expect("nothing runs").bytes];
                self.realm.memory_read(memory, 0, &mut bytes).expect("in bounds");
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Runs an exported function, or the start function.
    fn run(&self, function: Option<&(u32, FuncType)>, arguments: &[u64]) -> Outcome {
        let imported = self.module.imported_funcs().cloned().collect();
        let mut host = Answers { imported, left: BUDGET, calls: Vec::new() };
        let results = match function {
            None => self.realm.start(self.index, &mut host).map(|()| Vec::new()),
            Some((export, ty)) => {
                let mut slots = vec![0; ty.slots()];
                slots[..arguments.len()].copy_from_slice(arguments);
                self.realm.call(self.index, *export, &mut slots, &mut host).map(|()| {
                    slots.truncate(ty.results.len());
                    slots
                })
            }
        };
        Outcome {
            internal: results
                .as_ref()
                .err()
                .filter(|trap| trap.code == TrapCode::Internal)
                .map(|trap| trap.to_string()),
            results: results.map_err(|trap| trap.code),
            host_calls: host.calls,
            used: BUDGET - host.left.min(BUDGET),
        }
    }

    /// Runs the start function and each exported function with zeros.
    fn run_all(&self) -> Result<(), String> {
        let functions = self.functions();
        for function in std::iter::once(None).chain(functions.iter().map(Some)) {
            let arguments = vec![0; function.map_or(0, |(_, ty)| ty.params.len())];
            match self.run(function, &arguments).internal {
                // ARCHITECTURE.md, known limits of the engines.
                Some(reason) if !reason.contains("too many") => return Err(format!("{}: {reason}", E::NAME)),
                _ => {}
            }
        }
        (0_u32..).zip(&self.module.exports).for_each(|(at, _)| drop(self.state(at)));
        Ok(())
    }
}

/// How a call ended.
#[derive(Debug)]
struct Outcome {
    results: Result<Vec<u64>, TrapCode>,
    host_calls: Vec<(u32, Vec<u64>)>,
    /// How much fuel.
    used: u64,
    /// A failure that is the engine's, not the guest's.
    internal: Option<String>,
}

impl Outcome {
    /// Whether the engines may disagree on what had happened when this call ended.
    fn is_open(&self) -> bool {
        matches!(self.results, Err(TrapCode::OutOfFuel | TrapCode::StackOverflow | TrapCode::OutOfMemory))
    }
}

/// Answers a guest's calls with values that follow from their arguments.
struct Answers {
    imported: Vec<FuncType>,
    left: u64,
    calls: Vec<(u32, Vec<u64>)>,
}

impl Host for Answers {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        let ty = &self.imported[call.import as usize];
        let arguments = call.slots[..ty.params.len()].to_vec();
        let mixed = arguments.iter().fold(u64::from(call.import) + 1, |mixed, argument| {
            (mixed ^ argument).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        for (slot, ty) in call.slots.iter_mut().zip(&ty.results) {
            *slot = fitted(mixed, *ty);
        }
        self.calls.push((call.import, arguments));
        if mixed.is_multiple_of(61) { Err(Box::new(HostTrap::Message("the host refuses".into()))) } else { Ok(()) }
    }

    fn fuel(&self) -> u64 {
        self.left
    }

    fn set_fuel(&mut self, left: u64) {
        self.left = left;
    }
}

/// Arguments out of bytes: numbers at the edges of the types, and any others. Zeros once the bytes are used up.
struct Arguments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Arguments<'_> {
    /// Integers, and as the bits of floating-point numbers: signs, infinities, NaNs of both kinds.
    const EDGES: [u64; 14] = [
        0,
        1,
        u64::MAX,
        i32::MIN as u32 as u64,
        i32::MAX as u64,
        i64::MIN as u64,
        i64::MAX as u64,
        65_535,
        0x7f80_0000,
        0x7fc0_0001,
        0xffa0_0000,
        0x7ff0_0000_0000_0000,
        0xfff8_0000_0000_0001,
        0x7ff4_0000_0000_0000,
    ];

    fn next(&mut self, ty: ValueType) -> u64 {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        let first = byte(self.at);
        if first & 1 == 0 {
            self.at += 1;
            return fitted(Self::EDGES[usize::from(first >> 1) % Self::EDGES.len()], ty);
        }
        let value = u64::from_le_bytes(std::array::from_fn(|place| byte(self.at + 1 + place)));
        self.at += 9;
        fitted(value, ty)
    }
}

/// A value of that type as a slot holds it.
fn fitted(value: u64, ty: ValueType) -> u64 {
    match ty {
        ValueType::I32 | ValueType::F32 => value & u64::from(u32::MAX),
        _ => value,
    }
}

/// Whether wasmer must refuse the module, see `crate/tests/features.rs`.
fn has_tail_calls(binary: &[u8]) -> bool {
    operators(binary)
        .any(|operator| matches!(operator, Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. }))
}

/// All operators of all functions, as far as they can be read.
fn operators(binary: &[u8]) -> impl Iterator<Item = Operator<'_>> {
    Parser::new(0)
        .parse_all(binary)
        .map_while(Result::ok)
        .filter_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => body.get_operators_reader().ok(),
            _ => None,
        })
        .flat_map(|operators| operators.into_iter().map_while(Result::ok))
}

/// Why the engines may count the fuel of a module differently, as far as that is known; nothing if they must not. wasmi knows
/// while it translates what can never be reached, also by arithmetic on constants, and has a `loop` or an `if` there
/// paid for with what is around it. This asks for no more than may be so.
pub fn fuel_quirks(binary: &[u8]) -> BTreeSet<&'static str> {
    let mut quirks = BTreeSet::new();
    for payload in Parser::new(0).parse_all(binary).map_while(Result::ok) {
        let Payload::CodeSectionEntry(body) = payload else { continue };
        let Ok(operators) = body.get_operators_reader() else { continue };
        let mut walk = Walk { reachable: true, blocks: vec![Open::default()], ..Walk::default() };
        operators.into_iter().map_while(Result::ok).for_each(|operator| walk.step(&operator, &mut quirks));
    }
    quirks
}

/// A block that is open.
#[derive(Default)]
struct Open {
    is_loop: bool,
    /// An `if` that has no `else` so far.
    is_bare_if: bool,
    /// Whether a branch goes to its end, or an arm of it has come there.
    ends: bool,
    began_reachable: bool,
}

/// Where one is in a function.
#[derive(Default)]
struct Walk {
    reachable: bool,
    blocks: Vec<Open>,
    /// Of the values on the stack, whether they may be constants to wasmi.
    constants: Vec<bool>,
    /// The same of values that are not in that list.
    others: bool,
}

impl Walk {
    fn pop(&mut self) -> bool {
        self.constants.pop().unwrap_or(self.others)
    }

    fn forget(&mut self) {
        self.others |= self.constants.drain(..).any(|constant| constant);
    }

    fn branch(&mut self, depth: u32) {
        let target = self.blocks.len().checked_sub(1 + depth as usize).and_then(|at| self.blocks.get_mut(at));
        if let Some(target) = target.filter(|target| self.reachable && !target.is_loop) {
            target.ends = true;
        }
    }

    fn step(&mut self, operator: &Operator<'_>, quirks: &mut BTreeSet<&'static str>) {
        if matches!(operator, Operator::If { .. } | Operator::BrIf { .. } | Operator::BrTable { .. }) && self.pop() {
            quirks.insert("a condition may be constant");
        }
        if matches!(operator, Operator::If { .. } | Operator::Loop { .. }) && !self.reachable {
            quirks.insert("a loop or an if may never be reached");
        }
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                self.forget();
                self.blocks.push(Open {
                    is_loop: matches!(operator, Operator::Loop { .. }),
                    is_bare_if: matches!(operator, Operator::If { .. }),
                    ends: false,
                    began_reachable: self.reachable,
                });
            }
            Operator::Else => {
                self.forget();
                let Some(block) = self.blocks.last_mut() else { return };
                block.is_bare_if = false;
                block.ends |= self.reachable;
                self.reachable = block.began_reachable;
            }
            Operator::End => {
                self.forget();
                let Some(block) = self.blocks.pop() else { return };
                self.reachable |= block.ends || (block.is_bare_if && block.began_reachable);
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth);
                self.reachable = false;
            }
            Operator::BrIf { relative_depth } => self.branch(*relative_depth),
            Operator::BrTable { targets } => {
                targets.targets().flatten().chain([targets.default()]).for_each(|depth| self.branch(depth));
                self.reachable = false;
            }
            Operator::Return | Operator::Unreachable => self.reachable = false,
            Operator::Nop | Operator::LocalTee { .. } | Operator::RefIsNull => {}
            // The value of a global that is not mutable is known.
            Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::GlobalGet { .. }
            | Operator::RefNull { .. }
            | Operator::RefFunc { .. } => self.constants.push(true),
            Operator::LocalGet { .. } | Operator::MemorySize { .. } => self.constants.push(false),
            Operator::LocalSet { .. } | Operator::GlobalSet { .. } | Operator::Drop => drop(self.pop()),
            other => self.compute(&format!("{other:?}")),
        }
    }

    /// An operator that computes something, by its name.
    fn compute(&mut self, name: &str) {
        const UNARY: [&str; 6] = ["Eqz", "Clz", "Ctz", "Popcnt", "Extend", "Wrap"];
        let is = |names: &[&str]| name.starts_with('I') && names.iter().any(|part| name.contains(part));
        if is(&["Load"]) {
            // Out of bounds for certain, if the address is.
            self.reachable &= !self.pop();
            self.constants.push(false);
        } else if is(&["Store"]) {
            self.pop();
            self.reachable &= !self.pop();
        } else if is(&UNARY) {
            let constant = self.pop();
            self.constants.push(constant);
        } else if name.starts_with('I') {
            let (right, left) = (self.pop(), self.pop());
            self.reachable &= !(right && is(&["Div", "Rem"]));
            self.constants.push(right && left);
        } else {
            self.forget();
        }
    }
}
