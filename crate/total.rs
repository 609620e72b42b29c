//! A limit on the total size of the memories and tables of several stores.
//!
//! A [`TotalBytes`] is one counter with a limit. Each owner of bytes holds a [`Charge`]. It adds to the
//! counter before the bytes are allocated, and subtracts from it when it is dropped. Stores are on
//! several threads, so the counter is atomic.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use thiserror::Error;

/// The size in bytes that one table element counts as, on either engine.
pub const ELEMENT_BYTES: u64 = 8;

/// A limit and the number of bytes in use.
#[derive(Debug)]
pub struct TotalBytes {
    limit: u64,
    used: AtomicU64,
}

/// The limit leaves no room for these bytes.
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

    /// The number of bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there is currently room for this many more bytes.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used().checked_add(bytes).is_some_and(|used| used <= self.limit)
    }

    // The counter guards no other memory, so relaxed ordering suffices.

    fn add(&self, bytes: u64) -> Result<(), TotalExceeded> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(used) => Err(TotalExceeded { asked: bytes, used, limit: self.limit }),
        }
    }

    /// Adds bytes that already exist, regardless of the limit.
    fn add_existing(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that count toward a total, if there is one, for as long as this lives.
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

    /// Adds this many bytes to the charge, or none if there is no room for all of them.
    pub fn add(&mut self, bytes: u64) -> Result<(), TotalExceeded> {
        if let Some(total) = &self.total {
            total.add(bytes)?;
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Subtracts this many bytes, but at most as many as the charge holds.
    pub fn give_back(&mut self, bytes: u64) {
        if let Some(total) = &self.total {
            let bytes = bytes.min(self.bytes);
            self.bytes -= bytes;
            total.give_back(bytes);
        }
    }

    /// Moves this many bytes, at most as many as it holds, to another charge of the same total.
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

/// Bytes of a store that no longer count, although they live on for a moment, because another store has
/// a copy of them that counts. They count again when this is dropped, which must happen before the
/// store's charges are dropped.
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

    /// Counts bytes again whose copy does not exist after all.
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
