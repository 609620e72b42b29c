// A timeout ends a call wherever it is: computing, in the supervisor, in a start function, in nested calls. What ended can be
// used again. Times here are far apart, so that a busy machine changes nothing.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  GuestEnvironment,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  SandboxComponents,
  SandboxError,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { argumentError, caught } from '../support/expect';
import { guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

const SOON = { timeout: 20 };
const FAR = { timeout: 1_000_000 };

const GUEST = `(module
  (import "env" "f" (func $f (result i32)))
  (global $n (export "n") (mut i64) (i64.const 0))
  (func (export "endless") (loop $l (global.set $n (i64.add (global.get $n) (i64.const 1))) (br $l)))
  (func (export "call") (result i32) (call $f))
  (func (export "call endlessly") (loop $l (drop (call $f)) (br $l)))
  (func (export "seven") (result i32) (i32.const 7)))`;

/** What a call that takes too long throws. */
function timeoutError(run: () => unknown): SandboxError {
  const error = caught(SandboxError, run);
  assert.equal(error.code, 'ERR_SANDBOX_TIMEOUT', error.message);
  return error;
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('A call with a timeout', () => {
  forEachBackend((backend) => {
    it('ends when it is over, with a TrapError as the cause', () => {
      const { call, instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: { 'env.f': () => Value.I32(1) },
      });
      const error = timeoutError(() => instance.invoke('endless', [], supervisor, SOON));
      assert.ok(error.cause instanceof TrapError);
      assert.equal(error.cause.trap, 'interrupted');
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('leaves the guest as it was at that moment', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: { 'env.f': () => Value.I32(1) },
      });
      let before = 0n;
      for (let round = 0; round < 3; round += 1) {
        timeoutError(() => instance.invoke('endless', [], supervisor, SOON));
        const { value } = instance.getGlobalVal('n') as { value: bigint };
        assert.ok(value > before);
        before = value;
      }
    });

    it('returns as ever if it is quick enough, and the timeout reaches no later call', () => {
      const { call, instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: { 'env.f': () => Value.I32(1) },
      });
      for (const options of [FAR, { timeout: 30 }, { timeout: 0.5e9 }, { timeout: undefined }, {}]) {
        assert.deepEqual(instance.invoke('seven', [], supervisor, options), Value.I32(7));
      }
      sleep(40);
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('ends after the supervisor function in which its time was over, whatever that did', () => {
      for (const supervisor of [new JsSupervisor(), new ProtocolSupervisor()]) {
        let answers = 0;
        const slow = () => {
          answers += 1;
          sleep(40);
          if (answers === 2) throw new Error('it fails as well');
          return Value.I32(1);
        };
        const { instance, call } = guest({ backend, supervisor, wat: GUEST, imports: { 'env.f': slow } });
        timeoutError(() => instance.invoke('call endlessly', [], supervisor, SOON));
        timeoutError(() => instance.invoke('call endlessly', [], supervisor, SOON));
        assert.equal(answers, 2);
        assert.deepEqual(call('seven'), Value.I32(7));
      }
    });

    it('ends a nested call that has no timeout, and then the call around it', () => {
      const errors: unknown[] = [];
      const { instance, supervisor, call } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': (_args, { instance }) => {
            errors.push(timeoutError(() => instance?.invoke('endless', [], supervisor)));
            return Value.I32(1);
          },
        },
      });
      timeoutError(() => instance.invoke('call endlessly', [], supervisor, SOON));
      assert.equal(errors.length, 1, 'the outer guest did not go on');
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('ends a nested call with a timeout of its own alone, if that is earlier', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': (_args, { instance }) => {
            timeoutError(() => instance?.invoke('endless', [], supervisor, SOON));
            return Value.I32(9);
          },
        },
      });
      assert.deepEqual(instance.invoke('call', [], supervisor, FAR), Value.I32(9));
    });

    it('gives a nested call no more time than the call around it has', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': (_args, { instance }) => {
            timeoutError(() => instance?.invoke('endless', [], supervisor, FAR));
            return Value.I32(9);
          },
        },
      });
      timeoutError(() => instance.invoke('call', [], supervisor, SOON));
    });

    it('ends a guest of other components that is called inside it', () => {
      const other = guest({ backend, wat: GUEST, imports: { 'env.f': () => Value.I32(1) } });
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': () => {
            timeoutError(() => other.call('endless'));
            return Value.I32(1);
          },
        },
      });
      timeoutError(() => instance.invoke('call', [], supervisor, SOON));
      assert.deepEqual(other.call('seven'), Value.I32(7));
    });

    it('ends a start function with the same error, not as a failed instantiation', () => {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const endless = wat('(module (func $start (loop $l (br $l))) (start $start))');
      const env = GuestEnvironment.decode(components, Uint8Array.of(0));
      const instantiate = (options?: { timeout: number }) =>
        components.instantiate(Instantiate.Version1, endless, env, supervisor, options);
      const error = timeoutError(() => instantiate(SOON));
      assert.ok(!(error instanceof InstantiationError));
      const trapping = wat('(module (func $start unreachable) (start $start))');
      const failed = caught(InstantiationError, () =>
        components.instantiate(Instantiate.Version1, trapping, env, supervisor, FAR),
      );
      assert.equal(failed.kind, 'StartTrapped');
    });

    it('ends an instantiate inside a supervisor call', () => {
      const components = new SandboxComponents(backend);
      const endless = wat('(module (func $start (loop $l (br $l))) (start $start))');
      const env = GuestEnvironment.decode(components, Uint8Array.of(0));
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': () => {
            timeoutError(() =>
              components.instantiate(Instantiate.Version1, endless, env, new JsSupervisor()),
            );
            return Value.I32(1);
          },
        },
      });
      timeoutError(() => instance.invoke('call', [], supervisor, SOON));
    });

    it('is refused if it is no time', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: { 'env.f': () => Value.I32(1) },
      });
      for (const timeout of [0, -1, Number.NaN, Infinity, '5', 5n, null, {}]) {
        argumentError('options.timeout', () =>
          instance.invoke('seven', [], supervisor, { timeout } as unknown as { timeout: number }),
        );
      }
    });

    it('ends at the next supervisor call if the guest is not interruptible', () => {
      const { instance, supervisor, call } = guest({
        backend,
        wat: GUEST,
        components: new SandboxComponents<unknown>(backend, { interruptible: false }),
        imports: {
          'env.f': () => {
            sleep(1);
            return Value.I32(1);
          },
        },
      });
      timeoutError(() => instance.invoke('call endlessly', [], supervisor, SOON));
      assert.deepEqual(call('seven'), Value.I32(7));
    });
  });

  it('takes true or false for interruptible, nothing else', () => {
    argumentError(
      'options.interruptible',
      () => new SandboxComponents('wasmi', { interruptible: 1 as unknown as boolean }),
    );
  });
});
