/**
 * Answers the calls that come out of guests. Native code calls {@link dispatch} once for each of them, with everything
 * else in the scratch buffer. From here the call goes straight to a function of a `JsSupervisor`, or through the six steps
 * of the protocol to any other `SupervisorContext`; the outcome is the same.
 *
 * Mirrors `dispatch_common`, `dispatch_function` and `dispatch_function_v2` of `gear_sandbox_host::sandbox`. As there, the
 * arguments are freed also when `invoke` fails, and a failed deallocation wins over an earlier failure. Other than there, a
 * result of the wrong type traps.
 */

import { types } from 'node:util';
import { describe } from '../base/arguments';
import {
  CodecError,
  InternalError,
  LimitError,
  SandboxError,
  TrapError,
  type TrapKind,
  type WasmFrame,
} from '../base/errors';
import { shortName } from '../base/short_text';
import type { Value } from '../base/values';
import { layout, type NativeFailure, native, scratchViews, setDispatch, translate } from '../binding/native';
import type { SandboxInstance } from '../gear/instance';
import type { Memory } from '../gear/memory';
import { frames as framesOf } from '../gear/protocol/frames';
import { packed } from '../gear/protocol/packed';
import type { ProtocolPeer } from '../gear/protocol/peer';
import { decodeDispatchResult, decodeDispatchResultV2 } from '../gear/scale/index';
import type { AsyncSupervisorContext, SupervisorFuncIndex } from '../gear/supervisor';
import { Instantiate } from './backend';
import { isTraced, type SupervisorEvent, supervisorCalls } from './diagnostics';
import { messageOf, SupervisorTrap } from './host_trap';
import { getWord, type ImportSite } from './import_signature';
import type { Limits } from './options';
import {
  abortedOf,
  type Bounds,
  boundsWithin,
  type CallName,
  type Signal,
  type Signals,
  throwReason,
  throwTimeout,
  timeoutError,
  trapMessage,
} from './stop';

const { words, ints, longs, doubles } = scratchViews;
const packedWords = packed.words;
const frames = framesOf;
const { GAS, SLOTS, TIMEOUT, FUEL, WORD_FUNC, WORD_HAS_FUEL, WORD_HAS_GAS } = layout;
const { WORD_STATUS, STATUS_DONE, STATUS_TRAPPED } = layout;

/**
 * What a supervisor function of a {@link JsSupervisor} returns: a value of exactly the type of the guest's import, undefined for none, an
 * array of values if the import has several results, or, under `Instantiate.Version2`, any of these with the gas that is left. Mirrors
 * `sp_wasm_interface_common::ReturnValue` and `gear_sandbox_env::WasmReturnValue`, which have room for one value.
 */
export type SupervisorResult =
  | Value
  | readonly Value[]
  | undefined
  | {
      /** The gas that is left, an i64: the new value of the guest's global `gear_gas`. */
      readonly gas: bigint;
      /** The value; absent if the function returns nothing. */
      readonly value?: Value | readonly Value[] | undefined;
    };

/**
 * A function of a {@link JsSupervisor}. It gets the guest's arguments and the call, and may return a Promise if the call into the guest is
 * asynchronous. What it throws traps the guest. Mirrors `gear_sandbox::HostFuncType`.
 *
 * @example
 * ```ts
 * const charge: SupervisorFunction = ([price], { gas }) => ({ gas: (gas ?? 0n) - BigInt(Value.toNumber(price)) });
 * const index = supervisor.define(charge);
 * ```
 */
export type SupervisorFunction = (
  args: Value[],
  call: SupervisorCall,
  // biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement is a fine supervisor function
) => SupervisorResult | void | PromiseLike<SupervisorResult | void>;

/** The running guest, as its calls need it. */
export interface RunningGuest {
  readonly version: Instantiate;
  readonly sites: readonly ImportSite[];
  /** For each site the supervisor's index of the function. */
  readonly functions: readonly SupervisorFuncIndex[];
  /** Undefined in a start function, when there is no instance to hand out yet. */
  instance(): SandboxInstance | undefined;
  memory(): Memory | undefined;
}

