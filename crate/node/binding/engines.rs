use std::{path::Path, sync::Arc};

use napi::{Env, JsValue as _, bindgen_prelude::Object};
use napi_derive::napi;

use super::{Binding, scope_of};
use crate::{
    cache::{ModuleCache, disk::DiskCache},
    engine::{EngineConfig, OptLevel, StoreLimits, features::Features},
    node::{
        backend::{AnyEngine, Cache, LimitedEngine},
        error::{ErrorKind, NativeError, Result},
    },
    total::TotalBytes,
};

/// The optimization level of an engine's compiler.
#[napi(string_enum = "kebab-case")]
pub enum OptimizationLevel {
    None,
    Speed,
}

/// The configuration of an engine, and the limits of its stores: null where there is no limit.
#[napi(object, object_to_js = false, use_nullable = true)]
pub struct EngineOptions {
    #[napi(ts_type = "'wasmi' | 'wasmer'")]
    pub backend: String,
    pub opt_level: OptimizationLevel,
    pub interruptible: bool,
    pub fuel: bool,
    pub deterministic: bool,
    /// One bit for each of `featureNames`.
    pub features: u32,
    pub recursion_depth: Option<u32>,
    pub stack_bytes: Option<u32>,
    pub memory_bytes: Option<f64>,
    pub table_elements: Option<u32>,
    /// The total of the stores that are created with this engine's number, and no others.
    pub total_bytes: Option<f64>,
}

#[napi]
impl Binding {
    /// Creates an engine with limits for its stores, or finds one with the same configuration.
    #[napi(catch_unwind)]
    pub fn engine(&self, env: Env, wrapper: Object, options: EngineOptions) -> Result<u32> {
        let config = EngineConfig {
            opt_level: match options.opt_level {
                OptimizationLevel::None => OptLevel::None,
                OptimizationLevel::Speed => OptLevel::Speed,
            },
            interruptible: options.interruptible,
            has_fuel: options.fuel,
            deterministic: options.deterministic,
            features: Features::from_bits(options.features),
            recursion_depth: options.recursion_depth,
            stack_bytes: options.stack_bytes.map(|bytes| bytes as usize),
            exact_memories: false,
        };
        let limits = StoreLimits {
            memory_bytes: options.memory_bytes.map(|bytes| bytes as u64),
            table_elements: options.table_elements,
            total: options.total_bytes.map(|bytes| TotalBytes::new(bytes as u64)),
        };
        let engine = AnyEngine::named(&options.backend, &config)
            .ok_or_else(|| NativeError::internal("unknown backend"))?
            .map_err(NativeError::from)?;
        let engine = LimitedEngine { engine, limits };
        Ok(self.environment.tables.engines.add(scope_of(env), engine, wrapper.raw())?)
    }

    /// The names of the features, in the order of their bits.
    #[napi(catch_unwind)]
    pub fn feature_names(&self) -> Vec<&'static str> {
        Features::names().collect()
    }

    /// Creates a cache for `entries` modules, on disk as well if there is a folder.
    #[napi(catch_unwind)]
    pub fn new_cache(&self, env: Env, wrapper: Object, entries: u32, folder: Option<String>) -> Result<u32> {
        let open = |folder: String| {
            DiskCache::open(Path::new(&folder)).map_err(|error| NativeError::new(ErrorKind::CacheFolder, error))
        };
        let disk = folder.map(open).transpose()?;
        let cache = Arc::new(Cache { modules: ModuleCache::new(entries as usize), disk });
        Ok(self.environment.tables.caches.add(scope_of(env), cache, wrapper.raw())?)
    }
}
