//! Memories that the host creates, in mappings of the size that they may grow to. A part of
//! `engine/wasmi.rs`.

use std::sync::{Mutex, PoisonError};

use memmap2::{MmapMut, MmapOptions};
use wasmi::{ResourceLimiter as _, StoreContextMut};

use super::{
    Data, any_number,
    zeroing::{MOST_ZEROED, forget_untouched, grow_step_by_step},
};
use crate::{
    error::MemoryError,
    value::{MAX_PAGES, MemoryType, PAGE_BYTES},
};

pub(super) type Mappings = Mutex<Vec<Reserved>>;

/// The mapping of a memory that the host created.
pub(super) struct Reserved {
    pub(super) mapping: MmapMut,
    /// The number of pages with which the memory was created.
    pub(super) minimum: u64,
}

pub(super) fn new_memory(cx: &mut StoreContextMut<'_, Data>, ty: MemoryType) -> Result<wasmi::Memory, MemoryError> {
    let mut wasmi_ty = wasmi::MemoryType::builder();
    wasmi_ty.min(ty.minimum).max(ty.maximum);
    let refused = |error: &dyn std::fmt::Display| MemoryError::Allocation(error.to_string());
    let wasmi_ty = wasmi_ty.build().map_err(|error| refused(&error))?;
    let Some(mapping) = reserve(ty, cx.data().memory_pages)? else {
        return wasmi::Memory::new(cx, wasmi_ty).map_err(|error| refused(&error));
    };
    let memory = memory_over(cx, wasmi_ty, &mapping)?;
    lock(&cx.data().mappings).push(Reserved { mapping, minimum: ty.minimum });
    Ok(memory)
}

/// Reserves what the memory may ever need, at most `most` pages. Returns `None` where the system cannot
/// reserve without committing: there wasmi allocates, and the memory may move when it grows.
pub(super) fn reserve(ty: MemoryType, most: u64) -> Result<Option<MmapMut>, MemoryError> {
    let pages = ty.maximum.unwrap_or(MAX_PAGES).min(most).max(ty.minimum);
    if pages == 0 || !cfg!(unix) {
        return Ok(None);
    }
    let bytes = pages * PAGE_BYTES;
    let length = usize::try_from(bytes).map_err(|error| MemoryError::Allocation(error.to_string()))?;
    MmapOptions::new().len(length).no_reserve_swap().map_anon().map(Some).map_err(|reason| {
        let hint =
            if pages > ty.minimum { ", unless a maximum or `limits.memoryBytes` lets it reserve less" } else { "" };
        MemoryError::Allocation(format!("the system has no room for a memory of {bytes} bytes{hint}: {reason}"))
    })
}

/// Creates a memory over a mapping, which the caller adds to the list of the memory's store.
pub(super) fn memory_over(
    cx: &mut StoreContextMut<'_, Data>,
    ty: wasmi::MemoryType,
    mapping: &MmapMut,
) -> Result<wasmi::Memory, MemoryError> {
    let (base, bytes) = (mapping.as_ptr().cast_mut(), mapping.len());
    // SAFETY: the mapping goes into the list of the store in which the memory is made (or the memory
    // does not come into being), that list is dropped after the store, and whoever else looks at the
    // mapping does so while no guest of the store runs: so for the memory it is valid and as good as
    // `'static`.
    let buffer: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(base, bytes) };
    let pages = ty.minimum();
    let refused = |error: &dyn std::fmt::Display| MemoryError::Allocation(error.to_string());
    let mut first = wasmi::MemoryType::builder();
    first.min(pages.min(MOST_ZEROED)).max(ty.maximum());
    let first = first.build().map_err(|error| refused(&error))?;
    permit(cx, 0, pages, ty.maximum()).map_err(|error| refused(&error))?;
    let memory = without_limits(cx, |cx| {
        let memory = wasmi::Memory::new_static(&mut *cx, first, buffer)?;
        forget_untouched(mapping, 0, first.minimum() * PAGE_BYTES);
        grow_step_by_step(cx, memory, mapping, pages - first.minimum())?;
        Ok(memory)
    });
    memory.map_err(|error: wasmi::Error| refused(&error))
}

/// Grows a memory that lies in this mapping, which has room for it, and returns the previous size in
/// pages.
pub(super) fn grow_mapped(
    cx: &mut StoreContextMut<'_, Data>,
    memory: wasmi::Memory,
    mapping: &MmapMut,
    delta: u64,
) -> Result<u64, wasmi::Error> {
    let before = memory.size(&*cx);
    let maximum = memory.ty(&*cx).maximum();
    if delta <= MOST_ZEROED || before.saturating_add(delta) > maximum.unwrap_or(MAX_PAGES) {
        memory.grow(&mut *cx, delta)?;
        forget_untouched(mapping, before * PAGE_BYTES, delta * PAGE_BYTES);
        return Ok(before);
    }
    permit(cx, before, before + delta, maximum)?;
    without_limits(cx, |cx| grow_step_by_step(cx, memory, mapping, delta))?;
    Ok(before)
}

/// Checks all steps of a growth against the limits of the store.
pub(super) fn permit(
    cx: &mut StoreContextMut<'_, Data>,
    before: u64,
    after: u64,
    maximum: Option<u64>,
) -> Result<(), wasmi::Error> {
    let bytes = |pages: u64| usize::try_from(pages * PAGE_BYTES).unwrap_or(usize::MAX);
    match cx.data_mut().limits.memory_growing(bytes(before), bytes(after), maximum.map(bytes)) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(wasmi::Error::new("the limits of the store do not allow that")),
    }
}

/// Runs `act` without limits, for what has already been checked against them.
pub(super) fn without_limits<T>(
    cx: &mut StoreContextMut<'_, Data>,
    act: impl FnOnce(&mut StoreContextMut<'_, Data>) -> Result<T, wasmi::Error>,
) -> Result<T, wasmi::Error> {
    let before = cx.data_mut().no_limits.replace(any_number().build());
    let outcome = act(cx);
    cx.data_mut().no_limits = before;
    outcome
}

/// The pieces of a memory that are not all zeros.
pub(super) struct Kept(Vec<(usize, Box<[u8]>)>);

impl Kept {
    /// A page of the system, or a part of one.
    const PIECE: usize = 4096;

    pub(super) fn of(bytes: &[u8]) -> Self {
        let pieces = bytes.chunks(Self::PIECE).enumerate();
        let used = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        Self(used.map(|(place, piece)| (place * Self::PIECE, piece.into())).collect())
    }

    pub(super) fn write_back(&self, bytes: &mut [u8]) {
        for (at, piece) in &self.0 {
            bytes[*at..*at + piece.len()].copy_from_slice(piece);
        }
    }
}

pub(super) fn lock(mappings: &Mappings) -> std::sync::MutexGuard<'_, Vec<Reserved>> {
    mappings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mapping that a memory lies in, by its first byte. There is none for a guest's own memory, which
/// wasmi allocates.
pub(super) fn mapping_at(mappings: &[Reserved], base: *const u8) -> Option<&Reserved> {
    mappings.iter().find(|reserved| reserved.mapping.as_ptr() == base)
}