/** What answers a guest's calls. Made once for a guest and a supervisor that call one another again and again. */
export interface Running {
  readonly guest: RunningGuest;
  /** The supervisor as the caller knows it. */
  readonly ctx: object;
  /** Whether it must be checked before each call, because its methods are the user's to change. */
  readonly isChecked: boolean;
  /** Who takes the six steps; undefined if `functions` are called without them. */
  readonly peer: ProtocolPeer | undefined;
  /** The functions of a `JsSupervisor`. */
  readonly functions: readonly SupervisorFunction[];
  /** In an asynchronous call: who takes the six steps, some of them by Promises. */
  readonly asyncContext: AsyncSupervisorContext | undefined;
}

/** The signals of the calls that are on the stack, if they have any. */
let signals: Signals | undefined;

/** The innermost call. Guests of this environment run one inside another, never side by side. */
let running: Running | undefined;

/** The deadlines and budgets of those calls. */
let bounds: Bounds | undefined;

/** What a supervisor has thrown, from then until the call that it ends is back. */
let parked: { readonly thrown: unknown } | undefined;

/** Whether nothing is to be looked at before or after a call that has no limits of its own: it may go straight to {@link enterGuest}. */
export function isUnbounded(): boolean {
  return signals === undefined && (asyncHooks === undefined || running !== undefined);
}

/**
 * Runs a guest by one of the native functions that do so, whose arguments are in the scratch buffer, and tells whether it has ended without
 * a trap. What the guest calls meanwhile is answered by `call`. `argument` is who is to blame if the native function refuses. Nothing of
 * others runs before the guest begins, nor after it is done: what it left in the scratch buffer must be read at once.
 */
export function enterGuest(
  call: Running,
  enter: () => void,
  argument: string,
  timeout: number,
  fuel: bigint | undefined,
): boolean {
  const before = running;
  const top = frames.top;
  running = call;
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
    parked = undefined;
    throw translate(error, argument);
  } finally {
    running = before;
    // A call that failed has left its frame; the guest that made it is gone now.
    frames.top = top;
  }
  return words[WORD_STATUS] === STATUS_DONE;
}

/** A call that something may have to be looked at for, before and after it. */
export interface Entry<T> {
  readonly call: Running;
  readonly enter: () => void;
  readonly argument: string;
  /** Undefined for a start function. */
  readonly exportName: string | undefined;
  readonly limits: Limits | undefined;
  /** Writes the arguments to the scratch buffer, and does nothing else. */
  write(): void;
  /** Reads out what the call has left, whether it trapped or not; nothing else. */
  ended(): void;
  /** Reads the results out; nothing else. */
  read(): T;
}

/** Runs a guest within its limits, and within those of the calls around it. */
export function runBounded<T>(entry: Entry<T>): T {
  return asyncHooks !== undefined && running === undefined
    ? asyncHooks.within(() => runWithSignals(entry))
    : runWithSignals(entry);
}

function runWithSignals<T>(entry: Entry<T>): T {
  const { limits } = entry;
  const around = { signals, bounds };
  if (limits?.signal !== undefined) signals = { signal: limits.signal, around: signals };
  bounds = boundsWithin(limits, bounds);
  let outcome: (() => T) | undefined;
  let ended: Signal | undefined;
  try {
    ended = abortedOf(signals);
    if (ended === undefined) {
      outcome = outcomeOf(entry);
      ended = abortedOf(signals);
    }
    // Whatever the guest died of, and also if it did not: a signal that is aborted by now ends the call.
    if (ended !== undefined) throwReason(ended);
    return (outcome as () => T)();
  } finally {
    ({ signals, bounds } = around);
  }
}

/** Runs the guest, reads out whatever it has left, and gives what makes a result or an error of that. */
function outcomeOf<T>(entry: Entry<T>): () => T {
  const { call, enter, argument, exportName, limits } = entry;
  let failed: () => Error;
  try {
    entry.write();
    const isDone = enterGuest(call, enter, argument, limits?.timeout ?? 0, limits?.fuel);
    entry.ended();
    if (isDone) {
      const value = entry.read();
      return () => value;
    }
    failed = failure({ exportName, limits, bounds });
  } catch (error) {
    return () => {
      throw error;
    };
  }
  return () => {
    throw failed();
  };
}

