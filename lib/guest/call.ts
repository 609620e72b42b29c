/** Synchronous calls into guests. */

import './start';
import type { TrapError } from '../base/errors';
import { translate } from '../binding/failures';
import { hot } from '../binding/native';
import { layout, scratchViews } from '../binding/scratch';
import type { Answerer } from './answerer';
import { context as contextOf, runWithinOpenCall } from './call_context';
import type { StopConditions } from './call_options';
import { abortedOf, type Signal } from './signal';
import { boundsWithin, type CallName, throwReason, throwTimeout, timeoutError } from './stop';
import { trapError } from './trap';

const { words, longs, doubles } = scratchViews;
const { TIMEOUT, FUEL, WORD_HAS_FUEL, WORD_STATUS, STATUS_DONE } = layout;
const context = contextOf;

/**
 * Runs a guest by a native function whose arguments stand in the scratch buffer, and returns whether it has ended without a trap. `answerer`
 * answers the calls that the guest makes meanwhile. `argument` is to blame if the native function refuses. No code of others runs before the
 * guest begins, nor after it is done: what it left in the scratch buffer must be read at once.
 */
export function enterGuest(
  answerer: Answerer,
  enter: () => void,
  argument: string,
  timeout: number,
  fuel: bigint | undefined,
): boolean {
  const before = context.answerer;
  context.answerer = answerer;
  doubles[TIMEOUT] = timeout;
  if (fuel === undefined) {
    words[WORD_HAS_FUEL] = 0;
  } else {
    words[WORD_HAS_FUEL] = 1;
    longs[FUEL] = fuel;
  }
  try {
    enter();
  } catch (error) {
    context.parked = undefined;
    throw translate(error, argument);
  } finally {
    context.answerer = before;
  }
  return words[WORD_STATUS] === STATUS_DONE;
}

/** A call with something to check before and after it. */
export interface Entry<T> {
  readonly answerer: Answerer;
  readonly enter: () => void;
  readonly argument: string;
  /** Undefined for a start function. */
  readonly exportName: string | undefined;
  readonly conditions: StopConditions | undefined;
  /** Writes the arguments to the scratch buffer, and does nothing else. */
  write(): void;
  /** Reads out what the call has left, whether it trapped or not; nothing else. */
  ended(): void;
  /** Reads the results out; nothing else. */
  read(): T;
}

/** Runs a guest within its stop conditions, and within those of the calls around it. */
export function runBounded<T>(entry: Entry<T>): T {
  return runWithinOpenCall(() => runWithSignals(entry));
}

function runWithSignals<T>(entry: Entry<T>): T {
  const { conditions } = entry;
  const { signals, bounds } = context;
  if (conditions?.signal !== undefined) context.signals = { signal: conditions.signal, around: signals };
  context.bounds = boundsWithin(conditions, bounds);
  let outcome: (() => T) | undefined;
  let ended: Signal | undefined;
  try {
    ended = abortedOf(context.signals);
    if (ended === undefined) {
      outcome = outcomeOf(entry);
      ended = abortedOf(context.signals);
    }
    // A signal that is aborted by now ends the call, whatever became of the guest.
    if (ended !== undefined) throwReason(ended);
    return (outcome as () => T)();
  } finally {
    context.signals = signals;
    context.bounds = bounds;
  }
}

/** Runs the guest, reads out whatever it has left, and gives what makes a result or an error of that. */
function outcomeOf<T>(entry: Entry<T>): () => T {
  const { answerer, enter, argument, exportName, conditions } = entry;
  let failed: () => Error;
  try {
    entry.write();
    const isDone = enterGuest(answerer, enter, argument, conditions?.timeout ?? 0, conditions?.fuel);
    entry.ended();
    if (isDone) {
      const value = entry.read();
      return () => value;
    }
    failed = failure(exportName, conditions);
  } catch (error) {
    return () => {
      throw error;
    };
  }
  return () => {
    throw failed();
  };
}

/** Takes over why a call has just come back trapped, and gives what makes its error. */
export function failure(exportName: string | undefined, conditions: StopConditions | undefined): () => Error {
  const call: CallName = { exportName, conditions, bounds: context.bounds };
  const thrown = context.parked;
  context.parked = undefined;
  const failed = hot.takeFailure();
  return () => {
    if (failed.trap !== 'interrupted') return trapError(failed, thrown ?? failed.parked, call);
    return throwTimeout(timeoutError(call, trapError(failed, undefined, call) as TrapError));
  };
}
