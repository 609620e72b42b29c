// Exhausted stacks: deep guests, and guests and JavaScript that call each other without end, on the main thread and
// in a worker. They end in an error and everything stays usable.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { SandboxComponents, type SandboxInstance, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, rejection } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';
import { exhaust, exhaustions } from './scripts/recursion';

const GUEST = `(module
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (type $unary (func (param i32) (result i32)))
  (table 2 funcref)
  (elem (i32.const 0) $even $odd)
  (func (export "ask") (param i32) (result i32) (i32.add (call $ask (local.get 0)) (i32.const 0)))
  (func $endless (export "endless") (result i32) (i32.add (call $endless) (i32.const 1)))
  (func $even (param i32) (result i32)
    (i32.add (call_indirect (type $unary) (local.get 0) (i32.const 1)) (i32.const 1)))
  (func $odd (param i32) (result i32)
    (i32.add (call_indirect (type $unary) (local.get 0) (i32.const 0)) (i32.const 1)))
  (func (export "indirect") (result i32) (call $even (i32.const 0)))
  (func $wide (export "wide") (result i64)
    (local ${'i64 '.repeat(500)})
    ${Array.from({ length: 500 }, (_, i) => `(local.set ${i} (i64.add (call $wide) (local.get ${i})))`).join('\n')}
    ${'(local.get 0)'}
    ${Array.from({ length: 499 }, (_, i) => `(i64.xor (local.get ${i + 1}))`).join('\n')})
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0))
      (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))
  (func (export "seven") (result i32) (i32.const 7)))`;

describe('An exhausted stack', () => {
  forEachBackend((backend) => {
    const build = (ask: () => Value = () => Value.I32(0)) =>
      guest({ backend, imports: { 'env.ask': ask }, wat: GUEST });

    it('is not reached by five thousand nested calls', () => {
      assert.deepEqual(build().call('deep', Value.I32(5000)), Value.I32(5000));
    });

    for (const name of ['endless', 'indirect', 'wide']) {
      it(`is a stack-overflow trap of a guest that recurses (${name})`, () => {
        const { call } = build();
        for (let i = 0; i < 5; i++) {
          const error = caught(TrapError, () => call(name));
          assert.equal(error.trap, 'stack-overflow', error.message);
          assert.equal(error.code, 'ERR_SANDBOX_TRAP');
          assert.deepEqual(call('seven'), Value.I32(7));
          assert.deepEqual(call('deep', Value.I32(1000)), Value.I32(1000));
        }
      });
    }

    it('inside a supervisor call can be caught, and the outer guest goes on', () => {
      const { call } = build(() => {
        assert.equal(caught(TrapError, () => call('endless')).trap, 'stack-overflow');
        return call('deep', Value.I32(500)) as Value;
      });
      assert.deepEqual(call('ask', Value.I32(0)), Value.I32(500));
    });

    it('of JavaScript inside a supervisor call is the cause of the trap', () => {
      const recurse = (n: number): number => recurse(n + 1) + 1;
      const { call } = build(() => Value.I32(recurse(0)));
      const error = caught(TrapError, () => call('ask', Value.I32(0)));
      assert.equal(error.trap, 'supervisor');
      assert.ok(error.cause instanceof RangeError);
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('is as deep in asynchronous calls as in synchronous ones, whatever ran before', async () => {
      const counting = (stackBytes: number) => {
        const components = new SandboxComponents<unknown>(backend, {
          deterministic: true,
          limits: { stackBytes, recursionDepth: 1_000_000 },
        });
        return guest({
          backend,
          components,
          imports: { 'env.ask': () => undefined },
          // wasmi keeps room for the locals, wasmer does not.
          wat: `(module (import "env" "ask" (func $ask)) (global $depth (export "depth") (mut i32) (i32.const 0))
            (func $down (local ${'v128 '.repeat(16)})
              (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
              (call $down)
              (global.set $depth (i32.const -1)))
            (func (export "down") (global.set $depth (i32.const 0)) (call $ask) (call $down)))`,
        });
      };
      const depth = (instance: SandboxInstance) => Value.toNumber(instance.getGlobalVal('depth') as Value);
      const sizes = [65_536, 1_048_576, 67_108_864, 200_000];
      const expected = new Map<number, number>();
      for (let round = 0; round < 3; round++) {
        for (const size of sizes) {
          const { call, instance } = counting(size);
          assert.equal(caught(TrapError, () => call('down')).trap, 'stack-overflow');
          const reached = depth(instance);
          assert.ok(reached > 200, String(reached));
          assert.equal(reached, expected.get(size) ?? reached, `${size} bytes`);
          expected.set(size, reached);
        }
        await Promise.all(
          sizes.map(async (size) => {
            const { instance } = counting(size);
            const error = await rejection(TrapError, instance.invokeAsync('down'));
            assert.equal(error.trap, 'stack-overflow');
            assert.equal(depth(instance), expected.get(size), `${size} bytes, asynchronous`);
          }),
        );
      }
    });

    for (const way of exhaustions) {
      it(`by ${way} ends in an error on the main thread`, () => {
        works(exhaust(backend, wat(GUEST), way), way);
      });
    }

    it('by any of these ways ends in an error in a worker, which stays usable', async () => {
      const worker = new Worker(join(__dirname, 'scripts', 'recursion.ts'), {
        workerData: { exhaustions, backend, wasm: wat(GUEST) },
      });
      const exited = new Promise<number>((resolve) => worker.once('exit', resolve));
      const outcomes = await new Promise<ReturnType<typeof exhaust>[]>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.once('exit', (code) => reject(new Error(`the worker exited with ${code}`)));
      });
      assert.equal(outcomes.length, exhaustions.length);
      for (const [i, outcome] of outcomes.entries()) works(outcome, exhaustions[i]);
      assert.equal(await exited, 0);
    });
  });
});

function works(outcome: ReturnType<typeof exhaust>, way: string): void {
  assert.match(outcome.error, /^(TrapError|RangeError)$/, way);
  assert.ok(outcome.depth > 10, `${way}: only ${outcome.depth} calls deep`);
  assert.equal(outcome.usable, true, way);
}
