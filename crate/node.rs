//! The binding: the only tree that names napi. It converts, calls the core and converts back; comfort is in TypeScript.
//!
//! [`binding::Binding`] is a class by napi-rs, for all that is done once. What calls go through, and what makes and drops instances and memories,
//! is registered without it (`hot.rs`), because a `#[napi]` function that takes arguments costs a hundred nanoseconds more. All state
//! hangs on one [`environment::Environment`] for each copy of the package's JavaScript, so each worker thread has its own, and each bundle.
//!
//! Files refer to one another in one direction only; a test sees to that.

mod backend;
mod binding;
mod calls;
mod deadline;
mod describe;
mod environment;
mod error;
mod fuel;
mod group;
mod hot;
mod js_functions;
mod linking;
mod port;
mod raw;
mod scratch;
mod supervisor;
mod table;
mod tables;
