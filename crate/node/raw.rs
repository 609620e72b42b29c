//! Node-API calls as Rust functions, and the entry of every native function: here is most of the unsafe of the binding.
//!
//! An [`Scope`] stands for "on the JavaScript thread, inside a native function": whoever has one may call Node-API.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    ffi::{CString, c_void},
    mem::offset_of,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
};

use napi::sys;

use super::state::State;
use crate::{error::cut, realm::panic_message};

pub type Value = sys::napi_value;

/// Proof that Node-API may be called, and how.
#[derive(Clone, Copy)]
pub struct Scope {
    env: sys::napi_env,
}

/// Why a native function throws. `kind` says to `lib/native.ts` which error class it becomes.
#[derive(Debug)]
pub struct Throw {
    pub kind: &'static str,
    pub message: String,
}

impl Throw {
    pub fn new(kind: &'static str, message: impl ToString) -> Self {
        Self { kind, message: cut(message.to_string()) }
    }

    /// TypeScript checks arguments before they come here, so this one is a fault of this package.
    pub fn internal(message: impl ToString) -> Self {
        Self::new("internal", message)
    }
}

/// The result of a native function.
pub type Outcome = Result<Option<Value>, Throw>;

/// A native function.
pub type Native = fn(&State, Scope, &Arguments) -> Outcome;

/// A native function without arguments, for the hot ones: it takes them from the scratch buffer.
pub type NativeHot = fn(&State, Scope) -> HotOutcome;

/// What such a function ends with: one word, because each call copies it.
pub type HotOutcome = Result<(), Box<Throw>>;

/// A native function that works on no state.
pub type Stateless = fn(Scope, &Arguments) -> Outcome;

const MAX_ARGUMENTS: usize = 6;

/// The arguments of a native function.
pub struct Arguments {
    values: [Value; MAX_ARGUMENTS],
}

/// What a registered function finds behind its data pointer.
struct Registered<F> {
    state: *const State,
    run: F,
}

extern "C" fn enter(env: sys::napi_env, info: sys::napi_callback_info) -> Value {
    let (arguments, data) = arguments_of(env, info);
    // SAFETY: `data` is what `define` gave to this function: a `Registered` that lives as long as the `Opened`, which goes after all its
    // functions, see `open`.
    let registered = unsafe { &*data.cast::<Registered<Native>>() };
    // SAFETY: the state is part of the same `Opened`.
    let state = unsafe { &*registered.state };
    guard(Scope { env }, || (registered.run)(state, Scope { env }, &arguments))
}

/// The arguments of the current call, and the data pointer of its function.
#[inline]
fn arguments_of(env: sys::napi_env, info: sys::napi_callback_info) -> (Arguments, *mut c_void) {
    let mut count = MAX_ARGUMENTS;
    let mut values = [ptr::null_mut(); MAX_ARGUMENTS];
    let mut data = ptr::null_mut();
    // SAFETY: Node calls this with a live environment and call info; the buffers have the sizes that are passed.
    unsafe {
        sys::napi_get_cb_info(env, info, &mut count, values.as_mut_ptr(), ptr::null_mut(), &mut data);
    }
    (Arguments { values }, data)
}

extern "C" fn enter_hot(env: sys::napi_env, info: sys::napi_callback_info) -> Value {
    let mut data = ptr::null_mut();
    // SAFETY: Node calls this with a live environment and call info; null pointers ask for nothing.
    unsafe {
        sys::napi_get_cb_info(env, info, ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), &mut data);
    }
    // SAFETY: as in `enter`.
    let registered = unsafe { &*data.cast::<Registered<NativeHot>>() };
    // SAFETY: as in `enter`.
    let state = unsafe { &*registered.state };
    match catch_unwind(AssertUnwindSafe(|| (registered.run)(state, Scope { env }))) {
        Ok(Ok(())) => ptr::null_mut(),
        Ok(Err(error)) => throw(Scope { env }, &error),
        Err(panic) => throw(Scope { env }, &panicked(panic)),
    }
}

