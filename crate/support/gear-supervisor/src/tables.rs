//! What the host refers to by handles.

use crate::Instance;
use alloc::vec::Vec;
use core::{cell::RefCell, mem::ManuallyDrop, ptr};

/// Values by handles, which are their indices. The handles of values that were removed are given out again.
///
/// A table is borrowed only within these methods, and no value is dropped there, since that may call the host.
pub struct Table<T>(RefCell<Vec<Option<T>>>);

// SAFETY: this program has one thread.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Adds a value, and returns its handle, which is not negative.
    pub fn insert(&self, value: T) -> i32 {
        let mut entries = self.0.borrow_mut();
        let handle = entries.iter().position(Option::is_none).unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[handle] = Some(value);
        handle as i32
    }

    /// Takes a value out. An empty table keeps no memory.
    pub fn remove(&self, handle: u32) -> Option<T> {
        let mut entries = self.0.borrow_mut();
        let value = entries.get_mut(handle as usize)?.take();
        if entries.iter().all(Option::is_none) {
            *entries = Vec::new();
        }
        value
    }

    /// A clone of a value.
    pub fn get(&self, handle: u32) -> T
    where
        T: Clone,
    {
        self.with(handle, T::clone)
    }

    /// Whether there is a value.
    pub fn contains(&self, handle: u32) -> bool {
        self.0.borrow().get(handle as usize).is_some_and(Option::is_some)
    }

    /// Looks at a value, which must be there. If it is not, the table is not borrowed any more when that traps.
    fn with<R>(&self, handle: u32, look: impl FnOnce(&T) -> R) -> R {
        let seen = self.0.borrow().get(handle as usize).and_then(Option::as_ref).map(look);
        seen.expect("handles are known")
    }
}

impl Table<Instance> {
    /// A bitwise copy of an instance, for one call of a method.
    ///
    /// Unlike a clone it does not keep the instance alive: that may be removed and dropped during the call, which is
    /// how an instance is torn down while it runs.
    pub fn alias(&self, handle: u32) -> ManuallyDrop<Instance> {
        // SAFETY: the copy is never dropped. The methods of an instance read its index before they call the host, and
        // look at the instance no more once they have, while it can be dropped only by a call of the host.
        self.with(handle, |instance| unsafe { ManuallyDrop::new(ptr::read(instance)) })
    }
}
