// The examples run, in a process of their own, and print what they promise. The demo is too long for here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);

describe('The examples', () => {
  it('quick_start.ts logs, returns and traps the same on both engines', async () => {
    const file = join(__dirname, '..', 'examples', 'quick_start.ts');
    const { stdout } = await run(process.execPath, ['--require', 'ts-node/register', file], {
      cwd: join(__dirname, '..'),
    });
    const lines = (backend: string): string[] => [
      `${backend}: hello from the guest`,
      `${backend}: { type: 'i32', value: 23 }`,
      `${backend}: hello from the guest`,
      `${backend}: ERR_SANDBOX_TRAP integer-divide-by-zero`,
    ];
    assert.deepEqual(stdout.trim().split('\n'), [...lines('wasmi'), ...lines('wasmer')]);
  });
});
