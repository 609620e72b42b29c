/** Any `SupervisorContext` as the supervisor's side of the six steps. */

import { types } from 'node:util';
import { describe, lengthOf } from '../../base/arguments';
import { HostTrap } from '../../guest/host_trap';
import type { SupervisorContext, SupervisorFuncIndex } from '../supervisor';
import { ANSWER_BYTES } from './frames';
import type { ImportEncoding } from './import_encoding';
import { packed } from './packed';
import type { ProtocolPeer } from './peer';

const packedLong = packed.long;

/** A `SupervisorContext` of the user. It may keep every array that it is given or that it returns. */
export class ContextPeer implements ProtocolPeer<Uint8Array> {
  readonly #ctx: SupervisorContext;

  constructor(ctx: SupervisorContext) {
    this.#ctx = ctx;
  }

  take(encoding: ImportEncoding, hasGas: boolean): Uint8Array {
    return encoding.encodeArguments(hasGas);
  }

  allocate(size: number): number {
    const ptr = this.#ctx.allocateMemory(size);
    return typeof ptr === 'number' && ptr >>> 0 === ptr ? ptr : noAddress(ptr);
  }

  send(address: number, _size: number, taken: Uint8Array): void {
    this.#ctx.writeMemory(address, taken);
  }

  call(address: number, size: number, funcIdx: SupervisorFuncIndex): void {
    const result = this.#ctx.invoke(address, size, funcIdx);
    packedLong[0] = typeof result === 'bigint' ? result : noAnswer(result);
  }

  receive(address: number, size: number): Uint8Array {
    return size > ANSWER_BYTES ? receiveLong(this.#ctx, address, size) : read(this.#ctx, address, size);
  }

  answerAt(): number {
    return 0;
  }

  deallocate(address: number): void {
    this.#ctx.deallocateMemory(address);
  }
}

// Functions of their own, so that V8 has room to inline what runs each time.

function read(ctx: SupervisorContext, address: number, size: number): Uint8Array {
  if (ctx.readMemory !== undefined) return readBy(ctx, address, size);
  const dest = new Uint8Array(size);
  ctx.readMemoryInto(address, dest);
  return dest;
}

function readBy(ctx: SupervisorContext, address: number, size: number): Uint8Array {
  const bytes: unknown = ctx.readMemory?.(address, size);
  if (types.isUint8Array(bytes)) return answerOf(bytes);
  throw new TypeError(`ctx.readMemory must return a Uint8Array, got ${describe(bytes)}`);
}

/**
 * Reads an answer that claims to be longer than any can be: its last byte, because an answer that does not all lie in the supervisor's
 * memory cannot be read, and then what can mean something. A supervisor may claim 4 GiB, so no room is made for what it claims.
 */
function receiveLong(ctx: SupervisorContext, address: number, size: number): Uint8Array {
  const last = address + size - 1;
  if (last > 0xffff_ffff) throw new RangeError(`${size} bytes at ${address} reach beyond 2^32`);
  read(ctx, last, 1);
  return read(ctx, address, ANSWER_BYTES);
}

/** A copy of as much of what was read as can mean something: it may be a view of memory that is about to be freed, of any length. */
export function answerOf(bytes: Uint8Array): Uint8Array {
  const count = Math.min(lengthOf(bytes), ANSWER_BYTES);
  const copy = new Uint8Array(count);
  for (let index = 0; index < count; index += 1) copy[index] = bytes[index];
  return copy;
}

function noAddress(ptr: unknown): never {
  throw new TypeError(`ctx.allocateMemory must return an integer from 0 to 4294967295, got ${describe(ptr)}`);
}

function noAnswer(result: unknown): never {
  throw new HostTrap(`ctx.invoke must return a bigint, got ${describe(result)}`);
}
