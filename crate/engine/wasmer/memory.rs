//! Where the memories of guests lie, and how many addresses they reserve. A part of `engine/wasmer.rs`.
//!
//! There are two kinds of code. Guarded code has no bounds checks, so its memories reserve everything
//! that a 32-bit address and a 32-bit offset reach, 8 GiB. Checked code compares each address with the
//! size of the memory, so its memories reserve only what they may grow to. It takes up to 1.4 times as
//! long where a guest does little but read and write. Memories are guarded until a quarter of the
//! machine's addresses is reserved for them.

use std::{
    cell::UnsafeCell,
    ptr::NonNull,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use wasmer::sys::vm::{
    LinearMemory, MaybeInstanceOwned, MemoryError, MemoryStyle, Mmap, MmapType, VMMemory, VMMemoryDefinition,
};
use wasmer_types::{MemoryType, Pages};

use crate::value::{MAX_PAGES, PAGE_BYTES};

/// How code is kept within the bounds of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Inaccessible pages wherever an out-of-bounds address can point to.
    Guarded,
    /// A comparison of each address. This also works for a guarded memory.
    Checked,
}

/// The size of the inaccessible region behind a memory for checked code: an address is compared without
/// its offset and access size if these together are no more than this.
const CHECKED_GUARD_BYTES: u64 = PAGE_BYTES;

/// The number of bytes of addresses that a guarded memory reserves.
const GUARDED_BYTES: u64 = MAX_PAGES * PAGE_BYTES + MemoryStyle::static_offset_guard_size();

impl Bounds {
    /// The bounds for `memories` new memories.
    pub fn for_new(memories: u64) -> Self {
        let reserved = GUARDED.load(Ordering::Relaxed).saturating_add(memories);
        if reserved <= *MOST_GUARDED { Self::Guarded } else { Self::Checked }
    }

    /// The memory style of wasmer for these bounds.
    pub fn style(self) -> MemoryStyle {
        match self {
            Self::Guarded => MemoryStyle::Static,
            Self::Checked => MemoryStyle::Dynamic { offset_guard_size: CHECKED_GUARD_BYTES },
        }
    }

    /// The bounds that code must have to use a memory of this style.
    pub fn of(style: MemoryStyle) -> Self {
        match style {
            MemoryStyle::Static => Self::Guarded,
            MemoryStyle::Dynamic { .. } => Self::Checked,
        }
    }
}

/// The number of guarded memories in the process.
static GUARDED: AtomicU64 = AtomicU64::new(0);

/// The most guarded memories. The rest of the addresses is for checked memories and for everything else
/// in the process.
static MOST_GUARDED: LazyLock<u64> = LazyLock::new(|| addresses() / 4 / GUARDED_BYTES);

/// The number of addresses, in bytes, that this process can have.
fn addresses() -> u64 {
    machine_addresses().min(limit_of_addresses())
}

#[cfg(target_os = "linux")]
fn machine_addresses() -> u64 {
    // Stacks lie in the upper half of the addresses, of which most machines have 2^47, but some with ARM
    // processors 2^39.
    let on_the_stack = 0_u8;
    ((&raw const on_the_stack).addr() as u64).next_power_of_two()
}

#[cfg(not(target_os = "linux"))]
fn machine_addresses() -> u64 {
    1 << 47
}

/// `ulimit -v`, in bytes.
#[cfg(unix)]
fn limit_of_addresses() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to `limit`, which is of the type that it wants.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    if outcome != 0 || limit.rlim_cur == libc::RLIM_INFINITY { u64::MAX } else { limit.rlim_cur }
}

#[cfg(not(unix))]
fn limit_of_addresses() -> u64 {
    u64::MAX
}

/// Counts one guarded memory as long as it is alive.
#[derive(Debug)]
struct Guarded;

