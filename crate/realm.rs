//! A realm: one store and the tables of the objects in it. This is one group of design.md, a sandboxed memory and every
//! instance that imports it, on one engine.
//!
//! Objects are named by their index in the realm, so whoever holds a realm and an index can never use an object with a
//! store that it does not belong to. The realm runs guests ([`Realm::call`]), takes the calls that come out of them
//! ([`Realm::host_call`]) and can be used from inside such a call in every way, because each access goes through the
//! [`StoreSlot`].

mod links;
mod native;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::HashMap,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    rc::Rc,
    sync::{Arc, LazyLock},
};

use crate::{
    engine::{
        Control, Engine, Extern, GUEST_STACK_BYTES, ImportSite, Linked, MemoryRegion, RealmPtr, StoreLimits,
        UNLIMITED_FUEL,
        store_slot::{Lend, StoreSlot},
    },
    error::{GlobalError, HostTrap, InstantiateError, MemoryError, StoreError, Trap, TrapCode},
    interrupt::{Flag, Interrupt},
    module::{Memory0, Module},
    rewrite::ExportedMemory,
    total::{Charge, Superseded},
    value::{ExternType, FuncType, GlobalType, MAX_PAGES, MemoryType, PAGE_BYTES, ValueType},
};

use self::links::Links;
pub use self::native::{Caller, NativeFunc};

/// The slots of one call: zeros to begin with, and not on the heap in the common case.
pub struct Slots {
    inline: [u64; Self::INLINE],
    heap: Vec<u64>,
    count: usize,
}

impl Slots {
    const INLINE: usize = 8;

    #[inline(always)]
    pub fn new(count: usize) -> Self {
        let heap = if count > Self::INLINE { vec![0; count] } else { Vec::new() };
        Self { inline: [0; Self::INLINE], heap, count }
    }
}

impl std::ops::Deref for Slots {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        if self.count <= Self::INLINE { &self.inline[..self.count] } else { &self.heap }
    }
}

impl std::ops::DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        if self.count <= Self::INLINE { &mut self.inline[..self.count] } else { &mut self.heap }
    }
}

/// A mutable i64 global of an instance that travels with each of its host calls: its value goes along with the arguments, and what the host makes of it
/// comes back with the results.
#[derive(Debug, Clone)]
pub struct Carried {
    /// The place of the export; `None` if the instance has no such global.
    pub export: Option<u32>,
    /// What a host call fails with if there is no such global.
    pub missing: Cow<'static, str>,
}

/// A call out of a guest.
pub struct HostCall<'a> {
    /// The instance that is calling, by its index in the realm.
    pub instance: u32,
    /// The called function's place among the module's imported functions.
    pub import: u32,
    /// The value of the global that travels with the call, if one does, to be replaced by its new value.
    pub carried: Option<&'a mut i64>,
    /// The arguments, to be replaced by the results; as long as the larger of the two counts.
    pub slots: &'a mut [u64],
}

/// Whoever answers the calls that come out of guests, for the length of one [`Realm::call`].
pub trait Host {
    /// Answers one call. The realm's store is within reach meanwhile, also for further calls.
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>>;

    /// What stops the guest, if anything does. Asked once, before it is entered; only an interruptible engine heeds it while the
    /// guest computes, every engine when the guest returns from a call of the host's.
    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        None
    }

    /// What a metered guest may use, or may still use. Asked before it is entered, and when it goes on after a call of the host's.
    fn fuel(&self) -> u64 {
        UNLIMITED_FUEL
    }

    /// Tells what is left, before each call of the host's and after the guest has ended.
    fn set_fuel(&mut self, _left: u64) {}

    /// Whether memories may move when they grow: not while somebody has one's bytes who cannot be told.
    fn memories_may_move(&mut self) -> bool {
        true
    }
}

/// What an instance is linked with: for each import of its module, in order. Objects of the realm are named by their index in it.
#[derive(Clone)]
pub enum Import {
    /// A function that the host of the call answers.
    Host,
    /// A function that is answered where the guest runs.
    Native(Arc<dyn NativeFunc>),
    Func(u32),
    Global(u32),
    Table(u32),
    Memory(u32),
}

/// A function that an instance imports.
struct ImportedFunc {
    /// The first type of its parameters and results that no slot carries.
    unsupported: Option<ValueType>,
    native: Option<Arc<dyn NativeFunc>>,
}

/// What is called of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The export in that place.
    Export(u32),
    Start,
}

/// A call that was left until its host function has an answer. It means something only to its realm.
pub struct Suspended<E: Engine> {
    instance: u32,
    entry: Entry,
    suspension: E::Suspension,
}

/// What a host function came to after its call was left.
pub struct Answer<'a> {
    pub site: ImportSite,
    /// The new value of the global that travels with the call, if one does.
    pub carried: Option<i64>,
    pub results: &'a [u64],
}

/// The module of an instance. Calls count it with the instance, so that they need no atomic operation.
struct HeldModule<E: Engine>(Arc<Module<E>>);

impl<E: Engine> Deref for HeldModule<E> {
    type Target = Arc<Module<E>>;

    fn deref(&self) -> &Arc<Module<E>> {
        &self.0
    }
}

