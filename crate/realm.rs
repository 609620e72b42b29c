//! A realm: one store and the tables of the objects in it. It corresponds to one group of design.md: a
//! sandboxed memory and every instance that imports it, on one engine.
//!
//! Objects are identified by their index in the realm, so whoever holds a realm and an index can never
//! use an object with a store that it does not belong to. The realm runs guests ([`Realm::call`]) and
//! takes the calls that guests make to their host ([`Realm::host_call`]). It can be used in every way
//! from inside such a call, because each access goes through the [`StoreSlot`].

mod calls;
mod host_calls;
mod instances;
mod links;
mod memories;
mod native;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::HashMap,
    ops::Deref,
    ptr::NonNull,
    rc::Rc,
    sync::Arc,
};

use crate::{
    engine::{
        Engine, Extern, ImportSite, RealmPtr, StoreLimits, UNLIMITED_FUEL,
        store_slot::{Lend, StoreSlot},
    },
    error::HostTrap,
    interrupt::{Flag, Interrupt},
    module::Module,
    total::{Charge, Superseded},
    value::ValueType,
};

use self::links::Links;
pub use self::{
    memories::move_memory,
    native::{Caller, NativeFunc},
};

/// The slots of one call. They begin as zeros and are usually not on the heap.
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

/// A mutable i64 global of an instance that travels with each of its host calls: its value is passed
/// with the arguments, and the host returns a new value with the results.
#[derive(Debug, Clone)]
pub struct Carried {
    /// The index of the export; `None` if the instance has no such global.
    pub export: Option<u32>,
    /// The message of the failure of a host call if there is no such global.
    pub missing: Cow<'static, str>,
}

/// A call from a guest to its host.
pub struct HostCall<'a> {
    /// The instance that is calling, by its index in the realm.
    pub instance: u32,
    /// The called function's place among the module's imported functions.
    pub import: u32,
    /// The value of the carried global, if there is one. The host replaces it with the new value.
    pub carried: Option<&'a mut i64>,
    /// The arguments, which the host replaces with the results. The length is the larger of the two
    /// counts.
    pub slots: &'a mut [u64],
}

/// Answers the calls that guests make to their host during one [`Realm::call`].
pub trait Host {
    /// Answers one call. The realm's store is accessible meanwhile, also for further calls.
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>>;

    /// The interrupt of the guest's call, if there is one. Requested once, before the guest is entered.
    /// Only an interruptible engine checks it while the guest computes. Every engine checks it when a
    /// host call returns to the guest.
    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        None
    }

    /// The remaining fuel of a metered guest. Requested before the guest is entered, and when a host
    /// call returns to it.
    fn fuel(&self) -> u64 {
        UNLIMITED_FUEL
    }

    /// Receives the remaining fuel, before each host call and after the guest has ended.
    fn set_fuel(&mut self, _left: u64) {}

    /// Whether memories may move when they grow. They must not while a transferred buffer, which cannot
    /// be detached, has their bytes.
    fn memories_may_move(&mut self) -> bool {
        true
    }
}

/// What an import of an instance is linked with. There is one for each import of the module, in order.
/// Objects of the realm are identified by their index in it.
#[derive(Clone)]
pub enum Import {
    /// A function that the host of the call answers.
    Host,
    /// A function that runs on the guest's thread, without the host of the call.
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

/// The function of an instance to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The export with this index.
    Export(u32),
    Start,
}

/// A call that is suspended until its host function has an answer. It is only valid with its realm.
pub struct Suspended<E: Engine> {
    instance: u32,
    entry: Entry,
    suspension: E::Suspension,
}

/// The results of a host function whose call was suspended.
pub struct Answer<'a> {
    pub site: ImportSite,
    /// The new value of the carried global, if there is one.
    pub carried: Option<i64>,
    pub results: &'a [u64],
}

impl<E: Engine> Lend for EngineStore<E> {
    type Context<'a> = E::Context<'a>;

    fn context(&mut self) -> E::Context<'_> {
        E::context(&mut self.0)
    }
}

/// An engine's store, wrapped for the slot.
struct EngineStore<E: Engine>(E::Store);

/// The module of an instance. Calls count references to this `Rc`, so that they need no atomic
/// operation.
struct HeldModule<E: Engine>(Arc<Module<E>>);

impl<E: Engine> Deref for HeldModule<E> {
    type Target = Arc<Module<E>>;

    fn deref(&self) -> &Arc<Module<E>> {
        &self.0
    }
}

struct Instance<E: Engine> {
    /// In the order of `Module::exports`.
    exports: Vec<Extern<E>>,
    start: Option<E::Func>,
    /// The flag that makes its code stop.
    flag: Option<Flag>,
    meters: E::Meters,
    _attached: E::Attached,
    /// The carried global of its host calls, or the message with which these fail.
    carried: Option<Result<E::Global, Cow<'static, str>>>,
    module: Rc<HeldModule<E>>,
    imported_funcs: Box<[ImportedFunc]>,
    /// The exports that have an index in the realm.
    given: HashMap<u32, Import>,
    /// The realm's index of each imported memory, in order.
    imported: Box<[u32]>,
    /// The realm's index of each own memory that has been requested, by its place among them.
    memories: Vec<(u32, u32)>,
    memory0: Option<OwnMemory0<E>>,
}

/// The memory 0 of an instance whose module does not list it among its exports.
enum OwnMemory0<E: Engine> {
    /// It has an index in the realm.
    Known(u32),
    /// It has not been requested yet.
    Handle(E::Memory),
}

/// One store and its objects. Always inside an `Rc`, because its host functions hold a pointer to it.
pub struct Realm<E: Engine> {
    engine: Arc<E>,
    is_metered: bool,
    limits: StoreLimits,
    /// The bytes of memories of which another realm has a copy. Dropped before the store, whose bytes it
    /// counts again.
    superseded: Superseded,
    // Declared before the tables and dropped first, because the store must not outlive the modules of
    // its instances.
    slot: StoreSlot<EngineStore<E>>,
    /// The initial bytes of the memories and tables of instances.
    charge: RefCell<Charge>,
    host: Cell<Option<NonNull<dyn Host>>>,
    /// The interrupt of the innermost call. It outlives the call, which borrows it.
    interrupt: Cell<Option<NonNull<Interrupt>>>,
    memories: RefCell<Vec<E::Memory>>,
    funcs: RefCell<Vec<E::Func>>,
    globals: RefCell<Vec<E::Global>>,
    tables: RefCell<Vec<E::Table>>,
    links: RefCell<Option<Links<E>>>,
    /// Which memories belong to no instance.
    made: RefCell<Vec<bool>>,
    /// Whether a transferred buffer has the bytes of a memory, so that no memory may move.
    is_pinned: Cell<bool>,
    instances: RefCell<Vec<Option<Instance<E>>>>,
}

impl<E: Engine> Realm<E> {
    /// Creates an empty realm.
    pub fn new(engine: &Arc<E>) -> Rc<Self> {
        Self::with_limits(engine, StoreLimits::default())
    }

    /// Creates an empty realm whose memories and tables are limited.
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

    /// Whether an instance was ever created here.
    pub fn has_instances(&self) -> bool {
        !self.instances.borrow().is_empty()
    }

    /// The number of memories with an index.
    pub fn memory_count(&self) -> u32 {
        self.memories.borrow().len() as u32
    }
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "no message".to_owned(),
    }
}
