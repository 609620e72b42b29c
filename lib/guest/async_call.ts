/** Asynchronous calls: they run on native threads, and settle a Promise. */

import './start';
import { AsyncResource } from 'node:async_hooks';
import { BusyError, type TrapError } from '../base/errors';
import { translate } from '../binding/failures';
import { hot, native } from '../binding/native';
import { layout, scratchViews } from '../binding/scratch';
import type { Answerer } from './answerer';
import { context, expectAsyncCalls, findHostCall, openHostCall } from './call_context';
import type { StopConditions } from './call_options';
import { addCall } from './events';
import type { AsyncCall } from './pending_answer';
import {
  abortedOf,
  isStackExhausted,
  listen,
  listenNoMore,
  reasonOf,
  type Signal,
  signalError,
} from './signal';
import { boundsWithin, type CallName, timeoutError } from './stop';
import { trapError } from './trap';

const { words, longs, doubles } = scratchViews;
const { WORD_HAS_FUEL, EVENT_TRAPPED, EVENT_REFUSED, TIMEOUT, FUEL } = layout;

/** What becomes of the errors of an asynchronous call. */
export interface Translations {
  /** Of the native code's refusal to begin or to make what was asked for. */
  refused(error: unknown): unknown;
  /** Of a guest's trap, if it is not to be as it is. */
  trapped?(error: unknown): unknown;
}

/** What an asynchronous call needs. */
export interface CallParts<T> extends Translations {
  /** What answers the guest's calls; undefined if it makes none. */
  readonly answerer: Answerer | undefined;
  readonly conditions: StopConditions | undefined;
  /** The argument to blame if native code refuses. */
  readonly argument: string;
  /** What messages call it: an export, or what else is done. */
  readonly exportName: string | undefined;
  readonly doing?: string;
  /** Makes the native call, with arguments from the scratch buffer, which has the timeout already, and gives its number. */
  make(): number;
  /** Reads the result when the call is over, from the scratch buffer; nothing else. */
  result(id: number): T;
  /** The call is over, however; what it has left is in the scratch buffer, to be read and nothing else. */
  ended?(): void;
}

/** What an asynchronous call came to. Errors are made by the code that throws them, see {@link callAsync}. */
type Outcome<T> = { readonly value: T } | { readonly error: () => unknown };

/**
 * Makes an asynchronous call. The Promise rejects for whatever goes wrong.
 *
 * Errors are made after the `await`: V8 adds those functions to the stack of an error that wait for the function in which it is made. So
 * those in between must be asynchronous functions that `await`, or give the Promise on as it is.
 */
export async function callAsync<T>(parts: CallParts<T>): Promise<T> {
  const outcome = await new Promise<Outcome<T>>((resolve) => {
    begin(parts, resolve);
  });
  if ('value' in outcome) return outcome.value;
  throw outcome.error();
}

