fn main() {
    napi_build::setup();
    // The addon alone is stripped: tests keep their names, for backtraces and valgrind.
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match system.as_str() {
        "linux" => println!("cargo::rustc-cdylib-link-arg=-Wl,--strip-all"),
        "macos" => println!("cargo::rustc-cdylib-link-arg=-Wl,-x"),
        // Nothing is in a DLL that could be stripped.
        _ => {}
    }
}
