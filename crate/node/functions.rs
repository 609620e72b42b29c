//! The native functions, each a conversion and a call. Typed and described for TypeScript in `lib/native.ts`.

use std::{collections::HashMap, path::Path, rc::Rc, sync::Arc};

use napi::sys;

use super::{
    backend::{AnyEngine, AnyModule, AnyRealm, Cache, LimitedEngine, engine_count, with_module, with_realm},
    group::Group,
    linking::{Linking, Version},
    raw::{self, Arguments, HotOutcome, Outcome, Registrar, Scope, Stateless, Throw, Value},
    scratch::{MAX_SLOTS, Scratch, WORD_COUNT, WORD_FUNC, WORD_INSTANCE},
    state::{Entry, State, release_if_last},
    supervisor::{Deadline, Supervisor},
};
use crate::{
    cache::{ModuleCache, disk::DiskCache},
    engine::{
        Engine as _, EngineConfig, ExportType, ImportType, OptLevel, StoreLimits, features::Features, wasmer::Wasmer,
        wasmi::Wasmi,
    },
    error::{CompileError, GlobalError, InstantiateError, MemoryError, StoreError, Trap, cut},
    executor::pool::NoThread,
    interrupt::NoWatchdog,
    realm::Slots,
    total::TotalBytes,
    value::{ExternType, FuncType, MemoryType, PAGE_BYTES},
};

/// What the addon exports: its version, and a function that opens it for one copy of the package's JavaScript.
pub fn register(env: sys::napi_env, exports: Value) {
    // SAFETY: called by Node while it loads the addon, on the environment's thread.
    let scope = unsafe { Scope::new(env) };
    for (name, run) in [("version", version as Stateless), ("open", open)] {
        scope.set(exports, name, scope.stateless_function(name, run));
    }
}

/// `version()`: the package's version that the addon was built for.
fn version(scope: Scope, _arguments: &Arguments) -> Outcome {
    Ok(Some(scope.string(env!("CARGO_PKG_VERSION"))))
}

/// `open(scratch)`: an object with all other functions, which share no state with those of any other opening.
fn open(scope: Scope, arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(scope, arguments.get(0))?;
    raw::open(scope, State::new(scratch), define).map(Some)
}

/// Defines all functions of one opening.
fn define(registrar: &Registrar<'_>) {
    registrar.function("setup", setup);
    registrar.function("engine", engine);
    registrar.function("featureNames", feature_names);
    registrar.function("newCache", new_cache);
    registrar.function("serializeModule", serialize_module);
    registrar.function("deserializeModule", deserialize_module);
    registrar.function("compile", compile);
    registrar.function("adoptModule", adopt_module);
    registrar.function("describeModule", describe_module);
    registrar.function("newMemory", new_memory);
    registrar.function("dropMemory", drop_memory);
    registrar.function("memoryBytes", memory_bytes);
    registrar.function("memoryGrow", memory_grow);
    registrar.function("memoryBuffer", memory_buffer);
    registrar.function("memoryView", memory_view);
    registrar.function("memoryAddress", memory_address);
    registrar.function("memoryRead", memory_read);
    registrar.function("memoryWrite", memory_write);
    registrar.function("instantiate", instantiate);
    registrar.function("dropInstance", drop_instance);
    registrar.function("instanceAddress", instance_address);
    registrar.function("exportedMemory", exported_memory);
    registrar.function("memory0", memory0);
    registrar.function("memory0OfCall", memory0_of_call);
    registrar.function("takeFailure", take_failure);
    registrar.function("sweep", sweep);
    registrar.function("callForBench", call_for_bench);
    registrar.function("countForTests", count_for_tests);
    registrar.function("countEachForTests", count_each_for_tests);
    registrar.function("panicForTests", panic_for_tests);
    registrar.function("refuseBuffersForTests", refuse_buffers_for_tests);
    super::async_functions::register(registrar);
    registrar.hot_function("invoke", invoke);
    registrar.hot_function("start", start);
    registrar.hot_function("globalGet", global_get);
    registrar.hot_function("globalSet", global_set);
}

