//! The one place where a store is reached while a call into it is running: the home of the
//! lifetime-erasing unsafe.
//!
//! An engine needs a `&mut` to use its store, yet a supervisor call made by a running guest must read
//! that guest's memory and globals and call the guest again. So the holders of the store's context (the
//! caller of a guest, then the host function that the guest calls) take turns: [`StoreSlot::with`] takes
//! the context while its closure runs, and [`StoreSlot::lend`] gives it back to the slot for exactly the
//! duration of a host call. At any moment at most one closure can use the context; a second one gets
//! [`StoreError::Busy`]. An engine whose host functions get no context of their own passes the caller's
//! through: [`StoreSlot::park`] keeps it while the guest runs, and [`StoreSlot::parked`] gives it to the
//! host function. This file is independent of the engines; the tests use a fake store.

use std::{
    cell::{Cell, UnsafeCell},
    ptr::NonNull,
};

use crate::error::StoreError;

/// A store that can be borrowed as a context.
pub trait Lend {
    /// The borrow of the store that the engine works with.
    type Context<'a>
    where
        Self: 'a;

    /// Borrows the store.
    fn context(&mut self) -> Self::Context<'_>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The store is not in use.
    Idle,
    /// A closure of `with` holds the context.
    Taken,
    /// A host call has lent its context. The pointer is valid until `lend` returns.
    Lent(NonNull<()>),
    /// A panic passed through a closure of `with`. The state in which it left the engine is unknown.
    Poisoned,
}

/// A store, and the state that says who may use it.
pub struct StoreSlot<S: Lend> {
    store: UnsafeCell<S>,
    state: Cell<State>,
    /// The context of the innermost caller that waits in `park`.
    parked: Cell<Option<NonNull<()>>>,
}

impl<S: Lend> StoreSlot<S> {
    pub fn new(store: S) -> Self {
        Self { store: UnsafeCell::new(store), state: Cell::new(State::Idle), parked: Cell::new(None) }
    }

