/**
 * What the constructors that are not for users ask for. TypeScript hides them, JavaScript does not, and what a user made by one would
 * stand for nothing.
 */

import { SandboxError } from './errors';

/** Nobody outside this package has it. */
export const MADE_HERE = Symbol('made here');

/** Refuses what a user makes by `new`; `source` says where such objects come from. */
export function refuseUsers(key: unknown, source: string): void {
  if (key !== MADE_HERE) throw new SandboxError(`it cannot be made by its constructor, but by ${source}`);
}
