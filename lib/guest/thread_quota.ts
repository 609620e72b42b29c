import { watchCollections } from '../binding/collections';
import { native } from '../binding/native';

/** How many native threads the asynchronous calls of some components may hold at once. It costs nothing before the first of them. */
export class ThreadQuota {
  readonly #threads: number;
  #number: number | undefined;

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** What native code knows it by, for as long as this object lives. */
  get number(): number {
    if (this.#number === undefined) {
      this.#number = native.newThreadQuota(this, this.#threads);
      watchCollections();
    }
    return this.#number;
  }
}
