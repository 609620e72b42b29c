/**
 * A supervisor as the protocol sees it: a memory, an allocator, and functions with indices. The protocol itself is in `protocol/steps.ts`, a
 * supervisor made of plain functions in `js_supervisor.ts`.
 */

import { argumentError, describe } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { isOfAnotherCopy } from '../base/handle';

declare const supervisorFuncIndex: unique symbol;

/**
 * The index of a supervisor function, as {@link SupervisorContext.invoke} gets it. A type of its own, so that it is not
 * mixed up with other numbers. Mirrors `gear_sandbox_host::sandbox::SupervisorFuncIndex`.
 */
export type SupervisorFuncIndex = number & {
  /** Only for TypeScript: nothing has this property. */
  readonly [supervisorFuncIndex]: true;
};

/**
 * Runs supervisor functions for guests. Mirrors the trait `gear_sandbox_host::sandbox::SupervisorContext` (crate `gear-sandbox-host`
 * 1.10.0), and each method the one of the same name there. Addresses and lengths are in bytes, from 0 to 2^32 - 1.
 *
 * One call of a guest runs: `allocateMemory` → `writeMemory` with the SCALE-encoded arguments → `invoke` →
 * `deallocateMemory` of the arguments → `readMemoryInto` (or `readMemory`) of the result → `deallocateMemory` of the result. A
 * method that throws makes the guest trap; what it threw becomes the `cause` of the `TrapError`.
 *
 * @example
 * ```ts
 * const bytes = new Uint8Array(65_536);
 * let top = 8;
 * const supervisor: SupervisorContext = {
 *   invoke(ptr, len, funcIdx) {
 *     const args = codec.decodeValues(bytes.subarray(ptr, ptr + len));
 *     const result = codec.encodeDispatchResult({ ok: true, value: funcIdx === 0 ? args[0] : undefined });
 *     const address = this.allocateMemory(result.length);
 *     bytes.set(result, address);
 *     return (BigInt(address) << 32n) | BigInt(result.length);
 *   },
 *   readMemoryInto: (address, dest) => dest.set(bytes.subarray(address, address + dest.length)),
 *   writeMemory: (address, data) => bytes.set(data, address),
 *   allocateMemory(size) {
 *     top += size;
 *     return top - size;
 *   },
 *   deallocateMemory: () => {},
 * };
 * ```
 */
export interface SupervisorContext {
  /**
   * Runs a supervisor function on SCALE-encoded arguments. The result is a `Result<ReturnValue, HostError>` under
   * `Instantiate.Version1`, and a `Result<WasmReturnValue, HostError>` under `Version2`, where the first argument is the gas.
   *
   * @param invokeArgsPtr - the address of the SCALE-encoded `Vec<Value>`
   * @param invokeArgsLen - its length in bytes
   * @param funcIdx - the index of the function, as the environment definition has it
   * @returns where the SCALE-encoded result lies: its pointer in the upper 32 bits, its length in bytes in the lower 32
   */
  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: SupervisorFuncIndex): bigint;
  /**
   * Fills `dest` with the supervisor's memory at `address`.
   *
   * @param address - where to begin, in bytes
   * @param dest - how many bytes it has, so many are read
   */
  readMemoryInto(address: number, dest: Uint8Array): void;
  /**
   * Reads the supervisor's memory. Without this method, `readMemoryInto` is called.
   *
   * @param address - where to begin, in bytes
   * @param size - how many bytes
   * @returns the bytes, exactly so many
   */
  readMemory?(address: number, size: number): Uint8Array;
  /**
   * Puts `data` into the supervisor's memory at `address`.
   *
   * @param address - where to begin, in bytes
   * @param data - the bytes; the array is the supervisor's to keep
   */
  writeMemory(address: number, data: Uint8Array): void;
  /**
   * Makes room in the supervisor's memory.
   *
   * @param size - for how many bytes
   * @returns the address
   */
  allocateMemory(size: number): number;
  /**
   * Gives room in the supervisor's memory back.
   *
   * @param ptr - an address that `allocateMemory` or `invoke` gave
   */
  deallocateMemory(ptr: number): void;
}

