//! ArrayBuffers over native memory, copies, and detaching.

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
};

use napi::sys;

use super::scope::{JsValue, Scope, ok};
use crate::node::error::{ErrorKind, NativeError};

impl Scope {
    /// An ArrayBuffer over memory that this crate owns. `None` if the host forbids such buffers.
    /// `when_gone` is dropped on this thread once this buffer and every buffer that took over its bytes
    /// are gone.
    ///
    /// # Safety
    ///
    /// The memory must stay until `when_gone` is dropped, [`Scope::detach_buffer`] has detached the
    /// buffer, or the environment ends.
    pub unsafe fn external_buffer<T>(self, base: *mut u8, bytes: usize, when_gone: Rc<T>) -> Option<JsValue> {
        let mut buffer = ptr::null_mut();
        let hint = Rc::into_raw(when_gone);
        // SAFETY: passed on to the caller. The finalizer gets the pointer that stands for one count of
        // the `Rc`, once.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(
                self.env,
                base.cast(),
                bytes,
                Some(drop_hint::<T>),
                hint.cast_mut().cast(),
                &mut buffer,
            )
        };
        if ok(status) {
            return Some(buffer);
        }
        // SAFETY: it comes from `into_raw` above, and no buffer has it.
        drop(unsafe { Rc::from_raw(hint) });
        None
    }

    /// An ArrayBuffer without bytes.
    pub fn empty_buffer(self) -> Result<JsValue, NativeError> {
        // SAFETY: nothing is read.
        unsafe { self.copied_buffer(ptr::null(), 0) }
    }

    /// A new ArrayBuffer with a copy of the bytes.
    ///
    /// # Safety
    ///
    /// `bytes` bytes must be readable at `base`, or `bytes` be 0.
    pub unsafe fn copied_buffer(self, base: *const u8, bytes: usize) -> Result<JsValue, NativeError> {
        let (mut data, mut buffer) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: as in `undefined`.
        let status = unsafe { sys::napi_create_arraybuffer(self.env, bytes, &mut data, &mut buffer) };
        if !ok(status) {
            return Err(NativeError::new(ErrorKind::Limit, format!("cannot allocate a copy of {bytes} bytes")));
        }
        if bytes > 0 && !data.is_null() {
            // SAFETY: `data` is `bytes` fresh bytes; `base` is the caller's promise.
            unsafe { ptr::copy_nonoverlapping(base, data.cast(), bytes) };
        }
        Ok(buffer)
    }

    /// Detaches an ArrayBuffer. Returns `false` if other code has already detached it, and may have
    /// transferred its bytes to another buffer.
    pub fn detach_buffer(self, buffer: JsValue) -> bool {
        if self.is_detached(buffer) {
            return false;
        }
        // SAFETY: the value is alive.
        ok(unsafe { sys::napi_detach_arraybuffer(self.env, buffer) })
    }

    pub fn is_detached(self, buffer: JsValue) -> bool {
        let mut is_detached = false;
        // SAFETY: the value is alive.
        unsafe { sys::napi_is_detached_arraybuffer(self.env, buffer, &mut is_detached) };
        is_detached
    }

    /// The memory of an ArrayBuffer.
    pub fn buffer_info(self, buffer: JsValue) -> Result<(*mut u8, usize), NativeError> {
        let (mut data, mut length) = (ptr::null_mut(), 0);
        // SAFETY: as in `undefined`.
        let status = unsafe { sys::napi_get_arraybuffer_info(self.env, buffer, &mut data, &mut length) };
        ok(status).then_some((data.cast(), length)).ok_or_else(|| NativeError::internal("not an ArrayBuffer"))
    }
}

/// The finalizer of external buffers. Node calls it on the environment's thread.
extern "C" fn drop_hint<T>(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    let when_gone: *const T = hint.cast_const().cast();
    // SAFETY: it is the pointer that `external_buffer` made of an `Rc`, and Node calls the finalizer of
    // each buffer once.
    let when_gone = unsafe { Rc::from_raw(when_gone) };
    // A panic must not reach Node, which would end the process. Nothing here depends on the dropped
    // value.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(when_gone)));
}
