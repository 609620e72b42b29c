//! The checks that are compiled into guests: whether they must stop, whether they have fuel for the code
//! they run, and how deep their calls are. A part of `engine/wasmer.rs`, and used only there.
//!
//! The state of the checks is in globals that are added to the module and exported under unused names. A
//! guest reads them at each loop head and at each function's entry, and ends in `unreachable`; the host
//! then determines the reason. Costs follow wasmi's rule, so that both engines count alike: entering a
//! function, the body of a loop or an arm of an `if` costs as much as everything directly in it, but not
//! what is inside nested loops and arms.

use std::sync::{Arc, OnceLock};

use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware, wasmparser};
use wasmer_types::{
    ExportIndex, GlobalIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};
use wasmparser::{BlockType, FuncType, FunctionBody, Operator, Parser, Payload, ValType};

use crate::{
    engine::EngineConfig,
    rewrite::{Sections, start_export::FreeNames},
};

/// Which checks the code of a guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    pub interruptible: bool,
    pub has_fuel: bool,
    /// The most nested guest calls.
    pub recursion_depth: Option<u32>,
}

/// The version of the compiled checks: code with another version must not be loaded. Increase it with
/// each change here.
pub const VERSION: u32 = 4;

impl CheckOptions {
    /// The checks that this configuration asks for.
    pub fn of(config: &EngineConfig) -> Self {
        let EngineConfig { interruptible, has_fuel, recursion_depth, .. } = *config;
        Self { interruptible, has_fuel, recursion_depth }
    }

    fn any(self) -> bool {
        self.interruptible || self.has_fuel || self.recursion_depth.is_some()
    }

    /// Chooses the names of the exports to add to a module.
    pub fn names_in(self, sections: &Sections<'_>) -> Names {
        let exports: Vec<&str> = sections.exports().map(|export| export.name).collect();
        let mut names = FreeNames::new(&exports);
        let mut free = |wanted: bool, name: &str| wanted.then(|| names.like(name));
        Names {
            stop: free(self.interruptible, "stop"),
            fuel: free(self.has_fuel, "fuel"),
            depth: free(self.recursion_depth.is_some(), "depth"),
            most_depth: self.recursion_depth.unwrap_or(u32::MAX),
        }
    }
}

/// The checks of one module.
#[derive(Debug)]
pub struct Checks {
    options: CheckOptions,
    /// For each function, the costs of entering it and each of its loops and arms, and at each end the
    /// cost of the arm that an `if` does not have, in the order of the binary.
    costs: Vec<Box<[u32]>>,
    /// For each function, the local that caches its fuel.
    locals: Vec<Option<u32>>,
    /// The names of the added exports.
    names: Arc<Names>,
    globals: OnceLock<Globals>,
}

/// The export names of the globals that the host reads or writes.
#[derive(Debug, Default)]
pub struct Names {
    /// Not 0 when the guest must stop.
    pub stop: Option<String>,
    /// The remaining fuel; below 0 if there was too little.
    pub fuel: Option<String>,
    /// The current call depth.
    pub depth: Option<String>,
    /// The maximum call depth.
    pub most_depth: u32,
}

impl Names {
    /// Whether this export was added.
    pub fn has(&self, name: &str) -> bool {
        [&self.stop, &self.fuel, &self.depth].into_iter().flatten().any(|added| added == name)
    }
}

/// The globals added to a module.
#[derive(Debug, Default)]
struct Globals {
    /// An i32, or an i64 if there is fuel. Larger than any fuel when the guest must stop.
    stop: Option<u32>,
    /// Never read. Without a store to a global before each check, the compiler would keep a loaded flag
    /// in a register, as nothing in the loop that the compiler knows of can change it.
    written: Option<u32>,
    fuel: Option<u32>,
    /// Holds the length of a bulk operation while it is paid for.
    length: Option<u32>,
    depth: Option<u32>,
}

impl Checks {
    /// The checks for a module, if there are any. `locals` has, for each function, the local that can
    /// cache its fuel.
    pub fn of(wasm: &[u8], options: CheckOptions, names: &Arc<Names>, locals: Vec<Option<u32>>) -> Option<Arc<Self>> {
        if !options.any() {
            return None;
        }
        let costs = if options.has_fuel { costs_of(wasm) } else { Vec::new() };
        let names = names.clone();
        Some(Arc::new(Self { options, costs, locals, names, globals: OnceLock::new() }))
    }
}