/// A function and what is needed to enter it.
struct Callee<E: Engine> {
    entry: Entry,
    func: E::Func,
    module: Rc<HeldModule<E>>,
    flag: Option<Flag>,
    meters: E::Meters,
}

impl<E: Engine> Callee<E> {
    fn ty(&self) -> Result<&FuncType, Box<Trap>> {
        /// `Module` refuses a start function of another type.
        static OF_START: LazyLock<FuncType> =
            LazyLock::new(|| FuncType { params: Box::default(), results: Box::default() });
        let Entry::Export(export) = self.entry else { return Ok(&OF_START) };
        match self.module.exports.get(export as usize).map(|export| &export.ty) {
            Some(ExternType::Func(ty)) => Ok(ty),
            _ => Err(no_function(self.entry).into()),
        }
    }
}

#[cold]
fn no_function(entry: Entry) -> Trap {
    Trap::with_message(TrapCode::Internal, format!("{entry:?} is not a function"))
}

impl<E: Engine> Lend for EngineStore<E> {
    type Context<'a> = E::Context<'a>;

    fn context(&mut self) -> E::Context<'_> {
        E::context(&mut self.0)
    }
}

/// An engine's store, as the slot wants it.
struct EngineStore<E: Engine>(E::Store);

struct Instance<E: Engine> {
    /// In the order of `Module::exports`.
    exports: Vec<Extern<E>>,
    start: Option<E::Func>,
    /// How its code is told to stop.
    flag: Option<Flag>,
    meters: E::Meters,
    _attached: E::Attached,
    /// What travels with its host calls, or what these fail with.
    carried: Option<Result<E::Global, Cow<'static, str>>>,
    module: Rc<HeldModule<E>>,
    imported_funcs: Box<[ImportedFunc]>,
    /// The exports that have an index in the realm.
    given: HashMap<u32, Import>,
    /// The realm's index of each imported memory, in order.
    imported: Box<[u32]>,
    /// The realm's index of each own memory that has been asked for, by its place among them.
    memories: Vec<(u32, u32)>,
    memory0: Option<OwnMemory0<E>>,
}

/// The memory 0 of an instance, if the module does not list it among its exports.
enum OwnMemory0<E: Engine> {
    /// It has an index in the realm.
    Known(u32),
    /// Nobody has asked for it yet.
    Handle(E::Memory),
}

/// One store and its objects. Always inside an `Rc`, because its host functions point back to it.
pub struct Realm<E: Engine> {
    engine: Arc<E>,
    is_metered: bool,
    limits: StoreLimits,
    /// What another realm has a copy of. Dropped before the store, whose bytes it counts again.
    superseded: Superseded,
    // Declared before the tables and dropped first, because the store must not outlive the modules of its instances.
    slot: StoreSlot<EngineStore<E>>,
    /// What the memories and tables of instances began with.
    charge: RefCell<Charge>,
    host: Cell<Option<NonNull<dyn Host>>>,
    /// What stops the innermost call. It outlives the call, which borrows it.
    interrupt: Cell<Option<NonNull<Interrupt>>>,
    memories: RefCell<Vec<E::Memory>>,
    funcs: RefCell<Vec<E::Func>>,
    globals: RefCell<Vec<E::Global>>,
    tables: RefCell<Vec<E::Table>>,
    links: RefCell<Option<Links<E>>>,
    /// Which of them belong to no instance.
    made: RefCell<Vec<bool>>,
    /// Somebody has the bytes of one who cannot be told when they move.
    is_pinned: Cell<bool>,
    instances: RefCell<Vec<Option<Instance<E>>>>,
}

impl<E: Engine> Realm<E> {
    /// Makes an empty realm.
    pub fn new(engine: &Arc<E>) -> Rc<Self> {
        Self::with_limits(engine, StoreLimits::default())
    }

    /// Makes an empty realm whose memories and tables are limited.
    pub fn with_limits(engine: &Arc<E>, limits: StoreLimits) -> Rc<Self> {
        Rc::new_cyclic(|realm| {
            let ptr = RealmPtr::from_weak(realm);
            Self {
                engine: engine.clone(),
                is_metered: engine.config().has_fuel,
                superseded: Superseded::new(limits.total.clone()),
                slot: StoreSlot::new(EngineStore(E::new_store(engine, &limits, ptr))),
                charge: RefCell::new(Charge::new(limits.total.clone())),
                limits,
                host: Cell::new(None),
                interrupt: Cell::new(None),
                memories: RefCell::default(),
                funcs: RefCell::default(),
                globals: RefCell::default(),
                tables: RefCell::default(),
                links: RefCell::new(None),
                made: RefCell::default(),
                is_pinned: Cell::new(false),
                instances: RefCell::default(),
            }
        })
    }

    /// The engine of all objects here.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// The limits of its memories and tables.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// Whether any instance was ever made here.
    pub fn has_instances(&self) -> bool {
        !self.instances.borrow().is_empty()
    }

    /// How many memories have an index.
    pub fn memory_count(&self) -> u32 {
        self.memories.borrow().len() as u32
    }

    // Memories

