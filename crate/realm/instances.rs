//! Creation of instances, and their exports.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use super::{Carried, HeldModule, Import, ImportedFunc, Instance, OwnMemory0, Realm};
use crate::{
    engine::{Engine, Extern, ImportSite, Linked, RealmPtr},
    error::{GlobalError, InstantiateError, StoreError},
    module::{Memory0, Module},
    rewrite::ExportedMemory,
    value::{ExternType, GlobalType, ValueType},
};

impl<E: Engine> Realm<E> {
    /// Links an instance and returns its index. Its start function has not run: see [`Realm::start`].
    ///
    /// `imports` must be in the order of the module's imports.
    pub fn instantiate(
        &self,
        module: &Arc<Module<E>>,
        carried: Option<Carried>,
        imports: &[Import],
    ) -> Result<u32, InstantiateError> {
        if imports.len() != module.imports.len() {
            let counts = (module.imports.len(), imports.len());
            return Err(InstantiateError::Link(format!("the module has {} imports, {} are given", counts.0, counts.1)));
        }
        if module.engine != self.engine.id() {
            return Err(InstantiateError::Link("the module was compiled by another engine".to_owned()));
        }
        self.limit("a memory", "bytes", module.largest_memory, self.limits.memory_bytes)?;
        self.limit("a table", "elements", module.largest_table, Some(u64::from(self.limits.table_elements())))?;
        self.known(imports)?;
        self.link(module, imports)?;
        self.charge.borrow_mut().add(module.initial_bytes)?;
        // The host functions need the index. It stays taken even if linking fails.
        let index = {
            let mut instances = self.instances.borrow_mut();
            instances.push(None);
            instances.len() as u32 - 1
        };
        let linked = self.slot.with(|cx| {
            let mut externs = Vec::with_capacity(imports.len());
            let mut funcs = 0;
            for (declared, given) in module.imports.iter().zip(imports) {
                let place = funcs;
                funcs += u32::from(matches!(declared.ty, ExternType::Func(_)));
                externs.push(match (&declared.ty, given) {
                    (ExternType::Func(ty), Import::Host | Import::Native(_)) => {
                        let site = ImportSite { instance: index, import: place };
                        Extern::Func(E::new_host_func(cx, RealmPtr::new(self), site, ty))
                    }
                    (ExternType::Func(_), Import::Func(func)) => {
                        Extern::Func(self.funcs.borrow()[*func as usize].clone())
                    }
                    (ExternType::Global(_), Import::Global(global)) => {
                        Extern::Global(self.globals.borrow()[*global as usize].clone())
                    }
                    (ExternType::Table(_), Import::Table(table)) => {
                        Extern::Table(self.tables.borrow()[*table as usize].clone())
                    }
                    (ExternType::Memory(_), Import::Memory(memory)) => Extern::Memory(self.memory(*memory)),
                    _ => {
                        let names = (&declared.module, &declared.name);
                        let message = format!("no import of that kind is given for {}.{}", names.0, names.1);
                        return Err(InstantiateError::Link(message));
                    }
                });
            }
            let hidden = match &module.memory0 {
                Some(Memory0::Hidden(name)) => Some(name),
                _ => None,
            };
            let listed = module.exports.iter().map(|export| &export.name);
            let names: Vec<&str> = listed.chain(&module.start).chain(hidden).map(String::as_str).collect();
            let externs = module.in_engine_order(externs);
            let Linked { mut exports, flag, meters, attached } =
                E::instantiate(cx, &self.limits, &module.compiled, &externs, &names)?;
            let hidden = match hidden.and_then(|_| exports.pop()) {
                Some(Extern::Memory(memory)) => Some(memory),
                _ => None,
            };
            let start = match module.start.as_ref().and_then(|_| exports.pop()) {
                Some(Extern::Func(start)) => Some(start),
                _ => None,
            };
            Ok((exports, start, hidden, flag, meters, attached))
        });
        let (exports, start, hidden, flag, meters, attached) = match linked.map_err(InstantiateError::from).flatten() {
            Ok(linked) => linked,
            Err(error) => {
                // An instance that failed later has left its memories and tables in the store.
                if !matches!(error, InstantiateError::Segment(_) | InstantiateError::Allocation(_)) {
                    self.charge.borrow_mut().give_back(module.initial_bytes);
                }
                return Err(error);
            }
        };
        let memory0 = match &module.memory0 {
            Some(Memory0::Imported(place)) => match imports.get(*place) {
                Some(Import::Memory(memory)) => Some(OwnMemory0::Known(*memory)),
                _ => None,
            },
            _ => hidden.map(OwnMemory0::Handle),
        };
        let imported = imports.iter().filter_map(|import| match import {
            Import::Memory(memory) => Some(*memory),
            _ => None,
        });
        let imported = imported.collect();
        let carried = carried.map(|Carried { export, missing }| {
            let declared = |place: u32| module.exports.get(place as usize).map(|export| &export.ty);
            let of_export = |place: u32| match (declared(place), exports.get(place as usize)) {
                (
                    Some(ExternType::Global(GlobalType { value: ValueType::I64, mutable: true })),
                    Some(Extern::Global(global)),
                ) => Some(global.clone()),
                _ => None,
            };
            export.and_then(of_export).ok_or(missing)
        });
        let funcs = module.imports.iter().zip(imports).filter_map(|(declared, import)| match (&declared.ty, import) {
            (ExternType::Func(ty), Import::Native(native)) => Some((ty, Some(native.clone()))),
            (ExternType::Func(ty), _) => Some((ty, None)),
            _ => None,
        });
        let imported_funcs =
            funcs.map(|(ty, native)| ImportedFunc { unsupported: ty.first_unsupported(), native }).collect();
        self.instances.borrow_mut()[index as usize] = Some(Instance {
            exports,
            start,
            flag,
            meters,
            _attached: attached,
            carried,
            module: Rc::new(HeldModule(module.clone())),
            imported_funcs,
            given: HashMap::new(),
            imported,
            memories: Vec::new(),
            memory0,
        });
        Ok(index)
    }