/** What `async_calls.ts` adds once there have been asynchronous calls: code may run inside one without being on its stack. */
export interface AsyncHooks {
  /** Runs a call with the limits of the asynchronous call that the running code belongs to, if it belongs to one. */
  within<T>(run: () => T): T;
  /** The guest of that call. */
  running(): Running | undefined;
  /** The number of the call in whose supervisor call the running code is, if its guest is this one. */
  callOf(guest: RunningGuest): number | undefined;
}

let asyncHooks: AsyncHooks | undefined;

export function setAsyncHooks(hooks: AsyncHooks): void {
  asyncHooks = hooks;
}

/** The asynchronous call of this guest in whose supervisor call the running code is. */
export function asyncCallOf(guest: RunningGuest): number | undefined {
  return asyncHooks?.callOf(guest);
}

/** The signals of the calls that the running code is part of. */
export function currentSignals(): Signals | undefined {
  return signals;
}

/** The deadlines and budgets of the calls that the running code is part of. */
export function currentBounds(): Bounds | undefined {
  return bounds;
}

/** Whether code runs in a supervisor call. */
export function isInCall(): boolean {
  return running !== undefined;
}

/** Runs code as a part of a call that is not on the stack. */
export function inCall<T>(
  call: Running | undefined,
  limits: { readonly signals: Signals | undefined; readonly bounds: Bounds | undefined },
  run: () => T,
): T {
  const before = { running, signals, bounds };
  running = call;
  ({ signals, bounds } = limits);
  try {
    return run();
  } finally {
    ({ running, signals, bounds } = before);
  }
}

/**
 * What a function of a `JsSupervisor` may know about the guest that is calling it. It must not be used after the function is done: its
 * properties throw a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) then. If the function has returned a Promise, it is done when that is
 * settled.
 *
 * @example
 * ```ts
 * const log = supervisor.define(([ptr, len], { memory }) => {
 *   if (memory === undefined) throw new Error('the guest has no memory');
 *   console.log(Buffer.from(memory.read(Value.toNumber(ptr), Value.toNumber(len))).toString());
 * });
 * ```
 */
export interface SupervisorCall {
  /** Under `Instantiate.Version2` the guest's `gear_gas` at the time of the call, undefined under `Version1`. */
  readonly gas?: bigint | undefined;
  /** The running guest; undefined while its start function runs. */
  readonly instance?: SandboxInstance | undefined;
  /** The running guest's memory 0, whether it is imported, exported or neither; undefined if it has none. */
  readonly memory?: Memory | undefined;
}

/** The call object of one call; properties are looked up when they are read, because most functions read none. */
export class GuestCall implements SupervisorCall {
  readonly #gas: bigint | undefined;
  #guest: RunningGuest | undefined;

  constructor(guest: RunningGuest, gas: bigint | undefined) {
    this.#guest = guest;
    this.#gas = gas;
  }

  get gas(): bigint | undefined {
    this.#running();
    return this.#gas;
  }

  get instance(): SandboxInstance | undefined {
    return this.#running().instance();
  }

  get memory(): Memory | undefined {
    return this.#running().memory();
  }

  expire(): void {
    this.#guest = undefined;
  }

  #running(): RunningGuest {
    if (this.#guest === undefined)
      throw new SandboxError('call must not be used after the supervisor function is done');
    return this.#guest;
  }
}

/** The innermost running guest, also for code that runs after an `await` in one of its supervisor calls. */
function innermost(): Running | undefined {
  return running ?? asyncHooks?.running();
}

/** Whether the running code is part of a supervisor call that may answer with a Promise. */
export function canWait(): boolean {
  const asynchronous = asyncHooks?.running();
  return asynchronous !== undefined && innermost() === asynchronous;
}

