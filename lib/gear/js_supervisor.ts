/** A supervisor made of plain JavaScript functions, which needs no linear memory. */

import { argumentError, bytes, copyInto, fn as fnArgument, lengthOf, uint32 } from '../base/arguments';
import { SandboxError } from '../base/errors';
import { defineHandle } from '../base/handle';
import type { Value } from '../base/values';
import { canWait, innermost } from '../guest/call_context';
import { CallingGuest, NO_GUEST } from './calling_guest';
import { type DirectFunction, GuestCall, registerDirect } from './direct';
import { Instantiate } from './instantiate';
import {
  checkedGas,
  isGasResult,
  isPromise,
  noFunction,
  refusePromise,
  type SupervisorResult,
} from './results';
import { decodeValues, encodeDispatchResult, encodeDispatchResultV2 } from './scale/index';
import type { SupervisorContext, SupervisorFuncIndex } from './supervisor';
import type { SupervisorFunction } from './supervisor_function';

/**
 * A supervisor over plain functions. Native code calls them directly; the methods of {@link SupervisorContext} are there as well, with a
 * little memory behind them, and come to the same results. The reference's host has none; the nearest is the embedded executor of the crate
 * `gear-sandbox`, which calls Rust functions.
 *
 * @example
 * ```ts
 * const supervisor = new JsSupervisor();
 * const add = supervisor.define(([a, b]) => Value.I32(Value.toNumber(a) + Value.toNumber(b)));
 * const log = supervisor.define(([ptr, len], { memory }) => {
 *   console.log(Buffer.from(memory!.read(Value.toNumber(ptr), Value.toNumber(len))).toString());
 * });
 * const definition = new EnvironmentDefinitionBuilder()
 *   .addHostFunc('env', 'add', add)
 *   .addHostFunc('env', 'log', log)
 *   .encode();
 * ```
 */
export class JsSupervisor extends Object implements SupervisorContext {
  readonly #functions: DirectFunction[] = [];
  readonly #allocations = new Map<number, Uint8Array>();
  #top = FIRST_ADDRESS;

