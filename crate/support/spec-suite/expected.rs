//! What the suites come to: how many directives are carried out, how many are left out and why, and which of them come to something else than
//! their script says.

use crate::script::{Counts, Why};

/// How an engine is asked to run guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    Plain,
    /// Guests can be stopped, are metered, and have their calls counted.
    Checked,
    Deterministic,
    /// Memories reserve no more addresses than they may need.
    Exact,
}

/// A folder of scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The second version of the specification without vectors.
    Version2,
    /// The core of what comes after the third.
    Latest,
    Simd,
    RelaxedSimd,
    MultiMemory,
    ExtendedConst,
    TailCall,
}

impl Suite {
    /// How many assertions and other directives are carried out, and how many are left out. The same in each configuration.
    pub fn expected(self, engine: &str) -> Counts {
        use Why::*;
        // wasmer refuses some modules that are left out on wasmi, see `DEVIATIONS`, and has no tail calls.
        let (assertions, others, left_out): (_, _, &[_]) = match (self, engine) {
            (Self::Version2, "wasmi") => {
                (25_923, 1240, &[(Text, 573), (Import, 105), (Module, 95), (Reference, 48), (Above, 28)])
            }
            (Self::Version2, _) => {
                (25_924, 1241, &[(Text, 573), (Import, 104), (Module, 94), (Reference, 48), (Above, 28)])
            }
            (Self::Latest, "wasmi") => (
                18_717,
                1012,
                &[(Text, 657), (Import, 84), (Module, 595), (Reference, 24), (Above, 8), (Proposal, 136)],
            ),
            (Self::Latest, _) => (
                18_718,
                1009,
                &[(Text, 657), (Import, 83), (Module, 594), (Reference, 24), (Above, 8), (Proposal, 140)],
            ),
            (Self::Simd, _) => (25_006, 474, &[(Text, 509), (Import, 1)]),
            (Self::RelaxedSimd, _) => (69, 8, &[]),
            (Self::MultiMemory, _) => (757, 140, &[(Import, 12), (Above, 3)]),
            (Self::ExtendedConst, "wasmi") => (133, 47, &[(Text, 3), (Import, 30), (Module, 66), (Reference, 5)]),
            (Self::ExtendedConst, _) => (134, 48, &[(Text, 3), (Import, 29), (Module, 65), (Reference, 5)]),
            (Self::TailCall, _) => (102, 6, &[(Text, 11)]),
        };
        Counts { assertions, others, left_out: left_out.iter().copied().collect() }
    }
}

/// Directives that come to something else than their script says, each of them on those engines, in those configurations.
pub struct Deviation {
    pub engines: &'static [&'static str],
    pub configurations: &'static [Configuration],
    pub file: &'static str,
    /// From one on.
    pub lines: &'static [usize],
    pub why: &'static str,
}

impl Deviation {
    pub fn applies_to(&self, engine: &str, configuration: Configuration) -> bool {
        self.engines.contains(&engine) && self.configurations.contains(&configuration)
    }

    /// On both engines, in each configuration.
    const fn everywhere(file: &'static str, lines: &'static [usize], why: &'static str) -> Self {
        Self { engines: &["wasmi", "wasmer"], configurations: ALL, file, lines, why }
    }

    const fn on_wasmer(file: &'static str, lines: &'static [usize]) -> Self {
        let why = "wasmer takes no element that is an imported global; the core links no imported globals anyway";
        Self { engines: &["wasmer"], configurations: ALL, file, lines, why }
    }
}

const ALL: &[Configuration] =
    &[Configuration::Plain, Configuration::Checked, Configuration::Deterministic, Configuration::Exact];

const TABLE: &str = "a module was left out that would have written to an imported table, which the core does not link";
const REFERENCE: &str = "a call was left out that would have stored a reference which only a host can make";
const MEMORIES: &str =
    "the second version has one memory, and no number of it in the binary; here a module may have several";

pub const DEVIATIONS: &[Deviation] = &[
    Deviation::everywhere("wasm-v2/binary.wast", &[145, 165, 184, 203, 242, 261, 279, 297], MEMORIES),
    Deviation::everywhere("wasm-v2/imports.wast", &[487, 491, 495], MEMORIES),
    Deviation::everywhere("wasm-v2/memory.wast", &[10, 11], MEMORIES),
    Deviation::everywhere("wasm-v2/elem.wast", &[599, 600, 612, 613, 614], TABLE),
    Deviation::everywhere("wasm-v2/linking.wast", &[209, 210, 212, 215, 216, 218, 275, 288, 452, 453], TABLE),
    Deviation::everywhere("wasm-latest/elem.wast", &[959, 960, 972, 973, 974], TABLE),
    Deviation::everywhere("wasm-latest/linking.wast", &[344, 345, 347, 350, 351, 353, 410, 423, 609, 610], TABLE),
    Deviation::everywhere("extended-const/elem.wast", &[608, 609, 621, 622, 623], TABLE),
    Deviation::everywhere("multi-memory/linking0.wast", &[42], TABLE),
    Deviation::everywhere("multi-memory/linking3.wast", &[82, 83], TABLE),
    Deviation::everywhere("wasm-v2/ref_is_null.wast", &[41], REFERENCE),
    Deviation::everywhere("wasm-v2/table_get.wast", &[31], REFERENCE),
    Deviation::everywhere("wasm-v2/table_grow.wast", &[29, 33, 34, 36], REFERENCE),
    Deviation::everywhere("wasm-latest/table_get.wast", &[30], REFERENCE),
    Deviation::everywhere("wasm-latest/table_grow.wast", &[30, 34, 35, 37], REFERENCE),
    // The module, and what is expected of it.
    Deviation::on_wasmer("wasm-v2/elem.wast", &[683, 693]),
    Deviation::on_wasmer("wasm-latest/elem.wast", &[1043, 1053]),
    Deviation::on_wasmer("extended-const/elem.wast", &[692, 702]),
    // These two come to what the script says, but not to the NaN that is looked for where engines are deterministic.
    Deviation {
        engines: &["wasmi", "wasmer"],
        configurations: &[Configuration::Deterministic],
        file: "simd/simd_f64x2_arith.wast",
        lines: &[5297],
        why: "neg turns the sign of a NaN, also of the canonical one",
    },
    Deviation {
        engines: &["wasmi"],
        configurations: &[Configuration::Deterministic],
        file: "relaxed-simd/relaxed_min_max.wast",
        lines: &[27, 43, 59, 67, 91, 99],
        why: "the core leaves relaxed instructions as they are; users who want determinism have no relaxed SIMD",
    },
];
