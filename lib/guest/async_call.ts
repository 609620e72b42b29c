/**
 * The asynchronous calls of this environment, on JavaScript's side: takes their events from native code, answers what their guests
 * ask, and settles their Promises. `crate/node/calls.rs` is the other side.
 *
 * Code that runs after an `await` in a supervisor function is still inside that supervisor call. Which one it is is known by an
 * `AsyncLocalStorage`.
 */

import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { BusyError, type TrapError } from '../base/errors';
import type { Value } from '../base/values';
import { layout, native, scratchViews, translate } from '../binding/native';
import { AsyncContextPeer, type Done } from '../gear/protocol/async_peer';
import {
  callByProtocol,
  checkedGas,
  currentBounds,
  currentSignals,
  GuestCall,
  inCall,
  isGasResult,
  isInCall,
  isPromise,
  noFunction,
  PENDING,
  type Running,
  type RunningGuest,
  type SupervisorResult,
  setAsyncHooks,
  setDrain,
  supervisorEvent,
  trapError,
} from './call';
import { isTraced, type SupervisorEvent, supervisorCalls } from './diagnostics';
import type { Limits } from './options';
import {
  abortedOf,
  type Bounds,
  boundsWithin,
  type CallName,
  isStackExhausted,
  listen,
  listenNoMore,
  reasonOf,
  type Signal,
  type Signals,
  signalError,
  timeoutError,
} from './stop';

const { words, longs, doubles } = scratchViews;
const {
  WORD_CALL,
  WORD_EVENT,
  WORD_FUNC,
  WORD_HAS_FUEL,
  WORD_HAS_GAS,
  WORD_HAS_THROWN,
  WORD_IS_NEW_TURN,
  WORD_LOOKS,
  GAS,
} = layout;
const { EVENT_TIME_OVER, EVENT_ASKED, EVENT_DONE, EVENT_TRAPPED, EVENT_REFUSED, TIMEOUT, FUEL } = layout;

/** What becomes of the errors of an asynchronous call. */
export interface Translations {
  /** Of the native code's refusal to begin or to make what was asked for. */
  refused(error: unknown): unknown;
  /** Of a guest's trap, if it is not to be as it is. */
  trapped?(error: unknown): unknown;
}

/** What an asynchronous call needs. */
export interface CallParts<T> extends Translations {
  /** What answers the guest's calls; undefined if it has none. */
  readonly running: Running | undefined;
  readonly limits: Limits | undefined;
  /** Who is to blame if native code refuses. */
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

/** What an asynchronous call came to. Errors are made by whoever throws them, see {@link callAsync}. */
type Outcome<T> = { readonly value: T } | { readonly error: () => unknown };

/** A call of a guest to its supervisor, until that has answered. */
class Turn {
  readonly call: AsyncCall;
  isOpen = true;
  /** Whether the guest has been told that the answer takes time. */
  isPutOff = false;
  /** Which of its imports the guest calls. */
  index = 0;
  /** The guest's gas under Version 2. */
  gas: bigint | undefined;
  /** The guest's arguments for a function of a `JsSupervisor`. */
  args: Value[] | undefined;
  /** The guest's arguments, encoded, for any other supervisor. */
  encoded: Uint8Array | undefined;
  /** What the supervisor function may use until the turn is over, if it is one of a `JsSupervisor`. */
  guestCall: GuestCall | undefined;
  /** What subscribers are told, if there were any when the turn began. */
  event: SupervisorEvent | undefined;
  /** Why the arguments could not be read: there may be no memory for them. */
  unread: { readonly error: unknown } | undefined;

  /** Takes what the guest asks out of the scratch buffer, before any code of others runs. */
  constructor(call: AsyncCall) {
    this.call = call;
    const { running } = call;
    if (running === undefined) return;
    this.index = words[WORD_FUNC];
    const hasGas = words[WORD_HAS_GAS] === 1;
    const site = running.guest.sites[this.index];
    if (hasGas) this.gas = longs[GAS];
    try {
      if (running.asyncContext === undefined) this.args = site.readArguments();
      else this.encoded = site.encodeArguments(hasGas);
    } catch (error) {
      this.unread = { error };
    }
  }

