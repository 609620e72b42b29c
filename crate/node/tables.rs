//! The tables behind the numbers that TypeScript passes, and the deadline and fuel of the running calls,
//! for one copy of the package's JavaScript.
//!
//! Lifetimes: an entry of a table belongs to one JavaScript wrapper object, see [`Table`]. It is dropped
//! when TypeScript says so (a teardown of something that was never handed out), or once the wrapper has
//! been collected, which [`Tables::sweep`] detects with a weak reference. Unlike a finalizer, that also
//! works in a loop that never returns to the event loop. A realm is dropped with its last entry and its
//! last running call. Everything is dropped when the copy of the JavaScript has been collected: the
//! tables refer to that copy only weakly, except while asynchronous calls are pending.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, LazyLock},
};

use napi_derive::napi;

use super::{
    backend::{AnyModule, AnyRealm, Cache, LimitedEngine},
    deadline::CurrentDeadline,
    error::NativeError,
    fuel::Fuel,
    group::{Group, release_if_last},
    js_functions::JsFunctions,
    raw::{JsValue, Reference, RenewedScope, Scope},
    scratch::Scratch,
    table::Table,
};
use crate::{
    cache::{DEFAULT_ENTRIES, ModuleCache},
    engine::StoreLimits,
    error::Trap,
    executor::pool::ThreadQuota,
    total::TotalBytes,
};

/// The cache that all copies of the process share unless they ask for another.
static SHARED_CACHE: LazyLock<Arc<Cache>> =
    LazyLock::new(|| Arc::new(Cache { modules: ModuleCache::new(DEFAULT_ENTRIES), disk: None }));

/// A memory or an instance: its group, and its index in the group's realm.
#[derive(Clone)]
pub struct Entry {
    pub group: Rc<Group>,
    pub index: u32,
}

/// How the last call failed.
pub struct Failure {
    pub trap: Box<Trap>,
    /// A holder object whose property `thrown` is what JavaScript threw.
    pub thrown: Option<Reference>,
}

pub struct Tables {
    pub functions: Rc<JsFunctions>,
    scratch: Rc<Scratch>,
    pub engines: Table<LimitedEngine>,
    pub caches: Table<Arc<Cache>>,
    pub quotas: Table<Arc<ThreadQuota>>,
    pub modules: Table<AnyModule>,
    /// The number of each module in `modules`, by its address.
    module_numbers: RefCell<HashMap<usize, u32>>,
    /// A module for which TypeScript is about to make a wrapper.
    unclaimed: RefCell<Option<AnyModule>>,
    pub memories: Table<Entry>,
    pub instances: Table<Entry>,
    failure: RefCell<Option<Failure>>,
    refusal: RefCell<Option<NativeError>>,
    /// The number of calls into guests that are on the stack.
    pub running: Cell<u32>,
    /// The deadline of the innermost running call.
    pub deadline: CurrentDeadline,
    /// The fuel of the innermost running call.
    pub fuel: Cell<Option<Fuel>>,
    entries_at_next_sweep: Cell<usize>,
    /// Set by tests: behave as in a runtime that forbids buffers over native memory, as Electron does.
    pub refuses_buffers: Cell<bool>,
}

/// Fewer entries than this are not worth a sweep.
const MIN_SWEEP: usize = 64;

impl Tables {
    pub fn new(scratch: Scratch) -> Self {
        Self {
            functions: Rc::default(),
            scratch: Rc::new(scratch),
            engines: Table::default(),
            caches: Table::default(),
            quotas: Table::default(),
            modules: Table::default(),
            module_numbers: RefCell::default(),
            unclaimed: RefCell::default(),
            memories: Table::default(),
            instances: Table::default(),
            failure: RefCell::default(),
            refusal: RefCell::default(),
            running: Cell::new(0),
            deadline: RefCell::default(),
            fuel: Cell::new(None),
            entries_at_next_sweep: Cell::new(MIN_SWEEP),
            refuses_buffers: Cell::new(false),
        }
    }

