//! Tells the linker what a sandbox host needs of a supervisor, beyond the linker's defaults.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The host calls the dispatch thunk by its index in the table, so it must see the table.
    println!("cargo::rustc-link-arg-cdylib=--export-table");
    // The declarations of the host's functions name no import module, which newer Rust no longer lets through unasked.
    println!("cargo::rustc-link-arg-cdylib=--allow-undefined");
}
