//! The functions that a guest was running when its host or a stack overflow ended it: wasmer does not
//! record them in these cases.
//!
//! Cranelift's functions keep frame pointers, so their return addresses are found by following the chain
//! of frames. That costs one or two nanoseconds for each, and no memory: of a deep stack only both ends
//! are kept. wasmer's own unwinding by tables takes a hundred times as long and stores every frame, so
//! it is made to stop where the inner end stops.

#![cfg_attr(not(unix), allow(dead_code, reason = "nothing is known of stacks there"))]

use std::{
    cell::{Cell, UnsafeCell},
    mem::MaybeUninit,
    ptr,
    sync::PoisonError,
};

use wasmer::sys::vm;
use wasmer_compiler::FRAME_INFO;
use wasmer_types::FrameInfo;

use crate::error::{Frame, MAX_FRAMES};

/// The number of return addresses that are kept of each end. It is more than half of the frames because
/// trampolines are no frames of the guest.
const KEPT: usize = MAX_FRAMES / 2 + 8;

/// Return addresses from both ends of a stack.
struct Trail {
    inner: [MaybeUninit<usize>; KEPT],
    /// A ring.
    outer: [MaybeUninit<usize>; KEPT],
    total: usize,
}

impl Trail {
    const fn new() -> Self {
        Self { inner: [MaybeUninit::uninit(); KEPT], outer: [MaybeUninit::uninit(); KEPT], total: 0 }
    }

    fn push(&mut self, address: usize) {
        if let Some(place) = self.inner.get_mut(self.total) {
            place.write(address);
        } else {
            self.outer[self.total % KEPT].write(address);
        }
        self.total += 1;
    }

    /// Follows the frame pointers from `frame` as long as they ascend within a stack with these bounds.
    /// Returns the place of the return address that follows the inner end, if there is more than both
    /// ends.
    ///
    /// # Safety
    ///
    /// All between the bounds must be readable if `frame` lies between them.
    unsafe fn follow(&mut self, mut frame: usize, bottom: usize, top: usize) -> Option<*mut usize> {
        let mut end = None;
        let mut least = bottom;
        while frame >= least && frame <= top - FRAME_BYTES && frame.is_multiple_of(size_of::<usize>()) {
            let record = ptr::with_exposed_provenance_mut::<usize>(frame);
            // SAFETY: aligned, and between the bounds.
            let (outer, address) = unsafe { (record.read_volatile(), record.add(1).read_volatile()) };
            if self.total == KEPT {
                end = Some(record.wrapping_add(1));
            }
            self.push(address);
            (least, frame) = (frame + FRAME_BYTES, outer);
        }
        if self.total > 2 * KEPT { end } else { None }
    }

    /// The return addresses of the inner end.
    fn inner(&self) -> impl Iterator<Item = usize> {
        // SAFETY: as many have been written.
        self.inner[..self.total.min(KEPT)].iter().map(|address| unsafe { address.assume_init() })
    }

    /// The return addresses of the outer end, without those of the inner one.
    fn outer(&self) -> impl Iterator<Item = usize> {
        let first = self.total.saturating_sub(KEPT).max(KEPT);
        // SAFETY: these have been written, and the last ones are not overwritten.
        (first..self.total).map(|at| unsafe { self.outer[at % KEPT].assume_init() })
    }
}

/// A frame's record: the frame pointer of its caller, and its return address.
const FRAME_BYTES: usize = 2 * size_of::<usize>();

/// The bounds of a guest's stack.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Where the guard page below it begins.
    pub guard: usize,
    /// Where the reserve for wasmer's functions begins, and the guard page ends.
    pub reserve: usize,
    /// The lower end of the guest's part.
    pub bottom: usize,
    /// Its upper end; 0 if it is unknown.
    pub top: usize,
    /// Where the note is.
    pub note: usize,
}

