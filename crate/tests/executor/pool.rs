//! Pools of threads that a test makes for itself. All but the last need no engine.

use std::{
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, TryRecvError, channel},
    },
    thread,
};

use sandbox_host::{
    engine::wasmi::Wasmi,
    executor::{
        Outcome,
        pool::{self, NoThread, Pool, ThreadQuota, Ticket},
    },
};

use super::{ASKS, LONG, Supervisor, until_it_waits};
use crate::guest::{Guest, engine};

/// A pool for a machine with so many cores. `start` starts its threads.
fn pool(cores: usize, start: fn(Box<dyn FnOnce() + Send>) -> bool) -> &'static Pool {
    Box::leak(Box::new(Pool::new(cores, start)))
}

fn start_thread(run: Box<dyn FnOnce() + Send>) -> bool {
    thread::Builder::new().spawn(run).is_ok()
}

fn submit(quota: &Arc<ThreadQuota>, task: impl FnOnce(Result<(), NoThread>) + Send + 'static) {
    quota.submit(Box::new(task));
}

/// Submits a task that sends how it was called.
fn submit_telling(quota: &Arc<ThreadQuota>, tells: &Sender<Result<(), NoThread>>) {
    let tells = tells.clone();
    submit(quota, move |thread| tells.send(thread).expect("the test waits for it"));
}

#[test]
fn a_pool_has_no_more_threads_than_the_budget_that_uses_it() {
    const THREADS: usize = 4;
    let pool = pool(2, start_thread);
    let quota = ThreadQuota::of(pool, THREADS);
    let (tells, told) = channel();
    for _ in 0..2000 {
        let tells = tells.clone();
        submit(&quota, move |_| tells.send(pool.thread_count()).expect("the test waits for it"));
    }
    for _ in 0..2000 {
        assert!(told.recv_timeout(LONG).expect("the task is done") <= THREADS);
    }
}

#[test]
fn tasks_that_end_soon_need_no_more_threads_than_cores_and_one_that_looks_after_the_queue() {
    const CORES: usize = 3;
    let pool = pool(CORES, start_thread);
    let quota = ThreadQuota::of(pool, 1024);
    let (tells, told) = channel();
    for _ in 0..20_000 {
        submit_telling(&quota, &tells);
    }
    for _ in 0..20_000 {
        told.recv_timeout(LONG).expect("the task is done").expect("on a thread");
    }
    // Another one for a thread from which the system has taken its core for long.
    assert!(pool.thread_count() <= CORES + 2, "{}", pool.thread_count());
}

#[test]
fn tasks_that_never_end_keep_no_other_from_its_turn() {
    let pool = pool(1, start_thread);
    let quota = ThreadQuota::of(pool, 1024);
    let (ends, end) = channel::<()>();
    let end = Arc::new(Mutex::new(end));
    for _ in 0..100 {
        let end = end.clone();
        submit(&quota, move |_| drop(end.lock().map(|end| end.recv())));
    }
    let (tells, told) = channel();
    submit_telling(&quota, &tells);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    drop(ends);
}

#[test]
fn the_first_thread_that_is_refused_refuses_the_task_and_the_next_task_tries_again() {
    static GIVES_THREADS: AtomicBool = AtomicBool::new(false);
    let pool = pool(2, |run| GIVES_THREADS.load(Ordering::SeqCst) && start_thread(run));
    let quota = ThreadQuota::of(pool, 1);
    let (tells, told) = channel();
    for _ in 0..3 {
        submit_telling(&quota, &tells);
        assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    }
    assert_eq!(pool.thread_count(), 0);
    GIVES_THREADS.store(true, Ordering::SeqCst);
    submit_telling(&quota, &tells);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
}

/// Starts the first thread and refuses all others.
macro_rules! start_one_thread {
    () => {
        |run| {
            static IS_STARTED: AtomicBool = AtomicBool::new(false);
            !IS_STARTED.swap(true, Ordering::SeqCst) && start_thread(run)
        }
    };
}

#[test]
fn one_thread_does_all_tasks_where_the_system_gives_no_second_one() {
    let pool = pool(4, start_one_thread!());
    let quota = ThreadQuota::of(pool, 8);
    let (tells, told) = channel();
    for _ in 0..1000 {
        submit_telling(&quota, &tells);
    }
    for _ in 0..1000 {
        assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    }
    assert_eq!(pool.thread_count(), 1);
}

