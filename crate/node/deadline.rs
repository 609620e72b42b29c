//! When a call must end.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{error::NativeError, scratch::Scratch};
use crate::interrupt::Interrupt;

/// The deadline of a call has begun. A single word, because each call is given one.
pub struct Begun {
    /// If it has one of its own, that of the call around it, if that has one.
    around: Option<Box<Option<Deadline>>>,
}

impl Begun {
    /// Gives the call around it back its deadline.
    #[inline]
    pub fn end(&mut self, current: &CurrentDeadline) {
        if let Some(around) = self.around.take() {
            current.replace(*around);
        }
    }
}

/// The deadline of the innermost call that is running.
pub type CurrentDeadline = RefCell<Option<Deadline>>;

/// When the innermost running call must end, and what stops it then.
#[derive(Clone)]
pub struct Deadline {
    at: Instant,
    interrupt: Arc<Interrupt>,
}

impl Deadline {
    pub fn new(at: Instant, interrupt: Arc<Interrupt>) -> Self {
        Self { at, interrupt }
    }

    pub fn interrupt(&self) -> Arc<Interrupt> {
        self.interrupt.clone()
    }

    pub fn at(&self) -> Instant {
        self.at
    }

    /// The moment that is so many ms away; `None` for 0, or if this clock cannot tell it: then it never comes.
    pub fn after(timeout: f64) -> Option<Instant> {
        if timeout > 0.0 {
            Instant::now().checked_add(Duration::try_from_secs_f64(timeout / 1000.0).ok()?)
        } else {
            None
        }
    }

    /// Sets the deadline of a call that is about to run, if one stands in the scratch buffer that is before that of the call around
    /// it, and gives that one.
    ///
    /// Apart from the making of a `Supervisor`, which cannot fail: to give that back in a `Result` would cost each call a copy of it.
    ///
    /// # Errors
    ///
    /// If nobody could watch the deadline.
    #[inline]
    pub fn begin(current: &CurrentDeadline, scratch: &Scratch) -> Result<Begun, Box<NativeError>> {
        let timeout = scratch.read_timeout();
        let around = if timeout > 0.0 { Self::begin_at(current, timeout)? } else { None };
        Ok(Begun { around })
    }

    #[cold]
    fn begin_at(current: &CurrentDeadline, timeout: f64) -> Result<Option<Box<Option<Self>>>, Box<NativeError>> {
        let Some(at) = Self::after(timeout) else { return Ok(None) };
        if current.borrow().as_ref().is_some_and(|around| around.at <= at) {
            return Ok(None);
        }
        let interrupt = Interrupt::at(at).map_err(NativeError::from)?;
        Ok(Some(Box::new(current.replace(Some(Self { at, interrupt })))))
    }
}
