//! The functions that guests can be given, and the state that they share.
//!
//! `gear_sandbox` instantiates guests so that the first argument of every function is the guest's gas, and the gas that
//! is left comes back with the result.

use crate::{INSTANCES, MEMORIES, store};
use alloc::vec::Vec;
use core::{
    arch::wasm32,
    cell::{Cell, RefCell},
};
use gear_sandbox::{
    AsContextExt, HostError, HostFuncType, ReturnValue, SandboxInstance, SandboxMemory, Value,
    default_executor::Caller, env::WasmReturnValue,
};

/// What a host function returns.
type Result = core::result::Result<WasmReturnValue, HostError>;

/// How many bytes `grow` allocates at a time.
const GROW_BYTES: usize = 256 << 10;

/// All host functions, by their numbers.
pub const ALL: [HostFuncType<State>; 10] = [add, sub, nothing, fail, abort, reenter, grow, peek, floats, drop_running];

/// What all host functions and the exports share.
pub static STATE: SharedState = SharedState {
    calls: Cell::new(0),
    nested: Cell::new(None),
    memory: Cell::new(None),
    kept: RefCell::new(Vec::new()),
};

/// What a store holds: a reference to the [`STATE`], by which calls that nest can all reach it.
pub struct State(pub &'static SharedState);

/// The state, which no one borrows for longer than one step.
pub struct SharedState {
    /// How often host functions were called.
    pub calls: Cell<u32>,
    /// The handle of the instance that `reenter` and `drop_running` act on.
    pub nested: Cell<Option<u32>>,
    /// The handle of the memory that `peek` reads from.
    pub memory: Cell<Option<u32>>,
    /// What `grow` allocated.
    pub kept: RefCell<Vec<Vec<u8>>>,
}

// SAFETY: this program has one thread.
unsafe impl Sync for SharedState {}

/// Counts a call, by the state that the host passed on, and returns that with the guest's gas and its arguments.
fn enter<'a>(caller: &mut Caller<'_, State>, args: &'a [Value]) -> (&'static SharedState, i64, &'a [Value]) {
    let state = caller.data_mut().0;
    state.calls.set(state.calls.get() + 1);
    match args {
        [Value::I64(gas), args @ ..] => (state, *gas, args),
        _ => panic!("the first argument is the gas"),
    }
}

/// The result of a function that succeeded.
fn returns(gas: i64, inner: impl Into<ReturnValue>) -> Result {
    Ok(WasmReturnValue { gas, inner: inner.into() })
}

/// 0: the wrapping sum of two `i32`, for 10 gas.
fn add(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (_, gas, [Value::I32(a), Value::I32(b)]) => returns(gas.wrapping_sub(10), Value::I32(a.wrapping_add(*b))),
        _ => Err(HostError),
    }
}

/// 1: the wrapping difference of two `i64`.
fn sub(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (_, gas, [Value::I64(a), Value::I64(b)]) => returns(gas, Value::I64(a.wrapping_sub(*b))),
        _ => Err(HostError),
    }
}

/// 2: takes anything, and returns nothing.
fn nothing(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    let (_, gas, _) = enter(caller, args);
    returns(gas, ReturnValue::Unit)
}

/// 3: fails.
fn fail(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    enter(caller, args);
    Err(HostError)
}

/// 4: panics, so that this program traps.
fn abort(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    enter(caller, args);
    panic!("abort was called")
}

/// 5: what the nested instance's export `inner` returns for an `i32`.
fn reenter(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (state, gas, args @ [Value::I32(_)]) => {
            let mut instance = INSTANCES.alias(known(state.nested.get(), |handle| INSTANCES.contains(handle))?);
            returns(gas, instance.invoke(&mut store(), "inner", args)?)
        }
        _ => Err(HostError),
    }
}

/// 6: its `i32`, after it has allocated so much that this program's memory has grown.
fn grow(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (state, gas, [value @ Value::I32(_)]) => {
            let pages = wasm32::memory_size::<0>();
            while wasm32::memory_size::<0>() == pages {
                state.kept.borrow_mut().push(Vec::with_capacity(GROW_BYTES));
            }
            returns(gas, *value)
        }
        _ => Err(HostError),
    }
}

/// 7: the 4 bytes at an `i32` in the chosen memory, as an `i32`.
fn peek(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (state, gas, [Value::I32(offset)]) => {
            let memory = MEMORIES.get(known(state.memory.get(), |handle| MEMORIES.contains(handle))?);
            let mut bytes = [0; 4];
            memory.read(caller, *offset as u32, &mut bytes)?;
            returns(gas, Value::I32(i32::from_le_bytes(bytes)))
        }
        _ => Err(HostError),
    }
}

/// 8: the second of an `f32` and an `f64`.
fn floats(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    match enter(caller, args) {
        (_, gas, [Value::F32(_), value @ Value::F64(_)]) => returns(gas, *value),
        _ => Err(HostError),
    }
}

/// 9: drops the nested instance, which may be the one that runs.
fn drop_running(caller: &mut Caller<'_, State>, args: &[Value]) -> Result {
    let (state, gas, _) = enter(caller, args);
    match state.nested.get().and_then(|handle| INSTANCES.remove(handle)) {
        Some(instance) => drop(instance),
        None => return Err(HostError),
    }
    returns(gas, ReturnValue::Unit)
}

/// A handle that was chosen and is of something that is still there.
fn known(handle: Option<u32>, is_known: impl FnOnce(u32) -> bool) -> core::result::Result<u32, HostError> {
    handle.filter(|handle| is_known(*handle)).ok_or(HostError)
}
