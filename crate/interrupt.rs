//! Stops a guest from another thread, when a deadline passes or when the holder of an [`Interrupt`] sets
//! it.
//!
//! An interrupt belongs to one call and the calls nested in it. An engine that checks it between slices
//! of its work calls [`Interrupt::is_set`]. Compiled code can only read memory of its own instance: a
//! *flag*, a number that is not 0 when the guest must stop, and is then larger than any number the code
//! compares it with. While a guest runs, its flag is registered with the interrupt
//! ([`Interrupt::enter`]), which sets it. One thread of the process watches all deadlines.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

/// The number that the code of an instance reads, at loop heads and function entries, to see whether it
/// must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(NonNull<u64>);

// SAFETY: the number is only accessed as an atomic, and only while its guest is running, see
// `Interrupt::enter`.
unsafe impl Send for Flag {}

impl Flag {
    /// # Safety
    ///
    /// `flag` must be aligned, and must stay valid while a guest of its store can run. Whatever else
    /// accesses it meanwhile must be compiled code of the guest that only reads it.
    pub unsafe fn new(flag: NonNull<u64>) -> Self {
        Self(flag)
    }

    /// The value of a set flag. Code that reads only 32 bits of it also sees a value other than 0.
    const STOP: u64 = i64::MAX as u64;

    fn set(self, value: u64) {
        // SAFETY: valid and aligned, see `new`: the callers hold the lock under which the flag is known,
        // and it is known only while its guest runs. The guest's code reads it with plain loads, which
        // see either value.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr()) }.store(value, Ordering::SeqCst);
    }
}

/// Stops one call. Once set, it stays set.
///
/// A nested call may have an interrupt of its own in addition to that of its outer call. When it ends,
/// it clears its guest's flag, which the outer interrupt may just have set for the same guest. So
/// whoever returns to a guest must check [`Interrupt::is_set`] first. With sequentially consistent
/// accesses, the flag or the check shows that the guest must stop.
#[derive(Default)]
pub struct Interrupt {
    is_set: AtomicBool,
    /// Called when the interrupt is set.
    tell: Option<Box<dyn Fn() + Send + Sync>>,
    /// The flags of the guests that run in this call, outermost first.
    flags: Mutex<Vec<Flag>>,
}

impl Interrupt {
    /// An interrupt without a deadline; [`Interrupt::set`] sets it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An interrupt that also calls `tell` when it is set, on the thread that sets it.
    pub fn telling(tell: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { tell: Some(Box::new(tell)), ..Self::default() })
    }

    /// An interrupt that is set at `deadline`, unless the call ends first.
    pub fn at(deadline: Instant) -> Result<Arc<Self>, NoWatchdog> {
        let interrupt = Self::new();
        interrupt.set_at(deadline)?;
        Ok(interrupt)
    }

    /// Arranges for the interrupt to be set at `deadline`, unless the call ends first. If this fails,
    /// nothing will set it, so the call must not begin.
    pub fn set_at(self: &Arc<Self>, deadline: Instant) -> Result<(), NoWatchdog> {
        WATCHDOG.watch(deadline, self)
    }

    /// Whether the call must stop.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Stops the call: its running guests trap soon, and no further guest starts.
    pub fn set(&self) {
        let flags = self.flags();
        self.is_set.store(true, Ordering::SeqCst);
        for flag in &*flags {
            flag.set(Flag::STOP);
        }
        drop(flags);
        if let Some(tell) = &self.tell {
            tell();
        }
    }

    /// Runs `compile`, which the engine may abort once this is set.
    pub fn around_compile<T>(self: &Arc<Self>, compile: impl FnOnce() -> T) -> T {
        /// Restores the previous interrupt, also after a panic.
        struct Before(Option<Arc<Interrupt>>);

        impl Drop for Before {
            fn drop(&mut self) {
                COMPILE.replace(self.0.take());
            }
        }

        let _before = Before(COMPILE.replace(Some(self.clone())));
        compile()
    }

    /// The interrupt of the compile that runs on this thread, if any.
    pub fn of_compile() -> Option<Arc<Self>> {
        COMPILE.with_borrow(Clone::clone)
    }

    /// Registers the flag of a guest that is about to run, until the guard is dropped. Returns `None` if
    /// the call must already stop.
    pub fn enter(&self, flag: Option<Flag>) -> Option<Entered<'_>> {
        let mut flags = self.flags();
        if self.is_set() {
            return None;
        }
        flags.extend(flag);
        Some(Entered { interrupt: self, flag })
    }

    fn flags(&self) -> MutexGuard<'_, Vec<Flag>> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The interrupt of the compile that runs on this thread.
    static COMPILE: RefCell<Option<Arc<Interrupt>>> = const { RefCell::new(None) };
}

