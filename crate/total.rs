//! What the memories and tables of several stores may come to together.
//!
//! A [`TotalBytes`] is one counter with a limit. Whatever has bytes holds a [`Charge`], which adds to the counter before the bytes come into
//! being, and gives them back when it is dropped. Stores are on several threads, so the counter is atomic.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use thiserror::Error;

/// What one element of a table counts, in bytes, on either engine.
pub const ELEMENT_BYTES: u64 = 8;

/// A limit, and how many bytes of it are in use.
#[derive(Debug)]
pub struct TotalBytes {
    limit: u64,
    used: AtomicU64,
}

/// There is no room for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{asked} more bytes are asked for, {used} are in use, and limits.totalBytes is {limit}")]
pub struct TotalExceeded {
    pub asked: u64,
    pub used: u64,
    pub limit: u64,
}

impl TotalBytes {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// How many bytes are in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there is room for so many bytes at the moment.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used().checked_add(bytes).is_some_and(|used| used <= self.limit)
    }

    // The counter guards no other memory, so its operations need no order.

    fn add(&self, bytes: u64) -> Result<(), TotalExceeded> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(used) => Err(TotalExceeded { asked: bytes, used, limit: self.limit }),
        }
    }

    /// Adds bytes that exist already, whatever the limit.
    fn add_existing(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that count to a total, if there is one, for as long as this lives.
#[derive(Debug, Default)]
pub struct Charge {
    total: Option<Arc<TotalBytes>>,
    bytes: u64,
}

impl Charge {
    /// A charge of no bytes.
    pub fn new(total: Option<Arc<TotalBytes>>) -> Self {
        Self { total, bytes: 0 }
    }

    /// Counts so many bytes more, or none if there is no room for all of them.
    pub fn add(&mut self, bytes: u64) -> Result<(), TotalExceeded> {
        if let Some(total) = &self.total {
            total.add(bytes)?;
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Counts so many bytes less, but at most as many as it has.
    pub fn give_back(&mut self, bytes: u64) {
        if let Some(total) = &self.total {
            let bytes = bytes.min(self.bytes);
            self.bytes -= bytes;
            total.give_back(bytes);
        }
    }

    /// Has another charge of the same total count so many of its bytes.
    pub fn hand_over(&mut self, bytes: u64, to: &mut Self) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        to.bytes += bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// Bytes of a store that count no more although they live on for a moment, because another store has a copy of them that counts. They count
/// again when this is dropped, which must be before the charges of the store are.
#[derive(Debug)]
pub struct Superseded {
    total: Option<Arc<TotalBytes>>,
    bytes: Cell<u64>,
}

impl Superseded {
    pub fn new(total: Option<Arc<TotalBytes>>) -> Self {
        Self { total, bytes: Cell::new(0) }
    }

    pub fn add(&self, bytes: u64) {
        if let Some(total) = &self.total {
            total.give_back(bytes);
            self.bytes.set(self.bytes.get() + bytes);
        }
    }

    /// There is no copy after all.
    pub fn remove(&self, bytes: u64) {
        if let Some(total) = &self.total {
            total.add_existing(bytes);
            self.bytes.set(self.bytes.get() - bytes);
        }
    }
}

impl Drop for Superseded {
    fn drop(&mut self) {
        if let Some(total) = &self.total {
            total.add_existing(self.bytes.get());
        }
    }
}
