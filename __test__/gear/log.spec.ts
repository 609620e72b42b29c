// What the reference logs is logged through util.debuglog('sandbox-host'), and nothing is printed without it.
// Runs child processes, as NODE_DEBUG is read once at start.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runSnippet } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const snippet = (backend: string) => `
  import { GuestEnvironment, Instantiate, JsSupervisor, SandboxComponents } from '../../index';
  const [seven, lacking, trapping] = process.argv.slice(1).map((text) => Buffer.from(text, 'base64'));
  const components = new SandboxComponents<number>(${JSON.stringify(backend)});
  const env = () => GuestEnvironment.decode(components, Uint8Array.of(0));
  components.newMemory(1);
  components.newMemory(1);
  components.instantiate(Instantiate.Version1, seven, env(), new JsSupervisor()).register(components, 0);
  for (const wasm of [lacking, trapping]) {
    try { components.instantiate(Instantiate.Version1, wasm, env(), new JsSupervisor()); } catch {}
  }
  components.clear();
`;

const guests = () =>
  [
    '(module (func (export "seven") (result i32) (i32.const 7)))',
    '(module (import "env" "lost" (func)))',
    '(module (func $start unreachable) (start $start))',
  ].map((source) => Buffer.from(wat(source)).toString('base64'));

describe('The debug log', () => {
  forEachBackend((backend) => {
    it('says what clear() removes and why a guest was not made', async () => {
      const child = await runSnippet(snippet(backend), {
        args: guests(),
        env: { NODE_DEBUG: 'sandbox-host' },
      });
      assert.equal(child.code, 0, child.stderr);
      assert.match(child.stderr, /SANDBOX-HOST \d+: clear; instances cnt = 1/);
      assert.match(child.stderr, /SANDBOX-HOST \d+: clear; memories cnt = 2/);
      assert.match(child.stderr, /SANDBOX-HOST \d+: .*lost/);
      assert.match(child.stderr, /SANDBOX-HOST \d+: .*unreachable/);
      assert.equal(child.stdout, '');
    });

    it('is silent when nobody asks for it', async () => {
      const child = await runSnippet(snippet(backend), { args: guests() });
      assert.deepEqual([child.code, child.stdout, child.stderr], [0, '', '']);
    });
  });
});