/** The version of the innermost running guest, for a `JsSupervisor` that is called through the protocol. */
export function runningVersion(): Instantiate {
  return innermost()?.guest.version ?? Instantiate.Version1;
}

/** A call object for the innermost running guest, likewise. */
export function runningCall(gas: bigint | undefined): GuestCall {
  return new GuestCall(innermost()?.guest ?? NO_GUEST, gas);
}

const NO_GUEST: RunningGuest = {
  version: Instantiate.Version1,
  sites: [],
  functions: [],
  instance: () => undefined,
  memory: () => undefined,
};

/**
 * Called by native code. Never throws, as long as there is any stack: an exception that no JavaScript catches counts as uncaught to debuggers
 * and to `--abort-on-uncaught-exception`, even if the caller of the guest catches what becomes of it. What is thrown is kept for that
 * call, and a status tells native code to trap the guest.
 */
function dispatch(): void {
  try {
    const index = words[WORD_FUNC];
    const hasGas = words[WORD_HAS_GAS] === 1;
    const call = running;
    if (call === undefined) throw new SupervisorTrap('no guest is running');
    if (isTraced(supervisorCalls)) traceAnswer(call, index, hasGas);
    else answer(call, index, hasGas);
    if (signals !== undefined) trapIfAborted(call.guest.sites[index]);
    words[WORD_STATUS] = STATUS_DONE;
  } catch (thrown) {
    parked = { thrown };
    words[WORD_STATUS] = STATUS_TRAPPED;
  }
}

function answer(call: Running, index: number, hasGas: boolean): void {
  if (call.peer !== undefined) callByProtocol(call.guest, call.peer, index, hasGas);
  else if (hasGas) callDirectlyWithGas(call.guest, call.functions, index, longs[GAS]);
  else callDirectly(call.guest, call.functions, index);
}

/** Subscribers may use guests, so the arguments are kept from them, and the answer too. */
function traceAnswer(call: Running, index: number, hasGas: boolean): void {
  const { slots } = call.guest.sites[index];
  let kept = keptSlots(slots);
  supervisorCalls.traceSync(
    () => {
      putBack(kept);
      answer(call, index, hasGas);
      kept = keptSlots(slots);
    },
    supervisorEvent(call.guest, index, false),
  );
  putBack(kept);
}

/** A copy of the gas and so many slots of the scratch buffer, to be put back after code of others has run. */
function keptSlots(slots: number): Int32Array {
  const kept = new Int32Array(2 * (SLOTS - GAS + slots));
  for (let index = 0; index < kept.length; index += 1) kept[index] = ints[2 * GAS + index];
  return kept;
}

function putBack(kept: Int32Array): void {
  for (let index = 0; index < kept.length; index += 1) ints[2 * GAS + index] = kept[index];
}

/** What subscribers are told of a supervisor call. */
export function supervisorEvent(guest: RunningGuest, index: number, isAsync: boolean): SupervisorEvent {
  const funcIdx = guest.functions[index];
  return { instance: guest.instance(), importName: guest.sites[index].name, funcIdx, isAsync };
}

/**
 * No event reaches a signal while a guest computes, but a supervisor function may have aborted it. Whatever looks at a signal may run code
 * of others.
 */
function trapIfAborted({ slots }: ImportSite): void {
  const kept = keptSlots(slots);
  if (abortedOf(signals) !== undefined) throw new SupervisorTrap('the call was aborted');
  putBack(kept);
}

/** Takes the events of asynchronous calls. */
let drain: () => void = () => {};

export function setDrain(take: () => void): void {
  drain = take;
}

setDispatch(dispatch, () => drain());

/** Kept small, so that V8 inlines all of it. */
function callDirectly(guest: RunningGuest, functions: readonly SupervisorFunction[], index: number): void {
  const site = guest.sites[index];
  const args = site.readArguments();
  const call = new GuestCall(guest, undefined);
  const fn = functions[guest.functions[index]] ?? noFunction(guest.functions[index]);
  let result: unknown;
  try {
    result = fn(args, call);
  } finally {
    call.expire();
  }
  if (site.tryWriteResult(result)) return;
  refusePromise(result);
  site.writeResult(result);
}

