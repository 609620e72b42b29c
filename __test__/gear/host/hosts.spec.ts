// Hosts beside one another, one inside another, one after another and on several threads; and what a call costs the heap.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { SandboxHost, Value } from '../../../index';
import { runFile } from '../../support/child';
import { backends, forEachBackend, otherThan } from '../../support/engines';
import { causedBy, sandboxError } from '../../support/expect';
import { WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, lastTrap, supervisor, supervisorWasm } from './fixture';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (import "env" "trap" (func $trap))
  (global (export "gear_gas") (mut i64) (i64.const 1000000))
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
  (func (export "sum") (param $n i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $add (local.get $sum) (local.get $n)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (i32.store (i32.const 0) (local.get $sum))
    (local.get $sum))
  (func (export "trap") (call $trap))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))`;

function guestIn(given: WasmSupervisor, parts: { version?: 1 | 2; thunk?: string } = {}): number {
  const memory = given.ext.memory_new(1, 2);
  return given.guest(wat(GUEST), {
    ...parts,
    functions: { 'env.add': '$add', 'env.trap': '$trap' },
    memories: { 'env.memory': memory },
  });
}

const sum = (a: number, b: number): Value[] => [Value.I32(a), Value.I32(b)];

describe('Several hosts', () => {
  it('of both engines have indices, memories and last errors of their own', () => {
    const all = [...backends, ...backends].map((backend) => supervisor(backend));
    assert.deepEqual(
      all.map((given) => guestIn(given)),
      [0, 0, 0, 0],
    );
    for (const [n, given] of all.entries()) given.write(0, 5, n + 1);
    for (const [n, given] of all.entries()) {
      assert.deepEqual(given.call(0, 'load', [Value.I32(5)]), Value.I32(n + 1));
      assert.deepEqual(given.call(0, 'add', sum(n, 1)), Value.I32(n + 1));
    }
    assert.equal(all[1].invoke(0, 'trap').status, -3);
    assert.deepEqual(
      all.map((given) => given.host.lastError !== undefined),
      [false, true, false, false],
    );
    all[0].ext.instance_teardown(0);
    sandboxError('Trying to access a torndown instance', () => all[0].invoke(0, 'load'));
    for (const given of all.slice(1))
      assert.deepEqual(given.call(0, 'sum', [Value.I32(100)]), Value.I32(5050));
    for (const given of all) assertWorks(given);
  });

  it('may share one module of a supervisor', () => {
    const wasm = supervisorWasm();
    const all = backends.map((backend) => new WasmSupervisor({ backend, wasm }));
    for (const given of all) assert.deepEqual(given.call(guestIn(given), 'add', sum(1, 2)), Value.I32(3));
    assert.notEqual(all[0].exports.memory, all[1].exports.memory);
  });

  forEachBackend((backend) => {
    for (const [other, what] of [
      [backend, 'the same engine'],
      [otherThan(backend), 'the other engine'],
    ] as const) {
      it(`may be one inside another: a guest’s supervisor uses a supervisor of ${what}`, () => {
        const [outer, inner] = [supervisor(backend), supervisor(other)];
        const [inOuter, inInner] = [guestIn(outer, { thunk: '$thunk_js' }), guestIn(inner, { version: 2 })];
        let calls = 0;
        outer.answer = () => outer.ok(inner.call(inInner, 'sum', [Value.I32(++calls)]));
        for (let n = 1; n <= 50; n++) {
          assert.deepEqual(outer.call(inOuter, 'add', sum(0, 0)), Value.I32((n * (n + 1)) / 2));
        }
        outer.answer = () => {
          assert.equal(inner.invoke(inInner, 'trap').status, -3);
          throw inner.host.lastError;
        };
        assert.equal(outer.invoke(inOuter, 'add', sum(0, 0)).status, -3);
        causedBy(lastTrap(outer), lastTrap(inner));
        for (const given of [outer, inner]) {
          assert.equal(given.live, 0);
          assertWorks(given);
        }
      });

      it(`may go back and forth, with ${what}`, () => {
        const [a, b] = [supervisor(backend), supervisor(other)];
        const [inA, inB] = [guestIn(a, { thunk: '$thunk_js' }), guestIn(b, { thunk: '$thunk_js' })];
        let depth = 0;
        const next = (from: WasmSupervisor, to: WasmSupervisor, index: number) => (): bigint => {
          if (++depth === 20) return from.ok(Value.I32(1));
          const result = to.call(index, 'add', sum(depth, 0)) as { value: number };
          return from.ok(Value.I32(result.value + 1));
        };
        a.answer = next(a, b, inB);
        b.answer = next(b, a, inA);
        assert.deepEqual(a.call(inA, 'add', sum(0, 0)), Value.I32(20));
        assert.deepEqual([a.live, b.live], [0, 0]);
      });
    }
  });
});

describe('A host whose supervisor is replaced', () => {
  forEachBackend((backend) => {
    function build() {
      let current: WasmSupervisor;
      const host = new SandboxHost({
        backend,
        memory: () => current.exports.memory,
        table: () => current.exports.table,
        allocator: {
          allocate: (size) => current.allocator.allocate(size),
          deallocate: (ptr) => current.allocator.deallocate(ptr),
        },
      });
      const replace = (): WasmSupervisor => {
        current = new WasmSupervisor({ backend, wasm: supervisorWasm(), host });
        return current;
      };
      return { host, replace };
    }

    it('works with the new one’s memory, table and allocator', () => {
      const { host, replace } = build();
      const old = replace();
      assert.deepEqual(old.call(guestIn(old), 'sum', [Value.I32(100)]), Value.I32(5050));
      const bytes = old.bytes(0, old.memory.length);
      host.components.clear();

      const fresh = replace();
      assert.notEqual(fresh.exports.memory, old.exports.memory);
      assert.equal(guestIn(fresh), 0);
      fresh.write(0, 5, 9);
      assert.deepEqual(fresh.read(0, 5, 1), Uint8Array.of(9));
      assert.deepEqual(fresh.call(0, 'load', [Value.I32(5)]), Value.I32(9));
      assert.deepEqual(fresh.call(0, 'sum', [Value.I32(100)]), Value.I32(5050));
      assert.equal(fresh.invoke(0, 'trap').status, -3);
      assert.deepEqual(fresh.getGlobal(0, 'gear_gas'), Value.I64(1000000n));
      assert.equal(fresh.live, 0);
      assertWorks(fresh);
      assert.deepEqual(old.memory, bytes, 'nobody has written to the memory of the old one');
    });

    it('may be replaced many times, also by one whose memory is larger or smaller', () => {
      const { host, replace } = build();
      for (let n = 1; n <= 20; n++) {
        host.components.clear();
        const given = replace();
        if (n % 2) given.exports.grow(n);
        assert.deepEqual(given.call(guestIn(given), 'add', sum(n, n)), Value.I32(2 * n));
        assert.equal(given.live, 0);
      }
    });
  });
});

describe('Hosts on worker threads', () => {
  const script = join(__dirname, 'scripts', 'worker.ts');

  function start(task: string): { worker: Worker; message: Promise<unknown>; exit: Promise<number> } {
    const worker = new Worker(script, {
      workerData: { task, supervisorWasm: supervisorWasm(), guestWasm: wat(GUEST), backends: [...backends] },
    });
    const exit = new Promise<number>((resolve) => worker.once('exit', resolve));
    const message = new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    return { worker, message, exit };
  }

  /** That this thread still has hosts on both engines. */
  function works(): void {
    for (const backend of backends) assertWorks(supervisor(backend));
  }

  it('run beside each other and the main thread’s', async () => {
    const all = [0, 1].map(() => start('sums'));
    for (let i = 0; i < 10; i++) works();
    assert.deepEqual(await Promise.all(all.map(({ message }) => message)), ['done', 'done']);
    assert.deepEqual(await Promise.all(all.map(({ exit }) => exit)), [0, 0]);
    works();
  });

  it('may be terminated while their guests run', async () => {
    const { worker, message } = start('without end');
    assert.equal(await message, 'running');
    works();
    assert.equal(await worker.terminate(), 1);
    works();
  });

  it('may end inside a thunk', async () => {
    const { message, exit } = start('exit');
    message.catch(() => undefined);
    assert.equal(await exit, 7);
    works();
  });

  it('may end with everything left', async () => {
    const { message, exit } = start('leave everything');
    assert.equal(await message, 'done');
    assert.equal(await exit, 0);
    works();
  });
});

describe('A guest’s call to a WebAssembly supervisor', () => {
  const CALLING = `(module
    (import "env" "f" (func $f (param i64 i32) (result i64)))
    (global (export "gear_gas") (mut i64) (i64.const 0x123456789a))
    (func (export "run") (param $n i32) (result i64) (local $i i64)
      (loop $again
        (local.set $i (call $f (i64.add (local.get $i) (i64.const 1)) (local.get $n)))
        (br_if $again (i64.lt_u (local.get $i) (i64.extend_i32_u (local.get $n)))))
      (local.get $i)))`;

  forEachBackend((backend) => {
    for (const version of ['1', '2']) {
      it(`leaves nothing for the garbage collector under Version${version}`, async () => {
        const [supervisorArg, guestArg] = [supervisorWasm(), wat(CALLING)].map((wasm) =>
          Buffer.from(wasm).toString('base64'),
        );
        const child = await runFile(join(__dirname, 'scripts', 'garbage.ts'), {
          args: [backend, version, supervisorArg, guestArg],
          // So much room that nothing is collected while it is measured.
          execArgv: ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64'],
        });
        assert.deepEqual([child.code, child.signal], [0, null], child.stderr);
        const rounds = (JSON.parse(child.stdout) as number[]).sort((a, b) => a - b);
        const median = rounds[rounds.length >> 1];
        assert.ok(median < 8, `${median} bytes a call; in the rounds ${rounds.join(', ')}`);
      });
    }
  });
});
