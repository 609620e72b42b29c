// An AbortSignal ends a synchronous call: before it begins, or when a supervisor function has aborted it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  SandboxComponents,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { argumentError, caught } from '../support/expect';
import { guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (result i32)))
  (func (export "call") (result i32) (drop (call $f)) (call $f))
  (func (export "seven") (result i32) (i32.const 7)))`;

/** Whatever `run` throws. */
function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (thrown) {
    return thrown;
  }
  return assert.fail('nothing was thrown');
}

describe('A call with a signal', () => {
  forEachBackend((backend) => {
    it('throws the reason, by identity, if the signal is aborted before', () => {
      let calls = 0;
      const count = () => {
        calls += 1;
        return Value.I32(1);
      };
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': count } });
      for (const reason of [new Error('enough'), 'text', null, 0]) {
        const signal = AbortSignal.abort(reason);
        assert.equal(
          thrownBy(() => instance.invoke('call', [], supervisor, { signal })),
          reason,
        );
      }
      const signal = AbortSignal.abort();
      assert.equal(
        thrownBy(() => instance.invoke('call', [], supervisor, { signal })),
        signal.reason,
      );
      assert.equal(calls, 0);
      assert.deepEqual(instance.invoke('seven', [], supervisor), Value.I32(7));
    });

    it('ends after the supervisor function that aborts it, whatever that returns or throws', () => {
      for (const supervisor of [new JsSupervisor(), new ProtocolSupervisor()]) {
        for (const fails of [false, true]) {
          const controller = new AbortController();
          const reason = new Error('enough');
          let calls = 0;
          const abort = () => {
            calls += 1;
            controller.abort(reason);
            if (fails) throw new Error('something else');
            return Value.I32(1);
          };
          const { instance, call } = guest({ backend, supervisor, wat: GUEST, imports: { 'env.f': abort } });
          assert.equal(
            thrownBy(() => instance.invoke('call', [], supervisor, { signal: controller.signal })),
            reason,
          );
          assert.equal(calls, 1);
          assert.deepEqual(call('seven'), Value.I32(7));
        }
      }
    });

    it('returns as ever if nobody aborts it, or somebody else', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': () => {
            new AbortController().abort();
            return Value.I32(3);
          },
        },
      });
      const { signal } = new AbortController();
      assert.deepEqual(instance.invoke('call', [], supervisor, { signal }), Value.I32(3));
      assert.deepEqual(instance.invoke('call', [], supervisor, { signal, timeout: 1_000_000 }), Value.I32(3));
    });

    it('ends nested calls, which throw the same reason, and then the call around them', () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const seen: unknown[] = [];
      let depth = 0;
      const { instance, supervisor, call } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': (_args, { instance }) => {
            depth += 1;
            if (depth === 4) controller.abort(reason);
            else seen.push(thrownBy(() => instance?.invoke('call', [], supervisor)));
            return Value.I32(1);
          },
        },
      });
      seen.push(thrownBy(() => instance.invoke('call', [], supervisor, { signal: controller.signal })));
      assert.deepEqual(seen, [reason, reason, reason, reason]);
      assert.equal(depth, 4);
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('ends a nested call with a signal of its own alone', () => {
      const outer = new AbortController();
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': (_args, { instance }) => {
            const signal = AbortSignal.abort('inner');
            assert.equal(
              thrownBy(() => instance?.invoke('seven', [], supervisor, { signal })),
              'inner',
            );
            return Value.I32(5);
          },
        },
      });
      assert.deepEqual(instance.invoke('call', [], supervisor, { signal: outer.signal }), Value.I32(5));
    });

    it('has nothing to do with a trap of the guest', () => {
      const { instance, supervisor } = guest({ backend, wat: '(module (func (export "trap") unreachable))' });
      const { signal } = new AbortController();
      assert.equal(
        caught(TrapError, () => instance.invoke('trap', [], supervisor, { signal })).trap,
        'unreachable',
      );
    });

    it('ends an instantiation before it begins, and in its start function', () => {
      const components = new SandboxComponents(backend);
      const controller = new AbortController();
      const supervisor = new JsSupervisor();
      const f = supervisor.define(() => {
        controller.abort('enough');
        return Value.I32(1);
      });
      const starting = wat(`(module (import "env" "f" (func $f (result i32)))
        (func $start (drop (call $f))) (start $start))`);
      // One entry: env.f is a function.
      const definition = Uint8Array.of(4, 12, 101, 110, 118, 4, 102, 1, f, 0, 0, 0);
      const env = GuestEnvironment.decode(components, definition);
      const instantiate = (signal: AbortSignal) =>
        components.instantiate(Instantiate.Version1, starting, env, supervisor, { signal });
      assert.equal(
        thrownBy(() => instantiate(controller.signal)),
        'enough',
      );
      assert.equal(
        thrownBy(() => instantiate(AbortSignal.abort('before'))),
        'before',
      );
    });

    it('is refused if it is no signal', () => {
      const { instance, supervisor } = guest({
        backend,
        wat: GUEST,
        imports: { 'env.f': () => Value.I32(1) },
      });
      const pretended = Object.create(AbortSignal.prototype);
      for (const signal of [{ aborted: true }, null, 5, new AbortController(), pretended]) {
        argumentError('options.signal', () =>
          instance.invoke('seven', [], supervisor, { signal } as unknown as { signal: AbortSignal }),
        );
      }
    });
  });
});
