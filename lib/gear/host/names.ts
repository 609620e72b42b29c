/** Names in the supervisor's memory: those of exports, which occur again and again. */

import { isUtf8 } from 'node:buffer';
import { SandboxError } from '../../base/errors';

/** A name that was decoded before. */
interface Known {
  readonly utf8: Uint8Array;
  readonly name: string;
}

/** A power of 2. */
const PLACES = 64;
/** Longer names are not kept. */
const MOST_BYTES = 64;

/**
 * Decodes names, and caches recent ones: decoding one takes about as long as everything else in a host
 * function.
 */
export class Names {
  /** Each name has one place, where another name may replace it. */
  readonly #known: (Known | undefined)[] = new Array(PLACES).fill(undefined);

  /**
   * The name at `address`.
   *
   * @throws SandboxError if it is not UTF-8
   */
  read(bytes: Uint8Array, address: number, size: number): string {
    if (size > MOST_BYTES) return decode(bytes.slice(address, address + size));
    let hash = size;
    for (let index = 0; index < size; index += 1) hash = (Math.imul(hash, 31) + bytes[address + index]) | 0;
    const place = (hash ^ (hash >>> 16)) & (PLACES - 1);
    const known = this.#known[place];
    if (known !== undefined && holds(bytes, address, size, known.utf8)) return known.name;
    // A copy, so that another thread cannot change shared memory between the check and the use.
    const utf8 = bytes.slice(address, address + size);
    const name = decode(utf8);
    this.#known[place] = { utf8, name };
    return name;
  }
}

function holds(bytes: Uint8Array, address: number, size: number, utf8: Uint8Array): boolean {
  if (utf8.length !== size) return false;
  for (let index = 0; index < size; index += 1) if (bytes[address + index] !== utf8[index]) return false;
  return true;
}

function decode(utf8: Uint8Array): string {
  if (isUtf8(utf8)) return Buffer.from(utf8.buffer, utf8.byteOffset, utf8.length).toString('utf8');
  throw new SandboxError('the name is not UTF-8');
}
