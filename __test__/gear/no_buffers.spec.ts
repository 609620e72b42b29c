// Where the runtime forbids buffers over native memory, as Electron does: `Memory.buffer` says so, and everything else works.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type ChildResult, runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "bump" (func $bump (param i32) (result i32)))
  (import "env" "memory" (memory 1 4))
  (func (export "bump") (param i32) (result i32) (call $bump (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))`;

const LOADER = [
  '--require',
  'ts-node/register',
  '--require',
  join(__dirname, '..', 'support', 'no_buffers.ts'),
];

function isDone({ code, stdout, stderr, timedOut }: ChildResult): void {
  assert.ok(!timedOut, 'timed out');
  assert.equal(code, 0, stderr || stdout);
}

describe('Where no buffers over native memory are allowed', () => {
  forEachBackend((backend) => {
    it('buffer throws an error that names read and writeFrom, and all copies and calls work', async () => {
      const args = [backend, Buffer.from(wat(GUEST)).toString('base64')];
      const file = join(__dirname, 'scripts', 'no_buffers.ts');
      const child = await runFile(file, { execArgv: LOADER, args });
      isDone(child);
      assert.equal(child.stdout, 'done\n');
    });
  });

  it('the host functions of a supervisor that is WebAssembly work as ever', async () => {
    for (const spec of ['memory', 'invoke']) {
      isDone(await runFile(join(__dirname, 'host', `${spec}.spec.ts`), { execArgv: LOADER }));
    }
  });
});
