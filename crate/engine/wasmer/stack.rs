//! The native stack that a guest runs on. It always has exactly the size in its engine's configuration.
//!
//! wasmer keeps stacks for later calls and gives a call any stack that is large enough, so how deep a
//! guest can go would depend on what ran before it. Here, the guest starts further down on a larger
//! stack, as many bytes above its guard page as on a stack of its own size. wasmer does not report how
//! large a stack is. The first call on it, which requested the size, writes it into the stack, in a
//! place that neither guests nor their callers use.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use wasmer::sys::vm::{self, VMConfig, VMFunctionBody, VMFunctionContext, VMTrampoline};

use super::frames::{ON_SIGNAL, Running};
use crate::error::Trap;

/// The stacks of an engine's guests.
pub struct GuestStacks {
    /// The size of a guest's stack, in bytes.
    bytes: usize,
    /// The configuration passed to wasmer.
    config: VMConfig,
}

/// How a call on a guest's stack ends if it does not return.
pub enum Stopped {
    /// In a box, because each call copies its result.
    Trapped(Box<Trap>),
    /// The system has no room for a stack: the guest has not run.
    NoRoom,
}

/// A function of a guest with its arguments.
#[derive(Clone, Copy)]
pub struct Call {
    pub vmctx: VMFunctionContext,
    pub trampoline: VMTrampoline,
    pub callee: *const VMFunctionBody,
    pub values: *mut u8,
}

impl Call {
    /// # Safety
    ///
    /// The first three must come from one `VMCallerCheckedAnyfunc` of a store that is alive, and
    /// `values` must have a slot for each parameter and each result of that function. Guests only run
    /// inside `catch_traps`.
    unsafe fn make(self) {
        // SAFETY: pointers of both types are passed alike; wasmer's own `wasmer_call_trampoline` does
        // the same.
        let trampoline = unsafe {
            std::mem::transmute::<VMTrampoline, unsafe extern "C" fn(VMFunctionContext, *const VMFunctionBody, *mut u8)>(
                self.trampoline,
            )
        };
        // SAFETY: passed on to the caller.
        unsafe { trampoline(self.vmctx, self.callee, self.values) }
    }
}

impl GuestStacks {
    /// Stacks of this many bytes, at least one page of 4 KiB.
    pub fn new(bytes: usize) -> Self {
        let bytes = exact::usable(bytes);
        Self { bytes, config: VMConfig { wasm_stack_size: Some(bytes.saturating_add(exact::BESIDES)) } }
    }

    /// Makes a call on a stack of its own. `translate` converts wasmer's trap to ours.
    ///
    /// # Errors
    ///
    /// If the guest traps, or if there is no room for a stack.
    ///
    /// # Safety
    ///
    /// As of [`Call::make`].
    #[inline]
    pub unsafe fn run(&self, call: Call, translate: fn(vm::Trap, &Running) -> Trap) -> Result<(), Stopped> {
        for _ in 0..MAX_ATTEMPTS {
            // SAFETY: passed on to the caller.
            match unsafe { self.attempt(call, translate) }? {
                Attempt::Done => return Ok(()),
                // The stack is in this thread's cache. Drain the cache so that it is not used again.
                Attempt::UnknownStack => vm::drain_stack_pool(),
                Attempt::NoReserve => return Err(Stopped::NoRoom),
            }
        }
        Err(Stopped::NoRoom)
    }

