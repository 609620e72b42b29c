//! Valid modules on both engines: `npm run fuzz differential`. The input is what `crate/support/smith` makes a module of; a failure says
//! the module's binary in hexadecimal.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

use smith::{Kind, module};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(binary) = module(Kind::Any, bytes) else { return };
    // The arguments come from the end, which is not what the module's first sections come from.
    let arguments: Vec<u8> = bytes.iter().rev().copied().collect();
    if let Err(disagreement) = targets::differential(&binary, &arguments) {
        let hex: String = binary.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{disagreement}\n{hex}");
    }
});
