//! wasmi writes zeros to all new pages of a memory at once, which makes them resident: 4 GiB take
//! seconds, if the machine has as much. Here a memory grows in steps, for each of which the same few
//! physical pages are used. A part of `engine/wasmi.rs`.

use memmap2::MmapMut;
use wasmi::{Memory, StoreContextMut};

use super::Data;
use crate::value::PAGE_BYTES;

/// The most pages that wasmi may write zeros to at once. This much of a growing memory becomes resident
/// for a moment.
pub const MOST_ZEROED: u64 = 256;

/// Grows a memory that lies in this mapping, which has room for it. Its existing contents stay as they
/// are.
pub fn grow_step_by_step(
    cx: &mut StoreContextMut<'_, Data>,
    memory: Memory,
    mapping: &MmapMut,
    delta: u64,
) -> Result<(), wasmi::Error> {
    let first = memory.size(&*cx);
    let end = first + delta;
    let mut has_carried = false;
    let mut at = first;
    let mut last = None;
    while at < end {
        let step = MOST_ZEROED.min(end - at);
        if let Some(last) = last {
            if carry(mapping, last * PAGE_BYTES, at * PAGE_BYTES, step * PAGE_BYTES) {
                has_carried = true;
            } else {
                forget_untouched(mapping, last * PAGE_BYTES, MOST_ZEROED * PAGE_BYTES);
            }
        }
        memory.grow(&mut *cx, step)?;
        last = Some(at);
        at += step;
    }
    if has_carried {
        renew(mapping, first * PAGE_BYTES, delta * PAGE_BYTES);
    } else if let Some(last) = last {
        forget_untouched(mapping, last * PAGE_BYTES, (end - last) * PAGE_BYTES);
    }
    Ok(())
}

/// Releases pages to which wasmi has written zeros: `bytes` at `from` of a mapping, which the writing
/// made resident. They were zeros before, so the pages can be given back until the guest touches them.
pub fn forget_untouched(mapping: &MmapMut, from: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    if bytes > 0 {
        // SAFETY: the range lies in a private anonymous mapping, for which `DontNeed` means that the
        // pages read as zeros from now on, and zeros are all that was written to them. A failure leaves
        // them resident: no harm.
        let _ = unsafe {
            mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from as usize, bytes as usize)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (mapping, from, bytes);
}

/// The address of a range of a mapping.
#[cfg(target_os = "linux")]
fn range(mapping: &MmapMut, from: u64, bytes: u64) -> Option<(*mut libc::c_void, usize)> {
    let (from, bytes) = (from as usize, bytes as usize);
    let range = mapping.get(from..from.checked_add(bytes)?)?;
    Some((range.as_ptr().cast_mut().cast(), range.len()))
}

/// Moves the pages at `from`, which are all zeros, to `to`, and leaves no pages at `from`. Returns
/// whether the system can do that: Linux since 5.7.
#[cfg(target_os = "linux")]
fn carry(mapping: &MmapMut, from: u64, to: u64, bytes: u64) -> bool {
    let (Some((from, length)), Some((to, _))) = (range(mapping, from, bytes), range(mapping, to, bytes)) else {
        return false;
    };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: both ranges lie in one private anonymous mapping of ours, do not overlap, and read as
    // zeros before and after. Nobody looks at them meanwhile: they belong to a memory that is growing.
    unsafe { libc::mremap(from, length, length, flags, to) == to }
}

#[cfg(not(target_os = "linux"))]
fn carry(_mapping: &MmapMut, _from: u64, _to: u64, _bytes: u64) -> bool {
    false
}

/// Restores a range to one mapping after pages were moved in it, all zeros and none of them resident.
#[cfg(target_os = "linux")]
fn renew(mapping: &MmapMut, from: u64, bytes: u64) {
    let Some((from, length)) = range(mapping, from, bytes) else { return };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the range lies in a mapping of ours of the same kind, and reads as zeros before and after;
    // see `carry`.
    let renewed = unsafe { libc::mmap(from, length, protection, flags, -1, 0) };
    // SAFETY: as above. It fails if not all of the range is mapped.
    if renewed != from && unsafe { libc::madvise(from, length, libc::MADV_DONTNEED) } != 0 {
        // Otherwise foreign pages might be mapped where the guest reads and writes.
        std::process::abort();
    }
}

#[cfg(not(target_os = "linux"))]
fn renew(_mapping: &MmapMut, _from: u64, _bytes: u64) {}
