/**
 * A `SupervisorContext` that has a linear memory of its own, as a supervisor that is WebAssembly itself would: a guest's
 * call arrives as bytes at an address of that memory, and so does the answer. `JsSupervisor` spares you all this; this
 * is for seeing the protocol at work.
 */

import { codec, type SupervisorContext, type Value } from 'sandbox-host';

/** A supervisor function: the arguments of a guest's call, and what the guest gets. */
export type LinearFunction = (args: readonly Value[]) => Value | undefined;

export class LinearSupervisor implements SupervisorContext {
  /** How often a method of the protocol was called. */
  steps = 0;

  readonly #functions: LinearFunction[] = [];
  readonly #bytes: Uint8Array;
  readonly #heap: Heap;

  /** @param size - the size of the memory, in bytes */
  constructor(size = 64 * 1024) {
    this.#bytes = new Uint8Array(size);
    this.#heap = new Heap(size);
  }

  /** How many bytes are allocated and not freed: 0 between two calls, if everybody keeps to the protocol. */
  get allocated(): number {
    return this.#heap.allocated;
  }

  /** Adds a function and gives the index that guests' imports name it by. */
  define(fn: LinearFunction): number {
    return this.#functions.push(fn) - 1;
  }

  // A guest's call runs the methods below in the order in which they stand here, and then frees the answer.

  allocateMemory(size: number): number {
    this.steps += 1;
    return this.#heap.allocate(size);
  }

  writeMemory(address: number, data: Uint8Array): void {
    this.steps += 1;
    this.#bytes.set(data, address);
  }

  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: number): bigint {
    this.steps += 1;
    const args = codec.decodeValues(this.#bytes.subarray(invokeArgsPtr, invokeArgsPtr + invokeArgsLen));
    const value = this.#functions[funcIdx](args);
    const answer = codec.encodeDispatchResult({ ok: true, value });
    const pointer = this.#heap.allocate(answer.length);
    this.#bytes.set(answer, pointer);
    return (BigInt(pointer) << 32n) | BigInt(answer.length);
  }

  deallocateMemory(ptr: number): void {
    this.steps += 1;
    this.#heap.free(ptr);
  }

  readMemoryInto(address: number, dest: Uint8Array): void {
    this.steps += 1;
    dest.set(this.#bytes.subarray(address, address + dest.length));
  }
}

/** Hands out addresses: blocks of a power of two, and of each size a list of those that were freed. */
class Heap {
  /** Address 0 stays free, so that a null pointer points at nothing. */
  #end = SMALLEST_BLOCK;
  readonly #size: number;
  readonly #free = new Map<number, number[]>();
  readonly #blocks = new Map<number, number>();

  constructor(size: number) {
    this.#size = size;
  }

  get allocated(): number {
    let sum = 0;
    for (const size of this.#blocks.values()) sum += size;
    return sum;
  }

  allocate(size: number): number {
    const block = 2 ** Math.ceil(Math.log2(Math.max(size, SMALLEST_BLOCK)));
    const pointer = this.#free.get(block)?.pop() ?? this.#extend(block);
    this.#blocks.set(pointer, block);
    return pointer;
  }

  free(pointer: number): void {
    const block = this.#blocks.get(pointer);
    if (block === undefined) throw new RangeError(`nothing is allocated at ${pointer}`);
    this.#blocks.delete(pointer);
    const free = this.#free.get(block);
    if (free === undefined) this.#free.set(block, [pointer]);
    else free.push(pointer);
  }

  #extend(block: number): number {
    const pointer = this.#end;
    if (pointer + block > this.#size)
      throw new RangeError(`no ${block} bytes left in the supervisor's memory`);
    this.#end += block;
    return pointer;
  }
}

const SMALLEST_BLOCK = 16;
