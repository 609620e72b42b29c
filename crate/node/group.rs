//! A realm as JavaScript sees it: with the zero-copy views of its memories, the bytes that V8 is told about, and whose it is at the
//! moment.

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

/// A realm and what hangs on it. When the last handle is gone it goes too, after its views are detached.
pub struct Group {
    /// Only reached by [`Group::enter`], because it may be in the hands of another thread. Replaced by [`Group::renew`].
    realm: RefCell<AnyRealm>,
    pub occupancy: Occupancy,
    /// How many synchronous calls of it are on the stack.
    running: Cell<u32>,
    views: Views,
    /// What V8 was told.
    reported: Cell<i64>,
    /// Bytes of instances' own memories and records, as far as they can be told at instantiation.
    extra: Cell<i64>,
    pub instances: Instances,
}

/// A fresh store is worth its cost as soon as so many bytes of memories are gone, and a quarter of all that there are.
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

/// About what a store without objects takes, on either engine.
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

    /// The realm, for what is allowed whoever has it.
    fn realm(&self) -> AnyRealm {
        self.realm.borrow().clone()
    }

    /// Whether so much has been made in its store that is gone that a fresh one is worth its cost.
    pub fn is_worth_renewing(&self) -> bool {
        self.instances.are_many() || self.has_large_left_overs()
    }

    fn has_large_left_overs(&self) -> bool {
        let gone = self.instances.gone_bytes();
        gone >= LARGE_LEFT_OVERS && !self.occupancy.is_occupied() && gone >= self.memory_bytes() / 4
    }

    /// Takes note that nobody can reach one of its memories any more. Those that instances have made go with them.
    pub fn count_gone_memory(&self, memory: u32) {
        // While a thread has the realm nobody here may look at it.
        if self.occupancy.is_occupied() || !self.is_made(memory) {
            return;
        }
        let bytes = self.region(memory).map_or(0, |region| region.bytes as u64);
        self.instances.add_gone_bytes(bytes.max(1));
    }

    /// Whether nobody is using its realm, or waits to.
    pub fn is_idle(&self) -> bool {
        self.occupancy.is_free() && !self.is_running()
    }

    /// Whether its instances have taken so much that it is worth a garbage collection to find out whether they can still be reached.
    pub fn is_worth_collecting(&self) -> bool {
        self.instances.are_worth_collecting(self.extra.get())
    }

    /// Has the next collection wait until there is twice as much, because instances can be reached.
    pub fn put_collection_off(&self) {
        self.instances.put_collection_off(self.extra.get());
    }

    /// Has the next look whether a renewal is possible wait for as many instances as a look costs.
    pub fn put_renewal_off(&self, entries: usize) {
        if self.is_worth_renewing() {
            self.instances.put_renewal_off(entries);
        }
    }

    /// Whether the memory was made by the host, and not by an instance.
    pub fn is_made(&self, memory: u32) -> bool {
        with_realm!(&*self.realm.borrow(), realm => realm.is_made(memory))
    }

    /// Moves the memories `kept`, which the host has made, into a fresh store, if no instance is left. Returns the group where memory `kept[n]` is memory
    /// `n` now: this one, or a new one if this one has to stay because somebody can reach others of its memories. Bytes stay where they are,
    /// and so do buffers, but those of memories that move when they grow.
    /// Bytes of its other memories that somebody may have stay too, until nobody has them.
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
            // The bytes of memories that go with their store may be in somebody's hands.
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

    /// Takes note that its store has no instances.
    fn begin_store(&self, scope: Scope) {
        self.instances.begin_store(self.memory_bytes());
        self.extra.set(STORE_BYTES);
        self.report(scope);
    }

    // Whose the realm is

    /// The realm, unless an asynchronous call has it whose guest is not waiting for its supervisor.
    #[inline]
    pub fn enter(&self) -> Result<Entered<'_>, NativeError> {
        if self.occupancy.is_occupied() {
            self.occupancy.begin_use()?;
            return Ok(Entered { group: self, realm: self.realm(), is_counted: true });
        }
        Ok(Entered { group: self, realm: self.realm(), is_counted: false })
    }

    /// Counts a synchronous call, until it is over.
    pub fn count_running(&self, more: i32) {
        self.running.set(self.running.get().saturating_add_signed(more));
    }

    /// Whether synchronous calls of it are on the stack.
    pub fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// From here on the realm is the thread's of that call.
    pub fn occupy(&self, scope: Scope, call: CallId, exchange: &Arc<Exchange>) {
        self.views.detach_all(scope);
        self.pin(scope);
        self.occupancy.begin(call, exchange);
    }

    /// The guest of the call that occupies the realm has its answer, which the caller gives it. Views go before that.
    pub fn close(&self, scope: Scope) -> Option<Held> {
        self.views.detach_all(scope);
        self.pin(scope);
        self.occupancy.take_held()
    }

    /// Whether a guest of it that waits for its supervisor holds its thread.
    pub fn holds_threads(&self) -> bool {
        with_realm!(&*self.realm.borrow(), realm => !suspends(realm))
    }

    // Memories

    fn region(&self, memory: u32) -> Result<MemoryRegion, StoreError> {
        with_realm!(&*self.realm.borrow(), realm => realm.memory_region(memory))
    }

    /// Whether somebody has bytes of its memories, in a buffer that it cannot detach.
    pub fn has_transferred_buffers(&self, scope: Scope) -> bool {
        self.views.have_transferred_buffers(scope)
    }

    /// Has memories stay where they are if somebody has bytes of theirs who cannot be told that they move.
    pub fn pin(&self, scope: Scope) {
        let are_transferred = self.has_transferred_buffers(scope);
        with_realm!(&*self.realm.borrow(), realm => realm.pin_memories(are_transferred));
    }

    // These use the realm, so the caller has entered it.

    /// The memory's ArrayBuffer: the same one as long as the memory keeps its size.
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

    /// The same, but nothing if the memory is empty or the host forbids such buffers, as Electron does.
    pub fn shared_view(&self, scope: Scope, memory: u32, is_refused: bool) -> Result<Option<JsValue>, NativeError> {
        self.detach_stale(scope);
        if let Some(known) = self.views.find(scope, memory) {
            return Ok(Some(known));
        }
        let region = self.region(memory)?;
        if region.bytes == 0 || is_refused {
            return Ok(None);
        }
        // SAFETY: the region stays until the memory grows or the realm is dropped; before either lets JavaScript run
        // again, `detach_stale` or `release` detaches the buffer. If somebody else has, memories that would move do not
        // grow (`pin`), and the realm stays until the bytes are gone (`release`).
        unsafe { self.views.add(scope, memory, region) }
    }

    /// Detaches the views of memories that have grown. To be called whenever a guest may have run, before JavaScript does.
    #[inline]
    pub fn detach_stale(&self, scope: Scope) {
        if !self.views.is_empty() {
            self.views.detach_stale(scope, |view| self.region(view.memory) == Ok(view.region));
        }
    }

    /// Detaches all views and takes back what V8 was told: the realm is about to go, once nobody has bytes of its memories any more.
    pub fn release(self: &Rc<Self>, scope: Scope) {
        self.views.detach_all(scope);
        scope.adjust_external_memory(-self.reported.take());
        self.views.outlive(self);
    }

    /// Counts bytes that no memory of the realm's table shows.
    pub fn add_extra(&self, bytes: u64) {
        self.extra.set(self.extra.get().saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    fn memory_bytes(&self) -> u64 {
        let memories = with_realm!(&*self.realm.borrow(), realm => realm.memory_count());
        let regions = (0..memories).filter_map(|memory| self.region(memory).ok());
        regions.fold(0_u64, |sum, region| sum.saturating_add(region.bytes as u64))
    }

    /// Tells V8 how much native memory hangs on this group by now.
    pub fn report(&self, scope: Scope) {
        let bytes = self.extra.get().saturating_add(i64::try_from(self.memory_bytes()).unwrap_or(i64::MAX));
        scope.adjust_external_memory(bytes - self.reported.replace(bytes));
    }
}

/// Releases a group that no one else holds, and drops it.
pub fn release_if_last(scope: Scope, group: Rc<Group>) {
    if Rc::strong_count(&group) == 1 {
        group.release(scope);
    }
}

fn suspends<E: Engine>(_: &Realm<E>) -> bool {
    E::SUSPENDS
}
