//! The functions for calls, and those that create and drop instances and memories of compiled modules.
//! They are registered without napi-rs, whose functions cost a hundred nanoseconds more each.
//! `types.d.ts` gives their TypeScript types.

use std::rc::Rc;

use super::{
    backend::{AnyModule, AnyRealm, with_module, with_realm},
    calls::{What, Work},
    deadline::Deadline,
    environment::Environment,
    error::{ErrorKind, NativeError},
    group::{Group, release_if_last},
    linking::Linking,
    raw::{Arguments, CallResult, Functions, NativeResult, Scope},
    scratch::{
        MAX_SLOTS, Scratch, WORD_CALL, WORD_COUNT, WORD_FUNC, WORD_HAS_THROWN, WORD_INSTANCE, WORD_IS_NEW_TICK,
        WORD_LOOKS,
    },
    supervisor::Supervisor,
    tables::Entry,
};
use crate::{
    error::{Trap, cut},
    realm::Slots,
    value::{MemoryType, PAGE_BYTES},
};

/// Defines all of these functions.
pub fn define(functions: &mut Functions, scope: Scope, environment: &Rc<Environment>) {
    for (name, run) in [
        ("invoke", invoke as fn(&Environment, Scope) -> CallResult),
        ("start", start),
        ("globalGet", global_get),
        ("globalSet", global_set),
        ("nextEvent", next_event),
        ("answer", answer),
        ("putOff", put_off),
    ] {
        functions.call(scope, environment, name, run);
    }
    for (name, run) in [
        ("takeFailure", take_failure as fn(&Environment, Scope, &Arguments) -> NativeResult),
        ("invokeAsync", invoke_async),
        ("within", within),
        ("memoryView", memory_view),
        ("memoryRead", memory_read),
        ("memoryWrite", memory_write),
        ("newMemory", new_memory),
        ("dropMemory", drop_memory),
        ("compile", compile),
        ("instantiate", instantiate),
        ("dropInstance", drop_instance),
    ] {
        functions.function(scope, environment, name, run);
    }
}

/// `invoke()`: calls export `WORD_FUNC` of instance `WORD_INSTANCE` with `WORD_COUNT` slots.
fn invoke(environment: &Environment, scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let Entry { group, index: instance } = tables.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = Slots::new(count_of_slots(&scratch)?);
    scratch.read_slots(&mut slots);
    let realm = group.enter()?;
    let begun = Deadline::begin(&tables.deadline, &scratch)?;
    {
        let mut supervisor = Supervisor::new(tables, scope, &group, &scratch, begun);
        let outcome = with_realm!(&*realm, realm => realm.call(instance, export, &mut slots, &mut supervisor));
        supervisor.finish(outcome, &slots);
    }
    drop(realm);
    release_if_last(scope, group);
    Ok(())
}

/// `start()`: runs the start function of instance `WORD_INSTANCE`.
fn start(environment: &Environment, scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let Entry { group, index: instance } = tables.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let realm = group.enter()?;
    let begun = Deadline::begin(&tables.deadline, &scratch)?;
    {
        let mut supervisor = Supervisor::new(tables, scope, &group, &scratch, begun);
        let outcome = with_realm!(&*realm, realm => realm.start(instance, &mut supervisor));
        supervisor.finish(outcome, &[]);
    }
    drop(realm);
    release_if_last(scope, group);
    Ok(())
}

/// The number of slots of a call. (Slots in a `Result` would be copied.)
#[inline(always)]
fn count_of_slots(scratch: &Scratch) -> Result<usize, NativeError> {
    let count = scratch.read_word(WORD_COUNT) as usize;
    if count > MAX_SLOTS { Err(NativeError::internal("too many slots")) } else { Ok(count) }
}

