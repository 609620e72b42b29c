//! Runs calls in slices of their fuel, and suspends them at host functions. A part of `engine/wasmi.rs`.

use wasmi::{AsContextMut as _, StoreContextMut, Val};

use super::{Data, Func, Wasmi, types::translate_error, values::take_results};
use crate::{
    engine::{Control, Engine as _, UNLIMITED_FUEL},
    error::{HostTrap, Trap},
    interrupt::Interrupt,
};

/// The fuel that a guest gets between two checks of its interrupt. It lasts less than a millisecond, and long enough that the
/// checks cost nothing.
pub(super) const SLICE: u64 = 100_000;

/// A call that waits for the answer of a host function.
pub enum Suspension {
    /// The function that called the host function continues.
    Inside(wasmi::ResumableCallHostTrap),
    /// No function continues: the host function was called in tail position, or is itself an export of the instance. wasmi
    /// keeps nothing in that case.
    AtEnd,
}

fn is_suspended(error: &wasmi::Error) -> bool {
    matches!(error.downcast_ref::<HostTrap>(), Some(HostTrap::Suspended))
}

/// Calls a function, see [`run_in_slices`].
pub(super) fn call_in_slices(
    cx: &mut StoreContextMut<'_, Data>,
    func: &Func,
    inputs: &[Val],
    outputs: &mut [Val],
    control: Control<'_, Wasmi>,
) -> Result<Option<Suspension>, Box<Trap>> {
    let begin = |cx: &mut StoreContextMut<'_, Data>, outputs: &mut [Val]| {
        func.func.call_resumable(cx.as_context_mut(), inputs, outputs)
    };
    run_in_slices(cx, begin, outputs, control)
}

/// Whether the store's fuel belongs to a metered or sliced call around this one, which this call must not use up.
pub(super) fn is_in_slice(cx: &StoreContextMut<'_, Data>) -> bool {
    cx.get_fuel().is_ok_and(|fuel| fuel < UNLIMITED_FUEL)
}

/// Starts or resumes a function with its fuel. If the call can be interrupted, it runs in slices and the interrupt is checked
/// after each.
pub(super) fn run_in_slices(
    cx: &mut StoreContextMut<'_, Data>,
    begin: impl FnOnce(&mut StoreContextMut<'_, Data>, &mut [Val]) -> Result<wasmi::ResumableCall, wasmi::Error>,
    outputs: &mut [Val],
    control: Control<'_, Wasmi>,
) -> Result<Option<Suspension>, Box<Trap>> {
    let Control { interrupt, fuel, .. } = control;
    // An engine without fuel can neither meter nor slice.
    let Ok(around) = cx.get_fuel() else {
        let outcome = begin(cx, outputs).and_then(|call| run_slices(cx, call, outputs, None));
        return suspended_or(outcome);
    };
    let rest_around = cx.data().rest;
    let budget = fuel.as_deref().copied().unwrap_or(UNLIMITED_FUEL);
    let slice = if interrupt.is_some() { budget.min(SLICE) } else { budget };
    // The engine has fuel, so this cannot fail.
    let _ = cx.set_fuel(slice);
    cx.data_mut().rest = budget - slice;
    let outcome = begin(cx, outputs).and_then(|call| run_slices(cx, call, outputs, interrupt));
    if let Some(fuel) = fuel {
        let is_used_up = matches!(&outcome, Err(error) if error.as_trap_code() == Some(wasmi::TrapCode::OutOfFuel));
        *fuel = if is_used_up { 0 } else { Wasmi::fuel_left(cx, ()).unwrap_or(0) };
    }
    // The guest around this call, if there is one, continues with the fuel it had.
    let _ = cx.set_fuel(around);
    cx.data_mut().rest = rest_around;
    suspended_or(outcome)
}

fn suspended_or(outcome: Result<Option<Suspension>, wasmi::Error>) -> Result<Option<Suspension>, Box<Trap>> {
    match outcome {
        Err(error) if is_suspended(&error) => Ok(Some(Suspension::AtEnd)),
        outcome => outcome.map_err(translate_error),
    }
}

fn run_slices(
    cx: &mut StoreContextMut<'_, Data>,
    mut call: wasmi::ResumableCall,
    outputs: &mut [Val],
    interrupt: Option<&Interrupt>,
) -> Result<Option<Suspension>, wasmi::Error> {
    loop {
        call = match call {
            wasmi::ResumableCall::Finished => return Ok(None),
            wasmi::ResumableCall::HostTrap(call) if is_suspended(call.host_error()) => {
                return Ok(Some(Suspension::Inside(call)));
            }
            wasmi::ResumableCall::HostTrap(call) => return Err(call.into_host_error()),
            wasmi::ResumableCall::OutOfFuel(_) if interrupt.is_some_and(Interrupt::is_set) => {
                return Err(wasmi::Error::host(HostTrap::Interrupted));
            }
            wasmi::ResumableCall::OutOfFuel(paused) => {
                // One bulk instruction can need more than a slice.
                let needed = paused.required_fuel();
                let left = Wasmi::fuel_left(cx, ()).unwrap_or(0);
                if left < needed {
                    return Err(wasmi::Error::from(wasmi::TrapCode::OutOfFuel));
                }
                let slice = left.min(needed.saturating_add(SLICE));
                cx.set_fuel(slice)?;
                cx.data_mut().rest = left - slice;
                paused.resume(cx.as_context_mut(), outputs)?
            }
        };
    }
}

/// The suspended call, or `None` once the results of a finished one are in its slots.
pub(super) fn left_or_done(
    left: Option<Suspension>,
    outputs: &[Val],
    slots: &mut [u64],
) -> Result<Option<Suspension>, Box<Trap>> {
    if left.is_none() {
        take_results(outputs, slots)?;
    }
    Ok(left)
}
