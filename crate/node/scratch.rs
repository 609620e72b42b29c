//! The scratch buffer: an ArrayBuffer that both sides use to pass the arguments and results of calls.
//! Writing a few numbers there is several times cheaper than passing them through Node-API.
//!
//! The receiver reads everything before any other code can run, so one buffer serves calls at any depth
//! of re-entry.

mod layout;

pub use self::layout::*;
use super::{
    error::NativeError,
    raw::{JsValue, Reference, Scope},
};

/// The shared buffer.
pub struct Scratch {
    base: *mut u8,
    /// Keeps the buffer alive.
    buffer: Reference,
}

impl Scratch {
    pub fn new(scope: Scope, buffer: JsValue) -> Result<Self, NativeError> {
        let (base, bytes) = scope.buffer_info(buffer)?;
        if bytes != SCRATCH_BYTES || !(base as usize).is_multiple_of(8) {
            return Err(NativeError::internal(format!("the scratch buffer must have {SCRATCH_BYTES} bytes")));
        }
        Ok(Self { base, buffer: Reference::strong(scope, buffer)? })
    }

    /// Releases the buffer. Must be called last.
    pub fn release(&self, scope: Scope) {
        self.buffer.hold(scope, false);
    }

    fn word(&self, index: usize) -> *mut u32 {
        debug_assert!(index < SCRATCH_BYTES / 4);
        self.base.wrapping_add(index * 4).cast()
    }

    pub fn read_word(&self, index: usize) -> u32 {
        assert!(index < SCRATCH_BYTES / 4);
        // SAFETY: in the buffer, which is alive, aligned to 8 and of `SCRATCH_BYTES` bytes, and only
        // used on this thread.
        unsafe { self.word(index).read() }
    }

    pub fn write_word(&self, index: usize, word: u32) {
        assert!(index < SCRATCH_BYTES / 4);
        // SAFETY: as in `read_word`.
        unsafe { self.word(index).write(word) }
    }

    /// The timeout of a call that is about to run, in milliseconds; 0 for none.
    pub fn read_timeout(&self) -> f64 {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(8 * TIMEOUT).cast::<f64>().read() }
    }

    /// The budget of a call that is about to run, if it has one.
    pub fn read_fuel(&self) -> Option<u64> {
        if self.read_word(WORD_HAS_FUEL) == 0 {
            return None;
        }
        // SAFETY: as in `read_word`.
        Some(unsafe { self.base.wrapping_add(8 * FUEL).cast::<u64>().read() })
    }

    pub fn write_fuel(&self, fuel: u64) {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(8 * FUEL).cast::<u64>().write(fuel) }
    }

    pub fn read_gas(&self) -> i64 {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(8 * GAS).cast::<i64>().read() }
    }

    pub fn write_gas(&self, gas: i64) {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(8 * GAS).cast::<i64>().write(gas) }
    }

    // These use loops because there are mostly one to four slots, for which a call of memcpy takes
    // longer.

    pub fn read_slots(&self, slots: &mut [u64]) {
        assert!(slots.len() <= MAX_SLOTS);
        for (index, slot) in slots.iter_mut().enumerate() {
            // SAFETY: as in `read_word`.
            *slot = unsafe { self.base.wrapping_add(8 * (SLOTS + index)).cast::<u64>().read() };
        }
    }

    pub fn write_slots(&self, slots: &[u64]) {
        assert!(slots.len() <= MAX_SLOTS);
        for (index, slot) in slots.iter().enumerate() {
            // SAFETY: as in `read_word`.
            unsafe { self.base.wrapping_add(8 * (SLOTS + index)).cast::<u64>().write(*slot) };
        }
    }
}