extern "C" fn enter_stateless(env: sys::napi_env, info: sys::napi_callback_info) -> Value {
    let (arguments, data) = arguments_of(env, info);
    // SAFETY: `data` is what `stateless_function` gave to this function: a function pointer of that type.
    let run = unsafe { std::mem::transmute::<*mut c_void, Stateless>(data) };
    guard(Scope { env }, || run(Scope { env }, &arguments))
}

/// Runs a native function so that neither an error nor a panic passes Node.
fn guard(scope: Scope, run: impl FnOnce() -> Outcome) -> Value {
    match catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(panic))) {
        Ok(value) => value.unwrap_or(ptr::null_mut()),
        Err(error) => throw(scope, &error),
    }
}

#[cold]
fn throw(scope: Scope, error: &Throw) -> Value {
    scope.throw(error);
    ptr::null_mut()
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Throw {
    let message = panic_message(&*panic);
    // What the payload's own destructor might do is not ours to find out.
    std::mem::forget(panic);
    Throw::new("panic", message)
}

/// One opening of the addon: a state, and what its functions find behind their data pointers.
struct Opened {
    state: State,
    registered: RefCell<Vec<Box<dyn Any>>>,
    hooks: Hooks,
}

/// Which cleanup hooks the environment still has. A hook that has run must not be removed: Deno ends the process then.
#[derive(Default)]
struct Hooks {
    has_last: Cell<bool>,
    has_early: Cell<bool>,
}

/// Defines the native functions of one opening.
pub struct Registrar<'a> {
    scope: Scope,
    exports: Value,
    opened: &'a Opened,
}

impl Registrar<'_> {
    pub fn function(&self, name: &str, run: Native) {
        self.define(name, enter, run);
    }

    pub fn hot_function(&self, name: &str, run: NativeHot) {
        self.define(name, enter_hot, run);
    }

    fn define<F: 'static>(
        &self,
        name: &str,
        entry: extern "C" fn(sys::napi_env, sys::napi_callback_info) -> Value,
        run: F,
    ) {
        let registered = Box::new(Registered { state: &raw const self.opened.state, run });
        let data = (&raw const *registered).cast_mut().cast();
        self.opened.registered.borrow_mut().push(registered);
        let function = self.scope.function(name, entry, data);
        // Whoever has the function alone must keep its state.
        self.scope.set_for_good(function, "owner", self.exports);
        self.scope.set(self.exports, name, function);
    }
}

