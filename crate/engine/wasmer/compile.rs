//! How wasmer compiles a module. A part of `engine/wasmer.rs`.

use std::{num::NonZero, sync::Arc};

use wasmer::sys::{CompilerConfig as _, Cranelift, CraneliftOptLevel, EngineBuilder, Features, NativeEngineExt as _};
use wasmer_types::{CompilationProgressCallback, UserAbort};

use super::{
    checks::{CheckOptions, Checks, Names},
    code::Code,
    errors::compiled,
    limited::Limited,
    memory::Bounds,
};
use crate::{
    engine::{EngineConfig, OptLevel, StoreLimits},
    error::CompileError,
    interrupt::Interrupt,
    rewrite::metering::Metering,
};

/// Compiles a module for memories with these bounds.
pub fn compile(
    config: &EngineConfig,
    wasm: &[u8],
    added: &Arc<Names>,
    metering: Option<&Metering>,
    bounds: Bounds,
) -> Result<Code, CompileError> {
    let locals = metering.map(|metering| metering.locals.clone()).unwrap_or_default();
    let engine = wasmer_engine(config, Checks::of(wasm, CheckOptions::of(config), added, locals), bounds);
    let module = compiled(|| Ok(from_binary(&engine, wasm)?))?;
    Ok(Code { module, bounds, _engine: engine })
}

/// The wasmer engine that compiles one module for memories with these bounds.
pub fn wasmer_engine(config: &EngineConfig, checks: Option<Arc<Checks>>, bounds: Bounds) -> wasmer::Engine {
    let mut compiler = Cranelift::new();
    if let Some(checks) = checks {
        compiler.push_middleware(checks);
    }
    // For engines that cannot do this, the pass `canonical_nans` does.
    compiler.canonicalize_nans(config.deterministic);
    compiler.opt_level(match config.opt_level {
        OptLevel::None => CraneliftOptLevel::None,
        OptLevel::Speed => CraneliftOptLevel::Speed,
    });
    if let Ok(threads) = std::thread::available_parallelism() {
        compiler.num_threads(NonZero::min(threads, MAX_COMPILE_THREADS));
    }
    let mut engine: wasmer::Engine = EngineBuilder::new(compiler).set_features(Some(features())).engine().into();
    engine.set_tunables(Limited::new(StoreLimits::default(), Some(bounds)));
    engine
}

/// Compiles a module. When the interrupt of the compile is set, it gives up after the functions that are being compiled.
///
/// wasmer compiles functions in parallel on rayon's pool: the process's own, unless it already runs in another one. The
/// process's pool is started only once: if the system had no thread for it at that moment, no module would ever be
/// compiled again. So each compile has a pool with one thread of its own.
fn from_binary(engine: &wasmer::Engine, wasm: &[u8]) -> Result<wasmer::Module, wasmer::CompileError> {
    let interrupt = Interrupt::of_compile();
    let own = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "sandbox-host".to_owned()).build();
    let own = own.map_err(|error| wasmer::CompileError::Resource(format!("no thread to compile on: {error}")))?;
    own.install(|| match interrupt {
        None => wasmer::Module::from_binary(engine, wasm),
        Some(interrupt) => engine.new_module_with_progress(
            wasm,
            CompilationProgressCallback::new(move |_| {
                if interrupt.is_set() { Err(UserAbort::new("nobody waits for the module any more")) } else { Ok(()) }
            }),
        ),
    })
}

/// Functions are compiled in parallel. More threads than this gain little and take memory.
const MAX_COMPILE_THREADS: NonZero<usize> = NonZero::new(8).expect("8 is not 0");

/// The proposals that both engines support, so that a module runs on both or on neither. Tail calls are the exception:
/// wasmer's Cranelift does not translate them.
fn features() -> Features {
    let mut features = Features::none();
    features
        .reference_types(true)
        .simd(true)
        .bulk_memory(true)
        .multi_value(true)
        .multi_memory(true)
        .extended_const(true)
        .relaxed_simd(true);
    features
}
