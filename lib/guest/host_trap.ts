/** Why a supervisor call failed, on its way through the guest to the `TrapError` that the caller gets. */

import { types } from 'node:util';
import { SandboxError } from '../base/errors';

/**
 * Thrown in dispatch: its message becomes that of the `TrapError`, and what somebody threw, if somebody did, the cause.
 * Users see it only if they call the methods of a `JsSupervisor` themselves.
 */
export class SupervisorTrap extends SandboxError {
  /** Told by this, because `instanceof` runs code of a proxy. */
  readonly #isTrap = true;
  /** Wrapped, because undefined can be thrown too. */
  readonly thrown: { readonly value: unknown } | undefined;

  constructor(message: string, thrown?: { readonly value: unknown }) {
    super(message, { code: 'ERR_SANDBOX_TRAP', ...(thrown === undefined ? {} : { cause: thrown.value }) });
    this.thrown = thrown;
  }

  /** Whether something thrown is one. */
  static is(thrown: unknown): thrown is SupervisorTrap {
    return typeof thrown === 'object' && thrown !== null && #isTrap in thrown;
  }
}

/** The message of anything that can be thrown; never throws itself. */
export function messageOf(thrown: unknown): string {
  try {
    // Native code and Node may throw errors of another realm, whose class is not ours.
    if (types.isNativeError(thrown) || thrown instanceof Error) return String(thrown.message);
    return String(thrown);
  } catch {
    return 'the supervisor threw something without a message';
  }
}
