//! What becomes of a directive, and how the results of a script are counted.

use std::collections::BTreeMap;

use crate::values::HostReference;

/// Why a directive was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The text of its module is malformed, and the core reads binaries only.
    Text,
    /// Its module imports a global, a table, or a function with values that slots do not carry.
    Import,
    /// It uses a module that was left out.
    Module,
    /// It needs an `externref` that is not null.
    Reference,
    /// An import is unknown or has another type, which a layer above the core refuses.
    Above,
    /// Its module needs a proposal that the core does not support. The test has checked that the core refuses it.
    Proposal,
}

/// How many directives there were of each kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// The assertions that were carried out, whether they held or not.
    pub assertions: usize,
    /// The other directives that were carried out.
    pub others: usize,
    pub left_out: BTreeMap<Why, usize>,
}

/// A directive that came to something else than it should have.
pub struct Failure {
    /// Counted from one.
    pub line: usize,
    pub what: String,
}

/// Why a directive does not hold.
pub enum Not {
    /// It was left out.
    CarriedOut(Why),
    /// It came to something else than it should have.
    Right(String),
}

impl From<HostReference> for Not {
    fn from(_: HostReference) -> Self {
        Self::CarriedOut(Why::Reference)
    }
}

pub fn wrong<T>(what: impl Into<String>) -> Result<T, Not> {
    Err(Not::Right(what.into()))
}
