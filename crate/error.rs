//! The errors of this crate: one enum per operation, and the trap codes. Engines translate their errors
//! into these; `node/` translates these into JavaScript errors.

use std::borrow::Cow;

use thiserror::Error;

use crate::total::TotalExceeded;

/// Why a guest stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapCode {
    Unreachable,
    MemoryOutOfBounds,
    TableOutOfBounds,
    IndirectCallNull,
    IndirectCallSignature,
    IntegerOverflow,
    IntegerDivideByZero,
    InvalidConversion,
    StackOverflow,
    OutOfFuel,
    Interrupted,
    /// The supervisor function that the guest called did not answer with a result.
    Supervisor,
    GrowthLimited,
    UnalignedAtomic,
    UncaughtException,
    OutOfMemory,
    /// A fault of the engine or of this crate, not of the guest.
    Internal,
}

impl TrapCode {
    /// The stable name that JavaScript sees as `TrapError.trap`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::MemoryOutOfBounds => "memory-out-of-bounds",
            Self::TableOutOfBounds => "table-out-of-bounds",
            Self::IndirectCallNull => "indirect-call-null",
            Self::IndirectCallSignature => "indirect-call-signature",
            Self::IntegerOverflow => "integer-overflow",
            Self::IntegerDivideByZero => "integer-divide-by-zero",
            Self::InvalidConversion => "invalid-conversion",
            Self::StackOverflow => "stack-overflow",
            Self::OutOfFuel => "out-of-fuel",
            Self::Interrupted => "interrupted",
            Self::Supervisor => "supervisor",
            Self::GrowthLimited => "growth-limited",
            Self::UnalignedAtomic => "unaligned-atomic",
            Self::UncaughtException => "uncaught-exception",
            Self::OutOfMemory => "out-of-memory",
            Self::Internal => "internal",
        }
    }

    /// The message, the same on both engines so that logs do not depend on the backend.
    pub fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "wasm trap: unreachable instruction executed",
            Self::MemoryOutOfBounds => "wasm trap: out of bounds memory access",
            Self::TableOutOfBounds => "wasm trap: out of bounds table access",
            Self::IndirectCallNull => "wasm trap: indirect call to a null table element",
            Self::IndirectCallSignature => "wasm trap: indirect call to a function of another type",
            Self::IntegerOverflow => "wasm trap: integer overflow",
            Self::IntegerDivideByZero => "wasm trap: integer divide by zero",
            Self::InvalidConversion => "wasm trap: invalid conversion to integer",
            Self::StackOverflow => "wasm trap: call stack exhausted",
            Self::OutOfFuel => "wasm trap: out of fuel",
            Self::Interrupted => "wasm trap: interrupted",
            Self::Supervisor => "wasm trap: the supervisor function failed",
            Self::GrowthLimited => "wasm trap: growth of a memory or table is limited",
            Self::UnalignedAtomic => "wasm trap: unaligned atomic access",
            Self::UncaughtException => "wasm trap: uncaught exception",
            Self::OutOfMemory => "wasm trap: the host is out of memory",
            Self::Internal => "internal failure of the engine",
        }
    }
}

/// The most frames of a trap. A trap in a deeper stack has half of them from its innermost end and half
/// from its outermost end.
pub const MAX_FRAMES: usize = 64;

/// The most characters of a function's name in a frame.
pub const MAX_NAME: usize = 256;

/// The most characters of a message: guests choose the names that messages contain.
pub const MAX_MESSAGE: usize = 4_096;

/// Shortens a message to the maximum length.
pub fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('\u{2026}');
    }
    message
}

/// One function of the guest that was running when it trapped. Frames are listed innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the module's name section.
    pub function_name: Option<String>,
    /// Index in the module's function index space, imports included.
    pub function_index: u32,
    /// Offset in bytes from the start of the module's binary; `None` where the engine does not report
    /// it.
    pub offset: Option<usize>,
}

/// The end of a call without a result.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct Trap {
    pub code: TrapCode,
    pub message: Cow<'static, str>,
    pub frames: Vec<Frame>,
}

impl Trap {
    /// A trap with the standard message of its code.
    pub fn new(code: TrapCode) -> Self {
        Self { code, message: Cow::Borrowed(code.message()), frames: Vec::new() }
    }

    /// A trap with a message of its own.
    pub fn with_message(code: TrapCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), frames: Vec::new() }
    }
}