function callDirectlyWithGas(
  guest: RunningGuest,
  functions: readonly SupervisorFunction[],
  index: number,
  gas: bigint,
): void {
  const site = guest.sites[index];
  const args = site.readArguments();
  const call = new GuestCall(guest, gas);
  let result: SupervisorResult;
  try {
    const fn = functions[guest.functions[index]] ?? noFunction(guest.functions[index]);
    result = fn(args, call) as SupervisorResult;
  } finally {
    call.expire();
  }
  refusePromise(result);
  if (isGasResult(result)) {
    const left = checkedGas(result.gas, site.name);
    site.writeResult(result.value);
    longs[GAS] = left;
  } else {
    site.writeResult(result);
    longs[GAS] = gas;
  }
}

/** Taken before anybody could change it. */
const promiseThen = Promise.prototype.then;

export function noFunction(funcIdx: number): never {
  throw new SupervisorTrap(`the supervisor has no function with the index ${funcIdx}`);
}

export function refusePromise(result: unknown): void {
  if (isPromise(result)) {
    // The caller hears of the trap; nobody would of the Promise, and Node ends a process whose rejections nobody hears of.
    if (types.isPromise(result)) promiseThen.call(result, undefined, () => {});
    throw new SupervisorTrap(
      'a supervisor function returned a Promise, which only asynchronous calls can wait for',
    );
  }
}

/** Whether a result has gas with it. A `Value` has a type, so the two cannot be mixed up. */
export function isGasResult(result: SupervisorResult): result is { gas: bigint; value?: Value } {
  return typeof result === 'object' && result !== null && !('type' in result) && 'gas' in result;
}

/** The gas that a supervisor function gave back. */
export function checkedGas(gas: unknown, name: string): bigint {
  if (typeof gas === 'bigint' && BigInt.asIntN(64, gas) === gas) return gas;
  throw new SupervisorTrap(
    `the supervisor function for ${shortName(name)} must return gas as an i64 bigint, got ${describe(gas)}`,
  );
}

/** Whether `await` would wait for it. */
export function isPromise(result: unknown): result is PromiseLike<unknown> {
  const isObject = (typeof result === 'object' && result !== null) || typeof result === 'function';
  return isObject && typeof (result as { then?: unknown }).then === 'function';
}

/**
 * Thrown by a step that waits for a Promise: no failure. Once that is settled the steps run again, those that are done by what they
 * came to then, see `async_peer.ts`.
 */
export const PENDING = Symbol('pending');

/** Ends a step that has failed, unless it only waits. */
function passPending(thrown: unknown): void {
  if (thrown === PENDING) throw thrown;
}

/** The six steps, in their order, and what becomes of their failures. */
export function callByProtocol(
  guest: RunningGuest,
  peer: ProtocolPeer,
  index: number,
  hasGas: boolean,
): void {
  const site = guest.sites[index];
  const taken = peer.take(site, hasGas);
  if (site.hasSeveralResults) throw severalResults(site);
  const size = site.sizeOfArguments(hasGas);
  let args: number;
  try {
    args = peer.allocate(size);
  } catch (thrown) {
    passPending(thrown);
    throw new SupervisorTrap("Can't allocate memory in supervisor for the arguments", { value: thrown });
  }
  try {
    peer.send(args, size, taken, site, hasGas);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, args, 'Failed deallocation after failed write of invoke arguments');
    throw new SupervisorTrap("Can't write invoke args into memory", { value: thrown });
  }
  try {
    peer.call(args, size, guest.functions[index]);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, args, 'Failed deallocation after invoke');
    throw SupervisorTrap.is(thrown) ? thrown : new SupervisorTrap(messageOf(thrown), { value: thrown });
  }
  const answerSize = packedWords[0];
  const answerPtr = packedWords[1];
  deallocate(peer, args, 'Failed deallocation after invoke');
  let answer: Uint8Array;
  try {
    answer = peer.receive(answerPtr, answerSize, taken);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, answerPtr, "Can't deallocate memory for dispatch thunk's result");
    throw new SupervisorTrap("Can't read the serialized result from dispatch thunk", { value: thrown });
  }
  deallocate(peer, answerPtr, "Can't deallocate memory for dispatch thunk's result");
  const at = peer.answerAt(taken);
  const end = Math.min(at + answerSize, answer.length);
  if (hasGas) takeAnswerWithGas(site, answer, at, end);
  else takeAnswer(site, answer, at, end);
  peer.drop(taken);
}

