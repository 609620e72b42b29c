//! When a call must end.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{error::NativeError, scratch::Scratch};
use crate::interrupt::Interrupt;

/// Says that the deadline of a call has been set. It is a single word, because each call gets one.
pub struct Begun {
    /// If the call has a deadline of its own: the deadline of the outer call, if that has one.
    around: Option<Box<Option<Deadline>>>,
}

impl Begun {
    /// Restores the deadline of the outer call.
    #[inline]
    pub fn end(&mut self, current: &CurrentDeadline) {
        if let Some(around) = self.around.take() {
            current.replace(*around);
        }
    }
}

/// The deadline of the innermost call that is running.
pub type CurrentDeadline = RefCell<Option<Deadline>>;

/// When the innermost running call must end, and the interrupt that stops it then.
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

    /// The moment that is `timeout` ms away. `None` for 0, or if the clock cannot represent it: then
    /// there is no deadline.
    pub fn after(timeout: f64) -> Option<Instant> {
        if timeout > 0.0 {
            Instant::now().checked_add(Duration::try_from_secs_f64(timeout / 1000.0).ok()?)
        } else {
            None
        }
    }

    /// Sets the deadline of a call that is about to run, if the scratch buffer has a timeout that ends
    /// before the deadline of the outer call. Returns the outer call's deadline.
    ///
    /// This is separate from the creation of a `Supervisor`, which cannot fail: returning that in a
    /// `Result` would cost each call a copy of it.
    ///
    /// # Errors
    ///
    /// If no thread could watch the deadline.
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
