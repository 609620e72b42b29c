//! Who may use a guest's store while the guest waits for its supervisor. The two threads change one word
//! in turn, and the guest's thread sleeps until the word changes. This file knows nothing about guests:
//! `crate/support/handover-model` runs it unchanged through every interleaving of the two threads.
//!
//! ```text
//!              ask              hold            answer
//!   RUNNING ─────────► OPEN ◄──────────► HELD ─────────► ANSWERED ──► RUNNING
//!                       │     let_go                        (the guest's thread goes on)
//!             try_leave │
//!                       ▼     has_left           again
//!                    LEAVING ─────────► LEFT ─────────► RUNNING   (on any thread)
//! ```
//!
//! In `OPEN` neither thread uses the store: the guest's thread may leave, if its engine can suspend, or
//! the JavaScript thread may take the store. In `HELD` and `LEFT` the store belongs to the JavaScript
//! thread, in every other state to the guest's thread.

use super::sync::{AtomicU32, Condvar, Mutex, Ordering, lock, spin_loop, wait};

const RUNNING: u32 = 0;
const OPEN: u32 = 1;
const HELD: u32 = 2;
const LEAVING: u32 = 3;
const LEFT: u32 = 4;
const ANSWERED: u32 = 5;
const STATE: u32 = 7;

/// The guest's thread sleeps, so an answer must wake it.
const ASLEEP: u32 = 8;
/// The guest's thread wants to leave, so it must also be woken when the store is released.
const WOULD_LEAVE: u32 = 16;

/// Where a guest is whose store the JavaScript thread has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On its thread, which waits.
    OnThread,
    /// On no thread.
    Left,
}

/// How the wait for an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The answer is there.
    Answered,
    /// The answer takes longer. The guest's thread must leave and then call [`Handover::has_left`].
    Leave,
}

/// The shared word, and the sleep of the guest's thread.
#[derive(Debug)]
pub struct Handover {
    state: AtomicU32,
    sleep: Mutex<()>,
    changed: Condvar,
}

impl Default for Handover {
    fn default() -> Self {
        Self::new()
    }
}

impl Handover {
    pub fn new() -> Self {
        Self { state: AtomicU32::new(RUNNING), sleep: Mutex::new(()), changed: Condvar::new() }
    }

    // The guest's thread

    /// The guest has called its supervisor. The JavaScript thread may now take the store.
    pub fn ask(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    /// Waits for the answer: polls while `keep_looking` returns `true`, then sleeps inside `sleeping`.
    /// With `may_leave`, it sleeps only while the store is held.
    pub fn wait(
        &self,
        may_leave: bool,
        mut keep_looking: impl FnMut() -> bool,
        sleeping: impl Fn(&dyn Fn()),
    ) -> Waited {
        while !self.is_answered() {
            if keep_looking() {
                spin_loop();
                continue;
            }
            if may_leave && self.try_leave() {
                return Waited::Leave;
            }
            sleeping(&|| self.sleep(may_leave));
        }
        self.state.store(RUNNING, Ordering::Relaxed);
        Waited::Answered
    }

    /// The guest's thread has left. Everything it wrote before this call is visible to the JavaScript
    /// thread.
    pub fn has_left(&self) {
        self.state.store(LEFT, Ordering::Release);
    }

    fn is_answered(&self) -> bool {
        self.state.load(Ordering::Acquire) & STATE == ANSWERED
    }

    fn try_leave(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state & STATE == OPEN
            && self.state.compare_exchange(state, LEAVING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Sleeps until the answer is there or, with `may_leave`, until the store is released.
    fn sleep(&self, may_leave: bool) {
        let bits = if may_leave { ASLEEP | WOULD_LEAVE } else { ASLEEP };
        let mut guard = lock(&self.sleep);
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & STATE == ANSWERED || (may_leave && state & STATE == OPEN) {
                return;
            }
            let asleep = state | bits;
            if state == asleep
                || self.state.compare_exchange(state, asleep, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                guard = wait(&self.changed, guard);
            }
        }
    }

    // The JavaScript thread

    /// Takes the store of a guest that has called its supervisor and has not been answered.
    pub fn hold(&self) -> Place {
        loop {
            let state = self.state.load(Ordering::Acquire);
            match state & STATE {
                OPEN => {
                    let held = HELD | (state & !STATE);
                    if self.state.compare_exchange(state, held, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        return Place::OnThread;
                    }
                }
                LEFT => return Place::Left,
                // The guest's thread is still unwinding out of the guest, which takes about a
                // microsecond.
                _ => spin_loop(),
            }
        }
    }

    /// Releases, without an answer, the store of a guest that is still on its thread.
    pub fn let_go(&self) {
        loop {
            let state = self.state.load(Ordering::Relaxed);
            let wakes = state & WOULD_LEAVE != 0;
            let open = if wakes { OPEN } else { OPEN | (state & !STATE) };
            if self.state.compare_exchange(state, open, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                if wakes {
                    self.wake();
                }
                return;
            }
        }
    }

    /// Returns the store to the guest's thread with the answer.
    pub fn answer(&self) {
        if self.state.swap(ANSWERED, Ordering::AcqRel) & ASLEEP != 0 {
            self.wake();
        }
    }

    /// A guest that had left its thread is about to run again.
    pub fn again(&self) {
        self.state.store(RUNNING, Ordering::Release);
    }

    fn wake(&self) {
        // A thread that has set `ASLEEP` holds the lock until it waits.
        drop(lock(&self.sleep));
        self.changed.notify_one();
    }
}