impl Guarded {
    fn new() -> Self {
        GUARDED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        GUARDED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A memory in a mapping with room for everything that it may grow to, so that it never moves.
#[derive(Debug)]
struct Memory {
    mapping: Mmap,
    /// Where it begins and its size in bytes, for compiled code.
    definition: MaybeInstanceOwned<VMMemoryDefinition>,
    /// The declared type, with the maximum reduced to the limit of its store.
    ty: MemoryType,
    style: MemoryStyle,
    size: Pages,
    _guarded: Option<Guarded>,
}

// SAFETY: the definition lies in a box of this memory, or in the instance that has it, which is in the
// same store; it is only written to through `&mut self` here, and by nobody else.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Creates a memory for the host.
pub fn host_memory(ty: &MemoryType, style: MemoryStyle) -> Result<VMMemory, MemoryError> {
    Memory::boxed(ty, style, |definition| MaybeInstanceOwned::Host(Box::new(UnsafeCell::new(definition))))
}

/// Creates a memory for an instance.
///
/// # Safety
///
/// `place` must be where the instance, whose code has bounds of this style, looks for the memory, and be
/// valid as long as the memory is used.
pub unsafe fn instance_memory(
    ty: &MemoryType,
    style: MemoryStyle,
    place: NonNull<VMMemoryDefinition>,
) -> Result<VMMemory, MemoryError> {
    Memory::boxed(ty, style, |definition| {
        // SAFETY: passed on to the caller.
        unsafe { place.write(definition) };
        MaybeInstanceOwned::Instance(place)
    })
}

impl Memory {
    fn boxed(
        ty: &MemoryType,
        style: MemoryStyle,
        define: impl FnOnce(VMMemoryDefinition) -> MaybeInstanceOwned<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let size = ty.minimum;
        let most = most_pages(ty);
        if size > most {
            return Err(MemoryError::MinimumMemoryTooLarge { min_requested: size, max_allowed: most });
        }
        if ty.shared {
            return Err(MemoryError::Generic("a shared memory needs the proposal `threads`".to_owned()));
        }
        let (reserved, guarded) = match style {
            MemoryStyle::Static => (Pages::max_value(), Some(Guarded::new())),
            MemoryStyle::Dynamic { .. } => (most, None),
        };
        // On 64-bit machines, the only ones that wasmer compiles for, the sum is far below the largest
        // `usize`.
        let bytes = reserved.bytes().0 + style.offset_guard_size() as usize;
        let mapping = Mmap::accessible_reserved(size.bytes().0, bytes, None, MmapType::Private);
        let mut mapping = mapping.map_err(|reason| {
            let hint =
                if reserved > size { ", unless a maximum or `limits.memoryBytes` lets it reserve less" } else { "" };
            MemoryError::Region(format!("the system has no room for a memory of {bytes} bytes{hint}: {reason}"))
        })?;
        let definition = define(VMMemoryDefinition { base: mapping.as_mut_ptr(), current_length: size.bytes().0 });
        let memory = Self { mapping, definition, ty: *ty, style, size, _guarded: guarded };
        Ok(VMMemory(Box::new(memory)))
    }
}

/// The most pages that a memory may grow to.
fn most_pages(ty: &MemoryType) -> Pages {
    ty.maximum.unwrap_or(Pages::max_value()).min(Pages::max_value())
}

impl LinearMemory for Memory {
    fn ty(&self) -> MemoryType {
        MemoryType { minimum: self.size, ..self.ty }
    }

    fn size(&self) -> Pages {
        self.size
    }

    fn style(&self) -> MemoryStyle {
        self.style
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let before = self.size;
        let size = before.checked_add(delta).filter(|size| *size <= most_pages(&self.ty));
        let size = size.ok_or(MemoryError::CouldNotGrow { current: before, attempted_delta: delta })?;
        if delta.0 > 0 {
            // Everything that the memory may grow to lies in the mapping, and the guard behind it.
            self.mapping.make_accessible(before.bytes().0, delta.bytes().0).map_err(MemoryError::Region)?;
            self.size = size;
            // SAFETY: the definition is valid, see `host_memory` and `instance_memory`. Code that reads
            // it does not run, as the store is borrowed for the growth.
            unsafe { (*self.definition.as_ptr().as_ptr()).current_length = size.bytes().0 };
        }
        Ok(before)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition.as_ptr()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}
