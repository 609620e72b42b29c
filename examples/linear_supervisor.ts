/**
 * A `SupervisorContext` with its own linear memory, like a supervisor that is itself WebAssembly. A guest's call arrives
 * as bytes at an address of that memory, and the answer is written there too. `JsSupervisor` spares you all this; this
 * example shows the protocol at work.
 */

import { codec, type SupervisorContext, type Value } from 'sandbox-host';

/** A supervisor function. It takes the arguments of a guest's call, and returns the guest's result. */
export type LinearFunction = (args: readonly Value[]) => Value | undefined;

export class LinearSupervisor implements SupervisorContext {
  /** How many times a method of the protocol was called. */
  steps = 0;

  readonly #functions: LinearFunction[] = [];
  readonly #bytes: Uint8Array;
  readonly #heap: Heap;

  /** @param size - the size of the memory, in bytes */
  constructor(size = 64 * 1024) {
    this.#bytes = new Uint8Array(size);
    this.#heap = new Heap(size);
  }

  /** How many bytes are allocated and not freed. Between two calls this is 0, if both sides follow the protocol. */
  get allocated(): number {
    return this.#heap.allocated;
  }

  /** Adds a function, and returns the index by which guests' imports refer to it. */
  define(fn: LinearFunction): number {
    return this.#functions.push(fn) - 1;
  }

  // A guest's call runs the methods below in this order, and then frees the answer.

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

/** Allocates addresses. The size of each block is a power of two, and each size has a list of freed blocks. */
class Heap {
  /** Address 0 is never allocated, so that a null pointer points at nothing. */
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
