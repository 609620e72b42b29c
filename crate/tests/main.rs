//! Every behaviour of the core on every engine. One test program, so that the engines are linked once.
//!
//! `cargo test --no-default-features --test core`. A file covers one concept; its list of tests stands at its top,
//! and each test in it runs on both engines unless it stands apart and says why.

#[macro_use]
mod guest;

mod source_tree;

mod addresses;
mod bounds;
mod memory;

mod canonical_nans;
mod exports;
mod features;
mod instantiate;
mod start;

mod call;
mod carried;
mod host_call;
mod linking;
mod native;

mod executor;
mod frames;
mod fuel;
mod interrupt;
mod limits;
mod stack;
mod trap;

mod damage;
mod engine_faults;
mod fuzz;
mod hostile;
mod lifetime;
mod shared_engines;
