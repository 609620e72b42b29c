/** What a caller may ask for when components are made or a guest is called, and the checks of it. */

import { argumentError, boolean, oneOf, uint32 } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { knownOptions } from '../base/known_options';
import { BACKENDS, type SandboxBackend } from './backend';
import { Engine } from './engine';
import { featureBits, type SandboxFeatures } from './features';
import { type CheckedLimits, checkLimits, type SandboxLimits } from './limits';
import { type Modules, SHARED_MODULES, UNCACHED_MODULES } from './module';
import { type ModuleCache, modulesOf } from './module_cache';
import { checkSignal, type Signal } from './stop';
import { ThreadBudget } from './thread_quota';

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
 * The fuel and the timeout of every call into the guests of some components, and of every start function, for which
 * {@link InvokeOptions} give none. A property that is absent or `undefined` there gives none. A call that is to have more than the default
 * asks for it: `fuel: 2n ** 63n - 1n` is the largest budget. The calls of a supervisor that is itself WebAssembly
 * (see {@link SandboxHost}) have no options, so that the defaults bound all of them. The reference has no such options.
 *
 * @example
 * ```ts
 * const components = new SandboxComponents('wasmi', { fuel: true, defaults: { fuel: 1_000_000n, timeout: 100 } });
 * ```
 */
export interface InvokeDefaults {
  /**
   * The most fuel that a call may use, in units, 0 to 2^63 - 1; it needs {@link SandboxOptions.fuel}. A call that is made inside a
   * supervisor call draws on the fuel of the call around it as well.
   */
  readonly fuel?: bigint | undefined;
  /**
   * The most wall time in ms that a call may take, above 0. For a start function it begins when the module is compiled, unlike
   * {@link InvokeOptions.timeout}.
   */
  readonly timeout?: number | undefined;
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
   * with `'out-of-fuel'`. Default: that of {@link SandboxOptions.defaults}; if there is none, a call may use as much as it likes, and is
   * counted from 2^63 - 1. Calls inside a supervisor call draw
   * on the fuel of the call around them; their own may only be tighter. An asynchronous call that is made there takes its part at once and
   * gives back what it has left when it is over.
   */
  readonly fuel?: bigint | undefined;
  /**
   * The most wall time in ms that the call may take, above 0. When it is over the call throws a {@link SandboxError} with the `code`
   * `ERR_SANDBOX_TIMEOUT`. Default: that of {@link SandboxOptions.defaults}.
   */
  readonly timeout?: number | undefined;
  /**
   * Ends the call with the signal's `reason` (DOM Standard, "Aborting ongoing activities"). No event reaches a signal while a synchronous
   * call runs, unless a supervisor function aborts it; it is looked at before the call and after each supervisor call. Signals of other
   * libraries will do, such as jsdom's: whatever has `aborted`, `addEventListener`, `removeEventListener` and, if it likes, `reason`.
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
  /** What stops a call that does not say; undefined if nothing does. */
  readonly defaults: Limits | undefined;
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
    limits.totalBytes,
  ]);
  return {
    engine,
    isMetered,
    defaults: checkDefaults(given.defaults, isMetered),
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
  readonly signal: Signal | undefined;
}

/** Checks the options of a call; undefined if nothing stops it. */
export function checkInvokeOptions(
  options: InvokeOptions | undefined,
  isMetered: boolean,
): Limits | undefined {
  if (options === undefined) return undefined;
  const { fuel, timeout, signal } = knownOptions(options, 'options', ['fuel', 'timeout', 'signal']);
  checkFuel(fuel, 'options.fuel');
  if (fuel !== undefined && !isMetered) {
    throw notMetered('options.fuel', 'these components were made without `fuel: true`');
  }
  checkTimeout(timeout, 'options.timeout');
  const checked = signal === undefined ? undefined : checkSignal(signal);
  if (fuel === undefined && timeout === undefined && signal === undefined) return undefined;
  return { timeout: timeout ?? 0, fuel, signal: checked };
}

/** Checks the defaults of calls; undefined if there are none. */
function checkDefaults(defaults: unknown, isMetered: boolean): Limits | undefined {
  const { fuel, timeout } = knownOptions(defaults, 'options.defaults', ['fuel', 'timeout']);
  checkFuel(fuel, 'options.defaults.fuel');
  if (fuel !== undefined && !isMetered) {
    throw notMetered('options.defaults.fuel', 'it needs `options.fuel: true`');
  }
  checkTimeout(timeout, 'options.defaults.timeout');
  if (fuel === undefined && timeout === undefined) return undefined;
  return { timeout: timeout ?? 0, fuel, signal: undefined };
}

/** What stops a call: what it was given, and the defaults for the rest. */
export function withDefaults(given: Limits | undefined, defaults: Limits | undefined): Limits | undefined {
  if (defaults === undefined || given === undefined) return given ?? defaults;
  const fuel = given.fuel ?? defaults.fuel;
  return given.timeout > 0 ? { ...given, fuel } : { timeout: defaults.timeout, fuel, signal: given.signal };
}

function checkTimeout(timeout: unknown, name: string): asserts timeout is number | undefined {
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout > 0 && timeout < Infinity)) {
    throw argumentError(name, 'a number of milliseconds above 0', timeout);
  }
}

function checkFuel(fuel: unknown, name: string): asserts fuel is bigint | undefined {
  if (fuel !== undefined && !(typeof fuel === 'bigint' && fuel >= 0n && fuel <= MOST_FUEL)) {
    throw argumentError(name, 'a bigint from 0n to 2n ** 63n - 1n', fuel);
  }
}

function notMetered(argument: string, why: string): ArgumentError {
  return new ArgumentError(`${argument} must not be given: ${why}`, { argument });
}

const MOST_FUEL = 2n ** 63n - 1n;