impl Bounds {
    /// The bounds of an unknown stack.
    pub const UNKNOWN: Self = Self { guard: 0, reserve: 0, bottom: 0, top: 0, note: 0 };
}

/// A guest that runs on this thread.
pub struct Running {
    has_begun: Cell<bool>,
    stack: Cell<Bounds>,
    /// Whether the thread's trail is that of this guest when it trapped.
    has_trail: Cell<bool>,
}

/// A thread's data about the guests that run on it.
struct OnThread {
    /// The innermost one.
    running: Cell<*const Running>,
    /// The trail of the last guest that trapped, to be read before another guest runs. It is not in
    /// `Running`, which each call creates, because it is large.
    trail: UnsafeCell<Trail>,
}

thread_local! {
    static ON_THREAD: OnThread = const { OnThread { running: Cell::new(ptr::null()), trail: UnsafeCell::new(Trail::new()) } };
}

/// The innermost guest on this thread.
fn innermost() -> *const Running {
    ON_THREAD.with(|thread| thread.running.get())
}

impl Running {
    pub const fn new() -> Self {
        Self { has_begun: Cell::new(false), stack: Cell::new(Bounds::UNKNOWN), has_trail: Cell::new(false) }
    }

    /// Makes this the innermost guest on its thread until the result is dropped.
    pub fn enter(&self) -> Entered<'_> {
        Entered { before: ON_THREAD.with(|thread| thread.running.replace(self)), _running: self }
    }

    /// Records that the guest begins to run.
    pub fn begin(&self, stack: Bounds) {
        self.has_begun.set(true);
        self.stack.set(stack);
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// The frames of the guest when it trapped; `found` are those that wasmer has found, innermost first.
    pub fn frames(&self, found: &[FrameInfo]) -> Vec<Frame> {
        let nothing = Trail::new();
        let trail = ON_THREAD.with(|thread| thread.trail.get());
        // SAFETY: only the signal handler of a guest on this thread writes there, and none runs: this
        // one has just ended.
        let trail = if self.has_trail.get() { unsafe { &*trail } } else { &nothing };
        if found.is_empty() {
            return frames(lookup(trail.inner().chain(trail.outer())));
        }
        let is_cut = trail.total > 2 * KEPT;
        let outer = if is_cut { lookup(trail.outer()) } else { Vec::new() };
        frames(found.iter().cloned().chain(outer).collect())
    }

    /// Records the frames of the guest, which is about to trap; `address` is the address that could not
    /// be accessed. If the guest has called a function of wasmer that needs more stack than is left,
    /// that function gets the reserve and continues: then the result is true.
    #[cfg(unix)]
    fn record(&self, at: registers::Registers, address: usize) -> bool {
        let bounds @ Bounds { guard, reserve, bottom, top, .. } = self.stack.get();
        if !(guard..top).contains(&at.stack) {
            return false;
        }
        if (reserve..bottom).contains(&address) && at.is_in_host() && bounds.open() {
            return true;
        }
        self.has_trail.set(true);
        let trail = ON_THREAD.with(|thread| thread.trail.get());
        // SAFETY: the guest has stopped, and whoever else looks does so when it has ended.
        let trail = unsafe { &mut *trail };
        trail.total = 0;
        trail.push(at.code + 1);
        let has_overflowed = (guard..top).contains(&address);
        if has_overflowed {
            // SAFETY: the instruction there is the one that has met the guard page.
            if let Some(caller) = unsafe { at.caller_without_frame() } {
                trail.push(caller);
            }
        }
        // Frames lie above the stack pointer.
        // SAFETY: what lies between the stack pointer and the top of the guest's stack is mapped.
        let end = unsafe { trail.follow(at.frame, at.stack.max(bottom), top) };
        if let (Some(end), false) = (end, has_overflowed) {
            // SAFETY: it is the place of a return address, to which nobody returns any more: wasmer's
            // handler, which comes next, ends the guest, as its stack pointer lies in this stack.
            // Unwinding ends at a return address of 0.
            unsafe { end.write_volatile(0) };
        }
        false
    }
}

