/** What a caller may ask for when a guest is called, and the checks of it. */

import { argumentError } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { knownOptions } from '../base/known_options';
import { checkSignal, type Signal } from './signal';

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

/** What stops a call, as far as its options say. */
export interface StopConditions {
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
): StopConditions | undefined {
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
export function checkDefaults(defaults: unknown, isMetered: boolean): StopConditions | undefined {
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
export function withDefaults(
  given: StopConditions | undefined,
  defaults: StopConditions | undefined,
): StopConditions | undefined {
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
