// A hundred thousand guests, one after another, in a process that never returns to its event loop: memory stays flat.
// Nothing may wait for a garbage collection or a finalizer that needs the event loop.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "memory" (memory 1 16))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (func (export "run") (param i32) (result i32)
    (i32.store (i32.const 100) (call $ask (local.get 0)))
    (i32.load (i32.const 100))))`;

const ALLOWED_GROWTH_MIB = 64;

describe('A hundred thousand rounds of instantiate and teardown', () => {
  forEachBackend((backend) => {
    it('leave memory flat', async () => {
      const child = await runFile(join(__dirname, 'scripts', 'rounds.ts'), {
        args: [backend, Buffer.from(wat(GUEST)).toString('base64')],
        timeout: 600_000,
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      const { early, late, rounds } = JSON.parse(child.stdout) as Record<string, number>;
      assert.equal(rounds, 100_000);
      const growth = (late - early) / 2 ** 20;
      assert.ok(growth < ALLOWED_GROWTH_MIB, `grew by ${growth.toFixed(1)} MiB`);
    });
  });
});
