/** Turns the errors of the addon into this package's classes. */

import { types } from 'node:util';
import { ArgumentError, BusyError, InternalError, LimitError, SandboxError } from '../base/errors';

/** The error class for each kind of failure that the addon reports. */
export function translate(error: unknown, argument: string): unknown {
  const kind = kindOf(error);
  if (kind === undefined) return error;
  const message = (error as Error).message;
  switch (kind) {
    case 'memory-size':
      return new ArgumentError(`${argument} must be a size that a memory can have: ${message}`, { argument });
    case 'out-of-bounds':
      return new ArgumentError(message, { argument });
    case 'memory-grow':
      return new LimitError(`Cannot grow memory: ${message}`);
    case 'limit':
      return new LimitError(message);
    case 'no-buffers':
      return new LimitError(`${message}: copy the bytes by Memory.read and Memory.writeFrom`);
    case 'global':
      return new SandboxError(message);
    case 'busy':
      return new BusyError(message);
    case 'poisoned':
      return new InternalError(message);
    case 'panic':
      return new InternalError(
        `sandbox-host has a bug: ${message}. If a guest was running, its store is unusable now`,
      );
    default:
      return new InternalError(`sandbox-host has a bug: ${message}. The store is still usable`);
  }
}

/** The addon marks its own errors with a property `kind`. They may be of another realm than this code, so their class does not tell. */
export function kindOf(error: unknown): string | undefined {
  if (!types.isNativeError(error)) return undefined;
  const kind = (error as { kind?: unknown }).kind;
  return typeof kind === 'string' ? kind : undefined;
}
