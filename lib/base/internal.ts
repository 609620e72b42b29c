/**
 * The key that internal constructors require. TypeScript hides these constructors, but JavaScript does
 * not, and an object that a user created with one would represent nothing.
 */

import { SandboxError } from './errors';

/** Only this package has this key. */
export const INTERNAL = Symbol('internal');

/** Throws if a user calls an internal constructor; `source` says where such objects come from. */
export function assertInternal(key: unknown, source: string): void {
  if (key !== INTERNAL) throw new SandboxError(`it cannot be made by its constructor, but by ${source}`);
}