    /// Makes a memory and returns its index.
    pub fn new_memory(&self, ty: MemoryType) -> Result<u32, MemoryError> {
        if let Some(pages) = [ty.maximum, Some(ty.minimum)].into_iter().flatten().find(|pages| *pages > MAX_PAGES) {
            return Err(MemoryError::TooLarge { pages, limit: MAX_PAGES });
        }
        if let Some(maximum) = ty.maximum
            && ty.minimum > maximum
        {
            return Err(MemoryError::InitialAboveMaximum { initial: ty.minimum, maximum });
        }
        let bytes = ty.minimum.saturating_mul(PAGE_BYTES);
        if let Some(limit) = self.limits.memory_bytes.filter(|limit| bytes > *limit) {
            return Err(MemoryError::Limit { bytes, limit });
        }
        let memory = self.slot.with(|cx| E::new_memory(cx, ty))??;
        Ok(self.add_memory(memory, true))
    }

    /// A realm with an empty store and those memories of this one, as memories 0, 1 and so on. Their bytes stay where they are, unless they move when they grow,
    /// too; `may_move` says whether they may. No instance of this realm may run afterwards, and nobody may use those memories here. `None`, and
    /// nothing has changed, if that cannot be: a memory that an instance has defined stays with it, and so does all that a running guest may use.
    pub fn renew(&self, kept: &[u32], may_move: bool) -> Option<Rc<Self>> {
        if !kept.iter().all(|memory| self.is_made(*memory)) || self.host.get().is_some() {
            return None;
        }
        let renewed = Self::with_limits(&self.engine, self.limits.clone());
        let moved = self.slot.with(|from| {
            if !may_move && kept.iter().any(|memory| E::memory_moves(from, &self.memory(*memory))) {
                return Ok(None);
            }
            renewed.slot.with(|to| self.move_memories(from, to, kept))
        });
        for memory in moved.ok()?.ok()?? {
            renewed.add_memory(memory, true);
        }
        renewed.is_pinned.set(self.is_pinned.get());
        Some(renewed)
    }

    /// Whether the memory was made by [`Realm::new_memory`], and not by an instance.
    pub fn is_made(&self, index: u32) -> bool {
        self.made.borrow().get(index as usize).copied().unwrap_or(false)
    }

    /// Leaves empty memories in the places of those that [`Realm::renew`] has moved away, if this realm is to go on with its others.
    pub fn empty_memories(&self, moved: &[u32]) {
        for memory in moved {
            let empty = self.slot.with(|cx| E::new_memory(cx, MemoryType { minimum: 0, maximum: Some(0) }));
            if let Ok(Ok(empty)) = empty
                && let Some(place) = self.memories.borrow_mut().get_mut(*memory as usize)
            {
                *place = empty;
            }
        }
    }

    fn move_memories(
        &self,
        from: &mut E::Context<'_>,
        to: &mut E::Context<'_>,
        kept: &[u32],
    ) -> Option<Vec<E::Memory>> {
        let mut moved: Vec<E::Memory> = Vec::with_capacity(kept.len());
        for memory in kept {
            match E::move_memory(from, &self.memory(*memory), to) {
                Ok(memory) => moved.push(memory),
                Err(_) => {
                    for (memory, place) in moved.iter().zip(kept) {
                        if let Ok(back) = E::move_memory(to, memory, from) {
                            self.memories.borrow_mut()[*place as usize] = back;
                        }
                    }
                    return None;
                }
            }
        }
        Some(moved)
    }

    fn add_memory(&self, memory: E::Memory, is_made: bool) -> u32 {
        self.made.borrow_mut().push(is_made);
        let mut memories = self.memories.borrow_mut();
        memories.push(memory);
        memories.len() as u32 - 1
    }

    fn memory(&self, index: u32) -> E::Memory {
        // Indices come from this realm and are never given back.
        self.memories.borrow()[index as usize].clone()
    }

    /// Where the memory lies now.
    pub fn memory_region(&self, index: u32) -> Result<MemoryRegion, StoreError> {
        let memory = self.memory(index);
        self.slot.with(|cx| E::memory_region(cx, &memory))
    }

    /// The memory's type, as it was made.
    pub fn memory_type(&self, index: u32) -> Result<MemoryType, StoreError> {
        let memory = self.memory(index);
        self.slot.with(|cx| E::memory_type(cx, &memory))
    }

