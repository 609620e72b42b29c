//! The seam: everything that this crate requires of a WebAssembly engine, in one trait.
//!
//! Two files implement it, `engine/wasmi.rs` and `engine/wasmer.rs`, with their methods in the same
//! order so that they read side by side; no other file names an engine. Above the seam there are only
//! this crate's own values, types, errors and trap codes. Handles (`Memory`, `Global`, `Func`) are cheap
//! to clone and only valid with the store they come from. `Realm` keeps them together with that store,
//! so callers never mix them up.

pub mod features;
pub mod shared;
pub mod store_slot;
pub mod wasmer;
pub mod wasmi;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use self::features::Features;

use crate::{
    error::{CompileError, EngineError, GlobalError, InstantiateError, MemoryError, Trap},
    interrupt::{Flag, Interrupt},
    realm::Realm,
    rewrite::{Edits, Pass, Sections},
    total::TotalBytes,
    value::{ExternType, FuncType, GlobalType, MAX_PAGES, MemoryType, PAGE_BYTES},
};

/// The configuration of an engine. Equal configurations share one engine in the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EngineConfig {
    /// The compiler's optimization level; the interpreter ignores it.
    pub opt_level: OptLevel,
    /// Whether an `Interrupt` can stop guests. It costs a little.
    pub interruptible: bool,
    /// Whether guests are metered.
    pub has_fuel: bool,
    /// The most nested guest calls; `None` leaves the limit to the engine.
    pub recursion_depth: Option<u32>,
    /// The size of a guest's stack in bytes; `None` for [`GUEST_STACK_BYTES`].
    pub stack_bytes: Option<usize>,
    /// Whether results are the same on every machine, see [`crate::rewrite::canonical_nans`].
    pub deterministic: bool,
    /// The proposals that a module may use.
    pub features: Features,
    /// Whether memories never reserve more addresses than they may need, even while there are plenty.
    /// This costs time where the engine could otherwise omit bounds checks.
    pub exact_memories: bool,
}

/// The limits of the memories and tables of one store.
#[derive(Debug, Clone, Default)]
pub struct StoreLimits {
    /// The most bytes of any one memory.
    pub memory_bytes: Option<u64>,
    /// The most elements of any one table.
    pub table_elements: Option<u32>,
    /// The limit for all memories and tables of this store and of others together.
    pub total: Option<Arc<TotalBytes>>,
}

impl StoreLimits {
    /// Whether only the built-in limits apply.
    pub fn are_default(&self) -> bool {
        let Self { memory_bytes, table_elements, total } = self;
        memory_bytes.is_none() && table_elements.is_none() && total.is_none()
    }

    /// The most pages of a memory.
    pub fn memory_pages(&self) -> u64 {
        self.memory_bytes.map_or(MAX_PAGES, |bytes| (bytes / PAGE_BYTES).min(MAX_PAGES))
    }

    /// The most elements of a table.
    pub fn table_elements(&self) -> u32 {
        self.table_elements.unwrap_or(MAX_TABLE_ELEMENTS)
    }
}

/// The most elements of a table if no limit is set: the same as in V8. An engine would accept any number
/// for which there is memory, and end the process if there is none.
pub const MAX_TABLE_ELEMENTS: u32 = 10_000_000;

/// The fuel of a call without a budget. It is counted nevertheless.
pub const UNLIMITED_FUEL: u64 = i64::MAX as u64;

/// How to run a call.
pub struct Control<'a, E: Engine> {
    /// An interruptible engine stops the guest soon after this is set, with the trap `Interrupted`.
    pub interrupt: Option<&'a Interrupt>,
    /// The guest's budget, at most [`UNLIMITED_FUEL`], and after the call what remains of it. Present if
    /// and only if the engine meters.
    pub fuel: Option<&'a mut u64>,
    pub meters: E::Meters,
}

/// A number that is unique to one engine of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineId(u64);

