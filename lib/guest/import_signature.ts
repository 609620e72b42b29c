/**
 * What a guest's imported function looks like from the scratch buffer: how to read its arguments out, as values or as
 * SCALE bytes, and how to write its result in. Made once for each import of a module and shared by its instances.
 */

import { describe, isArray } from '../base/arguments';
import { shortName } from '../base/short_text';
import { toValue, type Value, type ValueType } from '../base/values';
import { layout, scratchViews } from '../binding/native';
import { frames as framesOf } from '../gear/protocol/frames';
import { SupervisorTrap } from './host_trap';

const { words, ints, longs, ulongs } = scratchViews;
const { GAS, SLOTS } = layout;
const frames = framesOf;
/** From the gas to the first argument, in the scratch buffer and in a frame. */
const GAS_WORDS = 2 * (SLOTS - GAS);

/** The type of a slot as a small number: quicker to branch on than a string. */
export enum Slot {
  I32 = 0,
  I64 = 1,
  F32 = 2,
  F64 = 3,
}

const SLOT_OF: Readonly<Record<ValueType, Slot>> = {
  i32: Slot.I32,
  i64: Slot.I64,
  f32: Slot.F32,
  f64: Slot.F64,
};

/** The type of each slot. */
export const TYPE_OF: readonly ValueType[] = ['i32', 'i64', 'f32', 'f64'];

/** The slots of a list of types, or undefined if one of them has no {@link Value}. */
export function slotsOf(types: readonly string[]): readonly Slot[] | undefined {
  const slots = types.map((type) => SLOT_OF[type as ValueType]);
  return slots.includes(undefined as unknown as Slot) ? undefined : slots;
}

/** The type of a function in slots; undefined where one of the types has no {@link Value}. */
export interface Signature {
  readonly parameters: readonly Slot[] | undefined;
  readonly results: readonly Slot[] | undefined;
}

export function signatureOf(parameters: readonly string[], results: readonly string[]): Signature {
  return { parameters: slotsOf(parameters), results: slotsOf(results) };
}

const NO_SLOTS: readonly Slot[] = [];

/** Reads a slot of the scratch buffer. Small, so that V8 inlines it: floats are read elsewhere. */
export function readSlot(slot: Slot, index: number): Value {
  if (slot === Slot.I64) return { type: 'i64', value: longs[SLOTS + index] };
  if (slot === Slot.I32) return { type: 'i32', value: ints[2 * (SLOTS + index)] };
  return readFloat(slot, index);
}

/**
 * Reads slots of the scratch buffer from the first on. By a loop, because `map` asks the class of an array, which is anybody's to change,
 * what to make.
 */
export function readSlots(slots: readonly Slot[]): Value[] {
  const values: Value[] = [];
  for (let index = 0; index < slots.length; index += 1) values[index] = readSlot(slots[index], index);
  return values;
}

function readFloat(slot: Slot, index: number): Value {
  if (slot === Slot.F32) return { type: 'f32', bits: words[2 * (SLOTS + index)] };
  return { type: 'f64', bits: ulongs[SLOTS + index] };
}

/** Writes the payload of a value, which has been checked, to a slot of the scratch buffer. */
export function writeSlot(slot: Slot, index: number, payload: number | bigint): void {
  switch (slot) {
    case Slot.I32:
      ints[2 * (SLOTS + index)] = payload as number;
      break;
    case Slot.I64:
      longs[SLOTS + index] = payload as bigint;
      break;
    case Slot.F32:
      words[2 * (SLOTS + index)] = payload as number;
      break;
    case Slot.F64:
      ulongs[SLOTS + index] = payload as bigint;
      break;
  }
}

/** The payload of a value of the right type and range, undefined for everything else. Each property is read once. */
export function payloadFor(slot: Slot, value: unknown): number | bigint | undefined {
  if (typeof value !== 'object' || value === null || (value as Value).type !== TYPE_OF[slot])
    return undefined;
  switch (slot) {
    case Slot.I32: {
      const n = (value as { value: unknown }).value;
      return typeof n === 'number' && (n | 0) === n ? n : undefined;
    }
    case Slot.I64: {
      const n = (value as { value: unknown }).value;
      return typeof n === 'bigint' && BigInt.asIntN(64, n) === n ? n : undefined;
    }
    case Slot.F32: {
      const bits = (value as { bits: unknown }).bits;
      return typeof bits === 'number' && bits >>> 0 === bits ? bits : undefined;
    }
    case Slot.F64: {
      const bits = (value as { bits: unknown }).bits;
      return typeof bits === 'bigint' && BigInt.asUintN(64, bits) === bits ? bits : undefined;
    }
  }
}

/** One imported function of a module. */
export class ImportSite {
  readonly name: string;
  readonly #parameters: readonly Slot[];
  readonly #results: readonly Slot[];
  /** How many slots a call needs. */
  readonly slots: number;
  /** The only result. */
  readonly #result: Slot | typeof NOTHING | typeof SEVERAL;
  readonly #size: number;
  readonly #sizeWithGas: number;

