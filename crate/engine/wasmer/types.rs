//! Translates wasmer's values and types into this crate's. A part of `engine/wasmer.rs`.

use wasmer::Value;
use wasmer_types::RawValue;

use crate::value::{ExternType, FuncType, GlobalType, MemoryType, TableType, ValueType};

/// The bits of a value of this type as a slot.
///
/// # Safety
///
/// A value of at least the type's size must have been written to `value`.
pub(super) unsafe fn slot_of(value: &RawValue, ty: ValueType) -> u64 {
    match ty {
        // SAFETY: passed on to the caller.
        ValueType::I32 | ValueType::F32 => u64::from(unsafe { value.u32 }),
        // SAFETY: passed on to the caller.
        _ => unsafe { value.u64 },
    }
}

/// The value of a global as a slot; `None` for one that fits no slot.
pub(super) fn slot_of_global(value: &Value) -> Option<u64> {
    match value {
        Value::I32(value) => Some(u64::from(*value as u32)),
        Value::I64(value) => Some(*value as u64),
        Value::F32(value) => Some(u64::from(value.to_bits())),
        Value::F64(value) => Some(value.to_bits()),
        Value::V128(_) | Value::FuncRef(_) | Value::ExternRef(_) | Value::ExceptionRef(_) => None,
    }
}

/// The slot as a value of that type; `None` for a type that fits no slot.
pub(super) fn value_of(ty: ValueType, slot: u64) -> Option<Value> {
    match ty {
        ValueType::I32 => Some(Value::I32(slot as i32)),
        ValueType::I64 => Some(Value::I64(slot as i64)),
        ValueType::F32 => Some(Value::F32(f32::from_bits(slot as u32))),
        ValueType::F64 => Some(Value::F64(f64::from_bits(slot))),
        ValueType::V128 | ValueType::FuncRef | ValueType::ExternRef | ValueType::Other => None,
    }
}

pub(super) fn value_type(ty: wasmer::Type) -> ValueType {
    match ty {
        wasmer::Type::I32 => ValueType::I32,
        wasmer::Type::I64 => ValueType::I64,
        wasmer::Type::F32 => ValueType::F32,
        wasmer::Type::F64 => ValueType::F64,
        wasmer::Type::V128 => ValueType::V128,
        wasmer::Type::FuncRef => ValueType::FuncRef,
        wasmer::Type::ExternRef => ValueType::ExternRef,
        wasmer::Type::ExceptionRef => ValueType::Other,
    }
}

pub(super) fn types(types: &[ValueType]) -> Vec<wasmer::Type> {
    types
        .iter()
        .map(|ty| match ty {
            ValueType::I32 => wasmer::Type::I32,
            ValueType::I64 => wasmer::Type::I64,
            ValueType::F32 => wasmer::Type::F32,
            ValueType::F64 => wasmer::Type::F64,
            ValueType::V128 => wasmer::Type::V128,
            ValueType::FuncRef => wasmer::Type::FuncRef,
            ValueType::ExternRef => wasmer::Type::ExternRef,
            ValueType::Other => wasmer::Type::ExceptionRef,
        })
        .collect()
}

pub(super) fn memory_type(ty: &wasmer::MemoryType) -> MemoryType {
    MemoryType { minimum: u64::from(ty.minimum.0), maximum: ty.maximum.map(|pages| u64::from(pages.0)) }
}

pub(super) fn global_type(ty: &wasmer::GlobalType) -> GlobalType {
    GlobalType { value: value_type(ty.ty), mutable: ty.mutability == wasmer::Mutability::Var }
}

pub(super) fn extern_type(ty: &wasmer::ExternType) -> ExternType {
    match ty {
        wasmer::ExternType::Function(ty) => ExternType::Func(FuncType {
            params: ty.params().iter().copied().map(value_type).collect(),
            results: ty.results().iter().copied().map(value_type).collect(),
        }),
        wasmer::ExternType::Memory(ty) => ExternType::Memory(memory_type(ty)),
        wasmer::ExternType::Table(ty) => ExternType::Table(TableType {
            element: value_type(ty.ty),
            minimum: u64::from(ty.minimum),
            maximum: ty.maximum.map(u64::from),
        }),
        wasmer::ExternType::Global(ty) => ExternType::Global(global_type(ty)),
        wasmer::ExternType::Tag(_) => ExternType::Other,
    }
}
