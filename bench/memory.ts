import { type Memory, type SandboxBackend, SandboxComponents } from 'sandbox-host';
import { ENGINES } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';

export const about: About = {
  title: 'Copies into and out of a memory',
  text: [
    'How fast bytes go into and out of a sandboxed memory, for several sizes of copies. The peer is a copy between two arrays of JavaScript by',
    '`Uint8Array.prototype.set`.',
  ].join('\n'),
};

const KIB = 1024;
const PAGE_BYTES = 64 * KIB;

/** How many copies of each size a sample has. */
const SIZES: readonly (readonly [name: string, bytes: number, times: number])[] = [
  ['64 B', 64, 1000],
  ['4 KiB', 4 * KIB, 500],
  ['1 MiB', KIB * KIB, 4],
  ['16 MiB', 16 * KIB * KIB, 1],
];

const SET = 'Uint8Array.prototype.set';

export async function comparisons(): Promise<Comparison[]> {
  const memories = ENGINES.map((backend) => [backend, memoryOf(backend)] as const);
  return SIZES.map(([name, bytes, times]) => ({
    name: `copies of ${name}`,
    operations: [
      ...copiesInJavaScript(bytes, times),
      ...memories.flatMap(([backend, memory]) => copies(backend, memory, bytes, times)),
    ],
    peers: [SET],
    rounds: 10,
  }));
}

/** A memory whose pages all exist: the first touch of a page costs more than copying it. */
function memoryOf(backend: SandboxBackend): Memory {
  const components = new SandboxComponents(backend);
  const pages = Math.max(...SIZES.map(([, bytes]) => bytes)) / PAGE_BYTES;
  const memory = components.memory(components.newMemory(pages, pages));
  new Uint8Array(memory.buffer).fill(0x5a);
  return memory;
}

function repeated(name: string, bytes: number, times: number, copy: () => unknown): Operation {
  const run = (): void => {
    for (let round = 0; round < times; round += 1) copy();
  };
  return { name, run, times, bytes };
}

function copiesInJavaScript(bytes: number, times: number): Operation[] {
  const source = new Uint8Array(bytes).fill(1);
  const dest = new Uint8Array(bytes).fill(2);
  return [
    repeated(SET, bytes, times, () => dest.set(source)),
    repeated('Uint8Array.prototype.slice', bytes, times, () => source.slice()),
  ];
}

function copies(backend: SandboxBackend, memory: Memory, bytes: number, times: number): Operation[] {
  const array = new Uint8Array(bytes).fill(1);
  return [
    repeated(`${backend}, read`, bytes, times, () => memory.read(0, bytes)),
    repeated(`${backend}, readInto`, bytes, times, () => memory.readInto(0, array)),
    repeated(`${backend}, writeFrom`, bytes, times, () => memory.writeFrom(0, array)),
  ];
}
