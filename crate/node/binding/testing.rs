use napi::{Env, JsValue as _, bindgen_prelude::Function};
use napi_derive::napi;

use super::{Binding, scope_of};
use crate::{
    executor::pool::Pool,
    node::{backend::engine_count, raw::RenewedScope},
};

/// The number of objects of each kind.
#[napi(object, object_from_js = false)]
pub struct ObjectCounts {
    pub engines: u32,
    pub caches: u32,
    pub quotas: u32,
    pub modules: u32,
    pub memories: u32,
    pub instances: u32,
    pub engines_of_process: u32,
}

/// For tests and benchmarks.
#[napi]
impl Binding {
    /// Calls `napi_call_function` without anything around it, for benchmarks to compare with.
    #[napi(catch_unwind)]
    pub fn call_for_bench(&self, env: Env, callback: Function<(), ()>, times: u32) {
        let scope = scope_of(env);
        let receiver = scope.undefined();
        let mut handles = RenewedScope::new(scope);
        for _ in 0..times {
            handles.renew();
            if !scope.call(receiver, callback.raw()) {
                break;
            }
        }
    }

    /// The number of memories and instances, including those that only wait for the garbage collector.
    #[napi(catch_unwind)]
    pub fn count_for_tests(&self) -> u32 {
        let tables = &self.environment.tables;
        (tables.memories.len() + tables.instances.len()) as u32
    }

    /// The number of objects of each kind, including those that only wait for the garbage collector, and
    /// the number of engines in the process.
    #[napi(catch_unwind)]
    pub fn count_each_for_tests(&self) -> ObjectCounts {
        let tables = &self.environment.tables;
        ObjectCounts {
            engines: tables.engines.len() as u32,
            caches: tables.caches.len() as u32,
            quotas: tables.quotas.len() as u32,
            modules: tables.modules.len() as u32,
            memories: tables.memories.len() as u32,
            instances: tables.instances.len() as u32,
            engines_of_process: engine_count() as u32,
        }
    }

    /// The number of threads in the pool of the process.
    #[napi(catch_unwind)]
    pub fn count_threads_for_tests(&self) -> u32 {
        Pool::get().thread_count() as u32
    }

    /// Panics, to show that a panic becomes an error.
    #[napi(catch_unwind)]
    pub fn panic_for_tests(&self) {
        panic!("on purpose, for a test")
    }

    /// Sets whether to behave like a runtime that forbids buffers over native memory.
    #[napi(catch_unwind)]
    pub fn refuse_buffers_for_tests(&self, refuses: bool) {
        self.environment.tables.refuses_buffers.set(refuses);
    }
}
