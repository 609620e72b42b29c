// What a supervisor throws is caught by whoever called the guest, so it is not uncaught, also to a process that aborts for what is.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 0)))
  (func (export "trap") unreachable))`;

const START = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func $start (drop (call $f (i32.const 1))))
  (start $start))`;

const base64 = (text: string): string => Buffer.from(wat(text)).toString('base64');

describe('A process with --abort-on-uncaught-exception', () => {
  forEachBackend((backend) => {
    it('goes on when supervisors throw and callers catch', async () => {
      const { code, signal, stdout, stderr } = await runFile(join(__dirname, 'scripts', 'uncaught.ts'), {
        args: [backend, base64(GUEST), base64(START)],
        execArgv: ['--abort-on-uncaught-exception'],
      });
      assert.deepEqual([code, signal], [0, null], stderr);
      // Seven reasons, of which each fails a call in the one way or the other: two by a function, two by each step, four by nested calls, two
      // by start functions.
      assert.equal(stdout, `${7 * (2 + 6 * 2 + 4 + 2)} have failed\n`, stderr);
    });
  });
});
