//! Direct use of Node-API, for what does not go through napi-rs: the functions for calls, references,
//! buffers over native memory, wake-ups from other threads and the end of an environment. Most of the
//! binding's unsafe code is here.

mod buffer;
mod cleanup;
mod function;
mod reference;
mod scope;
mod threadsafe;

pub use cleanup::{CleanupHook, ShutDown};
pub use function::{Arguments, CallResult, Functions, NativeResult};
pub use reference::Reference;
pub use scope::{JsValue, RenewedScope, Scope};
pub use threadsafe::{ThreadsafeFunction, Wake};
