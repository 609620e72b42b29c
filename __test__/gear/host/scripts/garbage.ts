// A whole process that measures what guest calls leave on the heap. Arguments: backend, version, supervisor and guest as base64.
// Prints the bytes that each call left in some rounds as JSON. The guest exports `run`, which calls `n` times.
import assert from 'node:assert/strict';
import { type SandboxBackend, Value } from '../../../../index';
import { WasmSupervisor } from '../../../support/wasm_supervisor';

const WARM_UP = 300_000;
/** So many that what else V8 puts on the heap, up to a page of 256 KiB, is next to nothing for each. */
const CALLS = 100_000;
const ROUNDS = 5;

const [backend, version, supervisorWasm, guestWasm] = process.argv.slice(2);
const given = new WasmSupervisor({
  backend: backend as SandboxBackend,
  wasm: Buffer.from(supervisorWasm, 'base64'),
});
const index = given.guest(Buffer.from(guestWasm, 'base64'), {
  version: version === '1' ? 1 : 2,
  functions: { 'env.f': '$echo' },
});

function run(calls: number): void {
  assert.deepEqual(given.call(index, 'run', [Value.I32(calls)]), Value.I64(BigInt(calls)));
}

for (let calls = 0; calls < WARM_UP; calls += CALLS) run(CALLS);
const rounds = Array.from({ length: ROUNDS }, () => {
  global.gc?.();
  const before = process.memoryUsage().heapUsed;
  run(CALLS);
  return (process.memoryUsage().heapUsed - before) / CALLS;
});
assert.equal(given.live, 0);
process.stdout.write(JSON.stringify(rounds));