    pub fn scratch(&self) -> Rc<Scratch> {
        self.scratch.clone()
    }

    pub fn fail(&self, scope: Scope, trap: Box<Trap>, thrown: Option<Reference>) {
        let before = self.failure.replace(Some(Failure { trap, thrown }));
        if let Some(thrown) = before.and_then(|failure| failure.thrown) {
            thrown.delete(scope);
        }
    }

    pub fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// Stores the reason why an asynchronous call could not be made.
    pub fn refuse(&self, why: NativeError) {
        self.refusal.replace(Some(why));
    }

    pub fn take_refusal(&self) -> Option<NativeError> {
        self.refusal.take()
    }

    // Modules

    /// The wrapper that already represents a compiled module. If there is none, the module is stored for
    /// [`Tables::claim_module`].
    pub fn module_wrapper(&self, scope: Scope, module: AnyModule) -> Option<JsValue> {
        let number = self.module_numbers.borrow().get(&module.address()).copied();
        let is_same = |number: &u32| self.modules.with(*number, |other| other.same(&module)).unwrap_or(false);
        let known = number.filter(is_same).and_then(|number| self.modules.wrapper(scope, number));
        if known.is_none() {
            self.unclaimed.replace(Some(module));
        }
        known
    }

    /// Assigns the module that was compiled last to its wrapper.
    pub fn claim_module(&self, scope: Scope, wrapper: JsValue) -> Result<u32, NativeError> {
        let module = self.unclaimed.take().ok_or_else(|| NativeError::internal("no module waits for a wrapper"))?;
        let address = module.address();
        let number = self.modules.add(scope, module, wrapper)?;
        self.module_numbers.borrow_mut().insert(address, number);
        Ok(number)
    }

    /// The cache for `compile`: the one with this number, which may be the process's default cache, or
    /// none.
    pub fn cache(&self, number: Option<u32>) -> Result<Option<Arc<Cache>>, NativeError> {
        match number {
            Some(DEFAULT_CACHE) => Ok(Some(SHARED_CACHE.clone())),
            Some(number) => self.caches.get(number).map(Some),
            None => Ok(None),
        }
    }

    // Memories and instances

    /// Adds an instance to the table.
    pub fn add_instance(
        &self,
        scope: Scope,
        group: Rc<Group>,
        index: u32,
        wrapper: JsValue,
    ) -> Result<u32, NativeError> {
        let number = self.instances.add(scope, Entry { group: group.clone(), index }, wrapper)?;
        group.instances.add(number);
        Ok(number)
    }

