//! Any bytes as a module: `npm run fuzz instantiate`. The input is the binary.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|binary: &[u8]| {
    if let Err(disagreement) = targets::instantiate(binary) {
        panic!("{disagreement}");
    }
});
