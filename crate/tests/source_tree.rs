//! Which file may name what: the engines' crates and napi each have one door. ARCHITECTURE.md says why.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The crates of each engine, and the only file that may name them, with the folder of the same name.
const ENGINES: [(&str, &[&str]); 2] = [
    ("crate/engine/wasmi.rs", &["wasmi", "wasmi_core", "wasmi_ir", "wasmi_collections"]),
    (
        "crate/engine/wasmer.rs",
        &["wasmer", "wasmer_types", "wasmer_vm", "wasmer_compiler", "wasmer_compiler_cranelift"],
    ),
];

/// The binding's crates.
const NAPI: [&str; 3] = ["napi", "napi_sys", "napi_derive"];

#[test]
fn an_engine_is_named_in_its_own_file_only() {
    for (path, code) in sources() {
        for (home, crates) in ENGINES {
            if path != Path::new(home) && !path.starts_with(home.trim_end_matches(".rs")) {
                assert_names_none(&path, &code, crates);
            }
        }
    }
}

#[test]
fn napi_is_named_in_the_binding_only() {
    for (path, code) in sources() {
        if path != Path::new("crate/node.rs") && !path.starts_with("crate/node") {
            assert_names_none(&path, &code, &NAPI);
        }
    }
}

/// Who reads or changes the bytes of a module, besides the passes and checks of an engine.
const REWRITE: [&str; 4] =
    ["crate/rewrite", "crate/rewrite.rs", "crate/engine/wasmi/repairs.rs", "crate/engine/wasmer/checks.rs"];

/// Who names its crates for less: the set of features, and the names of functions.
const READERS: [&str; 2] = ["crate/engine/features.rs", "crate/engine/wasmer/names.rs"];

#[test]
fn the_bytes_of_a_module_are_the_business_of_the_rewriter_and_the_passes() {
    for (path, code) in sources() {
        let is_elsewhere = |allowed: &&str| !path.starts_with(allowed);
        let is_test = path.starts_with("crate/tests") || path.starts_with("crate/support");
        if !is_test && REWRITE.iter().chain(&READERS).all(is_elsewhere) {
            assert_names_none(&path, &code, &["wasmparser", "wasm_encoder"]);
        }
    }
}

#[test]
fn the_doors_are_where_this_test_looks_for_them() {
    let sources = sources();
    let code = |wanted: &str| &sources.iter().find(|(path, _)| path == Path::new(wanted)).expect(wanted).1;
    for (home, crates) in ENGINES {
        assert!(names(code(home), crates[0]), "{home} does not name {}", crates[0]);
    }
    assert!(names(code("crate/node.rs"), "napi"));
}

#[test]
fn a_name_is_told_from_a_path_of_our_own() {
    for named in ["use wasmi::Store;", "x(wasmi::Y)", "extern crate wasmi;", "use wasmi as w;", "use ::wasmi::Store;"] {
        assert!(names(&without_comments(named), "wasmi"), "{named}");
    }
    for ours in [
        "use crate::engine::wasmi::Wasmi;",
        "use engine::{Engine, wasmi::Wasmi};",
        "pub mod wasmi;",
        "// see wasmi::Store",
        "my_wasmi::X",
        "use wasmi_core::X;",
        "let wasmi = 1;",
    ] {
        assert!(!names(&without_comments(ours), "wasmi"), "{ours}");
    }
}

fn assert_names_none(path: &Path, code: &str, crates: &[&str]) {
    for name in crates {
        assert!(!names(code, name), "{} names {name}", path.display());
    }
}

/// Whether code names a crate: as the root of a path or in an import. The module of the same name under `engine`
/// is told apart by what is taken from it, which is our own type.
fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) {
            return false;
        }
        let word_before = before.trim_end().rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let imported = word_before == "crate" || (word_before == "use" && !after.starts_with("::"));
        let our_own = ["::Wasmi", "::Wasmer"]
            .iter()
            .any(|own| after.strip_prefix(own).is_some_and(|rest| !rest.starts_with(is_word)));
        imported || (after.starts_with("::") && !our_own)
    })
}

/// Every Rust source file under `crate/` but this one, with its code.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("crate")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source tree") {
            let path = entry.expect("an entry of that folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = fs::read_to_string(&path).expect("source code is text");
                let path = path.strip_prefix(root).expect("below the root").to_owned();
                if path != Path::new("crate/tests/source_tree.rs") {
                    found.push((path, without_comments(&code)));
                }
            }
        }
    }
    assert!(found.len() > 10, "only {} files found", found.len());
    found
}

/// Code without its line comments. Good enough for a guard: a string with two slashes loses its end, no more.
fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
