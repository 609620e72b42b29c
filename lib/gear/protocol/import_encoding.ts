/** How the protocol carries the calls of an imported function: its arguments as SCALE bytes, and its result out of them. */

import { layout, scratchViews } from '../../binding/scratch';
import type { ImportSignature } from '../../guest/signature';
import { Slot } from '../../guest/slots';
import { frames as framesOf } from './frames';

const { ints } = scratchViews;
const { GAS, SLOTS } = layout;
const frames = framesOf;
const { I32, I64, F32, F64 } = Slot;
/** From the gas to the first argument, in the scratch buffer and in a frame. */
const GAS_WORDS = 2 * (SLOTS - GAS);

/** One imported function of a module. */
export class ImportEncoding {
  readonly signature: ImportSignature;
  readonly #parameters: readonly Slot[];
  /** The only result. */
  readonly #result: Slot | typeof NOTHING | typeof SEVERAL;
  readonly #size: number;
  readonly #sizeWithGas: number;

  constructor(signature: ImportSignature) {
    const { parameters, results } = signature;
    this.signature = signature;
    this.#parameters = parameters;
    this.#result = results.length === 0 ? NOTHING : results.length === 1 ? results[0] : SEVERAL;
    const bytes = parameters.reduce((sum, slot) => sum + encodedBytes(slot), 0);
    this.#size = lengthBytes(parameters.length) + bytes;
    this.#sizeWithGas = lengthBytes(parameters.length + 1) + encodedBytes(I64) + bytes;
  }

  /** Whether it has several results, for which a `ReturnValue` has no room. */
  get hasSeveralResults(): boolean {
    return this.#result === SEVERAL;
  }

  /** How many bytes the encoded arguments take, with the gas if there is one. */
  sizeOfArguments(hasGas: boolean): number {
    return hasGas ? this.#sizeWithGas : this.#size;
  }

  /** The arguments as a SCALE-encoded `Vec<Value>`, with the gas as the first of them if there is one. */
  encodeArguments(hasGas: boolean): Uint8Array {
    const bytes = new Uint8Array(this.sizeOfArguments(hasGas));
    this.#encode(ints, 2 * GAS, hasGas, bytes, 0);
    return bytes;
  }

  /** Copies the arguments and the gas, as they stand in the scratch buffer, to a new frame. */
  pushFrame(): number {
    const words = GAS_WORDS + 2 * this.#parameters.length;
    const frame = frames.push(words);
    const saved = frames.words;
    for (let index = 0; index < words; index += 1) saved[frame + index] = ints[2 * GAS + index];
    return frame;
  }

  /** Writes what {@link ImportEncoding.encodeArguments} gives to `bytes` at `address`, where there must be room, from a frame. */
  encodeFrame(frame: number, hasGas: boolean, bytes: Uint8Array, address: number): void {
    this.#encode(frames.words, frame, hasGas, bytes, address);
  }

  /** `from` is where the gas stands in `words`; the arguments follow it. */
  #encode(words: Int32Array, from: number, hasGas: boolean, bytes: Uint8Array, address: number): void {
    const parameters = this.#parameters;
    const count = parameters.length + (hasGas ? 1 : 0);
    let at = address;
    if (count < MANY) {
      bytes[at] = count << 2;
      at += 1;
    } else {
      bytes[at] = ((count << 2) | 0b01) & 0xff;
      bytes[at + 1] = count >>> 6;
      at += 2;
    }
    if (hasGas) {
      bytes[at] = I64;
      at = putWord(bytes, at + 1, words[from]);
      at = putWord(bytes, at, words[from + 1]);
    }
    let word = from + GAS_WORDS;
    for (let index = 0; index < parameters.length; index += 1, word += 2) {
      const slot = parameters[index];
      bytes[at] = slot;
      at = putWord(bytes, at + 1, words[word]);
      if (slot === I64 || slot === F64) at = putWord(bytes, at, words[word + 1]);
    }
  }

  /**
   * Writes a SCALE-encoded `ReturnValue`, as it stands at an offset of `bytes` and ends at `end` at the latest. Returns false,
   * and has written nothing, for what a decoder must look at: other types, and bytes that are no return value.
   */
  tryWriteEncoded(bytes: Uint8Array, at: number, end: number): boolean {
    const slot = this.#result;
    if (slot === NOTHING) return at < end && bytes[at] === 0;
    if (end < at + 6 || bytes[at] !== 1 || bytes[at + 1] !== slot) return false;
    if (slot === I32 || slot === F32) {
      ints[2 * SLOTS] = getWord(bytes, at + 2);
    } else {
      if (end < at + 10) return false;
      ints[2 * SLOTS] = getWord(bytes, at + 2);
      ints[2 * SLOTS + 1] = getWord(bytes, at + 6);
    }
    return true;
  }
}

const encodings = new WeakMap<readonly ImportSignature[], readonly ImportEncoding[]>();

/** The encodings of the imported functions of a module, made when its first instance is called by the protocol. */
export function encodingsOf(imports: readonly ImportSignature[]): readonly ImportEncoding[] {
  let known = encodings.get(imports);
  if (known === undefined) {
    known = imports.map((signature) => new ImportEncoding(signature));
    encodings.set(imports, known);
  }
  return known;
}

const NOTHING = -1;
const SEVERAL = -2;

/** A sequence of so many items or more has its length in two bytes; of 2^14 or more, which no function has, in four. */
const MANY = 64;

function lengthBytes(count: number): number {
  return count < MANY ? 1 : 2;
}

function encodedBytes(slot: Slot): number {
  return slot === I32 || slot === F32 ? 5 : 9;
}

function putWord(bytes: Uint8Array, at: number, word: number): number {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
  return at + 4;
}

export function getWord(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}