    /// # Safety
    ///
    /// As of [`Call::make`].
    #[inline]
    unsafe fn attempt(&self, call: Call, translate: fn(vm::Trap, &Running) -> Trap) -> Result<Attempt, Stopped> {
        let running = Running::new();
        let entered = running.enter();
        let (bytes, begun) = (self.bytes, &raw const running);
        // SAFETY: this is the root of a stack that wasmer has given for `bytes` and the head; the rest
        // is passed on. `running` is alive, because this function waits for the guest.
        let run = move || unsafe { exact::call(bytes, call, &*begun) };
        // wasmer panics if the system has no room for another stack, before anything else happens.
        // SAFETY: only `Call::make` leaves without an end, and nothing around it needs to be dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { vm::catch_traps(ON_SIGNAL, &self.config, run) }));
        drop(entered);
        match outcome {
            Ok(Ok(attempt)) => Ok(attempt),
            Ok(Err(trap)) => Err(Stopped::Trapped(Box::new(translate(trap, &running)))),
            Err(_) if !running.has_begun() => Err(Stopped::NoRoom),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// An unknown stack is thrown away. Another thread may return another one meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// The outcome of an attempt to call.
enum Attempt {
    Done,
    /// The note in the stack is damaged, perhaps by a signal handler that ran on it. The guest has not
    /// run.
    UnknownStack,
    /// The system could not protect a part of the stack. The guest has not run.
    NoReserve,
}

#[cfg(unix)]
mod exact {
    use std::{
        ptr::{from_ref, with_exposed_provenance_mut},
        sync::LazyLock,
    };

    use corosensei::stack::{MIN_STACK_SIZE, STACK_ALIGNMENT, Stack, StackPointer};

    use super::{Attempt, Call, Running};
    use crate::engine::wasmer::frames::Bounds;

    /// The size of the upper end of each stack, for the code that runs before and after the guest, and
    /// for the note.
    const HEAD: usize = 16 * 1024;

    /// The size of the lower end of each stack, for functions of wasmer that guests call without leaving
    /// their stack, such as those that grow memories. It is inaccessible until one of them needs it, see
    /// [`Bounds::open`]: that function may hold a lock of the allocator or the unwinder by then, and
    /// must not be ended there.
    const RESERVE: usize = 128 * 1024;

    /// The size of each stack apart from the guest's part.
    pub const BESIDES: usize = HEAD + RESERVE;

    /// How far below the upper end the note is.
    const NOTE: usize = 4096;

    /// The minimum distance between the note and the used part of the stack.
    const CLEARANCE: usize = 1024;

    /// The note that the first call writes into a stack.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Note {
        /// The size of the entire mapping, including the guard page.
        mapped: usize,
        /// Distinguishes it from anything else that could be there.
        seal: usize,
        /// Not 0 if the reserve is accessible.
        is_open: usize,
    }

    const SEAL: usize = 0x5afe_57ac_6b1d_70f7_u64 as usize;

    /// Makes the reserve of a stack accessible or inaccessible, and returns whether that succeeded.
    fn protect(bounds: Bounds, is_open: bool) -> bool {
        let protection = if is_open { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
        let reserve = with_exposed_provenance_mut(bounds.reserve);
        // SAFETY: it belongs to a stack that wasmer has made, whose guest's part begins above it.
        unsafe { libc::mprotect(reserve, bounds.bottom - bounds.reserve, protection) == 0 }
    }

    impl Bounds {
        /// Lets functions of wasmer continue in the reserve, if there is one. Only the signal handler of
        /// the guest's thread calls this.
        pub fn open(self) -> bool {
            if !protect(self, true) {
                return false;
            }
            let note = with_exposed_provenance_mut::<Note>(self.note);
            // SAFETY: mapped, aligned and below everything that is in use at the upper end of the stack.
            unsafe { (&raw mut (*note).is_open).write_volatile(1) };
            true
        }
    }

    static PAGE: LazyLock<usize> = LazyLock::new(region_page);

    fn region_page() -> usize {
        // SAFETY: it only reads a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }

    /// The usable size of a stack for which this many bytes are requested.
    pub fn usable(bytes: usize) -> usize {
        bytes.max(MIN_STACK_SIZE) & !(STACK_ALIGNMENT - 1)
    }

    /// The guest's part of a stack.
    struct Part {
        base: StackPointer,
        limit: StackPointer,
    }

    // SAFETY: the part begins and ends where `call` says, and below it there is what nobody can use.
    unsafe impl Stack for Part {
        fn base(&self) -> StackPointer {
            self.base
        }

        fn limit(&self) -> StackPointer {
            self.limit
        }
    }

    /// Calls the guest with exactly `bytes` between its first frame and the memory that it must not use.
    ///
    /// # Safety
    ///
    /// As of [`Call::make`]; and the caller must be the first function on a stack that wasmer was asked
    /// for with `bytes` and [`BESIDES`], and have used less than a page of it.
    pub unsafe fn call(bytes: usize, call: Call, running: &Running) -> Attempt {
        let page = *PAGE;
        let here = 0_u8;
        let here = from_ref(&here).addr();
        // Stacks end at a page boundary, and what is above this frame takes less than a page.
        let base = here.next_multiple_of(page);
        let note = base - NOTE;
        if here < note + CLEARANCE {
            return Attempt::UnknownStack;
        }
        let at = with_exposed_provenance_mut::<Note>(note);
        // SAFETY: mapped, aligned, and below everything that is in use on this stack, which is ours
        // alone. Fresh stacks are zero.
        let found = unsafe { at.read_volatile() };
        let is_fresh = found == Note { mapped: 0, seal: 0, is_open: 0 };
        // This call requested a fresh stack, so that has the requested size, rounded up to whole pages,
        // and a guard page.
        let mapped = if is_fresh { (bytes + BESIDES).next_multiple_of(page) + page } else { found.mapped };
        let seal = mapped ^ base ^ SEAL;
        if !is_fresh && found.seal != seal {
            return Attempt::UnknownStack;
        }
        let guard = base - mapped;
        let (reserve, bottom) = (guard + page, guard + page + RESERVE);
        let bounds = Bounds { guard, reserve, bottom, top: bottom + bytes, note };
        if is_fresh || found.is_open != 0 {
            if !protect(bounds, false) {
                return Attempt::NoReserve;
            }
            // SAFETY: as above.
            unsafe { at.write_volatile(Note { mapped, seal, is_open: 0 }) };
        }
        let (Some(base), Some(limit)) = (StackPointer::new(bounds.top), StackPointer::new(guard)) else {
            return Attempt::UnknownStack;
        };
        running.begin(bounds);
        // SAFETY: passed on to the caller.
        corosensei::on_stack(Part { base, limit }, || unsafe { call.make() });
        Attempt::Done
    }
}

/// Windows makes a stack usable page by page from its upper end, so a guest cannot start further down.
#[cfg(not(unix))]
mod exact {
    use super::{Attempt, Call, Running};
    use crate::engine::wasmer::frames::Bounds;

    pub const BESIDES: usize = 0;

    pub fn usable(bytes: usize) -> usize {
        bytes
    }

    /// # Safety
    ///
    /// As of [`Call::make`].
    pub unsafe fn call(_bytes: usize, call: Call, running: &Running) -> Attempt {
        running.begin(Bounds::UNKNOWN);
        // SAFETY: passed on to the caller.
        unsafe { call.make() };
        Attempt::Done
    }
}
