//! Runs `crate/executor/handover.rs`, the very file, through the interleavings of a guest's thread and the JavaScript
//! thread, with what each of them may see of the other's memory. loom makes the threads, and finds what two of them use
//! at once and who sleeps for ever. What the handover passes from hand to hand is a cell that loom watches; all else of
//! the executor is left out.

#[path = "../../executor/handover.rs"]
mod handover;

/// What `crate/executor.rs` has of the standard library.
mod sync {
    pub use loom::{
        hint::spin_loop,
        sync::{
            Condvar, Mutex, MutexGuard,
            atomic::{AtomicU32, Ordering},
        },
    };

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no thread panics with the lock")
    }

    pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let waits = super::WAITS.get() + 1;
        super::WAITS.set(waits);
        if super::WAKES_FOR_NOTHING.get() && waits % 2 == 1 {
            return guard;
        }
        condvar.wait(guard).expect("no thread panics with the lock")
    }
}

use std::{cell::Cell, sync::Arc};

use loom::{
    cell::UnsafeCell,
    model::Builder,
    thread::{self, JoinHandle, yield_now},
};

use self::{
    handover::{Handover, Place, Waited},
    sync::{AtomicU32, Ordering},
};

thread_local! {
    /// How often a guest has gone to sleep. All of a model's threads run on that of its test.
    static WAITS: Cell<usize> = const { Cell::new(0) };
    /// Whether every other sleep of the guest ends at once, which it may.
    static WAKES_FOR_NOTHING: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn a_store_is_never_in_two_hands_and_no_wake_up_is_lost_when_the_answer_comes_at_once() {
    for_each_way_to_wait(2, |guest| check(guest, &[&[]], None));
}

#[test]
fn a_store_is_never_in_two_hands_and_no_wake_up_is_lost_when_a_promise_settles() {
    for_each_way_to_wait(2, |guest| {
        // Without looks in every interleaving.
        let bound = if guest.looks == 0 { None } else { Some(4) };
        check(guest, &[&[Act::HoldAndLetGo]], bound);
    });
}

#[test]
fn a_store_is_never_in_two_hands_and_no_wake_up_is_lost_when_it_is_used_before_a_promise_settles() {
    for_each_way_to_wait(1, |guest| {
        check(guest, &[&[Act::HoldAndLetGo, Act::HoldAndLetGo]], few(guest));
    });
}

#[test]
fn a_call_after_another_does_not_mind_what_is_left_of_the_first() {
    for_each_way_to_wait(1, |guest| {
        check(guest, &[&[], &[]], few(guest));
        check(guest, &[&[Act::HoldAndLetGo], &[]], few(guest));
        check(guest, &[&[], &[Act::HoldAndLetGo]], few(guest));
    });
    for_each_way_to_wait(0, |guest| check(guest, &[&[Act::HoldAndLetGo], &[Act::HoldAndLetGo]], Some(3)));
}

#[test]
fn a_guest_leaves_once_its_store_is_let_go_and_another_thread_goes_on_with_what_it_put_away() {
    for looks in 0..=2 {
        let guest = Guest::new(true, looks);
        check(guest, &[&[Act::WaitUntilLeft]], None);
        check(guest, &[&[Act::HoldAndLetGo, Act::WaitUntilLeft]], None);
        // Being held does not undo that it has left.
        check(guest, &[&[Act::WaitUntilLeft, Act::HoldAndLetGo]], None);
    }
}

#[test]
fn a_guest_that_has_left_once_may_leave_again() {
    for looks in 0..=1 {
        let guest = Guest::new(true, looks);
        check(guest, &[&[Act::WaitUntilLeft], &[Act::HoldAndLetGo]], few(guest));
        check(guest, &[&[Act::WaitUntilLeft], &[Act::WaitUntilLeft]], few(guest));
    }
    check(Guest::new(true, 0), &[&[Act::HoldAndLetGo], &[Act::HoldAndLetGo, Act::WaitUntilLeft]], Some(3));
}

#[test]
fn a_guest_that_keeps_looking_neither_sleeps_nor_leaves() {
    for may_leave in [false, true] {
        let guest = Guest::new(may_leave, u32::MAX);
        check(guest, &[&[]], None);
        check(guest, &[&[Act::HoldAndLetGo]], None);
        check(guest, &[&[Act::HoldAndLetGo], &[Act::HoldAndLetGo]], Some(1));
    }
}

#[test]
fn a_guest_that_wakes_for_nothing_sleeps_on() {
    for may_leave in [false, true] {
        let guest = Guest { wakes_for_nothing: true, ..Guest::new(may_leave, 0) };
        check(guest, &[&[]], None);
        check(guest, &[&[Act::HoldAndLetGo]], Some(4));
        check(guest, &[&[], &[Act::HoldAndLetGo]], few(guest));
    }
}

#[test]
fn a_guest_that_is_stopped_while_it_waits_makes_no_further_call() {
    for_each_way_to_wait(1, |guest| {
        check(guest, &[&[Act::Stop], &[]], None);
        check(guest, &[&[Act::HoldAndLetGo, Act::Stop], &[]], few(guest));
        check(guest, &[&[], &[Act::Stop], &[]], few(guest));
    });
    let guest = Guest::new(true, 0);
    check(guest, &[&[Act::WaitUntilLeft, Act::Stop], &[]], None);
}

#[test]
fn a_store_is_not_to_be_had_before_its_guest_asks() {
    for_each_way_to_wait(1, |guest| {
        check(guest, &[&[Act::BeTooEarly]], None);
        check(guest, &[&[], &[Act::BeTooEarly]], few(guest));
        check(guest, &[&[Act::HoldAndLetGo], &[Act::BeTooEarly]], few(guest));
    });
}

/// How a guest waits.
#[derive(Debug, Clone, Copy)]
struct Guest {
    may_leave: bool,
    /// How often it looks before it leaves or sleeps.
    looks: u32,
    /// Whether every other of its sleeps ends at once.
    wakes_for_nothing: bool,
}

impl Guest {
    fn new(may_leave: bool, looks: u32) -> Self {
        Self { may_leave, looks, wakes_for_nothing: false }
    }
}

/// What the JavaScript thread does before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Does all without having been told of the call.
    BeTooEarly,
    HoldAndLetGo,
    WaitUntilLeft,
    /// Answers that the guest is to end: if it has left, nothing of it runs again.
    Stop,
}

