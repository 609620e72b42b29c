//! The entry points of all native functions that are registered without napi-rs, and their arguments.

use std::{
    any::Any,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
};

use napi::sys;

use super::scope::{JsValue, Scope, ok};
use crate::{
    node::error::{ErrorKind, NativeError},
    realm::panic_message,
};

/// What a native function returns: a value, or nothing.
pub type NativeResult = Result<Option<JsValue>, NativeError>;

/// A native function with access to a state.
pub type Native<S> = fn(&S, Scope, &Arguments) -> NativeResult;

/// A native function for calls. It has no arguments; it reads them from the scratch buffer.
pub type NativeCall<S> = fn(&S, Scope) -> CallResult;

/// The result of a [`NativeCall`]. It is one word, because each call copies it.
pub type CallResult = Result<(), Box<NativeError>>;

const MAX_ARGUMENTS: usize = 6;

/// The arguments of a native function.
pub struct Arguments {
    values: [JsValue; MAX_ARGUMENTS],
}

/// The data that a registered function's data pointer refers to.
struct Registered<S, F> {
    state: Rc<S>,
    run: F,
}

/// Native functions in one object, and the data behind their data pointers.
pub struct Functions {
    /// An object with the functions.
    object: JsValue,
    /// An object that each function has as a property, so that any one function keeps the state alive.
    owner: JsValue,
    registered: Vec<Box<dyn Any>>,
}

impl Functions {
    /// `owner` is the object that will keep the data that [`Functions::finish`] returns.
    pub fn new(scope: Scope, owner: JsValue) -> Self {
        Self { object: scope.object(), owner, registered: Vec::new() }
    }

    pub fn function<S: 'static>(&mut self, scope: Scope, state: &Rc<S>, name: &str, run: Native<S>) {
        self.define(scope, name, enter::<S>, Registered { state: state.clone(), run });
    }

    pub fn call<S: 'static>(&mut self, scope: Scope, state: &Rc<S>, name: &str, run: NativeCall<S>) {
        self.define(scope, name, enter_call::<S>, Registered { state: state.clone(), run });
    }

    fn define<R: 'static>(
        &mut self,
        scope: Scope,
        name: &str,
        entry: extern "C" fn(sys::napi_env, sys::napi_callback_info) -> JsValue,
        registered: R,
    ) {
        let registered = Box::new(registered);
        let data: *const R = &raw const *registered;
        self.registered.push(registered);
        // SAFETY: `name` is passed with its length; `entry` is one for an `R`.
        let function = scope.value(|value| unsafe {
            sys::napi_create_function(
                scope.env,
                name.as_ptr().cast(),
                name.len() as isize,
                Some(entry),
                data.cast_mut().cast(),
                value,
            )
        });
        scope.set_for_good(function, "owner", self.owner);
        scope.set(self.object, name, function);
    }

    /// Returns the object with the functions, and the data that must be kept until neither the object
    /// nor any of its functions can be called.
    #[must_use]
    pub fn finish(self) -> (JsValue, Vec<Box<dyn Any>>) {
        (self.object, self.registered)
    }
}

extern "C" fn enter<S>(env: sys::napi_env, info: sys::napi_callback_info) -> JsValue {
    let mut count = MAX_ARGUMENTS;
    let mut values = [ptr::null_mut(); MAX_ARGUMENTS];
    let mut data = ptr::null_mut();
    // SAFETY: Node calls this with a live environment and call info; the buffers have the sizes that are
    // passed.
    unsafe {
        sys::napi_get_cb_info(env, info, &mut count, values.as_mut_ptr(), ptr::null_mut(), &mut data);
    }
    // SAFETY: `data` is what `define` gave to this function, which the owner of the function keeps.
    let registered = unsafe { &*data.cast::<Registered<S, Native<S>>>() };
    let run = || (registered.run)(&registered.state, Scope { env }, &Arguments { values });
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => value.unwrap_or(ptr::null_mut()),
        Ok(Err(error)) => throw(env, &error),
        Err(panic) => throw(env, &panicked(panic)),
    }
}

extern "C" fn enter_call<S>(env: sys::napi_env, info: sys::napi_callback_info) -> JsValue {
    let mut data: *mut c_void = ptr::null_mut();
    // SAFETY: Node calls this with a live environment and call info; null pointers ask for nothing.
    unsafe {
        sys::napi_get_cb_info(env, info, ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), &mut data);
    }
    // SAFETY: as in `enter`.
    let registered = unsafe { &*data.cast::<Registered<S, NativeCall<S>>>() };
    match catch_unwind(AssertUnwindSafe(|| (registered.run)(&registered.state, Scope { env }))) {
        Ok(Ok(())) => ptr::null_mut(),
        Ok(Err(error)) => throw(env, &error),
        Err(panic) => throw(env, &panicked(panic)),
    }
}

#[cold]
fn throw(env: sys::napi_env, error: &NativeError) -> JsValue {
    Scope { env }.throw(error);
    ptr::null_mut()
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> NativeError {
    let message = panic_message(&*panic);
    // The payload's destructor could do anything, so it must not run.
    std::mem::forget(panic);
    NativeError::new(ErrorKind::Panic, message)
}

impl Arguments {
    pub fn get(&self, index: usize) -> JsValue {
        self.values[index]
    }

    pub fn u32(&self, scope: Scope, index: usize) -> Result<u32, NativeError> {
        let mut number = 0;
        // SAFETY: the value belongs to the current call.
        let status = unsafe { sys::napi_get_value_uint32(scope.env, self.get(index), &mut number) };
        ok(status).then_some(number).ok_or_else(|| NativeError::internal(format!("argument {index} is not a number")))
    }

    /// Like `u32`, but `None` for null and undefined.
    pub fn optional_u32(&self, scope: Scope, index: usize) -> Result<Option<u32>, NativeError> {
        let mut kind = sys::ValueType::napi_undefined;
        // SAFETY: the value belongs to the current call.
        unsafe { sys::napi_typeof(scope.env, self.get(index), &mut kind) };
        let is_nothing = kind == sys::ValueType::napi_undefined || kind == sys::ValueType::napi_null;
        if is_nothing { Ok(None) } else { self.u32(scope, index).map(Some) }
    }

    /// The bytes of a `Uint8Array`.
    ///
    /// # Safety
    ///
    /// The slice must be done with before any JavaScript runs, and before any memory that it may be a
    /// view of grows.
    pub unsafe fn bytes<'a>(&self, scope: Scope, index: usize) -> Result<&'a mut [u8], NativeError> {
        let (mut kind, mut length, mut data, mut buffer, mut offset) = (0, 0, ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: the value belongs to the current call; the results are written to locals.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                scope.env,
                self.get(index),
                &mut kind,
                &mut length,
                &mut data,
                &mut buffer,
                &mut offset,
            )
        };
        if !ok(status) || kind != sys::TypedarrayType::uint8_array {
            return Err(NativeError::internal(format!("argument {index} is not a Uint8Array")));
        }
        if length == 0 || data.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: Node says that `length` bytes lie at `data`; that they stay there is the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
    }
}
