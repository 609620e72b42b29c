//! `cargo run --release -p smith -- KIND COUNT FOLDER [FIRST]`: writes so many modules to a folder, each as
//! `<number>.wasm` with the bytes it was made of beside it as `<number>.seed`. The numbers count up from FIRST, or 0; one of
//! which no module can be made is left out.

use std::{env, fs, path::Path, process::ExitCode};

use smith::{Kind, module, seed};

/// Enough that most modules have several functions of some dozens of instructions.
const SEED_BYTES: usize = 4096;

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let (kind, count, folder, first) = match arguments {
        [kind, count, folder] => (kind, count, folder, "0"),
        [kind, count, folder, first] => (kind, count, folder, first.as_str()),
        _ => {
            return Err(
                "usage: smith any|integers|ending|expressions|integer-expressions COUNT FOLDER [FIRST]".to_owned()
            );
        }
    };
    let kind = Kind::named(kind).ok_or_else(|| format!("{kind} is no kind of module"))?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
    let first = number(first)?;
    let write = |name: String, content: &[u8]| {
        fs::write(Path::new(folder).join(&name), content).map_err(|error| format!("{name}: {error}"))
    };
    for number in first..first.saturating_add(number(count)?) {
        let seed = seed(number, SEED_BYTES);
        if let Some(binary) = module(kind, &seed) {
            write(format!("{number}.wasm"), &binary)?;
            write(format!("{number}.seed"), &seed)?;
        }
    }
    Ok(())
}