impl ModuleMiddleware for Checks {
    fn generate_function_middleware<'a>(&self, function: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let globals = self.globals.get();
        let global = |of: fn(&Globals) -> Option<u32>| globals.and_then(of);
        let costs = self.costs.get(function.as_u32() as usize).cloned().unwrap_or_default();
        Box::new(FunctionChecks {
            stop: global(|globals| globals.stop),
            written: global(|globals| globals.written),
            fuel: global(|globals| globals.fuel),
            local: self.locals.get(function.as_u32() as usize).copied().flatten(),
            length: global(|globals| globals.length),
            depth: global(|globals| globals.depth).zip(self.options.recursion_depth),
            costs: costs.into_vec().into_iter(),
            is_entered: false,
        })
    }

    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let CheckOptions { interruptible, has_fuel, .. } = self.options;
        let Names { stop, fuel, depth, .. } = &*self.names;
        let stop_type = if has_fuel { Type::I64 } else { Type::I32 };
        let globals = Globals {
            stop: stop.as_ref().map(|name| add_exported(info, stop_type, name)),
            written: (interruptible && !has_fuel).then(|| add(info, Type::I32).as_u32()),
            fuel: fuel.as_ref().map(|name| add_exported(info, Type::I64, name)),
            length: has_fuel.then(|| add(info, Type::I32).as_u32()),
            depth: depth.as_ref().map(|name| add_exported(info, Type::I32, name)),
        };
        self.globals.set(globals).map_err(|_| MiddlewareError::new("checks", "one object checks one module"))
    }
}

fn add(info: &mut ModuleInfo, ty: Type) -> GlobalIndex {
    info.global_initializers.push(if ty == Type::I64 { GlobalInit::I64Const(0) } else { GlobalInit::I32Const(0) });
    info.globals.push(GlobalType::new(ty, Mutability::Var))
}

fn add_exported(info: &mut ModuleInfo, ty: Type, name: &str) -> u32 {
    let global = add(info, ty);
    info.exports.insert(name.to_owned(), ExportIndex::Global(global));
    global.as_u32()
}

/// The checks of one function, with its globals by their indices.
#[derive(Debug)]
struct FunctionChecks {
    stop: Option<u32>,
    written: Option<u32>,
    fuel: Option<u32>,
    /// A local that caches the fuel from the function's entry on.
    local: Option<u32>,
    length: Option<u32>,
    /// The global with the call depth, and the maximum depth.
    depth: Option<(u32, u32)>,
    costs: std::vec::IntoIter<u32>,
    is_entered: bool,
}

