//! The owner of a realm: this thread, or an asynchronous call, whose guest runs on another thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
};

use crate::{
    executor::{
        CallId,
        exchange::{Exchange, Held, HostRequest},
        pool::NoThread,
    },
    node::error::{ErrorKind, NativeError},
};

/// The asynchronous call that occupies a realm, and the calls that wait for it.
#[derive(Default)]
pub struct Occupancy {
    occupant: RefCell<Option<Occupant>>,
    is_occupied: Cell<bool>,
    waiting: RefCell<VecDeque<CallId>>,
}

/// An asynchronous call. Its guest's thread owns the realm, except while the guest waits for its
/// supervisor.
struct Occupant {
    call: CallId,
    exchange: Arc<Exchange>,
    /// Whether the guest waits.
    is_open: bool,
    /// The realm while this thread holds it, which it does as long as the waiting guest's realm is used
    /// here.
    held: Option<Held>,
    users: u32,
}

impl Occupancy {
    #[inline]
    pub fn is_occupied(&self) -> bool {
        self.is_occupied.get()
    }

    /// The call that occupies the realm.
    pub fn occupant(&self) -> Option<CallId> {
        self.occupant.borrow().as_ref().map(|occupant| occupant.call)
    }

    /// Whether no call occupies the realm or waits for it.
    pub fn is_free(&self) -> bool {
        !self.is_occupied() && self.waiting.borrow().is_empty()
    }

    /// Queues a call.
    pub fn wait(&self, call: CallId) {
        self.waiting.borrow_mut().push_back(call);
    }

    pub fn give_up_waiting(&self, call: CallId) {
        self.waiting.borrow_mut().retain(|waiting| *waiting != call);
    }

    /// From here on, the thread of this call owns the realm.
    pub(super) fn begin(&self, call: CallId, exchange: &Arc<Exchange>) {
        let occupant = Occupant { call, exchange: exchange.clone(), is_open: false, held: None, users: 0 };
        self.occupant.replace(Some(occupant));
        self.is_occupied.set(true);
    }

    /// Ends the call. Returns the call that has waited longest.
    pub fn end(&self) -> Option<CallId> {
        self.occupant.replace(None);
        self.is_occupied.set(false);
        self.waiting.borrow_mut().pop_front()
    }

    /// The guest of the call waits for its supervisor. This thread owns the realm until it is closed or
    /// put off.
    pub fn open(&self) {
        if let Some(occupant) = &mut *self.occupant.borrow_mut() {
            occupant.is_open = true;
        }
        let _ = self.begin_use();
    }

    /// The supervisor takes its time: this thread holds the realm only while it uses it.
    pub fn put_off(&self) {
        self.end_use();
    }

    /// Whether the guest of this call waits for its supervisor.
    pub fn is_open(&self, call: CallId) -> bool {
        self.occupant.borrow().as_ref().is_some_and(|occupant| occupant.call == call && occupant.is_open)
    }

    /// Whether this thread uses the realm while its guest waits.
    pub fn is_in_use(&self) -> bool {
        self.occupant.borrow().as_ref().is_some_and(|occupant| occupant.users > 0)
    }

    /// Begins a use of an occupied realm on this thread. This is allowed while its guest waits.
    #[cold]
    pub(super) fn begin_use(&self) -> Result<(), NativeError> {
        match &mut *self.occupant.borrow_mut() {
            Some(occupant) if occupant.is_open => {
                if occupant.users == 0 {
                    occupant.held = Some(occupant.exchange.hold());
                }
                occupant.users += 1;
                Ok(())
            }
            _ => Err(NativeError::new(
                ErrorKind::Busy,
                "an asynchronous call is running in the guest or in one that shares its memory",
            )),
        }
    }

    #[cold]
    pub(super) fn end_use(&self) {
        if let Some(occupant) = &mut *self.occupant.borrow_mut() {
            // If the guest has continued in the meantime, there is no use to end.
            occupant.users = occupant.users.saturating_sub(1);
            if occupant.users == 0 {
                occupant.held = None;
            }
        }
    }

    /// Takes the realm of a waiting guest, to answer it. After the answer, the guest's thread owns the
    /// realm again.
    pub fn take_held(&self) -> Option<Held> {
        let occupant = &mut *self.occupant.borrow_mut();
        let occupant = occupant.as_mut().filter(|occupant| occupant.is_open)?;
        occupant.is_open = false;
        occupant.users = 0;
        Some(occupant.held.take().unwrap_or_else(|| occupant.exchange.hold()))
    }

    /// Passes the guest's request to `look`. Returns `false` if its realm is not held.
    pub fn with_request(&self, look: impl FnOnce(&HostRequest)) -> bool {
        let occupant = &mut *self.occupant.borrow_mut();
        let held = occupant.as_mut().and_then(|occupant| occupant.held.as_mut());
        held.and_then(Held::asked).map(|request| look(request)).is_some()
    }

    /// Ends the call if it waits for a thread, because it must stop or will get no thread.
    pub fn run_waiting(&self, thread: Result<(), NoThread>) {
        let exchange = self.occupant.borrow().as_ref().map(|occupant| occupant.exchange.clone());
        if let Some(exchange) = exchange {
            exchange.run_waiting(thread);
        }
    }
}
