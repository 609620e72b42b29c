/** The arguments and results of calls into guests: checked, converted, and read from the scratch buffer. */

import { argumentError, array, describe } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { toValue, Value } from '../base/values';
import type { ExportedFunction } from './module';
import { payloadFor as payloadForOf, readSlot, readSlots, Slot, TYPE_OF } from './slots';

/** An argument of a call: a value, or a plain number or bigint that is converted by the parameter's type. */
export type Argument = Value | number | bigint;

const payloadFor = payloadForOf;
const NO_PAYLOADS: readonly (number | bigint)[] = [];

/** Reads the results of a function out of the scratch buffer. */
export function resultsOf({ results }: ExportedFunction): Value | Value[] | undefined {
  if (results.length > 1) return readSlots(results);
  return results.length === 1 ? readSlot(results[0], 0) : undefined;
}

/** The arguments' payloads, checked against the function's type. All of them are read before any is written to the scratch buffer. */
export function checkArguments(
  fn: ExportedFunction,
  args: readonly Argument[],
): readonly (number | bigint)[] {
  const parameters = fn.parameters;
  const given = array(args, 'args');
  if (given.length !== parameters.length) throw wrongCount(parameters.length, given.length);
  if (parameters.length === 0) return NO_PAYLOADS;
  const payloads: (number | bigint)[] = [];
  for (let index = 0; index < parameters.length; index += 1) {
    const value = given[index];
    const slot = parameters[index];
    payloads[index] = payloadFor(slot, value) ?? payloadOf(argumentFor(slot, value, index));
  }
  return payloads;
}

function wrongCount(wanted: number, given: unknown): ArgumentError {
  const values = wanted === 1 ? 'value' : 'values';
  return new ArgumentError(
    `args must have ${wanted} ${values}, as the function has parameters, got ${describe(given)}`,
    { argument: 'args' },
  );
}

/**
 * Converts a plain number or bigint, as the WebAssembly JavaScript Interface does ("ToWebAssemblyValue"). For anything else it throws
 * what is wrong, unless a second look at its getters finds nothing wrong.
 */
function argumentFor(slot: Slot, argument: unknown, index: number): Value {
  if (typeof argument === 'number') return numberFor(slot, argument, index);
  if (typeof argument === 'bigint') {
    if (slot === Slot.I64) return { type: 'i64', value: BigInt.asIntN(64, argument) };
    throw argumentError(`args[${index}]`, `a number or a Value, for an ${TYPE_OF[slot]}`, argument);
  }
  if (typeof argument !== 'object' || argument === null) {
    const plain = slot === Slot.I64 ? 'bigint' : 'number';
    throw argumentError(`args[${index}]`, `a Value or a ${plain}, for an ${TYPE_OF[slot]}`, argument);
  }
  const value = toValue(argument, 'args', index);
  if (value.type === TYPE_OF[slot]) return value;
  throw new ArgumentError(`args[${index}] must be of type ${TYPE_OF[slot]}, got ${value.type}`, {
    argument: `args[${index}]`,
  });
}

function numberFor(slot: Slot, argument: number, index: number): Value {
  switch (slot) {
    case Slot.I32:
      return { type: 'i32', value: argument | 0 };
    case Slot.F32:
      return Value.f32(argument);
    case Slot.F64:
      return Value.f64(argument);
    case Slot.I64:
      throw argumentError(`args[${index}]`, 'a bigint or a Value, for an i64', argument);
  }
}

export function payloadOf(value: Value): number | bigint {
  return value.type === 'i32' || value.type === 'i64' ? value.value : value.bits;
}
