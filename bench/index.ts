/**
 * `npm run bench [-- NAMES…] [--write] [--json FILE]`: runs the benches of this folder, or those that are named, and prints what each
 * operation costs as a multiple of its peers, or how much memory things take. `--write` puts the results into docs/measurements.md;
 * `--redraw` measures nothing, and writes that page and its plots anew from the results of earlier runs.
 * Each bench runs in a process of its own, so that neither what V8 learns from one nor the memory that it leaves behind changes the
 * figures of another.
 */

import { type ForkOptions, fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { thisMachine, wasIdle } from './support/machine';
import { type Comparison, measure } from './support/measure';
import { summaryOf, toText } from './support/report';
import { type About, type Measurements, type Section, type Table, toJson } from './support/results';
import { arrange, CannotArrange, type Situation } from './support/situations';
import type { Sizes } from './support/size';

/** A bench compares times, or it measures sizes. */
interface Bench {
  readonly about: About;
  comparisons?(situation: Situation): Promise<Comparison[]>;
  sizes?(): Promise<Sizes>;
}

/** In the order in which they run. Each is loaded only where it runs, because ts-node takes seconds for all of them. */
const BENCHES: Readonly<Record<string, () => Bench>> = {
  supervisor_call: () => require('./supervisor_call'),
  protocol_call: () => require('./protocol_call'),
  wasm_supervisor_call: () => require('./wasm_supervisor_call'),
  host_functions: () => require('./host_functions'),
  invoke: () => require('./invoke'),
  async_call: () => require('./async_call'),
  suspended: () => require('./suspended'),
  compute: () => require('./compute'),
  interruptible: () => require('./interruptible'),
  fuel: () => require('./fuel'),
  instantiate: () => require('./instantiate'),
  start: () => require('./start'),
  memory: () => require('./memory'),
  load: () => require('./load'),
  binary: () => require('./binary'),
};

const DOCS = join(__dirname, '..', 'docs');

/** What a child process sends: first the words of its bench, then each table as soon as it is there. */
type Message = { readonly about: About } | { readonly table: Table };

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'string' }, write: { type: 'boolean' }, redraw: { type: 'boolean' } },
    allowPositionals: true,
  });
  const order = Object.keys(BENCHES);
  if (values.redraw) return writeDocs({}, order);
  const unknown = positionals.find((name) => !order.includes(name));
  if (unknown !== undefined) throw new Error(`there is no bench ${unknown}; there are: ${order.join(', ')}`);
  const machine = thisMachine();
  if (wasIdle(machine) === false) {
    console.error(`The machine is busy, load average ${machine.load}: expect noisy figures.`);
  }
  const run: Record<string, Section> = {};
  for (const bench of positionals.length > 0 ? positionals : order) {
    run[bench] = { machine, ...(await runBench(bench)) };
    // After each, so that a bench that fails does not take the others' results with it.
    if (values.write) writeDocs(run, order);
  }
  console.log(`\n${summaryOf(Object.values(run).flatMap(({ tables }) => tables))}`);
  if (values.json !== undefined) writeFileSync(values.json, toJson(run));
}

function writeDocs(run: Measurements, order: readonly string[]): void {
  // Loaded here, because only this needs the library that draws.
  const { write } = require('./support/write') as typeof import('./support/write');
  write(DOCS, run, order);
}

/** Runs a bench in all its situations, and prints its tables as they come. */
async function runBench(bench: string): Promise<Omit<Section, 'machine'>> {
  const tables: Table[] = [];
  const notes: string[] = [];
  const take = (table: Table): void => {
    tables.push(table);
    console.log(`\n${toText(table)}`);
  };
  const { title, text, situations = [] } = await inChild(bench, 'all cores', {}, take);
  for (const situation of situations) {
    try {
      await arrange(situation, async (options) => {
        await inChild(bench, situation, options, take);
      });
    } catch (error) {
      if (!(error instanceof CannotArrange)) throw error;
      notes.push(error.message);
      console.log(`\n${error.message}`);
    }
  }
  return { about: { title, text }, tables, notes };
}

/** Runs one bench in a child process. */
function inChild(
  bench: string,
  situation: Situation,
  options: ForkOptions,
  onTable: (table: Table) => void,
): Promise<About> {
  return new Promise((resolve, reject) => {
    let about: About | undefined;
    const env = { ...process.env, [BENCH]: bench, [SITUATION]: situation };
    const child = fork(__filename, [], { ...options, env });
    child.on('message', (message: Message) => {
      if ('about' in message) about = message.about;
      else onTable(message.table);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0 && about !== undefined) resolve(about);
      else reject(new Error(`the bench ${bench} ended with ${signal ?? `status ${status}`}`));
    });
  });
}

/** The variables that say to a child process which bench it is to run, and where it runs. */
const [BENCH, SITUATION] = ['SANDBOX_HOST_BENCH', 'SANDBOX_HOST_BENCH_SITUATION'];

async function measureAndSend(bench: string, situation: Situation): Promise<void> {
  const { about, comparisons, sizes } = BENCHES[bench]();
  const send = (message: Message): void => {
    process.send?.(message);
  };
  send({ about });
  for (const comparison of (await comparisons?.(situation)) ?? []) {
    const { name, peers } = comparison;
    send({ table: { name, situation, peers, figures: await measure(comparison) } });
  }
  if (sizes !== undefined) send({ table: { situation, ...(await sizes()) } });
  process.disconnect();
}

const bench = process.env[BENCH];
const done =
  bench === undefined ? main() : measureAndSend(bench, (process.env[SITUATION] ?? 'all cores') as Situation);
done.catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
