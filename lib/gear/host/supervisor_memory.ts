/** The linear memory of the supervisor, as host functions read and write it. */

import { types } from 'node:util';
import { describe } from '../../base/arguments';
import { SandboxError } from '../../base/errors';
import { messageOf } from '../../base/message';
import type { SupervisorMemoryObject } from './v8';

/**
 * Provides views of the supervisor's memory that are never stale: any code that runs in the supervisor
 * may grow the memory, which detaches the previous buffer. So request a view again after any other code
 * has run.
 */
export class SupervisorMemory {
  readonly #source: () => SupervisorMemoryObject;
  /** The memory that `#bytes` is a view of. */
  #memory: SupervisorMemoryObject | undefined;
  #bytes: Uint8Array = new Uint8Array(0);

  /** @param source - returns the memory; a new supervisor has a new one */
  constructor(source: () => SupervisorMemoryObject) {
    this.#source = source;
  }

  /** The current memory, or undefined if it does not have `size` bytes at `address`. */
  find(address: number, size: number): Uint8Array | undefined {
    const end = address + size;
    const bytes = this.#current(end);
    return end <= bytes.length ? bytes : undefined;
  }

  /**
   * The current memory.
   *
   * @throws RangeError if it does not have `size` bytes at `address`
   */
  at(address: number, size: number): Uint8Array {
    return this.find(address, size) ?? outOfBounds(address, size);
  }

  /**
   * A view of the memory that is not detached, and that covers the memory up to `end`, if the memory is
   * that long.
   */
  #current(end: number): Uint8Array {
    const memory = this.#memoryNow();
    const bytes = this.#bytes;
    // A detached view has length 0. A view of shared memory keeps its length when the memory grows.
    // Reading `memory.buffer` each time would take longer than most host functions.
    if (memory === this.#memory && bytes.length !== 0 && bytes.length >= end) return bytes;
    this.#bytes = bytesOf(memory);
    this.#memory = memory;
    return this.#bytes;
  }

  #memoryNow(): SupervisorMemoryObject {
    let memory: SupervisorMemoryObject;
    try {
      memory = this.#source();
    } catch (cause) {
      throw new SandboxError(
        `options.memory() must give the supervisor's memory, threw: ${messageOf(cause)}`,
        {
          cause,
        },
      );
    }
    if (typeof memory === 'object' && memory !== null) return memory;
    throw noMemory(memory);
  }
}

/** All bytes of a memory. */
function bytesOf(memory: SupervisorMemoryObject): Uint8Array {
  try {
    const buffer: unknown = memory.buffer;
    if (types.isAnyArrayBuffer(buffer)) return new Uint8Array(buffer);
  } catch (cause) {
    // The buffer of a genuine memory can always be read, and is never detached.
    throw noMemory(memory, { cause });
  }
  throw noMemory(memory);
}

function outOfBounds(address: number, size: number): never {
  throw new RangeError(`${size} bytes at ${address} are out of bounds of the supervisor's memory`);
}

function noMemory(given: unknown, options: { cause?: unknown } = {}): SandboxError {
  return new SandboxError(
    `options.memory() must give the supervisor's WebAssembly.Memory, gave ${describe(given)}`,
    options,
  );
}
