// A hundred thousand guests, one after another, most of them in a process that never returns to its event loop: memory stays flat.
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

const HAS_OWN = '(module (import "env" "memory" (memory 1 16)) (memory (export "own") 1))';
const FAILS = `(module (import "env" "memory" (memory 1 16)) (import "env" "ask" (func (param i32) (result i32)))
  (func (export "f") (result i32) (i32.const 1)) (data (i32.const 65536) "x"))`;

/** How the instances of a memory end that lives on, and how often. */
const ends: readonly (readonly [how: string, source: string, rounds: number])[] = [
  ['torn down', GUEST, 100_000],
  ['never handed out', GUEST, 100_000],
  ['collected', GUEST, 100_000],
  ['in the turns of the event loop', GUEST, 30_000],
  ['asynchronously', GUEST, 20_000],
  ['with memories of their own that were looked at', HAS_OWN, 30_000],
  ['with memories of their own that were looked at, in the turns of the event loop', HAS_OWN, 30_000],
  ['with memories of their own, the last of which is held, in the turns of the event loop', HAS_OWN, 30_000],
  ['not made', FAILS, 30_000],
  ['not made asynchronously', FAILS, 20_000],
];

describe('Very many instances of one memory, which lives on', () => {
  forEachBackend((backend) => {
    for (const [how, source, rounds] of ends) {
      it(`leave memory flat, and the memory as it is: ${how}`, async () => {
        const child = await runFile(join(__dirname, 'scripts', 'memory_rounds.ts'), {
          args: [backend, Buffer.from(wat(source)).toString('base64'), how, String(rounds)],
          timeout: 600_000,
        });
        assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
        const { early, late } = JSON.parse(child.stdout) as Record<string, number>;
        const growth = (late - early) / 2 ** 20;
        assert.ok(growth < ALLOWED_GROWTH_MIB, `grew by ${growth.toFixed(1)} MiB`);
      });
    }
  });
});