function begin<T>(parts: CallParts<T>, resolve: (outcome: Outcome<T>) => void): void {
  const { answerer, conditions, argument, exportName, doing } = parts;
  const around = openHostCall();
  // On the stack of a host call its stop conditions hold already.
  const outside = context.answerer !== undefined ? undefined : around;
  const outer = outside === undefined ? context.signals : outside.call.signals;
  const signals = conditions?.signal === undefined ? outer : { signal: conditions.signal, around: outer };
  const bounds = boundsWithin(conditions, outside === undefined ? context.bounds : outside.call.bounds);
  const name: CallName = { exportName, ...(doing === undefined ? {} : { doing }), conditions, bounds };
  const aborted = abortedOf(signals);
  if (aborted !== undefined) throw reasonOf(aborted);
  const end = (event: number) => {
    const outcome = outcomeOf(parts, call, name, event);
    return (): void => {
      for (let entry = signals; entry !== undefined; entry = entry.around) stopNoMoreBy(entry.signal, call);
      const ended = event === EVENT_REFUSED ? undefined : abortedOf(signals);
      if (ended !== undefined) resolve({ error: () => reasonOf(ended) });
      else resolve(outcome);
    };
  };
  const scope = new AsyncResource('SandboxCall', { requireManualDestroy: true });
  const call: AsyncCall = {
    id: 0,
    answerer,
    signals,
    bounds,
    around,
    scope,
    pending: undefined,
    thrown: undefined,
    isStopped: false,
    end,
  };
  try {
    // Before the call is made, so that nothing has happened yet if that fails. Here code of others may run.
    for (let entry = signals; entry !== undefined; entry = entry.around) stopBy(entry.signal, call);
    if (abortedOf(signals) !== undefined) call.isStopped = true;
    expectAsyncCalls();
    if (outside !== undefined) hot.within(outside.call.id);
    try {
      doubles[TIMEOUT] = conditions?.timeout ?? 0;
      words[WORD_HAS_FUEL] = conditions?.fuel === undefined ? 0 : 1;
      if (conditions?.fuel !== undefined) longs[FUEL] = conditions.fuel;
      call.id = parts.make();
    } finally {
      if (outside !== undefined) hot.within(0);
    }
  } catch (error) {
    for (let entry = signals; entry !== undefined; entry = entry.around) stopNoMoreBy(entry.signal, call);
    scope.emitDestroy();
    throw translate(error, argument);
  }
  addCall(call);
  if (call.isStopped) native.stopCall(call.id);
}

/** Takes out of the scratch buffer, and from native code, what a call came to. */
function outcomeOf<T>(parts: CallParts<T>, call: AsyncCall, name: CallName, event: number): Outcome<T> {
  const { refused, trapped = (error) => error } = parts;
  try {
    if (event === EVENT_REFUSED) {
      const why = native.takeRefusal();
      return { error: () => refused(why) };
    }
    parts.ended?.();
    if (event !== EVENT_TRAPPED) return { value: parts.result(call.id) };
    const failed = hot.takeFailure();
    return {
      error: () =>
        failed.trap === 'interrupted'
          ? timeoutError(name, trapError(failed, undefined, name) as TrapError)
          : trapped(trapError(failed, call.thrown, name)),
    };
  } catch (error) {
    return { error: () => error };
  }
}

/** The calls that each signal stops, and its one listener: Node warns of many. */
const stoppedBy = new WeakMap<Signal, { readonly calls: Set<AsyncCall>; readonly stop: () => void }>();

function stopBy(signal: Signal, call: AsyncCall): void {
  const known = stoppedBy.get(signal);
  if (known !== undefined) {
    known.calls.add(call);
    return;
  }
  const calls = new Set([call]);
  const stop = (): void => {
    for (const call of calls) {
      // It may be so early that there is no such call yet.
      if (call.id === 0) call.isStopped = true;
      else native.stopCall(call.id);
    }
  };
  stoppedBy.set(signal, { calls, stop });
  try {
    listen(signal, stop);
  } catch (cause) {
    stoppedBy.delete(signal);
    throw isStackExhausted(cause) ? cause : signalError(signal, { cause });
  }
}

function stopNoMoreBy(signal: Signal, call: AsyncCall): void {
  const known = stoppedBy.get(signal);
  if (known === undefined) return;
  known.calls.delete(call);
  if (known.calls.size > 0) return;
  stoppedBy.delete(signal);
  listenNoMore(signal, known.stop);
}

/** Refuses a call that is made inside a host call of its own group: to wait for it there would never end. */
function refuseInside(hasTurn: (call: number) => boolean): void {
  if (findHostCall(({ call }) => hasTurn(call.id)) !== undefined) {
    throw new BusyError(
      'an asynchronous call was made inside a supervisor call of the guest itself, or of one that shares its memory',
    );
  }
}

/** Refuses a call of that instance inside a host call of its group. */
export function refuseInsideTurnOf(instance: number): void {
  refuseInside((call) => native.occupiesInstance(call, instance));
}

/** Refuses a new instance with those memories inside a host call of the group of one of them. */
export function refuseInsideTurnOfMemories(memories: readonly number[]): void {
  refuseInside((call) => memories.some((memory) => native.occupiesMemory(call, memory)));
}
