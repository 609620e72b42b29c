// Memories shared between guests: two guests of one memory, and guests that import several memories.
// A memory and the guests that import it form a group; a guest can join two groups only while one is unused.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

const PAGE = 65536;

const ONE = `(module
  (import "env" "memory" (memory 1))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size)))`;

const TWO = `(module
  (import "env" "a" (memory 1))
  (import "env" "b" (memory 1))
  (func (export "load a") (param i32) (result i32) (i32.load8_u 0 (local.get 0)))
  (func (export "load b") (param i32) (result i32) (i32.load8_u 1 (local.get 0)))
  (func (export "store b") (param i32 i32) (i32.store8 1 (local.get 0) (local.get 1)))
  (func (export "grow b") (param i32) (result i32) (memory.grow 1 (local.get 0)))
  (func (export "copy") (memory.copy 1 0 (i32.const 0) (i32.const 0) (i32.const 16))))`;

describe('Two guests of one memory', () => {
  forEachBackend((backend) => {
    function pair() {
      const components = new SandboxComponents<unknown>(backend);
      const memory = components.newMemory(1, 5);
      return [0, 1].map(() => guest({ backend, components, memory, wat: ONE }));
    }

    it('see what the other one writes', () => {
      const [a, b] = pair();
      a.call('store', Value.I32(1), Value.I32(10));
      assert.deepEqual(b.call('load', Value.I32(1)), Value.I32(10));
      b.call('store', Value.I32(1), Value.I32(20));
      assert.deepEqual(a.call('load', Value.I32(1)), Value.I32(20));
      assert.deepEqual(a.memory.read(1, 1), Uint8Array.of(20));
    });

    it('see the growth by the other one', () => {
      const [a, b] = pair();
      assert.deepEqual(a.call('grow', Value.I32(2)), Value.I32(1));
      assert.deepEqual(b.call('size'), Value.I32(3));
      b.call('store', Value.I32(3 * PAGE - 1), Value.I32(5));
      assert.deepEqual(a.call('load', Value.I32(3 * PAGE - 1)), Value.I32(5));
    });

    it('go on when the other one is torn down', () => {
      const [a, b] = pair();
      a.call('store', Value.I32(1), Value.I32(10));
      a.components.instanceTeardown(a.index);
      assert.deepEqual(b.call('load', Value.I32(1)), Value.I32(10));
    });

    it('do not see other memories of the same components', () => {
      const [a] = pair();
      const other = guest({ backend, components: a.components, memory: { initial: 1 }, wat: ONE });
      a.call('store', Value.I32(1), Value.I32(10));
      assert.deepEqual(other.call('load', Value.I32(1)), Value.I32(0));
    });
  });
});