  close(): void {
    this.isOpen = false;
    this.guestCall?.expire();
  }

  /** Tells subscribers that a supervisor call is over whose answer took time. */
  tellSettled(): void {
    if (this.event === undefined || !this.isPutOff) return;
    if ('error' in this.event) supervisorCalls.publish('error', this.event);
    supervisorCalls.publish('asyncStart', this.event);
    supervisorCalls.publish('asyncEnd', this.event);
  }
}

/** Which supervisor call the running code is part of. */
const turns = new AsyncLocalStorage<Turn | undefined>();

/** The open supervisor call of an asynchronous call that the running code is part of. */
function openTurn(): Turn | undefined {
  const turn = turns.getStore();
  return turn?.isOpen === true ? turn : undefined;
}

interface AsyncCall {
  id: number;
  readonly running: Running | undefined;
  /** Those of this call and of the calls around it. */
  readonly signals: Signals | undefined;
  readonly bounds: Bounds | undefined;
  /** The supervisor call in which it was made. */
  readonly around: Turn | undefined;
  /** Brings the caller's own async context back. */
  readonly scope: AsyncResource;
  turn: Turn | undefined;
  thrown: { readonly thrown: unknown } | undefined;
  /** Whether a signal has stopped it before it had a number. */
  isStopped: boolean;
  /** The call is over: takes out of the scratch buffer what it came to, and gives what tells the caller. */
  end: (event: number) => () => void;
}

/** The calls that are not over, by number. No `Map`, whose methods are anybody's to patch: an event must be read out before they run. */
const calls: Record<number, AsyncCall | undefined> = Object.create(null);
let callsAlive = 0;

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
  const { running, limits, argument, exportName, doing } = parts;
  const around = openTurn();
  // On the stack of a supervisor call its limits hold already.
  const outside = isInCall() ? undefined : around;
  const outer = outside === undefined ? currentSignals() : outside.call.signals;
  const signals = limits?.signal === undefined ? outer : { signal: limits.signal, around: outer };
  const bounds = boundsWithin(limits, outside === undefined ? currentBounds() : outside.call.bounds);
  const name: CallName = { exportName, ...(doing === undefined ? {} : { doing }), limits, bounds };
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
    running,
    signals,
    bounds,
    around,
    scope,
    turn: undefined,
    thrown: undefined,
    isStopped: false,
    end,
  };
  try {
    // Before the call is made, so that nothing has happened yet if that fails. Here code of others may run.
    for (let entry = signals; entry !== undefined; entry = entry.around) stopBy(entry.signal, call);
    if (abortedOf(signals) !== undefined) call.isStopped = true;
    setAsyncHooks(hooks);
    if (outside !== undefined) native.within(outside.call.id);
    try {
      doubles[TIMEOUT] = limits?.timeout ?? 0;
      words[WORD_HAS_FUEL] = limits?.fuel === undefined ? 0 : 1;
      if (limits?.fuel !== undefined) longs[FUEL] = limits.fuel;
      call.id = parts.make();
    } finally {
      if (outside !== undefined) native.within(0);
    }
  } catch (error) {
    for (let entry = signals; entry !== undefined; entry = entry.around) stopNoMoreBy(entry.signal, call);
    scope.emitDestroy();
    throw translate(error, argument);
  }
  calls[call.id] = call;
  callsAlive += 1;
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
    const failed = native.takeFailure();
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

/** Refuses a call that is made inside a supervisor call of its own group: to wait for it there would never end. */
function refuseInside(hasTurn: (call: number) => boolean): void {
  for (let turn = turns.getStore(); turn !== undefined; turn = turn.call.around) {
    if (turn.isOpen && hasTurn(turn.call.id)) {
      throw new BusyError(
        'an asynchronous call was made inside a supervisor call of the guest itself, or of one that shares its memory',
      );
    }
  }
}

/** Refuses a call of that instance inside a supervisor call of its group. */
export function refuseInsideTurnOf(instance: number): void {
  refuseInside((call) => native.hasTurnOfInstance(call, instance));
}

