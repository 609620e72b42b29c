/**
 * What a guest's imported function looks like from the scratch buffer: how to read its arguments out, as values or as
 * SCALE bytes, and how to write its result in. Made once for each import of a module and shared by its instances.
 */

import { describe } from '../arguments';
import { layout, scratchViews } from '../native';
import { toValue, type Value, type ValueType } from '../values';
import { SupervisorTrap } from './supervisor_trap';

const { words, ints, longs, ulongs } = scratchViews;
const { SLOTS } = layout;

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

/** The slots of a list of types, or undefined if one of them has no {@link Value}. */
export function slotsOf(types: readonly string[]): readonly Slot[] | undefined {
  const slots = types.map((type) => SLOT_OF[type as ValueType]);
  return slots.includes(undefined as unknown as Slot) ? undefined : slots;
}

/** Reads a slot of the scratch buffer. */
export function readSlot(slot: Slot, index: number): Value {
  switch (slot) {
    case Slot.I32:
      return { type: 'i32', value: ints[2 * (SLOTS + index)] };
    case Slot.I64:
      return { type: 'i64', value: longs[SLOTS + index] };
    case Slot.F32:
      return { type: 'f32', bits: words[2 * (SLOTS + index)] };
    case Slot.F64:
      return { type: 'f64', bits: ulongs[SLOTS + index] };
  }
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

/** One imported function of a module. */
export class ImportSite {
  readonly name: string;
  readonly #parameters: readonly Slot[];
  readonly #results: readonly Slot[];
  readonly #encodedBytes: number;

  constructor(name: string, parameters: readonly string[], results: readonly string[]) {
    this.name = name;
    // A function with other types traps before it comes here.
    this.#parameters = slotsOf(parameters) ?? [];
    this.#results = slotsOf(results) ?? [];
    this.#encodedBytes = this.#parameters.reduce((sum, slot) => sum + encodedBytes(slot), 0);
  }

  /** The arguments as values. */
  readArguments(): Value[] {
    const parameters = this.#parameters;
    const count = parameters.length;
    // Literals are a good deal quicker than pushing, and most functions are this short.
    switch (count) {
      case 0:
        return [];
      case 1:
        return [readSlot(parameters[0], 0)];
      case 2:
        return [readSlot(parameters[0], 0), readSlot(parameters[1], 1)];
      case 3:
        return [readSlot(parameters[0], 0), readSlot(parameters[1], 1), readSlot(parameters[2], 2)];
      default: {
        const values: Value[] = [];
        for (let index = 0; index < count; index += 1) values.push(readSlot(parameters[index], index));
        return values;
      }
    }
  }

  /** The arguments as a SCALE-encoded `Vec<Value>`, with the gas as the first of them if there is one. */
  encodeArguments(gas: bigint | undefined): Uint8Array {
    const parameters = this.#parameters;
    const count = parameters.length + (gas === undefined ? 0 : 1);
    const header = count < 64 ? 1 : 2;
    const bytes = new Uint8Array(header + this.#encodedBytes + (gas === undefined ? 0 : 9));
    let at = header;
    if (header === 1) {
      bytes[0] = count << 2;
    } else {
      bytes[0] = ((count << 2) | 0b01) & 0xff;
      bytes[1] = count >>> 6;
    }
    if (gas !== undefined) {
      bytes[at] = Slot.I64;
      at = putWord(bytes, at + 1, Number(BigInt.asIntN(32, gas)));
      at = putWord(bytes, at, Number(BigInt.asIntN(32, gas >> 32n)));
    }
    for (let index = 0; index < parameters.length; index += 1) {
      const slot = parameters[index];
      bytes[at] = slot;
      at = putWord(bytes, at + 1, ints[2 * (SLOTS + index)]);
      if (slot === Slot.I64 || slot === Slot.F64) at = putWord(bytes, at, ints[2 * (SLOTS + index) + 1]);
    }
    return bytes;
  }

  /** Writes what a supervisor function returned. Whatever does not fit the type of the import traps the guest. */
  writeResult(result: unknown): void {
    const results = this.#results;
    if (results.length === 0) {
      if (result !== undefined) throw this.#mismatch(result);
      return;
    }
    if (results.length !== 1 || typeof result !== 'object' || result === null) throw this.#mismatch(result);
    const slot = results[0];
    const type = (result as Value).type;
    if (slot === Slot.I32 && type === 'i32') {
      const value = (result as { value: unknown }).value;
      if (typeof value === 'number' && (value | 0) === value) {
        ints[2 * SLOTS] = value;
        return;
      }
    } else if (slot === Slot.I64 && type === 'i64') {
      const value = (result as { value: unknown }).value;
      if (typeof value === 'bigint' && BigInt.asIntN(64, value) === value) {
        longs[SLOTS] = value;
        return;
      }
    } else if (slot === Slot.F32 && type === 'f32') {
      const bits = (result as { bits: unknown }).bits;
      if (typeof bits === 'number' && bits >>> 0 === bits) {
        words[2 * SLOTS] = bits;
        return;
      }
    } else if (slot === Slot.F64 && type === 'f64') {
      const bits = (result as { bits: unknown }).bits;
      if (typeof bits === 'bigint' && BigInt.asUintN(64, bits) === bits) {
        ulongs[SLOTS] = bits;
        return;
      }
    }
    throw this.#mismatch(result);
  }

  #mismatch(result: unknown): SupervisorTrap {
    const wanted = this.#results.map((slot) => TYPE_OF[slot]).join(', ') || 'nothing';
    return new SupervisorTrap(
      `the supervisor function for ${this.name} must return ${wanted}, got ${given(result)}`,
    );
  }
}

const TYPE_OF: readonly ValueType[] = ['i32', 'i64', 'f32', 'f64'];

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

function given(result: unknown): string {
  try {
    return `a Value of type ${toValue(result, 'result').type}`;
  } catch {
    return describe(result);
  }
}
