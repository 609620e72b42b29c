//! The binding: the only tree that names napi. It converts, calls the core and converts back; comfort is in TypeScript.
//!
//! Every function is registered raw (`napi_create_function`), because a `#[napi]` function that takes arguments costs a
//! hundred nanoseconds more and aborts the process when it panics. `lib/native.ts` types what is exported here. All state
//! hangs on one [`state::State`] for each copy of the package's JavaScript, so each worker thread has its own, and each bundle.

mod async_functions;
mod backend;
mod calls;
mod fuel;
mod functions;
mod group;
mod linking;
mod port;
mod raw;
mod scratch;
mod state;
mod supervisor;
mod table;

use napi::{Env, JsValue as _, bindgen_prelude::Object};
use napi_derive::napi;

/// Called by Node once for each JavaScript environment that loads the addon.
#[napi(module_exports)]
pub fn init(exports: Object, env: Env) -> napi::Result<()> {
    functions::register(env.raw(), exports.raw());
    Ok(())
}
