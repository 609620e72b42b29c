/**
 * How calls are stopped: by the signals that are looked at here, and by deadlines, which native code minds. Signals of all calls
 * that are on the stack count, because a nested call ends with the call around it.
 */

import { types } from 'node:util';
import { describe } from '../base/arguments';
import { ArgumentError, SandboxError, type TrapError } from '../base/errors';
import type { Limits } from './options';

/** What ends calls: a signal of Node's, or anything that behaves like one. */
export type Signal = AbortSignal | ForeignSignal;

/** The signals of the running calls, the innermost first. */
export interface Signals {
  readonly signal: Signal;
  readonly around: Signals | undefined;
}

// The getters themselves, because an own property of a signal could be anything.
const isNativeAborted = getterOf<boolean>('aborted');
const nativeReasonOf = getterOf<unknown>('reason');

// Likewise.
const { addEventListener, removeEventListener } = EventTarget.prototype;

function getterOf<T>(key: keyof AbortSignal): (signal: AbortSignal) => T {
  const getter = Object.getOwnPropertyDescriptor(AbortSignal.prototype, key)?.get as () => T;
  return (signal) => getter.call(signal);
}

/**
 * A signal of another realm or library, such as jsdom's: whatever has the properties of one. What it does runs code of others, which may
 * throw. An `aborted` that throws later on ends the call by what it throws, because nobody could end it otherwise.
 */
class ForeignSignal {
  readonly #given: SignalLike;
  #reason: { readonly value: unknown } | undefined;

  constructor(given: SignalLike) {
    this.#given = given;
  }

  get aborted(): boolean {
    try {
      return Boolean(this.#given.aborted);
    } catch (value) {
      this.#reason = { value };
      return true;
    }
  }

  /** The same each time, also if the signal has none. */
  get reason(): unknown {
    if (this.#reason === undefined) {
      const own = this.#ownReason();
      const value = own === undefined ? new DOMException('This operation was aborted', 'AbortError') : own;
      this.#reason = { value };
    }
    return this.#reason.value;
  }

  #ownReason(): unknown {
    try {
      return this.#given.reason;
    } catch (thrown) {
      return thrown;
    }
  }

  listen(stop: () => void): void {
    this.#given.addEventListener('abort', stop);
  }

  /** What it throws harms nobody any more: the call is over, and its listener does nothing. */
  listenNoMore(stop: () => void): void {
    try {
      this.#given.removeEventListener('abort', stop);
    } catch {}
  }
}

/** The part of an `AbortSignal` that this package uses. */
interface SignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** One for each, so that each has one listener however many calls it ends. */
const foreignSignals = new WeakMap<object, ForeignSignal>();

/**
 * What a caller gave as `options.signal`, to be used by the functions below.
 *
 * @throws an `ArgumentError` for what does not behave like a signal, with what its getters threw as the `cause`
 */
export function checkSignal(value: unknown): Signal {
  if (isNativeSignal(value)) return value;
  let thrown: { readonly cause: unknown } | undefined;
  try {
    if (behavesLikeSignal(value)) {
      const known = foreignSignals.get(value) ?? new ForeignSignal(value);
      foreignSignals.set(value, known);
      return known;
    }
  } catch (cause) {
    if (isStackExhausted(cause)) throw cause;
    thrown = { cause };
  }
  throw signalError(value, thrown);
}

/** @param thrown - what a method or getter of the signal threw, if that is why */
export function signalError(value: unknown, thrown: { readonly cause: unknown } | undefined): ArgumentError {
  const got = value instanceof ForeignSignal ? 'one that cannot be listened to' : describe(value);
  return new ArgumentError(`options.signal must be an AbortSignal, or behave like one, got ${got}`, {
    argument: 'options.signal',
    ...thrown,
  });
}

/** Whether V8 threw it because the stack is used up, which is no fault of the signal's. */
export function isStackExhausted(thrown: unknown): boolean {
  return thrown instanceof RangeError && thrown.message === 'Maximum call stack size exceeded';
}

/**
 * Whether this is a signal of Node's, so that the getters above work on it: an object can have the prototype without being one, and a proxy
 * can pass for one to them, but cannot be listened to.
 */
function isNativeSignal(value: unknown): value is AbortSignal {
  try {
    return typeof isNativeAborted(value as AbortSignal) === 'boolean' && !types.isProxy(value);
  } catch {
    return false;
  }
}

function behavesLikeSignal(value: unknown): value is SignalLike {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false;
  const { aborted, addEventListener, removeEventListener } = value as Record<keyof SignalLike, unknown>;
  return (
    typeof aborted === 'boolean' &&
    typeof addEventListener === 'function' &&
    typeof removeEventListener === 'function'
  );
}

function isAborted(signal: Signal): boolean {
  return signal instanceof ForeignSignal ? signal.aborted : isNativeAborted(signal);
}