describe('A guest of two memories', () => {
  forEachBackend((backend) => {
    const store = () => new SandboxComponents<unknown>(backend);

    function instantiate(components: SandboxComponents<unknown>, a: number, b: number) {
      const supervisor = new JsSupervisor();
      const index = components
        .instantiate(
          Instantiate.Version1,
          wat(TWO),
          environment(components, {}, { 'env.a': a, 'env.b': b }),
          supervisor,
        )
        .register(components, undefined);
      const instance = components.instance(index);
      return (name: string, ...args: number[]) => instance.invoke(name, args.map(Value.I32), supervisor);
    }

    it('may be the first user of both', () => {
      const components = store();
      const [a, b] = [components.newMemory(1), components.newMemory(1)];
      components.memory(a).writeFrom(3, Uint8Array.of(1));
      components.memory(b).writeFrom(3, Uint8Array.of(2));
      const call = instantiate(components, a, b);
      assert.deepEqual(call('load a', 3), Value.I32(1));
      assert.deepEqual(call('load b', 3), Value.I32(2));
      call('copy');
      assert.deepEqual(components.memory(b).read(3, 1), Uint8Array.of(1));
    });

    it('may import one memory under two names', () => {
      const components = store();
      const memory = components.newMemory(1);
      const call = instantiate(components, memory, memory);
      call('store b', 3, 9);
      assert.deepEqual(call('load a', 3), Value.I32(9));
    });

    for (const used of ['a', 'b'] as const) {
      describe(`of which only ${used} is used already`, () => {
        function build(backendOf: SandboxBackend) {
          const components = new SandboxComponents<unknown>(backendOf);
          const a = components.newMemory(1, 4);
          const b = components.newMemory(1, 4);
          const user = guest({ backend: backendOf, components, memory: used === 'a' ? a : b, wat: ONE });
          return { components, a, b, user };
        }

        it('keeps the bytes of both', () => {
          const { components, a, b, user } = build(backend);
          components.memory(a).writeFrom(7, Uint8Array.of(1));
          components.memory(b).writeFrom(7, Uint8Array.of(2));
          components.memory(b).writeFrom(PAGE - 1, Uint8Array.of(3));
          const call = instantiate(components, a, b);
          assert.deepEqual(call('load a', 7), Value.I32(1));
          assert.deepEqual(call('load b', 7), Value.I32(2));
          assert.deepEqual(call('load b', PAGE - 1), Value.I32(3));
          assert.deepEqual(user.call('load', Value.I32(7)), Value.I32(used === 'a' ? 1 : 2));
        });

        it('shares both with the host through handles taken before', () => {
          const { components, a, b } = build(backend);
          const memory = components.memory(b);
          memory.writeFrom(0, Uint8Array.of(1));
          const call = instantiate(components, a, b);
          memory.writeFrom(1, Uint8Array.of(5));
          assert.deepEqual(call('load b', 1), Value.I32(5));
          call('store b', 2, 6);
          assert.deepEqual(memory.read(0, 3), Uint8Array.of(1, 5, 6));
          assert.equal(components.memory(b), memory);
        });

        it('keeps the size and the maximum of both', () => {
          const { components, a, b } = build(backend);
          const memory = components.memory(b);
          memory.memoryGrow(1);
          memory.writeFrom(2 * PAGE - 1, Uint8Array.of(8));
          const call = instantiate(components, a, b);
          assert.deepEqual(call('load b', 2 * PAGE - 1), Value.I32(8));
          assert.equal(memory.memorySize(), 2);
          assert.deepEqual(call('grow b', 3), Value.I32(-1));
          assert.deepEqual(call('grow b', 2), Value.I32(2));
          assert.equal(memory.memorySize(), 4);
          assert.throws(() => memory.memoryGrow(1), /Cannot grow memory/);
        });

        it('leaves a held view either live or detached, never astray', () => {
          const { components, a, b } = build(backend);
          const memory = components.memory(b);
          const view = new Uint8Array(memory.buffer);
          view[0] = 1;
          const call = instantiate(components, a, b);
          if (view.length > 0) {
            view[0] = 2;
            assert.deepEqual(call('load b', 0), Value.I32(2));
          }
          new Uint8Array(memory.buffer)[0] = 3;
          assert.deepEqual(call('load b', 0), Value.I32(3));
        });
      });
    }

    it('is refused when both are used by different guests', () => {
      const components = store();
      const [a, b] = [0, 1].map(() => guest({ backend, components, memory: { initial: 1 }, wat: ONE }));
      a.call('store', Value.I32(0), Value.I32(1));
      b.call('store', Value.I32(0), Value.I32(2));
      const error = caught(InstantiationError, () => instantiate(components, a.memoryIndex, b.memoryIndex));
      assert.equal(error.kind, 'Instantiation');
      assert.match(`${error.message} ${(error.cause as Error | undefined)?.message}`, /memor/i);
      assert.deepEqual(a.call('load', Value.I32(0)), Value.I32(1));
      assert.deepEqual(b.call('load', Value.I32(0)), Value.I32(2));
      assert.equal(a.memory.memoryGrow(1), 1);
    });

    it('is fine when both belong to one group already', () => {
      const components = store();
      const [a, b] = [components.newMemory(1), components.newMemory(1)];
      const first = instantiate(components, a, b);
      const second = instantiate(components, b, a);
      first('store b', 5, 50);
      assert.deepEqual(second('load a', 5), Value.I32(50));
      const single = guest({ backend, components, memory: b, wat: ONE });
      assert.deepEqual(single.call('load', Value.I32(5)), Value.I32(50));
    });

    it('may take in an unused memory while a guest of the other one is running', () => {
      const components = store();
      const a = components.newMemory(1);
      const { call } = guest({
        backend,
        components,
        memory: a,
        imports: {
          'env.ask': () => {
            const b = components.newMemory(1);
            components.memory(b).writeFrom(0, Uint8Array.of(21));
            return instantiate(components, a, b)('load b', 0) as Value;
          },
        },
        wat: `(module (import "env" "memory" (memory 1)) (import "env" "ask" (func $ask (result i32)))
          (func (export "run") (result i32)
            (i32.store8 (i32.const 1) (i32.const 2))
            (i32.mul (call $ask) (i32.load8_u (i32.const 1)))))`,
      });
      assert.deepEqual(call('run'), Value.I32(42));
    });
  });
});