/// `takeFailure()`: returns how the call failed that just ended with `STATUS_TRAPPED`.
fn take_failure(environment: &Environment, scope: Scope, _arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let Some(failure) = tables.take_failure() else { return Ok(None) };
    let object = scope.object();
    let Trap { code, message, frames } = *failure.trap;
    scope.set(object, "trap", scope.string(code.name()));
    scope.set(object, "message", scope.string(&cut(message.into_owned())));
    let frames = frames.iter().map(|frame| {
        let object = scope.object();
        if let Some(name) = &frame.function_name {
            scope.set(object, "functionName", scope.string(name));
        }
        scope.set(object, "functionIndex", scope.number(f64::from(frame.function_index)));
        if let Some(offset) = frame.offset {
            scope.set(object, "offset", scope.number(offset as f64));
        }
        object
    });
    scope.set(object, "frames", scope.array(frames));
    if let Some(thrown) = failure.thrown {
        if let Some(holder) = thrown.get(scope) {
            scope.set(object, "parked", holder);
        }
        thrown.delete(scope);
    }
    Ok(Some(object))
}

/// `globalGet()`: writes the value of export `WORD_FUNC` of instance `WORD_INSTANCE` to the first slot.
fn global_get(environment: &Environment, _scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let Entry { group, index: instance } = tables.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let value =
        with_realm!(&*group.enter()?, realm => realm.global_get(instance, export)).map_err(NativeError::from)?;
    let value = value.ok_or_else(|| NativeError::new(ErrorKind::Global, "the type of the global has no Value"))?;
    scratch.write_slots(&[value]);
    Ok(())
}

/// `globalSet()`: sets export `WORD_FUNC` of instance `WORD_INSTANCE` to the value in the first slot.
fn global_set(environment: &Environment, _scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let Entry { group, index: instance } = tables.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = [0];
    scratch.read_slots(&mut slots);
    with_realm!(&*group.enter()?, realm => realm.global_set(instance, export, slots[0])).map_err(NativeError::from)?;
    Ok(())
}

// Asynchronous calls

/// `invokeAsync(quota)`: begins a call of export `WORD_FUNC` of instance `WORD_INSTANCE` with
/// `WORD_COUNT` slots, and returns its number.
fn invoke_async(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let quota = tables.quotas.get(arguments.u32(scope, 0)?)?;
    let Entry { group, index: instance } = tables.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = Slots::new(count_of_slots(&scratch)?);
    scratch.read_slots(&mut slots);
    let work = Work { slots, what: What::Call { group, instance, export } };
    let call = environment.calls.enter(tables, scope, &scratch, &quota, work)?;
    Ok(Some(scope.number(f64::from(call))))
}

/// `nextEvent()`: writes the next event of asynchronous calls to the scratch buffer.
fn next_event(environment: &Environment, scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let is_new_tick = scratch.read_word(WORD_IS_NEW_TICK) != 0;
    let looks = scratch.read_word(WORD_LOOKS) != 0;
    environment.calls.next(tables, scope, &scratch, is_new_tick, looks);
    Ok(())
}

/// `answer()`: answers the guest of `WORD_CALL`. The results are in the slots, unless `WORD_HAS_THROWN`
/// is set.
fn answer(environment: &Environment, scope: Scope) -> CallResult {
    let tables = &environment.tables;
    let scratch = tables.scratch();
    let has_thrown = scratch.read_word(WORD_HAS_THROWN) != 0;
    environment.calls.answer(tables, scope, &scratch, scratch.read_word(WORD_CALL), has_thrown);
    Ok(())
}

/// `putOff()`: says that the answer for the guest of `WORD_CALL` comes later.
fn put_off(environment: &Environment, scope: Scope) -> CallResult {
    let tables = &environment.tables;
    environment.calls.put_off(tables, scope, tables.scratch().read_word(WORD_CALL));
    Ok(())
}

/// `within(call | 0)`: makes the code that runs from here on part of this call: it must end with the
/// call, and it uses the call's fuel.
fn within(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    environment.calls.set_within(&environment.tables, arguments.u32(scope, 0)?);
    Ok(None)
}

// Modules, memories and instances

/// `compile(engine, cache | null, wasm)`: compiles a module, or finds it in the cache. Returns the
/// wrapper that already represents this module. If there is none, the caller must create one and pass it
/// to `adoptModule` before anything else.
fn compile(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let engine = tables.engines.get(arguments.u32(scope, 0)?)?.engine;
    let cache = tables.cache(arguments.optional_u32(scope, 1)?)?;
    // SAFETY: no JavaScript runs and no memory grows while the engine compiles.
    let wasm = unsafe { arguments.bytes(scope, 2) }?;
    let module = engine.compile(wasm, cache.as_deref())?;
    Ok(tables.module_wrapper(scope, module))
}