/// What both threads have.
struct Meeting {
    handover: Handover,
    store: UnsafeCell<Store>,
    /// The number of a call that was left.
    left: UnsafeCell<Option<u32>>,
    /// How many calls the JavaScript thread has been told of. Relaxed, so that only the handover orders what threads do.
    told: AtomicU32,
}

// SAFETY: that no two threads use a cell at once is what loom finds out.
unsafe impl Sync for Meeting {}

/// The numbers, from 1, of the last call that was asked and the last that was answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Store {
    asked: u32,
    answered: u32,
    is_stopped: bool,
}

impl Store {
    fn after(asked: u32, answered: u32) -> Self {
        Self { asked, answered, is_stopped: false }
    }
}

fn for_each_way_to_wait(most_looks: u32, run: impl Fn(Guest)) {
    for may_leave in [false, true] {
        for looks in 0..=most_looks {
            run(Guest::new(may_leave, looks));
        }
    }
}

/// A preemption bound for what has too many interleavings otherwise; those with looks have the most.
fn few(guest: Guest) -> Option<usize> {
    Some(if guest.looks == 0 { 3 } else { 2 })
}

/// Runs a guest that makes a call for each entry of `calls`, with what happens before its answer. With a bound, only in
/// the interleavings that take a thread off its turn no more often.
fn check(guest: Guest, calls: &'static [&'static [Act]], preemption_bound: Option<usize>) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemption_bound;
    builder.check(move || {
        let meeting = Arc::new(Meeting {
            handover: Handover::new(),
            store: UnsafeCell::default(),
            left: UnsafeCell::default(),
            told: AtomicU32::new(0),
        });
        // A thread that the guest has left may still be on its way.
        let mut threads = vec![meeting.run_guest(guest, calls, 0)];
        let (mut made, mut is_stopped) = (0, false);
        for (number, acts) in (1..).zip(calls) {
            if !acts.contains(&Act::BeTooEarly) {
                meeting.be_told(number);
            }
            for act in *acts {
                match act {
                    Act::BeTooEarly | Act::Stop => {}
                    Act::HoldAndLetGo => meeting.hold_and_let_go(number),
                    // If nothing wakes the thread, this waits for ever.
                    Act::WaitUntilLeft => threads.drain(..).for_each(join),
                }
            }
            made = number;
            is_stopped = acts.contains(&Act::Stop);
            match meeting.hold_and_answer(number, is_stopped) {
                Place::OnThread => assert!(!acts.contains(&Act::WaitUntilLeft), "it did not leave"),
                Place::Left if is_stopped => {}
                Place::Left => threads.push(meeting.run_guest(guest, calls, number)),
            }
            if is_stopped {
                break;
            }
        }
        threads.into_iter().for_each(join);
        meeting.with_store(|store| assert_eq!(*store, Store { asked: made, answered: made, is_stopped }));
    });
}

