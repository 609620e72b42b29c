//! All that the addon holds for one JavaScript environment: the tables behind the numbers that TypeScript passes, the
//! scratch buffer and the last failure.
//!
//! Lifetimes: a memory or instance entry belongs to one JavaScript wrapper object. It is dropped when TypeScript says so
//! (a teardown of something that was never handed out), or once the wrapper has been collected, which
//! [`State::sweep`] finds out by a weak reference. Unlike a finalizer, that works in a loop that never returns to the event loop.
//! A realm goes when its last entry and last running call are gone.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, LazyLock},
};

use slab::Slab;

use super::{
    backend::{AnyModule, AnyRealm, Cache, LimitedEngine},
    budget::Fuel,
    calls::Calls,
    group::Group,
    raw::{Reference, Scope, Throw, Value},
    scratch::Scratch,
    supervisor::Deadline,
};
use crate::{
    cache::{DEFAULT_ENTRIES, ModuleCache},
    error::Trap,
};

/// The cache that all environments of the process share unless they ask for another.
static DEFAULT_CACHE: LazyLock<Arc<Cache>> =
    LazyLock::new(|| Arc::new(Cache { modules: ModuleCache::new(DEFAULT_ENTRIES), disk: None }));

/// A memory or an instance: which group, which index in its realm, whose wrapper.
pub struct Entry {
    pub group: Rc<Group>,
    pub index: u32,
    wrapper: Reference,
}

/// How the last call failed.
pub struct Failure {
    pub trap: Trap,
    /// A holder object whose property `thrown` is what JavaScript threw.
    pub thrown: Option<Reference>,
}

pub struct State {
    pub dispatch: RefCell<Option<Reference>>,
    /// TypeScript's function that takes the events of asynchronous calls.
    pub drain: RefCell<Option<Reference>>,
    pub scratch: RefCell<Option<Rc<Scratch>>>,
    pub engines: RefCell<Vec<LimitedEngine>>,
    pub caches: RefCell<Vec<Arc<Cache>>>,
    pub modules: RefCell<Slab<AnyModule>>,
    /// The number of each module in `modules`, by its address.
    pub module_numbers: RefCell<HashMap<usize, usize>>,
    pub memories: RefCell<Slab<Entry>>,
    pub instances: RefCell<Slab<Entry>>,
    failure: RefCell<Option<Failure>>,
    refusal: RefCell<Option<Throw>>,
    pub calls: Calls,
    /// How many calls into guests are on the stack.
    pub running: Cell<u32>,
    /// The deadline of the innermost of them.
    pub deadline: RefCell<Option<Deadline>>,
    /// What the innermost of them may use.
    pub fuel: Cell<Option<Fuel>>,
    entries_at_next_sweep: Cell<usize>,
}

/// Fewer entries than this are not worth a sweep.
const MIN_SWEEP: usize = 64;

impl State {
    pub fn new() -> Self {
        Self {
            dispatch: RefCell::default(),
            drain: RefCell::default(),
            scratch: RefCell::default(),
            engines: RefCell::default(),
            caches: RefCell::new(vec![DEFAULT_CACHE.clone()]),
            modules: RefCell::default(),
            module_numbers: RefCell::default(),
            memories: RefCell::default(),
            instances: RefCell::default(),
            failure: RefCell::default(),
            refusal: RefCell::default(),
            calls: Calls::default(),
            running: Cell::new(0),
            deadline: RefCell::default(),
            fuel: Cell::new(None),
            entries_at_next_sweep: Cell::new(MIN_SWEEP),
        }
    }

    pub fn scratch(&self) -> Result<Rc<Scratch>, Throw> {
        self.scratch.borrow().clone().ok_or_else(|| Throw::internal("setup has not been called"))
    }

    pub fn fail(&self, trap: Trap, thrown: Option<Reference>) {
        self.failure.replace(Some(Failure { trap, thrown }));
    }

    pub fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// Keeps why an asynchronous call could not be made.
    pub fn refuse(&self, why: Throw) {
        self.refusal.replace(Some(why));
    }

    pub fn take_refusal(&self) -> Option<Throw> {
        self.refusal.take()
    }

    /// The number of a compiled module, the same for the same one.
    pub fn add_module(&self, module: AnyModule) -> u32 {
        let mut modules = self.modules.borrow_mut();
        let mut numbers = self.module_numbers.borrow_mut();
        let address = module.address();
        let known = numbers.get(&address).copied();
        if let Some(known) = known.filter(|known| modules.get(*known).is_some_and(|other| other.same(&module))) {
            return known as u32;
        }
        let number = modules.insert(module);
        numbers.insert(address, number);
        number as u32
    }

