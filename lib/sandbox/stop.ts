/**
 * How calls are stopped: by the signals that are looked at here, and by deadlines, which native code minds. Signals of all calls
 * that are on the stack count, because a nested call ends with the call around it.
 */

import { types } from 'node:util';
import { SandboxError, type TrapError } from '../errors';

/** The signals of the running calls, the innermost first. */
export interface Signals {
  readonly signal: AbortSignal;
  readonly around: Signals | undefined;
}

// The getters themselves, because an own property of a signal could be anything.
const isAborted = getterOf<boolean>('aborted');
/** Why a signal was aborted. */
export const reasonOf = getterOf<unknown>('reason');

// Likewise.
const { addEventListener, removeEventListener } = EventTarget.prototype;

/** Has `stop` called when a signal is aborted. */
export function listen(signal: AbortSignal, stop: () => void): void {
  addEventListener.call(signal, 'abort', stop);
}

export function listenNoMore(signal: AbortSignal, stop: () => void): void {
  removeEventListener.call(signal, 'abort', stop);
}

function getterOf<T>(key: keyof AbortSignal): (signal: AbortSignal) => T {
  const getter = Object.getOwnPropertyDescriptor(AbortSignal.prototype, key)?.get as () => T;
  return (signal) => getter.call(signal);
}

/**
 * Whether this is a signal, so that the getters above work on it: an object can have the prototype without being one, and a proxy can
 * pass for one to them, but cannot be listened to.
 */
export function isSignal(value: unknown): value is AbortSignal {
  try {
    return typeof isAborted(value as AbortSignal) === 'boolean' && !types.isProxy(value);
  } catch {
    return false;
  }
}

/** The outermost aborted signal: it ends the most. */
export function abortedOf(signals: Signals | undefined): AbortSignal | undefined {
  let found: AbortSignal | undefined;
  for (let entry = signals; entry !== undefined; entry = entry.around) {
    if (isAborted(entry.signal)) found = entry.signal;
  }
  return found;
}

/** What the last call that was stopped has thrown; in a box, because a signal's reason can be anything. */
let lastStop: { readonly thrown: unknown } | undefined;

/** Ends a call for its signal. */
export function throwReason(signal: AbortSignal): never {
  const thrown = reasonOf(signal);
  lastStop = { thrown };
  throw thrown;
}

/** Ends a call before it begins, if its signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal !== undefined && isAborted(signal)) throwReason(signal);
}

/** Ends a call for its deadline, or that of a call around it. */
export function throwTimeout(cause: TrapError | undefined): never {
  const thrown = timeoutError(cause);
  lastStop = { thrown };
  throw thrown;
}

export function timeoutError(cause: TrapError | undefined): SandboxError {
  return new SandboxError('the call has taken longer than its timeout', {
    code: 'ERR_SANDBOX_TIMEOUT',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Whether this is what the last stopped call has thrown. */
export function isStop(thrown: unknown): boolean {
  return lastStop !== undefined && Object.is(lastStop.thrown, thrown);
}
