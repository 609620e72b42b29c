//! Arguments and results of a call, from slots to wasmi's values and back. A part of `engine/wasmi.rs`.

use smallvec::SmallVec;
use wasmi::Val;

use super::types::{slot_of, val_of};
use crate::{
    error::{Trap, TrapCode},
    value::{FuncType, ValueType},
};

pub(super) type Values = SmallVec<[Val; INLINE_VALS]>;

/// Calls with no more arguments or results than this do not allocate for them.
const INLINE_VALS: usize = 6;

/// The arguments as wasmi's values, followed by room for the results.
pub(super) fn values_of(ty: &FuncType, slots: &[u64]) -> Result<Values, Box<Trap>> {
    let count = ty.params.len() + ty.results.len();
    let mut values = SmallVec::with_capacity(count);
    for (ty, slot) in ty.params.iter().zip(slots) {
        values.push(val_of(*ty, *slot).ok_or_else(unsupported)?);
    }
    values.resize(count, Val::I32(0));
    Ok(values)
}

/// Writes the results of a call into its slots.
pub(super) fn take_results(outputs: &[Val], slots: &mut [u64]) -> Result<(), Box<Trap>> {
    for (slot, output) in slots.iter_mut().zip(outputs) {
        *slot = slot_of(output).ok_or_else(unsupported)?;
    }
    Ok(())
}

/// The slots as wasmi's values.
pub(super) fn vals_of(types: &[ValueType], slots: &[u64]) -> Result<Values, Box<Trap>> {
    let mut values = Values::with_capacity(types.len());
    for (ty, slot) in types.iter().zip(slots) {
        values.push(val_of(*ty, *slot).ok_or_else(unsupported)?);
    }
    Ok(values)
}

/// Room for so many results.
pub(super) fn room_for(results: usize) -> Values {
    Values::from_elem(Val::I32(0), results)
}

/// Copies results from slots to slots. The high bits of a small result become zero.
pub(super) fn copy_results(types: &[ValueType], results: &[u64], slots: &mut [u64]) -> Result<(), Box<Trap>> {
    for ((slot, result), ty) in slots.iter_mut().zip(results).zip(types) {
        *slot = val_of(*ty, *result).as_ref().and_then(slot_of).ok_or_else(unsupported)?;
    }
    Ok(())
}

#[cold]
fn unsupported() -> Trap {
    Trap::with_message(TrapCode::Internal, "the type of the function does not fit slots")
}