    /// Refuses an instance whose memory or table would begin larger than a limit allows.
    pub(super) fn limit(
        &self,
        what: &'static str,
        unit: &'static str,
        size: u64,
        limit: Option<u64>,
    ) -> Result<(), InstantiateError> {
        match limit {
            Some(limit) if size > limit => Err(InstantiateError::Limit { what, size, unit, limit }),
            _ => Ok(()),
        }
    }

    /// Passes an instance's record to `f`, which must be short and must not call back into this realm.
    pub(super) fn instance<R>(&self, index: u32, f: impl FnOnce(&Instance<E>) -> R) -> Option<R> {
        self.instances.borrow().get(index as usize).and_then(Option::as_ref).map(f)
    }

    /// The realm's index of an exported memory; `None` if the export is not a memory.
    pub fn exported_memory(&self, instance: u32, export: u32) -> Option<u32> {
        let (known, own, handle) = self.instance(instance, |entry| {
            let own = match entry.module.exported_memory(export)? {
                ExportedMemory::Imported(place) => return Some((entry.imported.get(place as usize).copied(), 0, None)),
                ExportedMemory::Own(own) => own,
            };
            let known = entry.memories.iter().find(|(known, _)| *known == own).map(|(_, memory)| *memory);
            let handle = match entry.exports.get(export as usize) {
                Some(Extern::Memory(memory)) => Some(memory.clone()),
                _ => None,
            };
            Some((known, own, handle))
        })??;
        if known.is_some() {
            return known;
        }
        let memory = self.add_memory(handle?, false);
        if let Some(Some(entry)) = self.instances.borrow_mut().get_mut(instance as usize) {
            entry.memories.push((own, memory));
        }
        Some(memory)
    }

    /// The realm's index of an instance's memory 0, whether it is imported, exported or neither; `None`
    /// if the instance has no memory.
    pub fn memory0(&self, instance: u32) -> Option<u32> {
        let exported = self.instance(instance, |entry| match (&entry.module.memory0, &entry.memory0) {
            (Some(Memory0::Exported(export)), _) => Err(*export as u32),
            (_, Some(OwnMemory0::Known(memory))) => Ok(Ok(*memory)),
            (_, Some(OwnMemory0::Handle(memory))) => Ok(Err(Some(memory.clone()))),
            (_, None) => Ok(Err(None)),
        })?;
        let handle = match exported {
            Err(export) => return self.exported_memory(instance, export),
            Ok(Ok(memory)) => return Some(memory),
            Ok(Err(handle)) => handle?,
        };
        // No other handle of a memory that is neither imported nor exported can have been given an index.
        let memory = self.add_memory(handle, false);
        if let Some(Some(entry)) = self.instances.borrow_mut().get_mut(instance as usize) {
            entry.memory0 = Some(OwnMemory0::Known(memory));
        }
        Some(memory)
    }

    /// The value of an exported global; `None` if the export is not a global, or its type does not fit a
    /// slot.
    pub fn global_get(&self, instance: u32, export: u32) -> Result<Option<u64>, StoreError> {
        match self.exported_global(instance, export) {
            Some(global) => self.slot.with(|cx| E::global_get(cx, &global)),
            None => Ok(None),
        }
    }

    /// Sets an exported global. Returns `false` if the export is not a global.
    pub fn global_set(&self, instance: u32, export: u32, slot: u64) -> Result<bool, GlobalError> {
        match self.exported_global(instance, export) {
            Some(global) => self.slot.with(|cx| E::global_set(cx, &global, slot))?.map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn exported_global(&self, instance: u32, export: u32) -> Option<E::Global> {
        let global = |entry: &Instance<E>| match entry.exports.get(export as usize) {
            Some(Extern::Global(global)) => Some(global.clone()),
            _ => None,
        };
        self.instance(instance, global).flatten()
    }
}
