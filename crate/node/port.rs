//! The connection from the threads of the pool to one JavaScript thread: a queue of events, and a
//! threadsafe function that wakes the thread when it is not polling.

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    backend::AnyModule,
    error::NativeError,
    js_functions::JsFunctions,
    raw::{Scope, ThreadsafeFunction},
};
use crate::{
    error::CompileError,
    executor::{CallId, Finished, Port},
};

/// An event for the JavaScript thread.
pub enum Event {
    /// The guest of this call has called its supervisor.
    HostCall(CallId),
    Done(CallId, Finished),
    Compiled(CallId, Result<AnyModule, CompileError>),
    /// The call could not begin when its turn came.
    Refused(CallId, NativeError),
    /// The call's time is up.
    Interrupted(CallId),
}

pub struct JsPort {
    queue: Mutex<Queue>,
    /// The length of the queue, readable without the lock.
    length: AtomicUsize,
    waker: Mutex<Option<ThreadsafeFunction>>,
}

struct Queue {
    events: VecDeque<Event>,
    /// The JavaScript thread will check the queue again without being woken.
    is_looking: bool,
    /// The environment ends: guests get no more answers.
    is_ending: bool,
    is_closed: bool,
}

impl JsPort {
    /// When there are events and the JavaScript thread is not looking, the one of `functions` that takes
    /// events is called on that thread.
    pub fn new(scope: Scope, functions: Rc<JsFunctions>) -> Result<Self, NativeError> {
        let queue = Queue { events: VecDeque::new(), is_looking: false, is_ending: false, is_closed: false };
        let waker = ThreadsafeFunction::new(scope, functions)?;
        Ok(Self { queue: Mutex::new(queue), length: AtomicUsize::new(0), waker: Mutex::new(Some(waker)) })
    }

    /// Sends an event to the JavaScript thread. Once that thread is gone, the event is dropped here.
    pub fn send(&self, event: Event) {
        let queue = self.lock();
        if queue.is_closed {
            // Release the lock first: dropping the event may drop a realm.
            drop(queue);
            drop(event);
            return;
        }
        self.push(queue, event);
    }

    /// Adds an event to the queue, and wakes the JavaScript thread if it is not looking.
    fn push(&self, mut queue: MutexGuard<'_, Queue>, event: Event) {
        queue.events.push_back(event);
        self.length.store(queue.events.len(), Ordering::Release);
        let wakes = !std::mem::replace(&mut queue.is_looking, true);
        drop(queue);
        if wakes && !self.waker().as_ref().is_some_and(ThreadsafeFunction::call) {
            // The wake-up failed: the next event tries again.
            self.lock().is_looking = false;
        }
    }

    /// From now on, supervisor calls get no answer. Returns the calls whose guests have called their
    /// supervisors and have not been answered.
    pub fn end_asking(&self) -> Vec<CallId> {
        let mut queue = self.lock();
        queue.is_ending = true;
        let asked = |event: &Event| if let Event::HostCall(id) = event { Some(*id) } else { None };
        queue.events.iter().filter_map(asked).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// The next event. If there is none, the threadsafe function will be called for the next one.
    pub fn receive(&self) -> Option<Event> {
        let mut queue = self.lock();
        let event = queue.events.pop_front();
        match &event {
            Some(_) => self.length.store(queue.events.len(), Ordering::Relaxed),
            None => queue.is_looking = false,
        }
        event
    }

    /// Sets whether calls are pending. While they are, the event loop must not end.
    pub fn keep_alive(&self, scope: Scope, is_needed: bool) {
        if let Some(waker) = &*self.waker() {
            waker.keep_alive(scope, is_needed);
        }
    }

    /// Closes the port because the environment ends. The environment must have dropped all its
    /// references to realms: events that are sent from now on are dropped by their senders.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.is_closed = true;
        let events = std::mem::take(&mut queue.events);
        drop(queue);
        drop(events);
        if let Some(waker) = self.waker().take() {
            waker.release();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waker(&self) -> MutexGuard<'_, Option<ThreadsafeFunction>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for JsPort {
    fn asked(&self, call: CallId) -> bool {
        // Under the lock, so that either `end_asking` returns this call, or it has run before.
        let queue = self.lock();
        if queue.is_ending {
            return false;
        }
        self.push(queue, Event::HostCall(call));
        true
    }

    fn done(&self, call: CallId, finished: Finished) {
        self.send(Event::Done(call, finished));
    }
}
