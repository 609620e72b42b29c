// A worker with a host and a supervisor of its own on each engine, which runs the guest of hosts.spec.ts as its task says.
import { parentPort, workerData } from 'node:worker_threads';
import { type SandboxBackend, Value } from '../../../../index';
import { WasmSupervisor } from '../../../support/wasm_supervisor';

const { task, supervisorWasm, guestWasm, backends } = workerData as {
  task: 'sums' | 'without end' | 'exit' | 'leave everything';
  supervisorWasm: Uint8Array;
  guestWasm: Uint8Array;
  backends: SandboxBackend[];
};

interface Player {
  readonly given: WasmSupervisor;
  readonly index: number;
}

function build(backend: SandboxBackend, thunk = '$thunk_2'): Player {
  const given = new WasmSupervisor({ backend, wasm: supervisorWasm });
  const memory = given.ext.memory_new(1, 2);
  const index = given.guest(guestWasm, {
    version: 2,
    thunk,
    functions: { 'env.add': '$add', 'env.trap': '$trap' },
    memories: { 'env.memory': memory },
  });
  return { given, index };
}

/** One good call of a hundred supervisor calls, and one that fails. */
function round({ given, index }: Player): void {
  const sum = (given.call(index, 'sum', [Value.I32(100)]) as { value: number }).value;
  const [low, high] = given.read(0, 0, 2);
  const { status } = given.invoke(index, 'trap');
  if (sum !== 5050 || low + 256 * high !== 5050 || status !== -3 || given.live !== 0) {
    throw new Error(`wrong: sum ${sum}, memory ${low} ${high}, status ${status}, ${given.live} live`);
  }
}

if (task === 'exit') {
  const player = build(backends[0], '$thunk_js');
  player.given.answer = () => process.exit(7);
  player.given.call(player.index, 'sum', [Value.I32(1)]);
} else {
  const players = backends.map((backend) => build(backend));
  if (task === 'without end') parentPort?.postMessage('running');
  for (let i = 0; task === 'without end' || i < 200; i++) round(players[i % players.length]);
  if (task === 'leave everything') Object.assign(globalThis, { players });
  parentPort?.postMessage('done');
}
