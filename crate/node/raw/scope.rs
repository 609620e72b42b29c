//! Node-API calls as Rust functions.

use std::{ffi::CString, ptr};

use napi::sys;

use crate::node::error::NativeError;

/// A JavaScript value, alive until the current handle scope is closed.
pub type JsValue = sys::napi_value;

/// Proof that this is the JavaScript thread and that a native function is running: whoever has one may
/// call Node-API.
#[derive(Clone, Copy)]
pub struct Scope {
    pub(super) env: sys::napi_env,
}

pub(super) fn ok(status: sys::napi_status) -> bool {
    status == sys::Status::napi_ok
}

impl Scope {
    /// # Safety
    ///
    /// `env` must be the environment of the current thread, and a native function must be running in it.
    pub unsafe fn new(env: sys::napi_env) -> Self {
        Self { env }
    }

    /// Runs a Node-API call that writes one value.
    pub(super) fn value(self, call: impl FnOnce(*mut JsValue) -> sys::napi_status) -> JsValue {
        let mut value = ptr::null_mut();
        let status = call(&mut value);
        debug_assert!(ok(status) || value.is_null());
        value
    }

    pub fn undefined(self) -> JsValue {
        // SAFETY: a scope is a live environment on its thread.
        self.value(|value| unsafe { sys::napi_get_undefined(self.env, value) })
    }

    pub fn number(self, number: f64) -> JsValue {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_double(self.env, number, value) })
    }

    pub fn boolean(self, boolean: bool) -> JsValue {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_get_boolean(self.env, boolean, value) })
    }

    pub fn string(self, string: &str) -> JsValue {
        // SAFETY: as in `undefined`; the string is passed with its length.
        self.value(|value| unsafe {
            sys::napi_create_string_utf8(self.env, string.as_ptr().cast(), string.len() as isize, value)
        })
    }

    pub fn object(self) -> JsValue {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_object(self.env, value) })
    }

    pub fn array(self, items: impl ExactSizeIterator<Item = JsValue>) -> JsValue {
        // SAFETY: as in `undefined`.
        let array = self.value(|value| unsafe { sys::napi_create_array_with_length(self.env, items.len(), value) });
        for (index, item) in items.enumerate() {
            // SAFETY: both values belong to the current call.
            unsafe { sys::napi_set_element(self.env, array, index as u32, item) };
        }
        array
    }

    pub fn set(self, object: JsValue, name: &str, value: JsValue) {
        if let Ok(name) = CString::new(name) {
            // SAFETY: both values belong to the current call; the name ends with a zero.
            unsafe { sys::napi_set_named_property(self.env, object, name.as_ptr(), value) };
        }
    }

    /// Like `set`, with a name that is created once for many objects.
    pub fn set_by(self, object: JsValue, name: JsValue, value: JsValue) {
        // SAFETY: all three belong to the current call.
        unsafe { sys::napi_set_property(self.env, object, name, value) };
    }

    /// Sets a property that is neither writable nor enumerable nor configurable.
    pub(super) fn set_for_good(self, object: JsValue, name: &str, value: JsValue) {
        let property = sys::napi_property_descriptor {
            utf8name: ptr::null(),
            name: self.string(name),
            method: None,
            getter: None,
            setter: None,
            value,
            attributes: sys::PropertyAttributes::default,
            data: ptr::null_mut(),
        };
        // SAFETY: all values belong to the current call.
        unsafe { sys::napi_define_properties(self.env, object, 1, &property) };
    }

    /// The error that [`Scope::throw`] throws. It looks like one from napi-rs, with the kind as its
    /// `code`.
    pub fn error(self, error: &NativeError) -> JsValue {
        let message = self.string(&error.message);
        let code = self.string(error.kind.as_ref());
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_error(self.env, code, message, value) })
    }

    pub(super) fn throw(self, error: &NativeError) {
        let object = self.error(error);
        // SAFETY: the error belongs to the current call. If an exception is pending already, that one stays.
        unsafe { sys::napi_throw(self.env, object) };
    }

    /// Takes the pending JavaScript exception. `None` if there is none, for example because the
    /// environment is going down.
    pub fn take_exception(self) -> Option<JsValue> {
        let mut pending = false;
        // SAFETY: as in `undefined`.
        let status = unsafe { sys::napi_is_exception_pending(self.env, &mut pending) };
        if !ok(status) || !pending {
            return None;
        }
        // SAFETY: as in `undefined`.
        let exception = self.value(|value| unsafe { sys::napi_get_and_clear_last_exception(self.env, value) });
        (!exception.is_null()).then_some(exception)
    }

    /// Calls a function without arguments and drops its result. Returns `false` if it did not return.
    pub fn call(self, receiver: JsValue, function: JsValue) -> bool {
        // SAFETY: both values are alive in a handle scope around this call; no arguments, no result.
        let status = unsafe { sys::napi_call_function(self.env, receiver, function, 0, ptr::null(), ptr::null_mut()) };
        ok(status)
    }

    /// Makes V8 collect everything unreachable at once, by reporting a large amount of native memory.
    /// Other runtimes may delay that.
    pub fn collect_garbage(self) {
        /// More than the amount from which V8 collects without delay, which is half of its maximum heap
        /// size.
        const MUCH: i64 = 1 << 36;
        self.adjust_external_memory(MUCH);
        self.adjust_external_memory(-MUCH);
    }

    /// Tells V8 that native memory was allocated or freed with its objects, so that it collects them in
    /// time.
    pub fn adjust_external_memory(self, bytes: i64) {
        let mut total = 0;
        // SAFETY: as in `undefined`.
        unsafe { sys::napi_adjust_external_memory(self.env, bytes, &mut total) };
    }
}

/// A handle scope that is renewed from time to time, so that handles do not pile up in a long call.
pub struct RenewedScope {
    scope: Scope,
    open: sys::napi_handle_scope,
    uses: u32,
}

impl RenewedScope {
    /// Opening one costs about as much as a tenth of a call; the handles of this many calls take a few KB.
    const USES: u32 = 64;

    pub fn new(scope: Scope) -> Self {
        Self { scope, open: ptr::null_mut(), uses: 0 }
    }

    /// Must be called before each use.
    pub fn renew(&mut self) {
        if self.uses == 0 {
            self.close();
            // SAFETY: closed by `close`, and in the right order, because whoever opens a scope during a
            // use closes it during that use.
            unsafe { sys::napi_open_handle_scope(self.scope.env, &mut self.open) };
            self.uses = Self::USES;
        }
        self.uses -= 1;
    }

    fn close(&mut self) {
        if !self.open.is_null() {
            // SAFETY: `open` came from `napi_open_handle_scope` and is closed once.
            unsafe { sys::napi_close_handle_scope(self.scope.env, self.open) };
            self.open = ptr::null_mut();
        }
    }
}

impl Drop for RenewedScope {
    fn drop(&mut self) {
        self.close();
    }
}
