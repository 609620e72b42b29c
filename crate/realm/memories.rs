//! The memories of a realm.

use std::rc::Rc;

use super::Realm;
use crate::{
    engine::{Engine, MemoryRegion},
    error::{MemoryError, StoreError},
    value::{MAX_PAGES, MemoryType, PAGE_BYTES},
};

impl<E: Engine> Realm<E> {
    /// Creates a memory and returns its index.
    pub fn new_memory(&self, ty: MemoryType) -> Result<u32, MemoryError> {
        if let Some(pages) = [ty.maximum, Some(ty.minimum)].into_iter().flatten().find(|pages| *pages > MAX_PAGES) {
            return Err(MemoryError::TooLarge { pages, limit: MAX_PAGES });
        }
        if let Some(maximum) = ty.maximum
            && ty.minimum > maximum
        {
            return Err(MemoryError::InitialAboveMaximum { initial: ty.minimum, maximum });
        }
        let bytes = ty.minimum.saturating_mul(PAGE_BYTES);
        if let Some(limit) = self.limits.memory_bytes.filter(|limit| bytes > *limit) {
            return Err(MemoryError::Limit { bytes, limit });
        }
        let memory = self.slot.with(|cx| E::new_memory(cx, ty))??;
        Ok(self.add_memory(memory, true))
    }

    /// A realm with an empty store and the memories `kept` of this one, as memories 0, 1 and so on.
    /// Their bytes stay where they are, except those of memories that move when they grow; `may_move`
    /// says whether these may be moved. Afterwards, no instance of this realm may run, and these
    /// memories must not be used through it. Returns `None`, and changes nothing, if that is impossible:
    /// a memory that an instance defined stays with it, and so does everything that a running guest may
    /// use.
    pub fn renew(&self, kept: &[u32], may_move: bool) -> Option<Rc<Self>> {
        if !kept.iter().all(|memory| self.is_made(*memory)) || self.host.get().is_some() {
            return None;
        }
        let renewed = Self::with_limits(&self.engine, self.limits.clone());
        let moved = self.slot.with(|from| {
            if !may_move && kept.iter().any(|memory| E::memory_moves(from, &self.memory(*memory))) {
                return Ok(None);
            }
            renewed.slot.with(|to| self.move_memories(from, to, kept))
        });
        for memory in moved.ok()?.ok()?? {
            renewed.add_memory(memory, true);
        }
        renewed.is_pinned.set(self.is_pinned.get());
        Some(renewed)
    }

    /// Whether the memory was created by [`Realm::new_memory`], rather than by an instance.
    pub fn is_made(&self, index: u32) -> bool {
        self.made.borrow().get(index as usize).copied().unwrap_or(false)
    }

    /// Puts empty memories in the places of those that [`Realm::renew`] has moved away, if this realm
    /// stays in use with its other memories.
    pub fn empty_memories(&self, moved: &[u32]) {
        for memory in moved {
            let empty = self.slot.with(|cx| E::new_memory(cx, MemoryType { minimum: 0, maximum: Some(0) }));
            if let Ok(Ok(empty)) = empty
                && let Some(place) = self.memories.borrow_mut().get_mut(*memory as usize)
            {
                *place = empty;
            }
        }
    }

    pub(super) fn move_memories(
        &self,
        from: &mut E::Context<'_>,
        to: &mut E::Context<'_>,
        kept: &[u32],
    ) -> Option<Vec<E::Memory>> {
        let mut moved: Vec<E::Memory> = Vec::with_capacity(kept.len());
        for memory in kept {
            match E::move_memory(from, &self.memory(*memory), to) {
                Ok(memory) => moved.push(memory),
                Err(_) => {
                    for (memory, place) in moved.iter().zip(kept) {
                        if let Ok(back) = E::move_memory(to, memory, from) {
                            self.memories.borrow_mut()[*place as usize] = back;
                        }
                    }
                    return None;
                }
            }
        }
        Some(moved)
    }

    pub(super) fn add_memory(&self, memory: E::Memory, is_made: bool) -> u32 {
        self.made.borrow_mut().push(is_made);
        let mut memories = self.memories.borrow_mut();
        memories.push(memory);
        memories.len() as u32 - 1
    }

    pub(super) fn memory(&self, index: u32) -> E::Memory {
        // Indices come from this realm and are never reused.
        self.memories.borrow()[index as usize].clone()
    }

    /// Where the memory currently lies.
    pub fn memory_region(&self, index: u32) -> Result<MemoryRegion, StoreError> {
        let memory = self.memory(index);
        self.slot.with(|cx| E::memory_region(cx, &memory))
    }

