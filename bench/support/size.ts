/** What a bench finds that measures how large things are instead of how long they take. */

/** How much of something each one takes. */
export interface Size {
  readonly name: string;
  readonly bytes: number;
  /** The most that it should be. */
  readonly most?: number;
}

/** Sizes that belong in one table. */
export interface Sizes {
  readonly name: string;
  readonly sizes: readonly Size[];
}
