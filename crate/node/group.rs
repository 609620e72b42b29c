//! A realm as JavaScript sees it: with the zero-copy views of its memories, the number of bytes reported
//! to V8, and its current owner.

mod instances;
mod occupancy;
mod views;

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    sync::Arc,
};

use self::{instances::Instances, occupancy::Occupancy, views::Views};
use super::{
    backend::{AnyRealm, with_realm},
    error::{ErrorKind, NativeError},
    raw::{JsValue, Scope},
};
use crate::{
    engine::{Engine, MemoryRegion},
    error::StoreError,
    executor::{
        CallId,
        exchange::{Exchange, Held},
    },
    realm::Realm,
};

/// A realm and everything that belongs to it. It is dropped with its last handle, after its views have
/// been detached.
pub struct Group {
    /// Accessed through [`Group::enter`], because another thread may own it. Replaced by
    /// [`Group::renew`].
    realm: RefCell<AnyRealm>,
    pub occupancy: Occupancy,
    /// The number of synchronous calls into this group that are on the stack.
    running: Cell<u32>,
    views: Views,
    /// The number of bytes reported to V8.
    reported: Cell<i64>,
    /// The size in bytes of the instances' own memories and records, as far as it is known at
    /// instantiation.
    extra: Cell<i64>,
    pub instances: Instances,
}

/// A fresh store is worth its cost once at least this many bytes of memories, and a quarter of all there
/// are, are unreachable.
const LARGE_LEFT_OVERS: u64 = 1024 * 1024;

/// The use of a realm on this thread.
pub struct Entered<'a> {
    group: &'a Group,
    realm: AnyRealm,
    is_counted: bool,
}

impl Deref for Entered<'_> {
    type Target = AnyRealm;

    fn deref(&self) -> &AnyRealm {
        &self.realm
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.group.occupancy.end_use();
        }
    }
}

/// The approximate size of an empty store, on either engine.
const STORE_BYTES: i64 = 4096;

impl Group {
    pub fn new(realm: AnyRealm) -> Self {
        Self {
            realm: RefCell::new(realm),
            occupancy: Occupancy::default(),
            running: Cell::new(0),
            views: Views::default(),
            reported: Cell::new(0),
            extra: Cell::new(STORE_BYTES),
            instances: Instances::default(),
        }
    }

    /// The realm, for uses that are allowed whichever thread owns it.
    fn realm(&self) -> AnyRealm {
        self.realm.borrow().clone()
    }

    /// Whether so many objects of its store are gone that a fresh store is worth its cost.
    pub fn is_worth_renewing(&self) -> bool {
        self.instances.are_many() || self.has_large_left_overs()
    }

    fn has_large_left_overs(&self) -> bool {
        let gone = self.instances.gone_bytes();
        gone >= LARGE_LEFT_OVERS && !self.occupancy.is_occupied() && gone >= self.memory_bytes() / 4
    }

    /// Records that one of its memories is no longer reachable. Memories that instances created are
    /// dropped with the instances, and do not count.
    pub fn count_gone_memory(&self, memory: u32) {
        // While another thread owns the realm, this thread must not look at it.
        if self.occupancy.is_occupied() || !self.is_made(memory) {
            return;
        }
        let bytes = self.region(memory).map_or(0, |region| region.bytes as u64);
        self.instances.add_gone_bytes(bytes.max(1));
    }

    /// Whether its realm is neither in use nor waited for.
    pub fn is_idle(&self) -> bool {
        self.occupancy.is_free() && !self.is_running()
    }

    /// Whether its instances have taken so many bytes that a garbage collection is worth its cost, to
    /// find out whether they are still reachable.
    pub fn is_worth_collecting(&self) -> bool {
        self.instances.are_worth_collecting(self.extra.get())
    }

    /// Delays the next collection until there are twice as many bytes, because the instances are still
    /// reachable.
    pub fn put_collection_off(&self) {
        self.instances.put_collection_off(self.extra.get());
    }

