//! The threads that run the guests of asynchronous calls. As many tasks run at once as the machine has
//! cores. More run while some guests wait for their supervisors or have been computing for a long time.
//!
//! The process has one pool. A [`ThreadQuota`] limits how many of its threads a set of guests may hold;
//! the option `threads` sets that limit.
//!
//! The pool starts a thread only when tasks are queued and no thread is idle or starting. So there are
//! never more threads than tasks that run or are queued, and at most one more than tasks that run. Every
//! task is called exactly once: on a thread, or with [`NoThread`] if the system provides none. A task
//! stays queued without an idle thread only while another thread computes, because that thread will take
//! it.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Work for a thread of the pool. It is called once: on a thread, or wherever it becomes known that
/// there will be no thread.
pub type Task = Box<dyn FnOnce(Result<(), NoThread>) + Send>;

/// A task that waits for a thread. It can be run or cancelled from elsewhere before it begins.
pub struct Ticket(Mutex<Option<Task>>);

impl Ticket {
    pub fn new(task: Task) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(task))))
    }

    /// Calls the task, unless it was already called or cancelled.
    pub fn run(&self, thread: Result<(), NoThread>) {
        if let Some(task) = self.take() {
            task(thread);
        }
    }

    /// Drops the task. Returns `false` if it has begun.
    pub fn cancel(&self) -> bool {
        self.take().is_some()
    }

    fn take(&self) -> Option<Task> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why there is no thread for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoThread {
    /// No thread could be started, and no existing thread will take the task: there is no thread at all,
    /// or guests that wait for their supervisors hold all of them.
    #[error("the system gives no thread to run an asynchronous call on")]
    NotStarted,
    /// There is a thread, but no room for the guest's stack or for compiling the guest.
    #[error("the system has no room for what an asynchronous call needs")]
    NoRoom,
    /// See [`super::deadlock`].
    #[error(
        "an asynchronous call was made in a supervisor call while every thread that `options.threads` allows is held by a guest that \
         waits for such a call"
    )]
    AllWait,
}

/// How many threads of the pool a set of guests may hold at once, and the tasks that wait because of
/// that limit.
pub struct ThreadQuota {
    pool: &'static Pool,
    most: usize,
    state: Mutex<BudgetState>,
}

#[derive(Default)]
struct BudgetState {
    held: usize,
    waiting: VecDeque<Task>,
}

impl ThreadQuota {
    /// A quota of the process's pool. `most` is at least 1.
    pub fn new(most: usize) -> Arc<Self> {
        Self::of(Pool::get(), most)
    }

    /// A quota of the given pool.
    pub fn of(pool: &'static Pool, most: usize) -> Arc<Self> {
        Arc::new(Self { pool, most: most.max(1), state: Mutex::default() })
    }

    /// The most threads that its tasks may hold.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Runs `task` on a thread as soon as this quota and the pool have one.
    pub fn submit(self: &Arc<Self>, task: Task) {
        let mut state = self.lock();
        if state.held == self.most {
            state.waiting.push_back(task);
            return;
        }
        state.held += 1;
        drop(state);
        self.pool.submit(Job { quota: self.clone(), task });
    }

    /// A task that held a thread is over. Returns the task that holds the thread from now on.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.held -= 1;
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that counts toward its quota.
struct Job {
    quota: Arc<ThreadQuota>,
    task: Task,
}

/// Calls a task. A panic must end neither the thread nor the tasks that wait for it.
fn call(task: Task, thread: Result<(), NoThread>) {
    let _ = catch_unwind(AssertUnwindSafe(|| task(thread)));
}

/// Starts a thread that runs the function, and returns whether it started.
type Start = fn(Box<dyn FnOnce() + Send>) -> bool;

/// A pool of threads.
pub struct Pool {
    cores: usize,
    start: Start,
    /// The number of tasks that wait for a thread, readable without the lock.
    waiting: AtomicUsize,
    threads: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    queue: VecDeque<Job>,
    count: usize,
    /// Threads that were started and are not running yet.
    starting: usize,
    /// Threads that have nothing to do, or wait until a queued task may begin.
    idle: usize,
    /// Threads whose task's guest waits for its supervisor.
    parked: usize,
    /// When each computing task began, by its number. Both grow together.
    computing: BTreeMap<u64, Instant>,
    last: u64,
}

/// The task that a thread of the pool runs.
#[derive(Clone, Copy)]
struct Running {
    pool: &'static Pool,
    number: u64,
    begun: Instant,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// A thread without work ends after this time, unless it is the last.
const IDLE: Duration = Duration::from_secs(5);

/// A task that has run for this long no longer keeps another from beginning, although all cores are
/// busy.
const OVERSUBSCRIBE_AFTER: Duration = Duration::from_millis(20);

/// When all cores are busy with such tasks, one new task begins at a time, or one for this many of them.
const PATIENT_FOR_EACH: usize = 4;

/// Runs `wait`, in which the guest on this thread waits for its supervisor. Meanwhile other tasks may
/// use its core.
pub fn parked(wait: impl FnOnce()) {
    match RUNNING.get() {
        Some(running) => running.pool.parked(running, wait),
        None => wait(),
    }
}

/// Whether tasks wait for a thread of this thread's pool.
pub fn is_short() -> bool {
    RUNNING.get().is_some_and(|running| running.pool.waiting.load(Ordering::Relaxed) > 0)
}

impl Pool {
    /// The process's pool.
    pub fn get() -> &'static Self {
        static POOL: LazyLock<Pool> = LazyLock::new(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            Pool::new(cores, |run| {
                has_room(HEADROOM) && thread::Builder::new().name("sandbox-host".to_owned()).spawn(run).is_ok()
            })
        });
        &POOL
    }

