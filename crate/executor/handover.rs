//! Who may use a guest's store while the guest waits for its supervisor: one word that the guest's thread and the JavaScript thread
//! change in turn, and the sleep of the former. Nothing here knows guests; `crate/support/handover-model` runs this very file through
//! every interleaving of the two threads.
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
//! In `OPEN` nobody touches the store: the guest's thread may leave, if its engine can, or the JavaScript thread may take hold. In
//! `HELD` and `LEFT` all is the JavaScript thread's, in every other state the guest's.

use super::sync::{AtomicU32, Condvar, Mutex, Ordering, lock, spin_loop, wait};

const RUNNING: u32 = 0;
const OPEN: u32 = 1;
const HELD: u32 = 2;
const LEAVING: u32 = 3;
const LEFT: u32 = 4;
const ANSWERED: u32 = 5;
const STATE: u32 = 7;

/// The guest's thread sleeps: an answer must wake it.
const ASLEEP: u32 = 8;
/// It would rather leave: it must also be woken when the store is let go.
const WOULD_LEAVE: u32 = 16;

/// Where the guest is that the JavaScript thread has got hold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On its thread, which waits.
    OnThread,
    /// On none.
    Left,
}

/// How the wait for an answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The answer is there.
    Answered,
    /// It will take longer: the guest's thread is to leave, and to say so by [`Handover::has_left`].
    Leave,
}

/// The word.
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

    /// The guest has called its supervisor; the store may be taken hold of.
    pub fn ask(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    /// Waits for the answer: first awake as long as `keep_looking` says so, then asleep inside `sleeping`. With `may_leave` it does
    /// not sleep unless the store is held.
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

    /// The guest's thread has left: what it puts away before this call the JavaScript thread finds.
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

    /// Sleeps until there is an answer or, if it may leave, the store is free.
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

    /// Takes hold of the store of a guest that has asked and has not been answered.
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
                // Its thread unwinds out of the guest: a matter of a microsecond.
                _ => spin_loop(),
            }
        }
    }

    /// Lets go of a store that is held on its thread, without an answer.
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

    /// Gives the store back to its thread with the answer.
    pub fn answer(&self) {
        if self.state.swap(ANSWERED, Ordering::AcqRel) & ASLEEP != 0 {
            self.wake();
        }
    }

    /// A guest that had left is about to run again.
    pub fn again(&self) {
        self.state.store(RUNNING, Ordering::Release);
    }

    fn wake(&self) {
        // Whoever has said that it sleeps has the lock until it does.
        drop(lock(&self.sleep));
        self.changed.notify_one();
    }
}
