// Modules of extreme size and shape: each works or is refused by a typed error, and the process goes on. They are in
// extreme_modules.ts, with what becomes of each; what they cost is in SECURITY.md.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { forEachBackend } from '../support/engines';
import { WorkerProcess } from '../support/worker_process';
import { extremeModules } from './extreme_modules';

describe('A module', () => {
  forEachBackend((backend) => {
    const process = new WorkerProcess(join(__dirname, 'scripts', 'extremes.ts'), backend);
    after(() => process.end());

    for (const [index, { name, fate }] of extremeModules.entries()) {
      const expected = typeof fate === 'object' ? fate[backend] : fate;
      if (expected === undefined) continue;
      it(`with ${name} ${outcome(expected)}`, async () => {
        assert.deepEqual(await process.ask(index), { fate: expected, after: 7 });
      });
    }
  });
});

function outcome(fate: unknown): string {
  if (typeof fate === 'number') return 'works';
  return fate === 'internal error when called'
    ? 'is an internal error when it is called'
    : `is refused: ${fate}`;
}
