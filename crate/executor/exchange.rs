//! What goes between a guest's thread and the JavaScript thread while the guest calls its supervisor. Whose it is at any moment
//! the [`Handover`] says; the unsafe of this folder is here and in [`super::lease`].

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

/// A call of a guest to its supervisor, and then the answer.
#[derive(Debug)]
pub struct HostRequest {
    pub site: ImportSite,
    /// The value of the global that travels with the call, to be replaced by its new value.
    pub carried: Option<i64>,
    /// What the guest may still use, to be replaced by what it may use after the call.
    pub fuel: u64,
    /// The arguments, to be replaced by the results.
    pub slots: SmallVec<[u64; 4]>,
    /// Why there are no results.
    failure: Option<HostTrap>,
}

/// A call whose guest has left its thread until the supervisor has an answer.
pub trait LeftCall: Send {
    /// Has a thread go on with it.
    fn go_on(self: Box<Self>);

    /// Ends it with that failure.
    fn give_up(self: Box<Self>, failure: HostTrap);
}

/// The place where one call's guest and the JavaScript thread meet.
#[derive(Default)]
pub struct Exchange {
    handover: Handover,
    asked: UnsafeCell<Option<HostRequest>>,
    left: UnsafeCell<Option<Box<dyn LeftCall>>>,
    /// What waits for a thread of the pool, or has had one.
    ticket: Mutex<Option<Arc<Ticket>>>,
}

// SAFETY: `asked` and `left` are only accessed by whoever the handover says has the store: the guest's thread by `ask`, `wait` and
// `leave`, the JavaScript thread by `Held`, of which there is one at a time.
unsafe impl Sync for Exchange {}
// SAFETY: what is in them can be sent.
unsafe impl Send for Exchange {}

impl Exchange {
    // The guest's thread

    /// Puts a call where the JavaScript thread finds it. To be told to it afterwards, and then waited for.
    pub fn ask(&self, call: &HostCall<'_>, fuel: u64) {
        let site = ImportSite { instance: call.instance, import: call.import };
        let (carried, slots) = (call.carried.as_deref().copied(), SmallVec::from_slice(call.slots));
        let asked = HostRequest { site, carried, fuel, slots, failure: None };
        // SAFETY: the guest is running, so this thread has the store.
        unsafe { *self.asked.get() = Some(asked) };
        self.handover.ask();
    }

    /// Waits for the answer and puts it into `call` and `fuel`. With `may_leave` it gives `HostTrap::Suspended` instead if that takes longer than
    /// `keep_looking` says.
    pub fn wait(
        &self,
        call: HostCall<'_>,
        fuel: &mut u64,
        may_leave: bool,
        keep_looking: impl FnMut() -> bool,
    ) -> Result<(), Box<HostTrap>> {
        // A guest that may leave sleeps only while the JavaScript thread uses its store, which costs that thread a core.
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

    /// Puts the call away: from here on the JavaScript thread has it.
    pub fn leave(&self, call: Box<dyn LeftCall>) {
        // SAFETY: this thread is leaving and has not said yet that it has left, so it has the store.
        unsafe { *self.left.get() = Some(call) };
        self.handover.has_left();
    }

    /// The answer, for the guest's thread, which goes on.
    pub fn take_answer(&self) -> Result<HostRequest, Box<HostTrap>> {
        // SAFETY: there is an answer, so the guest's thread has the store again.
        let asked = unsafe { (*self.asked.get()).take() };
        match asked {
            Some(HostRequest { failure: Some(failure), .. }) => Err(Box::new(failure)),
            Some(asked) => Ok(asked),
            None => Err(Box::new(HostTrap::Message("the supervisor's answer is lost".into()))),
        }
    }

    /// Remembers what is about to wait for a thread.
    pub fn set_ticket(&self, ticket: Arc<Ticket>) {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).replace(ticket);
    }

    // The JavaScript thread

    /// Runs here what still waits for a thread, which is to stop, so that no guest runs; or tells it that there will be no thread.
    pub fn run_waiting(&self, thread: Result<(), NoThread>) {
        let ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticket) = ticket {
            ticket.run(thread);
        }
    }

    /// Takes hold of the store. The guest must have asked, and not have been answered; there must be no other [`Held`].
    pub fn hold(self: &Arc<Self>) -> Held {
        let place = self.handover.hold();
        Held { exchange: self.clone(), place }
    }
}

/// The store of a guest that waits is the JavaScript thread's, until this is dropped or given back.
pub struct Held {
    exchange: Arc<Exchange>,
    place: Place,
}

impl Held {
    /// What the guest asks.
    pub fn asked(&mut self) -> Option<&mut HostRequest> {
        // SAFETY: held, and `self` is borrowed for as long as the reference is.
        unsafe { (*self.exchange.asked.get()).as_mut() }
    }

    /// Gives the store back with the results that stand in [`Held::asked`], or with why there are none. A guest that has left and gets no
    /// results needs no thread to end.
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
