// What runs inside a supervisor call of an asynchronous call: nested calls, the memory of a guest that starts, Promises where nobody waits.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Instantiate, JsSupervisor, type Memory, SandboxComponents, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

/** More work than wasmi does between two looks at its interrupt. */
const LONG = `(func (export "long") (result i32) (local $k i32)
  (loop $more
    (local.set $k (i32.add (local.get $k) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $k) (i32.const 200000))))
  (local.get $k))`;

describe('Inside a supervisor call of an asynchronous call', () => {
  forEachBackend((backend) => {
    it('a long nested call into the same guest ends as it does outside, however long the answer has taken', async () => {
      let calls = 0;
      const made = guest({
        backend,
        wat: `(module (import "env" "host" (func $host)) ${LONG}
          (func (export "many") (param $n i32) (loop $more (call $host)
            (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $more (local.get $n)))))`,
        imports: {
          'env.host': () => {
            calls += 1;
            if (calls % 50 === 0) assert.deepEqual(made.call('long'), Value.I32(200_000));
          },
        },
      });
      for (let round = 0; round < 10; round += 1)
        await made.instance.invokeAsync('many', [500], made.supervisor);
      assert.equal(calls, 5_000);
    });

    const memories = {
      exported: '(memory (export "m") 1)',
      'its own and hidden': '(memory 1)',
    };
    for (const [name, text] of Object.entries(memories)) {
      it(`a start function has its memory, ${name}, also after an await`, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const supervisor = new JsSupervisor();
        const seen: (Memory | undefined)[] = [];
        const host = supervisor.define(async (_args, call) => {
          seen.push(call.memory);
          await sleep(1);
          seen.push(call.memory);
          call.memory?.writeFrom(8, Uint8Array.of(7));
        });
        const module = wat(`(module (import "env" "host" (func $host)) ${text}
          (func (export "load") (result i32) (i32.load8_u (i32.const 8))) (func $start call $host) (start $start))`);
        const env = environment(components, { 'env.host': host });
        const made = await components.instantiateAsync(Instantiate.Version1, module, env, supervisor);
        const instance = components.instance(made.register(components, undefined));
        assert.deepEqual(instance.invoke('load', [], supervisor), Value.I32(7));
        assert.notEqual(seen[0], undefined);
        assert.equal(seen[1], seen[0]);
        if (name === 'exported') assert.equal(instance.getMemory('m'), seen[0]);
      });
    }
  });
});

describe('A Promise that nobody can wait for', () => {
  forEachBackend((backend) => {
    it('traps the guest, and its rejection is nobody else’s business', async () => {
      const made = guest({
        backend,
        wat: '(module (import "env" "host" (func $host)) (func (export "run") call $host))',
        imports: { 'env.host': (async () => Promise.reject(new Error('nobody waits'))) as never },
      });
      const unhandled: unknown[] = [];
      const note = (reason: unknown): void => void unhandled.push(reason);
      process.on('unhandledRejection', note);
      try {
        caught(TrapError, () => made.call('run'));
        await sleep(10);
      } finally {
        process.off('unhandledRejection', note);
      }
      assert.deepEqual(unhandled, []);
    });
  });
});

describe('What was torn down', () => {
  forEachBackend((backend) => {
    it('makes room in a total, although its handles were looked at and nobody has collected them', () => {
      const components = new SandboxComponents<unknown>(backend, { limits: { totalBytes: 4 << 20 } });
      const supervisor = new JsSupervisor();
      const module = wat('(module (memory 16) (func (export "run")))');
      for (let round = 0; round < 20; round += 1) {
        const env = environment(components, {});
        const index = components
          .instantiate(Instantiate.Version1, module, env, supervisor)
          .register(components, undefined);
        components.instance(index).invoke('run', [], supervisor);
        components.instanceTeardown(index);
      }
      for (let round = 0; round < 20; round += 1) {
        const index = components.newMemory(16, 16);
        components.memory(index).writeFrom(0, Uint8Array.of(1));
        components.memoryTeardown(index);
      }
    });

    it('of a memory that shared an instance with one that stays is given back', () => {
      const components = new SandboxComponents<unknown>(backend, { limits: { totalBytes: 64 << 20 } });
      const supervisor = new JsSupervisor();
      const module = wat('(module (import "env" "a" (memory 1)) (import "env" "b" (memory 1)))');
      const stays = components.newMemory(1, 10);
      for (let round = 0; round < 40; round += 1) {
        const goes = components.newMemory(64, 64);
        const env = environment(components, {}, { 'env.a': stays, 'env.b': goes });
        const index = components
          .instantiate(Instantiate.Version1, module, env, supervisor)
          .register(components, undefined);
        components.instanceTeardown(index);
        components.memoryTeardown(goes);
      }
    });
  });
});