    /// Delays the next check for a possible renewal until as many instances have been created as the
    /// check is worth.
    pub fn put_renewal_off(&self, entries: usize) {
        if self.is_worth_renewing() {
            self.instances.put_renewal_off(entries);
        }
    }

    /// Whether the host created the memory, rather than an instance.
    pub fn is_made(&self, memory: u32) -> bool {
        with_realm!(&*self.realm.borrow(), realm => realm.is_made(memory))
    }

    /// Moves the memories `kept`, which the host created, into a fresh store, if no instance is left.
    /// Returns the group in which memory `kept[n]` is now memory `n`: this group, or a new one if this
    /// one must stay because others of its memories are reachable. Bytes keep their addresses, and so do
    /// buffers, except those of memories that move when they grow. Transferred buffers keep the bytes of
    /// its other memories alive.
    pub fn renew(self: &Rc<Self>, scope: Scope, kept: &[u32], has_others: bool) -> Option<Rc<Self>> {
        if self.instances.are_left() {
            return None;
        }
        self.instances.forget_newest();
        let may_move = !self.views.have_transferred_buffers_of(scope, kept);
        let renewed = match &*self.realm.borrow() {
            AnyRealm::Wasmi(realm) => realm.renew(kept, may_move).map(AnyRealm::Wasmi),
            AnyRealm::Wasmer(realm) => realm.renew(kept, may_move).map(AnyRealm::Wasmer),
        };
        let Some(renewed) = renewed else {
            self.instances.take_note_of_failed_renewal();
            return None;
        };
        let moved = self.views.take_moved(kept);
        let home = if has_others {
            with_realm!(&*self.realm.borrow(), realm => realm.empty_memories(kept));
            Rc::new(Self::new(renewed))
        } else {
            self.views.detach_all(scope);
            // Transferred buffers may still refer to bytes of the memories that go with their store.
            let left = Rc::new(self.realm.replace(renewed));
            self.views.outlive(&left);
            self.clone()
        };
        home.views.extend(moved);
        home.detach_stale(scope);
        home.begin_store(scope);
        if has_others {
            self.begin_store(scope);
        }
        Some(home)
    }

    /// Records that its store has no instances.
    fn begin_store(&self, scope: Scope) {
        self.instances.begin_store(self.memory_bytes());
        self.extra.set(STORE_BYTES);
        self.report(scope);
    }

    // Ownership of the realm

