//! The exports of the addon: a class whose methods only convert values and call the core. napi-rs
//! generates their types, see `lib/binding/addon.d.ts`.

mod async_calls;
mod engines;
mod memories;
mod modules;
mod testing;

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use napi::{
    Env, JsValue as _,
    bindgen_prelude::{ArrayBuffer, Function, ObjectFinalize, This},
};
use napi_derive::napi;

use super::{
    environment::Environment,
    error::Result,
    hot,
    raw::{Functions, JsValue, Scope},
    scratch::Scratch,
};

/// The package's version that the addon was built for.
#[napi(catch_unwind)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The addon for one copy of the package's JavaScript. Copies share nothing but engines and the default
/// cache.
///
/// Objects are identified by numbers. Each number belongs to one wrapper object, which is passed when
/// the number is created. The number is reused only after that wrapper has been collected, or after a
/// `drop` function. So the user of a number must hold the wrapper, also across an `await`.
///
/// The addon's state lives as long as this object or one of its functions is reachable. A test runner
/// that loads the package anew for each file leaves nothing behind.
#[napi(custom_finalize)]
pub struct Binding {
    environment: Rc<Environment>,
    /// The data that functions refer to by their data pointers. All of them refer to this object.
    registered: RefCell<Vec<Box<dyn Any>>>,
}

#[napi]
impl Binding {
    /// Opens the addon. Calls go through `scratch`, see `scratch_layout.ts`.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, scratch: ArrayBuffer) -> Result<Self> {
        let scope = scope_of(env);
        let scratch = Scratch::new(scope, scratch.raw())?;
        Ok(Self { environment: Environment::new(scope, scratch), registered: RefCell::default() })
    }

    /// The functions that are registered without napi-rs.
    #[napi(catch_unwind, ts_return_type = "HotFunctions")]
    pub fn hot_functions(&self, env: Env, this: This) -> JsValue {
        let scope = scope_of(env);
        let mut functions = Functions::new(scope, this.object.raw());
        hot::define(&mut functions, scope, &self.environment);
        let (object, registered) = functions.finish();
        self.registered.borrow_mut().extend(registered);
        object
    }

    /// Sets the function that answers guests, and the one that takes the events of asynchronous calls.
    /// Must be called once, before any guest is called. Both functions are held weakly.
    #[napi(catch_unwind)]
    pub fn setup(&self, env: Env, dispatch: Function<(), ()>, drain: Function<(), ()>) -> Result<()> {
        Ok(self.environment.tables.functions.set(scope_of(env), dispatch.raw(), drain.raw())?)
    }

    /// Drops the objects of wrappers that have been collected, and returns whether any objects are left.
    #[napi(catch_unwind)]
    pub fn sweep(&self, env: Env) -> bool {
        self.environment.tables.sweep(scope_of(env));
        self.environment.tables.has_entries()
    }
}

impl ObjectFinalize for Binding {
    fn finalize(self, env: Env) -> napi::Result<()> {
        let _ = catch_unwind(AssertUnwindSafe(move || {
            self.environment.dispose(scope_of(env));
            drop(self);
        }));
        Ok(())
    }
}

/// napi-rs passes an `Env` only to native functions and finalizers.
fn scope_of(env: Env) -> Scope {
    // SAFETY: it was given to a native function, which is still running on the environment's thread:
    // nothing here keeps one.
    unsafe { Scope::new(env.raw()) }
}