/// Makes a state for one copy of the package's JavaScript and gives an object with the native functions that work on it, which `register` defines.
///
/// The state lives as long as that object or one of its functions can be reached, and is dropped by the object's finalizer: a test runner that
/// loads the package anew for each file leaves nothing behind. It ends with the environment at the latest.
pub fn open(scope: Scope, state: State, register: impl FnOnce(&Registrar<'_>)) -> Result<Value, Throw> {
    let exports = scope.object();
    let opened = Box::new(Opened { state, registered: RefCell::default(), hooks: Hooks::default() });
    let opened = Box::into_raw(opened);
    // SAFETY: the box is freed by `close` alone, which Node calls once, after `exports` has been collected or when the environment ends.
    let status =
        unsafe { sys::napi_wrap(scope.env, exports, opened.cast(), Some(close), ptr::null_mut(), ptr::null_mut()) };
    if !ok(status) {
        // SAFETY: as it came from `into_raw`; nobody else has it.
        drop(unsafe { Box::from_raw(opened) });
        return Err(Throw::internal("the addon cannot be opened"));
    }
    // SAFETY: a live box. The hook runs before the environment ends and leaves it usable; `close` takes the hook back.
    let status = unsafe { sys::napi_add_env_cleanup_hook(scope.env, Some(cleanup), opened.cast()) };
    // SAFETY: as above.
    unsafe { &*opened }.hooks.has_last.set(ok(status));
    // SAFETY: as above.
    register(&Registrar { scope, exports, opened: unsafe { &*opened } });
    Ok(exports)
}

unsafe extern "C" fn close(env: sys::napi_env, opened: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the box that `open` leaked, which is alive until it is freed below.
    let Hooks { has_last, has_early } = &unsafe { &*opened.cast::<Opened>() }.hooks;
    let hooks: [(&Cell<bool>, unsafe extern "C" fn(*mut c_void)); 2] =
        [(has_last, cleanup), (has_early, cleanup_early)];
    for (_, hook) in hooks.iter().filter(|(is_there, _)| is_there.replace(false)) {
        // SAFETY: the hook was added with the same arguments, and has not run.
        unsafe { sys::napi_remove_env_cleanup_hook(env, Some(*hook), opened) };
    }
    // SAFETY: the box that `open` leaked, freed once.
    let opened = unsafe { Box::from_raw(opened.cast::<Opened>()) };
    let _ = catch_unwind(AssertUnwindSafe(move || {
        opened.state.dispose(Scope { env });
        drop(opened);
    }));
}

unsafe extern "C" fn cleanup(opened: *mut c_void) {
    // SAFETY: the hook was given a live box, and `close` removes the hook before it frees that.
    let opened = unsafe { &*opened.cast::<Opened>() };
    opened.hooks.has_last.set(false);
    shut_down(opened);
}

fn shut_down(opened: &Opened) {
    let _ = catch_unwind(AssertUnwindSafe(|| opened.state.shut_down()));
}

/// Node wants one function for each hook.
unsafe extern "C" fn cleanup_early(opened: *mut c_void) {
    // SAFETY: as in `cleanup`.
    let opened = unsafe { &*opened.cast::<Opened>() };
    opened.hooks.has_early.set(false);
    // Shutting down twice does no harm.
    shut_down(opened);
}

/// Has the state shut down before Node takes what was made up to now from it, threadsafe functions among them: hooks run in the reverse order.
pub fn shut_down_before(scope: Scope, state: &State) {
    // SAFETY: every state is part of an `Opened`, at that offset in it.
    let opened = unsafe { &*ptr::from_ref(state).byte_sub(offset_of!(Opened, state)).cast::<Opened>() };
    if opened.hooks.has_early.get() {
        return;
    }
    let data = ptr::from_ref(opened).cast_mut().cast();
    // SAFETY: the box lives until `close`, which removes the hook unless it has run.
    let status = unsafe { sys::napi_add_env_cleanup_hook(scope.env, Some(cleanup_early), data) };
    opened.hooks.has_early.set(ok(status));
}

impl Arguments {
    pub fn get(&self, index: usize) -> Value {
        self.values[index]
    }

    pub fn u32(&self, scope: Scope, index: usize) -> Result<u32, Throw> {
        let mut number = 0;
        // SAFETY: the value belongs to the current call.
        let status = unsafe { sys::napi_get_value_uint32(scope.env, self.get(index), &mut number) };
        ok(status).then_some(number).ok_or_else(|| Throw::internal(format!("argument {index} is not a number")))
    }

    /// The bytes of a `Uint8Array`.
    ///
    /// # Safety
    ///
    /// The slice must be done with before any JavaScript runs, and before any memory that it may be a view of grows.
    pub unsafe fn bytes<'a>(&self, scope: Scope, index: usize) -> Result<&'a mut [u8], Throw> {
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
            return Err(Throw::internal(format!("argument {index} is not a Uint8Array")));
        }
        if length == 0 || data.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: Node says that `length` bytes lie at `data`; that they stay there is the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
    }
}

