//! References to JavaScript objects.

use std::ptr;

use napi::sys;

use super::scope::{JsValue, Scope, ok};
use crate::node::error::NativeError;

/// A reference to a JavaScript object that outlives the native call.
pub struct Reference(sys::napi_ref);

impl Reference {
    /// The address of the reference itself, unique among living references.
    pub fn address(&self) -> usize {
        self.0 as usize
    }

    /// Creates a reference that keeps the object alive.
    pub fn strong(scope: Scope, object: JsValue) -> Result<Self, NativeError> {
        Self::new(scope, object, 1)
    }

    /// Creates a reference that does not keep the object alive.
    pub fn weak(scope: Scope, object: JsValue) -> Result<Self, NativeError> {
        Self::new(scope, object, 0)
    }

    fn new(scope: Scope, object: JsValue, count: u32) -> Result<Self, NativeError> {
        let mut reference = ptr::null_mut();
        // SAFETY: the object belongs to the current call.
        let status = unsafe { sys::napi_create_reference(scope.env, object, count, &mut reference) };
        ok(status).then_some(Self(reference)).ok_or_else(|| NativeError::internal("cannot refer to the object"))
    }

    /// The object, if it is alive.
    pub fn get(&self, scope: Scope) -> Option<JsValue> {
        let mut object = ptr::null_mut();
        // SAFETY: the reference has not been deleted, because `delete` consumes it.
        unsafe { sys::napi_get_reference_value(scope.env, self.0, &mut object) };
        (!object.is_null()).then_some(object)
    }

    /// Makes a weak reference strong, or weak again.
    pub fn hold(&self, scope: Scope, is_strong: bool) {
        // SAFETY: as in `get`. The count is not asked for.
        unsafe {
            if is_strong {
                sys::napi_reference_ref(scope.env, self.0, ptr::null_mut());
            } else {
                sys::napi_reference_unref(scope.env, self.0, ptr::null_mut());
            }
        }
    }

    pub fn delete(self, scope: Scope) {
        // SAFETY: as in `get`; and it is not used again.
        unsafe { sys::napi_delete_reference(scope.env, self.0) };
    }
}
