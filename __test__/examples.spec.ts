// The examples run, in a process of their own, and print what they promise. They use what is in dist/, as users do. The demo is too long for here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { EXAMPLE_OUTPUTS } from './support/example_outputs';

const root = join(__dirname, '..');

describe('The examples', () => {
  for (const [name, output] of Object.entries(EXAMPLE_OUTPUTS)) {
    it(`${name}.ts prints what it is to print`, async () => {
      const args = ['--require', 'ts-node/register', join(root, 'examples', `${name}.ts`)];
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root });
      assert.match(stdout, output);
    });
  }
});
