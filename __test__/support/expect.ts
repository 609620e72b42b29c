// Assertions about what is thrown. They hand the error back, so that a test can look at the rest of it.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { ArgumentError, SandboxError, TrapError } from '../../index';

/** A class of errors, whatever its constructor takes. */
export type ErrorClass<E> = { readonly name: string; readonly prototype: E };

/** What `run` throws, which must be of this class. */
export function caught<E extends Error>(type: ErrorClass<E>, run: () => unknown): E {
  let thrown: unknown;
  try {
    run();
  } catch (error) {
    thrown = error;
    if (error instanceof (type as unknown as ErrorConstructor)) return error as unknown as E;
    assert.fail(`expected a ${type.name}, got ${inspect(thrown, { depth: 1 })}`);
  }
  return assert.fail(`expected a ${type.name}, nothing was thrown`);
}

/** What a Promise rejects with, which must be of this class. */
export async function rejection<E extends Error>(type: ErrorClass<E>, promise: Promise<unknown>): Promise<E> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  return caught(type, () => {
    if (outcome !== undefined) throw outcome.error;
  });
}

/** The `SandboxError` with exactly this message that `run` throws. */
export function sandboxError(message: string, run: () => unknown): SandboxError {
  const error = caught(SandboxError, run);
  assert.equal(error.message, message);
  return error;
}

/** The `ArgumentError` that `run` throws, whose message names the argument. */
export function argumentError(name: string, run: () => unknown): ArgumentError {
  const error = caught(ArgumentError, run);
  assert.equal(error.code, 'ERR_SANDBOX_ARGUMENT');
  const word = new RegExp(`(^|[^\\w])${name.replace(/[[\].]/g, '\\$&')}($|[^\\w[])`);
  assert.match(error.message, word, `the message must name ${name}`);
  return error;
}

/** The `TrapError` of a supervisor call that `run` throws. */
export function supervisorTrap(run: () => unknown): TrapError {
  const error = caught(TrapError, run);
  assert.equal(error.code, 'ERR_SANDBOX_TRAP');
  assert.equal(error.trap, 'supervisor', error.message);
  return error;
}

/** Asserts the very same thing as cause, `undefined` included. */
export function causedBy(error: Error, thrown: unknown, why = ''): void {
  assert.ok(Object.hasOwn(error, 'cause'), `the error must have a cause ${why}`);
  assert.ok(Object.is(error.cause, thrown), `the cause must be what was thrown ${why}`);
}
