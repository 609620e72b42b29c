/** The slots of the scratch buffer, in which the arguments and results of a call stand, and the values in them. */

import type { Value, ValueType } from '../base/values';
import { layout, scratchViews } from '../binding/scratch';

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

/** The type of each slot. */
export const TYPE_OF: readonly ValueType[] = ['i32', 'i64', 'f32', 'f64'];

/** The slots of a list of types, or undefined if one of them has no {@link Value}. */
export function slotsOf(types: readonly string[]): readonly Slot[] | undefined {
  const slots = types.map((type) => SLOT_OF[type as ValueType]);
  return slots.includes(undefined as unknown as Slot) ? undefined : slots;
}

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
