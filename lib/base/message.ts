import { types } from 'node:util';

/** The message of any thrown value; never throws itself. */
export function messageOf(thrown: unknown): string {
  try {
    // Native code and Node may throw errors of another realm, with a different `Error` class.
    if (types.isNativeError(thrown) || thrown instanceof Error) return String(thrown.message);
    return String(thrown);
  } catch {
    return 'the supervisor threw something without a message';
  }
}
