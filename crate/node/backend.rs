//! Where the two engines become one type: an enum around an entire engine, module or realm. Everything
//! below this file is generic over the engine, and everything above it is independent of the engine.

use std::{
    rc::Rc,
    sync::{Arc, LazyLock},
};

use crate::{
    artifact,
    cache::{
        Key, ModuleCache,
        disk::{ArtifactKey, DiskCache},
    },
    engine::{Engine, EngineConfig, EngineId, StoreLimits, shared::SharedEngines, wasmer::Wasmer, wasmi::Wasmi},
    error::{CompileError, EngineError},
    executor::pool::{NoThread, has_room},
    module::Module,
    realm::Realm,
};

#[derive(Clone)]
pub enum AnyEngine {
    Wasmi(Arc<Wasmi>),
    Wasmer(Arc<Wasmer>),
}

/// An engine, and the limits of the stores that are made with it.
#[derive(Clone)]
pub struct LimitedEngine {
    pub engine: AnyEngine,
    pub limits: StoreLimits,
}

impl LimitedEngine {
    pub fn new_realm(&self) -> AnyRealm {
        match &self.engine {
            AnyEngine::Wasmi(engine) => AnyRealm::Wasmi(Realm::with_limits(engine, self.limits.clone())),
            AnyEngine::Wasmer(engine) => AnyRealm::Wasmer(Realm::with_limits(engine, self.limits.clone())),
        }
    }
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

static WASMI: LazyLock<SharedEngines<Wasmi>> = LazyLock::new(SharedEngines::default);
static WASMER: LazyLock<SharedEngines<Wasmer>> = LazyLock::new(SharedEngines::default);

/// The number of engines in the process, whether used or not.
pub fn engine_count() -> usize {
    WASMI.len() + WASMER.len()
}

impl AnyEngine {
    /// The engine with this name and configuration, or `None` if there is no such name.
    pub fn named(name: &str, config: &EngineConfig) -> Option<Result<Self, EngineError>> {
        match name {
            Wasmi::NAME => Some(WASMI.get(config).map(Self::Wasmi)),
            Wasmer::NAME => Some(WASMER.get(config).map(Self::Wasmer)),
            _ => None,
        }
    }

    fn id(&self) -> EngineId {
        match self {
            Self::Wasmi(engine) => engine.id(),
            Self::Wasmer(engine) => engine.id(),
        }
    }

    /// Whether there is address space for the compiler. wasmer's starts threads of its own, which end
    /// the process if there is none.
    /// Asked only where a module is really compiled: to ask takes longer than to find one in the cache.
    fn has_room_to_compile(&self) -> bool {
        match self {
            Self::Wasmi(_) => true,
            Self::Wasmer(_) => has_room(128 << 20),
        }
    }

    /// Compiles, through the cache if there is one.
    pub fn compile(&self, wasm: &[u8], cache: Option<&Cache>) -> Result<AnyModule, CompileError> {
        let Some(Cache { modules, disk }) = cache else { return self.compile_anew(wasm) };
        let key = Key::new(wasm, self.id());
        modules.get_or_compile(&key, || match disk.as_ref().zip(self.identity()) {
            Some((disk, identity)) => {
                self.compile_by_disk(wasm, disk, &ArtifactKey::new(&[&key.wasm, identity.as_bytes()]))
            }
            None => self.compile_anew(wasm),
        })
    }

    fn compile_anew(&self, wasm: &[u8]) -> Result<AnyModule, CompileError> {
        if !self.has_room_to_compile() {
            return Err(CompileError::Allocation(NoThread::NoRoom.to_string()));
        }
        match self {
            Self::Wasmi(engine) => Module::compile(&**engine, wasm).map(Arc::new).map(AnyModule::Wasmi),
            Self::Wasmer(engine) => Module::compile(&**engine, wasm).map(Arc::new).map(AnyModule::Wasmer),
        }
    }

