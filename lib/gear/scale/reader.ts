/**
 * Reads the primitives of SCALE from bytes, as strictly as `parity-scale-codec` 3.7: what that refuses
 * throws a `CodecError` with the offset of the byte. A reader knows no types of the sandbox; those are
 * in the other files of this folder. Format:
 * https://docs.rs/parity-scale-codec/3.7.5/parity_scale_codec/
 */

import { isUtf8 } from 'node:buffer';
import { bytes as bytesArgument, lengthOf } from '../../base/arguments';
import { CodecError } from '../../base/errors';
import { getInt64, getUint64 } from '../../base/int64';

/**
 * A position in bytes that advances with each read. After an error, the reader must not be used any
 * more.
 */
export class Reader {
  /** This may be the caller's own array: only its elements can be trusted. */
  readonly #bytes: Uint8Array;
  readonly #length: number;
  #offset = 0;

  /** @param bytes - a `BufferSource`; anything else throws an `ArgumentError` */
  constructor(bytes: unknown) {
    this.#bytes = bytesArgument(bytes, 'bytes');
    this.#length = lengthOf(this.#bytes);
  }

  /** How many bytes have been read. */
  get offset(): number {
    return this.#offset;
  }

  /** One byte. */
  byte(what: string): number {
    return this.#bytes[this.#take(1, what)];
  }

  int32(what: string): number {
    const start = this.#take(4, what);
    const bytes = this.#bytes;
    return bytes[start] | (bytes[start + 1] << 8) | (bytes[start + 2] << 16) | (bytes[start + 3] << 24);
  }

  uint32(what: string): number {
    return this.int32(what) >>> 0;
  }

  int64(what: string): bigint {
    return getInt64(this.#bytes, this.#take(8, what));
  }

  uint64(what: string): bigint {
    return getUint64(this.#bytes, this.#take(8, what));
  }

  /**
   * The length of a sequence: a compact u32. Since every item takes at least `itemBytes`, a length that
   * exceeds the rest of the bytes is refused here, before anything is allocated for it.
   */
  length(what: string, itemBytes: number): number {
    const length = this.#compact(what);
    const size = length * itemBytes;
    const start = this.#offset;
    const left = this.#length - start;
    if (size <= left) return length;
    throw this.error(
      `truncated: ${what} of length ${length} takes at least ${size} bytes, ${left} left`,
      start,
    );
  }

  /** A string: its length in bytes, then UTF-8 as strict as Rust's. A byte order mark is kept. */
  string(what: string): string {
    const length = this.length(what, 1);
    const start = this.#take(length, what);
    // A copy, so that another thread can't change shared memory between the check and the use.
    const bytes = this.#bytes;
    const utf8 = Buffer.allocUnsafe(length);
    for (let index = 0; index < length; index += 1) utf8[index] = bytes[start + index];
    if (!isUtf8(utf8)) throw this.error(`invalid UTF-8 in ${what}`, start);
    return utf8.toString('utf8');
  }

  /** The error for bytes that cannot be decoded; `offset` is where the faulty item begins. */
  error(message: string, offset: number): CodecError {
    return new CodecError(`${message} at byte ${offset}`, { offset });
  }

  /** A compact u32. Each number has one encoding, the shortest; longer ones are refused. */
  #compact(what: string): number {
    const start = this.#offset;
    const first = this.byte(what);
    let value: number;
    let least: number;
    switch (first & 0b11) {
      case 0b00:
        return first >>> 2;
      case 0b01:
        value = (first >>> 2) | (this.byte(what) << 6);
        least = 2 ** 6;
        break;
      case 0b10:
        this.#offset = start;
        value = this.uint32(what) >>> 2;
        least = 2 ** 14;
        break;
      default:
        // The upper bits say how many bytes follow, minus 4; a u32 never has more than 4.
        if (first !== 0b11) throw this.error(`${what} has a length beyond 32 bits`, start);
        value = this.uint32(what);
        least = 2 ** 30;
        break;
    }
    if (value < least) throw this.error(`${what} has a length that is not in its shortest form`, start);
    return value;
  }

  /** Advances by `size` bytes and returns the offset of the first of them. */
  #take(size: number, what: string): number {
    const start = this.#offset;
    const left = this.#length - start;
    if (size > left) {
      const unit = size === 1 ? 'byte' : 'bytes';
      throw this.error(`truncated: ${what} takes ${size} ${unit}, ${left} left`, start);
    }
    this.#offset = start + size;
    return start;
  }
}
