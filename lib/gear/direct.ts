/** Answers guests by the functions of a `JsSupervisor`, without the six steps of the protocol. */

import { SandboxError } from '../base/errors';
import type { Value } from '../base/values';
import { layout, scratchViews } from '../binding/scratch';
import type { Answerer, HostRequest, Reply } from '../guest/answerer';
import type { CallingGuest } from './calling_guest';
import type { Memory } from './memory';
import {
  checkedGas,
  isGasResult,
  isPromise,
  noFunction as noFunctionOf,
  refusePromise,
  type SupervisorResult,
} from './results';

const { longs } = scratchViews;
const { GAS } = layout;
const noFunction = noFunctionOf;

/** A `SupervisorFunction`, whose `SupervisorCall` is a {@link GuestCall} of the guest that calls. */
export type DirectFunction = (args: Value[], call: GuestCall) => unknown;

const known = new WeakMap<object, readonly DirectFunction[]>();

/** From now on guests may call the functions of this supervisor directly. */
export function registerDirect(supervisor: object, functions: readonly DirectFunction[]): void {
  known.set(supervisor, functions);
}

/**
 * The functions of a `JsSupervisor`. Undefined for every other supervisor, also for one of a subclass, whose methods may be its own.
 */
export function directFunctions(supervisor: object): readonly DirectFunction[] | undefined {
  return known.get(supervisor);
}

/**
 * What a supervisor function gets as its `SupervisorCall`. The properties are looked up when they are read, because most functions read none.
 */
export class GuestCall {
  readonly #gas: bigint | undefined;
  #guest: CallingGuest | undefined;

  constructor(guest: CallingGuest, gas: bigint | undefined) {
    this.#guest = guest;
    this.#gas = gas;
  }

  get gas(): bigint | undefined {
    this.#open();
    return this.#gas;
  }

  get instance(): object | undefined {
    return this.#open().instance();
  }

  get memory(): Memory | undefined {
    return this.#open().memory();
  }

  expire(): void {
    this.#guest = undefined;
  }

  #open(): CallingGuest {
    if (this.#guest === undefined)
      throw new SandboxError('call must not be used after the supervisor function is done');
    return this.#guest;
  }
}

/** Answers one guest by the functions of one supervisor. */
export class DirectAnswerer implements Answerer {
  readonly guest: CallingGuest;
  readonly #functions: readonly DirectFunction[];

  constructor(guest: CallingGuest, functions: readonly DirectFunction[]) {
    this.guest = guest;
    this.#functions = functions;
  }

  answer(index: number, hasCarried: boolean): void {
    if (hasCarried) answerWithGas(this.guest, this.#functions, index, longs[GAS]);
    else answer(this.guest, this.#functions, index);
  }

  receive(index: number, hasCarried: boolean): HostRequest {
    const gas = hasCarried ? longs[GAS] : undefined;
    const args = this.guest.functionImports[index].readArguments();
    return new DirectRequest(this.guest, this.#functions, index, gas, args);
  }
}

/** Kept small, so that V8 inlines all of it. */
function answer(guest: CallingGuest, functions: readonly DirectFunction[], index: number): void {
  const signature = guest.functionImports[index];
  const args = signature.readArguments();
  const call = new GuestCall(guest, undefined);
  const fn = functions[guest.functions[index]] ?? noFunction(guest.functions[index]);
  let result: unknown;
  try {
    result = fn(args, call);
  } finally {
    call.expire();
  }
  if (signature.tryWriteResult(result)) return;
  refusePromise(result);
  signature.writeResult(result);
}

function answerWithGas(
  guest: CallingGuest,
  functions: readonly DirectFunction[],
  index: number,
  gas: bigint,
): void {
  const signature = guest.functionImports[index];
  const args = signature.readArguments();
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
    const left = checkedGas(result.gas, signature.name);
    signature.writeResult(result.value);
    longs[GAS] = left;
  } else {
    signature.writeResult(result);
    longs[GAS] = gas;
  }
}

/** A call of a guest on another thread. */
class DirectRequest implements HostRequest {
  readonly #guest: CallingGuest;
  readonly #functions: readonly DirectFunction[];
  readonly #index: number;
  readonly #gas: bigint | undefined;
  readonly #args: Value[];
  #call: GuestCall | undefined;

  constructor(
    guest: CallingGuest,
    functions: readonly DirectFunction[],
    index: number,
    gas: bigint | undefined,
    args: Value[],
  ) {
    this.#guest = guest;
    this.#functions = functions;
    this.#index = index;
    this.#gas = gas;
    this.#args = args;
  }

  answer(reply: Reply): boolean {
    const funcIdx = this.#guest.functions[this.#index];
    const call = new GuestCall(this.#guest, this.#gas);
    this.#call = call;
    const fn = this.#functions[funcIdx] ?? noFunction(funcIdx);
    const result = fn(this.#args, call);
    if (!isPromise(result)) {
      this.#take(result);
      reply.succeed();
      return true;
    }
    reply.putOff();
    reply.whenSettled(result, (value) => {
      this.#take(value);
      reply.succeed();
    });
    return false;
  }

  close(): void {
    this.#call?.expire();
  }

  /** Writes the result to the scratch buffer. */
  #take(result: unknown): void {
    this.close();
    const gas = this.#gas;
    const signature = this.#guest.functionImports[this.#index];
    if (gas !== undefined && isGasResult(result as SupervisorResult)) {
      const { gas: left, value } = result as { gas: bigint; value?: unknown };
      const checked = checkedGas(left, signature.name);
      signature.writeResult(value);
      longs[GAS] = checked;
    } else {
      signature.writeResult(result);
      if (gas !== undefined) longs[GAS] = gas;
    }
  }
}