fn ok(status: sys::napi_status) -> bool {
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
    fn value(self, call: impl FnOnce(*mut Value) -> sys::napi_status) -> Value {
        let mut value = ptr::null_mut();
        let status = call(&mut value);
        debug_assert!(ok(status) || value.is_null());
        value
    }

    pub fn undefined(self) -> Value {
        // SAFETY: a scope is a live environment on its thread.
        self.value(|value| unsafe { sys::napi_get_undefined(self.env, value) })
    }

    pub fn number(self, number: f64) -> Value {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_double(self.env, number, value) })
    }

    /// A BigInt.
    pub fn bigint(self, number: u64) -> Value {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_bigint_uint64(self.env, number, value) })
    }

    pub fn boolean(self, boolean: bool) -> Value {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_get_boolean(self.env, boolean, value) })
    }

    pub fn string(self, string: &str) -> Value {
        // SAFETY: as in `undefined`; the string is passed with its length.
        self.value(|value| unsafe {
            sys::napi_create_string_utf8(self.env, string.as_ptr().cast(), string.len() as isize, value)
        })
    }

    pub fn object(self) -> Value {
        // SAFETY: as in `undefined`.
        self.value(|value| unsafe { sys::napi_create_object(self.env, value) })
    }

    pub fn array(self, items: impl ExactSizeIterator<Item = Value>) -> Value {
        // SAFETY: as in `undefined`.
        let array = self.value(|value| unsafe { sys::napi_create_array_with_length(self.env, items.len(), value) });
        for (index, item) in items.enumerate() {
            // SAFETY: both values belong to the current call.
            unsafe { sys::napi_set_element(self.env, array, index as u32, item) };
        }
        array
    }

    pub fn set(self, object: Value, name: &str, value: Value) {
        if let Ok(name) = CString::new(name) {
            // SAFETY: both values belong to the current call; the name ends with a zero.
            unsafe { sys::napi_set_named_property(self.env, object, name.as_ptr(), value) };
        }
    }

    /// The same with a name that is made once for many objects.
    pub fn set_by(self, object: Value, name: Value, value: Value) {
        // SAFETY: all three belong to the current call.
        unsafe { sys::napi_set_property(self.env, object, name, value) };
    }

    /// Sets a property that nobody can change or see by enumeration.
    fn set_for_good(self, object: Value, name: &str, value: Value) {
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

    fn function(
        self,
        name: &str,
        entry: extern "C" fn(sys::napi_env, sys::napi_callback_info) -> Value,
        data: *mut c_void,
    ) -> Value {
        // SAFETY: `name` is passed with its length; what `data` must be is `entry`'s and its caller's to agree on.
        self.value(|value| unsafe {
            sys::napi_create_function(self.env, name.as_ptr().cast(), name.len() as isize, Some(entry), data, value)
        })
    }

    /// A function that needs no state.
    pub fn stateless_function(self, name: &str, run: Stateless) -> Value {
        // A function pointer is the data itself.
        self.function(name, enter_stateless, run as *mut c_void)
    }

    /// The error that [`Scope::throw`] throws.
    pub fn error(self, error: &Throw) -> Value {
        let message = self.string(&error.message);
        // SAFETY: as in `undefined`; a null code is allowed.
        let object = self.value(|value| unsafe { sys::napi_create_error(self.env, ptr::null_mut(), message, value) });
        self.set(object, "kind", self.string(error.kind));
        object
    }

    fn throw(self, error: &Throw) {
        let object = self.error(error);
        // SAFETY: the error belongs to the current call. If an exception is pending already, that one stays.
        unsafe { sys::napi_throw(self.env, object) };
    }

    /// Takes the pending JavaScript exception, `None` if there is none (the environment is going down, say).
    pub fn take_exception(self) -> Option<Value> {
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

    /// Calls a function without arguments and drops its result. `false` if it did not return.
    pub fn call(self, receiver: Value, function: Value) -> bool {
        // SAFETY: both values are alive in a handle scope around this call; no arguments, no result.
        let status = unsafe { sys::napi_call_function(self.env, receiver, function, 0, ptr::null(), ptr::null_mut()) };
        ok(status)
    }

    /// An ArrayBuffer over memory that this crate owns. `None` where the host forbids such buffers. `when_gone` is dropped
    /// on this thread once neither this buffer nor one that took its bytes over is left.
    ///
    /// # Safety
    ///
    /// The memory must stay until `when_gone` is dropped, [`Scope::detach_buffer`] has detached the buffer, or the environment ends.
    pub unsafe fn external_buffer<T>(self, base: *mut u8, bytes: usize, when_gone: Rc<T>) -> Option<Value> {
        let mut buffer = ptr::null_mut();
        let hint = Rc::into_raw(when_gone);
        // SAFETY: passed on to the caller. The finalizer gets the pointer that stands for one count of the `Rc`, once.
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
    pub fn empty_buffer(self) -> Result<Value, Throw> {
        // SAFETY: nothing is read.
        unsafe { self.copied_buffer(ptr::null(), 0) }
    }

    /// An ArrayBuffer of its own with a copy of the bytes.
    ///
    /// # Safety
    ///
    /// `bytes` bytes must be readable at `base`, or `bytes` be 0.
    pub unsafe fn copied_buffer(self, base: *const u8, bytes: usize) -> Result<Value, Throw> {
        let (mut data, mut buffer) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: as in `undefined`.
        let status = unsafe { sys::napi_create_arraybuffer(self.env, bytes, &mut data, &mut buffer) };
        if !ok(status) {
            return Err(Throw::new("limit", format!("cannot allocate a copy of {bytes} bytes")));
        }
        if bytes > 0 && !data.is_null() {
            // SAFETY: `data` is `bytes` fresh bytes; `base` is the caller's promise.
            unsafe { ptr::copy_nonoverlapping(base, data.cast(), bytes) };
        }
        Ok(buffer)
    }

    /// Detaches an ArrayBuffer. `false` if somebody else has done so, who may have given its bytes to another.
    pub fn detach_buffer(self, buffer: Value) -> bool {
        if self.is_detached(buffer) {
            return false;
        }
        // SAFETY: the value is alive.
        ok(unsafe { sys::napi_detach_arraybuffer(self.env, buffer) })
    }

    pub fn is_detached(self, buffer: Value) -> bool {
        let mut is_detached = false;
        // SAFETY: the value is alive.
        unsafe { sys::napi_is_detached_arraybuffer(self.env, buffer, &mut is_detached) };
        is_detached
    }

    /// The memory of an ArrayBuffer.
    pub fn buffer_info(self, buffer: Value) -> Result<(*mut u8, usize), Throw> {
        let (mut data, mut length) = (ptr::null_mut(), 0);
        // SAFETY: as in `undefined`.
        let status = unsafe { sys::napi_get_arraybuffer_info(self.env, buffer, &mut data, &mut length) };
        ok(status).then_some((data.cast(), length)).ok_or_else(|| Throw::internal("not an ArrayBuffer"))
    }

    /// Has V8 collect all that nobody can reach, at once, by what it is told of native memory. Other runtimes may take their time.
    pub fn collect_garbage(self) {
        /// Above the amount at which V8 does not wait any longer, which is half of the largest heap that it may have.
        const MUCH: i64 = 1 << 36;
        self.adjust_external_memory(MUCH);
        self.adjust_external_memory(-MUCH);
    }

    /// Tells V8 that native memory came or went with its objects, so that it collects them in time.
    pub fn adjust_external_memory(self, bytes: i64) {
        let mut total = 0;
        // SAFETY: as in `undefined`.
        unsafe { sys::napi_adjust_external_memory(self.env, bytes, &mut total) };
    }
}

/// Node calls it on the thread of the environment.
extern "C" fn drop_hint<T>(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    let when_gone: *const T = hint.cast_const().cast();
    // SAFETY: it is the pointer that `external_buffer` made of an `Rc`, and Node calls the finalizer of each buffer once.
    let when_gone = unsafe { Rc::from_raw(when_gone) };
    // A panic must not get into Node, which ends the process then; nothing here needs what is dropped any more.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(when_gone)));
}

/// A reference to a JavaScript object that outlives the native call.
pub struct Reference(sys::napi_ref);

impl Reference {
    /// Where the reference itself lies: no other that is alive has this address.
    pub fn address(&self) -> usize {
        self.0 as usize
    }

    /// Keeps the object alive.
    pub fn strong(scope: Scope, object: Value) -> Result<Self, Throw> {
        Self::new(scope, object, 1)
    }

    /// Sees the object while it is alive.
    pub fn weak(scope: Scope, object: Value) -> Result<Self, Throw> {
        Self::new(scope, object, 0)
    }

    fn new(scope: Scope, object: Value, count: u32) -> Result<Self, Throw> {
        let mut reference = ptr::null_mut();
        // SAFETY: the object belongs to the current call.
        let status = unsafe { sys::napi_create_reference(scope.env, object, count, &mut reference) };
        ok(status).then_some(Self(reference)).ok_or_else(|| Throw::internal("cannot refer to the object"))
    }

    /// The object, if it is alive.
    pub fn get(&self, scope: Scope) -> Option<Value> {
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

/// A function that any thread can have called on the JavaScript thread, without arguments.
pub struct ThreadsafeFunction(sys::napi_threadsafe_function);

// SAFETY: Node's threadsafe functions are made to be called from any thread; what must happen on the JavaScript thread takes a `Scope`.
unsafe impl Send for ThreadsafeFunction {}

impl ThreadsafeFunction {
    /// Has `drain` of that state's TypeScript called. It neither keeps the event loop alive nor refers to that TypeScript.
    pub fn new(scope: Scope, state: &State) -> Result<Self, Throw> {
        let name = scope.string("sandbox-host");
        let mut made = ptr::null_mut();
        // SAFETY: the values belong to the current call. `call_drain` gets the state only while the environment lives and the function has not been
        // released, which happens before the state goes.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                scope.env,
                ptr::null_mut(),
                ptr::null_mut(),
                name,
                0,
                1,
                ptr::null_mut(),
                None,
                ptr::from_ref(state).cast_mut().cast(),
                Some(call_drain),
                &mut made,
            )
        };
        if !ok(status) {
            return Err(Throw::new("limit", "the system has no room for what asynchronous calls need"));
        }
        let function = Self(made);
        function.keep_alive(scope, false);
        Ok(function)
    }

    /// Has the function called, and says whether it will be. The queue has no limit, so this does not wait.
    pub fn call(&self) -> bool {
        // SAFETY: it has not been released, because `release` consumes it.
        let status = unsafe {
            sys::napi_call_threadsafe_function(self.0, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking)
        };
        ok(status)
    }

    /// Whether the event loop must not end.
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

/// Called by Node on the JavaScript thread for each [`ThreadsafeFunction::call`].
unsafe extern "C" fn call_drain(env: sys::napi_env, _function: Value, state: *mut c_void, _data: *mut c_void) {
    // Without an environment Node only tells that a call is dropped, because the function was released.
    if env.is_null() {
        return;
    }
    // SAFETY: the state lives until the function is released, and a released function is called without an environment.
    let state = unsafe { &*state.cast::<State>() };
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let scope = Scope { env };
        if let Some(drain) = state.drain(scope) {
            scope.call(scope.undefined(), drain);
        }
    }));
}

/// A handle scope that is renewed from time to time, so that a long call does not pile up handles.
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

    /// To be called before each use.
    pub fn renew(&mut self) {
        if self.uses == 0 {
            self.close();
            // SAFETY: closed by `close`, and in the right order, because whoever opens a scope during a use closes it during
            // that use.
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
