/** The calls that come out of guests on this thread. */

import { layout, scratchViews } from '../binding/scratch';
import type { Answerer } from './answerer';
import { context as contextOf } from './call_context';
import { hostCalls as hostCallsOf, isTraced as isTracedOf } from './diagnostics';
import { HostTrap } from './host_trap';
import { abortedOf } from './signal';

const { words, ints } = scratchViews;
const { GAS, SLOTS, WORD_FUNC, WORD_HAS_GAS, WORD_STATUS, STATUS_DONE, STATUS_TRAPPED } = layout;
const context = contextOf;
const hostCalls = hostCallsOf;
const isTraced = isTracedOf;

/**
 * Called by native code, once for each call; everything else stands in the scratch buffer. It never throws, as long as there is any
 * stack: an exception that no JavaScript catches counts as uncaught to debuggers and to `--abort-on-uncaught-exception`, even if the caller
 * of the guest catches what becomes of it. What is thrown is kept for that caller, and a status tells native code to trap the guest.
 */
export function answerHostCall(): void {
  try {
    const index = words[WORD_FUNC];
    const hasCarried = words[WORD_HAS_GAS] === 1;
    const { answerer } = context;
    if (answerer === undefined) throw new HostTrap('no guest is running');
    if (isTraced(hostCalls)) answerTraced(answerer, index, hasCarried);
    else answerer.answer(index, hasCarried);
    if (context.signals !== undefined) trapIfAborted(answerer.guest.functionImports[index].slots);
    words[WORD_STATUS] = STATUS_DONE;
  } catch (thrown) {
    context.parked = { thrown };
    words[WORD_STATUS] = STATUS_TRAPPED;
  }
}

/** Subscribers may use guests, so the arguments are kept from them, and the answer too. */
function answerTraced(answerer: Answerer, index: number, hasCarried: boolean): void {
  const { guest } = answerer;
  const { slots } = guest.functionImports[index];
  let kept = keptSlots(slots);
  hostCalls.traceSync(
    () => {
      putBack(kept);
      answerer.answer(index, hasCarried);
      kept = keptSlots(slots);
    },
    guest.describeCall(index, false),
  );
  putBack(kept);
}

/** A copy of the carried value and so many slots of the scratch buffer, to be put back after code of others has run. */
function keptSlots(slots: number): Int32Array {
  const kept = new Int32Array(2 * (SLOTS - GAS + slots));
  for (let index = 0; index < kept.length; index += 1) kept[index] = ints[2 * GAS + index];
  return kept;
}

function putBack(kept: Int32Array): void {
  for (let index = 0; index < kept.length; index += 1) ints[2 * GAS + index] = kept[index];
}

/**
 * No event reaches a signal while a guest computes, but a host function may have aborted it. To look at a signal may run code of others.
 */
function trapIfAborted(slots: number): void {
  const kept = keptSlots(slots);
  if (abortedOf(context.signals) !== undefined) throw new HostTrap('the call was aborted');
  putBack(kept);
}
