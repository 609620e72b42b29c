// A hundred thousand rounds in one synchronous loop. Arguments: backend, guest as base64.
// Prints the resident size after 20,000 and after all rounds as JSON.
import assert from 'node:assert/strict';
import { Instantiate, JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { environment } from '../../support/environment';

const EARLY = 20_000;
const ROUNDS = 100_000;

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

const components = new SandboxComponents<number>(backend);
const supervisor = new JsSupervisor();
const ask = supervisor.define(([n]) => Value.I32((n as { value: number }).value + 1));

function round(n: number): void {
  const memory = components.newMemory(1, 16);
  const env = environment(
    components as SandboxComponents<unknown>,
    { 'env.ask': ask },
    { 'env.memory': memory },
  );
  const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, n);
  const result = components.instance(index).invoke('run', [Value.I32(n)], supervisor) as { value: number };
  const bytes = components.memory(memory).read(100, 4);
  assert.equal(result.value, n + 1);
  assert.equal(new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true), n + 1);
  components.instanceTeardown(index);
  components.memoryTeardown(memory);
}

let early = 0;
for (let n = 0; n < ROUNDS; n++) {
  round(n);
  if (n + 1 === EARLY) early = process.memoryUsage().rss;
}
process.stdout.write(JSON.stringify({ early, late: process.memoryUsage().rss, rounds: ROUNDS }));
