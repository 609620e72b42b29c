import { describe, isArray } from '../base/arguments';
import { shortName } from '../base/short_text';
import { toValue, type Value } from '../base/values';
import { layout, scratchViews } from '../binding/scratch';
import { HostTrap } from './host_trap';
import {
  payloadFor as payloadForOf,
  readSlot as readSlotOf,
  readSlots,
  Slot,
  slotsOf,
  TYPE_OF,
  writeSlot as writeSlotOf,
} from './slots';

const { ints, longs } = scratchViews;
const { SLOTS } = layout;
const readSlot = readSlotOf;
const payloadFor = payloadForOf;
const writeSlot = writeSlotOf;
const { I32, I64 } = Slot;

/** The type of a function in slots; undefined where one of the types has no {@link Value}. */
export interface Signature {
  readonly parameters: readonly Slot[] | undefined;
  readonly results: readonly Slot[] | undefined;
}

export function signatureOf(parameters: readonly string[], results: readonly string[]): Signature {
  return { parameters: slotsOf(parameters), results: slotsOf(results) };
}

const NO_SLOTS: readonly Slot[] = [];

/**
 * An imported function of a module: how its arguments are read out of the scratch buffer, and how its result is written. Made once for each import
 * and shared by the instances of the module.
 */
export class ImportSignature {
  readonly name: string;
  readonly parameters: readonly Slot[];
  readonly results: readonly Slot[];
  /** How many slots a call needs. */
  readonly slots: number;
  /** The only result. */
  readonly #result: Slot | typeof NOTHING | typeof SEVERAL;

  constructor(name: string, { parameters, results }: Signature) {
    this.name = name;
    // A function with other types traps before it comes here.
    this.parameters = parameters ?? NO_SLOTS;
    this.results = results ?? NO_SLOTS;
    this.slots = Math.max(this.parameters.length, this.results.length);
    this.#result =
      this.results.length === 0 ? NOTHING : this.results.length === 1 ? this.results[0] : SEVERAL;
  }

  /** The arguments as values. */
  readArguments(): Value[] {
    const parameters = this.parameters;
    // Literals are a good deal quicker than pushing, and most functions are this short.
    if (parameters.length === 2) return [readSlot(parameters[0], 0), readSlot(parameters[1], 1)];
    if (parameters.length === 1) return [readSlot(parameters[0], 0)];
    return readSlots(parameters);
  }

  /** Writes what a supervisor function returned. Whatever does not fit the type of the import traps the guest. */
  writeResult(result: unknown): void {
    if (this.#result === SEVERAL) this.#writeResults(result);
    else if (!this.tryWriteResult(result)) throw this.#mismatch(result);
  }

  /** Writes an array of several results. All of them are read before any is written, because to read them may run anything. */
  #writeResults(result: unknown): void {
    const slots = this.results;
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
    if (slot === I64) {
      if ((result as Value).type !== 'i64') return false;
      const value = (result as { value: unknown }).value;
      if (typeof value !== 'bigint' || BigInt.asIntN(64, value) !== value) return false;
      longs[SLOTS] = value;
      return true;
    }
    if (slot === I32) {
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

  #mismatch(result: unknown): HostTrap {
    const types = this.results.map((slot) => TYPE_OF[slot]).join(', ') || 'nothing';
    const wanted = this.#result === SEVERAL ? `an array of ${this.results.length} values (${types})` : types;
    return new HostTrap(
      `the supervisor function for ${shortName(this.name)} must return ${wanted}, got ${given(result)}`,
    );
  }

  #mismatchAt(index: number, value: unknown): HostTrap {
    const wanted = TYPE_OF[this.results[index]];
    return new HostTrap(
      `the supervisor function for ${shortName(this.name)} must return ${wanted} as its result ${index}, got ${given(value)}`,
    );
  }
}

const NOTHING = -1;
const SEVERAL = -2;

function given(result: unknown): string {
  try {
    return `a Value of type ${toValue(result, 'result').type}`;
  } catch {
    return describe(result);
  }
}
