/** What a caller may ask for when components are made or a guest is called, and the checks of it. */

import { argumentError, boolean, oneOf, uint32 } from '../arguments';
import { ArgumentError } from '../errors';
import { BACKENDS, type SandboxBackend } from './backend';
import { Engine } from './engine';
import { featureBits, type SandboxFeatures } from './features';
import { type Modules, SHARED_MODULES, UNCACHED_MODULES } from './guest_module';
import { knownOptions } from './known_options';
import { type CheckedLimits, checkLimits, type SandboxLimits } from './limits';
import { type ModuleCache, modulesOf } from './module_cache';
import { isSignal } from './stop';
import { ThreadBudget } from './thread_budget';

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
   * ARCHITECTURE.md. Default false.
   */
  readonly fuel?: boolean;
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
   * Whether {@link InvokeOptions.timeout} stops a guest while it computes, endless loops too. It costs a little, see ARCHITECTURE.md.
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

/**
 * How one call runs. A call that is stopped leaves the guest's memory and globals as they were at that moment, and the instance can
 * be invoked again. Calls that are made inside a supervisor call end with the call around them at the latest. The reference has no such
 * options.
 *
 * @example
 * ```ts
 * instance.invoke('run', [], supervisor, { timeout: 50, signal: controller.signal });
 * ```
 */
export interface InvokeOptions {
  /**
   * The most fuel that the call may use, in units, 0 to 2^63 - 1; it needs {@link SandboxOptions.fuel}. When it is used up the guest traps
   * with `'out-of-fuel'`. Without it a call may use as much as it likes, and is counted from 2^63 - 1. Calls inside a supervisor call draw
   * on the fuel of the call around them; their own may only be tighter. An asynchronous call that is made there takes its part at once and
   * gives back what it has left when it is over.
   */
  readonly fuel?: bigint | undefined;
  /**
   * The most wall time in ms that the call may take, above 0. When it is over the call throws a {@link SandboxError} with the `code`
   * `ERR_SANDBOX_TIMEOUT`.
   */
  readonly timeout?: number | undefined;
  /**
   * Ends the call with the signal's `reason` (DOM Standard, "Aborting ongoing activities"). No event reaches a signal while a synchronous
   * call runs, unless a supervisor function aborts it; it is looked at before the call and after each supervisor call.
   */
  readonly signal?: AbortSignal | undefined;
}

const DEFAULT_THREADS = 1024;
const MOST_THREADS = 4096;

/** Options as native code and this package want them. */
export interface CheckedOptions {
  /** The engine that runs the guests, with the limits of their stores. */
  readonly engine: Engine;
  readonly isMetered: boolean;
  /** Where compiled modules come from. */
  readonly modules: Modules;
  readonly budget: ThreadBudget;
  readonly limits: CheckedLimits;
}

/** Checks the options of components. */
export function checkSandboxOptions(
  backend: SandboxBackend,
  options: SandboxOptions | undefined,
): CheckedOptions {
  const given = knownOptions(options, 'options', [
    'fuel',
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
  const orIfDeterministic = (limit: number, ifDeterministic: number): number =>
    limit < 0 && isDeterministic ? ifDeterministic : limit;
  const engine = new Engine([
    BACKENDS.indexOf(backend),
    oneOf(optLevel, 'options.optLevel', ['none', 'speed']) === 'none' ? 0 : 1,
    boolean(interruptible, 'options.interruptible') ? 1 : 0,
    isMetered ? 1 : 0,
    isDeterministic ? 1 : 0,
    featureBits(given.features, backend, isDeterministic),
    orIfDeterministic(limits.recursionDepth, DETERMINISTIC_DEPTH),
    orIfDeterministic(limits.stackBytes, DETERMINISTIC_STACK_BYTES),
    limits.memoryBytes,
    limits.tableElements,
  ]);
  return {
    engine,
    isMetered,
    modules: cache === undefined ? SHARED_MODULES : cache === false ? UNCACHED_MODULES : modulesOf(cache),
    budget: new ThreadBudget(threads),
    limits,
  };
}

/** The depth that the reference crate gives wasmi. */
const DETERMINISTIC_DEPTH = 10_240;
/** So much that calls that deep do not exhaust it, unless their frames are larger than compilers make them. */
const DETERMINISTIC_STACK_BYTES = 16 * 1024 * 1024;

/** What stops a call. */
export interface Limits {
  /** In ms; 0 for none. */
  readonly timeout: number;
  /** What the caller gave, if `timeout` is only what is left of it. */
  readonly wholeTimeout?: number;
  readonly fuel: bigint | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Checks the options of a call; undefined if nothing stops it. */
export function checkInvokeOptions(
  options: InvokeOptions | undefined,
  isMetered: boolean,
): Limits | undefined {
  if (options === undefined) return undefined;
  const { fuel, timeout, signal } = knownOptions(options, 'options', ['fuel', 'timeout', 'signal']);
  if (fuel !== undefined) checkFuel(fuel, isMetered);
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout > 0 && timeout < Infinity)) {
    throw argumentError('options.timeout', 'a number of milliseconds above 0', timeout);
  }
  if (signal !== undefined && !isSignal(signal)) {
    throw argumentError('options.signal', 'an AbortSignal', signal);
  }
  if (fuel === undefined && timeout === undefined && signal === undefined) return undefined;
  return { timeout: timeout ?? 0, fuel: fuel as bigint | undefined, signal };
}

function checkFuel(fuel: unknown, isMetered: boolean): void {
  if (typeof fuel !== 'bigint' || fuel < 0n || fuel > MOST_FUEL) {
    throw argumentError('options.fuel', 'a bigint from 0n to 2n ** 63n - 1n', fuel);
  }
  if (isMetered) return;
  throw new ArgumentError('options.fuel must not be given: these components were made without `fuel: true`', {
    argument: 'options.fuel',
  });
}

const MOST_FUEL = 2n ** 63n - 1n;
