// Assertions about the two errors of the codec.
import assert from 'node:assert/strict';
import { ArgumentError, CodecError } from '../../../lib/base/errors';

/** Decoding refuses bytes with this message, at the byte with this offset. */
export function refusesBytes(run: () => unknown, message: string, offset: number): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof CodecError, String(error));
    assert.equal(error.message, `${message} at byte ${offset}`);
    assert.equal(error.offset, offset);
    assert.equal(error.code, 'ERR_SANDBOX_CODEC');
    return true;
  });
}

/** Encoding refuses an argument with exactly this message. */
export function refusesArgument(run: () => unknown, argument: string, message: string): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof ArgumentError, String(error));
    assert.equal(error.message, message);
    assert.equal(error.argument, argument);
    return true;
  });
}
