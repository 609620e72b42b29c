/**
 * The supervisor as the dispatch protocol sees it: somebody with a memory, an allocator and functions that have indices.
 * The protocol itself is in `dispatch.ts`, a supervisor made of plain functions in `js_supervisor.ts`.
 */

import { argumentError, describe } from '../arguments';
import { ArgumentError } from '../errors';

declare const supervisorFuncIndex: unique symbol;

/**
 * The index of a supervisor function, as {@link SupervisorContext.invoke} gets it. A type of its own, so that it is not
 * mixed up with other numbers. Mirrors `gear_sandbox_host::sandbox::SupervisorFuncIndex`.
 */
export type SupervisorFuncIndex = number & { readonly [supervisorFuncIndex]: true };

/**
 * Runs supervisor functions for guests. Mirrors the trait `gear_sandbox_host::sandbox::SupervisorContext`.
 *
 * One call of a guest runs: `allocateMemory` → `writeMemory` with the SCALE-encoded arguments → `invoke` →
 * `deallocateMemory` of the arguments → `readMemoryInto` (or `readMemory`) of the result → `deallocateMemory` of the result. A
 * method that throws makes the guest trap; what it threw becomes the `cause` of the `TrapError`.
 *
 * @example
 * ```ts
 * const supervisor: SupervisorContext = {
 *   invoke: (ptr, len, funcIdx) => dispatchThunk(ptr, len, state, funcIdx),
 *   readMemoryInto: (address, dest) => dest.set(memory.subarray(address, address + dest.length)),
 *   writeMemory: (address, data) => memory.set(data, address),
 *   allocateMemory: (size) => allocator.allocate(size),
 *   deallocateMemory: (ptr) => allocator.deallocate(ptr),
 * };
 * ```
 */
export interface SupervisorContext {
  /**
   * Runs the function with the index `funcIdx` on the SCALE-encoded `Vec<Value>` at `invokeArgsPtr`.
   *
   * @returns where the SCALE-encoded result lies: its pointer in the upper 32 bits, its length in bytes in the lower 32
   */
  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: SupervisorFuncIndex): bigint;
  /** Fills `dest` with the supervisor's memory at `address`. */
  readMemoryInto(address: number, dest: Uint8Array): void;
  /** Gives `size` bytes of the supervisor's memory at `address`. Without this method, `readMemoryInto` is called. */
  readMemory?(address: number, size: number): Uint8Array;
  /** Puts `data` into the supervisor's memory at `address`. `data` is the supervisor's to keep. */
  writeMemory(address: number, data: Uint8Array): void;
  /** Makes room for `size` bytes in the supervisor's memory and gives the address. */
  allocateMemory(size: number): number;
  /** Gives the room at `ptr` back. */
  deallocateMemory(ptr: number): void;
}

/**
 * A {@link SupervisorContext} for asynchronous calls: each method may also return a Promise of its result. A rejection is like a throw.
 *
 * @example
 * ```ts
 * await instance.invokeAsync('run', [], { ...supervisor, invoke: async (ptr, len, funcIdx) => await answer(ptr, len, funcIdx) });
 * ```
 */
export interface AsyncSupervisorContext {
  invoke(
    invokeArgsPtr: number,
    invokeArgsLen: number,
    funcIdx: SupervisorFuncIndex,
  ): bigint | PromiseLike<bigint>;
  readMemoryInto(address: number, dest: Uint8Array): void | PromiseLike<void>;
  readMemory?(address: number, size: number): Uint8Array | PromiseLike<Uint8Array>;
  writeMemory(address: number, data: Uint8Array): void | PromiseLike<void>;
  allocateMemory(size: number): number | PromiseLike<number>;
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