/** Refuses a new instance with those memories inside a supervisor call of the group of one of them. */
export function refuseInsideTurnOfMemories(memories: readonly number[]): void {
  refuseInside((call) => memories.some((memory) => native.hasTurnOfMemory(call, memory)));
}

const hooks = {
  within<T>(run: () => T): T {
    const turn = openTurn();
    return turn === undefined ? run() : inContext(turn.call, undefined, run);
  },
  running: () => openTurn()?.call.running,
  callOf(guest: RunningGuest): number | undefined {
    for (let turn = turns.getStore(); turn !== undefined; turn = turn.call.around) {
      if (turn.isOpen && turn.call.running?.guest === guest) return turn.call.id;
    }
    return undefined;
  },
};

/** Runs code with the limits of a call. */
function inContext<T>(call: AsyncCall, running: Running | undefined, run: () => T): T {
  native.within(call.id);
  try {
    return inCall(running, call, run);
  } finally {
    native.within(0);
  }
}

// Events

/** Whether the event loop has had a turn since the last event was taken. */
let isNewTurn = true;
let isDrainScheduled = false;

/** Called by native code when there are events and nobody takes them. */
function drainFromLoop(): void {
  isNewTurn = true;
  drainAll();
}

/** A Promise of a supervisor's is settled: its guest may ask again at once. The event loop gets its turn all the same. */
function drainFromPromise(): void {
  if (!isDrainScheduled) drainAll();
}