impl EngineId {
    /// A new number.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The optimization level of a compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OptLevel {
    None,
    #[default]
    Speed,
}

/// The depth of guest calls at which a guest traps with a stack overflow where the engine counts calls. The
/// reference crate uses this depth for wasmi, because some programs of its network needed more than wasmi's
/// default of 1,000.
pub const MAX_RECURSION_DEPTH: usize = 10 * 1024;

/// The native stack of a guest in bytes, where the engine runs guests on a native stack.
pub const GUEST_STACK_BYTES: usize = 1024 * 1024;

/// An import or an export with its type.
#[derive(Debug, Clone)]
pub struct ImportType {
    pub module: String,
    pub name: String,
    pub ty: ExternType,
}

/// An export with its type.
#[derive(Debug, Clone)]
pub struct ExportType {
    pub name: String,
    pub ty: ExternType,
}

/// Something that an instance imports or exports.
pub enum Extern<E: Engine> {
    Func(E::Func),
    Memory(E::Memory),
    Global(E::Global),
    Table(E::Table),
    /// A kind that this crate does not carry: exported, but without a handle.
    Other,
}

/// A new instance.
pub struct Linked<E: Engine> {
    /// The requested exports, in the order of the request.
    pub exports: Vec<Extern<E>>,
    /// The flag that its code checks to see whether it must stop, if this engine's code does that. Valid
    /// as long as the store.
    pub flag: Option<Flag>,
    pub meters: E::Meters,
    /// Data of the instance outside its store, which must be dropped after the store.
    pub attached: E::Attached,
}

/// Where a linear memory currently lies. Only valid until the guest runs again or the memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRegion {
    pub base: *mut u8,
    pub bytes: usize,
}

/// The instance and the import that a host function represents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportSite {
    /// The instance's index in its realm.
    pub instance: u32,
    /// The function's place among the imported functions of the module.
    pub import: u32,
}

/// A pointer from a host function back to the realm whose store holds that function.
pub struct RealmPtr<E: Engine>(*const Realm<E>);

impl<E: Engine> Clone for RealmPtr<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for RealmPtr<E> {}

// SAFETY: the pointer is only followed by `RealmPtr::get`, inside a host function, which runs on the
// thread that is in the realm's store at that moment; moving the pointer itself to another thread does
// nothing.
unsafe impl<E: Engine> Send for RealmPtr<E> {}
// SAFETY: as above; sharing the pointer gives no access to the realm.
unsafe impl<E: Engine> Sync for RealmPtr<E> {}

impl<E: Engine> RealmPtr<E> {
    pub fn new(realm: &Realm<E>) -> Self {
        Self(realm)
    }

    /// A pointer to a realm that is being created.
    pub fn from_weak(realm: &std::rc::Weak<Realm<E>>) -> Self {
        Self(realm.as_ptr())
    }

    /// The realm, for a host function that its store is calling.
    ///
    /// # Safety
    ///
    /// The caller must be a host function made with this pointer and called by the engine: then the
    /// realm is alive, because the running call borrows it, and does not move, because `Realm` is only
    /// made inside an `Rc`.
    pub unsafe fn get<'a>(self) -> &'a Realm<E> {
        // SAFETY: passed on to the caller, see above.
        unsafe { &*self.0 }
    }
}

