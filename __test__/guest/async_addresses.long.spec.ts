// Asynchronous calls in a process whose address space is nearly used up: each ends, with a value or with an error that says why.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "nothing")))`;

describe('Asynchronous calls in little address space', {
  skip: process.platform !== 'linux' && 'it is limited as on Linux',
  concurrency: 2,
}, () => {
  forEachBackend((backend) => {
    for (const [what, compiles] of [
      ['waiting', false],
      ['nested', false],
      ['instances', true],
      ['compiles', true],
    ] as const) {
      // wasmer's compiler starts threads of its own, which leave nothing for others.
      const spares = backend === 'wasmer' && compiles ? [10, 100] : [10, 150, 300];
      it(`end with a value or with an error that names the cause: ${what}`, async () => {
        for (const spare of spares) {
          const { code, signal, stdout, stderr } = await runFile(
            join(__dirname, 'scripts', 'async_addresses.ts'),
            {
              args: [Buffer.from(wat(GUEST)).toString('base64'), backend, what, String(spare)],
              timeout: 60_000,
            },
          );
          assert.deepEqual([code, signal], [0, null], `${spare} MB: ${stdout}${stderr}`);
          const ended = JSON.parse(/^ended (.*)$/m.exec(stdout)?.[1] ?? 'null') as Record<string, number>;
          assert.deepEqual(
            Object.keys(ended).filter((kind) => kind !== 'value' && kind !== 'LimitError'),
            [],
            `${spare} MB`,
          );
        }
      });
    }
  });
});
