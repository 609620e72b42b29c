//! WebAssembly that drives sandboxed guests with the real crate [`gear_sandbox`], as a runtime of the Gear Protocol
//! does.
//!
//! Its exports mirror the public API of `gear_sandbox` by handles, so that a test of a sandbox host can use all of it.
//! What the host must give are the functions `env.ext_sandbox_*`, which `gear_sandbox`'s `host_executor` imports.
//!
//! A range of bytes is given as its address and its length in this program's memory, mostly made by `allocate`. Where
//! an export returns an `i32`, a negative number is an error: one of [`Error`] as [`error_code`] numbers them, unless
//! the export says otherwise. What only a faulty test would do traps: an unknown handle, text that is not UTF-8, or
//! values that are not SCALE. Dropping what was dropped already does nothing.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod allocator;
mod host_functions;
mod tables;

use alloc::{rc::Rc, vec::Vec};
use allocator::{range, range_mut};
use core::{cell::RefCell, str};
use gear_sandbox::{
    Error, GlobalsSetError, SandboxEnvironmentBuilder, SandboxInstance, SandboxMemory, SandboxStore, Value,
    default_executor::{EnvironmentDefinitionBuilder, Store},
};
use host_functions::{STATE, State};
use parity_scale_codec::{Decode, Encode};
use tables::Table;

/// The sandboxed memories of `gear_sandbox`.
type Memory = gear_sandbox::default_executor::Memory;

/// The sandboxed instances of `gear_sandbox`, whose host functions share the [`State`].
type Instance = gear_sandbox::default_executor::Instance<State>;

/// What a guest may import. It is shared, so that it can be used while the table of them is free for other calls.
type Environment = Rc<RefCell<EnvironmentDefinitionBuilder<State>>>;

/// The memories that the host holds handles of.
static MEMORIES: Table<Memory> = Table::new();

/// The environments that the host holds handles of.
static ENVIRONMENTS: Table<Environment> = Table::new();

/// The instances that the host holds handles of.
static INSTANCES: Table<Instance> = Table::new();

/// Ends the program with a trap. What went wrong is not told, so that no text needs to be kept for it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// A store on the program's one [`STATE`].
///
/// Every call into `gear_sandbox` gets its own, since calls nest: one that all share would be borrowed more than once.
fn store() -> Store<State> {
    Store::new(State(&STATE))
}

/// The number that stands for an error.
fn error_code(error: Error) -> i32 {
    match error {
        Error::Module => -1,
        Error::OutOfBounds => -2,
        Error::MemoryGrow => -3,
        Error::Execution => -4,
    }
}

/// Text that the host gave.
fn text(pointer: u32, length: u32) -> &'static str {
    str::from_utf8(range(pointer, length)).expect("text is UTF-8")
}

/// Decodes a value that the host gave.
fn decode<T: Decode>(pointer: u32, length: u32) -> T {
    T::decode(&mut range(pointer, length)).expect("values are SCALE")
}

/// Writes a value in SCALE for the host, and returns how many bytes it has.
fn encode(value: impl Encode, pointer: u32) -> i32 {
    value.using_encoded(|bytes| {
        range_mut(pointer, bytes.len() as u32).copy_from_slice(bytes);
        bytes.len() as i32
    })
}

/// Makes a sandboxed memory, of at most `maximum` pages unless that is -1. Returns its handle.
#[unsafe(no_mangle)]
extern "C" fn memory_new(initial: u32, maximum: i64) -> i32 {
    let maximum = (maximum != -1).then_some(maximum as u32);
    Memory::new(&mut store(), initial, maximum).map_or_else(error_code, |memory| MEMORIES.insert(memory))
}

/// Makes another reference to the same memory. Returns its handle.
#[unsafe(no_mangle)]
extern "C" fn memory_clone(memory: u32) -> i32 {
    MEMORIES.insert(MEMORIES.get(memory))
}

/// Reads from a memory into `buffer`. Returns 0.
#[unsafe(no_mangle)]
extern "C" fn memory_read(memory: u32, offset: u32, buffer: u32, length: u32) -> i32 {
    MEMORIES.get(memory).read(&store(), offset, range_mut(buffer, length)).map_or_else(error_code, |()| 0)
}

/// Writes `bytes` to a memory. Returns 0.
#[unsafe(no_mangle)]
extern "C" fn memory_write(memory: u32, offset: u32, bytes: u32, length: u32) -> i32 {
    MEMORIES.get(memory).write(&mut store(), offset, range(bytes, length)).map_or_else(error_code, |()| 0)
}

/// Grows a memory. Returns how many pages it had before.
///
/// `gear_sandbox` does not look at what its host answers here, so a host has to trap where the memory cannot grow.
#[unsafe(no_mangle)]
extern "C" fn memory_grow(memory: u32, pages: u32) -> i32 {
    MEMORIES.get(memory).grow(&mut store(), pages).map_or_else(error_code, |pages| pages as i32)
}

/// How many pages a memory has.
#[unsafe(no_mangle)]
extern "C" fn memory_size(memory: u32) -> u32 {
    MEMORIES.get(memory).size(&store())
}

