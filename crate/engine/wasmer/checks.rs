//! Makes compiled guests look, at each loop head and at each function's entry, whether they are to stop. A part of `engine/wasmer.rs`, and
//! nobody else's business.
//!
//! The flag is a global that the module gets in addition, exported under a name that it does not use. Before each look there is a
//! store to another such global: without it the compiler would keep the flag in a register, as nothing in the loop can change
//! it that the compiler knows of.

use std::sync::{Arc, OnceLock};

use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware, wasmparser};
use wasmer_types::{
    ExportIndex, GlobalIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
};
use wasmparser::{BlockType, Operator};

/// The checks of one module.
#[derive(Debug, Default)]
pub struct Checks {
    globals: OnceLock<Globals>,
}

/// What the module got.
#[derive(Debug)]
struct Globals {
    /// Not 0 when the guest is to stop.
    flag: GlobalIndex,
    /// Nobody reads it.
    written: GlobalIndex,
    /// What the flag is exported as.
    name: String,
}

impl Checks {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The name under which the flag is exported, once the module is compiled.
    pub fn flag_name(&self) -> Option<&str> {
        self.globals.get().map(|globals| globals.name.as_str())
    }
}

impl ModuleMiddleware for Checks {
    fn generate_function_middleware<'a>(&self, _: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let globals = self.globals.get().map(|globals| (globals.flag.as_u32(), globals.written.as_u32()));
        Box::new(FunctionChecks { globals, is_entered: false })
    }

    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let mut add = || {
            info.global_initializers.push(GlobalInit::I32Const(0));
            info.globals.push(GlobalType::new(Type::I32, Mutability::Var))
        };
        let (flag, written) = (add(), add());
        let mut name = "interrupt".to_owned();
        while info.exports.contains_key(&name) {
            name.push('\'');
        }
        info.exports.insert(name.clone(), ExportIndex::Global(flag));
        self.globals
            .set(Globals { flag, written, name })
            .map_err(|_| MiddlewareError::new("checks", "one object checks one module"))
    }
}

/// The checks of one function.
#[derive(Debug)]
struct FunctionChecks {
    globals: Option<(u32, u32)>,
    is_entered: bool,
}

impl FunctionChecks {
    fn check<'a>(&self, state: &mut MiddlewareReaderState<'a>) {
        let Some((flag, written)) = self.globals else { return };
        state.extend([
            Operator::I32Const { value: 0 },
            Operator::GlobalSet { global_index: written },
            Operator::GlobalGet { global_index: flag },
            Operator::If { blockty: BlockType::Empty },
            Operator::Unreachable,
            Operator::End,
        ]);
    }
}

impl<'a> FunctionMiddleware<'a> for FunctionChecks {
    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        // The check of the entry comes after the first operator, because what comes before an operator shifts the offset that wasmer
        // tells for it when it traps. Whatever runs for long still meets a check in each function: no first operator leads past it
        // but by leaving the function.
        let is_first = !std::mem::replace(&mut self.is_entered, true);
        let is_loop = matches!(operator, Operator::Loop { .. });
        let is_end = matches!(operator, Operator::End);
        state.push_operator(operator);
        if is_loop || (is_first && !is_end) {
            self.check(state);
        }
        Ok(())
    }
}
