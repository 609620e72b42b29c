/**
 * Which calls the running code is part of. Synchronous calls are on the stack. Code that runs after an `await` in a host function is still
 * part of the asynchronous call that asked for the answer; an `AsyncLocalStorage` tells which one that is.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { hot } from '../binding/native';
import type { Answerer, GuestView } from './answerer';
import type { Signals } from './signal';
import type { Bounds } from './stop';

/** An asynchronous call. */
export interface OpenCall {
  readonly id: number;
  readonly answerer: Answerer | undefined;
  /** The signals of this call and of the calls around it. */
  readonly signals: Signals | undefined;
  /** The deadlines and fuel of this call and of the calls around it. */
  readonly bounds: Bounds | undefined;
  /** The host call in which it was made. */
  readonly around: OpenHostCall | undefined;
}

/** A host call that was made in an asynchronous call. */
export interface OpenHostCall {
  readonly call: OpenCall;
  /** Whether the guest still waits for the answer. */
  readonly isOpen: boolean;
}

/** The state of this environment's calls. Guests on this thread run one inside another, never side by side. */
class CallContext {
  /** What answers the innermost guest. */
  answerer: Answerer | undefined = undefined;
  /** The signals of the calls on the stack. */
  signals: Signals | undefined = undefined;
  /** The deadlines and fuel of the calls on the stack. */
  bounds: Bounds | undefined = undefined;
  /** What a host function has thrown, until the call that it ends is back. */
  parked: { readonly thrown: unknown } | undefined = undefined;
  /** The host call that the running code is part of. Absent until there is an asynchronous call, because asking it costs time. */
  hostCalls: AsyncLocalStorage<OpenHostCall> | undefined = undefined;
}

/** Hot files take it into a constant of their own. */
export const context = new CallContext();

/** To be called before the first asynchronous call is made. */
export function expectAsyncCalls(): void {
  context.hostCalls ??= new AsyncLocalStorage();
}

/** Whether nothing has to be checked before or after a call without stop conditions of its own. */
export function isUnbounded(): boolean {
  return context.signals === undefined && (context.hostCalls === undefined || context.answerer !== undefined);
}

/** The host call that the running code is part of, if its guest still waits. */
export function openHostCall(): OpenHostCall | undefined {
  const hostCall = context.hostCalls?.getStore();
  return hostCall?.isOpen === true ? hostCall : undefined;
}

/** The innermost open host call around the running code that `matches` accepts. */
export function findHostCall(matches: (hostCall: OpenHostCall) => boolean): OpenHostCall | undefined {
  let hostCall = context.hostCalls?.getStore();
  while (hostCall !== undefined && !(hostCall.isOpen && matches(hostCall))) hostCall = hostCall.call.around;
  return hostCall;
}

/** The number of the asynchronous call of this guest in whose host call the running code is. */
export function asyncCallOf(guest: GuestView): number | undefined {
  return findHostCall(({ call }) => call.answerer?.guest === guest)?.call.id;
}

/** What answers the innermost guest, also for code that runs after an `await` in one of its host calls. */
export function innermost(): Answerer | undefined {
  return context.answerer ?? openHostCall()?.call.answerer;
}

/** Whether the running code is part of a host call that may be answered later. */
export function canWait(): boolean {
  const asynchronous = openHostCall()?.call.answerer;
  return asynchronous !== undefined && innermost() === asynchronous;
}

/** Runs code with the stop conditions of the asynchronous call that it is part of, if it is part of one that is not on the stack. */
export function runWithinOpenCall<T>(run: () => T): T {
  if (context.hostCalls === undefined || context.answerer !== undefined) return run();
  const hostCall = openHostCall();
  return hostCall === undefined ? run() : runAsPartOf(hostCall.call, undefined, run);
}

/** Runs code as a part of an asynchronous call, with its stop conditions. */
export function runAsPartOf<T>(call: OpenCall, answerer: Answerer | undefined, run: () => T): T {
  hot.within(call.id);
  try {
    const { answerer: answererBefore, signals, bounds } = context;
    context.answerer = answerer;
    context.signals = call.signals;
    context.bounds = call.bounds;
    try {
      return run();
    } finally {
      context.answerer = answererBefore;
      context.signals = signals;
      context.bounds = bounds;
    }
  } finally {
    hot.within(0);
  }
}