/**
 * A {@link SupervisorContext} for asynchronous calls: each method may also return a Promise of its result. A rejection is like a throw. The
 * reference has no such trait.
 *
 * @example
 * ```ts
 * const bytes = new Uint8Array(65_536);
 * const slow: AsyncSupervisorContext = {
 *   async invoke() {
 *     bytes.set(codec.encodeDispatchResult({ ok: true, value: undefined }), 4096);
 *     return (4096n << 32n) | 2n;
 *   },
 *   readMemoryInto: (address, dest) => dest.set(bytes.subarray(address, address + dest.length)),
 *   writeMemory: (address, data) => bytes.set(data, address),
 *   allocateMemory: async () => 8,
 *   deallocateMemory: () => {},
 * };
 * await instance.invokeAsync('run', [], slow);
 * ```
 */
export interface AsyncSupervisorContext {
  /**
   * See {@link SupervisorContext.invoke}.
   *
   * @param invokeArgsPtr - the address of the SCALE-encoded `Vec<Value>`
   * @param invokeArgsLen - its length in bytes
   * @param funcIdx - the index of the function, as the environment definition has it
   * @returns where the SCALE-encoded result lies: its pointer in the upper 32 bits, its length in bytes in the lower 32
   */
  invoke(
    invokeArgsPtr: number,
    invokeArgsLen: number,
    funcIdx: SupervisorFuncIndex,
  ): bigint | PromiseLike<bigint>;
  /**
   * See {@link SupervisorContext.readMemoryInto}.
   *
   * @param address - where to begin, in bytes
   * @param dest - how many bytes it has, so many are read
   */
  readMemoryInto(address: number, dest: Uint8Array): void | PromiseLike<void>;
  /**
   * See {@link SupervisorContext.readMemory}.
   *
   * @param address - where to begin, in bytes
   * @param size - how many bytes
   * @returns the bytes, exactly so many
   */
  readMemory?(address: number, size: number): Uint8Array | PromiseLike<Uint8Array>;
  /**
   * See {@link SupervisorContext.writeMemory}.
   *
   * @param address - where to begin, in bytes
   * @param data - the bytes; the array is the supervisor's to keep
   */
  writeMemory(address: number, data: Uint8Array): void | PromiseLike<void>;
  /**
   * See {@link SupervisorContext.allocateMemory}.
   *
   * @param size - for how many bytes
   * @returns the address
   */
  allocateMemory(size: number): number | PromiseLike<number>;
  /**
   * See {@link SupervisorContext.deallocateMemory}. It is also called after a call that was ended, for what that had allocated.
   *
   * @param ptr - an address that `allocateMemory` or `invoke` gave
   */
  deallocateMemory(ptr: number): void | PromiseLike<void>;
}

/**
 * Checks that something has the methods of a supervisor.
 *
 * @internal
 */
export function checkSupervisor(ctx: unknown): asserts ctx is SupervisorContext {
  if (typeof ctx !== 'object' || ctx === null) throw argumentError('ctx', 'a SupervisorContext', ctx);
  const given = ctx as Partial<SupervisorContext>;
  // One by one, because reading properties by a variable name is slow, and this is done for each call into a guest.
  if (
    typeof given.invoke === 'function' &&
    typeof given.readMemoryInto === 'function' &&
    typeof given.writeMemory === 'function' &&
    typeof given.allocateMemory === 'function' &&
    typeof given.deallocateMemory === 'function' &&
    (given.readMemory === undefined || typeof given.readMemory === 'function')
  )
    return;
  const methods = ctx as Record<string, unknown>;
  for (const name of METHODS) {
    const isOptional = name === 'readMemory' && methods[name] === undefined;
    if (typeof methods[name] !== 'function' && !isOptional) {
      throw new ArgumentError(`ctx.${name} must be a function, got ${describe(methods[name])}`, {
        argument: 'ctx',
      });
    }
  }
}

const METHODS = [
  'invoke',
  'readMemoryInto',
  'readMemory',
  'writeMemory',
  'allocateMemory',
  'deallocateMemory',
] as const;

/**
 * Refuses a `JsSupervisor` of another copy of this package: it knows nothing of the calls of this one, so it would follow the wrong version.
 *
 * @internal
 */
export function refuseForeign(ctx: object): void {
  if (isOfAnotherCopy(ctx)) throw argumentError('ctx', 'a SupervisorContext', ctx);
}
