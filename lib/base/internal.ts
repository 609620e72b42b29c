/**
 * The key that internal constructors ask for. TypeScript hides those constructors, JavaScript does not, and an object that a user made by
 * one would stand for nothing.
 */

import { SandboxError } from './errors';

/** Only this package has it. */
export const INTERNAL = Symbol('internal');

/** Throws if a user calls an internal constructor; `source` says where such objects come from. */
export function assertInternal(key: unknown, source: string): void {
  if (key !== INTERNAL) throw new SandboxError(`it cannot be made by its constructor, but by ${source}`);
}
