// Where the benches keep their results, and the situations in which they run.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { pageOf } from '../../bench/support/page';
import { plot } from '../../bench/support/plot';
import { type Measurements, merge, toJson } from '../../bench/support/results';
import { arrange, CannotArrange } from '../../bench/support/situations';
import { write } from '../../bench/support/write';
import { figure, MACHINE, section, timeTable } from './results';

const DOCS = join(__dirname, '..', '..', 'docs');
const ORDER = ['calls', 'files', 'starts'];

describe('The results of a run', () => {
  const old = { starts: section('Starts'), calls: section('Calls') };
  const newer = section('Calls', { machine: { ...MACHINE, date: '2026-02-28' } });

  it('replace those of the same benches and keep the others, in the order of the benches', () => {
    const merged = merge(old, { calls: newer }, ORDER);
    assert.deepEqual(merged, { calls: newer, starts: old.starts });
    assert.deepEqual(Object.keys(merged), ['calls', 'starts']);
  });

  it('drop those of benches that there are no more', () => {
    assert.deepEqual(merge(old, {}, ['starts']), { starts: old.starts });
  });

  it('are kept with four digits', () => {
    const tables = [timeTable([figure('wasmi', 123.456789)])];
    const kept = JSON.parse(toJson({ calls: section('Calls', { tables }) })) as Measurements;
    const [table] = kept.calls.tables;
    assert.equal('figures' in table && table.figures[1].median, 123.5);
  });
});

describe('Writing the measurements', () => {
  let docs: string;
  const read = (name: string): string => readFileSync(join(docs, name), 'utf8');

  beforeEach(() => {
    docs = mkdtempSync(join(tmpdir(), 'sandbox-host-bench-'));
  });
  afterEach(() => rmSync(docs, { recursive: true }));

  it('leaves a page, a plot for each bench, and the data', () => {
    write(docs, { calls: section('Calls'), files: section('Files') }, ORDER);
    assert.deepEqual(readdirSync(docs).sort(), ['measurements', 'measurements.md']);
    assert.deepEqual(readdirSync(join(docs, 'measurements')).sort(), ['calls.svg', 'data.json', 'files.svg']);
  });

  it('changes only the sections of a partial run', () => {
    write(docs, { calls: section('Calls'), files: section('Files') }, ORDER);
    const before = { page: read('measurements.md'), plot: read('measurements/files.svg') };
    const tables = [timeTable([figure('wasmi, quicker', 60)])];
    write(docs, { calls: section('Calls', { tables }) }, ORDER);
    const page = read('measurements.md');
    const filesOf = (text: string): string => text.slice(text.indexOf('## Files'));
    const calls = page.slice(page.indexOf('## Calls'), page.indexOf('## Files'));
    assert.ok(calls.includes('wasmi, quicker') && !calls.includes('wasmi, quick |'));
    assert.equal(filesOf(page), filesOf(before.page));
    assert.equal(read('measurements/files.svg'), before.plot);
    assert.ok(read('measurements/calls.svg').includes('wasmi, quicker'));
  });

  it('writes the same again if nothing was measured', () => {
    write(docs, { calls: section('Calls', { tables: [timeTable([figure('a third', 50 / 3)])] }) }, ORDER);
    const names = ['measurements.md', 'measurements/calls.svg', 'measurements/data.json'];
    const before = names.map(read);
    write(docs, {}, ORDER);
    assert.deepEqual(names.map(read), before);
  });

  it('removes the plot of a bench that there is no more', () => {
    write(docs, { calls: section('Calls'), files: section('Files') }, ORDER);
    write(docs, {}, ['calls']);
    assert.deepEqual(readdirSync(join(docs, 'measurements')).sort(), ['calls.svg', 'data.json']);
  });
});

describe('docs/measurements.md', () => {
  const read = (name: string): string => readFileSync(join(DOCS, name), 'utf8').replaceAll('\r\n', '\n');
  const measurements = JSON.parse(read('measurements/data.json')) as Measurements;

  it('is what its data gives; if not: npm run bench -- --redraw', () => {
    assert.equal(read('measurements.md'), pageOf(measurements, 'measurements'));
    for (const [bench, { about, tables }] of Object.entries(measurements)) {
      assert.equal(read(`measurements/${bench}.svg`), plot(about.title, tables), bench);
    }
  });
});

describe('The situation of a bench', () => {
  /** The cores that a process sees which is forked in a situation. */
  async function coresIn(situation: 'all cores' | 'one core' | 'busy'): Promise<unknown> {
    let cores: unknown;
    await arrange(situation, async (options) => {
      const child = fork(join(__dirname, 'cores.cjs'), [], { execArgv: [], ...options });
      [cores] = await once(child, 'message');
      await once(child, 'close');
    });
    return cores;
  }

  it('may be one core, where there is taskset', async (t) => {
    try {
      assert.equal(await coresIn('one core'), 1);
    } catch (error) {
      if (!(error instanceof CannotArrange)) throw error;
      t.skip(error.message);
    }
  });

  it('cannot be one core without taskset, which it says before it measures', async () => {
    const { PATH } = process.env;
    process.env.PATH = '';
    try {
      await assert.rejects(
        arrange('one core', () => assert.fail('measured')),
        (error) => error instanceof CannotArrange && /no `taskset`/.test(error.message),
      );
    } finally {
      process.env.PATH = PATH;
    }
  });

  it('may be all cores, or all of them beside busy loops, which end with it', async () => {
    assert.equal(await coresIn('busy'), await coresIn('all cores'));
    // The loops are children whose channel would keep this process alive.
    await assert.rejects(
      arrange('busy', async () => {
        throw new Error('the bench failed');
      }),
      /the bench failed/,
    );
  });
});
