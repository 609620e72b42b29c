// Guests of a process that may have few addresses: what is bounded runs, and what finds no room is a LimitError. How many addresses a memory
// reserves is in crate/tests/addresses.rs. Only Linux holds a process to such a limit.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const KIB_OF_ADDRESSES = 2_000_000;

/** Writes to each byte of a page and adds them up. */
const SUM = `(func (export "sum") (result i32) (local $at i32) (local $sum i32)
  (loop $next
    (i32.store8 (local.get $at) (i32.const 1))
    (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
    (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 65536))))
  (local.get $sum))`;

const GUESTS = {
  unbounded: `(module (memory 1) ${SUM})`,
  bounded: `(module (memory 1 16) ${SUM})`,
  importing: `(module (import "env" "memory" (memory 1)) ${SUM})`,
  large: '(module (memory 16384 16384))',
};

describe('In a process with few addresses', {
  concurrency: true,
  skip: process.platform !== 'linux' && 'only Linux limits them',
}, () => {
  forEachBackend((backend) => {
    it('guests run whose memories are bounded, and others find no room, which is a LimitError', async () => {
      const binaries = Object.values(GUESTS).map((source) => Buffer.from(wat(source)).toString('base64'));
      const child = await runFile(join(__dirname, 'scripts', 'few_addresses.ts'), {
        args: [backend, ...binaries],
        execArgv: ['--expose-gc'],
        addresses: KIB_OF_ADDRESSES,
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      const { many, ...outcomes } = JSON.parse(child.stdout);
      assert.deepEqual(outcomes, {
        'bounded by its own maximum': 65_536,
        'bounded by that of what it imports': 65_536,
        'bounded by a limit': 65_536,
        // wasmi allocates what such a memory has, and no more.
        'not bounded': backend === 'wasmi' ? 65_536 : 'LimitError ERR_SANDBOX_LIMIT',
        'not bounded, asynchronously': backend === 'wasmi' ? 65_536 : 'LimitError ERR_SANDBOX_LIMIT',
        'too large': 'LimitError ERR_SANDBOX_LIMIT',
        'a memory that is not bounded': 'LimitError ERR_SANDBOX_LIMIT',
        'as many memories as there is room for': 'LimitError ERR_SANDBOX_LIMIT',
        afterwards: 65_536,
      });
      assert.ok(many > 100, `${many} memories`);
    });
  });
});
