//! Guests that are answered in any order, by a property test.

use std::sync::Arc;

use proptest::prelude::*;
use sandbox_host::{
    engine::Engine,
    error::{HostTrap, TrapCode},
    executor::{CallId, pool::ThreadQuota},
    realm::Realm,
};

use super::{ASKS, Pending, Supervisor, Told, What, result_of};
use crate::guest::{Guest, compile};

on_both_engines![guests_that_are_answered_in_any_order_all_end];

/// What the test does with a guest that has asked.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Answer(u32),
    UseItsStore(u32),
    Fail,
    Stop,
}

fn replies() -> impl Strategy<Value = Vec<(usize, bool, Reply)>> {
    let reply = prop_oneof![
        8 => any::<u32>().prop_map(Reply::Answer),
        4 => any::<u32>().prop_map(Reply::UseItsStore),
        1 => Just(Reply::Fail),
        1 => Just(Reply::Stop),
    ];
    prop::collection::vec((any::<usize>(), any::<bool>(), reply), 0..60)
}

/// A guest and what the test expects of it.
struct Known<E: Engine> {
    guest: Guest<E>,
    pending: Pending,
    /// How often it will ask.
    asks: u64,
    sum: u64,
    n: u64,
    /// The trap that it is to end with.
    trap: Option<TrapCode>,
}

fn guests_that_are_answered_in_any_order_all_end<E: Engine>(engine: &Arc<E>) {
    let module = compile(&**engine, ASKS);
    let asks = prop::collection::vec(1..5_u64, 1..10);
    proptest!(ProptestConfig::with_cases(100), |(asks in asks, threads in 1..5_usize, replies in replies())| {
        let mut supervisor = Supervisor::new();
        let quota = ThreadQuota::new(threads);
        let mut guests: Vec<Known<E>> = Vec::new();
        for asks in asks {
            let guest = Guest::of(&Realm::new(engine), &module, None, &[]);
            let pending = supervisor.call(&guest, "sum", &[asks], &quota);
            guests.push(Known { guest, pending, asks, sum: 0, n: 0, trap: None });
        }
        let mut replies = replies.into_iter();
        let mut waiting: Vec<CallId> = Vec::new();
        let mut left = guests.len();
        while left > 0 {
            // Where guests hold their threads, others are not heard of.
            let running = if E::SUSPENDS { left } else { left.min(threads) } - waiting.len();
            let (which, is_patient, reply) = replies.next().unwrap_or((0, true, Reply::Answer(1)));
            if running > 0 && (is_patient || waiting.is_empty()) {
                let Told { call, what, .. } = supervisor.next();
                match what {
                    What::Asked => waiting.push(call),
                    What::Done(finished) => {
                        let known = &guests[call as usize - 1];
                        let expected = known.trap.map_or(Ok(known.sum), Err);
                        prop_assert_eq!(result_of(finished).map_err(|trap| trap.code), expected);
                        prop_assert_eq!(known.guest.global("n"), known.n);
                        left -= 1;
                    }
                }
                continue;
            }
            let place = which % waiting.len();
            let known = &mut guests[waiting[place] as usize - 1];
            match reply {
                Reply::Answer(result) => {
                    prop_assert_eq!(known.pending.argument(), known.asks);
                    known.asks -= 1;
                    known.sum += u64::from(result);
                    known.pending.answer(result.into());
                }
                Reply::UseItsStore(more) => {
                    let _held = known.pending.exchange.hold();
                    known.n += u64::from(more);
                    known.guest.call("add to n", &[more.into()]).expect("no trap");
                    continue;
                }
                Reply::Fail => {
                    known.trap = Some(TrapCode::Supervisor);
                    known.pending.fail(HostTrap::Parked);
                }
                Reply::Stop => {
                    known.trap = Some(TrapCode::Interrupted);
                    known.pending.interrupt.set();
                    known.pending.fail(HostTrap::Interrupted);
                }
            }
            waiting.swap_remove(place);
        }
    });
}