/// A guest that is running in a call.
pub struct Entered<'a> {
    interrupt: &'a Interrupt,
    flag: Option<Flag>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let Some(flag) = self.flag else { return };
        let mut flags = self.interrupt.flags();
        // The innermost guest ends first. The flag of a guest that was entered twice is here twice, and
        // the outer run still needs its value.
        flags.pop();
        if !flags.contains(&flag) {
            flag.set(0);
        }
    }
}

/// A deadline and the interrupt to set then, ordered by the deadline.
struct Watched {
    deadline: Instant,
    interrupt: Weak<Interrupt>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Watched {}

impl PartialOrd for Watched {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Watched {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

/// No thread watches deadlines, and none could be started. The next deadline tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no thread to watch the deadline of a call, so its timeout could not be kept")]
pub struct NoWatchdog;

/// The thread that watches the deadlines of the process, and these deadlines. It starts with the first
/// deadline for which the system provides a thread, sleeps until the next one, and ends with the
/// process.
struct Watchdog {
    watched: Mutex<Deadlines>,
    changed: Condvar,
}

#[derive(Default)]
struct Deadlines {
    heap: BinaryHeap<Reverse<Watched>>,
    /// Whether the thread is running.
    is_watched: bool,
}

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| Watchdog { watched: Mutex::default(), changed: Condvar::new() });

impl Watchdog {
    fn watch(&'static self, deadline: Instant, interrupt: &Arc<Interrupt>) -> Result<(), NoWatchdog> {
        self.watch_by(deadline, interrupt, |run| {
            let builder = thread::Builder::new().name("sandbox-host deadlines".to_owned());
            builder.stack_size(WATCHDOG_STACK_BYTES).spawn(run).is_ok()
        })
    }

    /// Does the same with a custom `start`, which starts a thread and returns whether it started.
    fn watch_by(
        &'static self,
        deadline: Instant,
        interrupt: &Arc<Interrupt>,
        start: impl FnOnce(Box<dyn FnOnce() + Send>) -> bool,
    ) -> Result<(), NoWatchdog> {
        let mut watched = self.lock();
        if !watched.is_watched {
            if !start(Box::new(|| self.run())) {
                return Err(NoWatchdog);
            }
            watched.is_watched = true;
        }
        let heap = &mut watched.heap;
        // Calls that end before their deadline leave their entries behind. With long deadlines these
        // would pile up.
        if heap.len() == heap.capacity() {
            heap.retain(|Reverse(entry)| entry.interrupt.strong_count() > 0);
        }
        let is_next = heap.peek().is_none_or(|Reverse(next)| deadline < next.deadline);
        heap.push(Reverse(Watched { deadline, interrupt: Arc::downgrade(interrupt) }));
        drop(watched);
        if is_next {
            self.changed.notify_one();
        }
        Ok(())
    }

    fn run(&self) {
        /// If the thread ever ends, the next deadline starts another.
        struct Gone<'a>(&'a Watchdog);

        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                self.0.lock().is_watched = false;
            }
        }

