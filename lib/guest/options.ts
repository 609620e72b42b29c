/** What a caller may ask for when an engine is set up for guests, and the checks of it. */

import { argumentError, boolean, oneOf, uint32 } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { knownOptions } from '../base/known_options';
import type { SandboxBackend } from './backend';
import { checkDefaults, type InvokeDefaults, type StopConditions } from './call_options';
import { Engine } from './engine';
import { featureBits, type SandboxFeatures } from './features';
import { type CheckedLimits, checkLimits, type SandboxLimits } from './limits';
import { type ModuleCache, modulesOf } from './module_cache';
import { type Modules, SHARED_MODULES, UNCACHED_MODULES } from './modules';
import { ThreadQuota } from './thread_quota';

/**
 * How {@link SandboxComponents} run their guests. The reference has no such options.
 *
 * @example
 * ```ts
 * const options: SandboxOptions = { fuel: true, limits: { memoryBytes: 64 * 1024 * 1024 }, features: { simd: false } };
 * const components = new SandboxComponents(SandboxBackend.Wasmer, options);
 * ```
 */
export interface SandboxOptions {
  /**
   * Whether guests are metered: {@link InvokeOptions.fuel} bounds what a call may do, and {@link SandboxInstance.fuel} tells what it has
   * left. About one unit for each instruction, one for each 64 bytes that a bulk operation moves, and 1,024 for each page that a memory
   * grows; the same on every run and machine for one version of this package, and as a rule on both backends. It costs something, see
   * docs/measurements.md. Default false.
   */
  readonly fuel?: boolean;
  /** What bounds a call, or a start function, whose own {@link InvokeOptions} do not say. Default: nothing. */
  readonly defaults?: InvokeDefaults;
  /**
   * Whether results are the same on every machine: NaNs are canonical (their bits are otherwise the processor's), relaxed SIMD is off, and
   * calls are counted (see {@link SandboxLimits.recursionDepth}). Default false.
   */
  readonly deterministic?: boolean;
  /** How much guests may take. Default: as much as there is, but for the stack and its depth. */
  readonly limits?: SandboxLimits;
  /** Which proposals of WebAssembly they may use. Default: all that the backend has, but no relaxed SIMD if `deterministic`. */
  readonly features?: SandboxFeatures;
  /**
   * Whether {@link InvokeOptions.timeout} stops a guest while it computes, endless loops too. It costs a little, see docs/measurements.md.
   * Without it a call is only stopped when the guest calls its supervisor. Default true.
   */
  readonly interruptible?: boolean;
  /** How hard wasmer's compiler tries; wasmi ignores it. Default `'speed'`. */
  readonly optLevel?: 'none' | 'speed';
  /** Which compiler wasmer uses. Published builds have only `'cranelift'`, the default. */
  readonly compiler?: 'cranelift' | 'singlepass';
  /** Where compiled modules are kept; false keeps none. Default: one cache in memory for the whole process. */
  readonly cache?: ModuleCache | false;
  /**
   * The most native threads that asynchronous calls may hold at once, 1 to 4,096; calls beyond that wait. Guests on wasmer hold one while
   * they wait for a Promise, guests on wasmi do not. As many guests compute at once as there are cores, and more if those compute for long.
   * Threads are started only when they are needed. Default 1,024.
   *
   * On wasmer, a call that is made in a supervisor call cannot begin while guests that wait for such calls hold all threads. It is refused with a
   * `LimitError` then, because they would wait for one another for ever.
   */
  readonly threads?: number;
}

const DEFAULT_THREADS = 1024;
const MOST_THREADS = 4096;

/** Options as native code and this package want them. */
export interface CheckedOptions {
  /** The engine that runs the guests, with the limits of their stores. */
  readonly engine: Engine;
  readonly isMetered: boolean;
  /** What stops a call that does not say; undefined if nothing does. */
  readonly defaults: StopConditions | undefined;
  /** Where compiled modules come from. */
  readonly modules: Modules;
  readonly quota: ThreadQuota;
  readonly limits: CheckedLimits;
}

/** Checks the options of components. */
export function checkSandboxOptions(
  backend: SandboxBackend,
  options: SandboxOptions | undefined,
): CheckedOptions {
  const given = knownOptions(options, 'options', [
    'fuel',
    'defaults',
    'interruptible',
    'deterministic',
    'limits',
    'features',
    'optLevel',
    'compiler',
    'cache',
    'threads',
  ]);
  const {
    fuel = false,
    interruptible = true,
    deterministic = false,
    optLevel = 'speed',
    compiler = 'cranelift',
    cache,
  } = given;
  const threads = uint32(given.threads === undefined ? DEFAULT_THREADS : given.threads, 'options.threads');
  if (threads < 1 || threads > MOST_THREADS) {
    throw argumentError('options.threads', `an integer from 1 to ${MOST_THREADS}`, threads);
  }
  if (oneOf(compiler, 'options.compiler', ['cranelift', 'singlepass']) === 'singlepass') {
    throw new ArgumentError('options.compiler must be cranelift: this build has no singlepass', {
      argument: 'options.compiler',
    });
  }
  const isMetered = boolean(fuel, 'options.fuel');
  const isDeterministic = boolean(deterministic, 'options.deterministic');
  const limits = checkLimits(given.limits);
  const { memoryBytes, tableElements, totalBytes } = limits;
  const engine = new Engine({
    backend,
    optLevel: oneOf(optLevel, 'options.optLevel', ['none', 'speed']),
    interruptible: boolean(interruptible, 'options.interruptible'),
    fuel: isMetered,
    deterministic: isDeterministic,
    features: featureBits(given.features, backend, isDeterministic),
    recursionDepth: limits.recursionDepth ?? (isDeterministic ? DETERMINISTIC_DEPTH : null),
    stackBytes: limits.stackBytes ?? (isDeterministic ? DETERMINISTIC_STACK_BYTES : null),
    memoryBytes,
    tableElements,
    totalBytes,
  });
  return {
    engine,
    isMetered,
    defaults: checkDefaults(given.defaults, isMetered),
    modules: cache === undefined ? SHARED_MODULES : cache === false ? UNCACHED_MODULES : modulesOf(cache),
    quota: new ThreadQuota(threads),
    limits,
  };
}

/** The depth that the reference crate gives wasmi. */
const DETERMINISTIC_DEPTH = 10_240;
/** So much that calls that deep do not exhaust it, unless their frames are larger than compilers make them. */
const DETERMINISTIC_STACK_BYTES = 16 * 1024 * 1024;