    /// Grows the memory by `delta` pages and returns its size before, in pages.
    pub fn memory_grow(&self, index: u32, delta: u64) -> Result<u64, MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            if let Some(limit) = self.limits.memory_bytes {
                let bytes = E::memory_region(cx, &memory).bytes as u64;
                if bytes.saturating_add(delta.saturating_mul(PAGE_BYTES)) > limit {
                    let reason = format!("it has {bytes} bytes, and the limit is {limit}");
                    return Err(MemoryError::Grow { delta, reason });
                }
            }
            if delta > 0 && self.is_pinned.get() && E::memory_moves(cx, &memory) {
                let reason = "its buffer was taken away from it, and its bytes must stay where they are".to_owned();
                return Err(MemoryError::Grow { delta, reason });
            }
            E::memory_grow(cx, &memory, delta)
        })?
    }

    /// Says whether somebody has the bytes of a memory who cannot be told when they move: then none of them does.
    pub fn pin_memories(&self, is_pinned: bool) {
        self.is_pinned.set(is_pinned);
    }

    /// Whether memories may move when a guest that is running has them grow.
    pub(crate) fn memories_may_move(&self) -> bool {
        // SAFETY: as in `lend`.
        !self.is_pinned.get() && self.host.get().is_none_or(|mut host| unsafe { host.as_mut() }.memories_may_move())
    }

    /// Copies `dest.len()` bytes at `address` out of the memory.
    pub fn memory_read(&self, index: u32, address: u64, dest: &mut [u8]) -> Result<(), MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            let from = in_bounds("read", E::memory_region(cx, &memory), address, dest.len())?;
            // SAFETY: `from` is `dest.len()` bytes of the memory, which stays as it is while we hold the context. `dest`
            // may be a view of that same memory, so the copy allows overlap.
            unsafe { std::ptr::copy(from, dest.as_mut_ptr(), dest.len()) };
            Ok(())
        })?
    }

    /// Copies `src` into the memory at `address`.
    pub fn memory_write(&self, index: u32, address: u64, src: &[u8]) -> Result<(), MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            let to = in_bounds("write", E::memory_region(cx, &memory), address, src.len())?;
            // SAFETY: `to` is `src.len()` bytes of the memory, which stays as it is while we hold the context. `src` may
            // be a view of that same memory, so the copy allows overlap.
            unsafe { std::ptr::copy(src.as_ptr(), to, src.len()) };
            Ok(())
        })?
    }

    // Instances

    /// Links an instance and returns its index. Its start function has not run: see [`Realm::start`].
    ///
    /// `imports` must be in the order of the module's imports.
    pub fn instantiate(
        &self,
        module: &Arc<Module<E>>,
        carried: Option<Carried>,
        imports: &[Import],
    ) -> Result<u32, InstantiateError> {
        if imports.len() != module.imports.len() {
            let counts = (module.imports.len(), imports.len());
            return Err(InstantiateError::Link(format!("the module has {} imports, {} are given", counts.0, counts.1)));
        }
        if module.engine != self.engine.id() {
            return Err(InstantiateError::Link("the module was compiled by another engine".to_owned()));
        }
        self.limit("a memory", "bytes", module.largest_memory, self.limits.memory_bytes)?;
        self.limit("a table", "elements", module.largest_table, Some(u64::from(self.limits.table_elements())))?;
        self.known(imports)?;
        self.link(module, imports)?;
        self.charge.borrow_mut().add(module.initial_bytes)?;
        // The host functions need the index; it is taken even if linking fails.
        let index = {
            let mut instances = self.instances.borrow_mut();
            instances.push(None);
            instances.len() as u32 - 1
        };
        let linked = self.slot.with(|cx| {
            let mut externs = Vec::with_capacity(imports.len());
            let mut funcs = 0;
            for (declared, given) in module.imports.iter().zip(imports) {
                let place = funcs;
                funcs += u32::from(matches!(declared.ty, ExternType::Func(_)));
                externs.push(match (&declared.ty, given) {
                    (ExternType::Func(ty), Import::Host | Import::Native(_)) => {
                        let site = ImportSite { instance: index, import: place };
                        Extern::Func(E::new_host_func(cx, RealmPtr::new(self), site, ty))
                    }
                    (ExternType::Func(_), Import::Func(func)) => {
                        Extern::Func(self.funcs.borrow()[*func as usize].clone())
                    }
                    (ExternType::Global(_), Import::Global(global)) => {
                        Extern::Global(self.globals.borrow()[*global as usize].clone())
                    }
                    (ExternType::Table(_), Import::Table(table)) => {
                        Extern::Table(self.tables.borrow()[*table as usize].clone())
                    }
                    (ExternType::Memory(_), Import::Memory(memory)) => Extern::Memory(self.memory(*memory)),
                    _ => {
                        let names = (&declared.module, &declared.name);
                        let message = format!("no import of that kind is given for {}.{}", names.0, names.1);
                        return Err(InstantiateError::Link(message));
                    }
                });
            }
            let hidden = match &module.memory0 {
                Some(Memory0::Hidden(name)) => Some(name),
                _ => None,
            };
            let listed = module.exports.iter().map(|export| &export.name);
            let names: Vec<&str> = listed.chain(&module.start).chain(hidden).map(String::as_str).collect();
            let externs = module.in_engine_order(externs);
            let Linked { mut exports, flag, meters, attached } =
                E::instantiate(cx, &self.limits, &module.compiled, &externs, &names)?;
            let hidden = match hidden.and_then(|_| exports.pop()) {
                Some(Extern::Memory(memory)) => Some(memory),
                _ => None,
            };
            let start = match module.start.as_ref().and_then(|_| exports.pop()) {
                Some(Extern::Func(start)) => Some(start),
                _ => None,
            };
            Ok((exports, start, hidden, flag, meters, attached))
        });
        let (exports, start, hidden, flag, meters, attached) = match linked.map_err(InstantiateError::from).flatten() {
            Ok(linked) => linked,
            Err(error) => {
                // What has failed later has left its memories and tables in the store.
                if !matches!(error, InstantiateError::Segment(_) | InstantiateError::Allocation(_)) {
                    self.charge.borrow_mut().give_back(module.initial_bytes);
                }
                return Err(error);
            }
        };
        let memory0 = match &module.memory0 {
            Some(Memory0::Imported(place)) => match imports.get(*place) {
                Some(Import::Memory(memory)) => Some(OwnMemory0::Known(*memory)),
                _ => None,
            },
            _ => hidden.map(OwnMemory0::Handle),
        };
        let imported = imports.iter().filter_map(|import| match import {
            Import::Memory(memory) => Some(*memory),
            _ => None,
        });
        let imported = imported.collect();
        let carried = carried.map(|Carried { export, missing }| {
            let declared = |place: u32| module.exports.get(place as usize).map(|export| &export.ty);
            let of_export = |place: u32| match (declared(place), exports.get(place as usize)) {
                (
                    Some(ExternType::Global(GlobalType { value: ValueType::I64, mutable: true })),
                    Some(Extern::Global(global)),
                ) => Some(global.clone()),
                _ => None,
            };
            export.and_then(of_export).ok_or(missing)
        });
        let funcs = module.imports.iter().zip(imports).filter_map(|(declared, import)| match (&declared.ty, import) {
            (ExternType::Func(ty), Import::Native(native)) => Some((ty, Some(native.clone()))),
            (ExternType::Func(ty), _) => Some((ty, None)),
            _ => None,
        });
        let imported_funcs =
            funcs.map(|(ty, native)| ImportedFunc { unsupported: ty.first_unsupported(), native }).collect();
        self.instances.borrow_mut()[index as usize] = Some(Instance {
            exports,
            start,
            flag,
            meters,
            _attached: attached,
            carried,
            module: Rc::new(HeldModule(module.clone())),
            imported_funcs,
            given: HashMap::new(),
            imported,
            memories: Vec::new(),
            memory0,
        });
        Ok(index)
    }

    /// Refuses an instance whose memory or table would begin beyond a limit.
    fn limit(
        &self,
        what: &'static str,
        unit: &'static str,
        size: u64,
        limit: Option<u64>,
    ) -> Result<(), InstantiateError> {
        match limit {
            Some(limit) if size > limit => Err(InstantiateError::Limit { what, size, unit, limit }),
            _ => Ok(()),
        }
    }

    /// Runs `f` on an instance's record. Short, and never while `f` could come back here.
    fn instance<R>(&self, index: u32, f: impl FnOnce(&Instance<E>) -> R) -> Option<R> {
        self.instances.borrow().get(index as usize).and_then(Option::as_ref).map(f)
    }

    /// The realm's index of an exported memory; `None` if that export is not a memory.
    pub fn exported_memory(&self, instance: u32, export: u32) -> Option<u32> {
        let (known, own, handle) = self.instance(instance, |entry| {
            let own = match entry.module.exported_memory(export)? {
                ExportedMemory::Imported(place) => return Some((entry.imported.get(place as usize).copied(), 0, None)),
                ExportedMemory::Own(own) => own,
            };
            let known = entry.memories.iter().find(|(known, _)| *known == own).map(|(_, memory)| *memory);
            let handle = match entry.exports.get(export as usize) {
                Some(Extern::Memory(memory)) => Some(memory.clone()),
                _ => None,
            };
            Some((known, own, handle))
        })??;
        if known.is_some() {
            return known;
        }
        let memory = self.add_memory(handle?, false);
        if let Some(Some(entry)) = self.instances.borrow_mut().get_mut(instance as usize) {
            entry.memories.push((own, memory));
        }
        Some(memory)
    }

    /// The realm's index of an instance's memory 0, be it imported, exported or neither; `None` if it has no memory.
    pub fn memory0(&self, instance: u32) -> Option<u32> {
        let exported = self.instance(instance, |entry| match (&entry.module.memory0, &entry.memory0) {
            (Some(Memory0::Exported(export)), _) => Err(*export as u32),
            (_, Some(OwnMemory0::Known(memory))) => Ok(Ok(*memory)),
            (_, Some(OwnMemory0::Handle(memory))) => Ok(Err(Some(memory.clone()))),
            (_, None) => Ok(Err(None)),
        })?;
        let handle = match exported {
            Err(export) => return self.exported_memory(instance, export),
            Ok(Ok(memory)) => return Some(memory),
            Ok(Err(handle)) => handle?,
        };
        // No other handle of a memory that is neither imported nor exported can have been given an index.
        let memory = self.add_memory(handle, false);
        if let Some(Some(entry)) = self.instances.borrow_mut().get_mut(instance as usize) {
            entry.memory0 = Some(OwnMemory0::Known(memory));
        }
        Some(memory)
    }

    /// The value of an exported global; `None` if that export is not a global whose type fits a slot.
    pub fn global_get(&self, instance: u32, export: u32) -> Result<Option<u64>, StoreError> {
        match self.exported_global(instance, export) {
            Some(global) => self.slot.with(|cx| E::global_get(cx, &global)),
            None => Ok(None),
        }
    }

    /// Sets an exported global; `false` if that export is not a global.
    pub fn global_set(&self, instance: u32, export: u32, slot: u64) -> Result<bool, GlobalError> {
        match self.exported_global(instance, export) {
            Some(global) => self.slot.with(|cx| E::global_set(cx, &global, slot))?.map(|()| true),
            None => Ok(false),
        }
    }

    fn exported_global(&self, instance: u32, export: u32) -> Option<E::Global> {
        let global = |entry: &Instance<E>| match entry.exports.get(export as usize) {
            Some(Extern::Global(global)) => Some(global.clone()),
            _ => None,
        };
        self.instance(instance, global).flatten()
    }

    // Calls

    /// Calls an exported function. `slots` has the arguments and gets the results; it must be as long as the larger count.
    /// `host` answers the supervisor calls that the guest makes meanwhile.
    pub fn call(&self, instance: u32, export: u32, slots: &mut [u64], host: &mut dyn Host) -> Result<(), Box<Trap>> {
        self.call_entry(instance, Entry::Export(export), slots, host)
    }

    /// Runs the start function, if there is one.
    pub fn start(&self, instance: u32, host: &mut dyn Host) -> Result<(), Box<Trap>> {
        if self.has_start(instance) { self.call_entry(instance, Entry::Start, &mut [], host) } else { Ok(()) }
    }

    #[inline]
    fn call_entry(&self, instance: u32, entry: Entry, slots: &mut [u64], host: &mut dyn Host) -> Result<(), Box<Trap>> {
        let callee = self.callee(instance, entry)?;
        self.enter(&callee, slots, host, |cx, ty, slots, control| E::call(cx, self, &callee.func, ty, slots, control))
    }

    /// As [`Realm::call`] and [`Realm::start`], but where the engine can suspend, `host` may put an answer off by
    /// [`HostTrap::Suspended`]: then the call is left, to be gone on with by [`Realm::resume`].
    pub fn call_suspendable(
        &self,
        instance: u32,
        entry: Entry,
        slots: &mut [u64],
        host: &mut dyn Host,
    ) -> Result<Option<Suspended<E>>, Box<Trap>> {
        if entry == Entry::Start && !self.has_start(instance) {
            return Ok(None);
        }
        let callee = self.callee(instance, entry)?;
        let left = self.enter(&callee, slots, host, |cx, ty, slots, control| {
            E::call_suspendable(cx, self, &callee.func, ty, slots, control)
        })?;
        Ok(left.map(|suspension| Suspended { instance, entry, suspension }))
    }

    /// Goes on with a call that was left. `answer` is what the host function came to, for the import from which it was left.
    pub fn resume(
        &self,
        suspended: Suspended<E>,
        answer: Answer<'_>,
        slots: &mut [u64],
        host: &mut dyn Host,
    ) -> Result<Option<Suspended<E>>, Box<Trap>> {
        let Suspended { instance, entry, suspension } = suspended;
        let callee = self.callee(instance, entry)?;
        let Some(host_ty) = callee.module.imported_funcs().nth(answer.site.import as usize) else {
            return Err(Trap::with_message(TrapCode::Internal, "no such import").into());
        };
        if answer.results.len() < host_ty.results.len() {
            return Err(Trap::with_message(TrapCode::Internal, "too few slots for the host function's type").into());
        }
        if let Some(carried) = answer.carried {
            let global = self.instance(answer.site.instance, |entry| entry.carried.clone()).flatten();
            let is_set =
                global.map(|global| self.slot.with(|cx| E::global_set(cx, &global.ok()?, carried as u64).ok()));
            if !matches!(is_set, Some(Ok(Some(())))) {
                return Err((*cannot_carry()).into());
            }
        }
        let left = self.enter(&callee, slots, host, |cx, ty, slots, control| {
            E::resume(cx, suspension, host_ty, answer.results, ty, slots, control)
        })?;
        Ok(left.map(|suspension| Suspended { instance, entry, suspension }))
    }

    fn has_start(&self, instance: u32) -> bool {
        self.instance(instance, |entry| entry.start.is_some()).unwrap_or(false)
    }

    #[inline]
    fn callee(&self, instance: u32, entry: Entry) -> Result<Callee<E>, Box<Trap>> {
        let found = self.instance(instance, |record| {
            let func = match entry {
                Entry::Start => record.start.clone()?,
                Entry::Export(export) => match record.exports.get(export as usize) {
                    Some(Extern::Func(func)) => func.clone(),
                    _ => return None,
                },
            };
            Some(Callee { entry, func, module: record.module.clone(), flag: record.flag, meters: record.meters })
        });
        found.flatten().ok_or_else(|| no_function(entry).into())
    }

    fn enter<R>(
        &self,
        callee: &Callee<E>,
        slots: &mut [u64],
        host: &mut dyn Host,
        run: impl FnOnce(&mut E::Context<'_>, &FuncType, &mut [u64], Control<'_, E>) -> Result<R, Box<Trap>>,
    ) -> Result<R, Box<Trap>> {
        let ty = callee.ty()?;
        if let Some(unsupported) = ty.first_unsupported() {
            let message = format!("a value of type {} cannot be passed", unsupported.name());
            return Err(Trap::with_message(TrapCode::Internal, message).into());
        }
        if slots.len() < ty.slots() {
            return Err(Trap::with_message(TrapCode::Internal, "too few slots for the function's type").into());
        }
        let interrupt = host.interrupt();
        let _entered = match &interrupt {
            Some(interrupt) => Some(interrupt.enter(callee.flag).ok_or_else(|| Trap::new(TrapCode::Interrupted))?),
            None => None,
        };
        let _linked = self.enter_linked(interrupt.as_deref(), callee.flag)?;
        let mut fuel = if self.is_metered { Some(host.fuel()) } else { None };
        let reached = NonNull::from(&mut *host);
        // SAFETY: only the lifetime of the trait object changes. `HostGuard` takes the pointer out of the realm again before
        // this function returns or unwinds, so `host` is alive whenever `host_call` finds it there.
        let reached: NonNull<dyn Host + 'static> = unsafe { std::mem::transmute(reached as NonNull<dyn Host + '_>) };
        let interrupt = interrupt.as_deref();
        let before = (self.host.replace(Some(reached)), self.interrupt.replace(interrupt.map(NonNull::from)));
        let turn = HostGuard { host: &self.host, interrupt: &self.interrupt, before };
        let control = Control { interrupt, fuel: fuel.as_mut(), meters: callee.meters };
        let outcome = self.slot.with(|cx| run(cx, ty, slots, control));
        drop(turn);
        if let Some(left) = fuel {
            host.set_fuel(left);
        }
        match outcome {
            Ok(outcome) => {
                outcome.map_err(|trap| with_source_offsets(self.with_limits_of_stack(*trap), &callee.module).into())
            }
            Err(error) => Err(Trap::with_message(TrapCode::Internal, error.to_string()).into()),
        }
    }

    /// Has a trap for the stack say what is the most of it that there is.
    fn with_limits_of_stack(&self, mut trap: Trap) -> Trap {
        if trap.code == TrapCode::StackOverflow {
            let config = self.engine.config();
            let depth = config.recursion_depth.map(|depth| depth as usize).or(E::DEFAULT_DEPTH);
            let depth = depth.map(|depth| format!(", limits.recursionDepth is {depth}")).unwrap_or_default();
            let bytes = config.stack_bytes.unwrap_or(GUEST_STACK_BYTES);
            trap.message = format!("{} (limits.stackBytes is {bytes}{depth})", trap.code.message()).into();
        }
        trap
    }

    /// Keeps `cx` for host functions while `f` runs a guest, see [`StoreSlot::park`].
    pub fn park<R>(&self, cx: &mut E::Context<'_>, f: impl FnOnce() -> R) -> R {
        self.slot.park(cx, f)
    }

    /// The same as [`Realm::host_call`] for an engine that parks the context.
    pub fn parked_host_call(&self, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        let outcome = self.slot.parked(|cx| self.host_call(cx, site, slots));
        outcome.unwrap_or_else(|| Err(refused("the store of the calling guest is out of reach")))
    }

    /// Takes a call out of a guest: what every host function of every engine does. `slots` has the arguments and gets the
    /// results. No panic leaves this function. The trap is boxed, because a large result costs each of the few frames around it
    /// several nanoseconds, also when there is no trap.
    pub fn host_call(&self, cx: &mut E::Context<'_>, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        let call = || self.answer(cx, site, slots);
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|panic| Err(Box::new(HostTrap::Panicked(panic_message(&*panic)))))
    }

    #[inline]
    fn answer(&self, cx: &mut E::Context<'_>, site: ImportSite, slots: &mut [u64]) -> Result<(), Box<HostTrap>> {
        // Nothing of the instance is copied out that this call does not need.
        let known = self.instance(site.instance, |entry| {
            let func = entry.imported_funcs.get(site.import as usize)?;
            Some((entry.carried.is_some(), func.unsupported, func.native.clone(), entry.meters))
        });
        let Some((is_carrying, unsupported, native, meters)) = known.flatten() else {
            return Err(refused("the calling instance is not complete"));
        };
        if let Some(ty) = unsupported {
            return Err(refused(format!("Unsupported function argument: {}", ty.name())));
        }
        if let Some(native) = native {
            return self.call_native(cx, &*native, site, meters, slots);
        }
        let Some(host) = self.host.get() else {
            return Err(refused("no supervisor is there to answer"));
        };
        if self.is_metered {
            self.begin_metered(cx, host, meters)?;
        }
        let outcome = self.ask(cx, host, site, is_carrying, slots);
        if self.is_metered {
            self.end_metered(cx, host, meters);
        }
        outcome
    }

    /// Tells the host what is left, because calls inside this one draw on it.
    #[cold]
    #[inline(never)]
    fn begin_metered(
        &self,
        cx: &mut E::Context<'_>,
        mut host: NonNull<dyn Host>,
        meters: E::Meters,
    ) -> Result<(), Box<HostTrap>> {
        let left = E::fuel_left(cx, meters).ok_or_else(|| Box::new(HostTrap::OutOfFuel))?;
        // SAFETY: as in `lend`.
        unsafe { host.as_mut() }.set_fuel(left);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn end_metered(&self, cx: &mut E::Context<'_>, host: NonNull<dyn Host>, meters: E::Meters) {
        // SAFETY: as in `lend`.
        E::set_fuel(cx, meters, unsafe { host.as_ref() }.fuel());
    }

    #[inline]
    fn ask(
        &self,
        cx: &mut E::Context<'_>,
        host: NonNull<dyn Host>,
        site: ImportSite,
        is_carrying: bool,
        slots: &mut [u64],
    ) -> Result<(), Box<HostTrap>> {
        let ImportSite { instance, import } = site;
        if !is_carrying {
            return self.lend(cx, host, HostCall { instance, import, carried: None, slots });
        }
        let mut value =
            self.with_carried(instance, |global| E::global_get(cx, global))?.ok_or_else(cannot_carry)? as i64;
        self.lend(cx, host, HostCall { instance, import, carried: Some(&mut value), slots })?;
        self.with_carried(instance, |global| E::global_set(cx, global, value as u64))?.map_err(|_| cannot_carry())
    }

    /// Uses the global of an instance that travels with its host calls.
    #[inline]
    fn with_carried<R>(&self, instance: u32, f: impl FnOnce(&E::Global) -> R) -> Result<R, Box<HostTrap>> {
        let used = self.instance(instance, |entry| match &entry.carried {
            Some(Ok(global)) => Ok(f(global)),
            Some(Err(missing)) => Err(refused(missing.clone())),
            None => Err(cannot_carry()),
        });
        used.unwrap_or_else(|| Err(cannot_carry()))
    }

    /// Lets the host answer with the store within reach.
    #[inline]
    fn lend(
        &self,
        cx: &mut E::Context<'_>,
        mut host: NonNull<dyn Host>,
        call: HostCall<'_>,
    ) -> Result<(), Box<HostTrap>> {
        // SAFETY: the pointer is the `host` of the innermost `enter` of this realm, whose frame is below us on this stack
        // and cannot end before the guest that is calling us does; that frame does not use `host` itself. A nested `enter`
        // during this call has a host of its own and puts this one back.
        let outcome = self.slot.lend(cx, || unsafe { host.as_mut() }.call(call));
        match self.interrupt.get() {
            None => outcome,
            Some(interrupt) => self.unless_interrupted(interrupt, outcome),
        }
    }

    /// The outcome of a host call, or the end of the call around it if that is to stop. Most calls have nothing that stops them.
    #[cold]
    #[inline(never)]
    fn unless_interrupted(
        &self,
        interrupt: NonNull<Interrupt>,
        outcome: Result<(), Box<HostTrap>>,
    ) -> Result<(), Box<HostTrap>> {
        // A call that is being left is not to be ended here: whoever has the answer looks.
        if matches!(outcome.as_ref().map_err(|trap| &**trap), Err(HostTrap::Suspended)) {
            return outcome;
        }
        // SAFETY: as for the host in `lend`: the interrupt is held by that same frame of `enter`.
        if unsafe { interrupt.as_ref() }.is_set() { Err(Box::new(HostTrap::Interrupted)) } else { outcome }
    }
}

