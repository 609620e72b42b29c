//! The scratch buffer: an ArrayBuffer that both sides hold, through which the arguments and results of calls go. Writing a
//! few numbers there is several times cheaper than passing them through Node-API.
//!
//! Its layout stands here and in `lib/native.ts`. Whoever receives reads everything out before anything else can run, so
//! one buffer serves calls at any depth of re-entry.

use super::raw::{Reference, Scope, Throw, Value};

/// A function has at most 1,000 parameters and 1,000 results in both engines; the header takes 24 bytes.
pub const SCRATCH_BYTES: usize = 16 * 1024;

/// The most slots that a call can have.
pub const MAX_SLOTS: usize = (FUEL_AT - SLOTS_AT) / 8;

/// The first header words, in 32-bit units. What they mean is up to the call.
pub const WORD_INSTANCE: usize = 0;
pub const WORD_FUNC: usize = 1;
pub const WORD_COUNT: usize = 2;
/// Where the status of a call comes back: of one into a guest, and of one to the supervisor.
pub const WORD_STATUS: usize = 0;
pub const WORD_HAS_GAS: usize = 3;
/// Whether a call that is about to run has a budget of fuel.
pub const WORD_HAS_FUEL: usize = 3;

// Of asynchronous calls:
/// Which event.
pub const WORD_EVENT: usize = 0;
/// Of which call.
pub const WORD_CALL: usize = 2;
/// In `next`: whether the event loop has had a turn since the last one.
pub const WORD_IS_NEW_TURN: usize = 0;
/// In `next`: whether to look for an event for a while.
pub const WORD_LOOKS: usize = 1;
/// In `answer`: whether the supervisor has thrown.
pub const WORD_HAS_THROWN: usize = 0;

/// There is nothing to do.
pub const EVENT_NONE: u32 = 0;
/// There may be, but the event loop must have a turn before.
pub const EVENT_TIME_OVER: u32 = 1;
/// The guest of `WORD_CALL` calls function `WORD_FUNC`.
pub const EVENT_ASKED: u32 = 2;
/// The call is over; a function's results are in the slots, a module's number is in `WORD_FUNC`.
pub const EVENT_DONE: u32 = 3;
/// The call is over; `takeFailure` tells how.
pub const EVENT_TRAPPED: u32 = 4;
/// The call could not be made; `takeRefusal` tells why.
pub const EVENT_REFUSED: u32 = 5;

const GAS_AT: usize = 16;
const SLOTS_AT: usize = 24;
/// The last 8 bytes: the budget of a call that is about to run, and what is left of it afterwards.
const FUEL_AT: usize = SCRATCH_BYTES - 8;

/// A call came back with its results.
pub const STATUS_DONE: u32 = 0;
/// A call trapped; `takeFailure` tells how. Or a supervisor has thrown; TypeScript knows what.
pub const STATUS_TRAPPED: u32 = 1;

/// The shared buffer.
pub struct Scratch {
    base: *mut u8,
    /// Keeps the buffer alive.
    buffer: Reference,
}

impl Scratch {
    pub fn new(scope: Scope, buffer: Value) -> Result<Self, Throw> {
        let (base, bytes) = scope.buffer_info(buffer)?;
        if bytes != SCRATCH_BYTES || !(base as usize).is_multiple_of(8) {
            return Err(Throw::internal(format!("the scratch buffer must have {SCRATCH_BYTES} bytes")));
        }
        Ok(Self { base, buffer: Reference::strong(scope, buffer)? })
    }

    /// Lets the buffer go. To be called last.
    pub fn release(&self, scope: Scope) {
        self.buffer.hold(scope, false);
    }

    fn word(&self, index: usize) -> *mut u32 {
        debug_assert!(index < SLOTS_AT / 4 || index < SCRATCH_BYTES / 4);
        self.base.wrapping_add(index * 4).cast()
    }

    pub fn read_word(&self, index: usize) -> u32 {
        assert!(index < SCRATCH_BYTES / 4);
        // SAFETY: in the buffer, which is alive, aligned to 8 and of `SCRATCH_BYTES` bytes, and only used on this thread.
        unsafe { self.word(index).read() }
    }

    pub fn write_word(&self, index: usize, word: u32) {
        assert!(index < SCRATCH_BYTES / 4);
        // SAFETY: as in `read_word`.
        unsafe { self.word(index).write(word) }
    }

    /// The timeout of a call that is about to run, in milliseconds; 0 for none. It stands where a guest's call has its gas.
    pub fn read_timeout(&self) -> f64 {
        f64::from_bits(self.read_gas() as u64)
    }

    /// The budget of a call that is about to run, if it has one.
    pub fn read_fuel(&self) -> Option<u64> {
        if self.read_word(WORD_HAS_FUEL) == 0 {
            return None;
        }
        // SAFETY: as in `read_word`.
        Some(unsafe { self.base.wrapping_add(FUEL_AT).cast::<u64>().read() })
    }

    pub fn write_fuel(&self, fuel: u64) {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(FUEL_AT).cast::<u64>().write(fuel) }
    }

    pub fn read_gas(&self) -> i64 {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(GAS_AT).cast::<i64>().read() }
    }

    pub fn write_gas(&self, gas: i64) {
        // SAFETY: as in `read_word`.
        unsafe { self.base.wrapping_add(GAS_AT).cast::<i64>().write(gas) }
    }

    // Loops, because there are mostly one to four slots, for which a call of memcpy takes longer.

    pub fn read_slots(&self, slots: &mut [u64]) {
        assert!(slots.len() <= MAX_SLOTS);
        for (index, slot) in slots.iter_mut().enumerate() {
            // SAFETY: as in `read_word`.
            *slot = unsafe { self.base.wrapping_add(SLOTS_AT + 8 * index).cast::<u64>().read() };
        }
    }

    pub fn write_slots(&self, slots: &[u64]) {
        assert!(slots.len() <= MAX_SLOTS);
        for (index, slot) in slots.iter().enumerate() {
            // SAFETY: as in `read_word`.
            unsafe { self.base.wrapping_add(SLOTS_AT + 8 * index).cast::<u64>().write(*slot) };
        }
    }
}
