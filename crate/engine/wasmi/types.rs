//! Translates wasmi's values, types and errors into this crate's. A part of `engine/wasmi.rs`.

use wasmi::{F32, F64, Val};

use crate::{
    error::{HostTrap, InstantiateError, Trap, TrapCode},
    value::{ExternType, FuncType, GlobalType, MemoryType, TableType, ValueType},
};

pub(super) fn slot_of(value: &Val) -> Option<u64> {
    match value {
        Val::I32(value) => Some(u64::from(*value as u32)),
        Val::I64(value) => Some(*value as u64),
        Val::F32(value) => Some(u64::from(value.to_bits())),
        Val::F64(value) => Some(value.to_bits()),
        Val::V128(_) | Val::FuncRef(_) | Val::ExternRef(_) => None,
    }
}

pub(super) fn val_of(ty: ValueType, slot: u64) -> Option<Val> {
    match ty {
        ValueType::I32 => Some(Val::I32(slot as i32)),
        ValueType::I64 => Some(Val::I64(slot as i64)),
        ValueType::F32 => Some(Val::F32(F32::from_bits(slot as u32))),
        ValueType::F64 => Some(Val::F64(F64::from_bits(slot))),
        ValueType::V128 | ValueType::FuncRef | ValueType::ExternRef | ValueType::Other => None,
    }
}

pub(super) fn value_type(ty: wasmi::ValType) -> ValueType {
    match ty {
        wasmi::ValType::I32 => ValueType::I32,
        wasmi::ValType::I64 => ValueType::I64,
        wasmi::ValType::F32 => ValueType::F32,
        wasmi::ValType::F64 => ValueType::F64,
        wasmi::ValType::V128 => ValueType::V128,
        wasmi::ValType::FuncRef => ValueType::FuncRef,
        wasmi::ValType::ExternRef => ValueType::ExternRef,
    }
}

pub(super) fn types(types: &[ValueType]) -> Vec<wasmi::ValType> {
    types
        .iter()
        .map(|ty| match ty {
            ValueType::I32 => wasmi::ValType::I32,
            ValueType::I64 => wasmi::ValType::I64,
            ValueType::F32 => wasmi::ValType::F32,
            ValueType::F64 => wasmi::ValType::F64,
            ValueType::V128 => wasmi::ValType::V128,
            ValueType::FuncRef => wasmi::ValType::FuncRef,
            // wasmi knows no other reference type, so `Other` never comes out of one of its modules.
            ValueType::ExternRef | ValueType::Other => wasmi::ValType::ExternRef,
        })
        .collect()
}

pub(super) fn memory_type(ty: &wasmi::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.minimum(), maximum: ty.maximum() }
}

pub(super) fn global_type(ty: &wasmi::GlobalType) -> GlobalType {
    GlobalType { value: value_type(ty.content()), mutable: ty.mutability().is_mut() }
}

pub(super) fn extern_type(ty: &wasmi::ExternType) -> ExternType {
    match ty {
        wasmi::ExternType::Func(ty) => ExternType::Func(FuncType {
            params: ty.params().iter().copied().map(value_type).collect(),
            results: ty.results().iter().copied().map(value_type).collect(),
        }),
        wasmi::ExternType::Memory(ty) => ExternType::Memory(memory_type(ty)),
        wasmi::ExternType::Table(ty) => ExternType::Table(TableType {
            element: match ty.element() {
                wasmi::RefType::Func => ValueType::FuncRef,
                wasmi::RefType::Extern => ValueType::ExternRef,
            },
            minimum: ty.minimum(),
            maximum: ty.maximum(),
        }),
        wasmi::ExternType::Global(ty) => ExternType::Global(global_type(ty)),
    }
}

// Errors

impl wasmi::errors::HostError for HostTrap {}

pub(super) fn instantiate_error(error: &wasmi::Error) -> InstantiateError {
    use wasmi::errors::{ErrorKind, InstantiationError, MemoryError, TableError};
    match error.kind() {
        ErrorKind::TrapCode(code) => InstantiateError::Segment(Trap::new(trap_code(*code))),
        ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. }) => {
            InstantiateError::Segment(Trap::new(TrapCode::TableOutOfBounds))
        }
        ErrorKind::Memory(MemoryError::OutOfBoundsAccess) => {
            InstantiateError::Segment(Trap::new(TrapCode::MemoryOutOfBounds))
        }
        ErrorKind::Instantiation(
            InstantiationError::FailedToInstantiateMemory(MemoryError::OutOfSystemMemory)
            | InstantiationError::FailedToInstantiateTable(TableError::OutOfSystemMemory),
        ) => InstantiateError::Allocation(error.to_string()),
        // The rest are mismatches and exhausted resources; the engine's message says which.
        _ => InstantiateError::Link(error.to_string()),
    }
}

pub(super) fn translate_error(error: wasmi::Error) -> Box<Trap> {
    if let Some(code) = error.as_trap_code() {
        return Trap::new(trap_code(code)).into();
    }
    match error.downcast_ref::<HostTrap>() {
        Some(host) => host.clone().into(),
        // For example, a lazily translated function that the engine cannot translate.
        None => Trap::with_message(TrapCode::Internal, error.to_string()).into(),
    }
}

pub(super) fn trap_code(code: wasmi::TrapCode) -> TrapCode {
    use wasmi::TrapCode as Code;
    match code {
        Code::UnreachableCodeReached => TrapCode::Unreachable,
        Code::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
        Code::TableOutOfBounds => TrapCode::TableOutOfBounds,
        Code::IndirectCallToNull => TrapCode::IndirectCallNull,
        Code::IntegerDivisionByZero => TrapCode::IntegerDivideByZero,
        Code::IntegerOverflow => TrapCode::IntegerOverflow,
        Code::BadConversionToInteger => TrapCode::InvalidConversion,
        Code::StackOverflow => TrapCode::StackOverflow,
        Code::BadSignature => TrapCode::IndirectCallSignature,
        Code::OutOfFuel => TrapCode::OutOfFuel,
        Code::GrowthOperationLimited => TrapCode::GrowthLimited,
        Code::OutOfSystemMemory => TrapCode::OutOfMemory,
    }
}
