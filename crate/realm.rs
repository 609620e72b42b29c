//! A realm: one store and the tables of the objects in it. This is one group of design.md, a sandboxed memory and every
//! instance that imports it, on one engine.
//!
//! Objects are named by their index in the realm, so whoever holds a realm and an index can never use an object with a
//! store that it does not belong to. The realm runs guests ([`Realm::call`]), takes the calls that come out of them
//! ([`Realm::host_call`]) and can be used from inside such a call in every way, because each access goes through the
//! [`StoreSlot`].

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

impl<E: Engine> Lend for EngineStore<E> {
    type Context<'a> = E::Context<'a>;

    fn context(&mut self) -> E::Context<'_> {
        E::context(&mut self.0)
    }
}

/// An engine's store, as the slot wants it.
struct EngineStore<E: Engine>(E::Store);

/// The module of an instance. Calls count it with the instance, so that they need no atomic operation.
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
}

/// The text of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "no message".to_owned(),
    }
}
