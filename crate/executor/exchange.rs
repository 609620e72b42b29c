//! The data that a guest's thread and the JavaScript thread exchange during a supervisor call. The
//! [`Handover`] says which thread owns it at any moment. The unsafe code of this folder is here and in
//! [`super::lease`].

use std::{
    cell::UnsafeCell,
    sync::{Arc, Mutex, PoisonError},
};

use smallvec::SmallVec;

use super::{
    handover::{Handover, Place, Waited},
    pool::{self, NoThread, Ticket},
};
use crate::{engine::ImportSite, error::HostTrap, realm::HostCall};

/// A guest's call to its supervisor, and later the supervisor's answer.
#[derive(Debug)]
pub struct HostRequest {
    pub site: ImportSite,
    /// The value of the carried global. The answer replaces it with the new value.
    pub carried: Option<i64>,
    /// The remaining fuel. The answer replaces it with what remains after the call.
    pub fuel: u64,
    /// The arguments. The answer replaces them with the results.
    pub slots: SmallVec<[u64; 4]>,
    /// The reason if there are no results.
    failure: Option<HostTrap>,
}

/// A call whose guest has left its thread while it waits for the supervisor's answer.
pub trait LeftCall: Send {
    /// Queues the call for a thread that resumes it.
    fn go_on(self: Box<Self>);

    /// Ends the call with this failure.
    fn give_up(self: Box<Self>, failure: HostTrap);
}

/// Where the guest of one call and the JavaScript thread meet.
#[derive(Default)]
pub struct Exchange {
    handover: Handover,
    asked: UnsafeCell<Option<HostRequest>>,
    left: UnsafeCell<Option<Box<dyn LeftCall>>>,
    /// The task that waits for a thread of the pool, or has had one.
    ticket: Mutex<Option<Arc<Ticket>>>,
}

// SAFETY: `asked` and `left` are only accessed by whoever the handover says has the store: the guest's
// thread by `ask`, `wait` and `leave`, the JavaScript thread by `Held`, of which there is one at a time.
unsafe impl Sync for Exchange {}
// SAFETY: what is in them can be sent.
unsafe impl Send for Exchange {}

impl Exchange {
    // The guest's thread

    /// Stores a supervisor call for the JavaScript thread. The caller then notifies that thread and
    /// calls [`Exchange::wait`].
    pub fn ask(&self, call: &HostCall<'_>, fuel: u64) {
        let site = ImportSite { instance: call.instance, import: call.import };
        let (carried, slots) = (call.carried.as_deref().copied(), SmallVec::from_slice(call.slots));
        let asked = HostRequest { site, carried, fuel, slots, failure: None };
        // SAFETY: the guest is running, so this thread has the store.
        unsafe { *self.asked.get() = Some(asked) };
        self.handover.ask();
    }

    /// Waits for the answer and writes it to `call` and `fuel`. With `may_leave`, returns
    /// `HostTrap::Suspended` instead once `keep_looking` says to stop polling.
    pub fn wait(
        &self,
        call: HostCall<'_>,
        fuel: &mut u64,
        may_leave: bool,
        keep_looking: impl FnMut() -> bool,
    ) -> Result<(), Box<HostTrap>> {
        // A guest that may leave sleeps only while the JavaScript thread uses its store. That thread
        // then occupies a core, so this one is not reported as parked.
        let sleeping = |sleep: &dyn Fn()| if may_leave { sleep() } else { pool::parked(sleep) };
        match self.handover.wait(may_leave, keep_looking, sleeping) {
            Waited::Leave => Err(Box::new(HostTrap::Suspended)),
            Waited::Answered => {
                let asked = self.take_answer()?;
                call.slots.copy_from_slice(&asked.slots);
                *fuel = asked.fuel;
                if let (Some(carried), Some(value)) = (call.carried, asked.carried) {
                    *carried = value;
                }
                Ok(())
            }
        }
    }

    /// Stores the call of a guest that leaves its thread. From here on it belongs to the JavaScript
    /// thread.
    pub fn leave(&self, call: Box<dyn LeftCall>) {
        // SAFETY: this thread is leaving and has not said yet that it has left, so it has the store.
        unsafe { *self.left.get() = Some(call) };
        self.handover.has_left();
    }

    /// Takes the answer. Called by the guest's thread when it resumes.
    pub fn take_answer(&self) -> Result<HostRequest, Box<HostTrap>> {
        // SAFETY: there is an answer, so the guest's thread has the store again.
        let asked = unsafe { (*self.asked.get()).take() };
        match asked {
            Some(HostRequest { failure: Some(failure), .. }) => Err(Box::new(failure)),
            Some(asked) => Ok(asked),
            None => Err(Box::new(HostTrap::Message("the supervisor's answer is lost".into()))),
        }
    }

    /// Stores the task that is about to wait for a thread.
    pub fn set_ticket(&self, ticket: Arc<Ticket>) {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).replace(ticket);
    }

    // The JavaScript thread

    /// Runs the task that still waits for a thread, on this thread. Either its call has been stopped, so
    /// that no guest runs, or `thread` says that no thread will come.
    pub fn run_waiting(&self, thread: Result<(), NoThread>) {
        let ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticket) = ticket {
            ticket.run(thread);
        }
    }

    /// Takes the store. The guest must have called its supervisor and not have been answered. There must
    /// be no other [`Held`].
    pub fn hold(self: &Arc<Self>) -> Held {
        let place = self.handover.hold();
        Held { exchange: self.clone(), place }
    }
}

/// While this exists, the JavaScript thread owns the store of a waiting guest.
pub struct Held {
    exchange: Arc<Exchange>,
    place: Place,
}

impl Held {
    /// The guest's request.
    pub fn asked(&mut self) -> Option<&mut HostRequest> {
        // SAFETY: held, and `self` is borrowed for as long as the reference is.
        unsafe { (*self.exchange.asked.get()).as_mut() }
    }

    /// Returns the store with the results in [`Held::asked`], or with the reason why there are none. A
    /// guest that has left its thread needs no thread to end without results.
    pub fn answer(mut self, failure: Option<HostTrap>) {
        match std::mem::replace(&mut self.place, Place::Left) {
            Place::OnThread => {
                if let Some(asked) = self.asked() {
                    asked.failure = failure;
                }
                self.exchange.handover.answer();
            }
            Place::Left => {
                // SAFETY: held, and the guest's thread has left.
                let left = unsafe { (*self.exchange.left.get()).take() };
                self.exchange.handover.again();
                match (left, failure) {
                    (Some(left), None) => left.go_on(),
                    (Some(left), Some(failure)) => left.give_up(failure),
                    (None, _) => {}
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.place == Place::OnThread {
            self.exchange.handover.let_go();
        }
    }
}
