// What a guest leaves behind no other guest sees: fresh memories, tables, globals, locals and stacks are zero, whoever had the place before.
// And as many memories at once as the system has room for. Views of a memory are in ../gear/buffer.spec.ts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Memory, type SandboxBackend, SandboxComponents, Value } from '../../index';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { type Guest, guest } from '../support/guest';
import { wat } from '../support/wat';

const PAGE = 65536;
const ALLOWED_GROWTH_MIB = 64;
const PATTERN = 0x5a;
const PATTERN_64 = '0x5a5a5a5a5a5a5a5a';

const LOCALS = 200;
const each = (from: number, text: (index: number) => string): string =>
  Array.from({ length: LOCALS }, (_, i) => text(from + i)).join('\n');

/** Writes the pattern wherever it can, and looks whether it finds anything but zeros where nobody has written yet. */
const GUEST = `(module
  (import "env" "memory" (memory $given 1 8))
  (import "env" "ask" (func $ask (param i64) (result i64)))
  (memory $own (export "own") 1 8)
  (table $table (export "table") 4 64 funcref)
  (table $extern 4 64 externref)
  (global $global (export "global") (mut i64) (i64.const 0))
  (global (export "reference") (mut funcref) (ref.null func))
  (elem declare func $deep)

  (func (export "grow") (result i32)
    (i32.add (memory.grow $given (i32.const 3)) (memory.grow $own (i32.const 3))))

  (func (export "fill")
    (memory.fill $given (i32.const 0) (i32.const ${PATTERN}) (i32.const ${4 * PAGE}))
    (memory.fill $own (i32.const 0) (i32.const ${PATTERN}) (i32.const ${4 * PAGE}))
    (drop (table.grow $table (ref.func $deep) (i32.const 32)))
    (table.fill $table (i32.const 0) (ref.func $deep) (i32.const 36))
    (global.set $global (i64.const ${PATTERN_64}))
    (global.set 1 (ref.func $deep))
    (drop (call $deep (i32.const 40) (i64.const ${PATTERN_64}) (f64.reinterpret_i64 (i64.const ${PATTERN_64})))))

  ;; Fills the stack, also above where it calls the supervisor.
  (func $deep (param $depth i32) (param $value i64) (param f64) (result i64)
    (local ${'i64 '.repeat(LOCALS)}) (local ${'f64 '.repeat(LOCALS)}) (local ${'v128 '.repeat(LOCALS)})
    ${each(3, (i) => `(local.set ${i} (local.get $value))`)}
    ${each(3 + LOCALS, (i) => `(local.set ${i} (local.get 2))`)}
    ${each(3 + 2 * LOCALS, (i) => `(local.set ${i} (i64x2.splat (local.get $value)))`)}
    (if (local.get $depth) (then
      (drop (call $deep (i32.sub (local.get $depth) (i32.const 1)) (local.get $value) (local.get 2)))
      (drop (call $ask (local.get $value)))))
    (i64.const 0)
    ${each(3, (i) => `(i64.or (local.get ${i}))`)}
    ${each(3 + LOCALS, (i) => `(i64.or (i64.reinterpret_f64 (local.get ${i})))`)}
    ${each(3 + 2 * LOCALS, (i) => `(i64.or (i64x2.extract_lane 1 (local.get ${i})))`)})

  ;; Every local of a function that nobody has set, at some depths.
  (func $locals (export "locals") (param $depth i32) (result i64)
    (local ${'i64 '.repeat(LOCALS)}) (local ${'f64 '.repeat(LOCALS)}) (local ${'v128 '.repeat(LOCALS)})
    (local ${'i32 '.repeat(LOCALS)}) (local funcref externref)
    (if (result i64) (local.get $depth)
      (then (call $locals (i32.sub (local.get $depth) (i32.const 1))))
      (else (i64.const 0)))
    ${each(1, (i) => `(i64.or (local.get ${i}))`)}
    ${each(1 + LOCALS, (i) => `(i64.or (i64.reinterpret_f64 (local.get ${i})))`)}
    ${each(
      1 + 2 * LOCALS,
      (i) => `(i64.or (i64x2.extract_lane 0 (local.get ${i})))
      (i64.or (i64x2.extract_lane 1 (local.get ${i})))`,
    )}
    ${each(1 + 3 * LOCALS, (i) => `(i64.or (i64.extend_i32_u (local.get ${i})))`)}
    (i64.or (i64.extend_i32_u (i32.eqz (ref.is_null (local.get ${1 + 4 * LOCALS})))))
    (i64.or (i64.extend_i32_u (i32.eqz (ref.is_null (local.get ${2 + 4 * LOCALS}))))))

  ;; How many elements of the tables are not null, those that are new included.
  (func (export "elements") (result i32) (local $i i32) (local $found i32)
    (drop (table.grow $table (ref.null func) (i32.const 32)))
    (drop (table.grow $extern (ref.null extern) (i32.const 32)))
    (loop $next
      (local.set $found (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $table (local.get $i))))))
      (local.set $found (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $extern (local.get $i))))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 36))))
    (i32.add (local.get $found) (i32.eqz (ref.is_null (global.get 1))))))`;

/** Writes to its memory, and gives what was there. */
const SHORT = `(module (import "env" "memory" (memory 1 8))
  (func (export "swap") (param i32) (result i32)
    (i32.load (i32.const 4096))
    (i32.store (i32.const 4096) (local.get 0))))`;

function build(backend: SandboxBackend, components = new SandboxComponents<unknown>(backend)): Guest {
  return guest({
    backend,
    components,
    memory: { initial: 1, maximum: 8 },
    imports: { 'env.ask': ([value]) => value },
    wat: GUEST,
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
        wat: GUEST,
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

describe('Ten thousand memories', { concurrency: true }, () => {
  forEachBackend((backend) => {
    it('are alive at once, and more until the system has no room, which is a LimitError', async () => {
      const child = await runFile(join(__dirname, 'scripts', 'many_memories.ts'), {
        args: [backend, '10000'],
        execArgv: ['--expose-gc'],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      const { most, name, code } = JSON.parse(child.stdout) as Record<string, unknown>;
      assert.ok((most as number) >= 10_000);
      assert.deepEqual({ name, code }, { name: 'LimitError', code: 'ERR_SANDBOX_LIMIT' });
    });
  });
});

describe('A hundred thousand guests beside one that lives long', { concurrency: true }, () => {
  forEachBackend((backend) => {
    it('leave it as it is, and memory flat', async () => {
      const child = await runFile(join(__dirname, 'scripts', 'beside.ts'), {
        args: [backend, ...[GUEST, SHORT].map((source) => Buffer.from(wat(source)).toString('base64'))],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      const { early, late, rounds } = JSON.parse(child.stdout) as Record<string, number>;
      assert.equal(rounds, 100_000);
      const growth = (late - early) / 2 ** 20;
      assert.ok(growth < ALLOWED_GROWTH_MIB, `grew by ${growth.toFixed(1)} MiB`);
    });
  });
});