/// What the host says is the address of a memory's bytes.
#[unsafe(no_mangle)]
extern "C" fn memory_buff(memory: u32) -> u64 {
    // SAFETY: the address is only handed on.
    unsafe { MEMORIES.get(memory).get_buff(&store()) }
}

/// Drops a reference to a memory.
#[unsafe(no_mangle)]
extern "C" fn memory_drop(memory: u32) {
    drop(MEMORIES.remove(memory));
}

/// Makes an empty environment. Returns its handle.
#[unsafe(no_mangle)]
extern "C" fn env_new() -> i32 {
    ENVIRONMENTS.insert(Rc::new(RefCell::new(EnvironmentDefinitionBuilder::new())))
}

/// Adds a host function to an environment: the one that [`host_functions::ALL`] has at `which`. Returns 0, or -1 if
/// there is none.
#[unsafe(no_mangle)]
extern "C" fn env_add_host_func(env: u32, module: u32, module_len: u32, field: u32, field_len: u32, which: u32) -> i32 {
    let Some(&function) = host_functions::ALL.get(which as usize) else {
        return -1;
    };
    let environment = ENVIRONMENTS.get(env);
    environment.borrow_mut().add_host_func(text(module, module_len), text(field, field_len), function);
    0
}

/// Adds a memory to an environment, which keeps a reference to it. Returns 0.
#[unsafe(no_mangle)]
extern "C" fn env_add_memory(env: u32, module: u32, module_len: u32, field: u32, field_len: u32, memory: u32) -> i32 {
    let (environment, memory) = (ENVIRONMENTS.get(env), MEMORIES.get(memory));
    environment.borrow_mut().add_memory(text(module, module_len), text(field, field_len), memory);
    0
}

/// Drops an environment. Instances made with it stay as they are.
#[unsafe(no_mangle)]
extern "C" fn env_drop(env: u32) {
    drop(ENVIRONMENTS.remove(env));
}

/// Instantiates a guest, whose start function runs. Returns its handle.
#[unsafe(no_mangle)]
extern "C" fn instance_new(env: u32, code: u32, code_len: u32) -> i32 {
    let environment = ENVIRONMENTS.get(env);
    let instance = Instance::new(&mut store(), range(code, code_len), &environment.borrow());
    instance.map_or_else(error_code, |instance| INSTANCES.insert(instance))
}

/// Calls a guest's export with arguments (a SCALE `Vec<Value>`), and writes its SCALE `ReturnValue`, of at most 10
/// bytes, to `out`. Returns its length.
#[unsafe(no_mangle)]
extern "C" fn instance_invoke(instance: u32, name: u32, name_len: u32, args: u32, args_len: u32, out: u32) -> i32 {
    let args: Vec<Value> = decode(args, args_len);
    let result = INSTANCES.alias(instance).invoke(&mut store(), text(name, name_len), &args);
    result.map_or_else(error_code, |value| encode(value, out))
}

/// Writes a guest's global as a SCALE `Value`, of at most 9 bytes, to `out`. Returns its length, or 0 if there is none.
#[unsafe(no_mangle)]
extern "C" fn instance_get_global(instance: u32, name: u32, name_len: u32, out: u32) -> i32 {
    let value = INSTANCES.alias(instance).get_global_val(&mut store(), text(name, name_len));
    value.map_or(0, |value| encode(value, out))
}

/// Sets a guest's global to a SCALE `Value`. Returns 0, -1 if there is no such global, or -2 if it cannot be set so.
#[unsafe(no_mangle)]
extern "C" fn instance_set_global(instance: u32, name: u32, name_len: u32, value: u32, value_len: u32) -> i32 {
    let value = decode(value, value_len);
    match INSTANCES.alias(instance).set_global_val(&mut store(), text(name, name_len), value) {
        Ok(()) => 0,
        Err(GlobalsSetError::NotFound) => -1,
        Err(GlobalsSetError::Other) => -2,
    }
}

/// What the host says is the address of an instance.
#[unsafe(no_mangle)]
extern "C" fn instance_ptr(instance: u32) -> u64 {
    INSTANCES.alias(instance).get_instance_ptr()
}

/// Drops an instance, even one that is running.
#[unsafe(no_mangle)]
extern "C" fn instance_drop(instance: u32) {
    drop(INSTANCES.remove(instance));
}

/// How often host functions were called.
#[unsafe(no_mangle)]
extern "C" fn calls() -> u32 {
    STATE.calls.get()
}

/// Chooses the instance that the host functions `reenter` and `drop_running` act on.
#[unsafe(no_mangle)]
extern "C" fn set_nested(instance: u32) {
    STATE.nested.set(Some(instance));
}

/// Chooses the memory that the host function `peek` reads from.
#[unsafe(no_mangle)]
extern "C" fn set_memory(memory: u32) {
    STATE.memory.set(Some(memory));
}

/// Frees all that the host function `grow` allocated.
#[unsafe(no_mangle)]
extern "C" fn release() {
    drop(STATE.kept.take());
}
