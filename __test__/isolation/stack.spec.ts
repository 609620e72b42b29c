// Exhausted stacks in every nesting of guests and JavaScript, on the main thread and in workers whose stacks are small: always an error that
// says so, and everything goes on. The ways are in exhaustion.ts. What a single guest sees of it is in ../guest/stack.spec.ts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';
import { WorkerProcess } from '../support/worker_process';
import { allWays, type Exhausted, NESTINGS, type Way } from './exhaustion';

const ASK = '(import "env" "ask" (func $ask (param i32) (result i32)))';

const GUEST = `(module ${ASK}
  (global (export "gear_gas") (mut i64) (i64.const 1000000000))
  (func (export "ask") (param i32) (result i32) (i32.add (call $ask (local.get 0)) (i32.const 1)))
  (func $endless (export "endless") (result i32) (i32.add (call $endless) (i32.const 1)))
  (func (export "seven") (result i32) (i32.const 7)))`;

const STARTING = `(module ${ASK} (func $start (drop (call $ask (i32.const 0)))) (start $start))`;

/** Of workers, in MiB. Node starts none of 0.25; what it gives them by default is looked at in ../guest/stack.spec.ts. */
const STACKS = [undefined, 1, 0.5, 0.3] as const;

describe('A stack that is exhausted', () => {
  forEachBackend((backend) => {
    const process = new WorkerProcess(join(__dirname, 'scripts', 'exhaustion.ts'));
    after(() => process.end());

    for (const stackSizeMb of STACKS) {
      const where = stackSizeMb === undefined ? 'the main thread' : `a worker of ${stackSizeMb} MiB`;
      for (const way of allWays) {
        it(`on ${where} by ${way} ends in an error that says so, and everything goes on`, async () => {
          const task = { backend, way, guest: wat(GUEST), starting: wat(STARTING) };
          isGood((await process.ask({ task, stackSizeMb })) as Exhausted, way);
        });
      }
    }
  });
});

function isGood(exhausted: Exhausted, way: Way): void {
  const { root, traps, depth, usable, others } = exhausted;
  const said = JSON.stringify(exhausted);
  const [, bottom, guests] = /^(a guest|JavaScript) that recurses inside (\d+) guests$/.exec(way) ?? [];
  if (guests !== undefined) {
    // One stack is exhausted, and each guest around traps because its supervisor function failed.
    const expected = bottom === 'a guest' ? 'TrapError stack-overflow' : 'RangeError';
    assert.deepEqual(
      { root, traps, depth },
      { root: expected, traps: Number(guests), depth: Number(guests) },
    );
    assert.ok(NESTINGS.includes(Number(guests) - 1));
  } else {
    assert.match(root, /^(TrapError stack-overflow|RangeError)$/, said);
    assert.ok(depth > 0, said);
  }
  assert.equal(usable, true, said);
  for (const other of others) assert.match(other, /^(TrapError stack-overflow|RangeError)$/, said);
}
