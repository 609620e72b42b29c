// A process with as many memories at once as it is told, and then as many as the system lets it have. Arguments: backend, how many. Prints as
// JSON what came of it.
import assert from 'node:assert/strict';
import { type Memory, type SandboxBackend, SandboxComponents } from '../../../index';

const backend = process.argv[2] as SandboxBackend;
const count = Number(process.argv[3]);
/** More than the address space has room for on any system that is known. */
const MOST = 100_000;

const components = new SandboxComponents<undefined>(backend);

const mark = (n: number): Uint8Array => Uint8Array.of(n & 255, (n >> 8) & 255, (n >> 16) & 255, 77);

function make(n: number): Memory {
  const memory = components.memory(components.newMemory(1, 65_536));
  memory.writeFrom(60_000, mark(n));
  return memory;
}

const memories = Array.from({ length: count }, (_, n) => make(n));
for (const memory of memories) memory.memoryGrow(1);
for (const [n, memory] of memories.entries()) {
  assert.deepEqual(memory.read(60_000, 4), mark(n));
  assert.deepEqual(memory.read(131_068, 4), new Uint8Array(4));
}

let refused: unknown;
while (refused === undefined && memories.length < MOST) {
  try {
    memories.push(make(memories.length));
  } catch (error) {
    refused = error;
  }
}
const most = memories.length;
// What is there already works on, and there is room again once some of it is gone.
memories[0].writeFrom(0, Uint8Array.of(1));
assert.deepEqual(memories[most - 1].read(60_000, 4), mark(most - 1));
memories.length = 0;
components.clear();
(globalThis as { gc?: () => void }).gc?.();
setImmediate(() => {
  for (let n = 0; n < 100; n++) make(n);
  const { name, code, message } = refused as Error & { code?: string };
  process.stdout.write(JSON.stringify({ most, name, code, message }));
});
