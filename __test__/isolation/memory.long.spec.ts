// As many memories at once as the system has room for, and very many guests beside one that must see nothing of them.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';
import { WRITES_EVERYWHERE } from './writes_everywhere';

const ALLOWED_GROWTH_MIB = 64;

/** Writes to its memory, and gives what was there. */
const SHORT = `(module (import "env" "memory" (memory 1 8))
  (func (export "swap") (param i32) (result i32)
    (i32.load (i32.const 4096))
    (i32.store (i32.const 4096) (local.get 0))))`;

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
        args: [
          backend,
          ...[WRITES_EVERYWHERE, SHORT].map((source) => Buffer.from(wat(source)).toString('base64')),
        ],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      const { early, late, rounds } = JSON.parse(child.stdout) as Record<string, number>;
      assert.equal(rounds, 100_000);
      const growth = (late - early) / 2 ** 20;
      assert.ok(growth < ALLOWED_GROWTH_MIB, `grew by ${growth.toFixed(1)} MiB`);
    });
  });
});
