// SandboxOptions.limits.totalBytes: what all memories and tables of some components come to. What the Rust tests of the limit show is not
// repeated here: this is about components, their handles, and the errors.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  LimitError,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError, caught, rejection } from '../support/expect';
import { wat } from '../support/wat';

const PAGE = 65_536;

const supervisor = new JsSupervisor();

function make(backend: SandboxBackend, totalBytes: number): SandboxComponents<unknown> {
  return new SandboxComponents<unknown>(backend, { limits: { totalBytes } });
}

function instantiate(store: SandboxComponents<unknown>, text: string, memory?: number): number {
  const env = environment(store, {}, memory === undefined ? {} : { 'env.memory': memory });
  return store.instantiate(Instantiate.Version1, wat(text), env, supervisor).register(store, undefined);
}

function grow(instance: SandboxInstance, name: string, by: number): unknown {
  return (instance.invoke(name, [by]) as { value: number }).value;
}

const OWN = `(module (memory (export "memory") 1) (table 8192 funcref)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))`;

const IMPORTING = `(module (import "env" "memory" (memory 1))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`;

/** Fails when it has a memory already. */
const FAILING = '(module (memory 1) (data (i32.const 65536) "x"))';
const FAILING_BESIDE =
  '(module (import "env" "memory" (memory 1)) (memory 1) (data 1 (i32.const 65536) "x"))';

describe('A limit of all bytes', () => {
  forEachBackend((backend) => {
    it('bounds what supervisor and guests make and grow, together', () => {
      const store = make(backend, 6 * PAGE);
      const memory = store.memory(store.newMemory(1));
      const importing = [0, 1].map(() => store.instance(instantiate(store, IMPORTING, 0)));
      const own = store.instance(instantiate(store, OWN));
      // 3 of 6.
      const error = caught(LimitError, () => store.newMemory(4));
      assert.equal(
        error.message,
        '262144 more bytes are asked for, 196608 are in use, and limits.totalBytes is 393216',
      );
      assert.match(
        caught(LimitError, () => memory.memoryGrow(4)).message,
        /262144 more bytes .* limits\.totalBytes is 393216$/,
      );
      assert.equal(grow(importing[0], 'grow', 4), -1);
      assert.equal(grow(own, 'grow', 4), -1);
      assert.equal(grow(own, 'grow table', 3 * 8192 + 1), -1);
      assert.equal(grow(importing[1], 'grow', 1), 1);
      assert.equal(grow(own, 'grow table', 8192), 8192);
      assert.equal(own.getMemory('memory')?.memoryGrow(1), 1);
      assert.equal(grow(own, 'grow table', 1), -1);
      assert.match(caught(LimitError, () => instantiate(store, OWN)).message, /131072 more bytes .* 393216$/);
      assert.equal(instantiate(store, '(module)'), 3);
    });

    it('is that of these components alone', () => {
      const stores = [make(backend, PAGE), make(backend, PAGE)];
      for (const store of stores) store.newMemory(1);
      for (const store of stores) caught(LimitError, () => store.newMemory(1));
    });

    it('has room again for what is torn down', () => {
      const store = make(backend, 2 * PAGE);
      for (let round = 0; round < 1000; round += 1) {
        store.memoryTeardown(store.newMemory(2));
        store.instanceTeardown(instantiate(store, OWN));
      }
      store.newMemory(2);
      store.clear();
      store.newMemory(2);
    });

    it('has room again for instances of a memory that stays', () => {
      const store = make(backend, 2 * PAGE);
      const memory = store.newMemory(1);
      const beside = '(module (import "env" "memory" (memory 1)) (memory 1))';
      for (let round = 0; round < 200; round += 1) {
        store.instanceTeardown(instantiate(store, beside, memory));
        // The host grows the memory likewise.
        if (round === 100) caught(LimitError, () => store.memory(memory).memoryGrow(2));
      }
      assert.equal(store.memory(memory).memoryGrow(1), 1);
    });

    it('is not used up by instantiations that fail', async () => {
      const store = make(backend, 2 * PAGE);
      const memory = store.newMemory(1);
      for (let round = 0; round < 1000; round += 1) {
        caught(InstantiationError, () => instantiate(store, FAILING));
        caught(InstantiationError, () => instantiate(store, FAILING_BESIDE, memory));
      }
      const env = environment(store, {}, { 'env.memory': memory });
      for (let round = 0; round < 20; round += 1) {
        const failing = store.instantiateAsync(Instantiate.Version1, wat(FAILING_BESIDE), env, supervisor);
        await rejection(InstantiationError, failing);
      }
      assert.equal(store.memory(memory).memoryGrow(1), 1);
    });

    it('counts what is made and grown on other threads', async () => {
      const store = make(backend, 6 * PAGE);
      const env = environment(store);
      const one = () => store.instantiateAsync(Instantiate.Version1, wat(OWN), env, supervisor);
      const made = await Promise.all([one(), one()]);
      const instances = made.map((each) => store.instance(each.register(store, undefined)));
      const grown = await Promise.all([0, 1, 0, 1].map((index) => instances[index].invokeAsync('grow', [1])));
      const failed = grown.filter((value) => (value as { value: number }).value === -1);
      assert.equal(failed.length, 2);
      assert.match((await rejection(LimitError, one())).message, /131072 more bytes .* 393216$/);
    });

    it('counts memories once that come together in one guest', () => {
      const store = make(backend, 3 * PAGE);
      const memories = [store.newMemory(1), store.newMemory(2)];
      const env = environment(store, {}, { 'env.a': memories[0], 'env.b': memories[1] });
      const both = wat('(module (import "env" "a" (memory 1)) (import "env" "b" (memory 2)))');
      store.instantiate(Instantiate.Version1, both, env, supervisor).register(store, undefined);
      caught(LimitError, () => store.newMemory(1));
      store.newMemory(0);
    });

    it('has a start function find out as well', () => {
      const store = make(backend, 2 * PAGE);
      const greedy = `(module (memory 1) (global (export "grown") (mut i32) (i32.const 0))
        (func $start (global.set 0 (memory.grow (i32.const 2)))) (start $start))`;
      const instance = store.instance(instantiate(store, greedy));
      assert.deepEqual(instance.getGlobalVal('grown'), Value.I32(-1));
    });
  });

  it('is a number of bytes', () => {
    for (const totalBytes of [-1, 0.5, Number.NaN, '5', 5n, null]) {
      argumentError(
        'options.limits.totalBytes',
        () => new SandboxComponents('wasmi', { limits: { totalBytes: totalBytes as number } }),
      );
    }
    const none = make('wasmi', 0);
    none.newMemory(0);
    caught(LimitError, () => none.newMemory(1));
  });
});