  /**
   * Makes a supervisor without functions. One made by a subclass is called by its methods, as every other `SupervisorContext` is.
   *
   * @example
   * ```ts
   * const supervisor = new JsSupervisor();
   * supervisor.define(() => Value.I32(42)); // 0
   * ```
   */
  constructor() {
    super();
    if (new.target !== JsSupervisor) return;
    registerDirect(this, this.#functions);
    // Its prototype cannot be changed from now on. A function in place of a method would not be called, so it is refused.
    Object.preventExtensions(this);
  }

  static {
    defineHandle(
      JsSupervisor,
      'JsSupervisor',
      (value) => #functions in value,
      (supervisor) => ({ functions: supervisor.#functions.length }),
    );
  }

  /**
   * Adds a function. Like `gear_sandbox::SandboxEnvironmentBuilder::add_host_func`, but without names.
   *
   * @param fn - gets the guest's arguments and the call. It returns the result, or undefined for none; under `Instantiate.Version2` it may
   *   return `{ gas, value }` to set the gas that is left; in asynchronous calls it may return a Promise of either. What it throws traps
   *   the guest and becomes the `cause` of the `TrapError`
   * @returns the index for {@link EnvironmentDefinitionBuilder.addHostFunc}, counted from 0
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `fn` is no function
   * @example
   * ```ts
   * const square = supervisor.define(([n]) => Value.I32(Math.imul(Value.toNumber(n), Value.toNumber(n))));
   * const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'square', square).encode();
   * ```
   */
  define(fn: SupervisorFunction): SupervisorFuncIndex {
    return (this.#functions.push(fnArgument(fn, 'fn') as DirectFunction) - 1) as SupervisorFuncIndex;
  }

  /**
   * See {@link SupervisorContext.invoke}. Follows the version of the guest that is running.
   *
   * @param invokeArgsPtr - the address of the SCALE-encoded `Vec<Value>`
   * @param invokeArgsLen - its length in bytes
   * @param funcIdx - the index of the function, as {@link JsSupervisor.define} gave it
   * @returns where the SCALE-encoded result lies: its pointer in the upper 32 bits, its length in bytes in the lower 32
   * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the arguments cannot be decoded
   * @throws a {@link SandboxError} (`ERR_SANDBOX_TRAP`) if there is no such function, it gives a Promise to a synchronous call, or gas that
   *   is no i64
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if the arguments lie outside of what is allocated, or the first of them is not
   *   the gas under `Instantiate.Version2`
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if a number is no integer from 0 to 2^32 - 1, or the function returns what is no
   *   value
   * @throws what the function throws
   */
  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: SupervisorFuncIndex): bigint {
    const address = uint32(invokeArgsPtr, 'invokeArgsPtr');
    const args = decodeValues(this.readMemory(address, uint32(invokeArgsLen, 'invokeArgsLen')));
    uint32(funcIdx, 'funcIdx');
    const guest = callingGuest();
    const isV2 = guest.version === Instantiate.Version2;
    const gas = isV2 ? gasOf(args.shift()) : undefined;
    const call = new GuestCall(guest, gas);
    const answer = (result: SupervisorResult): bigint => {
      const encoded =
        gas === undefined
          ? encodeDispatchResult({ ok: true, value: result as Value | undefined })
          : encodeDispatchResultV2({ ok: true, ...withGas(result, gas, funcIdx) });
      const ptr = this.allocateMemory(encoded.length);
      this.writeMemory(ptr, encoded);
      return (BigInt(ptr) << 32n) | BigInt(encoded.length);
    };
    try {
      const fn = this.#functions[funcIdx] ?? noFunction(funcIdx);
      const result: unknown = fn(args, call);
      // Only in an asynchronous call, whose steps may be Promises.
      if (isPromise(result) && canWait()) return later(result, call, answer) as unknown as bigint;
      refusePromise(result);
      const answered = answer(result as SupervisorResult);
      call.expire();
      return answered;
    } catch (thrown) {
      call.expire();
      throw thrown;
    }
  }

  /**
   * See {@link SupervisorContext.readMemoryInto}.
   *
   * @param address - where to begin, in bytes
   * @param dest - how many bytes it has, so many are read
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if they do not all lie in one allocation
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `address` is no integer from 0 to 2^32 - 1, or `dest` is detached
   */
  readMemoryInto(address: number, dest: Uint8Array): void {
    const target = bytes(dest, 'dest');
    copyInto(target, this.#room(address, lengthOf(target)));
  }

  /**
   * See {@link SupervisorContext.readMemory}.
   *
   * @param address - where to begin, in bytes
   * @param size - how many bytes
   * @returns a copy of them
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if they do not all lie in one allocation
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if a number is no integer from 0 to 2^32 - 1
   */
  readMemory(address: number, size: number): Uint8Array {
    return this.#room(address, uint32(size, 'size')).slice();
  }

  /**
   * See {@link SupervisorContext.writeMemory}.
   *
   * @param address - where to begin, in bytes
   * @param data - the bytes, of which a copy is taken
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if they do not all fit into one allocation
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `address` is no integer from 0 to 2^32 - 1, or `data` is detached
   */
  writeMemory(address: number, data: Uint8Array): void {
    const source = bytes(data, 'data');
    this.#room(address, lengthOf(source)).set(source);
  }

  /**
   * See {@link SupervisorContext.allocateMemory}.
   *
   * @param size - for how many bytes
   * @returns the address, a multiple of 8
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is no room for them
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `size` is no integer from 0 to 2^32 - 1
   */
  allocateMemory(size: number): number {
    const length = uint32(size, 'size');
    if (this.#allocations.size === 0) this.#top = FIRST_ADDRESS;
    const ptr = this.#top;
    const top = ptr + Math.max(ALIGNMENT, Math.ceil(length / ALIGNMENT) * ALIGNMENT);
    if (top > 0xffff_ffff) throw noRoom(length);
    this.#allocations.set(ptr, allocated(length));
    this.#top = top;
    return ptr;
  }

  /**
   * See {@link SupervisorContext.deallocateMemory}.
   *
   * @param ptr - an address that {@link JsSupervisor.allocateMemory} or {@link JsSupervisor.invoke} gave
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if it is none, or was given back already
   */
  deallocateMemory(ptr: number): void {
    if (!this.#allocations.delete(ptr)) throw argumentError('ptr', 'the address of an allocation', ptr);
  }

  /** Bytes of one allocation. There are only a few at any time. */
  #room(address: number, size: number): Uint8Array {
    uint32(address, 'address');
    for (const [ptr, allocation] of this.#allocations) {
      const offset = address - ptr;
      if (offset >= 0 && offset + size <= allocation.length)
        return allocation.subarray(offset, offset + size);
    }
    throw new SandboxError(`${size} bytes at ${address} are not allocated`);
  }
}

function allocated(length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw noRoom(length, cause);
  }
}

function noRoom(length: number, cause?: unknown): SandboxError {
  return new SandboxError(`no room for ${length} bytes`, cause === undefined ? {} : { cause });
}

/** The guest that is calling, if the supervisor is called through the protocol. */
function callingGuest(): CallingGuest {
  const guest = innermost()?.guest;
  return guest instanceof CallingGuest ? guest : NO_GUEST;
}

async function later(
  result: PromiseLike<unknown>,
  call: GuestCall,
  answer: (result: SupervisorResult) => bigint,
): Promise<bigint> {
  try {
    return answer((await result) as SupervisorResult);
  } finally {
    call.expire();
  }
}

function gasOf(first: Value | undefined): bigint {
  if (first?.type === 'i64') return first.value;
  throw new SandboxError('the first argument must be the gas, an i64');
}

/** A result with what is left of the gas. */
function withGas(
  result: SupervisorResult,
  gas: bigint,
  funcIdx: number,
): { gas: bigint; value: Value | undefined } {
  if (!isGasResult(result)) return { gas, value: result as Value | undefined };
  return { gas: checkedGas(result.gas, `index ${funcIdx}`), value: result.value };
}

/** Not 0, which is nobody's address. */
const FIRST_ADDRESS = 8;
const ALIGNMENT = 8;