    /// Moves all memories of one group, whatever refers to them, into another by `move_one`.
    pub fn move_memories(
        &self,
        scope: Scope,
        from: &Rc<Group>,
        to: &Rc<Group>,
        move_one: impl Fn(&AnyRealm, u32, &AnyRealm) -> Result<u32, NativeError>,
    ) -> Result<(), NativeError> {
        let mut moved: Vec<(u32, u32)> = Vec::new();
        let mut failed = None;
        self.memories.for_each(|_, entry| {
            if failed.is_some() || !Rc::ptr_eq(&entry.group, from) {
                return;
            }
            let known = moved.iter().find(|(before, _)| *before == entry.index).map(|(_, after)| Ok(*after));
            let index = known.unwrap_or_else(|| move_one(&*from.enter()?, entry.index, &*to.enter()?));
            match index {
                Ok(index) => {
                    moved.push((entry.index, index));
                    *entry = Entry { group: to.clone(), index };
                }
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        from.release(scope);
        Ok(())
    }

    /// Drops a memory, and its group if that was the last reference.
    pub fn remove_memory(&self, scope: Scope, number: u32) {
        if let Some(entry) = self.memories.remove(scope, number) {
            self.let_go_of_memories(scope, vec![entry]);
        }
    }

    fn let_go_of_memories(&self, scope: Scope, entries: Vec<Entry>) {
        // Count all of them before any renewal, which changes the indices of memories.
        for Entry { group, index } in &entries {
            group.count_gone_memory(*index);
        }
        for Entry { group, .. } in entries {
            if Rc::strong_count(&group) > 1 {
                self.renew_if_worth(scope, &group);
            }
            release_if_last(scope, group);
        }
    }

    /// Drops an instance, and its group if that was the last reference. If it was the last instance
    /// beside a memory that lives on, its store may be renewed.
    pub fn remove_instance(&self, scope: Scope, number: u32) {
        if let Some(entry) = self.instances.remove(scope, number) {
            self.let_go_of_instance(scope, entry);
        }
    }

    fn let_go_of_instance(&self, scope: Scope, entry: Entry) {
        entry.group.instances.remove();
        self.renew_if_worth(scope, &entry.group);
        release_if_last(scope, entry.group);
    }

    /// Frees what instances have left in the store of a memory that lives on, if there were many of them
    /// and none is left. Stores only grow, so the memories move to a fresh one.
    pub fn renew_if_worth(&self, scope: Scope, group: &Rc<Group>) {
        if group.is_worth_renewing() {
            self.renew(scope, group);
        }
    }

    /// Does the same, however many instances there were.
    pub fn renew(&self, scope: Scope, group: &Rc<Group>) {
        if group.instances.are_left() || !group.is_idle() {
            return;
        }
        let mut reachable = Vec::new();
        self.memories.for_each(|_, entry| {
            if Rc::ptr_eq(&entry.group, group) {
                reachable.push(entry.index);
            }
        });
        reachable.sort_unstable();
        reachable.dedup();
        // Memories that an instance created stay in its store.
        let (kept, others): (Vec<u32>, Vec<u32>) = reachable.into_iter().partition(|memory| group.is_made(*memory));
        // Without kept memories, the group is about to go, or no other instance will be created in it.
        if kept.is_empty() {
            return;
        }
        let Some(home) = group.renew(scope, &kept, !others.is_empty()) else { return };
        self.memories.for_each(|_, entry| {
            if Rc::ptr_eq(&entry.group, group)
                && let Ok(place) = kept.binary_search(&entry.index)
            {
                *entry = Entry { group: home.clone(), index: place as u32 };
            }
        });
    }

    /// Does the same before an instance is created in a group, in case V8 has just collected the
    /// wrappers of all other instances. In a loop that never returns to the event loop, nothing else
    /// detects that in time.
    pub fn renew_if_collected(&self, scope: Scope, group: &Rc<Group>) {
        if !group.is_worth_renewing() || !group.is_idle() {
            return;
        }
        if !group.instances.are_left() {
            // The last instance went while the group was busy.
            return self.renew(scope, group);
        }
        if group.is_worth_collecting() {
            return self.collect_instances(scope, group);
        }
        // The newest instance is the last to be collected.
        if group.instances.newest().is_some_and(|newest| self.instances.wrapper(scope, newest).is_some()) {
            return;
        }
        self.sweep(scope);
        // Instances that failed to start are not reachable.
        self.renew_if_worth(scope, group);
        // If this did not suffice, the next sweep must be worth its time.
        group.put_renewal_off(self.entries());
    }

    /// Makes V8 find out which instances of a group are still reachable. If none is, the store is
    /// renewed.
    fn collect_instances(&self, scope: Scope, group: &Rc<Group>) {
        // V8 keeps objects that were alive when it began to mark, and objects created while it marks. So
        // in a busy loop, some instances always outlive a collection that V8 starts itself. They also
        // outlive the first collection here if V8 is marking already. It often is, because all these
        // bytes are reported to it.
        for _ in 0..2 {
            scope.collect_garbage();
            self.sweep(scope);
            if !group.instances.are_left() {
                return self.renew_if_worth(scope, group);
            }
        }
        group.put_collection_off();
    }

    /// Frees what is no longer reachable, if the total has no room for this many bytes.
    pub fn make_room(&self, scope: Scope, limits: &StoreLimits, bytes: u64) {
        let Some(total) = &limits.total else { return };
        if total.has_room(bytes) {
            return;
        }
        self.sweep(scope);
        self.renew_left_overs(scope, total, bytes);
        for _ in 0..2 {
            if total.has_room(bytes) {
                return;
            }
            // What was torn down is unreachable too, but V8 sees no need to find that out. Collect
            // twice, because if V8 is already marking, it keeps what was alive when it began.
            scope.collect_garbage();
            self.sweep(scope);
            self.renew_left_overs(scope, total, bytes);
        }
    }

    fn renew_left_overs(&self, scope: Scope, total: &TotalBytes, bytes: u64) {
        let mut groups: Vec<Rc<Group>> = Vec::new();
        self.memories.for_each(|_, entry| {
            if entry.group.instances.have_only_left_overs()
                && !groups.iter().any(|group| Rc::ptr_eq(group, &entry.group))
            {
                groups.push(entry.group.clone());
            }
        });
        for group in groups.iter().take_while(|_| !total.has_room(bytes)) {
            self.renew(scope, group);
        }
    }

    /// Sweeps if enough entries have been added since the last sweep to be worth it.
    pub fn sweep_if_due(&self, scope: Scope) {
        if self.entries() >= self.entries_at_next_sweep.get() {
            self.sweep(scope);
        }
    }

    fn entries(&self) -> usize {
        let Self { engines, caches, quotas, modules, memories, instances, .. } = self;
        [engines.len(), caches.len(), quotas.len(), modules.len(), memories.len(), instances.len()].iter().sum()
    }

    pub fn has_entries(&self) -> bool {
        self.entries() > 0
    }

    /// Drops the entries whose wrappers have been collected.
    pub fn sweep(&self, scope: Scope) {
        // Otherwise what is found alive here would outlive a collection that follows.
        let mut handles = RenewedScope::new(scope);
        handles.renew();
        // Memories come before instances, because the last instance renews the store for the memories
        // that are left.
        self.let_go_of_memories(scope, self.memories.take_collected(scope));
        for entry in self.instances.take_collected(scope) {
            self.let_go_of_instance(scope, entry);
        }
        self.forget_modules(self.modules.take_collected(scope));
        drop(self.caches.take_collected(scope));
        drop(self.quotas.take_collected(scope));
        drop(self.engines.take_collected(scope));
        self.entries_at_next_sweep.set((2 * self.entries()).max(MIN_SWEEP));
    }

    fn forget_modules(&self, modules: Vec<AnyModule>) {
        let mut numbers = self.module_numbers.borrow_mut();
        for module in modules {
            // Keep the number if a new wrapper has been created for the module in the meantime.
            let address = module.address();
            if let Some(number) = numbers.get(&address).copied()
                && !self.modules.with(number, |other| other.same(&module)).unwrap_or(false)
            {
                numbers.remove(&address);
            }
        }
    }

    /// Drops all objects, when the copy of the JavaScript that opened this has been collected.
    pub fn dispose(&self, scope: Scope) {
        for entry in self.instances.take_all(scope).into_iter().chain(self.memories.take_all(scope)) {
            release_if_last(scope, entry.group);
        }
        drop(self.modules.take_all(scope));
        drop((self.caches.take_all(scope), self.quotas.take_all(scope), self.engines.take_all(scope)));
        self.functions.forget(scope);
        if let Some(thrown) = self.take_failure().and_then(|failure| failure.thrown) {
            thrown.delete(scope);
        }
        self.scratch.release(scope);
    }

    /// Drops all objects without using Node-API, when the environment ends. With `is_running`, a guest
    /// is on the stack, and its memory stays.
    pub fn shut_down(&self, is_running: bool) {
        self.unclaimed.take();
        if is_running {
            self.memories.leak_all();
            self.instances.leak_all();
        } else {
            self.memories.drop_all();
            self.instances.drop_all();
        }
        self.modules.drop_all();
    }
}

/// The number of the cache that all copies of this package in the process share. Numbers of tables are
/// smaller.
#[napi]
pub const DEFAULT_CACHE: u32 = u32::MAX;
