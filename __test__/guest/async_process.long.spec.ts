// What becomes of a process over very many asynchronous calls, and of calls in every state when their process or worker ends.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { makeGuestFrom, runGuestSnippet } from '../support/child_guest';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';
import type { Measured } from './scripts/async_memory';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "sum") (param $times i32) (result i32) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (call $f (local.get $times))))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $l (local.get $times)))
    (local.get $sum))
  (func (export "nothing"))
  (func (export "trap") unreachable)
  (func (export "endless") (loop $l (br $l))))`;

describe('A process with asynchronous calls', () => {
  const child = (source: string) => runGuestSnippet(source, wat(GUEST));

  forEachBackend((backend) => {
    it('lives as long as calls are pending, and no longer', async () => {
      const { code, stdout, stderr } = await child(`
        const call = make('${backend}', ([n]) => new Promise((resolve) => setTimeout(resolve, 50, n).unref()));
        call('endless').catch(() => {});
        const other = make('${backend}', ([n]) => n);
        other('sum', Value.I32(100)).then((result) => { console.log(result.value); process.exit(3); });`);
      assert.deepEqual([code, stdout.trim()], [3, '5050'], stderr);
      const natural = await child(`
        make('${backend}', async ([n]) => n)('sum', Value.I32(10)).then((result) => console.log(result.value));`);
      assert.deepEqual(
        [natural.code, natural.stdout.trim(), natural.timedOut],
        [0, '55', false],
        natural.stderr,
      );
    });

    it('exits in every state of a call', async () => {
      for (const state of [
        `make('${backend}', ([n]) => n)('endless'); setTimeout(() => process.exit(5), 20);`,
        `make('${backend}', () => new Promise(() => {}))('f', Value.I32(1)); setTimeout(() => process.exit(5), 20);`,
        `make('${backend}', () => process.exit(5))('f', Value.I32(1));`,
        `make('${backend}', async () => { await null; process.exit(5); })('f', Value.I32(1));`,
        `make('${backend}', ([n]) => n)('sum', Value.I32(1)); process.exit(5);`,
      ]) {
        const { code, signal, stderr } = await child(state);
        assert.deepEqual([code, signal], [5, null], `${state}\n${stderr}`);
      }
    });

    it('goes on when workers with calls in every state are terminated at any moment', async () => {
      const { code, signal, stdout, stderr } = await child(`
        const { Worker } = require('node:worker_threads');
        const { readdirSync } = require('node:fs');
        const source = ${JSON.stringify(makeGuestFrom("require('node:worker_threads').workerData"))} + \`
          require('node:worker_threads').parentPort.postMessage(0);
          for (let round = 0; round < 3; round += 1) {
            make('${backend}', ([n]) => n)('endless');
            make('${backend}', () => new Promise(() => {}))('f', Value.I32(1));
            make('${backend}', ([n]) => n)('sum', Value.I32(1_000_000_000));
            make('${backend}', ([n]) => new Promise((resolve) => setImmediate(resolve, n)))('sum', Value.I32(1_000_000));
          }
          setInterval(() => {}, 1000);\`;
        (async () => {
          for (let round = 0; round < 6; round += 1) {
            const worker = new Worker('require("ts-node/register");' + source, { eval: true, workerData: process.argv[1] });
            await new Promise((resolve) => worker.once('message', resolve));
            await new Promise((resolve) => setTimeout(resolve, round * 3));
            await worker.terminate();
          }
          for (let waited = 0; waited < 200 && readdirSync('/proc/self/task').length > 60; waited += 1)
            await new Promise((resolve) => setTimeout(resolve, 100));
          console.log('threads', readdirSync('/proc/self/task').length <= 60);
        })();`);
      assert.deepEqual([code, signal, stdout.trim()], [0, null, 'threads true'], stderr);
    });

    it('needs no more memory for many of them', async () => {
      const { code, signal, stdout, stderr } = await runFile(join(__dirname, 'scripts', 'async_memory.ts'), {
        args: [backend, Buffer.from(wat(GUEST)).toString('base64')],
        execArgv: ['--expose-gc'],
        timeout: 300_000,
      });
      assert.deepEqual([code, signal], [0, null], stderr);
      const measured: Measured[] = JSON.parse(stdout);
      const growth = (of: keyof Measured): number[] =>
        measured
          .slice(1)
          .map((after, n) => after[of] - measured[n][of])
          .sort((a, b) => a - b);
      // For 10,000 calls. The process may have needed more pages by chance, and V8 may have thrown code away, but not each time.
      assert.ok(growth('rss')[0] < 2 * 2 ** 20, stdout);
      assert.ok(growth('heap')[1] < 2 ** 19, stdout);
      assert.ok(growth('handles')[0] <= 0, stdout);
    });
  });
});
