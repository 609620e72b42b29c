/**
 * `npm run bench [-- NAMES…] [--json FILE]`: runs the benches of this folder, or those that are named, and prints what each
 * operation costs as a multiple of its peers, or how much memory things take. Each bench runs in a process of its own, so that
 * neither what V8 learns from one nor the memory that it leaves behind changes the figures of another.
 */

import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { type Comparison, type Figure, measure } from './support/measure';
import { isMet, isSmall, sizeTable, table } from './support/report';
import type { Size, Sizes } from './support/size';

/** A bench compares times, or it measures sizes. */
interface Bench {
  comparisons?(): Promise<Comparison[]>;
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
};

/** A table. */
type Result = TimeResult | SizeResult;

interface TimeResult {
  readonly bench: string;
  readonly name: string;
  readonly peers: readonly string[];
  readonly figures: readonly Figure[];
}

interface SizeResult {
  readonly bench: string;
  readonly name: string;
  readonly sizes: readonly Size[];
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'string' } },
    allowPositionals: true,
  });
  const names = Object.keys(BENCHES);
  const unknown = positionals.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`there is no bench ${unknown}; there are: ${names.join(', ')}`);
  const results: Result[] = [];
  for (const bench of positionals.length > 0 ? positionals : names) {
    await inChild(bench, (result) => {
      results.push(result);
      console.log(`\n${tableOf(result)}`);
    });
  }
  console.log(`\n${summary(results)}`);
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify(report(results), undefined, 2)}\n`);
}

/** Runs one bench in a child process, which sends each table as soon as it is there. */
function inChild(bench: string, onResult: (result: Result) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(__filename, [], { env: { ...process.env, [CHILD]: bench } });
    child.on('message', (result) => onResult(result as Result));
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(`the bench ${bench} ended with ${signal ?? `status ${status}`}`));
    });
  });
}

/** The variable that says which bench a child process is to run. */
const CHILD = 'SANDBOX_HOST_BENCH';

async function runBench(bench: string): Promise<void> {
  const { comparisons, sizes } = BENCHES[bench]();
  const send = (result: Result): void => {
    process.send?.(result);
  };
  for (const comparison of (await comparisons?.()) ?? []) {
    const { name, peers } = comparison;
    send({ bench, name, peers, figures: await measure(comparison) });
  }
  if (sizes !== undefined) send({ bench, ...(await sizes()) });
  process.disconnect();
}

function tableOf(result: Result): string {
  if ('sizes' in result) return sizeTable(result.name, result.sizes);
  return table(result.name, result.peers, result.figures);
}

function summary(results: readonly Result[]): string {
  const met = results.flatMap((result) =>
    'sizes' in result
      ? result.sizes.map(isSmall)
      : result.figures.map((figure) => isMet(figure, result.peers[0])),
  );
  const aimed = met.filter((entry) => entry !== undefined);
  return `${aimed.filter(Boolean).length} of ${aimed.length} targets met`;
}

function report(results: readonly Result[]): unknown {
  const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length };
  // Sizes are in bytes, as their key says.
  return { ...machine, unit: 'ns', results };
}

const bench = process.env[CHILD];
(bench === undefined ? main() : runBench(bench)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
