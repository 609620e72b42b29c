//! `sandbox-host`: runs untrusted WebAssembly guests on wasmi or wasmer for a JavaScript supervisor.
//!
//! Without the default feature `node` this is a plain library that knows no JavaScript, which is how
//! `cargo test --no-default-features` tests it. ARCHITECTURE.md has the map.

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod error;
pub mod interrupt;
pub mod total;
pub mod value;

pub mod engine;
pub mod module;
pub mod realm;
pub mod rewrite;

pub mod artifact;
pub mod cache;
pub mod executor;

#[cfg(feature = "node")]
mod node;
