//! Stands in for the crate `backtrace` in wasmer, by `[patch]` in the workspace's manifest: the part of its API that wasmer uses.
//!
//! wasmer walks the whole stack of a guest that traps. The crate of that name keeps 72 bytes for each frame, and wasmer then describes each of them, so a
//! guest that recursed to the end of a stack of 64 MiB made its host allocate 150 MB by one trap. This crate keeps the innermost and the outermost frames,
//! of which an error tells (`MAX_FRAMES` in `crate/error.rs`).

use std::ffi::c_void;

/// How many frames are kept from each end: those of an error and, around them, those of the engine.
const KEPT: usize = 128;

/// The frames of a stack, innermost first. Those in the middle of a deep stack are left out.
#[derive(Debug, Clone)]
pub struct Backtrace(Box<[BacktraceFrame]>);

/// One frame, by its instruction pointer.
#[derive(Debug, Clone)]
pub struct BacktraceFrame(usize);

impl Backtrace {
    /// The stack of this thread.
    pub fn new_unresolved() -> Self {
        let mut kept = Kept::default();
        walk(&mut kept);
        Self(kept.frames())
    }

    /// What is kept of the stack.
    pub fn frames(&self) -> &[BacktraceFrame] {
        &self.0
    }
}

impl From<Vec<BacktraceFrame>> for Backtrace {
    fn from(frames: Vec<BacktraceFrame>) -> Self {
        Self(frames.into_boxed_slice())
    }
}

impl BacktraceFrame {
    /// Where the function goes on when the one that it has called returns.
    pub fn ip(&self) -> *mut c_void {
        self.0 as *mut c_void
    }
}

/// The first and the last of what is pushed.
struct Kept {
    first: [usize; KEPT],
    /// A ring: of those beyond the first, the one with the number `n` is at `n % KEPT`.
    last: [usize; KEPT],
    count: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { first: [0; KEPT], last: [0; KEPT], count: 0 }
    }
}

impl Kept {
    fn push(&mut self, ip: usize) {
        match self.first.get_mut(self.count) {
            Some(place) => *place = ip,
            None => self.last[self.count % KEPT] = ip,
        }
        self.count += 1;
    }

    fn frames(&self) -> Box<[BacktraceFrame]> {
        let first = &self.first[..self.count.min(KEPT)];
        let last = (self.count.saturating_sub(KEPT).max(KEPT)..self.count).map(|n| self.last[n % KEPT]);
        first.iter().copied().chain(last).map(BacktraceFrame).collect()
    }
}

/// Pushes the instruction pointer of each frame, by the unwinder that the standard library links.
#[cfg(not(windows))]
fn walk(kept: &mut Kept) {
    use std::{ffi::c_int, ptr};

    /// `_URC_NO_REASON`: go on.
    const GO_ON: c_int = 0;

    // <https://itanium-cxx-abi.github.io/cxx-abi/abi-eh.html#base-abi>
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            each: extern "C" fn(context: *mut c_void, kept: *mut c_void) -> c_int,
            kept: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
    }

    extern "C" fn push(context: *mut c_void, kept: *mut c_void) -> c_int {
        // SAFETY: `walk` gives its own `Kept`, which nobody else uses meanwhile, and the unwinder a context that is good during this call.
        let (kept, ip) = unsafe { (&mut *kept.cast::<Kept>(), _Unwind_GetIP(context)) };
        kept.push(ip);
        GO_ON
    }

    // SAFETY: the unwinder calls `push`, which does not unwind, with this pointer until it returns.
    unsafe { _Unwind_Backtrace(push, ptr::from_mut(kept).cast()) };
}

/// The same. Windows gives the innermost frames only, so of a stack deeper than that the outermost ones are missing.
#[cfg(windows)]
fn walk(kept: &mut Kept) {
    use std::ptr;

    /// The most that it gives.
    const MOST: usize = 0xffff;

    // <https://learn.microsoft.com/en-us/windows/win32/api/winnt/nf-winnt-rtlcapturestackbacktrace>
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn RtlCaptureStackBackTrace(skip: u32, most: u32, frames: *mut usize, hash: *mut u32) -> u16;
    }

    let mut frames = vec![0; MOST];
    // SAFETY: there is room for `MOST` pointers; a null pointer asks for no hash.
    let count = unsafe { RtlCaptureStackBackTrace(0, MOST as u32, frames.as_mut_ptr(), ptr::null_mut()) };
    frames[..usize::from(count)].iter().for_each(|ip| kept.push(*ip));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(count: usize) -> Vec<usize> {
        let mut kept = Kept::default();
        (0..count).for_each(|ip| kept.push(ip));
        kept.frames().iter().map(|frame| frame.0).collect()
    }

    #[test]
    fn a_stack_that_is_not_deep_is_kept_whole() {
        for count in [0, 1, KEPT - 1, KEPT, KEPT + 1, 2 * KEPT - 1, 2 * KEPT] {
            assert_eq!(kept(count), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn both_ends_of_a_deep_stack_are_kept() {
        for count in [2 * KEPT + 1, 3 * KEPT - 1, 3 * KEPT, 1_000_000] {
            assert_eq!(kept(count), (0..KEPT).chain(count - KEPT..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_stack_of_a_thread_has_frames() {
        fn recurse(depth: usize) -> Backtrace {
            let trace = if depth == 0 { Backtrace::new_unresolved() } else { recurse(depth - 1) };
            std::hint::black_box(trace)
        }
        let whole = recurse(0);
        assert!(!whole.frames()[0].ip().is_null());
        assert!(whole.frames().len() > 2);
        assert_eq!(recurse(10_000).frames().len(), 2 * KEPT);
    }
}
