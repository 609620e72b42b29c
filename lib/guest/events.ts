/**
 * Takes the events of asynchronous calls from native code: a guest makes a host call, or a call is over. `crate/node/calls.rs` is the other
 * side.
 */

import { hot } from '../binding/native';
import { layout, scratchViews } from '../binding/scratch';
import { context, runAsPartOf } from './call_context';
import { hostCalls, isTraced } from './diagnostics';
import { type AsyncCall, PendingAnswer } from './pending_answer';

const { words } = scratchViews;
const { WORD_CALL, WORD_EVENT, WORD_IS_NEW_TICK, WORD_LOOKS } = layout;
const { EVENT_TIME_OVER, EVENT_HOST_CALL, EVENT_DONE, EVENT_TRAPPED, EVENT_REFUSED } = layout;

/**
 * The calls that are not over, by number. No `Map`, whose methods anybody can patch: an event must be read out before code of others runs.
 */
const calls: Record<number, AsyncCall | undefined> = Object.create(null);
let callsAlive = 0;

/** From now on the events of this call are taken. */
export function addCall(call: AsyncCall): void {
  calls[call.id] = call;
  callsAlive += 1;
}

/** Whether a new tick of the event loop has begun since the last event was taken. */
let isNewTick = true;
let isDrainScheduled = false;
let isTurnEnding = false;

/** Called by native code when there are events and nobody takes them. */
export function takeEvents(): void {
  isNewTick = true;
  drainSafely();
}

/** A guest has got an answer that took time, so it may ask again at once. The event loop gets its turn all the same. */
function takeEventsAfterAnswer(): void {
  if (!isDrainScheduled) drainSafely();
}

/** If taking an event fails, because there is no memory for it, the events after it are taken all the same. */
function drainSafely(): void {
  let isDone = false;
  try {
    drain();
    isDone = true;
  } finally {
    if (!isDone) drainLater();
  }
}

function drain(): void {
  let looks = true;
  while (true) {
    words[WORD_IS_NEW_TICK] = isNewTick ? 1 : 0;
    words[WORD_LOOKS] = looks ? 1 : 0;
    isNewTick = false;
    hot.nextEvent();
    const event = words[WORD_EVENT];
    if (event === EVENT_HOST_CALL) {
      const call = calls[words[WORD_CALL]];
      // A Promise settles, and its call goes on, only after this.
      if (call !== undefined) looks = answerInScope(new PendingAnswer(call, takeEventsAfterAnswer));
    } else if (event === EVENT_DONE || event === EVENT_TRAPPED || event === EVENT_REFUSED) {
      finish(words[WORD_CALL], event);
      looks = false;
    } else {
      if (event === EVENT_TIME_OVER) drainLater();
      else endTurnLater();
      return;
    }
  }
}

/** After the next turn of the event loop, what is taken counts from 0 again. */
function endTurnLater(): void {
  if (isTurnEnding || callsAlive === 0) return;
  isTurnEnding = true;
  setImmediate(() => {
    isTurnEnding = false;
    isNewTick = true;
  }).unref();
}

function drainLater(): void {
  if (isDrainScheduled) return;
  isDrainScheduled = true;
  setImmediate(() => {
    isDrainScheduled = false;
    takeEvents();
  });
}

function finish(id: number, event: number): void {
  const call = calls[id];
  if (call === undefined) return;
  delete calls[id];
  callsAlive -= 1;
  const tell = call.end(event);
  if (call.pending?.isOpen === true) call.pending.stop();
  tell();
  call.scope.emitDestroy();
}

/** Answers a host call, or begins to. Returns whether the guest has its answer. */
function answerInScope(pending: PendingAnswer): boolean {
  try {
    return pending.call.scope.runInAsyncScope(answer, undefined, pending) as boolean;
  } catch (thrown) {
    // There may be no memory to call anything.
    if (pending.isOpen) pending.fail(thrown);
    return true;
  }
}

function answer(pending: PendingAnswer): boolean {
  const { call } = pending;
  call.pending = pending;
  const run = (): boolean =>
    runAsPartOf(call, call.answerer, () => {
      try {
        if (!isTraced(hostCalls) || call.answerer === undefined) return pending.answer();
        pending.event = call.answerer.guest.describeCall(pending.index, true);
        return hostCalls.traceSync(() => pending.answer(), pending.event);
      } catch (thrown) {
        pending.fail(thrown);
        return true;
      }
    });
  return context.hostCalls === undefined ? run() : context.hostCalls.run(pending, run);
}