    /// Runs `f` with the store's context: the idle store's, or the one that a host call has lent.
    ///
    /// # Errors
    ///
    /// `Busy` if another closure holds the context, `Poisoned` after a panic in an earlier one.
    pub fn with<R>(&self, f: impl FnOnce(&mut S::Context<'_>) -> R) -> Result<R, StoreError> {
        let before = self.state.get();
        match before {
            State::Taken => Err(StoreError::Busy),
            State::Poisoned => Err(StoreError::Poisoned),
            State::Idle => {
                let _turn = Turn::begin(&self.state, State::Taken, before);
                // SAFETY: the state was `Idle`, so no other closure and no host call holds a context of
                // the store, and while it is `Taken` none can get one; the borrow ends before `_turn`
                // sets the state back.
                let mut context = unsafe { &mut *self.store.get() }.context();
                Ok(f(&mut context))
            }
            State::Lent(lent) => {
                let _turn = Turn::begin(&self.state, State::Taken, before);
                // SAFETY: `lent` comes from the `&mut S::Context` that a frame of `lend` below us on
                // this stack holds borrowed and does not touch until it returns; the state was `Lent`,
                // so no other closure uses it, and while it is `Taken` none can. The closure is generic
                // over the context's lifetime, so it cannot keep it.
                let context = unsafe { lent.cast::<S::Context<'_>>().as_mut() };
                Ok(f(context))
            }
        }
    }

    /// Gives `context` back to the slot while `f` runs. For host functions, which get a context from
    /// their engine.
    #[inline]
    pub fn lend<R>(&self, context: &mut S::Context<'_>, f: impl FnOnce() -> R) -> R {
        let _turn = Turn::begin(&self.state, State::Lent(NonNull::from(context).cast()), self.state.get());
        f()
    }

    /// Keeps the caller's `context` for host functions while `f` runs the guest.
    #[inline]
    pub fn park<R>(&self, context: &mut S::Context<'_>, f: impl FnOnce() -> R) -> R {
        let before = self.parked.replace(Some(NonNull::from(context).cast()));
        let _back = Back { parked: &self.parked, before };
        f()
    }

    /// Runs a host function with the context of the caller of its guest; `None` if no guest is running.
    #[inline]
    pub fn parked<R>(&self, f: impl FnOnce(&mut S::Context<'_>) -> R) -> Option<R> {
        let parked = self.parked.take()?;
        let _back = Back { parked: &self.parked, before: Some(parked) };
        // SAFETY: `parked` comes from the `&mut S::Context` that the innermost frame of `park` holds
        // borrowed; that frame is below us on this stack, because only a guest that it runs calls host
        // functions, and does not touch the context until the guest is done. The pointer is taken out
        // while `f` has it, so nobody else gets it from here; a `park` in `f` puts another one in, of a
        // context that `f` has derived from this one. The closure is generic over the context's
        // lifetime, so it cannot keep it.
        Some(f(unsafe { parked.cast::<S::Context<'_>>().as_mut() }))
    }

    /// Whether a panic has made the store unusable.
    pub fn is_poisoned(&self) -> bool {
        self.state.get() == State::Poisoned
    }
}

/// Restores the parked context when a scope ends.
struct Back<'a> {
    parked: &'a Cell<Option<NonNull<()>>>,
    before: Option<NonNull<()>>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.parked.set(self.before);
    }
}

/// Sets the state for a scope, and restores it afterwards, or sets it to `Poisoned` if the scope ends by
/// a panic.
struct Turn<'a> {
    state: &'a Cell<State>,
    before: State,
    /// A scope may begin while a panic unwinds, in a destructor. It does not count that panic as its
    /// own.
    was_panicking: bool,
}

impl<'a> Turn<'a> {
    fn begin(state: &'a Cell<State>, during: State, before: State) -> Self {
        state.set(during);
        Self { state, before, was_panicking: std::thread::panicking() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let panics = !self.was_panicking && std::thread::panicking();
        self.state.set(if panics { State::Poisoned } else { self.before });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    struct FakeStore(u32);

    struct FakeContext<'a>(&'a mut u32);

    impl Lend for FakeStore {
        type Context<'a> = FakeContext<'a>;

        fn context(&mut self) -> FakeContext<'_> {
            FakeContext(&mut self.0)
        }
    }

    #[test]
    fn an_idle_store_can_be_used_again_and_again() {
        let slot = StoreSlot::new(FakeStore(1));
        for expected in 2..5 {
            assert_eq!(
                slot.with(|cx| {
                    *cx.0 += 1;
                    *cx.0
                }),
                Ok(expected)
            );
        }
    }

    #[test]
    fn a_store_in_use_is_busy() {
        let slot = StoreSlot::new(FakeStore(0));
        slot.with(|_| assert_eq!(slot.with(|_| ()), Err(StoreError::Busy))).expect("the slot is idle");
        assert_eq!(slot.with(|_| ()), Ok(()));
    }

    #[test]
    fn a_lent_context_reaches_the_running_store_at_any_depth() {
        fn descend(slot: &StoreSlot<FakeStore>, depth: u32) {
            slot.with(|cx| {
                *cx.0 += 1;
                if depth > 0 {
                    slot.lend(cx, || descend(slot, depth - 1));
                }
                assert_eq!(slot.with(|_| ()), Err(StoreError::Busy));
            })
            .expect("the context is lent");
        }
        let slot = StoreSlot::new(FakeStore(0));
        descend(&slot, 50);
        assert_eq!(slot.with(|cx| *cx.0), Ok(51));
    }

    #[test]
    fn a_parked_context_reaches_the_host_functions_of_its_guest() {
        let slot = StoreSlot::new(FakeStore(0));
        assert!(slot.parked(|_| ()).is_none());
        slot.with(|cx| {
            slot.park(cx, || {
                slot.parked(|cx| {
                    *cx.0 += 1;
                    assert!(slot.parked(|_| ()).is_none(), "one host function has it");
                    // A guest inside the host call.
                    let nested = slot.lend(cx, || slot.with(|cx| slot.park(cx, || slot.parked(|cx| *cx.0 += 1))));
                    assert_eq!(nested, Ok(Some(())));
                })
                .expect("a guest is running");
                slot.parked(|cx| *cx.0 += 1).expect("it is back");
            });
            *cx.0 += 1;
        })
        .expect("the slot is idle");
        assert!(slot.parked(|_| ()).is_none());
        assert_eq!(slot.with(|cx| *cx.0), Ok(4));
    }

    #[test]
    fn a_panic_poisons_the_store() {
        let slot = StoreSlot::new(FakeStore(0));
        let caught = catch_unwind(AssertUnwindSafe(|| slot.with(|_| panic!("on purpose"))));
        assert!(caught.is_err());
        assert!(slot.is_poisoned());
        assert_eq!(slot.with(|_| ()), Err(StoreError::Poisoned));
    }

    #[test]
    fn a_panic_inside_a_host_call_that_is_caught_there_does_not_poison_the_store() {
        let slot = StoreSlot::new(FakeStore(0));
        slot.with(|cx| {
            slot.lend(cx, || {
                let _ = catch_unwind(|| panic!("on purpose"));
            });
        })
        .expect("the slot is idle");
        assert_eq!(slot.with(|_| ()), Ok(()));
    }
}