/// The reason why a host function ends without a result. It travels through the engine as that engine's
/// host error.
#[derive(Debug, Clone, Error)]
pub enum HostTrap {
    /// The host itself keeps the reason (a parked JavaScript exception); only this marker passes through
    /// the engine.
    #[error("the supervisor function failed")]
    Parked,
    /// The guest's call was stopped while the supervisor ran.
    #[error("the call was interrupted")]
    Interrupted,
    /// The guest has no fuel left for the call.
    #[error("the guest is out of fuel")]
    OutOfFuel,
    /// Not a failure: the answer comes later, and the call is suspended until then. Only on an engine
    /// that can suspend.
    #[error("the answer comes later")]
    Suspended,
    /// The call could not be made, or its answer could not be used.
    #[error("{0}")]
    Message(Cow<'static, str>),
    /// The host function panicked; the panic stopped at the seam.
    #[error("the host function panicked: {0}")]
    Panicked(String),
}

impl From<HostTrap> for Trap {
    fn from(trap: HostTrap) -> Self {
        match trap {
            HostTrap::Parked => Trap::new(TrapCode::Supervisor),
            HostTrap::Interrupted => Trap::new(TrapCode::Interrupted),
            HostTrap::OutOfFuel => Trap::new(TrapCode::OutOfFuel),
            HostTrap::Message(message) => Trap::with_message(TrapCode::Supervisor, message),
            HostTrap::Suspended => {
                Trap::with_message(TrapCode::Internal, "a call was left that cannot be gone on with")
            }
            HostTrap::Panicked(_) => Trap::with_message(TrapCode::Internal, trap.to_string()),
        }
    }
}

impl From<HostTrap> for Box<Trap> {
    fn from(trap: HostTrap) -> Self {
        Self::new(trap.into())
    }
}

/// The store is not accessible now, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StoreError {
    #[error("the store is in use by a running guest")]
    Busy,
    #[error("the store is unusable since an earlier internal failure")]
    Poisoned,
}

/// A module was not compiled.
#[derive(Debug, Clone, Error)]
pub enum CompileError {
    /// The module is invalid, or the engine cannot run it.
    #[error("{0}")]
    Refused(String),
    /// The system has no memory for its code. Nothing is wrong with the module.
    #[error("cannot allocate: {0}")]
    Allocation(String),
}

/// An engine could not be made from its configuration.
#[derive(Debug, Clone, Error)]
#[error("cannot make a {engine} engine: {reason}")]
pub struct EngineError {
    pub engine: &'static str,
    pub reason: String,
}

/// A module could not become an instance.
#[derive(Debug, Clone, Error)]
pub enum InstantiateError {
    #[error("{0}")]
    Link(String),
    #[error("{0}")]
    Segment(Trap),
    #[error("the module needs the CPU feature {0}, which this machine lacks")]
    CpuFeature(String),
    #[error("{what} of {size} {unit} exceeds the limit of {limit}")]
    Limit { what: &'static str, size: u64, unit: &'static str, limit: u64 },
    /// The total limit leaves no room for its memories and tables.
    #[error(transparent)]
    Total(#[from] TotalExceeded),
    /// The system has no memory for its memories or tables. Nothing is wrong with the module.
    #[error("cannot allocate: {0}")]
    Allocation(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An operation on a memory failed.
#[derive(Debug, Clone, Error)]
pub enum MemoryError {
    #[error("initial {initial} pages exceed the maximum of {maximum}")]
    InitialAboveMaximum { initial: u64, maximum: u64 },
    #[error("{pages} pages exceed the limit of {limit}")]
    TooLarge { pages: u64, limit: u64 },
    #[error("cannot grow by {delta} pages: {reason}")]
    Grow { delta: u64, reason: String },
    #[error("cannot allocate: {0}")]
    Allocation(String),
    #[error("a memory of {bytes} bytes exceeds the limit of {limit}")]
    Limit { bytes: u64, limit: u64 },
    /// The message of a [`TotalExceeded`].
    #[error("{0}")]
    Total(String),
    #[error("memory {access} is out of bounds: {length} bytes at {address}, size {size}")]
    OutOfBounds { access: &'static str, address: u64, length: u64, size: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An operation on a global failed.
#[derive(Debug, Clone, Error)]
pub enum GlobalError {
    #[error("the global is immutable")]
    Immutable,
    #[error("the global is of type {}", .0.name())]
    Type(crate::value::ValueType),
    #[error(transparent)]
    Store(#[from] StoreError),
}
