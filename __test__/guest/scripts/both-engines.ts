// A worker that runs the guest of workers.spec.ts on both engines, in the way that its task says.
import { parentPort, workerData } from 'node:worker_threads';
import {
  Instantiate,
  JsSupervisor,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  TrapError,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';

const { task, wasm, backends } = workerData as { task: string; wasm: Uint8Array; backends: SandboxBackend[] };

interface Player {
  components: SandboxComponents<unknown>;
  instance: SandboxInstance;
  memory: Memory;
  supervisor: JsSupervisor;
}

const number = (value: Value) => (value as { value: number }).value;
const add = ([a, b]: Value[]): Value => Value.I32(number(a) + number(b));

function build(backend: SandboxBackend, fn: (args: Value[]) => Value = add): Player {
  const components = new SandboxComponents<unknown>(backend);
  const supervisor = new JsSupervisor();
  const memoryIndex = components.newMemory(1);
  const env = environment(components, { 'env.add': supervisor.define(fn) }, { 'env.memory': memoryIndex });
  const index = components
    .instantiate(Instantiate.Version1, wasm, env, supervisor)
    .register(components, undefined);
  return {
    components,
    instance: components.instance(index),
    memory: components.memory(memoryIndex),
    supervisor,
  };
}

/** One good call and one trap. */
function round({ instance, memory, supervisor }: Player): void {
  const sum = instance.invoke('sum', [Value.I32(100)], supervisor) as Value;
  const written = new DataView(memory.buffer).getInt32(0, true);
  if (number(sum) !== 5050 || written !== 5050) throw new Error(`wrong sum: ${number(sum)}, ${written}`);
  try {
    instance.invoke('trap', [], supervisor);
  } catch (error) {
    if (error instanceof TrapError && error.trap === 'memory-out-of-bounds') return;
    throw error;
  }
  throw new Error('no trap');
}

function run(): void {
  const stuckOrExit = /^(stuck|exit) on (.*)$/.exec(task);
  if (stuckOrExit) {
    const player = build(stuckOrExit[2] as SandboxBackend, () => {
      if (stuckOrExit[1] === 'exit') process.exit(7);
      parentPort?.postMessage('stuck');
      for (;;);
    });
    player.instance.invoke('sum', [Value.I32(1)], player.supervisor);
    return;
  }
  const players = backends.map((backend) => build(backend));
  if (task === 'sums') {
    for (let i = 0; i < 200; i++) round(players[i % players.length]);
    parentPort?.postMessage({ sums: 200, traps: 200 });
  } else if (task === 'leave everything') {
    for (const player of players) leave(player);
    parentPort?.postMessage('left');
  } else {
    parentPort?.postMessage('running');
    for (let i = 0; ; i++) round(players[i % players.length]);
  }
}

/** Keeps one of everything until the thread ends. */
function leave({ components, memory }: Player): void {
  const env = environment(components, { 'env.add': 0 }, { 'env.memory': 0 });
  const unregistered = components.instantiate(Instantiate.Version1, wasm, env, new JsSupervisor());
  const view = new Uint8Array(memory.buffer);
  Object.assign(globalThis, { [`left on ${components.backend}`]: [components, env, unregistered, view] });
}

run();
