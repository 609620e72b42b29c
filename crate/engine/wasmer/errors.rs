//! Translates wasmer's errors and traps into this crate's. A part of `engine/wasmer.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use wasmer::sys::vm;

use super::{
    frames::{self, Running},
    host_func::{GuestEnd, HostEnd},
};
use crate::{
    error::{CompileError, InstantiateError, Trap, TrapCode},
    realm::panic_message,
};

/// Runs wasmer's compiler or loader, which panics where it cannot start a thread or may not make code
/// executable.
pub(super) fn compiled(
    make: impl FnOnce() -> Result<wasmer::Module, wasmer::DeserializeError>,
) -> Result<wasmer::Module, CompileError> {
    use wasmer::{CompileError as Error, DeserializeError};
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(Ok(module)) => Ok(module),
        Ok(Err(DeserializeError::Compiler(Error::Resource(reason)))) => Err(CompileError::Allocation(reason)),
        Ok(Err(error)) => Err(CompileError::Refused(error.to_string())),
        Err(panic) => {
            let message = panic_message(&*panic);
            if !LACK_OF_ROOM.iter().any(|panic| message.contains(panic)) {
                resume_unwind(panic);
            }
            Err(CompileError::Allocation(message))
        }
    }
}

/// The beginnings of the panic messages by which wasmer reports that the system provided no thread or no
/// memory.
const LACK_OF_ROOM: [&str; 2] = ["ThreadPoolBuildError", "unable to make memory readonly and executable"];

/// The failure to compile the other kind of code of a module that has been compiled before.
pub(super) fn no_code(error: CompileError) -> InstantiateError {
    match error {
        CompileError::Refused(reason) => InstantiateError::Link(reason),
        CompileError::Allocation(reason) => InstantiateError::Allocation(reason),
    }
}

pub(super) fn instantiate_error(error: wasmer::InstantiationError) -> InstantiateError {
    match error {
        wasmer::InstantiationError::Link(wasmer::LinkError::Trap(error)) => {
            InstantiateError::Segment(with_trace(&error))
        }
        // The realm has compared the sizes with the limits, so only the system can have refused.
        wasmer::InstantiationError::Link(wasmer::LinkError::Resource(reason)) => InstantiateError::Allocation(reason),
        wasmer::InstantiationError::Link(error) => InstantiateError::Link(error.to_string()),
        wasmer::InstantiationError::Start(error) => InstantiateError::Segment(with_trace(&error)),
        wasmer::InstantiationError::CpuFeature(feature) => InstantiateError::CpuFeature(feature),
        wasmer::InstantiationError::DifferentStores | wasmer::InstantiationError::DifferentArchOS => {
            InstantiateError::Link(error.to_string())
        }
    }
}

/// A trap during instantiation, which is outside any call.
pub(super) fn with_trace(error: &wasmer::RuntimeError) -> Trap {
    Trap { frames: frames::of_trace(error.trace()), ..runtime_error(error) }
}

pub(super) fn translate_trap(trap: vm::Trap, running: &Running) -> Trap {
    if let vm::Trap::OOM { .. } = trap {
        return Trap::new(TrapCode::OutOfMemory);
    }
    match trap.downcast::<HostEnd>() {
        Ok(HostEnd { trap, frames }) => Trap { frames, ..trap.into() },
        Err(trap) => {
            let trap = match trap.downcast::<GuestEnd>() {
                Ok(GuestEnd { code, frames }) => return Trap { frames, ..Trap::new(trap_code(code)) },
                Err(trap) => trap,
            };
            let error = wasmer::RuntimeError::from(trap);
            Trap { frames: running.frames(error.trace()), ..runtime_error(&error) }
        }
    }
}

/// A trap without its frames.
pub(super) fn runtime_error(error: &wasmer::RuntimeError) -> Trap {
    match error.clone().to_trap() {
        Some(code) => Trap::new(trap_code(code)),
        None => Trap::with_message(TrapCode::Internal, error.message()),
    }
}

pub(super) fn trap_code(code: wasmer_types::TrapCode) -> TrapCode {
    use wasmer_types::TrapCode as Code;
    match code {
        Code::StackOverflow => TrapCode::StackOverflow,
        Code::HeapAccessOutOfBounds => TrapCode::MemoryOutOfBounds,
        Code::HeapMisaligned | Code::UnalignedAtomic => TrapCode::UnalignedAtomic,
        Code::TableAccessOutOfBounds => TrapCode::TableOutOfBounds,
        Code::IndirectCallToNull => TrapCode::IndirectCallNull,
        Code::BadSignature => TrapCode::IndirectCallSignature,
        Code::IntegerOverflow => TrapCode::IntegerOverflow,
        Code::IntegerDivisionByZero => TrapCode::IntegerDivideByZero,
        Code::BadConversionToInteger => TrapCode::InvalidConversion,
        Code::UnreachableCodeReached => TrapCode::Unreachable,
        Code::UncaughtException | Code::UninitializedExnRef => TrapCode::UncaughtException,
        Code::HostInterrupt => TrapCode::Interrupted,
        // Neither can happen: `experimental-async` is off, and only wasmer's own linker makes tables
        // read-only.
        Code::YieldOutsideAsyncContext | Code::ReadonlyTableModified => TrapCode::Internal,
    }
}
