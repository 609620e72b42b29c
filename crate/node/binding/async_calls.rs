use napi::{Env, JsValue as _, bindgen_prelude::Object};
use napi_derive::napi;

use super::{Binding, scope_of};
use crate::{
    executor::pool::ThreadQuota,
    node::{
        calls::{What, Work},
        error::{NativeError, Result},
        linking::Linking,
        raw::JsValue,
        tables::Entry,
    },
    realm::Slots,
};

/// Asynchronous calls are also identified by numbers. Their timeouts are in the scratch buffer.
#[napi]
impl Binding {
    /// Creates a quota of `threads` native threads.
    #[napi(catch_unwind)]
    pub fn new_thread_quota(&self, env: Env, wrapper: Object, threads: u32) -> Result<u32> {
        let quota = ThreadQuota::new(threads as usize);
        Ok(self.environment.tables.quotas.add(scope_of(env), quota, wrapper.raw())?)
    }

    /// Begins a call that ends with a module, which `compiledBy` returns.
    #[napi(catch_unwind)]
    pub fn compile_async(&self, env: Env, engine: u32, cache: Option<u32>, wasm: &[u8], quota: u32) -> Result<u32> {
        let tables = &self.environment.tables;
        let engine = tables.engines.get(engine)?.engine;
        let cache = tables.cache(cache)?;
        let quota = tables.quotas.get(quota)?;
        let wasm = wasm.to_vec();
        let compile = move || engine.compile(&wasm, cache.as_deref());
        Ok(self.environment.calls.compile(tables, scope_of(env), &tables.scratch(), &quota, compile)?)
    }

    /// The module with which this call ended, in the form that `compile` returns.
    #[napi(catch_unwind, ts_return_type = "object | null")]
    pub fn compiled_by(&self, env: Env, call: u32) -> Result<Option<JsValue>> {
        let module = self.environment.calls.take_compiled(call);
        let module = module.ok_or_else(|| NativeError::internal("that call has compiled nothing"))?;
        Ok(self.environment.tables.module_wrapper(scope_of(env), module))
    }

    /// Begins a call that ends with an instance whose start function has run. `adoptInstance` takes it.
    /// `memories` are as in `instantiate`.
    #[napi(catch_unwind)]
    pub fn instantiate_async(
        &self,
        env: Env,
        module: u32,
        engine: u32,
        version: u32,
        memories: &[u8],
        quota: u32,
    ) -> Result<u32> {
        let (tables, scope) = (&self.environment.tables, scope_of(env));
        let linking = Linking::new(tables, module, version, memories)?;
        let engine = tables.engines.get(engine)?;
        let quota = tables.quotas.get(quota)?;
        linking.make_room(tables, scope, &engine)?;
        let work = Work { slots: Slots::new(0), what: What::Instantiate { engine, linking } };
        Ok(self.environment.calls.enter(tables, scope, &tables.scratch(), &quota, work)?)
    }

    /// The number of the instance with which this call ended.
    #[napi(catch_unwind)]
    pub fn adopt_instance(&self, env: Env, wrapper: Object, call: u32) -> Result<u32> {
        let made = self.environment.calls.take_made(call);
        let (group, index) = made.ok_or_else(|| NativeError::internal("that call has made no instance"))?;
        Ok(self.environment.tables.add_instance(scope_of(env), group, index, wrapper.raw())?)
    }

    /// Whether this call occupies the store of this instance.
    #[napi(catch_unwind)]
    pub fn occupies_instance(&self, call: u32, instance: u32) -> Result<bool> {
        let Entry { group, .. } = self.environment.tables.instances.get(instance)?;
        Ok(self.environment.calls.occupies(call, &group))
    }

    /// Whether this call occupies the store of this memory.
    #[napi(catch_unwind)]
    pub fn occupies_memory(&self, call: u32, memory: u32) -> Result<bool> {
        let Entry { group, .. } = self.environment.tables.memories.get(memory)?;
        Ok(self.environment.calls.occupies(call, &group))
    }

    /// Ends a call as soon as possible, like a timeout.
    #[napi(catch_unwind)]
    pub fn stop_call(&self, call: u32) {
        self.environment.calls.stop(call);
    }

    /// The error with the reason for the refusal that `nextEvent` has just reported. It is not thrown:
    /// debuggers treat exceptions from native code as uncaught, even if they are caught.
    #[napi(catch_unwind, ts_return_type = "Error")]
    pub fn take_refusal(&self, env: Env) -> JsValue {
        let refusal = self.environment.tables.take_refusal();
        scope_of(env).error(&refusal.unwrap_or_else(|| NativeError::internal("nothing was refused")))
    }
}