    /// Makes an entry for `wrapper` and returns its number.
    pub fn add(
        &self,
        table: &RefCell<Slab<Entry>>,
        scope: Scope,
        group: Rc<Group>,
        index: u32,
        wrapper: Value,
    ) -> Result<u32, Throw> {
        let wrapper = Reference::weak(scope, wrapper)?;
        let id = table.borrow_mut().insert(Entry { group, index, wrapper });
        u32::try_from(id).map_err(|_| Throw::new("limit", "too many objects"))
    }

    /// The group and index behind a number.
    pub fn entry(&self, table: &RefCell<Slab<Entry>>, id: u32) -> Result<(Rc<Group>, u32), Throw> {
        with_entry(table, id, |entry| (entry.group.clone(), entry.index))
    }

    /// An address that belongs to this entry alone for as long as it is there.
    pub fn identity(&self, table: &RefCell<Slab<Entry>>, id: u32) -> Result<usize, Throw> {
        with_entry(table, id, |entry| entry.wrapper.address())
    }

    /// Moves all memories of one group into another, whoever holds them, by `move_one`.
    pub fn move_memories(
        &self,
        scope: Scope,
        from: &Rc<Group>,
        to: &Rc<Group>,
        move_one: impl Fn(&AnyRealm, u32, &AnyRealm) -> Result<u32, Throw>,
    ) -> Result<(), Throw> {
        let mut moved: Vec<(u32, u32)> = Vec::new();
        let mut memories = self.memories.borrow_mut();
        for (_, entry) in memories.iter_mut().filter(|(_, entry)| Rc::ptr_eq(&entry.group, from)) {
            let index = match moved.iter().find(|(before, _)| *before == entry.index) {
                Some((_, after)) => *after,
                None => {
                    let after = move_one(&*from.enter()?, entry.index, &*to.enter()?)?;
                    moved.push((entry.index, after));
                    after
                }
            };
            entry.index = index;
            entry.group = to.clone();
        }
        from.release(scope);
        from.clone().outlive_strays();
        Ok(())
    }

    /// Drops an entry, and its group with it if that was the last.
    pub fn remove(&self, table: &RefCell<Slab<Entry>>, scope: Scope, id: u32) {
        let entry = table.borrow_mut().try_remove(id as usize);
        if let Some(entry) = entry {
            entry.wrapper.delete(scope);
            release_if_last(scope, entry.group);
        }
    }

    /// Sweeps if enough entries have been made since the last time that it pays.
    pub fn sweep_if_due(&self, scope: Scope) {
        let entries = self.memories.borrow().len() + self.instances.borrow().len();
        if entries >= self.entries_at_next_sweep.get() {
            self.sweep(scope);
        }
    }

    /// Drops the entries whose wrappers have been collected.
    pub fn sweep(&self, scope: Scope) {
        let mut left = 0;
        for table in [&self.memories, &self.instances] {
            let dead: Vec<u32> = {
                let table = table.borrow();
                let dead = table.iter().filter(|(_, entry)| entry.wrapper.get(scope).is_none());
                dead.map(|(id, _)| id as u32).collect()
            };
            for id in dead {
                self.remove(table, scope, id);
            }
            left += table.borrow().len();
        }
        self.entries_at_next_sweep.set((2 * left).max(MIN_SWEEP));
    }

    /// The environment ends: everything goes, unless a guest is still on the stack (`process.exit` in a supervisor call),
    /// whose memory must stay until the process has ended.
    pub fn shut_down(&self) {
        let is_running = self.running.get() > 0;
        self.calls.shut_down(is_running);
        let (memories, instances) = (self.memories.take(), self.instances.take());
        self.modules.take();
        if is_running {
            std::mem::forget((memories, instances));
        } else {
            drop((memories, instances));
        }
        self.calls.close();
    }
}

/// Looks at the entry of a number.
#[inline]
fn with_entry<R>(table: &RefCell<Slab<Entry>>, id: u32, look: impl FnOnce(&Entry) -> R) -> Result<R, Throw> {
    let table = table.borrow();
    table.get(id as usize).map(look).ok_or_else(|| Throw::internal(format!("no object has the number {id}")))
}

/// Detaches the views of a group that no one else holds, and drops it.
pub fn release_if_last(scope: Scope, group: Rc<Group>) {
    if Rc::strong_count(&group) == 1 {
        group.release(scope);
        group.outlive_strays();
    }
}
