// A process to which the system gives no thread: what needs one is a LimitError, and is tried again the next time. What one refused thread does to
// the pool is in crate/tests/executor/pool.rs. Only Linux counts the threads of a user.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const SCRIPT = join(__dirname, 'scripts', 'few_threads.ts');

/** The system limits no threads of root. */
const USER = process.getuid?.() === 0 ? { uid: 61_417, gid: 61_417 } : {};

const LIMITED = 'LimitError ERR_SANDBOX_LIMIT';

function whyNot(): string | false {
  if (process.platform !== 'linux') return 'only Linux limits them';
  if (spawnSync('prlimit', ['--version']).status !== 0) return 'there is no prlimit';
  const reads = spawnSync(process.execPath, ['-e', `fs.readFileSync(${JSON.stringify(SCRIPT)})`], USER);
  return reads.status !== 0 && 'a user that is not root cannot read this folder';
}

/** So many more threads may a process have. */
const ROOM = [0, 1, 2, 3, 4];

// One after another: the system counts the threads of all of them together.
describe('In a process that may have only a few more threads', { skip: whyNot() }, () => {
  forEachBackend((backend) => {
    for (const room of ROOM)
      it(`what finds none is a LimitError, and works once the process may have more: ${room}`, async () => {
        // wasmer looks for the functions that write to such a table on several threads.
        const binary = wat(
          '(module (table 1 1 funcref) (func (export "seven") (result i32) (i32.const 7)) (func))',
        );
        const args = [backend, Buffer.from(binary).toString('base64'), String(room)];
        const child = await runFile(SCRIPT, { args, user: USER });
        assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
        const { meanwhile, afterwards } = JSON.parse(child.stdout);
        assert.deepEqual(afterwards, {
          'a module is compiled': 'done',
          'a module is compiled asynchronously': 'done',
          'a call has a timeout': 'done',
          'a call is asynchronous': 'done',
        });
        for (const [what, came] of Object.entries(meanwhile))
          assert.ok([LIMITED, 'done'].includes(came as string), `${what}: ${came}`);
        if (room === 0) assert.equal(meanwhile['a call has a timeout'], LIMITED);
      });
  });
});
