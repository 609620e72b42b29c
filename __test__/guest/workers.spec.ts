// Worker threads that load the package and run guests on both engines at once, end in every way, and leave the
// main thread alone.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Value } from '../../index';
import { runSnippet } from '../support/child';
import { backends, forEachBackend } from '../support/engines';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (func (export "sum") (param $n i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $add (local.get $sum) (local.get $n)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (i32.store (i32.const 0) (local.get $sum))
    (local.get $sum))
  (func (export "trap") (drop (i32.load (i32.const -1)))))`;

const script = join(__dirname, 'scripts', 'both-engines.ts');

function start(task: string): Worker {
  return new Worker(script, { workerData: { task, wasm: wat(GUEST), backends: [...backends] } });
}

function exitOf(worker: Worker): Promise<number> {
  return new Promise((resolve) => worker.once('exit', resolve));
}

function messageOf(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

/** That this thread still runs guests on both engines. */
function works(): void {
  for (const backend of backends) {
    const { call } = guest({
      backend,
      memory: { initial: 1 },
      imports: {
        'env.add': ([a, b]) => Value.I32((a as { value: number }).value + (b as { value: number }).value),
      },
      wat: GUEST,
    });
    assert.deepEqual(call('sum', Value.I32(100)), Value.I32(5050));
    assert.throws(() => call('trap'));
  }
}

describe('Worker threads', () => {
  it('run guests on both engines at once, several of them beside the main thread', async () => {
    const workers = Array.from({ length: 3 }, () => start('sums'));
    const results = workers.map(messageOf);
    const exits = workers.map(exitOf);
    for (let i = 0; i < 20; i++) works();
    assert.deepEqual(await Promise.all(results), new Array(3).fill({ sums: 200, traps: 200 }));
    assert.deepEqual(await Promise.all(exits), [0, 0, 0]);
    works();
  });

  it('may come one after another', async () => {
    for (let i = 0; i < 2; i++) {
      const worker = start('sums');
      const exit = exitOf(worker);
      assert.deepEqual(await messageOf(worker), { sums: 200, traps: 200 });
      assert.equal(await exit, 0);
    }
    works();
  });

  it('may be terminated while they run guests', async () => {
    const workers = Array.from({ length: 3 }, () => start('without end'));
    await Promise.all(workers.map(messageOf));
    works();
    const codes = await Promise.all(workers.map((worker) => worker.terminate()));
    assert.deepEqual(codes, [1, 1, 1]);
    works();
  });

  it('may be terminated while a supervisor function runs without end', async () => {
    for (const backend of backends) {
      const worker = start(`stuck on ${backend}`);
      await messageOf(worker);
      assert.equal(await worker.terminate(), 1);
      works();
    }
  });

  it('may exit inside a supervisor function', async () => {
    for (const backend of backends) {
      assert.equal(await exitOf(start(`exit on ${backend}`)), 7);
      works();
    }
  });

  it('may end with handles of every kind left', async () => {
    const worker = start('leave everything');
    const exit = exitOf(worker);
    assert.equal(await messageOf(worker), 'left');
    assert.equal(await exit, 0);
    works();
  });
});

describe('A process', () => {
  forEachBackend((backend) => {
    const snippet = (inside: string) => `
      import { EnvironmentDefinitionBuilder, GuestEnvironment, Instantiate, JsSupervisor, SandboxComponents } from '../../index';
      const wasm = Buffer.from(process.argv[1], 'base64');
      const components = new SandboxComponents<number>(${JSON.stringify(backend)});
      const supervisor = new JsSupervisor();
      supervisor.define(() => { ${inside} });
      const memory = components.newMemory(1);
      const env = new EnvironmentDefinitionBuilder().addHostFunc('env', 'add', 0 as never).addMemory('env', 'memory', memory).encode();
      const index = components.instantiate(Instantiate.Version1, wasm, GuestEnvironment.decode(components, env), supervisor).register(components, 0);
      const view = new Uint8Array(components.memory(memory).buffer);
      components.instance(index).invoke('sum', [{ type: 'i32', value: 1 }], supervisor);
      process.stdout.write('after');`;

    const args = () => [Buffer.from(wat(GUEST)).toString('base64')];

    it('may exit inside a supervisor function', async () => {
      const child = await runSnippet(snippet('process.exit(7);'), { args: args() });
      assert.deepEqual([child.code, child.signal, child.stdout], [7, null, ''], child.stderr);
    });

    it('ends with the uncaught error of a supervisor function', async () => {
      const child = await runSnippet(snippet("throw new Error('nobody catches me');"), { args: args() });
      assert.deepEqual([child.code, child.signal, child.stdout], [1, null, '']);
      assert.match(child.stderr, /TrapError: nobody catches me/);
      assert.match(child.stderr, /ERR_SANDBOX_TRAP/);
    });

    it('ends on its own with everything left open', async () => {
      const child = await runSnippet(snippet("return { type: 'i32', value: 1 };"), { args: args() });
      assert.deepEqual([child.code, child.signal, child.stdout], [0, null, 'after'], child.stderr);
      assert.equal(child.stderr, '');
    });
  });
});
