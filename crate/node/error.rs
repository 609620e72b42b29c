//! What native functions throw.

use napi_derive::napi;

use crate::{
    error::{CompileError, EngineError, GlobalError, InstantiateError, MemoryError, StoreError, cut},
    executor::pool::NoThread,
    interrupt::NoWatchdog,
};

/// The kind of an error of the addon: its `code`, by which `lib/binding/failures.ts` chooses the class
/// of the error that a user gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[napi(string_enum = "kebab-case")]
pub enum ErrorKind {
    /// The package passed an invalid argument: a bug in this package.
    Internal,
    /// Native code panicked: also a bug.
    Panic,
    Engine,
    CacheFolder,
    /// The binary is not a module that the engine accepts.
    Module,
    Limit,
    MemorySize,
    MemoryGrow,
    OutOfBounds,
    Global,
    Link,
    CpuFeature,
    /// An asynchronous call occupies the store.
    Busy,
    /// A panic has left the store unusable.
    Poisoned,
    /// The runtime forbids ArrayBuffers over native memory.
    NoBuffers,
}

impl AsRef<str> for ErrorKind {
    fn as_ref(&self) -> &str {
        match self {
            Self::Internal => "internal",
            Self::Panic => "panic",
            Self::Engine => "engine",
            Self::CacheFolder => "cache-folder",
            Self::Module => "module",
            Self::Limit => "limit",
            Self::MemorySize => "memory-size",
            Self::MemoryGrow => "memory-grow",
            Self::OutOfBounds => "out-of-bounds",
            Self::Global => "global",
            Self::Link => "link",
            Self::CpuFeature => "cpu-feature",
            Self::Busy => "busy",
            Self::Poisoned => "poisoned",
            Self::NoBuffers => "no-buffers",
        }
    }
}

/// The reason why a native function throws. Unlike the error of napi-rs, it never refers to a JavaScript
/// object, so any thread may drop it.
#[derive(Debug)]
pub struct NativeError {
    pub kind: ErrorKind,
    pub message: String,
}

/// The result of a function that napi-rs registers.
pub type Result<T> = std::result::Result<T, napi::Error<ErrorKind>>;

impl NativeError {
    pub fn new(kind: ErrorKind, message: impl ToString) -> Self {
        Self { kind, message: cut(message.to_string()) }
    }

    /// TypeScript checks arguments before it passes them, so this error is a bug of this package.
    pub fn internal(message: impl ToString) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<NativeError> for napi::Error<ErrorKind> {
    fn from(NativeError { kind, message }: NativeError) -> Self {
        Self::new(kind, message)
    }
}

impl From<napi::Error> for NativeError {
    fn from(error: napi::Error) -> Self {
        Self::internal(error.reason)
    }
}

impl From<EngineError> for NativeError {
    fn from(error: EngineError) -> Self {
        Self::new(ErrorKind::Engine, error)
    }
}

impl From<NoWatchdog> for NativeError {
    fn from(error: NoWatchdog) -> Self {
        Self::new(ErrorKind::Limit, error)
    }
}

impl From<NoThread> for NativeError {
    fn from(error: NoThread) -> Self {
        Self::new(ErrorKind::Limit, error)
    }
}

impl From<StoreError> for NativeError {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Busy => ErrorKind::Busy,
            StoreError::Poisoned => ErrorKind::Poisoned,
        };
        Self::new(kind, error)
    }
}

impl From<MemoryError> for NativeError {
    fn from(error: MemoryError) -> Self {
        let kind = match &error {
            MemoryError::InitialAboveMaximum { .. } | MemoryError::TooLarge { .. } => ErrorKind::MemorySize,
            MemoryError::Grow { .. } => ErrorKind::MemoryGrow,
            MemoryError::Allocation(_) | MemoryError::Limit { .. } | MemoryError::Total(_) => ErrorKind::Limit,
            MemoryError::OutOfBounds { .. } => ErrorKind::OutOfBounds,
            MemoryError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}

impl From<CompileError> for NativeError {
    fn from(error: CompileError) -> Self {
        let kind = match &error {
            CompileError::Refused(_) => ErrorKind::Module,
            CompileError::Allocation(_) => ErrorKind::Limit,
        };
        Self::new(kind, error)
    }
}

impl From<GlobalError> for NativeError {
    fn from(error: GlobalError) -> Self {
        let kind = match &error {
            GlobalError::Immutable | GlobalError::Type(_) => ErrorKind::Global,
            GlobalError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}

impl From<InstantiateError> for NativeError {
    fn from(error: InstantiateError) -> Self {
        let kind = match &error {
            InstantiateError::Link(_) | InstantiateError::Segment(_) => ErrorKind::Link,
            InstantiateError::CpuFeature(_) => ErrorKind::CpuFeature,
            InstantiateError::Limit { .. } | InstantiateError::Total(_) | InstantiateError::Allocation(_) => {
                ErrorKind::Limit
            }
            InstantiateError::Store(error) => return Self::from(*error),
        };
        Self::new(kind, error)
    }
}
