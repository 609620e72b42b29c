/** Describes the machine that the benches run on, without naming it. */

import { cpus, loadavg } from 'node:os';
import type { Machine } from './results';

/** This machine, now. To be called before anything is measured: the benches are a load, too. */
export function thisMachine(): Machine {
  // Windows has no load average; libuv gives zeros there.
  const load = process.platform === 'win32' ? {} : { load: Number(loadavg()[0].toFixed(2)) };
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: plainCpu(cpus()[0]?.model ?? ''),
    cores: cpus().length,
    system: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    ...load,
  };
}

/** A processor's name without trademarks, clock rate and number of cores: `AMD EPYC 7763`, `Apple M2`. */
export function plainCpu(model: string): string {
  const plain = model
    .replace(/\((?:R|TM)\)/gi, '')
    .replace(/@.*/, '')
    .replace(/\b(?:CPU|Processor|\d+-Core)\b/gi, '')
    .replace(/\s+/g, ' ')
    .trim();
  return plain === '' ? 'unknown processor' : plain;
}

/** The load average per core below which a machine counts as idle. */
const IDLE_LOAD = 0.25;

/** Whether other things ran when the measuring began; undefined if that is not known. */
export function wasIdle({ load, cores }: Machine): boolean | undefined {
  return load === undefined ? undefined : load / cores < IDLE_LOAD;
}

/** The machine, in one sentence. */
export function describe(machine: Machine): string {
  const { date, cpu, cores, system, node, load } = machine;
  const idle = wasIdle(machine);
  const state =
    idle === undefined
      ? 'load unknown'
      : `${idle ? 'idle' : '**busy**'} (load average ${load} when the run began)`;
  const count = cores === 1 ? '1 core' : `${cores} cores`;
  return `Measured on ${date}: ${cpu}, ${count}, ${system}, Node ${node}, ${state}.`;
}
