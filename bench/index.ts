/**
 * `npm run bench [-- NAMES…] [--json FILE]`: runs the benches of this folder, or those that are named, and prints what each
 * operation costs as a multiple of its peers. Each bench runs in a process of its own, so that what V8 learns from one does
 * not change the figures of another.
 */

import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { type Comparison, type Figure, measure } from './support/measure';
import { isMet, table } from './support/report';

interface Bench {
  comparisons(): Promise<Comparison[]>;
}

/** In the order in which they run. Each is loaded only where it runs, because ts-node takes seconds for all of them. */
const BENCHES: Readonly<Record<string, () => Bench>> = {
  supervisor_call: () => require('./supervisor_call'),
  protocol_call: () => require('./protocol_call'),
  wasm_supervisor_call: () => require('./wasm_supervisor_call'),
  host_functions: () => require('./host_functions'),
  invoke: () => require('./invoke'),
  interruptible: () => require('./interruptible'),
  instantiate: () => require('./instantiate'),
  start: () => require('./start'),
  memory: () => require('./memory'),
};

/** A table. */
interface Result {
  readonly bench: string;
  readonly name: string;
  readonly peers: readonly string[];
  readonly figures: readonly Figure[];
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
      console.log(`\n${table(result.name, result.peers, result.figures)}`);
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
  for (const comparison of await BENCHES[bench]().comparisons()) {
    const { name, peers } = comparison;
    const result: Result = { bench, name, peers, figures: await measure(comparison) };
    process.send?.(result);
  }
  process.disconnect();
}

function summary(results: readonly Result[]): string {
  const met = results.flatMap(({ peers, figures }) => figures.map((figure) => isMet(figure, peers[0])));
  const aimed = met.filter((entry) => entry !== undefined);
  return `${aimed.filter(Boolean).length} of ${aimed.length} targets met`;
}

function report(results: readonly Result[]): unknown {
  const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length };
  return { ...machine, unit: 'ns', results };
}

const bench = process.env[CHILD];
(bench === undefined ? main() : runBench(bench)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
