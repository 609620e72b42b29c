//! Traps: the messages of the specification, and the trap codes of the core.

use sandbox_host::error::{Trap, TrapCode};

use super::outcome::{Not, wrong};
use crate::values;

/// The trap code that each message of the specification stands for.
const TRAPS: [(&str, TrapCode); 11] = [
    ("unreachable", TrapCode::Unreachable),
    ("out of bounds memory access", TrapCode::MemoryOutOfBounds),
    ("out of bounds table access", TrapCode::TableOutOfBounds),
    ("undefined element", TrapCode::TableOutOfBounds),
    ("uninitialized element", TrapCode::IndirectCallNull),
    ("uninitialized element 2", TrapCode::IndirectCallNull),
    ("indirect call type mismatch", TrapCode::IndirectCallSignature),
    ("integer overflow", TrapCode::IntegerOverflow),
    ("integer divide by zero", TrapCode::IntegerDivideByZero),
    ("invalid conversion to integer", TrapCode::InvalidConversion),
    ("call stack exhausted", TrapCode::StackOverflow),
];

/// Checks that a call has ended with the trap of this message. `outcome` has the name and the results of a call that returned.
pub fn assert_trap(outcome: Result<(&str, &[values::Actual]), &Trap>, message: &str) -> Result<(), Not> {
    let Some((_, code)) = TRAPS.iter().find(|(known, _)| *known == message) else {
        return wrong(format!("no trap is known for {message:?}"));
    };
    match outcome {
        Err(trap) if trap.code == *code => Ok(()),
        Err(trap) => wrong(format!("{}, expected {message:?}", said(trap))),
        Ok((name, results)) => wrong(format!("{name}: {results:x?}, expected {message:?}")),
    }
}

/// A trap in words.
pub fn said(trap: &Trap) -> String {
    format!("trap {}: {}", trap.code.name(), trap.message)
}
