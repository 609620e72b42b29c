// What a guest leaves behind no other guest sees: fresh memories, tables, globals, locals and stacks are zero, whoever had the place before.
// Very many guests and memories are in memory.long.spec.ts, views of a memory in ../gear/buffer.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Memory, type SandboxBackend, SandboxComponents, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { type Guest, guest } from '../support/guest';
import { PAGE, PATTERN, PATTERN_64, WRITES_EVERYWHERE } from './writes_everywhere';

function build(backend: SandboxBackend, components = new SandboxComponents<unknown>(backend)): Guest {
  return guest({
    backend,
    components,
    memory: { initial: 1, maximum: 8 },
    imports: { 'env.ask': ([value]) => value },
    wat: WRITES_EVERYWHERE,
  });
}

const own = ({ instance }: Guest): Memory => instance.getMemory('own') as Memory;
const zeros = Buffer.alloc(4 * PAGE);
const isZero = (bytes: Uint8Array): boolean => zeros.subarray(0, bytes.length).equals(bytes);
const isPattern = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === PATTERN);

/** That a guest finds zeros wherever it looks, before and after it has grown all that it has. */
function isClean(fresh: Guest, what: string): void {
  for (const pages of [1, 4]) {
    if (pages > 1) assert.deepEqual(fresh.call('grow'), Value.I32(2));
    for (const memory of [fresh.memory, own(fresh)]) {
      assert.equal(memory.memorySize(), pages);
      assert.ok(isZero(memory.read(0, pages * PAGE)), `${what}: a memory of ${pages} pages`);
      assert.ok(isZero(new Uint8Array(memory.buffer)), `${what}: a view of ${pages} pages`);
    }
  }
  assert.deepEqual(fresh.instance.getGlobalVal('global'), Value.I64(0n), what);
  for (const depth of [0, 1, 30]) {
    assert.deepEqual(fresh.call('locals', Value.I32(depth)), Value.I64(0n), `${what}: locals`);
  }
  assert.deepEqual(fresh.call('elements'), Value.I32(0), `${what}: tables`);
}

const gc = (): void => {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
};

const ends: readonly [how: string, end: (made: Guest) => void][] = [
  [
    'is torn down',
    ({ components, index, memoryIndex }) => {
      components.instanceTeardown(index);
      components.memoryTeardown(memoryIndex);
    },
  ],
  ['is cleared away with everything', ({ components }) => components.clear()],
  [
    'is torn down and collected',
    ({ components }) => {
      components.clear();
      gc();
    },
  ],
  ['is still alive', () => {}],
];

describe('A guest', () => {
  forEachBackend((backend) => {
    for (const [how, end] of ends) {
      it(`sees nothing of another that ${how}`, () => {
        for (let round = 0; round < 15; round++) {
          const dirty = build(backend);
          dirty.call('grow');
          dirty.call('fill');
          assert.ok(isPattern(dirty.memory.read(0, 4 * PAGE)) && isPattern(own(dirty).read(0, 4 * PAGE)));
          end(dirty);
          isClean(build(backend), `round ${round}`);
        }
      });
    }

    it('sees nothing of another in the same components, nor the other of it', () => {
      const components = new SandboxComponents<unknown>(backend);
      const dirty = build(backend, components);
      dirty.call('grow');
      dirty.call('fill');
      for (let round = 0; round < 20; round++) {
        const fresh = build(backend, components);
        isClean(fresh, `round ${round}`);
        components.instanceTeardown(fresh.index);
        components.memoryTeardown(fresh.memoryIndex);
      }
      assert.ok(isPattern(dirty.memory.read(0, 4 * PAGE)) && isPattern(own(dirty).read(0, 4 * PAGE)));
      assert.deepEqual(dirty.instance.getGlobalVal('global'), Value.I64(BigInt(PATTERN_64)));
    });

    it('sees nothing of another on whose thread it runs asynchronously', async () => {
      for (let round = 0; round < 20; round++) {
        const dirty = build(backend);
        await dirty.instance.invokeAsync('grow', [], dirty.supervisor);
        const filled = Array.from({ length: 3 }, () =>
          dirty.instance.invokeAsync('fill', [], dirty.supervisor),
        );
        const fresh = Array.from({ length: 3 }, () => build(backend));
        await Promise.all(filled);
        const locals = fresh.map(({ instance, supervisor }) =>
          instance.invokeAsync('locals', [Value.I32(30)], supervisor),
        );
        assert.deepEqual(await Promise.all(locals), Array(3).fill(Value.I64(0n)));
        for (const each of fresh) isClean(each, `round ${round}`);
      }
    });

    it('sees nothing of another that calls it in a supervisor function, from the middle of its stack', () => {
      const inner = build(backend);
      let asked = 0;
      const outer = guest({
        backend,
        memory: { initial: 1, maximum: 8 },
        imports: {
          'env.ask': ([value]) => {
            if (asked++ === 0) isClean(inner, 'inside');
            assert.deepEqual(inner.call('locals', Value.I32(3)), Value.I64(0n));
            return value;
          },
        },
        wat: WRITES_EVERYWHERE,
      });
      outer.call('grow');
      outer.call('fill');
      assert.ok(asked > 30);
    });
  });
});

describe('A view of a memory that is gone', () => {
  forEachBackend((backend) => {
    it('shows what was there or has no length, and never another memory', () => {
      const held = Array.from({ length: 60 }, (_, n) => {
        const components = new SandboxComponents<unknown>(backend);
        const memory = components.memory(components.newMemory(2, 8));
        const view = new Uint8Array(memory.buffer).fill(n + 1);
        components.clear();
        return view;
      });
      const isWhole = (view: Uint8Array, n: number): boolean => view.every((byte) => byte === n + 1);
      for (let round = 0; round < 3; round++) {
        gc();
        const others = Array.from({ length: 60 }, () => {
          const components = new SandboxComponents<unknown>(backend);
          const memory = components.memory(components.newMemory(2, 8));
          assert.ok(isZero(memory.read(0, 2 * PAGE)));
          return new Uint8Array(memory.buffer).fill(255);
        });
        for (const [n, view] of held.entries()) {
          assert.ok(view.length === 0 || (view.length === 2 * PAGE && isWhole(view, n)));
          view.fill(n + 1);
        }
        for (const view of others) assert.ok(view.length === 0 || view.every((byte) => byte === 255));
      }
    });

    it('has no length once the memory has grown, however it was taken', () => {
      const made = build(backend);
      const views = [made.memory, own(made)].flatMap((memory) => [
        new Uint8Array(memory.buffer),
        new Uint8Array(memory.buffer, 8, 16),
        new DataView(memory.buffer),
      ]);
      made.call('grow');
      for (const view of views) {
        assert.equal(view.buffer.byteLength, 0);
        if (view instanceof Uint8Array) assert.deepEqual([view.length, view[0]], [0, undefined]);
        else assert.throws(() => view.getUint8(0), TypeError);
      }
    });
  });
});
