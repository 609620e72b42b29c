//! How much instances have taken of a store, which only grows, and when a fresh one is worth its cost.

use std::cell::Cell;

/// The instances of a group.
pub struct Instances {
    /// How many have been made in its store, or have failed to be.
    made: Cell<u32>,
    /// How many are left.
    alive: Cell<u32>,
    /// The number of the one that was made last.
    newest: Cell<Option<u32>>,
    /// How many must have been made for a fresh store to be worth its cost.
    worth_from: Cell<u32>,
    /// Bytes of memories in its store that nobody can reach any more.
    gone_bytes: Cell<u64>,
    /// How many bytes they must have taken for a garbage collection to be worth its cost, if it is only that which keeps the store.
    collect_from: Cell<i64>,
}

/// A fresh store is made for so many instances at least, or one for each so many bytes of memory, which may have to be copied, but not for more than
/// the other number.
const INSTANCES_PER_STORE: u32 = 64;
const BYTES_PER_INSTANCE: u64 = 16 * 1024;
const MOST_INSTANCES_PER_STORE: u32 = 16 * 1024;
/// A garbage collection is asked for when instances have taken about so many bytes of a store, at least.
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
    /// Counts an instance that is about to be made: it leaves something in the store even if that fails.
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

    /// Whether the store has something of instances that are gone, and nothing of others.
    pub fn have_only_left_overs(&self) -> bool {
        !self.are_left() && (self.made.get() > 0 || self.gone_bytes.get() > 0)
    }

    pub fn newest(&self) -> Option<u32> {
        self.newest.get()
    }

    pub fn forget_newest(&self) {
        self.newest.set(None);
    }

    /// Whether so many have been made in the store that a fresh one is worth its cost once they are gone.
    pub fn are_many(&self) -> bool {
        self.made.get() >= self.worth_from.get()
    }

    pub fn gone_bytes(&self) -> u64 {
        self.gone_bytes.get()
    }

    pub fn add_gone_bytes(&self, bytes: u64) {
        self.gone_bytes.set(self.gone_bytes.get().saturating_add(bytes));
    }

    /// Whether they have taken so many bytes that it is worth a garbage collection to find out whether they can still be reached.
    pub fn are_worth_collecting(&self, bytes: i64) -> bool {
        bytes >= self.collect_from.get()
    }

    /// Has the next collection wait until there are twice as many bytes.
    pub fn put_collection_off(&self, bytes: i64) {
        self.collect_from.set(bytes.saturating_mul(2).max(BYTES_PER_COLLECTION));
    }

    /// Has the next look whether a fresh store is possible wait for as many instances as a look at so many entries costs.
    pub fn put_renewal_off(&self, entries: usize) {
        let more = u32::try_from(entries / 8).unwrap_or(u32::MAX).max(INSTANCES_PER_STORE);
        self.worth_from.set(self.made.get().saturating_add(more));
    }

    /// No fresh store could be made.
    pub fn take_note_of_failed_renewal(&self) {
        self.worth_from.set(self.worth_from.get().saturating_mul(2));
        self.gone_bytes.set(0);
    }

    /// The store is a fresh one, with memories of so many bytes.
    pub fn begin_store(&self, memory_bytes: u64) {
        self.collect_from.set(BYTES_PER_COLLECTION);
        self.made.set(0);
        self.gone_bytes.set(0);
        let per_store = u32::try_from(memory_bytes / BYTES_PER_INSTANCE).unwrap_or(u32::MAX);
        self.worth_from.set(per_store.clamp(INSTANCES_PER_STORE, MOST_INSTANCES_PER_STORE));
    }
}