#[cold]
fn cannot_carry() -> Box<HostTrap> {
    refused("the global that travels with the call is out of reach")
}

/// A call that could not be made.
#[cold]
fn refused(message: impl Into<Cow<'static, str>>) -> Box<HostTrap> {
    Box::new(HostTrap::Message(message.into()))
}

/// Puts the host of the call around back when a call ends, and what stops that call.
struct HostGuard<'a> {
    host: &'a Cell<Option<NonNull<dyn Host>>>,
    interrupt: &'a Cell<Option<NonNull<Interrupt>>>,
    before: (Option<NonNull<dyn Host>>, Option<NonNull<Interrupt>>),
}

impl Drop for HostGuard<'_> {
    fn drop(&mut self) {
        self.host.set(self.before.0);
        self.interrupt.set(self.before.1);
    }
}

/// Copies everything that `from` holds of a memory into a new memory of `to`, and returns its index there.
pub fn move_memory<E: Engine>(from: &Realm<E>, index: u32, to: &Realm<E>) -> Result<u32, MemoryError> {
    let declared = from.memory_type(index)?;
    let region = from.memory_region(index)?;
    let pages = region.bytes as u64 / PAGE_BYTES;
    // The two of them count once, so that there need not be room for both.
    from.superseded.add(region.bytes as u64);
    let moved = to.new_memory(MemoryType { minimum: pages.max(declared.minimum), ..declared });
    let moved = moved.inspect_err(|_| from.superseded.remove(region.bytes as u64))?;
    // SAFETY: `from` is idle (we just used it) and another realm than `to`, so nothing changes the region during the copy.
    let bytes = unsafe { std::slice::from_raw_parts(region.base, region.bytes) };
    // Pages that were never written are left untouched in the copy as well.
    for (page, chunk) in bytes.chunks(4096).enumerate().filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0)) {
        to.memory_write(moved, page as u64 * 4096, chunk)?;
    }
    Ok(moved)
}

/// The address of `length` bytes of a memory, if they all lie in it.
fn in_bounds(access: &'static str, region: MemoryRegion, address: u64, length: usize) -> Result<*mut u8, MemoryError> {
    let end = address.checked_add(length as u64);
    if end.is_none_or(|end| end > region.bytes as u64) {
        let (length, size) = (length as u64, region.bytes as u64);
        return Err(MemoryError::OutOfBounds { access, address, length, size });
    }
    Ok(region.base.wrapping_add(address as usize))
}

/// Frames with offsets in the binary that the user knows, which no one has rewritten and which has the start section still in it.
fn with_source_offsets<E: Engine>(mut trap: Trap, module: &Module<E>) -> Trap {
    for frame in &mut trap.frames {
        frame.offset = frame.offset.map(|offset| module.offsets.before(offset));
        frame.function_name = E::function_name(&module.compiled, frame.function_index).map(str::to_owned);
    }
    trap
}

/// The text of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "no message".to_owned(),
    }
}