        let _gone = Gone(self);
        let mut watched = self.lock();
        loop {
            let now = Instant::now();
            let mut due = Vec::new();
            while let Some(Reverse(next)) = watched.heap.peek()
                && next.deadline <= now
            {
                due.extend(watched.heap.pop().and_then(|Reverse(due)| due.interrupt.upgrade()));
            }
            if !due.is_empty() {
                // Release the lock first: every call with a deadline takes it.
                drop(watched);
                for interrupt in due {
                    // The `tell` callback may panic, which must not end the watch.
                    let _ = catch_unwind(AssertUnwindSafe(|| interrupt.set()));
                }
                watched = self.lock();
                continue;
            }
            watched = match watched.heap.peek() {
                Some(Reverse(next)) => {
                    let rest = next.deadline.saturating_duration_since(now);
                    self.changed
                        .wait_timeout(watched, rest)
                        .map_or_else(|error| error.into_inner().0, |(watched, _)| watched)
                }
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enough stack for a thread that only waits and sets interrupts.
const WATCHDOG_STACK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flag_of(number: &mut u64) -> Flag {
        // SAFETY: the tests keep the number for as long as the flag is known.
        unsafe { Flag::new(NonNull::from(number)) }
    }

    /// Reads the flag; a set one reads as 1.
    fn value_of(flag: Flag) -> u64 {
        // SAFETY: as above.
        let value = unsafe { AtomicU64::from_ptr(flag.0.as_ptr()) }.load(Ordering::SeqCst);
        if value == Flag::STOP { 1 } else { value }
    }

    #[test]
    fn an_interrupt_sets_the_flags_of_running_guests_only() {
        let (mut outer, mut inner, mut ended) = (0, 0, 0);
        let [outer, inner, ended] = [flag_of(&mut outer), flag_of(&mut inner), flag_of(&mut ended)];
        let interrupt = Interrupt::new();
        let running = interrupt.enter(Some(outer)).expect("it is not set");
        drop(interrupt.enter(Some(ended)));
        let nested = interrupt.enter(Some(inner)).expect("it is not set");
        interrupt.set();
        assert_eq!([value_of(outer), value_of(inner), value_of(ended)], [1, 1, 0]);
        drop(nested);
        assert_eq!([value_of(outer), value_of(inner)], [1, 0], "the outer guest has yet to stop");
        drop(running);
        assert_eq!(value_of(outer), 0, "the next call must find no flag");
    }

    #[test]
    fn a_guest_that_runs_inside_itself_stops_in_both_runs() {
        let mut number = 0;
        let flag = flag_of(&mut number);
        let interrupt = Interrupt::new();
        let outer = interrupt.enter(Some(flag)).expect("it is not set");
        let inner = interrupt.enter(Some(flag)).expect("it is not set");
        interrupt.set();
        drop(inner);
        assert_eq!(value_of(flag), 1);
        drop(outer);
        assert_eq!(value_of(flag), 0);
    }

    #[test]
    fn no_guest_starts_in_a_call_that_is_to_stop() {
        let interrupt = Interrupt::new();
        interrupt.set();
        assert!(interrupt.enter(None).is_none());
    }

    #[test]
    fn deadlines_set_their_interrupts_in_any_order() {
        let start = Instant::now();
        let after = |ms| Interrupt::at(start + Duration::from_millis(ms)).expect("there is a thread");
        let far = after(1_000_000);
        let interrupts = [after(30), after(10), after(20), after(0)];
        while !interrupts.iter().all(|interrupt| interrupt.is_set()) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(!far.is_set());
    }

    #[test]
    fn ended_calls_do_not_pile_up_in_the_watchdog() {
        for _ in 0..10_000 {
            Interrupt::at(Instant::now() + Duration::from_secs(1000)).map(drop).expect("there is a thread");
        }
        assert!(WATCHDOG.lock().heap.len() < 5_000);
    }

    #[test]
    fn a_deadline_that_nobody_can_watch_is_refused_and_the_next_one_tries_again() {
        static REFUSED: LazyLock<Watchdog> =
            LazyLock::new(|| Watchdog { watched: Mutex::default(), changed: Condvar::new() });
        let interrupt = Interrupt::new();
        let deadline = Instant::now();
        assert_eq!(REFUSED.watch_by(deadline, &interrupt, |_| false), Err(NoWatchdog));
        assert!(REFUSED.lock().heap.is_empty(), "nobody would take it out");
        assert_eq!(REFUSED.watch_by(deadline, &interrupt, |run| thread::Builder::new().spawn(run).is_ok()), Ok(()));
        while !interrupt.is_set() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
