//! Leases of a realm, which the last user gives back.

use std::{
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::{self, ThreadId},
};

use sandbox_host::{
    engine::Engine,
    executor::{CallId, Finished, Port, pool::ThreadQuota},
    realm::Realm,
};

use super::{ASKS, LONG, Supervisor, ToThread, at_once_and_late};
use crate::guest::{Guest, compile};

on_both_engines![a_lease_comes_back_with_the_results, the_last_lease_may_be_dropped_on_a_thread_of_the_pool];

fn a_lease_comes_back_with_the_results<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, ASKS);
    let mut supervisor = Supervisor::new();
    let pending = supervisor.call(&guest, "ask", &[5], &ThreadQuota::new(1));
    assert_eq!(Rc::strong_count(&guest.realm), 2);
    supervisor.asked();
    pending.answer(40);
    let (_, _, finished) = supervisor.finished();
    assert_eq!(Rc::strong_count(&guest.realm), 2);
    drop(finished);
    assert_eq!(Rc::strong_count(&guest.realm), 1);
}

/// A port to a thread that takes nothing back any more.
struct Dropping(ToThread, Sender<ThreadId>);

impl Port for Dropping {
    fn asked(&self, call: CallId) -> bool {
        self.0.asked(call)
    }

    fn done(&self, _: CallId, finished: Finished) {
        drop(finished);
        self.1.send(thread::current().id()).expect("the test waits for it");
    }
}

fn the_last_lease_may_be_dropped_on_a_thread_of_the_pool<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, ASKS);
    at_once_and_late(engine, |quota, until_it_waits| {
        let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
        let (tells, dropped) = channel();
        let mut supervisor = Supervisor::with_port(|port| Dropping(port, tells));
        let pending = supervisor.call(&guest, "ask", &[5], quota);
        supervisor.asked();
        until_it_waits();
        let realm = Rc::downgrade(&guest.realm);
        drop(guest);
        assert_eq!(realm.strong_count(), 1);
        pending.answer(40);
        assert_ne!(dropped.recv_timeout(LONG).expect("the call ends"), thread::current().id());
        assert_eq!(realm.strong_count(), 0);
    });
}
