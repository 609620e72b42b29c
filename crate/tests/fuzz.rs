//! A few seconds of what `npm run fuzz` does without end, always with the same modules: those that `crate/support/smith`
//! makes of numbered seeds, and the same damaged. `fuzz/targets.rs` says what is compared.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::{env, fs, process::Command};

use targets::{Compared, differential, fuel, fuel_quirks, instantiate};

/// How many modules there are of each kind.
const MODULES: usize = 300;

/// A module, the bytes that it was made of, and which it is.
struct Smithed {
    number: usize,
    binary: Vec<u8>,
    seed: Vec<u8>,
}

/// The modules that `crate/support/smith` makes. A program of its own, because in this one it would change how the engines are built.
fn modules(kind: &str) -> Vec<Smithed> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, count) = which();
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--release", "--package", "smith", "--", kind, &count.to_string()])
        .arg(folder.path())
        .arg(first.to_string())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |number: usize, extension: &str| fs::read(folder.path().join(format!("{number}.{extension}"))).ok();
    let module = |number| Some(Smithed { number, binary: read(number, "wasm")?, seed: read(number, "seed")? });
    let modules: Vec<_> = (first..first + count).filter_map(module).collect();
    assert!(modules.len() > count / 2, "only {} modules", modules.len());
    modules
}

/// From which number on, and how many: `SANDBOX_HOST_FUZZ=1000,5000` for others than always.
fn which() -> (usize, usize) {
    let Ok(wanted) = env::var("SANDBOX_HOST_FUZZ") else { return (0, MODULES) };
    let numbers = wanted.split_once(',').and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
    numbers.expect("SANDBOX_HOST_FUZZ is FIRST,COUNT")
}

/// Looks at each module, and tells of all that it found at once.
fn each(kind: &str, mut look: impl FnMut(&Smithed) -> Result<Compared, String>) -> Compared {
    let mut all = Compared::default();
    let mut disagreed = Vec::new();
    let modules = modules(kind);
    for module in &modules {
        match look(module) {
            Ok(compared) => {
                all.calls += compared.calls;
                all.traps += compared.traps;
                all.host_calls += compared.host_calls;
            }
            Err(reason) => {
                disagreed.push(format!("module {} of kind {kind}: {reason}\n{}", module.number, hex(&module.binary)))
            }
        }
    }
    println!("{} modules of kind {kind}: {all:?}", modules.len());
    assert!(disagreed.is_empty(), "{} disagreements:\n{}", disagreed.len(), disagreed.join("\n"));
    all
}

fn hex(binary: &[u8]) -> String {
    binary.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn deterministic_engines_do_the_same() {
    let all = each("any", |module| differential(&module.binary, &module.seed));
    assert!(all.calls > all.traps && all.traps > 0 && all.host_calls > 0, "nothing was compared: {all:?}");
}

#[test]
fn deterministic_engines_compute_the_same() {
    let all = each("expressions", |module| differential(&module.binary, &module.seed));
    assert!(all.calls > all.traps && all.traps > 0, "nothing was compared: {all:?}");
}

#[test]
fn engines_count_the_fuel_of_integers_alike() {
    fuel_is_counted_alike("integers");
}

#[test]
fn engines_count_the_fuel_of_integer_expressions_alike() {
    fuel_is_counted_alike("integer-expressions");
}

fn fuel_is_counted_alike(kind: &str) {
    let (mut compared, mut differences) = (0, 0);
    each(kind, |module| {
        let must_agree = fuel_quirks(&module.binary).is_empty();
        let all = fuel(&module.binary, &module.seed, &mut |name, wasmi, wasmer| {
            differences += 1;
            if !must_agree {
                return Ok(());
            }
            Err(format!("{name} uses {wasmi} on wasmi and {wasmer} on wasmer"))
        })?;
        compared += if must_agree { all.calls } else { 0 };
        Ok(all)
    });
    println!("{compared} calls had to use as much on both, {differences} of the others did not");
    assert!(compared > 0);
}

#[test]
fn damaged_modules_are_taken_or_refused_alike() {
    each("any", |module| {
        let mut binary = module.binary.clone();
        let mut bytes = module.seed.iter().map(|byte| usize::from(*byte));
        let mut next = || bytes.next().unwrap_or(0);
        for _ in 0..next() % 4 {
            let place = (next() << 8 | next()) % binary.len();
            match next() % 4 {
                0 => binary.truncate(place.max(8)),
                1 => binary.insert(place, next() as u8),
                2 => drop(binary.remove(place)),
                _ => binary[place] ^= 1 << (next() % 8),
            }
        }
        instantiate(&binary).map(|()| Compared::default())
    });
}