/** Why a signal was aborted. */
export function reasonOf(signal: Signal): unknown {
  return signal instanceof ForeignSignal ? signal.reason : nativeReasonOf(signal);
}

/** Has `stop` called when a signal is aborted. Throws whatever the signal throws. */
export function listen(signal: Signal, stop: () => void): void {
  if (signal instanceof ForeignSignal) signal.listen(stop);
  else addEventListener.call(signal, 'abort', stop);
}

export function listenNoMore(signal: Signal, stop: () => void): void {
  if (signal instanceof ForeignSignal) signal.listenNoMore(stop);
  else removeEventListener.call(signal, 'abort', stop);
}

/** The outermost aborted signal: it ends the most. */
export function abortedOf(signals: Signals | undefined): Signal | undefined {
  let found: Signal | undefined;
  for (let entry = signals; entry !== undefined; entry = entry.around) {
    if (isAborted(entry.signal)) found = entry.signal;
  }
  return found;
}

/** What the last call that was stopped has thrown; in a box, because a signal's reason can be anything. */
let lastStop: { readonly thrown: unknown } | undefined;

/** Ends a call for its signal. */
export function throwReason(signal: Signal): never {
  const thrown = reasonOf(signal);
  lastStop = { thrown };
  throw thrown;
}

/** Ends a call before it begins, if its signal is aborted. */
export function throwIfAborted(signal: Signal | undefined): void {
  if (signal !== undefined && isAborted(signal)) throwReason(signal);
}

/** Ends a call for its deadline, or that of a call around it. */
export function throwTimeout(thrown: SandboxError): never {
  lastStop = { thrown };
  throw thrown;
}

/** A deadline or a budget of a running call, for messages: native code is who minds them. */
export interface Bounds {
  /** When the call must end, by `performance.now`; Infinity if it need not. */
  readonly at: number;
  readonly limits: Limits;
  readonly around: Bounds | undefined;
}

/** The bounds of a call that begins now, inside calls that have others. */
export function boundsWithin(limits: Limits | undefined, around: Bounds | undefined): Bounds | undefined {
  if (limits === undefined) return around;
  const at = limits.timeout > 0 ? performance.now() + limits.timeout : Infinity;
  return { at, limits, around };
}

/** A call as messages name it, and what it is bounded by. */
export interface CallName {
  /** The export that is called; undefined for a start function, and where no guest runs. */
  readonly exportName: string | undefined;
  /** What is done instead of a call of an export. */
  readonly doing?: string;
  readonly limits: Limits | undefined;
  /** Of this call, the first if it has limits, and of those around it. */
  readonly bounds: Bounds | undefined;
}

function nameOf({ exportName, doing = 'the start function' }: CallName): string {
  return exportName === undefined ? doing : `the call of the export ${describe(exportName)}`;
}

/** The error for a call that a deadline has ended. */
export function timeoutError(call: CallName, cause: TrapError | undefined): SandboxError {
  return new SandboxError(`${nameOf(call)} has taken longer than ${deadlineOf(call)}`, {
    code: 'ERR_SANDBOX_TIMEOUT',
    ...(cause === undefined ? {} : { cause }),
  });
}

function deadlineOf({ limits, bounds }: CallName): string {
  let first = bounds;
  for (let entry = bounds?.around; entry !== undefined; entry = entry.around) {
    if (first === undefined || entry.at < first.at) first = entry;
  }
  const timeout = first === undefined ? 0 : (first.limits.wholeTimeout ?? first.limits.timeout);
  if (first === undefined || timeout === 0) return 'its timeout';
  // Not by the limits: several calls may have the same defaults.
  return limits !== undefined && first === bounds
    ? `its timeout of ${timeout} ms`
    : `the timeout of ${timeout} ms of a call around it`;
}

/** What the engine says of a trap, and where it was. */
export function trapMessage(message: string, trap: string, call: CallName): string {
  if (trap !== 'out-of-fuel') return `${message}, in ${nameOf(call)}`;
  const budget = budgetOf(call);
  return budget === undefined
    ? `${message}, in ${nameOf(call)}`
    : `${message}: ${nameOf(call)} has used up ${budget}`;
}

function budgetOf({ limits, bounds }: CallName): string | undefined {
  const own = limits?.fuel;
  let around: bigint | undefined;
  let entry = limits === undefined ? bounds : bounds?.around;
  for (; entry !== undefined && around === undefined; entry = entry.around) around = entry.limits.fuel;
  const left = around === undefined ? undefined : `what was left of the ${around} units of a call around it`;
  if (own === undefined) return left;
  return `its budget of ${own} units${left === undefined ? '' : `, or ${left}`}`;
}

/** Whether this is what the last stopped call has thrown. */
export function isStop(thrown: unknown): boolean {
  return lastStop !== undefined && Object.is(lastStop.thrown, thrown);
}
