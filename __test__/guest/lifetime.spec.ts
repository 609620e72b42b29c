// How long things live: handles that outlast a teardown or clear(), and teardowns while the guest is running.
// As with an `Rc` in the reference, whoever holds a handle keeps what it stands for.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Instantiate, JsSupervisor, SandboxComponents, SandboxError, Value } from '../../index';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { caught, sandboxError } from '../support/expect';
import { type GuestCall, guest } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "ask" (func $ask))
  (global $n (export "n") (mut i32) (i32.const 0))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "run") (result i32)
    (i32.store8 (i32.const 0) (i32.const 40))
    (call $ask)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store8 (i32.const 1) (i32.const 2))
    (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 1)))))`;

describe('Handles', () => {
  forEachBackend((backend) => {
    const build = (ask: (call: GuestCall) => void = () => {}, version: Instantiate = Instantiate.Version1) =>
      guest({
        backend,
        version,
        memory: { initial: 1, maximum: 4 },
        imports: {
          'env.ask': (_args, call) => {
            ask(call);
            return undefined;
          },
        },
        wat: GUEST,
      });

    /** Everything that a guest can still do through handles alone. */
    function works(
      { call, instance }: Pick<ReturnType<typeof build>, 'call' | 'instance'>,
      memory: ReturnType<typeof build>['memory'],
    ): void {
      assert.deepEqual(call('run'), Value.I32(42));
      memory.writeFrom(5, Uint8Array.of(55));
      assert.deepEqual(call('load', Value.I32(5)), Value.I32(55));
      new Uint8Array(memory.buffer)[6] = 66;
      assert.deepEqual(call('load', Value.I32(6)), Value.I32(66));
      instance.setGlobalVal('n', Value.I32(9));
      assert.deepEqual(instance.getGlobalVal('n'), Value.I32(9));
      assert.ok(instance.exports.length > 0);
    }

    it('of an instance outlive its teardown', () => {
      const made = build();
      const { components, index, memory } = made;
      components.instanceTeardown(index);
      works(made, memory);
      sandboxError('Trying to access a torndown instance', () => components.instance(index));
    });

    it('of a memory outlive its teardown', () => {
      const made = build();
      const { components, memory, memoryIndex } = made;
      components.memoryTeardown(memoryIndex);
      works(made, memory);
      assert.equal(memory.memoryGrow(1), 1);
      sandboxError('Trying to access a torndown sandboxed memory', () => components.memory(memoryIndex));
    });

    it('outlive clear()', () => {
      const made = build();
      const { components, memory } = made;
      components.clear();
      works(made, memory);
      sandboxError('Trying to access a non-existent instance', () => components.instance(0));
    });

    it('outlive a clear() after which the indices belong to others', () => {
      const made = build();
      const { components, memory } = made;
      memory.writeFrom(9, Uint8Array.of(9));
      components.clear();
      const later = guest({
        backend,
        components,
        memory: { initial: 1 },
        imports: { 'env.ask': () => undefined },
        wat: GUEST,
      });
      assert.equal(later.index, 0);
      assert.equal(later.memoryIndex, 0);
      assert.notEqual(later.memory, memory);
      assert.deepEqual(later.memory.read(9, 1), Uint8Array.of(0));
      works(made, memory);
      works(later, later.memory);
      assert.deepEqual(memory.read(9, 1), Uint8Array.of(9));
    });

    it('outlive their components', () => {
      const handles = (() => {
        const made = build();
        const { memory } = made;
        return { instance: made.instance, call: made.call, memory };
      })();
      works(handles, handles.memory);
    });

    it('of an exported memory outlive their instance', () => {
      const { components, instance, index } = guest({
        backend,
        wat: '(module (memory (export "memory") 1) (data (i32.const 0) "abc"))',
      });
      const memory = instance.getMemory('memory');
      components.instanceTeardown(index);
      components.clear();
      assert.deepEqual(memory?.read(0, 3), Uint8Array.of(97, 98, 99));
    });

    it('keep a guest going whose memory was torn down', () => {
      const { components, memoryIndex, index, call } = build();
      components.memoryTeardown(memoryIndex);
      call('store', Value.I32(3), Value.I32(7));
      assert.deepEqual(
        components.instance(index).invoke('load', [Value.I32(3)], new JsSupervisor()),
        Value.I32(7),
      );
    });

    it('keep the bytes of a memory whose guests were torn down', () => {
      const { components, memoryIndex, index, call } = build();
      call('store', Value.I32(3), Value.I32(7));
      components.instanceTeardown(index);
      const again = guest({
        backend,
        components,
        memory: memoryIndex,
        imports: { 'env.ask': () => undefined },
        wat: GUEST,
      });
      assert.deepEqual(again.call('load', Value.I32(3)), Value.I32(7));
    });

    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      describe(`under Version${version}, while the guest is running`, () => {
        it('outlive the teardown of its instance', () => {
          const made = build(({ instance, memory }) => {
            const { components, index } = made;
            components.instanceTeardown(index);
            sandboxError('Trying to access a torndown instance', () => components.instance(index));
            sandboxError('Double teardown of an instance', () => components.instanceTeardown(index));
            assert.deepEqual(instance?.getGlobalVal('n'), Value.I32(0));
            assert.deepEqual(memory?.read(0, 1), Uint8Array.of(40));
          }, version);
          const { components, index, memory } = made;
          assert.deepEqual(made.call('run'), Value.I32(42));
          sandboxError('Trying to access a torndown instance', () => components.instance(index));
          assert.deepEqual(made.instance.getGlobalVal('n'), Value.I32(1));
          assert.deepEqual(memory.read(1, 1), Uint8Array.of(2));
        });

        it('outlive the teardown of its memory', () => {
          const made = build(({ memory }) => {
            const { components, memoryIndex } = made;
            components.memoryTeardown(memoryIndex);
            sandboxError('Double teardown of a sandboxed memory', () =>
              components.memoryTeardown(memoryIndex),
            );
            assert.deepEqual(memory?.read(0, 1), Uint8Array.of(40));
            memory?.memoryGrow(1);
          }, version);
          const { memory } = made;
          assert.deepEqual(made.call('run'), Value.I32(42));
          assert.equal(memory.memorySize(), 2);
        });

        it('outlive clear()', () => {
          const made = build(({ instance, memory }) => {
            const { components } = made;
            components.clear();
            sandboxError('Trying to access a non-existent instance', () => components.instance(0));
            assert.equal(components.newMemory(1), 0);
            assert.deepEqual(memory?.read(0, 1), Uint8Array.of(40));
            instance?.setGlobalVal('n', Value.I32(10));
          }, version);
          assert.deepEqual(made.call('run'), Value.I32(42));
          assert.deepEqual(made.instance.getGlobalVal('n'), Value.I32(11));
          assert.deepEqual(made.components.memory(0).read(0, 1), Uint8Array.of(0));
        });

        it('outlive all three, with a nested call after each', () => {
          const made = build(({ instance }) => {
            const { components, index, memoryIndex } = made;
            const nested = () =>
              assert.deepEqual(instance?.invoke('load', [Value.I32(0)], new JsSupervisor()), Value.I32(40));
            components.instanceTeardown(index);
            nested();
            components.memoryTeardown(memoryIndex);
            nested();
            components.clear();
            nested();
            components[Symbol.dispose]();
            nested();
          }, version);
          assert.deepEqual(made.call('run'), Value.I32(42));
        });

        it('outlive a teardown in an inner call of two', () => {
          let depth = 0;
          const made = build(({ instance }) => {
            depth++;
            if (depth === 1) instance?.invoke('run', [], made.supervisor);
            else made.components.clear();
          }, version);
          assert.deepEqual(made.call('run'), Value.I32(42));
          assert.deepEqual(made.instance.getGlobalVal('n'), Value.I32(2));
        });
      });
    }

    it('are not needed by a guest that nobody but its components holds', () => {
      const components = new SandboxComponents<unknown>(backend);
      let done = false;
      const supervisor = new JsSupervisor();
      guest({
        backend,
        components,
        supervisor,
        memory: { initial: 1 },
        imports: {
          'env.ask': () => {
            components.clear();
            done = true;
            return undefined;
          },
        },
        wat: GUEST,
      });
      assert.deepEqual(components.instance(0).invoke('run', [], supervisor), Value.I32(42));
      assert.ok(done);
      caught(SandboxError, () => components.instance(0));
    });

    it('may be collected at any time, also while the guest is running', async () => {
      const child = await runFile(join(__dirname, 'scripts', 'garbage.ts'), {
        args: [backend, Buffer.from(wat(GUEST)).toString('base64')],
        execArgv: ['--expose-gc'],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      assert.match(child.stdout, /done/);
    });
  });
});
