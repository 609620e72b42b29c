// What the benches write into docs/measurements.md.
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { describe, it } from 'node:test';
import { describe as inWords, plainCpu, thisMachine } from '../../bench/support/machine';
import { pageOf } from '../../bench/support/page';
import { toText } from '../../bench/support/report';
import { figure, MACHINE, SIZES, section, timeTable } from './results';

describe('The page of measurements', () => {
  const calls = section('Calls');

  it('has a section for each bench: what is measured, where, how to repeat it, and its plot', () => {
    const page = pageOf({ calls, files: section('Files') }, 'plots');
    for (const line of [
      '- [Calls](#calls)',
      '## Calls',
      'What Calls cost.',
      '![Calls: a plot of the tables below](plots/calls.svg)',
      '## Files',
      '![Files: a plot of the tables below](plots/files.svg)',
    ]) {
      assert.ok(page.split('\n').includes(line), line);
    }
    assert.ok(page.includes('To repeat it: `npm run bench -- --write calls`.'));
  });

  it('shows medians, the best times, ratios to the peer and targets as a table', () => {
    const page = pageOf({ calls }, 'plots');
    const table = [
      '|  | median | best | × bare & &lt;empty> call | target |',
      '|---|---:|---:|---:|---:|',
      '| bare & &lt;empty> call | 50.0 ns | 40.0 ns |  |  |',
      '| wasmi, quick | 75.0 ns | 60.0 ns | 1.50 | ≤ 2 ×: met |',
      '| wasmer, slow | 150 ns | 120 ns | 3.00 | ≤ 2 ×: MISSED |',
    ].join('\n');
    assert.ok(page.includes(table), page);
  });

  it('sums up which targets are met and which are missed', () => {
    const page = pageOf({ calls, files: section('Files', { tables: SIZES }) }, 'plots');
    const summary = [
      '2 of 4 targets met.',
      '',
      '| bench | what | found | wanted |  |',
      '|---|---|---:|---:|---:|',
      '| [Calls](#calls) | wasmi, quick | 1.50 × | ≤ 2 × | met |',
      '| [Calls](#calls) | wasmer, slow | 3.00 × | ≤ 2 × | **missed** |',
      '| [Files](#files) | small | 2.0 KiB | ≤ 4.0 KiB | met |',
      '| [Files](#files) | large | 8.0 KiB | ≤ 4.0 KiB | **missed** |',
    ].join('\n');
    assert.ok(page.includes(summary), page);
  });

  it('holds a figure to all of its targets', () => {
    const quickButLate = figure('wasmi', 75, { target: 2, mostNs: 60 });
    assert.match(toText(timeTable([quickButLate])), /≤ 2 ×, ≤ 60\.0 ns: MISSED$/);
  });

  it('shows how much longer than the peer something takes that has such a target', () => {
    const text = toText(timeTable([figure('later', 80, { beyond: { ns: 30, mostNs: 40 } })]));
    assert.match(text, /more than bare & <empty> call/);
    assert.match(text, /30\.0 ns +≤ 40\.0 ns more: met$/);
  });

  it('names the situation of a table, and says what could not be measured', () => {
    const busy = timeTable([figure('wasmi', 75)], { situation: 'busy' });
    const page = pageOf(
      { calls: section('Calls', { tables: [busy], notes: ['Not on one core.'] }) },
      'plots',
    );
    assert.ok(page.includes('**calls, beside two busy loops**'));
    assert.ok(page.includes('\n\nNot on one core.\n\n'));
  });

  it('keeps a bar in a name from ending its cell', () => {
    const page = pageOf({ calls: section('Calls', { tables: [timeTable([figure('a | b', 75)])] }) }, 'plots');
    assert.ok(page.includes('| a \\| b | 75.0 ns |'));
  });
});

describe('The machine of a measurement', () => {
  it('is idle or busy by its load for each core', () => {
    assert.match(
      inWords(MACHINE),
      /^Measured on 2026-01-31: AMD EPYC, 2 cores, linux x64, Node 20\.0\.0, idle/,
    );
    assert.match(inWords({ ...MACHINE, load: 3 }), /\*\*busy\*\* \(load average 3 when the run began\)/);
    const { load: _, ...unknown } = MACHINE;
    assert.match(inWords(unknown), /load unknown\.$/);
  });

  it('is not named', () => {
    const words = JSON.stringify(thisMachine());
    assert.equal(words.includes(`"${hostname()}"`), false);
    assert.equal(words.includes(process.cwd()), false);
  });

  it('has a processor without trademarks and clock rates', () => {
    assert.equal(plainCpu('Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz'), 'Intel Xeon Platinum 8370C');
    assert.equal(plainCpu('AMD EPYC 7763 64-Core Processor'), 'AMD EPYC 7763');
    assert.equal(plainCpu('Apple M2'), 'Apple M2');
    assert.equal(plainCpu(''), 'unknown processor');
  });
});
