//! Finds calls that would wait for one another forever. A guest on an engine that cannot suspend holds
//! its thread until its supervisor has answered. A supervisor call may make further calls in the
//! meantime. If the guests that wait for these calls hold every thread of the
//! [`ThreadQuota`](super::pool::ThreadQuota), none of the calls can ever continue.
//!
//! What a supervisor waits for is not observable. A supervisor call counts as waiting for every call
//! that was made during it and is not over.

use std::collections::{HashMap, HashSet};

use super::CallId;

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub call: CallId,
    /// The call during whose supervisor call this one was made, or 0.
    pub around: CallId,
    /// The quota it belongs to, and the number of threads of that quota.
    pub quota: usize,
    pub threads: usize,
    pub waits: Waits,
}

/// What a call waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// The rest of a supervisor call whose answer takes time.
    ForSupervisor { holds_thread: bool },
    /// A thread, unless it has one.
    ForThread,
    /// Other calls, which must end first.
    ForCalls(Vec<CallId>),
    /// Nothing: its supervisor is running.
    ForNothing,
}

/// The call to refuse so that the others can continue: the latest of those that were made during a
/// supervisor call and can never begin. `None` if no call is stuck.
pub fn call_to_refuse(calls: &[Pending]) -> Option<CallId> {
    let full = full_budgets(calls);
    if full.is_empty() {
        return None;
    }
    // Assume that all calls are stuck, then remove those that are not until no more can be removed.
    let mut stuck: Vec<&Pending> = calls.iter().collect();
    loop {
        let ids: HashSet<CallId> = stuck.iter().map(|pending| pending.call).collect();
        let waited_for: HashSet<CallId> = stuck.iter().map(|pending| pending.around).collect();
        let mut holders: HashMap<usize, usize> = HashMap::new();
        for pending in stuck.iter().filter(|pending| pending.waits == HOLDS_THREAD) {
            *holders.entry(pending.quota).or_default() += 1;
        }
        let stays = |pending: &&&Pending| match &pending.waits {
            Waits::ForNothing => false,
            Waits::ForSupervisor { .. } => waited_for.contains(&pending.call),
            Waits::ForThread => full.get(&pending.quota).is_some_and(|all| holders.get(&pending.quota) == Some(all)),
            Waits::ForCalls(others) => others.iter().any(|other| ids.contains(other)),
        };
        let next: Vec<&Pending> = stuck.iter().filter(stays).copied().collect();
        if next.len() == stuck.len() {
            let has_begun = |pending: &&Pending| matches!(pending.waits, Waits::ForSupervisor { .. });
            let refusable = stuck.iter().filter(|pending| pending.around != 0 && !has_begun(pending));
            return refusable.map(|pending| pending.call).max();
        }
        stuck = next;
    }
}

/// The quotas whose threads are all held by guests that wait for their supervisors, with the number of
/// these guests.
fn full_budgets(calls: &[Pending]) -> HashMap<usize, usize> {
    let mut holders: HashMap<usize, (usize, usize)> = HashMap::new();
    for pending in calls.iter().filter(|pending| pending.waits == HOLDS_THREAD) {
        holders.entry(pending.quota).or_insert((0, pending.threads)).0 += 1;
    }
    let full = holders.into_iter().filter(|(_, (count, threads))| count >= threads);
    full.map(|(quota, (count, _))| (quota, count)).collect()
}

const HOLDS_THREAD: Waits = Waits::ForSupervisor { holds_thread: true };

#[cfg(test)]
mod tests {
    use super::*;

    const SUSPENDED: Waits = Waits::ForSupervisor { holds_thread: false };

    /// A call of a quota of `threads` threads.
    fn pending(call: CallId, around: CallId, threads: usize, waits: Waits) -> Pending {
        Pending { call, around, quota: threads, threads, waits }
    }

    #[test]
    fn a_call_that_waits_for_the_thread_of_the_call_around_it_is_refused() {
        let calls = [pending(1, 0, 1, HOLDS_THREAD), pending(2, 1, 1, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), Some(2));
    }

    #[test]
    fn nothing_is_refused_while_a_thread_is_free_or_computes() {
        let calls = [pending(1, 0, 2, HOLDS_THREAD), pending(2, 1, 2, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), None);
        let calls = [&calls[..], &[pending(3, 0, 2, Waits::ForThread)]].concat();
        assert_eq!(call_to_refuse(&calls), None);
    }

    #[test]
    fn nothing_is_refused_while_a_guest_with_a_thread_waits_for_no_call() {
        let calls =
            [pending(1, 0, 2, HOLDS_THREAD), pending(2, 0, 2, HOLDS_THREAD), pending(3, 1, 2, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), None);
    }

    #[test]
    fn guests_that_hold_all_threads_together_are_stuck_and_the_latest_call_is_refused() {
        let calls = [
            pending(1, 0, 2, HOLDS_THREAD),
            pending(2, 0, 2, HOLDS_THREAD),
            pending(3, 1, 2, Waits::ForThread),
            pending(4, 2, 2, Waits::ForThread),
        ];
        assert_eq!(call_to_refuse(&calls), Some(4));
    }

    #[test]
    fn a_call_of_nobody_else_is_not_refused_because_others_are_stuck() {
        let calls =
            [pending(1, 0, 1, HOLDS_THREAD), pending(2, 1, 1, Waits::ForThread), pending(3, 0, 1, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), Some(2));
    }

    #[test]
    fn a_supervisor_call_that_has_not_been_put_off_may_be_answered_at_once() {
        let calls = [pending(1, 0, 1, Waits::ForNothing), pending(2, 1, 1, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), None);
    }

    #[test]
    fn a_suspended_guest_holds_no_thread() {
        let calls = [pending(1, 0, 1, SUSPENDED), pending(2, 1, 1, Waits::ForThread)];
        assert_eq!(call_to_refuse(&calls), None);
    }

    #[test]
    fn budgets_whose_guests_wait_for_one_another_are_stuck() {
        let calls = [
            Pending { quota: 1, ..pending(1, 0, 1, HOLDS_THREAD) },
            Pending { quota: 2, ..pending(2, 1, 1, SUSPENDED) },
            Pending { quota: 3, ..pending(3, 2, 1, HOLDS_THREAD) },
            Pending { quota: 1, ..pending(4, 3, 1, Waits::ForThread) },
        ];
        assert_eq!(call_to_refuse(&calls), Some(4));
    }

    #[test]
    fn a_call_that_waits_for_the_turn_of_a_stuck_one_is_stuck() {
        let calls = [
            pending(1, 0, 1, HOLDS_THREAD),
            pending(2, 0, 1, Waits::ForThread),
            Pending { quota: 2, ..pending(3, 1, 9, Waits::ForCalls(vec![2])) },
        ];
        assert_eq!(call_to_refuse(&calls), Some(3));
    }
}
