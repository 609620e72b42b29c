//! How another thread wakes the JavaScript thread.

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
};

use napi::sys;

use super::scope::{JsValue, Scope, ok};
use crate::node::error::{ErrorKind, NativeError};

/// Runs on the JavaScript thread when another thread has requested it.
pub trait Wake {
    fn wake(&self, scope: Scope);
}

/// A function without arguments that any thread can request to be called on the JavaScript thread.
pub struct ThreadsafeFunction(sys::napi_threadsafe_function);

// SAFETY: Node's threadsafe functions are made to be called from any thread; what must happen on the
// JavaScript thread takes a `Scope`.
unsafe impl Send for ThreadsafeFunction {}

impl ThreadsafeFunction {
    /// Creates a function that wakes `sleeper`. It does not keep the event loop alive.
    pub fn new<W: Wake>(scope: Scope, sleeper: Rc<W>) -> Result<Self, NativeError> {
        let name = scope.string("sandbox-host");
        let mut made = ptr::null_mut();
        let context = Rc::into_raw(sleeper).cast_mut().cast();
        // SAFETY: the values belong to the current call. The context stands for one count of the `Rc`,
        // which `forget` takes back when Node has no use for the function any more, after the last call
        // of `wake`.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                scope.env,
                ptr::null_mut(),
                ptr::null_mut(),
                name,
                0,
                1,
                ptr::null_mut(),
                Some(forget::<W>),
                context,
                Some(wake::<W>),
                &mut made,
            )
        };
        if !ok(status) {
            // SAFETY: it comes from `into_raw` above, and no function has it.
            drop(unsafe { Rc::from_raw(context.cast::<W>()) });
            return Err(NativeError::new(ErrorKind::Limit, "the system has no room for what asynchronous calls need"));
        }
        let function = Self(made);
        function.keep_alive(scope, false);
        Ok(function)
    }

    /// Requests a call of the function, and returns whether it will happen. The queue has no limit, so
    /// this does not block.
    pub fn call(&self) -> bool {
        // SAFETY: it has not been released, because `release` consumes it.
        let status = unsafe {
            sys::napi_call_threadsafe_function(self.0, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking)
        };
        ok(status)
    }

    /// Sets whether the function keeps the event loop alive.
    pub fn keep_alive(&self, scope: Scope, is_needed: bool) {
        // SAFETY: as in `call`, and this is the JavaScript thread.
        unsafe {
            if is_needed {
                sys::napi_ref_threadsafe_function(scope.env, self.0);
            } else {
                sys::napi_unref_threadsafe_function(scope.env, self.0);
            }
        }
    }

    pub fn release(self) {
        // SAFETY: as in `call`; it is not used again.
        unsafe { sys::napi_release_threadsafe_function(self.0, sys::ThreadsafeFunctionReleaseMode::abort) };
    }
}

/// Node calls this on the JavaScript thread for each [`ThreadsafeFunction::call`].
unsafe extern "C" fn wake<W: Wake>(env: sys::napi_env, _function: JsValue, context: *mut c_void, _data: *mut c_void) {
    // A call without an environment only reports that a request was dropped, because the function was
    // released.
    if env.is_null() {
        return;
    }
    // SAFETY: `forget` comes after this.
    let sleeper = unsafe { &*context.cast::<W>() };
    let _ = catch_unwind(AssertUnwindSafe(|| sleeper.wake(Scope { env })));
}

/// Node calls this once, on the JavaScript thread, when it has closed a [`ThreadsafeFunction`].
unsafe extern "C" fn forget<W>(_env: sys::napi_env, _data: *mut c_void, context: *mut c_void) {
    // SAFETY: it is the pointer that `new` made of an `Rc`.
    let sleeper = unsafe { Rc::from_raw(context.cast::<W>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(sleeper)));
}
