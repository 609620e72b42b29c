import { uint32 } from '../base/arguments';
import { SandboxError } from '../base/errors';
import { refuseBeyond } from '../guest/limits';

/** Entries by index. Indices count from 0 and are not used again until {@link IndexTable.clear}. */
export class IndexTable<T> {
  readonly #argument: string;
  readonly #noun: string;
  readonly #article: string;
  #entries: (T | null)[] = [];
  #alive = 0;

  /**
   * @param argument - what the caller calls an index
   * @param noun - what messages call an entry
   * @param article - of the noun
   */
  constructor(argument: string, noun: string, article: 'a' | 'an') {
    this.#argument = argument;
    this.#noun = noun;
    this.#article = article;
  }

  /** How many entries there have been since the last {@link IndexTable.clear}. */
  get length(): number {
    return this.#entries.length;
  }

  /** How many entries there are. */
  get alive(): number {
    return this.#alive;
  }

  /** Adds an entry and gives its index. */
  add(entry: T): number {
    this.#alive += 1;
    return this.#entries.push(entry) - 1;
  }

  /** The entry at an unchecked index. */
  at(index: number): T {
    const entry = this.#entries[uint32(index, this.#argument)];
    if (entry) return entry;
    throw new SandboxError(
      `Trying to access a ${entry === undefined ? 'non-existent' : 'torndown'} ${this.#noun}`,
    );
  }

  /** Refuses one more entry than there may be. */
  refuseBeyond(most: number, plural: string): void {
    refuseBeyond(this.#alive, most, plural);
  }

  /** Takes the entry at an unchecked index out. */
  remove(index: number): T {
    const entry = this.#entries[uint32(index, this.#argument)];
    if (entry === undefined) throw new SandboxError(`Trying to teardown a non-existent ${this.#noun}`);
    if (entry === null) throw new SandboxError(`Double teardown of ${this.#article} ${this.#noun}`);
    this.#entries[index] = null;
    this.#alive -= 1;
    return entry;
  }

  /** Takes all entries out. */
  clear(): T[] {
    const entries = this.#entries;
    this.#entries = [];
    this.#alive = 0;
    return entries.filter((entry) => entry !== null);
  }
}
