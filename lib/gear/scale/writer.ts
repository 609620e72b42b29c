/**
 * Writes the primitives of SCALE to bytes whose size is known from the start: values are checked and
 * measured first, then written, so no code of the caller runs in between and nothing grows. A writer
 * itself checks nothing.
 */

import { put64 } from '../../base/int64';

/** Bytes that are filled from the front. */
export class Writer {
  /**
   * The encoding, complete when as many bytes have been written as the size given to the constructor.
   */
  readonly bytes: Uint8Array<ArrayBuffer>;
  #offset = 0;

  /** @param size - of the whole encoding in bytes */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  byte(value: number): void {
    this.bytes[this.#offset] = value;
    this.#offset += 1;
  }

  /** Four bytes of a signed or unsigned integer, little endian. */
  bits32(value: number): void {
    const { bytes } = this;
    const offset = this.#offset;
    // Storing into a Uint8Array keeps the lowest 8 bits.
    bytes[offset] = value;
    bytes[offset + 1] = value >>> 8;
    bytes[offset + 2] = value >>> 16;
    bytes[offset + 3] = value >>> 24;
    this.#offset = offset + 4;
  }

  /** Eight bytes of a signed or unsigned integer, little endian. */
  bits64(value: bigint): void {
    put64(this.bytes, this.#offset, value);
    this.#offset += 8;
  }

  /**
   * The length of a sequence, as a compact u32 in its shortest form: the lowest two bits give the form.
   */
  length(length: number): void {
    if (length < 2 ** 6) {
      this.byte(length << 2);
    } else if (length < 2 ** 14) {
      this.byte((length << 2) | 0b01);
      this.byte(length >>> 6);
    } else if (length < 2 ** 30) {
      this.bits32((length << 2) | 0b10);
    } else {
      this.byte(0b11);
      this.bits32(length);
    }
  }

  /** A string that is encoded as UTF-8 already. */
  string(utf8: Uint8Array): void {
    this.length(utf8.length);
    this.bytes.set(utf8, this.#offset);
    this.#offset += utf8.length;
  }
}

/** The number of bytes that {@link Writer.length} writes. */
export function sizeOfLength(length: number): number {
  if (length < 2 ** 6) return 1;
  if (length < 2 ** 14) return 2;
  return length < 2 ** 30 ? 4 : 5;
}

/** The number of bytes that {@link Writer.string} writes. */
export function sizeOfString(utf8: Uint8Array): number {
  return sizeOfLength(utf8.length) + utf8.length;
}
