//! The threads that run guests of asynchronous calls: as many at once as the machine has cores, and more where that is not enough,
//! because some of them wait for their supervisors or have been computing for long.
//!
//! There is one pool for the process. A [`Budget`] says how many of its threads some guests may hold; it is the option
//! `threads`.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Something that a thread of the pool is to do. It must not panic.
pub type Task = Box<dyn FnOnce() + Send>;

/// Something that waits for a thread, unless somebody else does it before.
pub struct Ticket(Mutex<Option<Task>>);

impl Ticket {
    pub fn new(task: Task) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(task))))
    }

    /// Does it, if nobody has begun it yet.
    pub fn run(&self) {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task();
        }
    }
}

/// No thread could be started, and there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no thread to run the guest on")]
pub struct NoThread;

/// How many threads of the pool some guests may hold at once, and what waits because they do.
pub struct Budget {
    most: usize,
    state: Mutex<BudgetState>,
}

#[derive(Default)]
struct BudgetState {
    held: usize,
    waiting: VecDeque<Task>,
}

impl Budget {
    /// `most` is at least 1.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::default() })
    }

    /// Has a thread do `task`, as soon as this budget and the pool have one.
    pub fn submit(self: &Arc<Self>, task: Task) -> Result<(), NoThread> {
        let budget = self.clone();
        let counted: Task = Box::new(move || {
            task();
            budget.give_back();
        });
        let mut state = self.lock();
        if state.held == self.most {
            state.waiting.push_back(counted);
            return Ok(());
        }
        state.held += 1;
        drop(state);
        Pool::get().submit(counted).inspect_err(|_| self.lock().held -= 1)
    }

    fn give_back(&self) {
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some(task) => {
                drop(state);
                // This thread is one of the pool, so there is one.
                let _ = Pool::get().submit(task);
            }
            None => state.held -= 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool.
pub struct Pool {
    cores: usize,
    /// How many tasks wait for a thread, to be looked at without the lock.
    waiting: AtomicUsize,
    threads: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    /// With when they came.
    queue: VecDeque<(Instant, Task)>,
    count: usize,
    /// Those that have nothing to do.
    idle: usize,
    /// Those that compute. The others wait for a supervisor.
    computing: usize,
}

/// A thread without work ends after this time, unless it is the last.
const IDLE: Duration = Duration::from_secs(5);

/// When all cores have been busy for so long, one more task may begin; the next after four times as long, then nine times.
const PATIENCE: Duration = Duration::from_millis(10);
const MOST_PATIENCE: Duration = Duration::from_millis(100);

impl Pool {
    pub fn get() -> &'static Self {
        static POOL: LazyLock<Pool> = LazyLock::new(|| Pool {
            cores: thread::available_parallelism().map_or(1, usize::from),
            waiting: AtomicUsize::new(0),
            threads: Mutex::default(),
            changed: Condvar::new(),
        });
        &POOL
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.lock().count
    }

    /// Whether tasks wait for a thread.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Has a thread do `task`.
    fn submit(&'static self, task: Task) -> Result<(), NoThread> {
        let mut threads = self.lock();
        threads.queue.push_back((Instant::now(), task));
        if threads.idle > 0 {
            self.changed.notify_one();
        } else if !self.start_thread(&mut threads) && threads.count == 0 {
            threads.queue.pop_back();
            return Err(NoThread);
        }
        self.waiting.store(threads.queue.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Runs `wait` on a thread of the pool, while others may use its core.
    pub fn blocked(&self, wait: impl FnOnce()) {
        let mut threads = self.lock();
        threads.computing -= 1;
        if !threads.queue.is_empty() {
            self.changed.notify_one();
        }
        drop(threads);
        wait();
        self.lock().computing += 1;
    }

    fn start_thread(&'static self, threads: &mut Threads) -> bool {
        let builder = thread::Builder::new().name("sandbox-host".to_owned());
        let is_started = builder.spawn(|| self.run()).is_ok();
        threads.count += usize::from(is_started);
        is_started
    }

    fn run(&'static self) {
        let mut threads = self.lock();
        loop {
            let Some((since, _)) = threads.queue.front() else {
                let timed_out;
                threads.idle += 1;
                (threads, timed_out) = self.wait(threads, IDLE);
                threads.idle -= 1;
                if timed_out && threads.queue.is_empty() && threads.count > 1 {
                    threads.count -= 1;
                    return;
                }
                continue;
            };
            let beyond = (threads.computing + 1).saturating_sub(self.cores) as u32;
            let patience = PATIENCE.saturating_mul(beyond.saturating_mul(beyond)).min(MOST_PATIENCE);
            let waited = since.elapsed();
            if waited < patience {
                threads.idle += 1;
                (threads, _) = self.wait(threads, patience - waited);
                threads.idle -= 1;
                continue;
            }
            let task = threads.queue.pop_front();
            self.waiting.store(threads.queue.len(), Ordering::Relaxed);
            threads.computing += 1;
            // Somebody must have the patience for what still waits.
            if !threads.queue.is_empty() {
                if threads.idle > 0 {
                    self.changed.notify_one();
                } else {
                    self.start_thread(&mut threads);
                }
            }
            drop(threads);
            if let Some((_, task)) = task {
                task();
            }
            threads = self.lock();
            threads.computing -= 1;
        }
    }

    fn wait<'a>(&self, threads: MutexGuard<'a, Threads>, most: Duration) -> (MutexGuard<'a, Threads>, bool) {
        let (threads, timeout) = self.changed.wait_timeout(threads, most).unwrap_or_else(PoisonError::into_inner);
        (threads, timeout.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