    /// The memory's type at its creation.
    pub fn memory_type(&self, index: u32) -> Result<MemoryType, StoreError> {
        let memory = self.memory(index);
        self.slot.with(|cx| E::memory_type(cx, &memory))
    }

    /// Grows the memory by `delta` pages and returns its size before, in pages.
    pub fn memory_grow(&self, index: u32, delta: u64) -> Result<u64, MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            if let Some(limit) = self.limits.memory_bytes {
                let bytes = E::memory_region(cx, &memory).bytes as u64;
                if bytes.saturating_add(delta.saturating_mul(PAGE_BYTES)) > limit {
                    let reason = format!("it has {bytes} bytes, and the limit is {limit}");
                    return Err(MemoryError::Grow { delta, reason });
                }
            }
            if delta > 0 && self.is_pinned.get() && E::memory_moves(cx, &memory) {
                let reason = "its buffer was taken away from it, and its bytes must stay where they are".to_owned();
                return Err(MemoryError::Grow { delta, reason });
            }
            E::memory_grow(cx, &memory, delta)
        })?
    }

    /// Sets whether a transferred buffer, which cannot be detached, has the bytes of a memory. While it
    /// does, no memory may move.
    pub fn pin_memories(&self, is_pinned: bool) {
        self.is_pinned.set(is_pinned);
    }

    /// Whether memories may move when a running guest grows them.
    pub(crate) fn memories_may_move(&self) -> bool {
        // SAFETY: as in `lend`.
        !self.is_pinned.get() && self.host.get().is_none_or(|mut host| unsafe { host.as_mut() }.memories_may_move())
    }

    /// Copies `dest.len()` bytes at `address` out of the memory.
    pub fn memory_read(&self, index: u32, address: u64, dest: &mut [u8]) -> Result<(), MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            let from = in_bounds("read", E::memory_region(cx, &memory), address, dest.len())?;
            // SAFETY: `from` is `dest.len()` bytes of the memory, which stays as it is while we hold the
            // context. `dest` may be a view of that same memory, so the copy allows overlap.
            unsafe { std::ptr::copy(from, dest.as_mut_ptr(), dest.len()) };
            Ok(())
        })?
    }

    /// Copies `src` into the memory at `address`.
    pub fn memory_write(&self, index: u32, address: u64, src: &[u8]) -> Result<(), MemoryError> {
        let memory = self.memory(index);
        self.slot.with(|cx| {
            let to = in_bounds("write", E::memory_region(cx, &memory), address, src.len())?;
            // SAFETY: `to` is `src.len()` bytes of the memory, which stays as it is while we hold the
            // context. `src` may be a view of that same memory, so the copy allows overlap.
            unsafe { std::ptr::copy(src.as_ptr(), to, src.len()) };
            Ok(())
        })?
    }
}

/// Copies a memory of `from`, with all its bytes, to a new memory of `to`, and returns its index there.
pub fn move_memory<E: Engine>(from: &Realm<E>, index: u32, to: &Realm<E>) -> Result<u32, MemoryError> {
    let declared = from.memory_type(index)?;
    let region = from.memory_region(index)?;
    let pages = region.bytes as u64 / PAGE_BYTES;
    // The two memories count once, so that there need not be room for both.
    from.superseded.add(region.bytes as u64);
    let moved = to.new_memory(MemoryType { minimum: pages.max(declared.minimum), ..declared });
    let moved = moved.inspect_err(|_| from.superseded.remove(region.bytes as u64))?;
    // SAFETY: `from` is idle (we just used it) and another realm than `to`, so nothing changes the
    // region during the copy.
    let bytes = unsafe { std::slice::from_raw_parts(region.base, region.bytes) };
    // Pages that were never written are left untouched in the copy as well.
    for (page, chunk) in bytes.chunks(4096).enumerate().filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0)) {
        to.memory_write(moved, page as u64 * 4096, chunk)?;
    }
    Ok(moved)
}

/// The address of `length` bytes of a memory, if they are all in bounds.
pub(super) fn in_bounds(
    access: &'static str,
    region: MemoryRegion,
    address: u64,
    length: usize,
) -> Result<*mut u8, MemoryError> {
    let end = address.checked_add(length as u64);
    if end.is_none_or(|end| end > region.bytes as u64) {
        let (length, size) = (length as u64, region.bytes as u64);
        return Err(MemoryError::OutOfBounds { access, address, length, size });
    }
    Ok(region.base.wrapping_add(address as usize))
}
