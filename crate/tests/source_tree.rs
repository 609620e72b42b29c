//! Which file may name what: the engines' crates and napi each have one door. ARCHITECTURE.md says why.

use std::{
    collections::{BTreeMap, BTreeSet},
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
const REWRITE: [&str; 5] = [
    "crate/rewrite",
    "crate/rewrite.rs",
    "crate/engine/wasmi/repairs",
    "crate/engine/wasmi/repairs.rs",
    "crate/engine/wasmer/checks.rs",
];

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
    assert!(names(code("crate/node/binding.rs"), "napi"));
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

#[test]
fn files_of_the_binding_do_not_use_one_another_in_a_circle() {
    let sources = sources();
    let files: BTreeMap<String, &str> = sources
        .iter()
        .filter_map(|(path, code)| Some((module_of(path).filter(|module| is_within(module, "node"))?, code.as_str())))
        .collect();
    assert!(files.len() > 20, "only {} files of the binding found", files.len());
    let graph: Graph = files
        .iter()
        .map(|(module, code)| {
            let used = used_modules(module, code).into_iter().filter_map(|path| nearest(&path, &files));
            (module.clone(), used.filter(|other| other != module).collect())
        })
        .collect();
    assert!(graph["node::hot"].contains("node::environment"), "the uses are not found: {graph:?}");
    if let Some(circle) = circle_in(&graph) {
        panic!("these files use one another in a circle: {}", circle.join(" -> "));
    }
}

#[test]
fn a_circle_of_uses_is_found() {
    let file = |module: &str, code: &str| (module.to_owned(), used_modules(module, code).into_iter().collect());
    let straight = [
        file("node::a", "use super::{b::B, c};"),
        file("node::b", "use crate::{error::E, node::c::{C, D as E}};"),
        file("node::c", "mod d;\nuse self::d::X;"),
    ];
    let name_files = |graph: Graph| -> Graph {
        let known = |path: &String| ["node::a", "node::b", "node::c"].into_iter().find(|file| is_within(path, file));
        graph
            .iter()
            .map(|(module, used)| (module.clone(), used.iter().filter_map(known).map(str::to_owned).collect()))
            .collect()
    };
    let mut graph = name_files(straight.into_iter().collect());
    graph.get_mut("node::c").expect("it is there").remove("node::c");
    assert_eq!(graph["node::a"], BTreeSet::from(["node::b".to_owned(), "node::c".to_owned()]));
    assert_eq!(circle_in(&graph), None);
    graph.insert("node::c".to_owned(), BTreeSet::from(["node::a".to_owned()]));
    let circle = circle_in(&graph).expect("there is one");
    assert_eq!((circle.first(), circle.len() > 2), (circle.last(), true), "{circle:?}");
}

/// Which modules each module uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The path of a file's module in the crate, `node::calls::work` for one.
fn module_of(path: &Path) -> Option<String> {
    let path = path.with_extension("");
    let parts: Option<Vec<&str>> = path.iter().skip(1).map(|part| part.to_str()).collect();
    Some(parts?.join("::"))
}

fn is_within(module: &str, outer: &str) -> bool {
    module == outer || module.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

/// The innermost file that a path leads into.
fn nearest(path: &str, files: &BTreeMap<String, &str>) -> Option<String> {
    let mut path = path;
    loop {
        if files.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// The full paths that a module's `use` declarations name, with what they take from there.
fn used_modules(module: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(end) = code[at..].find(';') else { continue };
        let tree: String = code[at + "use ".len()..at + end].split_whitespace().collect::<Vec<_>>().join(" ");
        flatten("", tree.trim(), &mut paths);
    }
    paths.into_iter().filter_map(|path| resolve(module, &path)).collect()
}

/// Writes a tree of imports out as single paths.
fn flatten(before: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((prefix, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return paths.push(format!("{before}{path}"));
    };
    let before = format!("{before}{prefix}");
    let group = group.trim();
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth <= 0 => {
                let item = group[begin..at].trim();
                begin = (at + 1).min(group.len());
                if !item.is_empty() {
                    flatten(&before, item, paths);
                }
            }
            _ => {}
        }
    }
}

/// The path from the root of the crate; `None` for one into another crate.
fn resolve(module: &str, path: &str) -> Option<String> {
    let (first, rest) = path.split_once("::")?;
    match first {
        "crate" => Some(rest.to_owned()),
        "self" => Some(format!("{module}::{rest}")),
        "super" => {
            let outer = module.rsplit_once("::")?.0;
            if rest.starts_with("super::") { resolve(outer, rest) } else { Some(format!("{outer}::{rest}")) }
        }
        _ => None,
    }
}

/// A circle, written from one of its modules back to it.
fn circle_in(graph: &Graph) -> Option<Vec<String>> {
    fn visit(module: &str, graph: &Graph, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(begin) = path.iter().position(|before| before == module) {
            let mut circle = path[begin..].to_vec();
            circle.push(module.to_owned());
            return Some(circle);
        }
        if done.contains(module) {
            return None;
        }
        path.push(module.to_owned());
        let found = graph.get(module).and_then(|used| used.iter().find_map(|other| visit(other, graph, path, done)));
        path.pop();
        done.insert(module.to_owned());
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}
