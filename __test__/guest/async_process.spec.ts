// What asynchronous calls mean for their process: its events and its signals. Its memory and its end are in
// async_process.long.spec.ts; what the calls give is in async.spec.ts and async_answers.spec.ts.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Value } from '../../index';
import { runFile } from '../support/child';
import { runGuestSnippet } from '../support/child_guest';
import { forEachBackend } from '../support/engines';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "nothing"))
  (func (export "trap") unreachable)
  (func (export "endless") (loop $l (br $l))))`;

/** Runs a script with that guest. */
const script = (name: string, backend: string) =>
  runFile(join(__dirname, 'scripts', name), {
    args: [backend, Buffer.from(wat(GUEST)).toString('base64')],
    execArgv: ['--expose-gc'],
    timeout: 300_000,
  });

describe('A process with asynchronous calls', { concurrency: 2 }, () => {
  forEachBackend((backend) => {
    it('is told of no error that a Promise of a call has told already', async () => {
      const { code, signal, stdout, stderr } = await script('async_errors.ts', backend);
      assert.deepEqual([code, signal], [0, null], stderr);
      assert.match(stdout, /^\d{3} have failed\n$/);
    });

    const pending = `
      let answer;
      make('${backend}', ([n]) => n)('endless');
      const waiting = make('${backend}', ([n]) => new Promise((resolve) => { answer = () => resolve(n); console.log('ready'); }));
      const waited = waiting('f', Value.I32(41));`;
    const child = (source: string, options: Parameters<typeof runGuestSnippet>[2]) =>
      runGuestSnippet(pending + source, wat(GUEST), options);

    it('handles SIGINT in JavaScript, and goes on', async () => {
      const { code, signal, stdout, stderr } = await child(
        `process.once('SIGINT', async () => {
          answer();
          console.log((await waited).value);
          process.exit(7);
        });`,
        { signals: [['ready', 'SIGINT']] },
      );
      assert.deepEqual([code, signal, stdout], [7, null, 'ready\n42\n'], stderr);
    });

    it('is killed by SIGINT if nobody handles that', async () => {
      const { code, signal, stdout, stderr } = await child('', { signals: [['ready', 'SIGINT']] });
      assert.deepEqual([code, signal, stdout], [null, 'SIGINT', 'ready\n'], stderr);
    });

    it('starts the inspector on SIGUSR1, and its calls go on', async () => {
      const { code, signal, stdout, stderr } = await child(
        `const inspector = require('node:inspector');
        const look = setInterval(async () => {
          if (inspector.url() === undefined) return;
          clearInterval(look);
          answer();
          console.log((await waited).value);
          process.exit(8);
        }, 5);`,
        { execArgv: ['--inspect-port=0'], signals: [['ready', 'SIGUSR1']] },
      );
      assert.deepEqual([code, signal, stdout], [8, null, 'ready\n42\n'], stderr);
      assert.match(stderr, /^Debugger listening on ws:/m);
    });
  });
});

describe('Many asynchronous calls with one signal', () => {
  forEachBackend((backend) => {
    async function callManyTimes(signal: AbortSignal): Promise<void> {
      const { invoke, asked, isAsked } = waitingGuest(backend, GUEST);
      const calls = Array.from({ length: 20 }, () => invoke('f', [Value.I32(1)], { signal }));
      for (let n = 0; n < calls.length; n += 1) {
        await isAsked(n + 1);
        asked[n].resolve(Value.I32(1));
      }
      await Promise.all(calls);
    }

    it('make Node warn of no leak', async (test) => {
      const warnings: Error[] = [];
      const warn = (warning: Error): void => void warnings.push(warning);
      process.on('warning', warn);
      test.after(() => process.off('warning', warn));
      await callManyTimes(new AbortController().signal);
      await nextTurn();
      assert.deepEqual(warnings, []);
    });

    it('leave no listener on it', async () => {
      const { signal } = new AbortController();
      await callManyTimes(signal);
      assert.deepEqual(getEventListeners(signal, 'abort'), []);
    });
  });
});