function severalResults({ name }: ImportSite): SupervisorTrap {
  return new SupervisorTrap(
    `${shortName(name)} has several results, and a ReturnValue has room for one: only a function of a JsSupervisor can answer it`,
  );
}

/** The first byte of an answer that is no error. */
const OK = 0;

/** Writes the answer to the scratch buffer: the usual one as it is; the decoders say what is wrong with any other. */
function takeAnswer(site: ImportSite, bytes: Uint8Array, at: number, end: number): void {
  if (bytes[at] === OK && site.tryWriteEncoded(bytes, at + 1, end)) return;
  const decoded = decode(
    decodeDispatchResult,
    bytes.slice(at, end),
    'Decoding Result<ReturnValue, HostError> failed!',
  );
  if (!decoded.ok) throw new SupervisorTrap('Supervisor function returned sandbox::HostError');
  site.writeResult(decoded.value);
}

function takeAnswerWithGas(site: ImportSite, bytes: Uint8Array, at: number, end: number): void {
  if (bytes[at] === OK && site.tryWriteEncoded(bytes, at + 9, end)) {
    ints[2 * GAS] = getWord(bytes, at + 1);
    ints[2 * GAS + 1] = getWord(bytes, at + 5);
    return;
  }
  const decoded = decode(
    decodeDispatchResultV2,
    bytes.slice(at, end),
    'Decoding Result<WasmReturnValue, HostError> failed!',
  );
  if (!decoded.ok) throw new SupervisorTrap('Supervisor function returned sandbox::HostError');
  site.writeResult(decoded.value);
  longs[GAS] = decoded.gas;
}

function deallocate(peer: ProtocolPeer, ptr: number, message: string): void {
  try {
    peer.deallocate(ptr);
  } catch (thrown) {
    passPending(thrown);
    throw new SupervisorTrap(message, { value: thrown });
  }
}

function decode<T>(decoder: (bytes: Uint8Array) => T, bytes: Uint8Array, message: string): T {
  try {
    return decoder(bytes);
  } catch (error) {
    throw new SupervisorTrap(message, error instanceof CodecError ? { value: error } : undefined);
  }
}

/** Takes over why a call has just come back trapped, and gives what makes its error. */
export function failure(call: CallName): () => Error {
  const thrown = parked;
  parked = undefined;
  const failed = native.takeFailure();
  return () => {
    if (failed.trap !== 'interrupted') return trapError(failed, thrown ?? failed.parked, call);
    return throwTimeout(timeoutError(call, trapError(failed, undefined, call) as TrapError));
  };
}

/** The error for a trap; `thrown` is what was thrown in a supervisor call, if that is why. */
export function trapError(
  { trap, message, frames }: NativeFailure,
  thrown: { readonly thrown: unknown } | undefined,
  call: CallName,
): Error {
  if (trap === 'internal') return new InternalError(message);
  // No fault of the guest's.
  if (trap === 'out-of-memory') return new LimitError(message);
  const details = {
    trap: trap as TrapKind,
    wasmStack: frames as readonly WasmFrame[],
    exportName: call.exportName,
  };
  if (thrown === undefined) {
    // The sentences for what fails in a supervisor call are the reference's.
    return new TrapError(trap === 'supervisor' ? message : trapMessage(message, trap, call), details);
  }
  const cause = thrown.thrown;
  if (!SupervisorTrap.is(cause)) return new TrapError(messageOf(cause), { ...details, cause });
  if (cause.thrown === undefined) return new TrapError(cause.message, details);
  return new TrapError(cause.message, { ...details, cause: cause.thrown.value });
}
