/**
 * A supervisor with a linear memory of its own, as cheap as a careful author would make it: bytes are decoded where they
 * lie, and the allocator only moves a mark, which goes back when nothing is allocated any more.
 */

import type { SupervisorContext } from 'sandbox-host';

/** The arguments of a guest's call, i64 and f64 as bigints, and what the guest gets: an i64. */
export type LinearFunction = (args: readonly (number | bigint)[]) => bigint;

enum Type {
  I32 = 0,
  I64 = 1,
  F32 = 2,
  F64 = 3,
}

/** `Ok(ReturnValue::Value(Value::I64(…)))`: a byte for each variant and 8 for the number. */
const RESULT_BYTES = 11;
const FIRST_ADDRESS = 8;

export class LinearSupervisor implements SupervisorContext {
  readonly #functions: LinearFunction[] = [];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #packed = new BigInt64Array(1);
  readonly #packedWords = new Uint32Array(this.#packed.buffer);
  #top = FIRST_ADDRESS;
  #allocations = 0;

  constructor(size = 64 * 1024) {
    this.#bytes = new Uint8Array(size);
    this.#view = new DataView(this.#bytes.buffer);
  }

  define(fn: LinearFunction): number {
    return this.#functions.push(fn) - 1;
  }

  allocateMemory(size: number): number {
    const address = this.#top;
    if (address + size > this.#bytes.length) throw new RangeError(`no room for ${size} bytes`);
    this.#top = (address + size + 7) & ~7;
    this.#allocations += 1;
    return address;
  }

  deallocateMemory(): void {
    this.#allocations -= 1;
    if (this.#allocations === 0) this.#top = FIRST_ADDRESS;
  }

  writeMemory(address: number, data: Uint8Array): void {
    this.#bytes.set(data, address);
  }

  readMemoryInto(address: number, dest: Uint8Array): void {
    const bytes = this.#bytes;
    if (address + dest.length > bytes.length) throw new RangeError('read beyond the memory');
    for (let index = 0; index < dest.length; index += 1) dest[index] = bytes[address + index];
  }

  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: number): bigint {
    const result = this.#functions[funcIdx](this.#decode(invokeArgsPtr, invokeArgsLen));
    const address = this.allocateMemory(RESULT_BYTES);
    const bytes = this.#bytes;
    bytes[address] = 0;
    bytes[address + 1] = 1;
    bytes[address + 2] = Type.I64;
    this.#view.setBigInt64(address + 3, result, true);
    return this.#pack(address, RESULT_BYTES);
  }

  #decode(address: number, length: number): (number | bigint)[] {
    const view = this.#view;
    const count = view.getUint8(address);
    if ((count & 0b11) !== 0) throw new RangeError('more arguments than expected');
    const args: (number | bigint)[] = [];
    let at = address + 1;
    for (let left = count >>> 2; left > 0; left -= 1) {
      const type = view.getUint8(at);
      switch (type) {
        case Type.I32:
          args.push(view.getInt32(at + 1, true));
          at += 5;
          break;
        case Type.I64:
          args.push(view.getBigInt64(at + 1, true));
          at += 9;
          break;
        case Type.F32:
          args.push(view.getFloat32(at + 1, true));
          at += 5;
          break;
        case Type.F64:
          args.push(view.getFloat64(at + 1, true));
          at += 9;
          break;
        default:
          throw new RangeError(`unknown type ${type}`);
      }
    }
    if (at > address + length) throw new RangeError('truncated arguments');
    return args;
  }

  #pack(address: number, length: number): bigint {
    this.#packedWords[0] = length;
    this.#packedWords[1] = address;
    return this.#packed[0];
  }
}