/// While it lives, a guest is the innermost one on its thread.
pub struct Entered<'a> {
    before: *const Running,
    _running: &'a Running,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        ON_THREAD.with(|thread| thread.running.set(self.before));
    }
}

/// The frames of the innermost guest on this thread, which waits for its host; `frame` is its frame
/// pointer, and `returns` the address that its innermost function waits at if that has no record in the
/// frame, or 0.
#[cold]
pub fn of_waiting_guest(frame: usize, returns: usize) -> Vec<Frame> {
    // SAFETY: it is alive until it is taken out again.
    let Some(running) = (unsafe { innermost().as_ref() }) else { return Vec::new() };
    let Bounds { bottom, top, .. } = running.stack.get();
    let mut trail = Trail::new();
    trail.push(returns);
    if (bottom..top).contains(&frame) {
        // SAFETY: a guest's frames lie above the guard page.
        unsafe { trail.follow(frame, frame, top) };
    }
    frames(lookup(trail.inner().chain(trail.outer())))
}

/// Frames that wasmer has found, innermost first.
pub fn of_trace(found: &[FrameInfo]) -> Vec<Frame> {
    frames(found.to_vec())
}

/// The functions of guests to which these addresses return.
fn lookup(addresses: impl Iterator<Item = usize>) -> Vec<FrameInfo> {
    let info = FRAME_INFO.read().unwrap_or_else(PoisonError::into_inner);
    // The call is the instruction before the return address.
    addresses.filter_map(|address| info.lookup_frame_info(address.checked_sub(1)?)).collect()
}

/// At most the maximum number of frames, innermost first.
fn frames(mut found: Vec<FrameInfo>) -> Vec<Frame> {
    let outermost = found.len().saturating_sub(MAX_FRAMES / 2).max(MAX_FRAMES / 2).min(found.len());
    found.drain(found.len().min(MAX_FRAMES / 2)..outermost);
    let frame = |frame: &FrameInfo| Frame {
        // The realm knows the module, and adds the name.
        function_name: None,
        function_index: frame.func_index(),
        offset: Some(frame.module_offset()),
    };
    found.iter().map(frame).collect()
}

/// The handler that wasmer calls first when a signal arrives.
#[cfg(unix)]
pub const ON_SIGNAL: Option<*const vm::TrapHandlerFn<'static>> = {
    fn on_signal(_: libc::c_int, info: *const libc::siginfo_t, context: *const libc::c_void) -> bool {
        // SAFETY: it is alive until it is taken out again.
        let running = unsafe { innermost().as_ref() };
        // SAFETY: the system passes both to every handler of this kind.
        if let (Some(running), Some(at)) = (running, unsafe { registers::Registers::of(context) }) {
            // SAFETY: as above.
            return running.record(at, unsafe { (*info).si_addr() }.addr());
        }
        // wasmer handles the rest.
        false
    }
    let handler: &'static vm::TrapHandlerFn<'static> = &on_signal;
    Some(ptr::from_ref(handler))
};

#[cfg(not(unix))]
pub const ON_SIGNAL: Option<*const vm::TrapHandlerFn<'static>> = None;

#[cfg(unix)]
mod registers {
    /// The registers of a thread when a signal stopped it.
    pub struct Registers {
        pub code: usize,
        pub stack: usize,
        pub frame: usize,
        /// The return address, where there is a register for it.
        pub link: usize,
    }

    impl Registers {
        /// Whether the code belongs to a library or a program, rather than to a guest.
        pub fn is_in_host(&self) -> bool {
            let mut found = std::mem::MaybeUninit::uninit();
            // SAFETY: it writes to `found`, and takes any address.
            unsafe { libc::dladdr(std::ptr::without_provenance(self.code), found.as_mut_ptr()) != 0 }
        }

