// The examples run, in a process of their own, and print what they promise. The demo is too long for here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';

const root = join(__dirname, '..');

/** The lines that an example prints. */
async function linesOf(example: string): Promise<string[]> {
  const args = ['--require', 'ts-node/register', join(root, 'examples', example)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root });
  return stdout.trim().split('\n');
}

/** The same lines for each engine. */
function onBoth(lines: readonly string[]): string[] {
  return ['wasmi', 'wasmer'].flatMap((backend) => lines.map((line) => `${backend}: ${line}`));
}

describe('The examples', () => {
  it('quick_start.ts logs, returns and traps the same on both engines', async () => {
    assert.deepEqual(
      await linesOf('quick_start.ts'),
      onBoth([
        'hello from the guest',
        "{ type: 'i32', value: 23 }",
        'hello from the guest',
        'ERR_SANDBOX_TRAP integer-divide-by-zero',
      ]),
    );
  });

  it('wasm_supervisor.ts runs a guest for a WebAssembly supervisor, with enough gas and with too little', async () => {
    assert.deepEqual(
      await linesOf('wasm_supervisor.ts'),
      onBoth([
        'the guest was asked to handle',
        'returned 81 after 3 calls, gas left 790',
        'the guest was asked to handle',
        'returned -3 (Supervisor function returned sandbox::HostError), gas left 40',
      ]),
    );
  });

  it('fetch.ts has a thousand guests on wasmi and fifty on wasmer wait for fetch, and ends by itself', async () => {
    const late = 'the event loop was never more than \\d+ ms late';
    const ofGuests = (backend: string, count: number, reports: readonly number[]): string[] => [
      ...reports.map((done) => `${backend}: ${done} of ${count} guests are done, \\d+ wait for an answer`),
      `${backend}: ${count} guests took \\d+ ms, and ${count} of them returned the right number`,
      `${backend}: up to \\d+ waited at the same time, and ${late}`,
    ];
    const wanted = [
      'no guests: 1000 fetches took \\d+ ms',
      `no guests: ${late}`,
      ...ofGuests('wasmi', 1000, [250, 500, 750, 1000]),
      ...ofGuests('wasmer', 50, [13, 26, 39]),
    ];
    assert.match((await linesOf('fetch.ts')).join('\n'), new RegExp(`^${wanted.join('\n')}$`));
  });
});
