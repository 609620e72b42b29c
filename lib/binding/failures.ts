/** Turns the errors of the addon into this package's classes. */

import { types } from 'node:util';
import { ArgumentError, BusyError, InternalError, LimitError, SandboxError } from '../base/errors';
import type { ErrorKind } from './addon';

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

/** What each error of the addon has as its `code`. */
const KINDS: Readonly<Record<`${ErrorKind}`, true>> = {
  internal: true,
  panic: true,
  engine: true,
  'cache-folder': true,
  module: true,
  limit: true,
  'memory-size': true,
  'memory-grow': true,
  'out-of-bounds': true,
  global: true,
  link: true,
  'cpu-feature': true,
  busy: true,
  poisoned: true,
  'no-buffers': true,
};

/** The `code` that napi-rs gives to a panic. */
const PANIC = 'GenericFailure';
/** What it gives to a wrong argument, `NumberExpected` for one. */
const WRONG_ARGUMENT = /^InvalidArg$|Expected$/;

/** What an error of the addon is about; undefined for others. It may be of another realm than this code, so its class does not tell. */
export function kindOf(error: unknown): `${ErrorKind}` | undefined {
  if (!types.isNativeError(error)) return undefined;
  const { code } = error as { code?: unknown };
  if (typeof code !== 'string') return undefined;
  if (Object.hasOwn(KINDS, code)) return code as `${ErrorKind}`;
  if (code === PANIC) return 'panic';
  return WRONG_ARGUMENT.test(code) ? 'internal' : undefined;
}