/// `memoryView(memory)`: returns the memory's zero-copy ArrayBuffer, or nothing for an empty memory or
/// where the runtime forbids such buffers.
fn memory_view(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let Entry { group, index } = tables.memories.get(arguments.u32(scope, 0)?)?;
    let _entered = group.enter()?;
    group.shared_view(scope, index, tables.refuses_buffers.get())
}

/// `memoryRead(memory, address, dest)`.
fn memory_read(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let Entry { group, index } = tables.memories.get(arguments.u32(scope, 0)?)?;
    let address = arguments.u32(scope, 1)?;
    // SAFETY: no JavaScript runs and no memory grows during the copy.
    let dest = unsafe { arguments.bytes(scope, 2) }?;
    with_realm!(&*group.enter()?, realm => realm.memory_read(index, u64::from(address), dest))?;
    Ok(None)
}

/// `memoryWrite(memory, address, src)`.
fn memory_write(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let Entry { group, index } = tables.memories.get(arguments.u32(scope, 0)?)?;
    let address = arguments.u32(scope, 1)?;
    // SAFETY: no JavaScript runs and no memory grows during the copy.
    let src = unsafe { arguments.bytes(scope, 2) }?;
    with_realm!(&*group.enter()?, realm => realm.memory_write(index, u64::from(address), src))?;
    Ok(None)
}

/// `newMemory(wrapper, engine, initial, maximum | UNLIMITED)`: creates a memory in a group of its own,
/// and returns its number.
fn new_memory(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    tables.sweep_if_due(scope);
    let engine = tables.engines.get(arguments.u32(scope, 1)?)?;
    let minimum = u64::from(arguments.u32(scope, 2)?);
    let maximum = arguments.u32(scope, 3)?;
    let maximum = (maximum != u32::MAX).then_some(u64::from(maximum));
    tables.make_room(scope, &engine.limits, minimum.saturating_mul(PAGE_BYTES));
    let group = Rc::new(Group::new(engine.new_realm()));
    let index = with_realm!(&*group.enter()?, realm => realm.new_memory(MemoryType { minimum, maximum }))?;
    group.report(scope);
    let number = tables.memories.add(scope, Entry { group, index }, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

fn drop_memory(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    tables.remove_memory(scope, arguments.u32(scope, 0)?);
    Ok(None)
}

/// `instantiate(wrapper, module, engine, version, memories)`: creates an instance whose start function
/// has not run, and returns its number. `memories` is a Uint8Array over 32-bit numbers, one for each
/// import of the module: the number of a memory, or anything for an import of another kind.
fn instantiate(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    let engine = tables.engines.get(arguments.u32(scope, 2)?)?;
    let linking = {
        // SAFETY: copied at once.
        let memories = unsafe { arguments.bytes(scope, 4) }?;
        Linking::new(tables, arguments.u32(scope, 1)?, arguments.u32(scope, 3)?, memories)?
    };
    linking.make_room(tables, scope, &engine)?;
    let group = linking.common_group(tables, scope, &engine)?;
    let (carried, imports) = (linking.carried.clone(), linking.imports(tables)?);
    group.instances.count_made();
    let index = match (&*group.enter()?, &linking.module) {
        (AnyRealm::Wasmi(realm), AnyModule::Wasmi(module)) => realm.instantiate(module, carried, &imports),
        (AnyRealm::Wasmer(realm), AnyModule::Wasmer(module)) => realm.instantiate(module, carried, &imports),
        _ => return Err(NativeError::internal("the memory and the module are of different backends")),
    };
    let index = match index {
        Ok(index) => index,
        Err(error) => {
            tables.renew_if_worth(scope, &group);
            release_if_last(scope, group);
            return Err(error.into());
        }
    };
    group.add_extra(with_module!(&linking.module, module => module.instance_bytes));
    group.report(scope);
    let number = tables.add_instance(scope, group, index, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

fn drop_instance(environment: &Environment, scope: Scope, arguments: &Arguments) -> NativeResult {
    let tables = &environment.tables;
    tables.remove_instance(scope, arguments.u32(scope, 0)?);
    Ok(None)
}
