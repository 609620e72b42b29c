// The layers of lib/: each file imports, types included, only what lies below it, and no files import one another in a circle.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import {
  circlesIn,
  describeArrowsUp,
  describeCircles,
  layerOf,
  readSourceTree,
  sourceTreeOf,
} from './support/source_tree';

const root = join(__dirname, '..');
const tree = readSourceTree(root);
const none = (faults: readonly string[]): void => assert.equal(faults.join('\n'), '');
const files = (sources: Record<string, string>) => sourceTreeOf(new Map(Object.entries(sources)));

describe('The source tree', () => {
  it('has no files that import one another in a circle', () => {
    none(describeCircles(tree));
  });

  it('has no import of a layer above, nor of one beside', () => {
    none(describeArrowsUp(tree));
  });

  it('has each file in a layer', () => {
    none([...tree.files.keys()].filter((path) => layerOf(path) === undefined));
  });

  it('has no file of much more than 500 lines', () => {
    none([...tree.files].flatMap(([path, lines]) => (lines > 520 ? [`${path} has ${lines} lines`] : [])));
  });

  it('is read whole: hundreds of imports between files of all layers', () => {
    assert.ok(tree.arrows.length > 300, `only ${tree.arrows.length} imports`);
    const layers = new Set([...tree.files.keys()].map((path) => layerOf(path)?.name));
    for (const layer of ['lib/base', 'lib/binding', 'lib/guest', 'lib/gear', 'index.ts']) {
      assert.ok(layers.has(layer), layer);
    }
  });
});

describe('A source tree is refused', () => {
  for (const [what, source] of [
    ['a value', "import { memory } from '../gear/memory';"],
    ['a type', "import type { Memory } from '../gear/memory';"],
    ['what it exports again', "export { memory } from '../gear/memory';"],
    ['a type in place', "export type Found = import('../gear/memory').Memory;"],
    ['a module at run time', "export const found = () => import('../gear/memory');"],
    ['a module by require', "export const found = () => require('../gear/memory');"],
  ] as const) {
    it(`if a file imports ${what} from a layer above`, () => {
      const faults = describeArrowsUp(files({ 'lib/guest/call.ts': source, 'lib/gear/memory.ts': '' }));
      assert.deepEqual(faults, [
        'lib/guest/call.ts:1 imports lib/gear/memory.ts: lib/guest must not know lib/gear',
      ]);
    });
  }

  it('if a layer imports one that stands beside it', () => {
    const wasi = "import { x } from '../webassembly/x';";
    assert.equal(describeArrowsUp(files({ 'lib/wasi/x.ts': wasi, 'lib/webassembly/x.ts': '' })).length, 1);
  });

  it('if types go round in a circle, and says how', () => {
    const circle = files({
      'lib/gear/a.ts': "import { b } from './b';\n",
      'lib/gear/b.ts': "// first\nimport type { C } from './c';\n",
      'lib/gear/c.ts': "import type { A } from './a';\nexport { d } from './d';\n",
      'lib/gear/d.ts': '',
    });
    assert.deepEqual(circlesIn(circle), [['lib/gear/a.ts', 'lib/gear/b.ts', 'lib/gear/c.ts']]);
    assert.deepEqual(describeCircles(circle), [
      '3 files import one another: lib/gear/a.ts:1 → lib/gear/b.ts:2 → lib/gear/c.ts:1 → lib/gear/a.ts',
    ]);
  });

  it('by the linter too', (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'source-tree-'));
    context.after(() => rmSync(folder, { recursive: true }));
    copyFileSync(join(root, 'biome.json'), join(folder, 'biome.json'));
    const up = {
      'lib/base/values.ts': '../binding/native',
      'lib/binding/native.ts': '../guest/call',
      'lib/guest/trap.ts': '../gear/memory',
      'lib/guest/slots.ts': '../../index',
      'lib/gear/memory.ts': './host/names',
      'lib/gear/scale/reader.ts': '../results',
      'lib/gear/scale/writer.ts': '../../guest/module',
      'lib/wasi/clock.ts': '../gear/results',
    };
    const circle = { 'lib/guest/a.ts': './b', 'lib/guest/b.ts': './a' };
    const down = { 'lib/gear/host/names.ts': '../results', 'lib/gear/results.ts': '../guest/module' };
    for (const [path, specifier] of Object.entries({ ...up, ...circle, ...down })) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), `export type { X } from '${specifier}';\n`);
    }
    const biome = join(root, 'node_modules', '@biomejs', 'biome', 'bin', 'biome');
    const { stdout, stderr } = spawnSync(process.execPath, [biome, 'lint', '--max-diagnostics=none'], {
      cwd: folder,
      encoding: 'utf8',
    });
    const refused = (rule: string) =>
      [
        ...`${stdout}${stderr}`
          .replaceAll('\\', '/')
          .matchAll(new RegExp(`^(lib/\\S+?):\\S* lint/\\w+/${rule}`, 'gm')),
      ]
        .map((match) => match[1])
        .sort();
    assert.deepEqual(refused('noRestrictedImports'), Object.keys(up).sort());
    assert.deepEqual(refused('noImportCycles'), Object.keys(circle).sort());
  });
});