        /// # Safety
        ///
        /// `context` must be what the system passes to a signal handler.
        #[cfg(all(any(target_os = "linux", target_os = "android"), target_arch = "x86_64"))]
        pub unsafe fn of(context: *const libc::c_void) -> Option<Self> {
            // SAFETY: passed on to the caller.
            let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
            let register = |which: libc::c_int| registers[which as usize] as usize;
            Some(Self {
                code: register(libc::REG_RIP),
                stack: register(libc::REG_RSP),
                frame: register(libc::REG_RBP),
                link: 0,
            })
        }

        /// # Safety
        ///
        /// `context` must be what the system passes to a signal handler.
        #[cfg(all(any(target_os = "linux", target_os = "android"), target_arch = "aarch64"))]
        pub unsafe fn of(context: *const libc::c_void) -> Option<Self> {
            // SAFETY: passed on to the caller.
            let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
            Some(Self {
                code: machine.pc as usize,
                stack: machine.sp as usize,
                frame: machine.regs[29] as usize,
                link: machine.regs[30] as usize,
            })
        }

        /// # Safety
        ///
        /// `context` must be what the system passes to a signal handler.
        #[cfg(all(target_vendor = "apple", target_arch = "x86_64"))]
        pub unsafe fn of(context: *const libc::c_void) -> Option<Self> {
            // SAFETY: passed on to the caller.
            let thread = unsafe { &(*(*context.cast::<libc::ucontext_t>()).uc_mcontext).__ss };
            Some(Self {
                code: thread.__rip as usize,
                stack: thread.__rsp as usize,
                frame: thread.__rbp as usize,
                link: 0,
            })
        }

        /// # Safety
        ///
        /// `context` must be what the system passes to a signal handler.
        #[cfg(all(target_vendor = "apple", target_arch = "aarch64"))]
        pub unsafe fn of(context: *const libc::c_void) -> Option<Self> {
            /// libc's type has a different alignment than the system's.
            #[repr(C)]
            struct Context {
                on_stack: libc::c_int,
                mask: libc::sigset_t,
                stack: libc::stack_t,
                link: *mut libc::ucontext_t,
                bytes: usize,
                machine: libc::mcontext_t,
            }
            // SAFETY: passed on to the caller.
            let thread = unsafe { &(*(*context.cast::<Context>()).machine).__ss };
            Some(Self {
                code: thread.__pc as usize,
                stack: thread.__sp as usize,
                frame: thread.__fp as usize,
                link: thread.__lr as usize,
            })
        }

        /// # Safety
        ///
        /// None.
        #[cfg(not(all(
            any(target_os = "linux", target_os = "android", target_vendor = "apple"),
            any(target_arch = "x86_64", target_arch = "aarch64")
        )))]
        pub unsafe fn of(_: *const libc::c_void) -> Option<Self> {
            None
        }

        /// The return address of a function whose first instruction, which makes its frame, has met the
        /// guard page.
        ///
        /// # Safety
        ///
        /// `code` must be where an instruction is that was carried out, and the return address at the
        /// stack pointer be readable if that is a `push`.
        pub unsafe fn caller_without_frame(&self) -> Option<usize> {
            let code = std::ptr::with_exposed_provenance::<u8>(self.code);
            if cfg!(target_arch = "x86_64") {
                // `push rbp`
                // SAFETY: passed on to the caller.
                let makes_frame = unsafe { code.read() } == 0x55;
                let at = std::ptr::with_exposed_provenance::<usize>(self.stack);
                // SAFETY: passed on to the caller.
                makes_frame.then(|| unsafe { at.read_volatile() })
            } else {
                // `stp x29, x30, [sp, #-16]!`
                // SAFETY: passed on to the caller.
                let makes_frame = unsafe { code.cast::<u32>().read() } == 0xa9bf_7bfd;
                makes_frame.then_some(self.link)
            }
        }
    }
}