/// A WebAssembly engine.
///
/// `Store` owns all objects of one group; `Context` is a borrow of it. A host function gets a `Context`
/// from its engine and must lend it to the realm's `StoreSlot` (as `Realm::host_call` does), so that
/// everything in this trait also works during a host call.
pub trait Engine: Send + Sync + Sized + 'static {
    /// A compiled module, shared by all stores of this engine and by all threads.
    type Module: Clone + Send + Sync;
    /// The changes that are made to a module for this engine alone.
    type Pass: Pass;
    type Store;
    type Context<'a>;
    type Memory: Clone;
    type Global: Clone;
    type Table: Clone;
    type Func: Clone;
    /// What an engine records about the modules whose code is linked in one store.
    type LinkedTypes: Default;
    /// A call that waits for the answer of a host function, without a thread. It is only valid with its
    /// store, but may be resumed on any thread.
    type Suspension: Send;
    /// Where an instance keeps the numbers that are counted while it runs. Valid as long as the store.
    type Meters: Copy;
    /// The data of an instance that an engine keeps outside its store.
    type Attached;

    /// The backend's name in JavaScript.
    const NAME: &'static str;

    /// The most nested guest calls if the configuration does not set a limit; `None` if only the stack
    /// limits them.
    const DEFAULT_DEPTH: Option<usize>;

    /// Whether a host function may answer with `HostTrap::Suspended`.
    const SUSPENDS: bool;

    /// Whether each instance keeps its own counters and its own flag. A call that can run code of
    /// several instances then concerns the counters and flags of all of them.
    const COUNTS_IN_INSTANCES: bool;

    /// Whether the engine produces machine code that can be stored.
    const HAS_MACHINE_CODE: bool;

    /// Whether a deterministic engine itself makes the NaNs of floating-point operations canonical.
    const HAS_CANONICAL_NANS: bool;

    /// Creates an engine.
    fn new(config: &EngineConfig) -> Result<Self, EngineError>;

    /// The number of this engine in this process. Code of one engine is not valid for another.
    fn id(&self) -> EngineId;

    fn config(&self) -> &EngineConfig;

    /// The changes that this engine makes to a module before it compiles it. Changes that do not depend
    /// on the module's functions are made at once.
    fn pass(&self, sections: &Sections<'_>, edits: &mut Edits) -> Self::Pass;

    /// Validates and compiles a module for which [`Engine::pass`] has been called and whose functions
    /// the pass has seen. Both engines refuse the same modules as far as their features agree; neither
    /// delays validation.
    fn compile(&self, wasm: &[u8], pass: Self::Pass) -> Result<Self::Module, CompileError>;

    /// What this engine's machine code depends on besides the binary: versions, options and the
    /// processor. `None` if its machine code cannot be stored.
    fn identity(&self) -> Option<String>;

    /// The name of a function by its index, with at most [`MAX_NAME`](crate::error::MAX_NAME)
    /// characters, for engines that report frames.
    fn function_name(_module: &Self::Module, _function: u32) -> Option<&str> {
        None
    }

    /// The machine code of a module.
    fn machine_code(&self, module: &Self::Module) -> Result<Vec<u8>, CompileError>;

    /// Loads a module from its binary and machine code.
    ///
    /// # Safety
    ///
    /// `machine_code` must be what [`Engine::machine_code`] gave for a module that an engine of the same
    /// [`Engine::identity`] compiled from the same binary: it will be run.
    unsafe fn load(&self, wasm: &[u8], pass: Self::Pass, machine_code: &[u8]) -> Result<Self::Module, CompileError>;

    /// The module's imports, in the order that [`Engine::instantiate`] expects: those of one kind are in
    /// the order of the binary.
    fn imports(module: &Self::Module) -> Vec<ImportType>;

    /// The module's exports, in any order.
    fn exports(module: &Self::Module) -> Vec<ExportType>;

    /// Creates an empty store whose host functions find their realm by `realm`.
    fn new_store(engine: &Arc<Self>, limits: &StoreLimits, realm: RealmPtr<Self>) -> Self::Store;

    /// Borrows the store.
    fn context(store: &mut Self::Store) -> Self::Context<'_>;

    /// Creates a memory that belongs to no instance, and counts its bytes toward the total. `ty` has
    /// been checked: minimum ≤ maximum ≤ `MAX_PAGES`.
    fn new_memory(cx: &mut Self::Context<'_>, ty: MemoryType) -> Result<Self::Memory, MemoryError>;

    /// Where the memory currently lies.
    fn memory_region(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryRegion;

    /// The memory's type at its creation.
    fn memory_type(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> MemoryType;

    /// Whether the memory may move when it grows.
    fn memory_moves(cx: &mut Self::Context<'_>, memory: &Self::Memory) -> bool;

    /// Grows the memory by `delta` pages, which count toward the total, and returns the previous size in
    /// pages.
    fn memory_grow(cx: &mut Self::Context<'_>, memory: &Self::Memory, delta: u64) -> Result<u64, MemoryError>;

    /// Moves a memory that [`Engine::new_memory`] created to another store with the same limits. Its
    /// bytes count once, and stay where they are, unless [`Engine::memory_moves`]. Nothing in the store
    /// that it comes from may run or use it again. If this fails, the memory stays where it is.
    fn move_memory(
        from: &mut Self::Context<'_>,
        memory: &Self::Memory,
        to: &mut Self::Context<'_>,
    ) -> Result<Self::Memory, MemoryError>;

    /// The global's type.
    fn global_type(cx: &mut Self::Context<'_>, global: &Self::Global) -> GlobalType;

    /// Reads the global into a slot; `None` if its type does not fit one.
    fn global_get(cx: &mut Self::Context<'_>, global: &Self::Global) -> Option<u64>;

    /// Writes the slot to the global.
    fn global_set(cx: &mut Self::Context<'_>, global: &Self::Global, slot: u64) -> Result<(), GlobalError>;

    /// Records the types of a module whose code is about to be linked with that of others in its store,
    /// or refuses it if this engine would confuse their types.
    fn admit(types: &mut Self::LinkedTypes, module: &Self::Module) -> Result<(), InstantiateError>;

    /// Creates a host function that calls `Realm::host_call` for `site`.
    fn new_host_func(cx: &mut Self::Context<'_>, realm: RealmPtr<Self>, site: ImportSite, ty: &FuncType) -> Self::Func;

    /// Links and initialises an instance. The module has no start function (`Module` removes it), so no
    /// guest code runs here. `imports` are in the order of [`Engine::imports`]. The caller has counted
    /// the initial bytes of its memories and tables; this function arranges for their growth to be
    /// counted.
    fn instantiate(
        cx: &mut Self::Context<'_>,
        limits: &StoreLimits,
        module: &Self::Module,
        imports: &[Extern<Self>],
        exports: &[&str],
    ) -> Result<Linked<Self>, InstantiateError>;

    /// Calls a function whose type is numeric throughout. An engine whose host functions get no context
    /// parks `cx` in `realm` while the guest runs. `slots` holds the arguments and then the results; its
    /// length is the larger of the two counts.
    fn call(
        cx: &mut Self::Context<'_>,
        realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<(), Box<Trap>>;

    /// The remaining fuel of a call into this instance, for a host function; `None` if it is used up.
    fn fuel_left(cx: &mut Self::Context<'_>, meters: Self::Meters) -> Option<u64>;

    /// Sets the remaining fuel of a call into this instance.
    fn set_fuel(cx: &mut Self::Context<'_>, meters: Self::Meters, fuel: u64);

    /// Like [`Engine::call`], but a host function may put off its answer with `HostTrap::Suspended`. On
    /// an engine that cannot suspend a call, see [`Engine::SUSPENDS`], host functions wait instead.
    fn call_suspendable(
        cx: &mut Self::Context<'_>,
        realm: &Realm<Self>,
        func: &Self::Func,
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>>;

    /// Resumes a call after its host function, whose type is `host_ty` and whose results are passed.
    /// `ty` and `slots` are as in [`Engine::call`].
    fn resume(
        cx: &mut Self::Context<'_>,
        suspension: Self::Suspension,
        host_ty: &FuncType,
        results: &[u64],
        ty: &FuncType,
        slots: &mut [u64],
        control: Control<'_, Self>,
    ) -> Result<Option<Self::Suspension>, Box<Trap>>;
}
