import {
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
} from 'sandbox-host';
import { definition, ENGINES, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';
import { V8 } from './support/v8';

export const about: About = {
  title: 'Instances',
  text: [
    'What it takes to make an instance of a small module that is compiled already, and to tear it down again. The peer is V8, which leaves the',
    'teardown to its garbage collector.',
  ].join('\n'),
};

/** Instances in a sample: so many that each sample has its share of garbage collection. */
const INSTANCES = 200;
const [INITIAL_PAGES, MAXIMUM_PAGES] = [1, 16];

const BODY = `
  (import "env" "f" (func $f (param i32) (result i32)))
  (global $calls (mut i32) (i32.const 0))
  (table 4 funcref)
  (elem (i32.const 0) $count $twice)
  (func $count (export "count") (param i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (call $f (global.get $calls)))
  (func $twice (export "twice") (param i32) (result i32)
    (i32.add (call $count (local.get 0)) (call $count (local.get 0))))`;

export async function comparisons(): Promise<Comparison[]> {
  const plain = await wat(`(module ${BODY})`);
  const importing = await wat(`(module (import "env" "memory" (memory 1)) ${BODY})`);
  return [
    {
      name: 'instantiate and tear down a warm module',
      operations: [...ENGINES.map((backend) => withoutMemory(backend, plain)), withoutMemoryInV8(plain)],
      peers: ['V8'],
      rounds: 12,
    },
    {
      name: 'the same with a sandboxed memory: newMemory, environment, instantiate, both teardowns',
      operations: [...ENGINES.map((backend) => withMemory(backend, importing)), withMemoryInV8(importing)],
      peers: ['V8'],
      rounds: 12,
    },
  ];
}

function withoutMemory(backend: SandboxBackend, wasm: Uint8Array): Operation {
  const components = new SandboxComponents(backend);
  const supervisor = new JsSupervisor();
  const functions = { f: supervisor.define((args) => args[0]) };
  const environment = GuestEnvironment.decode(components, definition(functions));
  return {
    name: backend,
    run: () => {
      for (let round = 0; round < INSTANCES; round += 1) {
        const made = components.instantiate(Instantiate.Version1, wasm, environment, supervisor);
        components.instanceTeardown(made.register(components, undefined));
      }
      // Indices are not used again before.
      components.clear();
    },
    times: INSTANCES,
  };
}

function withMemory(backend: SandboxBackend, wasm: Uint8Array): Operation {
  const components = new SandboxComponents(backend);
  const supervisor = new JsSupervisor();
  const functions = { f: supervisor.define((args) => args[0]) };
  return {
    name: backend,
    run: () => {
      for (let round = 0; round < INSTANCES; round += 1) {
        const memory = components.newMemory(INITIAL_PAGES, MAXIMUM_PAGES);
        const environment = GuestEnvironment.decode(components, definition(functions, memory));
        const made = components.instantiate(Instantiate.Version1, wasm, environment, supervisor);
        components.instanceTeardown(made.register(components, undefined));
        components.memoryTeardown(memory);
      }
      // Indices are not used again before.
      components.clear();
    },
    times: INSTANCES,
  };
}

/** V8 has no teardown: its instances and memories go with the garbage. */
function withoutMemoryInV8(wasm: Uint8Array): Operation {
  const module = new V8.Module(wasm);
  const env = { f: (n: number) => n };
  return {
    name: 'V8',
    run: () => {
      for (let round = 0; round < INSTANCES; round += 1) new V8.Instance(module, { env });
    },
    times: INSTANCES,
  };
}

function withMemoryInV8(wasm: Uint8Array): Operation {
  const module = new V8.Module(wasm);
  const f = (n: number): number => n;
  return {
    name: 'V8',
    run: () => {
      for (let round = 0; round < INSTANCES; round += 1) {
        const memory = new V8.Memory({ initial: INITIAL_PAGES, maximum: MAXIMUM_PAGES });
        new V8.Instance(module, { env: { f, memory } });
      }
    },
    times: INSTANCES,
  };
}
