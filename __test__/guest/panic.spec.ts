// A panic in native code is an error of the call that caused it, and the process goes on.
// `panicForTests` is internal: nothing public can panic on purpose.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SandboxError, Value } from '../../index';
import { native } from '../../lib/binding/native';
import { forEachBackend } from '../support/engines';
import { guest } from '../support/guest';

const GUEST = `(module (import "env" "f" (func $f (result i32)))
  (func (export "ask") (result i32) (call $f))
  (func (export "seven") (result i32) (i32.const 7)))`;

describe('A panic in native code', () => {
  it('is thrown as an error', () => {
    for (let i = 0; i < 3; i++) {
      assert.throws(
        () => native.panicForTests(),
        (error) => error instanceof Error && error.message.length > 0,
      );
    }
  });

  forEachBackend((backend) => {
    it('leaves guests usable', () => {
      const { call } = guest({ backend, imports: { 'env.f': () => Value.I32(1) }, wat: GUEST });
      assert.throws(() => native.panicForTests(), Error);
      assert.deepEqual(call('ask'), Value.I32(1));
    });

    it('inside a supervisor call can be caught, and the guest goes on', () => {
      const { call } = guest({
        backend,
        imports: {
          'env.f': () => {
            assert.throws(() => native.panicForTests(), Error);
            return call('seven') as Value;
          },
        },
        wat: GUEST,
      });
      assert.deepEqual(call('ask'), Value.I32(7));
    });

    it('inside a supervisor call that is not caught traps the guest', () => {
      const { call } = guest({
        backend,
        imports: { 'env.f': () => native.panicForTests() as never },
        wat: GUEST,
      });
      assert.throws(
        () => call('ask'),
        (error) => error instanceof SandboxError && error.cause instanceof Error,
      );
      assert.deepEqual(call('seven'), Value.I32(7));
    });
  });
});
