//! The native functions of asynchronous calls. Typed and described for TypeScript in `lib/native.ts`.

use super::{
    calls::{What, Work},
    functions::{count_of_slots, linking},
    raw::{Arguments, HotOutcome, Outcome, Registrar, Scope, Throw},
    scratch::{WORD_CALL, WORD_FUNC, WORD_HAS_THROWN, WORD_INSTANCE, WORD_IS_NEW_TURN, WORD_LOOKS},
    state::{Entry, State},
    table::Table,
};
use crate::{
    executor::pool::{NoThread, Pool, ThreadQuota},
    realm::Slots,
};

/// Puts these functions on `exports`.
pub fn register(registrar: &Registrar<'_>) {
    registrar.function("newBudget", new_budget);
    registrar.function("compileAsync", compile_async);
    registrar.function("compiledBy", compiled_by);
    registrar.function("instantiateAsync", instantiate_async);
    registrar.function("adoptInstance", adopt_instance);
    registrar.function("invokeAsync", invoke_async);
    registrar.function("hasTurnOfInstance", has_turn_of_instance);
    registrar.function("hasTurnOfMemory", has_turn_of_memory);
    registrar.function("within", within);
    registrar.function("stopCall", stop_call);
    registrar.function("takeRefusal", take_refusal);
    registrar.function("countThreadsForTests", count_threads_for_tests);
    registrar.hot_function("nextEvent", next_event);
    registrar.hot_function("answer", answer);
    registrar.hot_function("putOff", put_off);
}

/// `newBudget(wrapper, threads)`: the number of a quota of so many native threads.
fn new_budget(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let quota = ThreadQuota::new(arguments.u32(scope, 1)? as usize);
    Ok(Some(scope.number(f64::from(state.quotas.add(scope, quota, arguments.get(0))?))))
}

/// `compileAsync(engine, cache | NO_CACHE, wasm, quota)`: the number of a call that ends with a module, to be asked for by `compiledBy`. Its timeout
/// is in the scratch buffer.
fn compile_async(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let engine = state.engines.get(arguments.u32(scope, 0)?)?;
    let cache = state.cache(arguments.u32(scope, 1)?)?;
    // SAFETY: copied at once.
    let wasm = unsafe { arguments.bytes(scope, 2) }?.to_vec();
    let quota = state.quotas.get(arguments.u32(scope, 3)?)?;
    let compile = move || {
        if engine.engine.has_room_to_compile() {
            Ok(engine.engine.compile(&wasm, cache.as_deref()))
        } else {
            Err(NoThread::NoRoom)
        }
    };
    let call = state.calls.compile(state, scope, &state.scratch(), &quota, compile)?;
    Ok(Some(scope.number(f64::from(call))))
}

/// `compiledBy(call)`: the module with which that call has ended, as `compile` gives it.
fn compiled_by(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let module = state.calls.take_compiled(arguments.u32(scope, 0)?);
    let module = module.ok_or_else(|| Throw::internal("that call has compiled nothing"))?;
    Ok(state.module_wrapper(scope, module))
}

/// `instantiateAsync(module, engine, version, memories, quota)`: the number of a call that ends with an instance, whose start
/// function has run, to be adopted. Its timeout is in the scratch buffer.
fn instantiate_async(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.sweep_if_due(scope);
    let engine = state.engines.get(arguments.u32(scope, 1)?)?;
    let linking = linking(state, scope, arguments, [0, 2, 3])?;
    for group in linking.groups(state)? {
        state.renew_if_collected(scope, &group);
    }
    state.make_room(scope, &engine.limits, linking.initial_bytes());
    let quota = state.quotas.get(arguments.u32(scope, 4)?)?;
    let work = Work { slots: Slots::new(0), what: What::Instantiate { engine, linking } };
    let call = state.calls.enter(state, scope, &state.scratch(), &quota, work)?;
    Ok(Some(scope.number(f64::from(call))))
}

/// `adoptInstance(wrapper, call)`: the number of the instance with which that call has ended.
fn adopt_instance(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let made = state.calls.take_made(arguments.u32(scope, 1)?);
    let (group, index) = made.ok_or_else(|| Throw::internal("that call has made no instance"))?;
    let number = state.add_instance(scope, group, index, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

/// `invokeAsync(quota)`: the number of a call of export `WORD_FUNC` of instance `WORD_INSTANCE` with `WORD_COUNT` slots.
fn invoke_async(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let scratch = state.scratch();
    let quota = state.quotas.get(arguments.u32(scope, 0)?)?;
    let Entry { group, index: instance } = state.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = Slots::new(count_of_slots(&scratch)?);
    scratch.read_slots(&mut slots);
    let work = Work { slots, what: What::Call { group, instance, export } };
    let call = state.calls.enter(state, scope, &scratch, &quota, work)?;
    Ok(Some(scope.number(f64::from(call))))
}

/// `hasTurnOfInstance(call, instance)`: whether it is that call's turn in the group of that instance.
fn has_turn_of_instance(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    has_turn(state, &state.instances, scope, arguments)
}

/// `hasTurnOfMemory(call, memory)`: whether it is that call's turn in the group of that memory.
fn has_turn_of_memory(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    has_turn(state, &state.memories, scope, arguments)
}

fn has_turn(state: &State, table: &Table<Entry>, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, .. } = table.get(arguments.u32(scope, 1)?)?;
    Ok(Some(scope.boolean(state.calls.has_turn(arguments.u32(scope, 0)?, &group))))
}

/// `within(call | 0)`: what runs from here on is part of that call: it must end with it, and uses its fuel.
fn within(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.calls.set_within(state, arguments.u32(scope, 0)?);
    Ok(None)
}

/// `stopCall(call)`: ends it as soon as that can be, like a timeout.
fn stop_call(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.calls.stop(arguments.u32(scope, 0)?);
    Ok(None)
}

/// `takeRefusal()`: the error that says why the call was refused that `nextEvent` has just told of.
fn take_refusal(state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    let refusal = state.take_refusal().unwrap_or_else(|| Throw::internal("nothing was refused"));
    Ok(Some(scope.error(&refusal)))
}

/// `nextEvent()`: the next event of asynchronous calls.
fn next_event(state: &State, scope: Scope) -> HotOutcome {
    let scratch = state.scratch();
    let is_new_turn = scratch.read_word(WORD_IS_NEW_TURN) != 0;
    let looks = scratch.read_word(WORD_LOOKS) != 0;
    state.calls.next(state, scope, &scratch, is_new_turn, looks);
    Ok(())
}

/// `answer()`: the results for the guest of `WORD_CALL` are in the slots, unless `WORD_HAS_THROWN`.
fn answer(state: &State, scope: Scope) -> HotOutcome {
    let scratch = state.scratch();
    let has_thrown = scratch.read_word(WORD_HAS_THROWN) != 0;
    state.calls.answer(state, scope, &scratch, scratch.read_word(WORD_CALL), has_thrown);
    Ok(())
}

/// `putOff()`: the answer for the guest of `WORD_CALL` comes later.
fn put_off(state: &State, scope: Scope) -> HotOutcome {
    state.calls.put_off(state, scope, state.scratch().read_word(WORD_CALL));
    Ok(())
}

/// `countThreadsForTests()`: how many threads the pool of the process has.
fn count_threads_for_tests(_state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    Ok(Some(scope.number(Pool::get().thread_count() as f64)))
}
