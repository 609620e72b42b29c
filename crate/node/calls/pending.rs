//! A call that is not over.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::work::Work;
use crate::{
    error::{HostTrap, Trap, TrapCode},
    executor::{
        CallId,
        deadlock::{self, Waits},
        exchange::Held,
        pool::{ThreadQuota, Ticket},
    },
    interrupt::Interrupt,
    node::{
        fuel::Fuel,
        group::{Group, release_if_last},
        raw::Scope,
        scratch::{EVENT_TRAPPED, Scratch},
        tables::Tables,
    },
};

/// A call that is not over.
pub struct Pending {
    pub interrupt: Arc<Interrupt>,
    pub deadline: Option<Instant>,
    pub fuel: Fuel,
    /// The fuel it began with, and the call during which it was made, which pays for it.
    pub begun: u64,
    pub around: CallId,
    pub quota: Arc<ThreadQuota>,
    /// Whether its supervisor has put off the current answer.
    pub is_put_off: bool,
    pub stage: Stage,
}

pub enum Stage {
    /// Holds the ticket, which is cancelled if the call ends before its task begins.
    Compiling(Arc<Ticket>),
    /// Another call has its group.
    Waiting(Work),
    /// Between `Waiting` and `Running`.
    Beginning,
    /// Its guest is running or waits for its supervisor.
    Running { group: Rc<Group>, extra_bytes: u64 },
}

impl Pending {
    /// What [`deadlock`] needs to know about the call.
    pub fn seen(&self, tables: &Tables, id: CallId) -> deadlock::Pending {
        let waits = match &self.stage {
            Stage::Running { group, .. } if group.occupancy.is_open(id) && self.is_put_off => {
                Waits::ForSupervisor { holds_thread: group.holds_threads() }
            }
            Stage::Running { group, .. } if group.occupancy.is_open(id) => Waits::ForNothing,
            Stage::Running { .. } | Stage::Compiling(_) => Waits::ForThread,
            Stage::Waiting(Work { what, .. }) => {
                let groups = what.groups(tables).unwrap_or_default();
                Waits::ForCalls(groups.iter().filter_map(|group| group.occupancy.occupant()).collect())
            }
            Stage::Beginning => Waits::ForNothing,
        };
        let quota = Arc::as_ptr(&self.quota).addr();
        deadlock::Pending { call: id, around: self.around, quota, threads: self.quota.most(), waits }
    }
}

/// Reports to TypeScript that a call was stopped before it ran a guest.
pub fn fail_interrupted(tables: &Tables, scope: Scope, scratch: &Scratch, call: &Pending) -> u32 {
    scratch.write_fuel(call.fuel.left);
    tables.fail(scope, Box::new(Trap::new(TrapCode::Interrupted)), None);
    EVENT_TRAPPED
}

/// Removes a call, which is no longer pending, from the queue that it waits in.
pub fn forget(tables: &Tables, scope: Scope, id: CallId, call: Pending) {
    match call.stage {
        Stage::Waiting(Work { what, .. }) => {
            for group in what.groups(tables).unwrap_or_default() {
                group.occupancy.give_up_waiting(id);
                release_if_last(scope, group);
            }
        }
        Stage::Compiling(ticket) => drop(ticket.cancel()),
        Stage::Running { .. } | Stage::Beginning => {}
    }
}

pub fn answer_with(held: Option<Held>, failure: HostTrap) {
    if let Some(held) = held {
        held.answer(Some(failure));
    }
}
