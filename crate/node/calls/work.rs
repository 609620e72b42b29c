//! What an asynchronous call does in its group.

use std::rc::Rc;

use crate::{
    engine::{wasmer::Wasmer, wasmi::Wasmi},
    executor::Begin,
    node::{
        backend::{AnyModule, AnyRealm, LimitedEngine, with_module},
        error::NativeError,
        group::Group,
        linking::Linking,
        raw::Scope,
        tables::Tables,
    },
    realm::{Realm, Slots},
};

/// The work of a call once its group is free.
pub struct Work {
    pub slots: Slots,
    pub what: What,
}

pub enum What {
    Call { group: Rc<Group>, instance: u32, export: u32 },
    Instantiate { engine: LimitedEngine, linking: Linking },
}

/// A realm and what to begin in it.
pub enum AnyBegin {
    Wasmi(Rc<Realm<Wasmi>>, Begin<Wasmi>),
    Wasmer(Rc<Realm<Wasmer>>, Begin<Wasmer>),
}

impl What {
    /// The groups that must be free before it can begin.
    pub fn groups(&self, tables: &Tables) -> Result<Vec<Rc<Group>>, NativeError> {
        match self {
            Self::Call { group, .. } => Ok(vec![group.clone()]),
            Self::Instantiate { linking, .. } => linking.groups(tables),
        }
    }

    /// The one group that it runs in.
    pub fn group(&self, tables: &Tables, scope: Scope) -> Result<Rc<Group>, NativeError> {
        match self {
            Self::Call { group, .. } => Ok(group.clone()),
            Self::Instantiate { engine, linking } => linking.common_group(tables, scope, engine),
        }
    }

    pub fn begin(&self, tables: &Tables, group: &Group) -> Result<AnyBegin, NativeError> {
        let realm = group.enter()?;
        match self {
            Self::Call { instance, export, .. } => {
                let (instance, export) = (*instance, *export);
                Ok(match &*realm {
                    AnyRealm::Wasmi(realm) => AnyBegin::Wasmi(realm.clone(), Begin::Call { instance, export }),
                    AnyRealm::Wasmer(realm) => AnyBegin::Wasmer(realm.clone(), Begin::Call { instance, export }),
                })
            }
            Self::Instantiate { linking, .. } => {
                let (carried, imports) = (linking.carried.clone(), linking.imports(tables)?);
                group.instances.count_made();
                match (&*realm, linking.module.clone()) {
                    (AnyRealm::Wasmi(realm), AnyModule::Wasmi(module)) => {
                        Ok(AnyBegin::Wasmi(realm.clone(), Begin::Instantiate { module, carried, imports }))
                    }
                    (AnyRealm::Wasmer(realm), AnyModule::Wasmer(module)) => {
                        Ok(AnyBegin::Wasmer(realm.clone(), Begin::Instantiate { module, carried, imports }))
                    }
                    _ => Err(NativeError::internal("the memory and the module are of different backends")),
                }
            }
        }
    }

    pub fn extra_bytes(&self) -> u64 {
        match self {
            Self::Call { .. } => 0,
            Self::Instantiate { linking, .. } => with_module!(&linking.module, module => module.instance_bytes),
        }
    }
}