    /// A pool that starts its threads with `start`. Tests create their own, and never end them.
    pub fn new(cores: usize, start: Start) -> Self {
        Self { cores, start, waiting: AtomicUsize::new(0), threads: Mutex::default(), changed: Condvar::new() }
    }

    /// The number of threads.
    pub fn thread_count(&self) -> usize {
        self.lock().count
    }

    /// Queues this job for a thread.
    fn submit(&'static self, job: Job) {
        let mut threads = self.lock();
        threads.queue.push_back(job);
        self.look_after_queue(threads);
    }

    /// Ensures that a thread will take the queued jobs, or refuses them all.
    fn look_after_queue(&'static self, mut threads: MutexGuard<'_, Threads>) {
        let is_looked_after = self.has_thread_for_queue(&mut threads);
        let refused = if is_looked_after { VecDeque::new() } else { std::mem::take(&mut threads.queue) };
        self.waiting.store(threads.queue.len(), Ordering::Relaxed);
        drop(threads);
        for Job { quota, task } in refused {
            call(task, Err(NoThread::NotStarted));
            // If a thread exists by now, it could run this task, but nothing guarantees that.
            while let Some(task) = quota.next() {
                call(task, Err(NoThread::NotStarted));
            }
        }
    }

    /// Whether a thread will take the queued jobs: an idle one, one that starts now, or one that
    /// computes.
    fn has_thread_for_queue(&'static self, threads: &mut Threads) -> bool {
        if threads.queue.is_empty() || threads.starting > 0 {
            return true;
        }
        if threads.idle > 0 {
            self.changed.notify_one();
            return true;
        }
        self.start_thread(threads) || !threads.computing.is_empty()
    }

    fn parked(&'static self, running: Running, wait: impl FnOnce()) {
        let mut threads = self.lock();
        threads.computing.remove(&running.number);
        threads.parked += 1;
        self.look_after_queue(threads);
        wait();
        let mut threads = self.lock();
        threads.parked -= 1;
        threads.computing.insert(running.number, running.begun);
    }

    fn start_thread(&'static self, threads: &mut Threads) -> bool {
        let is_started = (self.start)(Box::new(|| self.run()));
        threads.count += usize::from(is_started);
        threads.starting += usize::from(is_started);
        is_started
    }

    fn run(&'static self) {
        let mut threads = self.lock();
        threads.starting -= 1;
        loop {
            let now = Instant::now();
            let rest =
                if threads.queue.is_empty() { Some(IDLE) } else { threads.rest_until_oversubscribed(self.cores, now) };
            if let Some(rest) = rest {
                threads.idle += 1;
                let (changed, timeout) =
                    self.changed.wait_timeout(threads, rest).unwrap_or_else(PoisonError::into_inner);
                threads = changed;
                threads.idle -= 1;
                let is_last = threads.count - threads.parked == 1;
                if timeout.timed_out() && rest == IDLE && threads.queue.is_empty() && !is_last {
                    threads.count -= 1;
                    return;
                }
                continue;
            }
            let Some(Job { quota, task }) = threads.queue.pop_front() else { continue };
            self.waiting.store(threads.queue.len(), Ordering::Relaxed);
            let running = Running { pool: self, number: threads.begin(now), begun: now };
            // Another thread takes care of the rest of the queue, if there can be one.
            self.has_thread_for_queue(&mut threads);
            drop(threads);
            RUNNING.set(Some(running));
            call(task, Ok(()));
            RUNNING.set(None);
            threads = self.lock();
            threads.computing.remove(&running.number);
            // Take the next task under the lock: a task submitted from here on finds this thread idle,
            // or busy with its next task.
            if let Some(task) = quota.next() {
                threads.queue.push_back(Job { quota, task });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address space, in bytes, that must be free before a thread is started. The C library reserves 64
/// MiB of it, if it can, for a thread's allocations. A process that runs out of address space aborts:
/// for the thread-local data of a thread, for any small allocation, or when V8 collects garbage.
const HEADROOM: usize = 128 << 20;

/// Whether this many bytes of address space are free.
pub fn has_room(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let has_room = probe.try_reserve_exact(bytes).is_ok();
    // Otherwise the compiler may remove the allocation.
    black_box(probe.as_ptr());
    has_room
}

impl Threads {
    /// Counts a task that begins, and returns its number.
    fn begin(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.computing.insert(self.last, now);
        self.last
    }

    /// The minimum time that the next task must wait because the cores are busy. `None` if it may begin.
    fn rest_until_oversubscribed(&self, cores: usize, now: Instant) -> Option<Duration> {
        if self.computing.len() < cores {
            return None;
        }
        let ages = self.computing.values().rev().map(|begun| now.saturating_duration_since(*begun));
        let (young, oldest_young) = ages
            .take_while(|age| *age < OVERSUBSCRIBE_AFTER)
            .fold((0, Duration::ZERO), |(count, _), age| (count + 1, age));
        let may_begin = young < ((self.computing.len() - young) / PATIENT_FOR_EACH).max(1);
        (!may_begin).then(|| OVERSUBSCRIBE_AFTER - oldest_young)
    }
}
