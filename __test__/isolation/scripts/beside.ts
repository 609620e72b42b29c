// A hundred thousand guests, one after another, in the components of one that lives all the time and is called between them. Arguments: backend,
// that one and the others as base64. Prints the resident size after 20,000 rounds and after all as JSON.
import assert from 'node:assert/strict';
import { Instantiate, JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { environment } from '../../support/environment';

const EARLY = 20_000;
const ROUNDS = 100_000;

const backend = process.argv[2] as SandboxBackend;
const [longWasm, shortWasm] = process.argv.slice(3).map((base64) => Buffer.from(base64, 'base64'));

const components = new SandboxComponents<unknown>(backend);
const supervisor = new JsSupervisor();
const ask = supervisor.define(([value]) => value);

function make(wasm: Uint8Array): { index: number; memory: number } {
  const memory = components.newMemory(1, 8);
  const env = environment(components, { 'env.ask': ask }, { 'env.memory': memory });
  const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, 0);
  return { index, memory };
}

const first = make(longWasm);
const long = components.instance(first.index);
const given = components.memory(first.memory);
long.invoke('grow', [], supervisor);
long.invoke('fill', [], supervisor);
const before = given.read(0, 4 * 65536);

let early = 0;
for (let n = 0; n < ROUNDS; n++) {
  const { index, memory } = make(shortWasm);
  // What it finds where the one before has written.
  assert.deepEqual(components.instance(index).invoke('swap', [Value.I32(n | 1)], supervisor), Value.I32(0));
  if (n % 64 === 0) assert.deepEqual(long.invoke('locals', [Value.I32(0)], supervisor), Value.I64(0n));
  components.instanceTeardown(index);
  components.memoryTeardown(memory);
  if (n + 1 === EARLY) early = process.memoryUsage().rss;
}
assert.ok(Buffer.from(before).equals(given.read(0, 4 * 65536)));
process.stdout.write(JSON.stringify({ early, late: process.memoryUsage().rss, rounds: ROUNDS }));