/** If taking an event fails, because there is no memory for it, the events after it are taken all the same. */
function drainAll(): void {
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
    words[WORD_IS_NEW_TURN] = isNewTurn ? 1 : 0;
    words[WORD_LOOKS] = looks ? 1 : 0;
    isNewTurn = false;
    native.nextEvent();
    const event = words[WORD_EVENT];
    if (event === EVENT_ASKED) {
      const call = calls[words[WORD_CALL]];
      // A Promise settles, and its call goes on, only after this.
      if (call !== undefined) looks = answerIn(new Turn(call));
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

let isTurnEnding = false;

/** After the next turn of the event loop, what is taken counts from 0 again. */
function endTurnLater(): void {
  if (isTurnEnding || callsAlive === 0) return;
  isTurnEnding = true;
  setImmediate(() => {
    isTurnEnding = false;
    isNewTurn = true;
  }).unref();
}

function drainLater(): void {
  if (isDrainScheduled) return;
  isDrainScheduled = true;
  setImmediate(() => {
    isDrainScheduled = false;
    drainFromLoop();
  });
}

function finish(id: number, event: number): void {
  const call = calls[id];
  if (call === undefined) return;
  delete calls[id];
  callsAlive -= 1;
  const tell = call.end(event);
  const { turn } = call;
  if (turn?.isOpen === true) {
    turn.close();
    if (turn.event !== undefined) turn.event.isStopped = true;
    turn.tellSettled();
  }
  tell();
  call.scope.emitDestroy();
}

// Supervisor calls

/** Answers what a guest asks, or has it wait. Tells whether it has its answer. */
function answerIn(turn: Turn): boolean {
  try {
    return turn.call.scope.runInAsyncScope(answer, undefined, turn) as boolean;
  } catch (thrown) {
    // There may be no memory to call anything.
    if (turn.isOpen) fail(turn, thrown);
    return true;
  }
}

function answer(turn: Turn): boolean {
  const { call } = turn;
  call.turn = turn;
  return turns.run(turn, () =>
    inContext(call, call.running, () => {
      const { running } = call;
      try {
        if (running === undefined) throw new Error('the guest has no supervisor');
        if (turn.unread !== undefined) throw turn.unread.error;
        if (!isTraced(supervisorCalls)) return answerNow(turn, running);
        turn.event = supervisorEvent(running.guest, turn.index, true);
        return supervisorCalls.traceSync(() => answerNow(turn, running), turn.event);
      } catch (thrown) {
        fail(turn, thrown);
        return true;
      }
    }),
  );
}

function answerNow(turn: Turn, running: Running): boolean {
  const ctx = running.asyncContext;
  if (ctx === undefined) return answerDirectly(turn, running);
  return answerByProtocol(turn, running, new AsyncContextPeer(ctx, turn.encoded as Uint8Array));
}

function answerDirectly(turn: Turn, running: Running): boolean {
  const { guest, functions } = running;
  const { index, gas } = turn;
  const site = guest.sites[index];
  const call = new GuestCall(guest, gas);
  turn.guestCall = call;
  const take = (result: unknown): void => {
    call.expire();
    if (gas !== undefined && isGasResult(result as SupervisorResult)) {
      const { gas: left, value } = result as { gas: bigint; value?: unknown };
      const checked = checkedGas(left, site.name);
      site.writeResult(value);
      longs[GAS] = checked;
    } else {
      site.writeResult(result);
      if (gas !== undefined) longs[GAS] = gas;
    }
    succeed(turn);
  };
  const fn = functions[guest.functions[index]] ?? noFunction(guest.functions[index]);
  const result: unknown = fn(turn.args as Value[], call);
  if (!isPromise(result)) {
    take(result);
    return true;
  }
  putOff(turn);
  whenSettled(turn, result as unknown as PromiseLike<unknown>, take, (thrown) => fail(turn, thrown));
  return false;
}

function answerByProtocol(turn: Turn, running: Running, peer: AsyncContextPeer): boolean {
  peer.begin();
  try {
    callByProtocol(running.guest, peer, turn.index, turn.gas !== undefined);
  } catch (thrown) {
    if (thrown !== PENDING || peer.pending === undefined) throw thrown;
    putOff(turn);
    const go = (done: Done): void => {
      peer.settle(done);
      answerByProtocol(turn, running, peer);
    };
    const failed = (reason: unknown): void => go({ thrown: reason });
    const ended = (done: Done): void => {
      peer.abandon();
      peer.settle(done);
      freeByProtocol(turn, running, peer);
    };
    whenSettled(turn, peer.pending, (value) => go({ value }), failed, ended);
    return false;
  }
  succeed(turn);
  return true;
}

/** Takes the steps that free what the steps of a call that was ended have allocated. */
function freeByProtocol(turn: Turn, running: Running, peer: AsyncContextPeer): void {
  peer.begin();
  try {
    callByProtocol(running.guest, peer, turn.index, turn.gas !== undefined);
  } catch {
    // Nobody waits for what becomes of it.
    if (peer.pending === undefined) return;
    const go = (done: Done): void => {
      peer.settle(done);
      freeByProtocol(turn, running, peer);
    };
    Promise.resolve(peer.pending).then(
      (value) => go({ value }),
      (thrown) => go({ thrown }),
    );
  }
}

/**
 * Goes on with a supervisor call when a Promise is settled, unless that call has been ended meanwhile: then nobody waits any more, and
 * `ended` may clear up.
 */
function whenSettled(
  turn: Turn,
  promise: PromiseLike<unknown>,
  fulfilled: (value: unknown) => void,
  rejected: (reason: unknown) => void,
  ended: (done: Done) => void = () => {},
): void {
  const go = (next: (outcome: unknown) => void, outcome: unknown): void => {
    inContext(turn.call, turn.call.running, () => {
      try {
        next(outcome);
      } catch (thrown) {
        fail(turn, thrown);
      }
    });
    if (!turn.isOpen) drainFromPromise();
  };
  Promise.resolve(promise).then(
    (value) => (turn.isOpen ? go(fulfilled, value) : ended({ value })),
    (thrown) => (turn.isOpen ? go(rejected, thrown) : ended({ thrown })),
  );
}

function putOff(turn: Turn): void {
  if (turn.isPutOff) return;
  turn.isPutOff = true;
  words[WORD_CALL] = turn.call.id;
  native.putOff();
}

/** The answer is in the scratch buffer. */
function succeed(turn: Turn): void {
  give(turn, 0);
}

function fail(turn: Turn, thrown: unknown): void {
  turn.call.thrown = { thrown };
  if (turn.event !== undefined) turn.event.error = thrown;
  give(turn, 1);
}

function give(turn: Turn, hasThrown: number): void {
  turn.close();
  words[WORD_CALL] = turn.call.id;
  words[WORD_HAS_THROWN] = hasThrown;
  native.answer();
  turn.tellSettled();
}

setDrain(drainFromLoop);
