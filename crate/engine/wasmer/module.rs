//! A compiled module, its pass, and the instances that are made of it. A part of `engine/wasmer.rs`.

use std::sync::Arc;

use wasmer::{
    AsStoreMut as _, StoreMut,
    sys::vm::{LinearMemory as _, VMExtern},
};

use super::{
    Wasmer,
    checks::Names,
    code::{Code, Codes},
    compile::compile,
    errors::{instantiate_error, no_code},
    memory::Bounds,
    names::FunctionNames,
};
use crate::{
    error::InstantiateError,
    rewrite::{BodyEdits, Pass, metering::Metering},
};

/// A compiled module. Its code has a wasmer engine of its own for three reasons: wasmer frees code only with its engine,
/// it panics for good when an engine meets two function types with the same 32-bit hash, which anybody can make, and an
/// engine is locked while it compiles. A realm keeps the modules of its instances longer than its store.
#[derive(Clone)]
pub struct Module {
    pub(super) codes: Arc<Codes>,
    /// As in the engine that it was compiled with.
    bounds: Option<Bounds>,
    /// The exports that this crate has added.
    pub(super) added: Arc<Names>,
    pub(super) names: Arc<FunctionNames>,
}

impl Module {
    /// The module of either code: they differ in nothing but their bounds.
    pub(super) fn any(&self) -> &wasmer::Module {
        &self.codes.first().module
    }

    /// The bounds that fit the memories of an instance with these imports.
    fn bounds(&self, cx: &mut StoreMut<'_>, imports: &[wasmer::Extern]) -> Bounds {
        let (own, has_any) = self.codes.memories();
        if !has_any {
            return self.codes.first().bounds;
        }
        let mut given = imports.iter().filter_map(|import| match import.to_vm_extern().unwrap_sys() {
            VMExtern::Memory(handle) => Some(Bounds::of(handle.get(cx.objects_mut().as_sys()).style())),
            _ => None,
        });
        if given.any(|bounds| bounds == Bounds::Checked) {
            return Bounds::Checked;
        }
        self.bounds.unwrap_or_else(|| Bounds::for_new(own))
    }

    /// Makes an instance.
    pub(super) fn instance(
        &self,
        cx: &mut StoreMut<'_>,
        imports: &[wasmer::Extern],
    ) -> Result<wasmer::Instance, InstantiateError> {
        let with = |cx: &mut StoreMut<'_>, bounds| {
            let code = self.codes.with(bounds).map_err(no_code)?;
            wasmer::Instance::new_by_index(cx, &code.module, imports).map_err(instantiate_error)
        };
        let bounds = self.bounds(cx, imports);
        with(cx, bounds).or_else(|error| match (self.bounds, bounds, &error) {
            // There may be room for smaller memories. Imports are untouched so far.
            (None, Bounds::Guarded, InstantiateError::Allocation(_)) => with(cx, Bounds::Checked),
            _ => Err(error),
        })
    }
}

/// The pass that prepares a module for wasmer: its functions lose their names and get a local for their fuel if guests
/// are metered.
pub struct Preparation {
    /// The exports that the module gets.
    pub(super) added: Arc<Names>,
    pub(super) names: FunctionNames,
    pub(super) metering: Option<Metering>,
}

impl Pass for Preparation {
    fn is_needed(&self) -> bool {
        self.metering.is_needed()
    }

    fn function(&mut self, body: &mut BodyEdits<'_>) {
        self.metering.function(body);
    }
}

impl Wasmer {
    /// A module with its first code. The other code is compiled when an instance needs it.
    pub(super) fn module(&self, wasm: &[u8], first: Code, pass: Preparation) -> Module {
        let Preparation { added, names, metering } = pass;
        // Without a memory there is only one kind of code.
        let has_memories = !first.module.info().memories.is_empty();
        let wasm: Box<[u8]> = if has_memories { wasm.into() } else { Box::default() };
        let (config, names_of_checks) = (self.config.clone(), added.clone());
        let codes =
            Codes::new(first, move |bounds| compile(&config, &wasm, &names_of_checks, metering.as_ref(), bounds));
        Module { codes: Arc::new(codes), bounds: self.bounds, added, names: Arc::new(names) }
    }
}
