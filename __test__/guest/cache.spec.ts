// Which module cache components use makes no difference to what their guests do.
// How modules are kept is tested in Rust; here it only must not show.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ModuleCache, SandboxComponents, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { guest } from '../support/guest';

const numbered = (n: number) => `(module (global $n (mut i32) (i32.const ${n}))
  (func (export "next") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))`;

describe('A guest', () => {
  forEachBackend((backend) => {
    const caches: [string, () => Record<string, unknown>][] = [
      ['the cache of the process', () => ({})],
      ['no cache', () => ({ cache: false })],
      ['a cache of its own', () => ({ cache: new ModuleCache({}) })],
      ['a cache of one module', () => ({ cache: new ModuleCache({ entries: 1 }) })],
    ];
    for (const [what, options] of caches) {
      it(`runs with ${what}`, () => {
        const components = new SandboxComponents<unknown>(backend, options());
        for (let i = 0; i < 6; i++) {
          const { call } = guest({ backend, components, wat: numbered(i % 3) });
          assert.deepEqual(call('next'), Value.I32((i % 3) + 1));
        }
      });
    }

    it('runs with a cache that both engines share', () => {
      const cache = new ModuleCache();
      for (const each of ['wasmi', 'wasmer', 'wasmi', 'wasmer'] as const) {
        const components = new SandboxComponents<unknown>(each, { cache });
        assert.deepEqual(guest({ backend: each, components, wat: numbered(5) }).call('next'), Value.I32(6));
      }
      const components = new SandboxComponents<unknown>(backend, { cache });
      assert.deepEqual(guest({ backend, components, wat: numbered(5) }).call('next'), Value.I32(6));
    });
  });
});
