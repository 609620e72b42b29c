//! What the addon exports: a class whose methods are conversions and calls. napi-rs writes their types, see `lib/binding/addon.d.ts`.

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

/// The addon as one copy of the package's JavaScript has it, which shares nothing with other copies but engines and the default cache.
///
/// Objects are numbers here. Each number belongs to one wrapper object, which is passed where the number is made, and is given to another
/// object only when that wrapper has been collected, or by a `drop` function: so the user of a number must hold the wrapper, also
/// across an `await`.
///
/// It lives as long as this object or one of its functions can be reached. A test runner that loads the package anew for each file leaves
/// nothing behind.
#[napi(custom_finalize)]
pub struct Binding {
    environment: Rc<Environment>,
    /// What functions find behind their data pointers. All of them refer to this object.
    registered: RefCell<Vec<Box<dyn Any>>>,
}

#[napi]
impl Binding {
    /// Opens the addon; calls will go through `scratch`, see `scratch_layout.ts`.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, scratch: ArrayBuffer) -> Result<Self> {
        let scope = scope_of(env);
        let scratch = Scratch::new(scope, scratch.raw())?;
        Ok(Self { environment: Environment::new(scope, scratch), registered: RefCell::default() })
    }

    /// The functions that take no detour through napi-rs.
    #[napi(catch_unwind, ts_return_type = "HotFunctions")]
    pub fn hot_functions(&self, env: Env, this: This) -> JsValue {
        let scope = scope_of(env);
        let mut functions = Functions::new(scope, this.object.raw());
        hot::define(&mut functions, scope, &self.environment);
        let (object, registered) = functions.finish();
        self.registered.borrow_mut().extend(registered);
        object
    }

    /// Takes the function that answers guests, and the one that takes the events of asynchronous calls. Must be called once, before any
    /// guest is. Both are held weakly.
    #[napi(catch_unwind)]
    pub fn setup(&self, env: Env, dispatch: Function<(), ()>, drain: Function<(), ()>) -> Result<()> {
        Ok(self.environment.tables.functions.set(scope_of(env), dispatch.raw(), drain.raw())?)
    }

    /// Drops what belongs to wrappers that have been collected, and tells whether anything is left.
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

/// napi-rs hands an `Env` to native functions and finalizers only.
fn scope_of(env: Env) -> Scope {
    // SAFETY: it was given to a native function, which is still running on the environment's thread: nothing here keeps one.
    unsafe { Scope::new(env.raw()) }
}