impl Meeting {
    // The guest's threads

    /// Starts a thread for the guest that makes all calls but the first `answered`, or until it leaves.
    fn run_guest(self: &Arc<Self>, guest: Guest, calls: &'static [&'static [Act]], answered: u32) -> JoinHandle<()> {
        let meeting = self.clone();
        thread::spawn(move || {
            meeting.with_store(|store| assert_eq!(*store, Store::after(answered, answered)));
            for (number, acts) in (1..).zip(calls).skip(answered as usize) {
                meeting.with_store(|store| store.asked = number);
                meeting.handover.ask();
                meeting.told.store(number, Ordering::Relaxed);
                match meeting.wait(guest, acts) {
                    Waited::Answered => {
                        let is_stopped = acts.contains(&Act::Stop);
                        let answered = Store { asked: number, answered: number, is_stopped };
                        meeting.with_store(|store| assert_eq!(*store, answered));
                        if is_stopped {
                            return;
                        }
                    }
                    Waited::Leave => {
                        assert!(guest.may_leave && guest.looks != u32::MAX);
                        meeting.with_store(|store| assert_eq!(*store, Store::after(number, number - 1)));
                        meeting.with_left(|left| assert_eq!(left.replace(number), None));
                        meeting.handover.has_left();
                        return;
                    }
                }
            }
        })
    }

    fn wait(&self, guest: Guest, acts: &[Act]) -> Waited {
        let mut looks = 0;
        let keep_looking = || {
            looks += u32::from(guest.looks != u32::MAX);
            looks <= guest.looks
        };
        WAITS.set(0);
        WAKES_FOR_NOTHING.set(guest.wakes_for_nothing);
        let sleeps = Cell::new(0);
        let waited = self.handover.wait(guest.may_leave, keep_looking, |sleep| {
            sleeps.set(sleeps.get() + 1);
            sleep();
        });
        // It sleeps when it finds its store held, or until the answer: at most once for each time.
        let holds = 1 + acts.iter().filter(|act| **act == Act::HoldAndLetGo).count();
        let most_sleeps = match guest {
            Guest { looks: u32::MAX, .. } => 0,
            Guest { may_leave: false, .. } => 1,
            Guest { may_leave: true, .. } => holds,
        };
        assert!(sleeps.get() <= most_sleeps, "it slept too often");
        let waits = if guest.wakes_for_nothing { WAITS.get() / 2 } else { WAITS.get() };
        assert!(waits <= most_sleeps, "it was woken in vain");
        waited
    }

    // The JavaScript thread

    fn be_told(&self, number: u32) {
        while self.told.load(Ordering::Relaxed) < number {
            yield_now();
        }
    }

    fn hold(&self, number: u32) -> Place {
        let place = self.handover.hold();
        self.with_store(|store| assert_eq!(*store, Store::after(number, number - 1)));
        if place == Place::Left {
            self.with_left(|left| assert_eq!(*left, Some(number)));
        }
        place
    }

    fn hold_and_let_go(&self, number: u32) {
        if self.hold(number) == Place::OnThread {
            self.handover.let_go();
        }
    }

    fn hold_and_answer(&self, number: u32, is_stopped: bool) -> Place {
        let place = self.hold(number);
        self.with_store(|store| {
            store.answered = number;
            store.is_stopped = is_stopped;
        });
        match place {
            Place::OnThread => self.handover.answer(),
            Place::Left => {
                self.with_left(|left| assert_eq!(left.take(), Some(number)));
                self.handover.again();
            }
        }
        place
    }

    // To loom each of these is a change, whatever `with` does: it panics at two that overlap or that nothing orders.

    fn with_store(&self, with: impl FnOnce(&mut Store)) {
        // SAFETY: loom has made sure that nobody else uses it.
        self.store.with_mut(|store| with(unsafe { &mut *store }));
    }

    fn with_left(&self, with: impl FnOnce(&mut Option<u32>)) {
        // SAFETY: loom has made sure that nobody else uses it.
        self.left.with_mut(|left| with(unsafe { &mut *left }));
    }
}

fn join(thread: JoinHandle<()>) {
    thread.join().expect("loom lets no panic come so far");
}