#[test]
fn tasks_behind_a_guest_that_waits_are_refused_where_the_system_gives_no_other_thread() {
    let pool = pool(4, start_one_thread!());
    let (parks, park) = channel::<()>();
    let (wakes, wake) = channel::<()>();
    let (has_parked, parked) = channel();
    let (tells, told) = channel();
    let other = ThreadQuota::of(pool, 8);
    submit(&ThreadQuota::of(pool, 1), move |_| {
        park.recv().expect("the test says when");
        pool::parked(|| {
            has_parked.send(()).expect("the test waits for it");
            wake.recv().expect("the test says when");
        });
    });
    submit_telling(&other, &tells);
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "the thread computes, and will come to it");
    parks.send(()).expect("the task waits for it");
    assert_eq!(
        told.recv_timeout(LONG),
        Ok(Err(NoThread::NotStarted)),
        "it might never come, because the answer may depend on this task"
    );
    parked.recv_timeout(LONG).expect("it waits for its supervisor");
    submit_telling(&other, &tells);
    assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    wakes.send(()).expect("the task waits for it");
    // The thread is free, at the latest after a while, and runs tasks again.
    loop {
        submit_telling(&other, &tells);
        if told.recv_timeout(LONG).expect("it is called") == Ok(()) {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn a_budget_whose_tasks_are_refused_has_all_its_threads_afterwards() {
    static GIVES_THREADS: AtomicBool = AtomicBool::new(false);
    let pool = pool(2, |run| GIVES_THREADS.load(Ordering::SeqCst) && start_thread(run));
    let quota = ThreadQuota::of(pool, 2);
    let (tells, told) = channel();
    for _ in 0..10 {
        submit_telling(&quota, &tells);
        assert_eq!(told.try_recv(), Ok(Err(NoThread::NotStarted)));
    }
    GIVES_THREADS.store(true, Ordering::SeqCst);
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..2 {
        let barrier = barrier.clone();
        submit(&quota, move |_| {
            barrier.wait();
        });
    }
    barrier.wait();
}

#[test]
fn a_task_that_panics_costs_neither_its_thread_nor_the_tasks_behind_it() {
    let pool = pool(1, start_thread);
    let quota = ThreadQuota::of(pool, 1);
    let (tells, told) = channel();
    for _ in 0..10 {
        submit(&quota, |_| panic!("a test's panic"));
        submit_telling(&quota, &tells);
    }
    for _ in 0..10 {
        assert_eq!(told.recv_timeout(LONG), Ok(Ok(())));
    }
    assert_eq!(pool.thread_count(), 1);
}

#[test]
fn a_task_that_is_cancelled_before_it_has_begun_does_not_run() {
    let ticket = Ticket::new(Box::new(|_| panic!("it is cancelled")));
    assert!(ticket.cancel());
    ticket.run(Ok(()));
    assert!(!ticket.cancel());
}

#[test]
fn a_guest_that_is_to_go_on_where_there_is_no_thread_ends_and_gives_back_its_realm() {
    let engine = engine::<Wasmi>();
    let guest = Guest::new(&engine, ASKS);
    let pool = pool(1, start_one_thread!());
    let quota = ThreadQuota::of(pool, 2);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "ask", &[5], &quota);
    supervisor.asked();
    until_it_waits(&engine, &quota);
    let (wakes, wake) = channel::<()>();
    let (has_parked, parked) = channel();
    submit(&quota, move |_| {
        pool::parked(|| {
            has_parked.send(()).expect("the test waits for it");
            wake.recv().expect("the test says when");
        });
    });
    parked.recv_timeout(LONG).expect("it has the one thread");
    pending.answer(40);
    let (call, on, finished) = supervisor.finished();
    assert_eq!((call, on), (pending.id, thread::current().id()));
    assert!(matches!(finished.outcome, Outcome::NoThread(NoThread::NotStarted)));
    drop(finished);
    assert_eq!(Rc::strong_count(&guest.realm), 1);
    guest.call("nothing", &[]).expect("still usable");
    wakes.send(()).expect("the task waits for it");
}
