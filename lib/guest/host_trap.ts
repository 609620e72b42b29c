import { SandboxError } from '../base/errors';

/**
 * Why a host call failed, on its way through the guest to the `TrapError` that the caller gets. Its message becomes that of the `TrapError`;
 * what host code threw, if it threw, becomes the cause. Users see one only if they call the methods of a `JsSupervisor` themselves.
 */
export class HostTrap extends SandboxError {
  /** Told by this, because `instanceof` runs code of a proxy. */
  readonly #isTrap = true;
  /** Wrapped, because undefined can be thrown too. */
  readonly thrown: { readonly value: unknown } | undefined;

  constructor(message: string, thrown?: { readonly value: unknown }) {
    super(message, { code: 'ERR_SANDBOX_TRAP', ...(thrown === undefined ? {} : { cause: thrown.value }) });
    this.thrown = thrown;
  }

  /** Whether something thrown is one. */
  static is(thrown: unknown): thrown is HostTrap {
    return typeof thrown === 'object' && thrown !== null && #isTrap in thrown;
  }
}
