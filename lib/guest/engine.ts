import { watchCollections } from '../binding/collections';
import { native } from '../binding/native';

/** The first options decide what is compiled; the others limit the memories and tables of the guests. */
const COMPILER_OPTIONS = 8;

/** An engine, with the limits of the stores that are made with it. Native code shares one engine among all objects with equal options. */
export class Engine {
  /** What native code knows it by, for as long as this object lives. */
  readonly number: number;
  readonly #compiler: string;

  /** @param options - see `crate/node/functions.rs` */
  constructor(options: readonly number[]) {
    this.number = native.engine(this, new Uint8Array(new Float64Array(options).buffer));
    this.#compiler = options.slice(0, COMPILER_OPTIONS).join();
    watchCollections();
  }

  /** Whether the modules of one run on the other. */
  isLike(other: Engine): boolean {
    return this.#compiler === other.#compiler;
  }
}
