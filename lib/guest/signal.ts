/**
 * The signals that end calls. Those of all calls on the stack count, because a nested call ends with the call around it.
 */

import { types } from 'node:util';
import { describe } from '../base/arguments';
import { ArgumentError } from '../base/errors';

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

export function isAborted(signal: Signal): boolean {
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
