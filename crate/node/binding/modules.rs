use napi::{Env, JsValue as _, bindgen_prelude::Object};
use napi_derive::napi;

use super::{Binding, scope_of};
use crate::node::{
    backend::with_module,
    describe::Describer,
    error::{NativeError, Result},
    raw::JsValue,
};

/// The imports and exports of a module.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct ModuleDescription {
    #[napi(ts_type = "readonly ImportDescription[]")]
    pub imports: JsValue,
    #[napi(ts_type = "readonly ExternDescription[]")]
    pub exports: JsValue,
    pub has_start: bool,
    /// The index in `exports` of the module's own memory 0.
    pub exported_memory0: Option<u32>,
}

/// A module that was deserialized.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct DeserializedModule {
    /// The wrapper, as `compile` returns it.
    #[napi(ts_type = "object")]
    pub wrapper: Option<JsValue>,
    /// The size of the module's binary in bytes.
    pub binary_bytes: f64,
}

#[napi]
impl Binding {
    /// Gives its number to the module that had no wrapper.
    #[napi(catch_unwind)]
    pub fn adopt_module(&self, env: Env, wrapper: Object) -> Result<u32> {
        Ok(self.environment.tables.claim_module(scope_of(env), wrapper.raw())?)
    }

    /// The imports and exports of a module.
    #[napi(catch_unwind)]
    pub fn describe_module(&self, env: Env, module: u32) -> Result<ModuleDescription> {
        let scope = scope_of(env);
        let module = self.environment.tables.modules.get(module)?;
        Ok(with_module!(&module, module => {
            let mut describer = Describer::new(scope);
            ModuleDescription {
                imports: scope.array(module.imports.iter().map(|import| describer.import(import))),
                exports: scope.array(module.exports.iter().map(|export| describer.export(export))),
                has_start: module.start.is_some(),
                exported_memory0: module.exported_memory0.map(|export| export as u32),
            }
        }))
    }

    /// Serializes a module that was compiled from `wasm`.
    #[napi(catch_unwind, ts_return_type = "ArrayBuffer")]
    pub fn serialize_module(&self, env: Env, engine: u32, module: u32, wasm: &[u8]) -> Result<JsValue> {
        let tables = &self.environment.tables;
        let engine = tables.engines.get(engine)?.engine;
        let module = tables.modules.get(module)?;
        let bytes = engine.serialize(wasm, &module).map_err(NativeError::from)?;
        // SAFETY: the bytes are alive during the copy.
        Ok(unsafe { scope_of(env).copied_buffer(bytes.as_ptr(), bytes.len()) }?)
    }

    /// Deserializes a module. Its bytes must be unchanged: the machine code in them will be run.
    #[napi(catch_unwind)]
    pub fn deserialize_module(&self, env: Env, engine: u32, bytes: &[u8]) -> Result<DeserializedModule> {
        let tables = &self.environment.tables;
        let engine = tables.engines.get(engine)?.engine;
        // SAFETY: JavaScript's `unsafeDeserialize` passes that on to its caller.
        let (module, length) = unsafe { engine.deserialize(bytes) }.map_err(NativeError::from)?;
        let wrapper = tables.module_wrapper(scope_of(env), module);
        Ok(DeserializedModule { wrapper, binary_bytes: length as f64 })
    }
}