    /// Loads a module's machine code from disk, or compiles the module and stores its machine code.
    fn compile_by_disk(&self, wasm: &[u8], disk: &DiskCache, key: &ArtifactKey) -> Result<AnyModule, CompileError> {
        if let Some(machine_code) = disk.load(key) {
            // SAFETY: the key is of the binary and of all else that machine code depends on, and whoever
            // has chosen the folder vouches for what is in it.
            if let Ok(module) = unsafe { self.load(wasm, &machine_code) } {
                return Ok(module);
            }
        }
        let module = self.compile_anew(wasm)?;
        if let Ok(machine_code) = self.machine_code(&module) {
            // If this fails, the module is compiled again next time.
            let _ = disk.store(key, &machine_code);
        }
        Ok(module)
    }

    fn identity(&self) -> Option<String> {
        match self {
            Self::Wasmi(engine) => engine.identity(),
            Self::Wasmer(engine) => engine.identity(),
        }
    }

    fn machine_code(&self, module: &AnyModule) -> Result<Vec<u8>, CompileError> {
        match (self, module) {
            (Self::Wasmi(engine), AnyModule::Wasmi(module)) => module.machine_code(engine),
            (Self::Wasmer(engine), AnyModule::Wasmer(module)) => module.machine_code(engine),
            _ => Err(CompileError::Refused("the module is of another backend".to_owned())),
        }
    }

    /// # Safety
    ///
    /// As for [`Engine::load`].
    unsafe fn load(&self, wasm: &[u8], machine_code: &[u8]) -> Result<AnyModule, CompileError> {
        Ok(match self {
            Self::Wasmi(engine) => {
                // SAFETY: passed on to the caller.
                AnyModule::Wasmi(Arc::new(unsafe { Module::load(&**engine, wasm, machine_code) }?))
            }
            Self::Wasmer(engine) => {
                // SAFETY: passed on to the caller.
                AnyModule::Wasmer(Arc::new(unsafe { Module::load(&**engine, wasm, machine_code) }?))
            }
        })
    }

    /// Serializes a module that was compiled from `wasm`.
    pub fn serialize(&self, wasm: &[u8], module: &AnyModule) -> Result<Vec<u8>, CompileError> {
        Ok(artifact::encode(&self.artifact_key()?, wasm, &self.machine_code(module)?))
    }

    /// Deserializes a module. Returns it, and the size of its binary in bytes.
    ///
    /// # Safety
    ///
    /// Nobody may have changed the bytes: the machine code in them will be run.
    pub unsafe fn deserialize(&self, bytes: &[u8]) -> Result<(AnyModule, usize), CompileError> {
        let (wasm, machine_code) = artifact::decode(&self.artifact_key()?, bytes)?;
        // SAFETY: the key is of all that the machine code depends on; the rest is passed on to the caller.
        Ok((unsafe { self.load(wasm, machine_code) }?, wasm.len()))
    }

    fn artifact_key(&self) -> Result<ArtifactKey, CompileError> {
        let identity =
            self.identity().ok_or_else(|| CompileError::Refused("wasmi makes no machine code".to_owned()))?;
        Ok(ArtifactKey::new(&[identity.as_bytes()]))
    }
}

/// Where compiled modules are kept.
pub struct Cache {
    pub modules: Arc<ModuleCache<AnyModule>>,
    /// A folder, if there is one. Whoever chose it trusts it with machine code.
    pub disk: Option<DiskCache>,
}

impl AnyModule {
    /// Whether both are the same compiled module.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wasmi(a), Self::Wasmi(b)) => Arc::ptr_eq(a, b),
            (Self::Wasmer(a), Self::Wasmer(b)) => Arc::ptr_eq(a, b),
            (Self::Wasmi(_), Self::Wasmer(_)) | (Self::Wasmer(_), Self::Wasmi(_)) => false,
        }
    }

    /// A number that is unique among the living modules of the process.
    pub fn address(&self) -> usize {
        match self {
            Self::Wasmi(module) => Arc::as_ptr(module) as usize,
            Self::Wasmer(module) => Arc::as_ptr(module) as usize,
        }
    }
}