impl FunctionChecks {
    /// Pays for the function, loop or arm that begins here.
    fn pay<'a>(&mut self, state: &mut MiddlewareReaderState<'a>) {
        if let Some(fuel) = self.fuel {
            let cost = self.costs.next().unwrap_or(1);
            self.pay_cost(fuel, cost, state);
        }
    }

    fn pay_cost<'a>(&self, fuel: u32, cost: u32, state: &mut MiddlewareReaderState<'a>) {
        state.extend([self.left(fuel), Operator::I64Const { value: i64::from(cost) }, Operator::I64Sub]);
        self.set_left(fuel, state);
    }

    /// The block that ends here may be an `if` that has values and no `else`: it gets one that is paid
    /// for, as in wasmi.
    fn pay_for_missing_arm<'a>(&mut self, state: &mut MiddlewareReaderState<'a>) {
        let Some(fuel) = self.fuel else { return };
        if let Some(cost) = self.costs.next().filter(|cost| *cost > 0) {
            state.push_operator(Operator::Else);
            self.pay_cost(fuel, cost, state);
        }
    }

    /// The operator that reads the remaining fuel.
    fn left<'a>(&self, fuel: u32) -> Operator<'a> {
        match self.local {
            Some(local_index) => Operator::LocalGet { local_index },
            None => Operator::GlobalGet { global_index: fuel },
        }
    }

    fn set_left<'a>(&self, fuel: u32, state: &mut MiddlewareReaderState<'a>) {
        state.extend(self.local.map(|local_index| Operator::LocalTee { local_index }));
        state.push_operator(Operator::GlobalSet { global_index: fuel });
    }

    /// Loads the fuel into the local: at the beginning of a function and after each call, the local is
    /// not up to date.
    fn refresh<'a>(&self, state: &mut MiddlewareReaderState<'a>) {
        if let (Some(global_index), Some(local_index)) = (self.fuel, self.local) {
            state.extend([Operator::GlobalGet { global_index }, Operator::LocalSet { local_index }]);
        }
    }

    /// Ends the guest if it must stop or has used up its fuel.
    fn emit_check<'a>(&self, state: &mut MiddlewareReaderState<'a>) {
        match (self.fuel, self.stop) {
            (Some(fuel), stop) => state.extend([
                self.left(fuel),
                match stop {
                    Some(stop) => Operator::GlobalGet { global_index: stop },
                    None => Operator::I64Const { value: 0 },
                },
                Operator::I64LtS,
            ]),
            (None, Some(stop)) => {
                if let Some(written) = self.written {
                    state.extend([Operator::I32Const { value: 0 }, Operator::GlobalSet { global_index: written }]);
                }
                state.push_operator(Operator::GlobalGet { global_index: stop });
            }
            (None, None) => return,
        }
        state.extend([Operator::If { blockty: BlockType::Empty }, Operator::Unreachable, Operator::End]);
    }

    /// Counts a call that has begun.
    fn descend<'a>(&self, state: &mut MiddlewareReaderState<'a>) {
        let Some((depth, most)) = self.depth else { return };
        state.extend([
            Operator::GlobalGet { global_index: depth },
            Operator::I32Const { value: 1 },
            Operator::I32Add,
            Operator::GlobalSet { global_index: depth },
            Operator::GlobalGet { global_index: depth },
            Operator::I32Const { value: most as i32 },
            Operator::I32GtU,
            Operator::If { blockty: BlockType::Empty },
            Operator::Unreachable,
            Operator::End,
        ]);
    }

    /// Counts a call that is over. The caller does this, because a function can be left in many ways.
    fn ascend<'a>(&self, state: &mut MiddlewareReaderState<'a>) {
        let Some((depth, _)) = self.depth else { return };
        state.extend([
            Operator::GlobalGet { global_index: depth },
            Operator::I32Const { value: 1 },
            Operator::I32Sub,
            Operator::GlobalSet { global_index: depth },
        ]);
    }

    /// Pays for an operation whose duration depends on the number on the stack, and checks. `scale` gives
    /// the cost of a unit.
    fn pay_by_length<'a>(&self, scale: Scale, state: &mut MiddlewareReaderState<'a>) {
        let (Some(fuel), Some(length)) = (self.fuel, self.length) else { return };
        state.extend([
            Operator::GlobalSet { global_index: length },
            self.left(fuel),
            Operator::GlobalGet { global_index: length },
            Operator::I64ExtendI32U,
            Operator::I64Const { value: scale.bits() },
            if scale == Scale::Pages { Operator::I64Shl } else { Operator::I64ShrU },
            Operator::I64Sub,
        ]);
        self.set_left(fuel, state);
        self.emit_check(state);
        state.push_operator(Operator::GlobalGet { global_index: length });
    }

    /// Emits what a function does at its entry.
    fn enter<'a>(&mut self, state: &mut MiddlewareReaderState<'a>) {
        self.descend(state);
        self.refresh(state);
        self.pay(state);
        self.emit_check(state);
    }
}

/// The unit of a bulk operation's length. One unit of fuel pays for 64 bytes, as in wasmi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Bytes,
    /// Elements of a table, which take 4 bytes in wasmi.
    Elements,
    Pages,
}

impl Scale {
    fn of(operator: &Operator<'_>) -> Option<Self> {
        match operator {
            Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } | Operator::MemoryInit { .. } => {
                Some(Self::Bytes)
            }
            Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. } => Some(Self::Elements),
            Operator::MemoryGrow { .. } => Some(Self::Pages),
            _ => None,
        }
    }

    /// The binary logarithm of how many units cost 1; for pages, of how much one page costs.
    fn bits(self) -> i64 {
        match self {
            Self::Bytes => 6,
            Self::Elements => 4,
            Self::Pages => 10,
        }
    }
}

impl<'a> FunctionMiddleware<'a> for FunctionChecks {
    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        // Operators inserted before an operator shift the offset that wasmer reports for it when it
        // traps, so everything that can be inserted after an operator is. Without fuel and depth, this
        // also applies to the check at the function's entry: whatever runs for long still meets a check
        // in each function, because no first operator leads past it except by leaving the function.
        let is_first = !std::mem::replace(&mut self.is_entered, true);
        let counts = self.fuel.is_some() || self.depth.is_some();
        if is_first && counts {
            self.enter(state);
        }
        if let Some(scale) = Scale::of(&operator) {
            self.pay_by_length(scale, state);
        }
        let is_loop = matches!(operator, Operator::Loop { .. });
        let is_arm = matches!(operator, Operator::If { .. } | Operator::Else);
        let is_call = matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. });
        let is_end = matches!(operator, Operator::End);
        if is_end {
            self.pay_for_missing_arm(state);
        }
        state.push_operator(operator);
        if is_loop {
            self.pay(state);
            self.emit_check(state);
        } else if is_arm {
            self.pay(state);
        } else if is_call {
            self.ascend(state);
            self.refresh(state);
        }
        if is_first && !counts && !is_loop && !is_end {
            self.enter(state);
        }
        Ok(())
    }
}

