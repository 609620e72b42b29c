//! Node-API itself, for what napi-rs has no part in: the functions that calls go through, references, buffers over native memory, wake-ups from
//! other threads and the end of an environment. Most of the unsafe of the binding is here.

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