/// `setup(dispatch, drain)`: TypeScript's function that answers guests, and the one that takes the events of asynchronous calls.
fn setup(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.set_functions(scope, arguments.get(0), arguments.get(1))?;
    Ok(None)
}

// Engines and modules

/// `engine(wrapper, options)`: the number of an engine with limits for its stores. `options` are eleven doubles: backend (0 wasmi, 1 wasmer), optLevel
/// (0 none, 1 speed), interruptible, fuel, deterministic (0 or 1), the bits of the features, and recursionDepth, stackBytes, memoryBytes,
/// tableElements and totalBytes, or -1 for what is not limited.
fn engine(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    // SAFETY: read at once.
    let options = unsafe { arguments.bytes(scope, 1) }?;
    let (options, rest) = options.as_chunks();
    let &[backend, opt_level, interruptible, fuel, deterministic, features, recursion, stack, memory, table, total] =
        options
    else {
        return Err(Throw::internal("eleven options are needed"));
    };
    if !rest.is_empty() {
        return Err(Throw::internal("options must be doubles"));
    }
    let number = |bytes| f64::from_ne_bytes(bytes);
    let is_set = |bytes| number(bytes) != 0.0;
    let limit = |bytes| Some(number(bytes)).filter(|limit| *limit >= 0.0);
    let config = EngineConfig {
        opt_level: if is_set(opt_level) { OptLevel::Speed } else { OptLevel::None },
        interruptible: is_set(interruptible),
        has_fuel: is_set(fuel),
        deterministic: is_set(deterministic),
        features: Features::from_bits(number(features) as u32),
        recursion_depth: limit(recursion).map(|depth| depth as u32),
        stack_bytes: limit(stack).map(|bytes| bytes as usize),
        exact_memories: false,
    };
    let limits = StoreLimits {
        memory_bytes: limit(memory).map(|bytes| bytes as u64),
        table_elements: limit(table).map(|elements| elements as u32),
        // Of the stores that are made with this number, and no others.
        total: limit(total).map(|bytes| TotalBytes::new(bytes as u64)),
    };
    let name = if is_set(backend) { Wasmer::NAME } else { Wasmi::NAME };
    let engine = AnyEngine::named(name, &config)
        .ok_or_else(|| Throw::internal("unknown backend"))?
        .map_err(|error| Throw::new("engine", error))?;
    let number = state.engines.add(scope, LimitedEngine { engine, limits }, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

/// `featureNames()`: the names of the features, in the order of their bits.
fn feature_names(_state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    let names: Vec<_> = Features::names().map(|name| scope.string(name)).collect();
    Ok(Some(scope.array(names.into_iter())))
}

/// `newCache(wrapper, entries, folder)`: the number of a cache, on disk as well in that folder, whose path is UTF-8, unless it is empty.
fn new_cache(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let entries = arguments.u32(scope, 1)? as usize;
    // SAFETY: read at once.
    let folder = unsafe { arguments.bytes(scope, 2) }?;
    let folder = str::from_utf8(folder).map_err(|_| Throw::internal("the folder is not UTF-8"))?;
    let open = || DiskCache::open(Path::new(folder)).map_err(|error| Throw::new("cache-folder", error));
    let disk = if folder.is_empty() { None } else { Some(open()?) };
    let cache = Arc::new(Cache { modules: ModuleCache::new(entries), disk });
    Ok(Some(scope.number(f64::from(state.caches.add(scope, cache, arguments.get(0))?))))
}

/// `serializeModule(engine, module, wasm)`: the module, which was compiled from `wasm`, as bytes.
fn serialize_module(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let engine = state.engines.get(arguments.u32(scope, 0)?)?.engine;
    let module = state.modules.get(arguments.u32(scope, 1)?)?;
    // SAFETY: read at once.
    let wasm = unsafe { arguments.bytes(scope, 2) }?;
    let bytes = engine.serialize(wasm, &module)?;
    // SAFETY: the bytes are alive during the copy.
    Ok(Some(unsafe { scope.copied_buffer(bytes.as_ptr(), bytes.len()) }?))
}

/// `deserializeModule(engine, bytes)`: the module in such bytes, as `compile` gives it; how many bytes its binary has is in `WORD_COUNT`.
fn deserialize_module(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let engine = state.engines.get(arguments.u32(scope, 0)?)?.engine;
    // SAFETY: no JavaScript runs meanwhile.
    let bytes = unsafe { arguments.bytes(scope, 1) }?;
    // SAFETY: JavaScript's `unsafeDeserialize` passes that on to its caller.
    let (module, length) = unsafe { engine.deserialize(bytes) }?;
    state.scratch().write_word(WORD_COUNT, u32::try_from(length).unwrap_or(u32::MAX));
    Ok(state.module_wrapper(scope, module))
}

/// `compile(engine, cache | NO_CACHE, wasm)`: the wrapper that stands for this compiled module already. If there is none, one must be made and be
/// given to `adoptModule` at once.
fn compile(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let engine = state.engines.get(arguments.u32(scope, 0)?)?;
    let cache = state.cache(arguments.u32(scope, 1)?)?;
    // SAFETY: no JavaScript runs and no memory grows while the engine compiles.
    let wasm = unsafe { arguments.bytes(scope, 2) }?;
    if !engine.engine.has_room_to_compile() {
        return Err(NoThread::NoRoom.into());
    }
    let module = engine.engine.compile(wasm, cache.as_deref())?;
    Ok(state.module_wrapper(scope, module))
}

/// `adoptModule(wrapper)`: the number of the module for which there was no wrapper.
fn adopt_module(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    Ok(Some(scope.number(f64::from(state.claim_module(scope, arguments.get(0))?))))
}

/// `describeModule(module)`: its imports and exports.
fn describe_module(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let module = state.modules.get(arguments.u32(scope, 0)?)?;
    let description = scope.object();
    with_module!(&module, module => {
        let mut describer = Describer::new(scope);
        let imports = module.imports.iter().map(|ImportType { module, name, ty }| {
            let import = describer.describe(name, ty);
            scope.set_by(import, describer.keys.module, scope.string(module));
            import
        });
        scope.set(description, "imports", scope.array(imports));
        let exports = module.exports.iter().map(|ExportType { name, ty }| describer.describe(name, ty));
        scope.set(description, "exports", scope.array(exports));
        scope.set(description, "hasStart", scope.boolean(module.start.is_some()));
        let memory0 = module.exported_memory0.map_or(-1.0, |export| export as f64);
        scope.set(description, "exportedMemory0", scope.number(memory0));
    });
    Ok(Some(description))
}

/// Describes imports and exports. Each word and each type of functions is made once: a module of some KB may have hundreds of thousands of exports, or
/// hundreds of functions of a type with a thousand parameters.
struct Describer<'a> {
    scope: Scope,
    keys: Keys,
    words: HashMap<&'static str, Value>,
    func_types: HashMap<&'a FuncType, Value>,
}

/// The names of properties.
struct Keys {
    module: Value,
    name: Value,
    kind: Value,
    ty: Value,
}

impl<'a> Describer<'a> {
    fn new(scope: Scope) -> Self {
        let [module, name, kind, ty] = ["module", "name", "kind", "type"].map(|key| scope.string(key));
        let keys = Keys { module, name, kind, ty };
        Self { scope, keys, words: HashMap::new(), func_types: HashMap::new() }
    }

    fn word(&mut self, word: &'static str) -> Value {
        let scope = self.scope;
        *self.words.entry(word).or_insert_with(|| scope.string(word))
    }

    /// `{ name, kind, type }`.
    fn describe(&mut self, name: &str, ty: &'a ExternType) -> Value {
        let scope = self.scope;
        let kind = match ty {
            ExternType::Func(_) => "function",
            ExternType::Memory(_) => "memory",
            ExternType::Table(_) => "table",
            ExternType::Global(_) => "global",
            ExternType::Other => "other",
        };
        let described = scope.object();
        scope.set_by(described, self.keys.name, scope.string(name));
        scope.set_by(described, self.keys.kind, self.word(kind));
        scope.set_by(described, self.keys.ty, self.type_of(ty));
        described
    }

    fn type_of(&mut self, ty: &'a ExternType) -> Value {
        let scope = self.scope;
        let limits = |object, minimum: u64, maximum: Option<u64>| {
            scope.set(object, "minimum", scope.number(minimum as f64));
            if let Some(maximum) = maximum {
                scope.set(object, "maximum", scope.number(maximum as f64));
            }
        };
        match ty {
            ExternType::Func(ty) => self.func_type(ty),
            ExternType::Memory(ty) => {
                let object = scope.object();
                limits(object, ty.minimum, ty.maximum);
                object
            }
            ExternType::Table(ty) => {
                let object = scope.object();
                scope.set(object, "element", self.word(ty.element.name()));
                limits(object, ty.minimum, ty.maximum);
                object
            }
            ExternType::Global(ty) => {
                let object = scope.object();
                scope.set(object, "value", self.word(ty.value.name()));
                scope.set(object, "mutable", scope.boolean(ty.mutable));
                object
            }
            ExternType::Other => scope.object(),
        }
    }

    fn func_type(&mut self, ty: &'a FuncType) -> Value {
        if let Some(known) = self.func_types.get(ty) {
            return *known;
        }
        let object = self.scope.object();
        for (key, types) in [("parameters", &ty.params), ("results", &ty.results)] {
            let words: Vec<_> = types.iter().map(|ty| self.word(ty.name())).collect();
            self.scope.set(object, key, self.scope.array(words.into_iter()));
        }
        self.func_types.insert(ty, object);
        object
    }
}

// Memories

/// `newMemory(wrapper, engine, initial, maximum | UNLIMITED)`: the number of a memory in a group of its own.
fn new_memory(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.sweep_if_due(scope);
    let engine = state.engines.get(arguments.u32(scope, 1)?)?;
    let minimum = u64::from(arguments.u32(scope, 2)?);
    let maximum = arguments.u32(scope, 3)?;
    let maximum = (maximum != u32::MAX).then_some(u64::from(maximum));
    state.make_room(scope, &engine.limits, minimum.saturating_mul(PAGE_BYTES));
    let group = Rc::new(Group::new(engine.new_realm()));
    let index = with_realm!(&*group.enter()?, realm => realm.new_memory(MemoryType { minimum, maximum }))?;
    group.report(scope);
    let number = state.memories.add(scope, Entry { group, index }, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

fn drop_memory(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.remove_memory(scope, arguments.u32(scope, 0)?);
    Ok(None)
}

/// `memoryBytes(memory)`: its size in bytes.
fn memory_bytes(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let region = with_realm!(&*group.enter()?, realm => realm.memory_region(index))?;
    Ok(Some(scope.number(region.bytes as f64)))
}

/// `memoryGrow(memory, pages)`: its size before, in pages.
fn memory_grow(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let number = arguments.u32(scope, 0)?;
    let delta = u64::from(arguments.u32(scope, 1)?);
    let Entry { group, .. } = state.memories.get(number)?;
    let limits = with_realm!(&*group.enter()?, realm => realm.limits().clone());
    state.make_room(scope, &limits, delta.saturating_mul(PAGE_BYTES));
    // To make room may have given it another place.
    let Entry { group, index } = state.memories.get(number)?;
    let realm = group.enter()?;
    group.pin(scope);
    let before = with_realm!(&*realm, realm => realm.memory_grow(index, delta))?;
    group.detach_stale(scope);
    group.report(scope);
    Ok(Some(scope.number(before as f64)))
}

/// `memoryBuffer(memory)`: its zero-copy ArrayBuffer.
fn memory_buffer(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let _entered = group.enter()?;
    group.view(scope, index, state.refuses_buffers.get()).map(Some)
}

/// `memoryView(memory)`: the same, but nothing for an empty memory, or where the runtime forbids such buffers.
fn memory_view(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let _entered = group.enter()?;
    group.shared_view(scope, index, state.refuses_buffers.get())
}

/// `memoryAddress(memory)`: where its first byte lies in this process, until it grows.
fn memory_address(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let region = with_realm!(&*group.enter()?, realm => realm.memory_region(index))?;
    Ok(Some(scope.bigint(region.base as u64)))
}

/// `memoryRead(memory, address, dest)`.
fn memory_read(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let address = arguments.u32(scope, 1)?;
    // SAFETY: no JavaScript runs and no memory grows during the copy.
    let dest = unsafe { arguments.bytes(scope, 2) }?;
    with_realm!(&*group.enter()?, realm => realm.memory_read(index, u64::from(address), dest))?;
    Ok(None)
}

/// `memoryWrite(memory, address, src)`.
fn memory_write(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index } = state.memories.get(arguments.u32(scope, 0)?)?;
    let address = arguments.u32(scope, 1)?;
    // SAFETY: no JavaScript runs and no memory grows during the copy.
    let src = unsafe { arguments.bytes(scope, 2) }?;
    with_realm!(&*group.enter()?, realm => realm.memory_write(index, u64::from(address), src))?;
    Ok(None)
}

// Instances

/// `instantiate(wrapper, module, engine, version, memories)`: the number of an instance whose start function has not run.
/// `memories` is a Uint8Array over 32-bit numbers, one for each import of the module: a memory, or anything for another kind.
fn instantiate(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.sweep_if_due(scope);
    let engine = state.engines.get(arguments.u32(scope, 2)?)?;
    let linking = linking(state, scope, arguments, [1, 3, 4])?;
    for group in linking.groups(state)? {
        state.renew_if_collected(scope, &group);
    }
    state.make_room(scope, &engine.limits, linking.initial_bytes());
    let group = linking.common_group(state, scope, &engine)?;
    let (carried, imports) = (linking.carried.clone(), linking.imports(state)?);
    group.count_made();
    let index = match (&*group.enter()?, &linking.module) {
        (AnyRealm::Wasmi(realm), AnyModule::Wasmi(module)) => realm.instantiate(module, carried, &imports),
        (AnyRealm::Wasmer(realm), AnyModule::Wasmer(module)) => realm.instantiate(module, carried, &imports),
        _ => return Err(Throw::internal("the memory and the module are of different backends")),
    };
    let index = match index {
        Ok(index) => index,
        Err(error) => {
            state.renew_if_worth(scope, &group);
            release_if_last(scope, group);
            return Err(error.into());
        }
    };
    group.add_extra(with_module!(&linking.module, module => module.instance_bytes));
    group.report(scope);
    let number = state.add_instance(scope, group, index, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

/// What is to be linked, from the arguments at these places: a module, a version, and the memories.
pub fn linking(state: &State, scope: Scope, arguments: &Arguments, places: [usize; 3]) -> Result<Linking, Throw> {
    let module = state.modules.get(arguments.u32(scope, places[0])?)?;
    let version = if arguments.u32(scope, places[1])? == 2 { Version::V2 } else { Version::V1 };
    // SAFETY: copied at once.
    let memories = unsafe { arguments.bytes(scope, places[2]) }?;
    Linking::new(module, version, memories)
}

fn drop_instance(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.remove_instance(scope, arguments.u32(scope, 0)?);
    Ok(None)
}

/// `instanceAddress(instance)`: an address that only this instance has.
fn instance_address(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let address = state.instances.identity(arguments.u32(scope, 0)?)?;
    Ok(Some(scope.bigint(address as u64)))
}

/// `exportedMemory(wrapper, instance, export)`: the number of a memory that the instance exports.
fn exported_memory(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index: instance } = state.instances.get(arguments.u32(scope, 1)?)?;
    let export = arguments.u32(scope, 2)?;
    let index = with_realm!(&*group.enter()?, realm => realm.exported_memory(instance, export));
    let index = index.ok_or_else(|| Throw::internal(format!("export {export} is not a memory")))?;
    let number = state.memories.add(scope, Entry { group, index }, arguments.get(0))?;
    Ok(Some(scope.number(f64::from(number))))
}

/// `memory0(wrapper, instance)`: the number of the instance's memory 0, imported, exported or neither; nothing if it has none.
fn memory0(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Entry { group, index: instance } = state.instances.get(arguments.u32(scope, 1)?)?;
    add_memory0(state, scope, group, instance, arguments.get(0))
}

/// `memory0OfCall(wrapper, call)`: the same for the instance whose start function waits for its supervisor in that asynchronous call.
fn memory0_of_call(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let Some((group, instance)) = state.calls.asking(arguments.u32(scope, 1)?)? else { return Ok(None) };
    add_memory0(state, scope, group, instance, arguments.get(0))
}

fn add_memory0(state: &State, scope: Scope, group: Rc<Group>, instance: u32, wrapper: Value) -> Outcome {
    let index = with_realm!(&*group.enter()?, realm => realm.memory0(instance));
    let Some(index) = index else { return Ok(None) };
    let number = state.memories.add(scope, Entry { group, index }, wrapper)?;
    Ok(Some(scope.number(f64::from(number))))
}

// Calls

/// `invoke()`: calls export `WORD_FUNC` of instance `WORD_INSTANCE` with `WORD_COUNT` slots.
fn invoke(state: &State, scope: Scope) -> HotOutcome {
    let scratch = state.scratch();
    let Entry { group, index: instance } = state.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = Slots::new(count_of_slots(&scratch)?);
    scratch.read_slots(&mut slots);
    let realm = group.enter()?;
    let begun = Deadline::begin(state, &scratch)?;
    {
        let mut supervisor = Supervisor::new(state, scope, &group, &scratch, begun);
        let outcome = with_realm!(&*realm, realm => realm.call(instance, export, &mut slots, &mut supervisor));
        supervisor.finish(outcome, &slots);
    }
    drop(realm);
    release_if_last(scope, group);
    Ok(())
}

/// How many slots a call has. (Slots in a `Result` would be copied.)
#[inline(always)]
pub fn count_of_slots(scratch: &Scratch) -> Result<usize, Throw> {
    let count = scratch.read_word(WORD_COUNT) as usize;
    if count > MAX_SLOTS { Err(Throw::internal("too many slots")) } else { Ok(count) }
}

/// `start()`: runs the start function of instance `WORD_INSTANCE`.
fn start(state: &State, scope: Scope) -> HotOutcome {
    let scratch = state.scratch();
    let Entry { group, index: instance } = state.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let realm = group.enter()?;
    let begun = Deadline::begin(state, &scratch)?;
    {
        let mut supervisor = Supervisor::new(state, scope, &group, &scratch, begun);
        let outcome = with_realm!(&*realm, realm => realm.start(instance, &mut supervisor));
        supervisor.finish(outcome, &[]);
    }
    drop(realm);
    release_if_last(scope, group);
    Ok(())
}

/// `takeFailure()`: how the call that just came back with `STATUS_TRAPPED` failed.
fn take_failure(state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    let Some(failure) = state.take_failure() else { return Ok(None) };
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

// Globals

/// `globalGet()`: the value of export `WORD_FUNC` of instance `WORD_INSTANCE` comes back in the first slot; the status
/// tells whether there is one.
fn global_get(state: &State, scope: Scope) -> HotOutcome {
    let _ = scope;
    let scratch = state.scratch();
    let Entry { group, index: instance } = state.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let value = with_realm!(&*group.enter()?, realm => realm.global_get(instance, export)).map_err(Throw::from)?;
    let value = value.ok_or_else(|| Throw::new("global", "the type of the global has no Value"))?;
    scratch.write_slots(&[value]);
    Ok(())
}

/// `globalSet()`: sets export `WORD_FUNC` of instance `WORD_INSTANCE` to the first slot.
fn global_set(state: &State, scope: Scope) -> HotOutcome {
    let _ = scope;
    let scratch = state.scratch();
    let Entry { group, index: instance } = state.instances.get(scratch.read_word(WORD_INSTANCE))?;
    let export = scratch.read_word(WORD_FUNC);
    let mut slots = [0];
    scratch.read_slots(&mut slots);
    with_realm!(&*group.enter()?, realm => realm.global_set(instance, export, slots[0])).map_err(Throw::from)?;
    Ok(())
}

// The rest

/// `sweep()`: drops what belongs to wrappers that have been collected, and tells whether anything is left.
fn sweep(state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    state.sweep(scope);
    Ok(Some(scope.boolean(state.has_entries())))
}

/// `callForBench(function, times)`: the bare `napi_call_function` that benchmarks compare with.
fn call_for_bench(_state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    let receiver = scope.undefined();
    let mut handles = super::raw::RenewedScope::new(scope);
    for _ in 0..arguments.u32(scope, 1)? {
        handles.renew();
        if !scope.call(receiver, arguments.get(0)) {
            break;
        }
    }
    Ok(None)
}

/// `countForTests()`: how many memories and instances there are, also those that only wait for the collector.
fn count_for_tests(state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    let count = state.memories.len() + state.instances.len();
    Ok(Some(scope.number(count as f64)))
}

/// `countEachForTests()`: how many objects of each kind there are, also those that only wait for the collector, and how many engines the process has.
fn count_each_for_tests(state: &State, scope: Scope, _arguments: &Arguments) -> Outcome {
    let counts = scope.object();
    for (name, count) in [
        ("engines", state.engines.len()),
        ("caches", state.caches.len()),
        ("budgets", state.quotas.len()),
        ("modules", state.modules.len()),
        ("memories", state.memories.len()),
        ("instances", state.instances.len()),
        ("enginesOfProcess", engine_count()),
    ] {
        scope.set(counts, name, scope.number(count as f64));
    }
    Ok(Some(counts))
}

/// `refuseBuffersForTests(refuses)`: whether to behave as in a runtime that forbids buffers over native memory.
fn refuse_buffers_for_tests(state: &State, scope: Scope, arguments: &Arguments) -> Outcome {
    state.refuses_buffers.set(arguments.u32(scope, 0)? != 0);
    Ok(None)
}

/// `panicForTests()`: proves that a panic becomes an error.
fn panic_for_tests(_state: &State, _scope: Scope, _arguments: &Arguments) -> Outcome {
    panic!("on purpose, for a test")
}

// Errors: which kind of JavaScript error each becomes

impl From<NoWatchdog> for Throw {
    fn from(error: NoWatchdog) -> Self {
        Self::new("limit", error)
    }
}

impl From<StoreError> for Throw {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Busy => "busy",
            StoreError::Poisoned => "poisoned",
        };
        Self::new(kind, error)
    }
}

impl From<MemoryError> for Throw {
    fn from(error: MemoryError) -> Self {
        let kind = match &error {
            MemoryError::InitialAboveMaximum { .. } | MemoryError::TooLarge { .. } => "memory-size",
            MemoryError::Grow { .. } => "memory-grow",
            MemoryError::Allocation(_) | MemoryError::Limit { .. } | MemoryError::Total(_) => "limit",
            MemoryError::OutOfBounds { .. } => "out-of-bounds",
            MemoryError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}

impl From<CompileError> for Throw {
    fn from(error: CompileError) -> Self {
        let kind = match &error {
            CompileError::Refused(_) => "module",
            CompileError::Allocation(_) => "limit",
        };
        Self::new(kind, error)
    }
}

impl From<GlobalError> for Throw {
    fn from(error: GlobalError) -> Self {
        let kind = match &error {
            GlobalError::Immutable | GlobalError::Type(_) => "global",
            GlobalError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}

impl From<InstantiateError> for Throw {
    fn from(error: InstantiateError) -> Self {
        let kind = match &error {
            InstantiateError::Link(_) | InstantiateError::Segment(_) => "link",
            InstantiateError::CpuFeature(_) => "cpu-feature",
            InstantiateError::Limit { .. } | InstantiateError::Total(_) | InstantiateError::Allocation(_) => "limit",
            InstantiateError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}