// Costs

/// The costs of each function of a module. The compiler will report whatever is wrong with the module.
fn costs_of(wasm: &[u8]) -> Vec<Box<[u32]>> {
    let mut costs = Vec::new();
    let mut types = Types::default();
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::TypeSection(section) => {
                types.all = section.into_iter_err_on_gc_types().map_while(Result::ok).collect();
            }
            Payload::FunctionSection(section) => types.of_functions = section.into_iter().flatten().collect(),
            Payload::CodeSectionEntry(body) => {
                let ty = types.of_functions.get(costs.len()).copied();
                costs.push(costs_of_function(&body, &types, ty.map_or(BlockType::Empty, BlockType::FuncType)));
            }
            _ => {}
        }
    }
    costs
}

/// The types of a module, and the type of each function.
#[derive(Default)]
struct Types {
    all: Vec<FuncType>,
    of_functions: Vec<u32>,
}

impl Types {
    /// The result types of a block, or the parameter types of its label if it is a loop.
    fn values<'a>(&'a self, block: &'a BlockType, is_loop: bool) -> &'a [ValType] {
        match block {
            BlockType::Type(ty) if !is_loop => std::slice::from_ref(ty),
            BlockType::Empty | BlockType::Type(_) => &[],
            BlockType::FuncType(index) => match self.all.get(*index as usize) {
                Some(ty) if is_loop => ty.params(),
                Some(ty) => ty.results(),
                None => &[],
            },
        }
    }

    /// An open block whose operators add to the cost at index `cost`.
    fn open(&self, cost: usize, block: &BlockType, is_loop: bool) -> Open {
        let values = self.values(block, is_loop);
        Open { cost, moves: values.len() > 1 || values == [ValType::V128], missing_arm: 0 }
    }
}

/// An open block.
#[derive(Clone, Copy)]
struct Open {
    /// The index of the cost that its contents add to.
    cost: usize,
    /// Whether a `br_table` to its label has to move values, see `wasmi/repairs.rs`.
    moves: bool,
    /// The cost of its missing arm, as far as it is known.
    missing_arm: u32,
}

fn costs_of_function(body: &FunctionBody<'_>, types: &Types, block: BlockType) -> Box<[u32]> {
    let mut costs = vec![1_u32];
    let mut open = vec![types.open(0, &block, false)];
    let Ok(operators) = body.get_operators_reader() else { return costs.into() };
    for operator in operators.into_iter().map_while(Result::ok) {
        let Some(around) = open.last().copied() else { break };
        let mut add = |cost| costs[around.cost] = costs[around.cost].saturating_add(cost);
        add(cost_of(&operator));
        match operator {
            Operator::Block { blockty } => open.push(types.open(around.cost, &blockty, false)),
            Operator::Loop { blockty } => {
                open.push(types.open(costs.len(), &blockty, true));
                costs.push(1);
            }
            Operator::If { blockty } => {
                // With a function type, it may have values but no `else`: then it has parameters as
                // well.
                let has_values = matches!(blockty, BlockType::FuncType(_)) && !types.values(&blockty, false).is_empty();
                open.push(Open { missing_arm: has_values.into(), ..types.open(costs.len(), &blockty, false) });
                costs.push(1);
            }
            Operator::Else => {
                open.pop();
                open.push(Open { cost: costs.len(), missing_arm: 0, ..around });
                costs.push(1);
            }
            Operator::End => {
                open.pop();
                costs.push(around.missing_arm);
            }
            Operator::BrTable { targets } if !targets.is_empty() => {
                let label = open.len().checked_sub(1 + targets.default() as usize).map(|label| open[label]);
                add(label.is_some_and(|label| label.moves).into());
            }
            _ => {}
        }
    }
    costs.into()
}

/// What an operator costs in wasmi.
fn cost_of(operator: &Operator<'_>) -> u32 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Unreachable
        | Operator::Return
        | Operator::Else
        | Operator::End => 0,
        // In wasmi the host does it, see `wasmi/repairs.rs`: a call, and a constant for it.
        Operator::MemoryGrow { .. } | Operator::TableGrow { .. } => 2,
        _ => 1,
    }
}