  constructor(name: string, { parameters, results }: Signature) {
    this.name = name;
    // A function with other types traps before it comes here.
    this.#parameters = parameters ?? NO_SLOTS;
    this.#results = results ?? NO_SLOTS;
    this.slots = Math.max(this.#parameters.length, this.#results.length);
    this.#result =
      this.#results.length === 0 ? NOTHING : this.#results.length === 1 ? this.#results[0] : SEVERAL;
    const bytes = this.#parameters.reduce((sum, slot) => sum + encodedBytes(slot), 0);
    this.#size = lengthBytes(this.#parameters.length) + bytes;
    this.#sizeWithGas = lengthBytes(this.#parameters.length + 1) + encodedBytes(Slot.I64) + bytes;
  }

  /** The arguments as values. */
  readArguments(): Value[] {
    const parameters = this.#parameters;
    // Literals are a good deal quicker than pushing, and most functions are this short.
    if (parameters.length === 2) return [readSlot(parameters[0], 0), readSlot(parameters[1], 1)];
    if (parameters.length === 1) return [readSlot(parameters[0], 0)];
    return readSlots(parameters);
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

  /** Writes what {@link ImportSite.encodeArguments} gives to `bytes` at `address`, where there must be room, from a frame. */
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
      bytes[at] = Slot.I64;
      at = putWord(bytes, at + 1, words[from]);
      at = putWord(bytes, at, words[from + 1]);
    }
    let word = from + GAS_WORDS;
    for (let index = 0; index < parameters.length; index += 1, word += 2) {
      const slot = parameters[index];
      bytes[at] = slot;
      at = putWord(bytes, at + 1, words[word]);
      if (slot === Slot.I64 || slot === Slot.F64) at = putWord(bytes, at, words[word + 1]);
    }
  }

  /** Writes what a supervisor function returned. Whatever does not fit the type of the import traps the guest. */
  writeResult(result: unknown): void {
    if (this.#result === SEVERAL) this.#writeResults(result);
    else if (!this.tryWriteResult(result)) throw this.#mismatch(result);
  }

  /** Writes an array of several results. All of them are read before any is written, because to read them may run anything. */
  #writeResults(result: unknown): void {
    const slots = this.#results;
    if (!isArray(result)) throw this.#mismatch(result);
    const { length } = result;
    if (length !== slots.length) throw this.#mismatch(result);
    const payloads: (number | bigint)[] = [];
    for (let index = 0; index < slots.length; index += 1) {
      const value: unknown = result[index];
      const payload = payloadFor(slots[index], value);
      if (payload === undefined) throw this.#mismatchAt(index, value);
      payloads[index] = payload;
    }
    for (let index = 0; index < slots.length; index += 1) writeSlot(slots[index], index, payloads[index]);
  }

  /**
   * Writes what a supervisor function returned, or nothing if that does not fit the type of the import; nor if there are several results,
   * which take their time.
   */
  tryWriteResult(result: unknown): boolean {
    const slot = this.#result;
    if (slot === NOTHING) return result === undefined;
    if (slot === SEVERAL || typeof result !== 'object' || result === null) return false;
    // The usual types are checked here, too: by `payloadFor` and `writeSlot` a call takes some 25 ns longer.
    if (slot === Slot.I64) {
      if ((result as Value).type !== 'i64') return false;
      const value = (result as { value: unknown }).value;
      if (typeof value !== 'bigint' || BigInt.asIntN(64, value) !== value) return false;
      longs[SLOTS] = value;
      return true;
    }
    if (slot === Slot.I32) {
      if ((result as Value).type !== 'i32') return false;
      const value = (result as { value: unknown }).value;
      if (typeof value !== 'number' || (value | 0) !== value) return false;
      ints[2 * SLOTS] = value;
      return true;
    }
    const payload = payloadFor(slot, result);
    if (payload === undefined) return false;
    writeSlot(slot, 0, payload);
    return true;
  }

  /**
   * Writes a SCALE-encoded `ReturnValue`, as it stands at an offset of `bytes` and ends at `end` at the latest. Returns false,
   * and has written nothing, for what a decoder must look at: other types, and bytes that are no return value.
   */
  tryWriteEncoded(bytes: Uint8Array, at: number, end: number): boolean {
    const slot = this.#result;
    if (slot === NOTHING) return at < end && bytes[at] === 0;
    if (end < at + 6 || bytes[at] !== 1 || bytes[at + 1] !== slot) return false;
    if (slot === Slot.I32 || slot === Slot.F32) {
      ints[2 * SLOTS] = getWord(bytes, at + 2);
    } else {
      if (end < at + 10) return false;
      ints[2 * SLOTS] = getWord(bytes, at + 2);
      ints[2 * SLOTS + 1] = getWord(bytes, at + 6);
    }
    return true;
  }

  #mismatch(result: unknown): SupervisorTrap {
    const types = this.#results.map((slot) => TYPE_OF[slot]).join(', ') || 'nothing';
    const wanted = this.#result === SEVERAL ? `an array of ${this.#results.length} values (${types})` : types;
    return new SupervisorTrap(
      `the supervisor function for ${shortName(this.name)} must return ${wanted}, got ${given(result)}`,
    );
  }

  #mismatchAt(index: number, value: unknown): SupervisorTrap {
    const wanted = TYPE_OF[this.#results[index]];
    return new SupervisorTrap(
      `the supervisor function for ${shortName(this.name)} must return ${wanted} as its result ${index}, got ${given(value)}`,
    );
  }
}

const NOTHING = -1;
const SEVERAL = -2;

/** A sequence of so many items or more has its length in two bytes; of 2^14 or more, which no function has, in four. */
const MANY = 64;

function lengthBytes(count: number): number {
  return count < MANY ? 1 : 2;
}

function encodedBytes(slot: Slot): number {
  return slot === Slot.I32 || slot === Slot.F32 ? 5 : 9;
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

function given(result: unknown): string {
  try {
    return `a Value of type ${toValue(result, 'result').type}`;
  } catch {
    return describe(result);
  }
}
