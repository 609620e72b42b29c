//! How much of a store instances have used, which only grows, and when a fresh store is worth its cost.

use std::cell::Cell;

/// The instances of a group.
pub struct Instances {
    /// The number of instances created in its store, including failed attempts.
    made: Cell<u32>,
    /// The number of instances that are left.
    alive: Cell<u32>,
    /// The number of the newest instance.
    newest: Cell<Option<u32>>,
    /// The number of created instances from which a fresh store is worth its cost.
    worth_from: Cell<u32>,
    /// The size in bytes of the memories in its store that are no longer reachable.
    gone_bytes: Cell<u64>,
    /// The number of bytes from which a garbage collection is worth its cost, if uncollected instances
    /// are all that keeps the store.
    collect_from: Cell<i64>,
}

/// A fresh store is created after at least this many instances, or one instance for each
/// `BYTES_PER_INSTANCE` of memory, which may have to be copied, but after at most
/// `MOST_INSTANCES_PER_STORE`.
const INSTANCES_PER_STORE: u32 = 64;
const BYTES_PER_INSTANCE: u64 = 16 * 1024;
const MOST_INSTANCES_PER_STORE: u32 = 16 * 1024;
/// A garbage collection is requested when instances have taken at least about this many bytes of a
/// store.
const BYTES_PER_COLLECTION: i64 = 64 * 1024 * 1024;

impl Default for Instances {
    fn default() -> Self {
        Self {
            made: Cell::default(),
            alive: Cell::default(),
            newest: Cell::default(),
            worth_from: Cell::new(INSTANCES_PER_STORE),
            gone_bytes: Cell::default(),
            collect_from: Cell::new(BYTES_PER_COLLECTION),
        }
    }
}

impl Instances {
    /// Counts an instance that is about to be created: it uses some of the store even if that fails.
    pub fn count_made(&self) {
        self.made.set(self.made.get().saturating_add(1));
    }

    pub fn add(&self, number: u32) {
        self.alive.set(self.alive.get() + 1);
        self.newest.set(Some(number));
    }

    pub fn remove(&self) {
        self.alive.set(self.alive.get().saturating_sub(1));
    }

    pub fn are_left(&self) -> bool {
        self.alive.get() > 0
    }

    /// Whether the store holds remains of instances that are gone, and no living instance.
    pub fn have_only_left_overs(&self) -> bool {
        !self.are_left() && (self.made.get() > 0 || self.gone_bytes.get() > 0)
    }

    pub fn newest(&self) -> Option<u32> {
        self.newest.get()
    }

    pub fn forget_newest(&self) {
        self.newest.set(None);
    }

    /// Whether so many instances have been created in the store that a fresh one is worth its cost once
    /// they are gone.
    pub fn are_many(&self) -> bool {
        self.made.get() >= self.worth_from.get()
    }

    pub fn gone_bytes(&self) -> u64 {
        self.gone_bytes.get()
    }

    pub fn add_gone_bytes(&self, bytes: u64) {
        self.gone_bytes.set(self.gone_bytes.get().saturating_add(bytes));
    }

    /// Whether the instances have taken so many bytes that a garbage collection is worth its cost, to
    /// find out whether they are still reachable.
    pub fn are_worth_collecting(&self, bytes: i64) -> bool {
        bytes >= self.collect_from.get()
    }

    /// Delays the next collection until there are twice as many bytes.
    pub fn put_collection_off(&self, bytes: i64) {
        self.collect_from.set(bytes.saturating_mul(2).max(BYTES_PER_COLLECTION));
    }

    /// Delays the next check for a fresh store until enough instances have been created to be worth
    /// checking this many entries.
    pub fn put_renewal_off(&self, entries: usize) {
        let more = u32::try_from(entries / 8).unwrap_or(u32::MAX).max(INSTANCES_PER_STORE);
        self.worth_from.set(self.made.get().saturating_add(more));
    }

    /// Records that no fresh store could be created.
    pub fn take_note_of_failed_renewal(&self) {
        self.worth_from.set(self.worth_from.get().saturating_mul(2));
        self.gone_bytes.set(0);
    }

    /// Begins a fresh store, whose memories have this many bytes.
    pub fn begin_store(&self, memory_bytes: u64) {
        self.collect_from.set(BYTES_PER_COLLECTION);
        self.made.set(0);
        self.gone_bytes.set(0);
        let per_store = u32::try_from(memory_bytes / BYTES_PER_INSTANCE).unwrap_or(u32::MAX);
        self.worth_from.set(per_store.clamp(INSTANCES_PER_STORE, MOST_INSTANCES_PER_STORE));
    }
}
