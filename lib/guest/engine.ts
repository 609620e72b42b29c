import type { EngineOptions } from '../binding/addon';
import { watchCollections } from '../binding/collections';
import { native } from '../binding/native';

/** An engine, with the limits of the stores that are made with it. Native code shares one engine among all objects with equal options. */
export class Engine {
  /** What native code knows it by, for as long as this object lives. */
  readonly number: number;
  readonly #compiler: string;

  constructor(options: EngineOptions) {
    this.number = native.engine(this, options);
    // The others limit the memories and tables of the guests.
    const { memoryBytes, tableElements, totalBytes, ...compiler } = options;
    this.#compiler = Object.values(compiler).join();
    watchCollections();
  }

  /** Whether the modules of one run on the other. */
  isLike(other: Engine): boolean {
    return this.#compiler === other.#compiler;
  }
}
