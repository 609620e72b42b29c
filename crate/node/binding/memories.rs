use std::rc::Rc;

use napi::{
    Env, JsValue as _,
    bindgen_prelude::{BigInt, Object},
};
use napi_derive::napi;

use super::{Binding, scope_of};
use crate::{
    node::{
        backend::with_realm,
        error::{NativeError, Result},
        group::Group,
        raw::JsValue,
        tables::Entry,
    },
    value::PAGE_BYTES,
};

#[napi]
impl Binding {
    /// The size of a memory in bytes.
    #[napi(catch_unwind)]
    pub fn memory_bytes(&self, memory: u32) -> Result<f64> {
        let Entry { group, index } = self.environment.tables.memories.get(memory)?;
        let region = with_realm!(&*group.enter()?, realm => realm.memory_region(index)).map_err(NativeError::from)?;
        Ok(region.bytes as f64)
    }

    /// Grows a memory by `pages` pages, and returns the previous number of pages.
    #[napi(catch_unwind)]
    pub fn memory_grow(&self, env: Env, memory: u32, pages: u32) -> Result<f64> {
        let (tables, scope, pages) = (&self.environment.tables, scope_of(env), u64::from(pages));
        let Entry { group, .. } = tables.memories.get(memory)?;
        let limits = with_realm!(&*group.enter()?, realm => realm.limits().clone());
        tables.make_room(scope, &limits, pages.saturating_mul(PAGE_BYTES));
        // Making room may have moved it to another place.
        let Entry { group, index } = tables.memories.get(memory)?;
        let realm = group.enter()?;
        group.pin(scope);
        let before = with_realm!(&*realm, realm => realm.memory_grow(index, pages)).map_err(NativeError::from)?;
        group.detach_stale(scope);
        group.report(scope);
        Ok(before as f64)
    }

    /// The zero-copy ArrayBuffer of a memory.
    #[napi(catch_unwind, ts_return_type = "ArrayBuffer")]
    pub fn memory_buffer(&self, env: Env, memory: u32) -> Result<JsValue> {
        let tables = &self.environment.tables;
        let Entry { group, index } = tables.memories.get(memory)?;
        let _entered = group.enter()?;
        Ok(group.view(scope_of(env), index, tables.refuses_buffers.get())?)
    }

    /// The address of a memory's first byte in this process, valid until the memory grows.
    #[napi(catch_unwind)]
    pub fn memory_address(&self, memory: u32) -> Result<BigInt> {
        let Entry { group, index } = self.environment.tables.memories.get(memory)?;
        let region = with_realm!(&*group.enter()?, realm => realm.memory_region(index)).map_err(NativeError::from)?;
        Ok(BigInt::from(region.base as u64))
    }

    /// An address that is unique to this instance.
    #[napi(catch_unwind)]
    pub fn instance_address(&self, instance: u32) -> Result<BigInt> {
        Ok(BigInt::from(self.environment.tables.instances.identity(instance)? as u64))
    }

    /// The number of a memory that an instance exports.
    #[napi(catch_unwind)]
    pub fn exported_memory(&self, env: Env, wrapper: Object, instance: u32, export_index: u32) -> Result<u32> {
        let tables = &self.environment.tables;
        let Entry { group, index: instance } = tables.instances.get(instance)?;
        let index = with_realm!(&*group.enter()?, realm => realm.exported_memory(instance, export_index));
        let index = index.ok_or_else(|| NativeError::internal(format!("export {export_index} is not a memory")))?;
        Ok(tables.memories.add(scope_of(env), Entry { group, index }, wrapper.raw())?)
    }

    /// The number of an instance's memory 0, whether imported, exported or neither, also during a start
    /// function; null if the instance has none.
    #[napi(catch_unwind)]
    pub fn memory0(&self, env: Env, wrapper: Object, instance: u32) -> Result<Option<u32>> {
        let Entry { group, index: instance } = self.environment.tables.instances.get(instance)?;
        self.add_memory0(env, wrapper, group, instance)
    }

    /// The same for an instance whose start function waits for its supervisor in this asynchronous call,
    /// and which has no number yet.
    #[napi(catch_unwind)]
    pub fn memory0_of_call(&self, env: Env, wrapper: Object, call: u32) -> Result<Option<u32>> {
        let Some((group, instance)) = self.environment.calls.asking(call)? else { return Ok(None) };
        self.add_memory0(env, wrapper, group, instance)
    }
}

impl Binding {
    fn add_memory0(&self, env: Env, wrapper: Object, group: Rc<Group>, instance: u32) -> Result<Option<u32>> {
        let index = with_realm!(&*group.enter()?, realm => realm.memory0(instance));
        let Some(index) = index else { return Ok(None) };
        Ok(Some(self.environment.tables.memories.add(scope_of(env), Entry { group, index }, wrapper.raw())?))
    }
}
