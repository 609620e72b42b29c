//! Instances that import exports of other instances of their realm.

use std::sync::Arc;

use super::{Import, Instance, Realm};
use crate::{
    engine::{Engine, Extern},
    error::{InstantiateError, Trap, TrapCode},
    interrupt::{Entered, Flag, Interrupt},
    module::Module,
    value::{ExternType, GlobalType, ValueType},
};

/// The modules that are linked in a realm. There are none until an instance imports something by which
/// one instance can run the code of another.
pub(super) struct Links<E: Engine> {
    types: E::LinkedTypes,
    /// Modules whose code may still be reachable: what a failed instance put into a table stays there,
    /// and its code with it.
    _modules: Vec<Arc<Module<E>>>,
}

impl<E: Engine> Realm<E> {
    /// The [`Import`] by which another instance can import this export; `None` if it cannot be imported.
    pub fn exported(&self, instance: u32, export: u32) -> Option<Import> {
        let known = self.instance(instance, |entry| entry.given.get(&export).cloned())?;
        if known.is_some() {
            return known;
        }
        let handle = |entry: &Instance<E>| -> Option<Extern<E>> {
            match entry.exports.get(export as usize)? {
                Extern::Func(func) => Some(Extern::Func(func.clone())),
                Extern::Global(global) => Some(Extern::Global(global.clone())),
                Extern::Table(table) => Some(Extern::Table(table.clone())),
                Extern::Memory(memory) => Some(Extern::Memory(memory.clone())),
                Extern::Other => None,
            }
        };
        let handle = self.instance(instance, handle)??;
        let import = match handle {
            Extern::Func(func) => Import::Func(add(&mut self.funcs.borrow_mut(), func)),
            Extern::Global(global) => Import::Global(add(&mut self.globals.borrow_mut(), global)),
            Extern::Table(table) => Import::Table(add(&mut self.tables.borrow_mut(), table)),
            Extern::Memory(_) => Import::Memory(self.exported_memory(instance, export)?),
            Extern::Other => return None,
        };
        if let Some(Some(entry)) = self.instances.borrow_mut().get_mut(instance as usize) {
            entry.given.insert(export, import.clone());
        }
        Some(import)
    }

    /// Refuses an index without an object in this realm.
    pub(super) fn known(&self, imports: &[Import]) -> Result<(), InstantiateError> {
        for import in imports {
            let (kind, index, count) = match import {
                Import::Host | Import::Native(_) => continue,
                Import::Func(func) => ("function", *func, self.funcs.borrow().len()),
                Import::Global(global) => ("global", *global, self.globals.borrow().len()),
                Import::Table(table) => ("table", *table, self.tables.borrow().len()),
                Import::Memory(memory) => ("memory", *memory, self.memories.borrow().len()),
            };
            if index as usize >= count {
                return Err(InstantiateError::Link(format!("the realm has no {kind} {index}")));
            }
        }
        Ok(())
    }

    /// Prepares for an instance, if it is linked with others.
    pub(super) fn link(&self, module: &Arc<Module<E>>, imports: &[Import]) -> Result<(), InstantiateError> {
        let mut links = self.links.borrow_mut();
        let declared = module.imports.iter().map(|import| &import.ty);
        let is_linked = declared.zip(imports).any(|(ty, import)| runs_code(ty, import));
        if !is_linked && links.is_none() {
            return Ok(());
        }
        if is_linked && E::COUNTS_IN_INSTANCES {
            let config = self.engine.config();
            let refused = |why: &str| Err(InstantiateError::Link(why.to_owned()));
            if config.has_fuel || config.recursion_depth.is_some() {
                return refused(
                    "this engine counts fuel and depth for each instance, so counted instances cannot share functions and tables",
                );
            }
            if config.interruptible && self.host.get().is_some() {
                return refused("instances that share functions and tables cannot be linked while a guest runs");
            }
        }
        let mut admitted = match links.take() {
            Some(links) => links,
            None => {
                let mut types = E::LinkedTypes::default();
                for instance in self.instances.borrow().iter().flatten() {
                    E::admit(&mut types, &instance.module.compiled)?;
                }
                Links { types, _modules: Vec::new() }
            }
        };
        // Admitted types stay known, also if this module is refused.
        let outcome = E::admit(&mut admitted.types, &module.compiled);
        admitted._modules.push(module.clone());
        *links = Some(admitted);
        outcome
    }

    /// Registers the flags of all instances whose code the callee may run, if they are linked.
    pub(super) fn enter_linked<'a>(
        &self,
        interrupt: &'a Interrupt,
        callee: Option<Flag>,
    ) -> Result<Option<LinkedFlags<'a>>, Box<Trap>> {
        if self.links.borrow().is_some() { self.enter_all(interrupt, callee).map(Some) } else { Ok(None) }
    }

    #[cold]
    fn enter_all<'a>(&self, interrupt: &'a Interrupt, callee: Option<Flag>) -> Result<LinkedFlags<'a>, Box<Trap>> {
        let instances = self.instances.borrow();
        let flags = instances.iter().flatten().filter_map(|instance: &Instance<E>| instance.flag);
        let mut entered = LinkedFlags(Vec::new());
        for flag in flags.filter(|flag| Some(*flag) != callee) {
            let guard = interrupt.enter(Some(flag)).ok_or_else(|| Box::new(Trap::new(TrapCode::Interrupted)))?;
            entered.0.push(guard);
        }
        Ok(entered)
    }
}

/// The flags of the other instances that a call can reach.
pub(super) struct LinkedFlags<'a>(Vec<Entered<'a>>);

impl Drop for LinkedFlags<'_> {
    fn drop(&mut self) {
        // An interrupt needs its flags released in reverse order.
        while self.0.pop().is_some() {}
    }
}

/// Whether an instance could run another's code through this import.
fn runs_code(declared: &ExternType, import: &Import) -> bool {
    match import {
        Import::Func(_) | Import::Table(_) => true,
        Import::Global(_) => matches!(declared, ExternType::Global(GlobalType { value: ValueType::FuncRef, .. })),
        Import::Host | Import::Native(_) | Import::Memory(_) => false,
    }
}

fn add<T>(objects: &mut Vec<T>, object: T) -> u32 {
    objects.push(object);
    objects.len() as u32 - 1
}
