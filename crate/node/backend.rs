//! Where the two engines become one type: an enum around a whole engine, module or realm. Nothing below this file knows
//! two engines, nothing above it knows one.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use crate::{
    cache::{Key, ModuleCache},
    engine::{Engine, EngineConfig, EngineId, wasmer::Wasmer, wasmi::Wasmi},
    error::{CompileError, EngineError},
    module::Module,
    realm::Realm,
};

#[derive(Clone)]
pub enum AnyEngine {
    Wasmi(Arc<Wasmi>),
    Wasmer(Arc<Wasmer>),
}

#[derive(Clone)]
pub enum AnyModule {
    Wasmi(Arc<Module<Wasmi>>),
    Wasmer(Arc<Module<Wasmer>>),
}

#[derive(Clone)]
pub enum AnyRealm {
    Wasmi(Rc<Realm<Wasmi>>),
    Wasmer(Rc<Realm<Wasmer>>),
}

/// Does the same with whichever engine it is.
macro_rules! with_realm {
    ($any:expr, $realm:ident => $body:expr) => {
        match $any {
            $crate::node::backend::AnyRealm::Wasmi($realm) => $body,
            $crate::node::backend::AnyRealm::Wasmer($realm) => $body,
        }
    };
}

/// Does the same with whichever engine it is.
macro_rules! with_module {
    ($any:expr, $module:ident => $body:expr) => {
        match $any {
            $crate::node::backend::AnyModule::Wasmi($module) => $body,
            $crate::node::backend::AnyModule::Wasmer($module) => $body,
        }
    };
}

pub(super) use {with_module, with_realm};

/// The engines of the process: equal configurations share one, so they share its modules.
type Engines<E> = LazyLock<Mutex<HashMap<EngineConfig, Arc<E>>>>;

static WASMI: Engines<Wasmi> = LazyLock::new(Mutex::default);
static WASMER: Engines<Wasmer> = LazyLock::new(Mutex::default);

fn shared<E: Engine>(engines: &Engines<E>, config: &EngineConfig) -> Result<Arc<E>, EngineError> {
    let mut engines = engines.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = engines.get(config) {
        return Ok(engine.clone());
    }
    let engine = Arc::new(E::new(config)?);
    engines.insert(config.clone(), engine.clone());
    Ok(engine)
}

impl AnyEngine {
    /// The engine of that name and configuration, or `None` if there is no such name.
    pub fn named(name: &str, config: &EngineConfig) -> Option<Result<Self, EngineError>> {
        match name {
            Wasmi::NAME => Some(shared(&WASMI, config).map(Self::Wasmi)),
            Wasmer::NAME => Some(shared(&WASMER, config).map(Self::Wasmer)),
            _ => None,
        }
    }

    fn id(&self) -> EngineId {
        match self {
            Self::Wasmi(engine) => engine.id(),
            Self::Wasmer(engine) => engine.id(),
        }
    }

    pub fn new_realm(&self) -> AnyRealm {
        match self {
            Self::Wasmi(engine) => AnyRealm::Wasmi(Realm::new(engine)),
            Self::Wasmer(engine) => AnyRealm::Wasmer(Realm::new(engine)),
        }
    }

    /// Compiles, through the cache if there is one.
    pub fn compile(&self, wasm: &[u8], cache: Option<&ModuleCache<AnyModule>>) -> Result<AnyModule, CompileError> {
        let compile = || match self {
            Self::Wasmi(engine) => Module::compile(&**engine, wasm).map(Arc::new).map(AnyModule::Wasmi),
            Self::Wasmer(engine) => Module::compile(&**engine, wasm).map(Arc::new).map(AnyModule::Wasmer),
        };
        match cache {
            Some(cache) => cache.get_or_compile(&Key::new(wasm, self.id()), compile),
            None => compile(),
        }
    }
}

impl AnyModule {
    /// Whether the two are one compiled module.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wasmi(a), Self::Wasmi(b)) => Arc::ptr_eq(a, b),
            (Self::Wasmer(a), Self::Wasmer(b)) => Arc::ptr_eq(a, b),
            (Self::Wasmi(_), Self::Wasmer(_)) | (Self::Wasmer(_), Self::Wasmi(_)) => false,
        }
    }

    /// A number that no other living module of the process has.
    pub fn address(&self) -> usize {
        match self {
            Self::Wasmi(module) => Arc::as_ptr(module) as usize,
            Self::Wasmer(module) => Arc::as_ptr(module) as usize,
        }
    }
}
