//! The binding: the only tree that uses napi. It converts values, calls the core and converts the
//! results. Convenience is left to TypeScript.
//!
//! [`binding::Binding`] is a napi-rs class for everything that is not called often. The functions for
//! calls, and those that create and drop instances and memories, are registered without napi-rs
//! (`hot.rs`), because a `#[napi]` function with arguments costs a hundred nanoseconds more. All state
//! belongs to one [`environment::Environment`] for each copy of the package's JavaScript, so each worker
//! thread and each bundle has its own.
//!
//! Files refer to one another in one direction only; a test enforces this.

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
