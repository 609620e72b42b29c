//! The supervisor of a script's guests.

use std::sync::Arc;

use sandbox_host::{
    engine::{Engine, UNLIMITED_FUEL},
    error::{HostTrap, Trap, TrapCode},
    interrupt::Interrupt,
    realm::{Host, HostCall},
};

use super::{Script, linking::Target};

/// Answers host calls with the exports of other guests.
pub struct Supervisor<'a, E: Engine> {
    script: &'a Script<E>,
    /// The trap of the innermost guest. The guests around it only see that their host call failed.
    trap: Option<Trap>,
    pub fuel: u64,
}

impl<'a, E: Engine> Supervisor<'a, E> {
    pub fn new(script: &'a Script<E>) -> Self {
        Self { script, trap: None, fuel: UNLIMITED_FUEL }
    }

    /// The trap behind a call's trap: that of the innermost guest, if the call ended because a host call failed.
    pub fn first(self, trap: Trap) -> Trap {
        if trap.code == TrapCode::Supervisor { self.trap.unwrap_or(trap) } else { trap }
    }
}

impl<E: Engine> Host for Supervisor<'_, E> {
    fn call(&mut self, call: HostCall<'_>) -> Result<(), Box<HostTrap>> {
        let script = self.script;
        let target = script.targets.borrow().get(&(call.instance, call.import)).copied();
        match target {
            Some(Target::Print) => Ok(()),
            Some(Target::Export { instance, export }) => {
                script.realm.call(instance, export, call.slots, self).map_err(|trap| {
                    let message = trap.message.clone();
                    self.trap.get_or_insert(*trap);
                    Box::new(HostTrap::Message(message))
                })
            }
            None => Err(Box::new(HostTrap::Message("no such import".into()))),
        }
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        self.script.interrupt.clone()
    }

    fn fuel(&self) -> u64 {
        self.fuel
    }

    fn set_fuel(&mut self, left: u64) {
        self.fuel = left;
    }
}
