//! A realm that a thread of the pool uses.

use std::rc::Rc;

use crate::{engine::Engine, realm::Realm};

/// A realm that one call uses exclusively while it runs. Realms are reference-counted without atomics
/// (`Rc`), and nothing in them is locked.
///
/// Three rules make that sound. First, while a call runs, the JavaScript thread does not touch the
/// realm, unless it holds it by [`super::exchange::Held`], for which the guest's thread waits. Second,
/// only the JavaScript thread changes the reference count: the thread of the pool only borrows the
/// realm, and sends the lease back to be dropped there. Third, if no thread takes the lease back,
/// because the JavaScript environment has ended, then the environment has already dropped all its
/// references to the realm, so the lease is the last one and may be dropped anywhere.
pub struct Lease<E: Engine>(Rc<Realm<E>>);

// SAFETY: see the rules above: one thread at a time uses the realm, and the handover that passes it on
// orders their accesses. Neither engine's store belongs to a thread: wasmi's is `Send`, as asserted
// below; wasmer's is not only because of raw pointers into its own heap, and what wasmer keeps for each
// thread (signal stacks, trap handlers) is set up for each call and gone after it.
unsafe impl<E: Engine> Send for Lease<E> {}

impl<E: Engine> Lease<E> {
    /// Creates a lease. Call this on the JavaScript thread.
    pub fn new(realm: Rc<Realm<E>>) -> Self {
        Self(realm)
    }
}

impl<E: Engine> std::ops::Deref for Lease<E> {
    type Target = Realm<E>;

    fn deref(&self) -> &Realm<E> {
        &self.0
    }
}

const fn can_be_sent<T: Send>() {}
const _: () = can_be_sent::<<crate::engine::wasmi::Wasmi as Engine>::Store>();
