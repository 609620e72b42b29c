//! What a module is linked with, and the group that its instance belongs to.

use std::rc::Rc;

use super::{
    backend::{AnyModule, AnyRealm, LimitedEngine, with_module, with_realm},
    error::{ErrorKind, NativeError},
    group::Group,
    raw::Scope,
    tables::{Entry, Tables},
};
use crate::{
    realm::{Carried, Import, move_memory},
    value::ExternType,
};

/// The guest's gas, which travels with each host call under version 2 of `gear_sandbox_env::Instantiate`.
/// Mirrors `gear_sandbox_env::GLOBAL_NAME_GAS`.
const GAS_GLOBAL: &str = "gear_gas";
const NO_GAS_GLOBAL: &str = "Cannot get gas global from store environment";

/// What travels with the host calls of an instance of this module under version 2.
fn gas_of(module: &AnyModule) -> Carried {
    let export = with_module!(module, module => {
        module.exports.iter().position(|export| export.name == GAS_GLOBAL)
    });
    Carried { export: export.map(|place| place as u32), missing: NO_GAS_GLOBAL.into() }
}

/// A module and the memories that it imports.
pub struct Linking {
    pub module: AnyModule,
    pub carried: Option<Carried>,
    /// For each import, the number of a memory, or `None` for a function.
    memories: Vec<Option<u32>>,
}

impl Linking {
    /// Links the module with this number, for convention version 1 or 2. `memories` holds one 32-bit
    /// number for each import of the module: the number of a memory, or anything for an import of
    /// another kind.
    pub fn new(tables: &Tables, module: u32, version: u32, memories: &[u8]) -> Result<Self, NativeError> {
        let module = tables.modules.get(module)?;
        let is_memory: Vec<bool> = with_module!(&module, module => {
            module.imports.iter().map(|import| matches!(import.ty, ExternType::Memory(_))).collect()
        });
        let numbers = memories.as_chunks().0;
        if numbers.len() != is_memory.len() {
            return Err(NativeError::internal("one number is needed for each import"));
        }
        let number_of = |(number, is_memory): (&[u8; 4], bool)| is_memory.then(|| u32::from_ne_bytes(*number));
        let memories = numbers.iter().zip(is_memory).map(number_of).collect();
        let carried = (version == 2).then(|| gas_of(&module));
        Ok(Self { module, carried, memories })
    }

    /// Gives back what collected instances hold, if that is worth it or if the total has no room for what
    /// the instance's own memories and tables begin with.
    pub fn make_room(&self, tables: &Tables, scope: Scope, engine: &LimitedEngine) -> Result<(), NativeError> {
        tables.sweep_if_due(scope);
        for group in self.groups(tables)? {
            tables.renew_if_collected(scope, &group);
        }
        let initial_bytes = with_module!(&self.module, module => module.initial_bytes);
        tables.make_room(scope, &engine.limits, initial_bytes);
        Ok(())
    }

    /// What each import of the module is linked with in its group's realm.
    pub fn imports(&self, tables: &Tables) -> Result<Vec<Import>, NativeError> {
        let import = |number: &Option<u32>| match number {
            Some(number) => Ok(Import::Memory(tables.memories.get(*number)?.index)),
            None => Ok(Import::Host),
        };
        self.memories.iter().map(import).collect()
    }

    /// The groups of the imported memories.
    pub fn groups(&self, tables: &Tables) -> Result<Vec<Rc<Group>>, NativeError> {
        let mut groups: Vec<Rc<Group>> = Vec::new();
        for memory in self.memories.iter().flatten() {
            let Entry { group, .. } = tables.memories.get(*memory)?;
            if !groups.iter().any(|known| Rc::ptr_eq(known, &group)) {
                groups.push(group);
            }
        }
        Ok(groups)
    }

    /// The group of the instance: that of its memories, or a new one. Memories of several groups are
    /// moved into one group, provided that at most one of the groups has instances.
    pub fn common_group(
        &self,
        tables: &Tables,
        scope: Scope,
        engine: &LimitedEngine,
    ) -> Result<Rc<Group>, NativeError> {
        let mut groups = self.groups(tables)?;
        let mut used = with_used_stores(&groups)?;
        if used.len() > 1 {
            // The instances of these groups may be gone.
            for group in used {
                tables.renew(scope, &group);
            }
            groups = self.groups(tables)?;
            used = with_used_stores(&groups)?;
        }
        if used.len() > 1 {
            let message =
                "the imported memories belong to instances that share no memory, so they cannot be linked together";
            return Err(NativeError::new(ErrorKind::Link, message));
        }
        let Some(target) = used.first().or(groups.first()).cloned() else {
            return Ok(Rc::new(Group::new(engine.new_realm())));
        };
        for group in groups.iter().filter(|group| !Rc::ptr_eq(group, &target)) {
            tables.move_memories(scope, group, &target, |from, index, to| match (from, to) {
                (AnyRealm::Wasmi(from), AnyRealm::Wasmi(to)) => move_memory(from, index, to).map_err(NativeError::from),
                (AnyRealm::Wasmer(from), AnyRealm::Wasmer(to)) => {
                    move_memory(from, index, to).map_err(NativeError::from)
                }
                _ => Err(NativeError::internal("the memories are of different backends")),
            })?;
        }
        Ok(target)
    }
}

/// The groups whose stores have had instances.
fn with_used_stores(groups: &[Rc<Group>]) -> Result<Vec<Rc<Group>>, NativeError> {
    let mut used = Vec::new();
    for group in groups {
        if with_realm!(&*group.enter()?, realm => realm.has_instances()) {
            used.push(group.clone());
        }
    }
    Ok(used)
}
