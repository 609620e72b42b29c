//! Thread quotas by themselves, without an engine.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    },
    thread,
};

use sandbox_host::executor::pool::ThreadQuota;

use super::LONG;

#[test]
fn a_budget_of_one_thread_does_its_tasks_one_after_another() {
    for most in [1, 0] {
        let quota = ThreadQuota::new(most);
        let running = Arc::new(AtomicU32::new(0));
        let (tells, told) = channel();
        for number in 0..100 {
            let (running, tells) = (running.clone(), tells.clone());
            let task = move |_| {
                let others = running.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                let _ = tells.send((number, others));
            };
            quota.submit(Box::new(task));
        }
        for number in 0..100 {
            assert_eq!(told.recv_timeout(LONG).expect("the task is done"), (number, 0));
        }
    }
}

#[test]
fn as_many_tasks_run_at_once_as_their_budget_has_threads() {
    const THREADS: usize = 3;
    let quota = ThreadQuota::new(THREADS);
    let running = Arc::new(AtomicU32::new(0));
    // None goes on until so many run.
    let barrier = Arc::new(Barrier::new(THREADS));
    let (tells, told) = channel();
    for _ in 0..10 * THREADS {
        let (running, barrier, tells) = (running.clone(), barrier.clone(), tells.clone());
        let task = move |_| {
            let count = running.fetch_add(1, Ordering::SeqCst) + 1;
            barrier.wait();
            running.fetch_sub(1, Ordering::SeqCst);
            let _ = tells.send(count);
        };
        quota.submit(Box::new(task));
    }
    for _ in 0..10 * THREADS {
        assert!(told.recv_timeout(LONG).expect("the task is done") <= THREADS as u32);
    }
}

#[test]
fn a_task_may_submit_another_to_its_budget() {
    let quota = ThreadQuota::new(1);
    let (tells, told) = channel();
    let inner = quota.clone();
    let task = move |_| {
        let task = move |_| tells.send(()).expect("the test waits for it");
        inner.submit(Box::new(task));
    };
    quota.submit(Box::new(task));
    told.recv_timeout(LONG).expect("the task is done");
}
