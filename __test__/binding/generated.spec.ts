// What TypeScript has of the addon is generated and committed, so that it can be read and compiled without Rust. It must be what is built.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadBinary } from '../../lib/binding/binary';
import { layout } from '../../lib/binding/scratch_layout';

const ROOT = join(__dirname, '..', '..');
const BUILT_TYPES = join(ROOT, 'native', 'index.d.ts');
const STALE = 'it is stale: run `npm run build native -- --accept`';

const read = (...path: string[]): string =>
  readFileSync(join(ROOT, ...path), 'utf8').replaceAll('\r\n', '\n');

describe('What is generated from the addon', () => {
  it('has the layout of the scratch buffer that the addon has', () => {
    const { scratchLayout } = loadBinary() as { scratchLayout(): string };
    assert.equal(read('lib', 'binding', 'scratch_layout.ts'), scratchLayout(), STALE);
    assert.ok(layout.SCRATCH_BYTES > 8 * layout.FUEL && layout.MAX_SLOTS > 1000);
  });

  it('has the types of what the addon exports', {
    skip: !existsSync(BUILT_TYPES) && 'the addon was built on another machine',
  }, () => {
    assert.equal(read('lib', 'binding', 'addon.d.ts'), read('native', 'index.d.ts'), STALE);
  });
});
