// What the package offers is what docs/sandbox-host.api.md says, so that no change of it goes by unseen in a review.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import * as source from '../index';

const root = join(__dirname, '..');

describe('The public surface', () => {
  it('is the one that was last accepted: see it with `npm run api` and `git diff docs`', () => {
    const reportIn = (folder: string) => readFileSync(join(root, folder, 'sandbox-host.api.md'), 'utf8');
    assert.equal(reportIn('build/report'), reportIn('docs'));
  });

  it('is declared at the start of a line, where people look for it', () => {
    // API Extractor indents all that follows a tag that begins with a brace.
    const types = readFileSync(join(root, 'dist', 'index.d.cts'), 'utf8');
    assert.match(types, /^export declare class SandboxComponents/m);
    assert.doesNotMatch(types, /^ +(export )?declare /m);
  });

  it('is the same from the sources, by require and by import', async () => {
    const names = Object.keys(source).sort();
    assert.ok(names.length > 20);
    assert.deepEqual(Object.keys(require('../dist/index.cjs')).sort(), names);
    // TypeScript would make a `require` of an import.
    const imported = await new Function('path', 'return import(path)')(join(root, 'dist', 'index.mjs'));
    assert.deepEqual(Object.keys(imported).sort(), names);
  });
});
