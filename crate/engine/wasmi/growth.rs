//! The host functions by which guests on wasmi grow their memories and tables, see `repairs.rs`. A part
//! of `engine/wasmi.rs`.

use wasmi::{AsContextMut as _, Caller, Func, FuncType, Instance, Memory, Ref, StoreContextMut, Table, Val, ValType};

use super::repairs::{Element, Grown, Growth};
use super::{Data, Wasmi};
use crate::{engine::Engine as _, total::ELEMENT_BYTES};

/// The result for a guest that may not grow.
const FAILED: u32 = u32::MAX;

/// The fuel for growing by one page: one unit for 64 bytes, as for all bulk operations.
const FUEL_PER_PAGE: u64 = 1024;

/// The number of table elements that one unit of fuel pays for.
const ELEMENTS_PER_FUEL: u64 = 16;

/// Stores the functions in the table through which the instance calls them.
pub fn add_host_functions(
    cx: &mut StoreContextMut<'_, Data>,
    instance: &Instance,
    growth: &Growth,
) -> Result<(), wasmi::Error> {
    let missing = || wasmi::Error::new("the module was rewritten, but lacks an export");
    let functions = instance.get_table(&*cx, growth.table()).ok_or_else(missing)?;
    for (place, grown) in growth.grown.iter().enumerate() {
        let name = growth.target(place);
        let function = match grown {
            Grown::Memory(_) => grow_memory(cx, instance.get_memory(&*cx, &name).ok_or_else(missing)?),
            Grown::Table(_, element) => grow_table(cx, instance.get_table(&*cx, &name).ok_or_else(missing)?, *element),
        };
        let function = Ref::Func(function.into());
        functions
            .set(cx.as_context_mut(), place as u64, function)
            .map_err(|error| wasmi::Error::new(error.to_string()))?;
    }
    Ok(())
}

fn grow_memory(cx: &mut StoreContextMut<'_, Data>, memory: Memory) -> Func {
    Func::wrap(cx, move |mut caller: Caller<'_, Data>, delta: u32| -> Result<u32, wasmi::Error> {
        let mut cx = caller.as_context_mut();
        pay(&mut cx, u64::from(delta) * FUEL_PER_PAGE)?;
        // SAFETY: this is a host function that the engine is calling, and the pointer is that of its
        // store's realm.
        let realm = unsafe { cx.data().realm.get() };
        if delta > 0 && !realm.memories_may_move() && Wasmi::memory_moves(&mut cx, &memory) {
            return Ok(FAILED);
        }
        let before = Wasmi::memory_grow(&mut cx, &memory, u64::from(delta));
        // It has no more than 65,536 pages.
        Ok(before.map_or(FAILED, |pages| pages as u32))
    })
}

fn grow_table(cx: &mut StoreContextMut<'_, Data>, table: Table, element: Element) -> Func {
    let element = match element {
        Element::Func => ValType::FuncRef,
        Element::Extern => ValType::ExternRef,
    };
    let ty = FuncType::new([element, ValType::I32], [ValType::I32]);
    Func::new(cx, ty, move |mut caller: Caller<'_, Data>, params, results| {
        let [value, Val::I32(delta)] = params else {
            return Err(wasmi::Error::new("the host function has another type"));
        };
        let init = match value {
            Val::FuncRef(function) => Ref::Func(*function),
            Val::ExternRef(value) => Ref::Extern(*value),
            _ => return Err(wasmi::Error::new("the host function has another type")),
        };
        let delta = u64::from(delta.cast_unsigned());
        let mut cx = caller.as_context_mut();
        pay(&mut cx, delta / ELEMENTS_PER_FUEL)?;
        let bytes = delta * ELEMENT_BYTES;
        let mut before = FAILED;
        if cx.data_mut().charge.add(bytes).is_ok() {
            match table.grow(&mut cx, delta, init) {
                // Its size fits an i32, or it could not have grown to that.
                Ok(size) => before = size as u32,
                Err(_) => cx.data_mut().charge.give_back(bytes),
            }
        }
        results[0] = Val::I32(before.cast_signed());
        Ok(())
    })
}

/// Takes this much fuel from the guest, if it is metered.
fn pay(cx: &mut StoreContextMut<'_, Data>, cost: u64) -> Result<(), wasmi::Error> {
    let Ok(slice) = cx.get_fuel() else { return Ok(()) };
    if let Some(left) = slice.checked_sub(cost) {
        return cx.set_fuel(left);
    }
    let more = cost - slice;
    let rest = cx.data().rest.checked_sub(more).ok_or(wasmi::TrapCode::OutOfFuel)?;
    cx.data_mut().rest = rest;
    cx.set_fuel(0)
}