    /// Enters the realm, unless an asynchronous call occupies it whose guest is not waiting for its
    /// supervisor.
    #[inline]
    pub fn enter(&self) -> Result<Entered<'_>, NativeError> {
        if self.occupancy.is_occupied() {
            self.occupancy.begin_use()?;
            return Ok(Entered { group: self, realm: self.realm(), is_counted: true });
        }
        Ok(Entered { group: self, realm: self.realm(), is_counted: false })
    }

    /// Counts a synchronous call into this group, or its end.
    pub fn count_running(&self, more: i32) {
        self.running.set(self.running.get().saturating_add_signed(more));
    }

    /// Whether synchronous calls into this group are on the stack.
    pub fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// From here on, the thread of this call owns the realm.
    pub fn occupy(&self, scope: Scope, call: CallId, exchange: &Arc<Exchange>) {
        self.views.detach_all(scope);
        self.pin(scope);
        self.occupancy.begin(call, exchange);
    }

    /// Takes the realm to answer the guest of the call that occupies it; the caller passes the answer.
    /// Detaches the views first.
    pub fn close(&self, scope: Scope) -> Option<Held> {
        self.views.detach_all(scope);
        self.pin(scope);
        self.occupancy.take_held()
    }

    /// Whether a guest of this group holds its thread while it waits for its supervisor.
    pub fn holds_threads(&self) -> bool {
        with_realm!(&*self.realm.borrow(), realm => !suspends(realm))
    }

    // Memories

    fn region(&self, memory: u32) -> Result<MemoryRegion, StoreError> {
        with_realm!(&*self.realm.borrow(), realm => realm.memory_region(memory))
    }

    /// Whether a transferred buffer, which cannot be detached from here, still refers to bytes of its
    /// memories.
    pub fn has_transferred_buffers(&self, scope: Scope) -> bool {
        self.views.have_transferred_buffers(scope)
    }

    /// Keeps memories from moving while transferred buffers refer to their bytes, because these buffers
    /// cannot be detached.
    pub fn pin(&self, scope: Scope) {
        let are_transferred = self.has_transferred_buffers(scope);
        with_realm!(&*self.realm.borrow(), realm => realm.pin_memories(are_transferred));
    }

    // The following functions use the realm, so the caller must have entered it.

    /// The memory's ArrayBuffer. It is the same object until the memory's size changes.
    pub fn view(&self, scope: Scope, memory: u32, is_refused: bool) -> Result<JsValue, NativeError> {
        if let Some(shared) = self.shared_view(scope, memory, is_refused)? {
            return Ok(shared);
        }
        let region = self.region(memory)?;
        if region.bytes > 0 {
            return Err(NativeError::new(
                ErrorKind::NoBuffers,
                "this runtime, like Electron, allows no ArrayBuffer over native memory",
            ));
        }
        scope.empty_buffer()
    }

    /// Like [`Group::view`], but returns `None` if the memory is empty or the host forbids such buffers,
    /// as Electron does.
    pub fn shared_view(&self, scope: Scope, memory: u32, is_refused: bool) -> Result<Option<JsValue>, NativeError> {
        self.detach_stale(scope);
        if let Some(known) = self.views.find(scope, memory) {
            return Ok(Some(known));
        }
        let region = self.region(memory)?;
        if region.bytes == 0 || is_refused {
            return Ok(None);
        }
        // SAFETY: the region stays until the memory grows or the realm is dropped; before either lets
        // JavaScript run again, `detach_stale` or `release` detaches the buffer. If somebody else has,
        // memories that would move do not grow (`pin`), and the realm stays until the bytes are gone
        // (`release`).
        unsafe { self.views.add(scope, memory, region) }
    }

    /// Detaches the views of memories that have grown. Must be called whenever a guest may have run,
    /// before JavaScript runs.
    #[inline]
    pub fn detach_stale(&self, scope: Scope) {
        if !self.views.is_empty() {
            self.views.detach_stale(scope, |view| self.region(view.memory) == Ok(view.region));
        }
    }

    /// Detaches all views and takes back what was reported to V8, before the realm is dropped.
    /// Transferred buffers keep the realm until they are gone.
    pub fn release(self: &Rc<Self>, scope: Scope) {
        self.views.detach_all(scope);
        scope.adjust_external_memory(-self.reported.take());
        self.views.outlive(self);
    }

    /// Counts bytes that do not belong to a memory in the realm's table.
    pub fn add_extra(&self, bytes: u64) {
        self.extra.set(self.extra.get().saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    fn memory_bytes(&self) -> u64 {
        let memories = with_realm!(&*self.realm.borrow(), realm => realm.memory_count());
        let regions = (0..memories).filter_map(|memory| self.region(memory).ok());
        regions.fold(0_u64, |sum, region| sum.saturating_add(region.bytes as u64))
    }

    /// Reports to V8 how much native memory this group uses.
    pub fn report(&self, scope: Scope) {
        let bytes = self.extra.get().saturating_add(i64::try_from(self.memory_bytes()).unwrap_or(i64::MAX));
        scope.adjust_external_memory(bytes - self.reported.replace(bytes));
    }
}

/// Releases and drops a group, if this is the last reference to it.
pub fn release_if_last(scope: Scope, group: Rc<Group>) {
    if Rc::strong_count(&group) == 1 {
        group.release(scope);
    }
}

fn suspends<E: Engine>(_: &Realm<E>) -> bool {
    E::SUSPENDS
}
