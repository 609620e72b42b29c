import {
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  Value,
} from 'sandbox-host';
import { definition, ENGINES } from './support/guest';
import { largeModule, withCustomSection } from './support/large_module';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';
import { instantiateInV8, V8 } from './support/v8';

export const about: About = {
  title: 'From bytes to the first result',
  text: [
    'How long it takes from the bytes of a large module to its first result: with bytes that are new to the process, and with bytes whose',
    'compiled form is in the cache. The peer is V8, which compiles a function when it is called first.',
  ].join('\n'),
};

/** wasmer compiles for a second or more. */
const COLD_ROUNDS = 3;

export async function comparisons(): Promise<Comparison[]> {
  const wasm = largeModule();
  const size = `${(wasm.length / 1024 / 1024).toFixed(2)} MiB`;
  return [
    {
      name: `cold start of ${size}: compile, instantiate, first call`,
      operations: [
        ...ENGINES.map((backend) => cold(wasm, backend, start(backend))),
        cold(wasm, 'V8', startInV8),
      ],
      peers: ['V8'],
      rounds: COLD_ROUNDS,
    },
    {
      name: `warm start of ${size}: the module is in the cache`,
      operations: [...ENGINES.map((backend) => warm(wasm, backend, start(backend))), warmInV8(wasm)],
      peers: ['V8'],
      rounds: 12,
      turnMs: 10,
    },
  ];
}

type Start = (wasm: Uint8Array) => unknown;

function start(backend: SandboxBackend): Start {
  // A cache of its own, so that the cold starts' modules do not stay.
  const components = new SandboxComponents(backend, { cache: new ModuleCache({ entries: 2 }) });
  const supervisor = new JsSupervisor();
  const environment = GuestEnvironment.decode(components, definition({}));
  return (wasm) => {
    const index = components
      .instantiate(Instantiate.Version1, wasm, environment, supervisor)
      .register(components, undefined);
    const result = components.instance(index).invoke('main', [Value.I32(1), Value.I32(2)], supervisor);
    components.instanceTeardown(index);
    return result;
  };
}

function startInV8(wasm: Uint8Array): unknown {
  return instantiateInV8(wasm).exports.main(1, 2);
}

let customSections = 0;

/** Each time the same module in different bytes. */
function cold(wasm: Uint8Array, name: string, run: Start): Operation {
  let bytes = wasm;
  return {
    name,
    prepare: () => {
      customSections += 1;
      bytes = withCustomSection(wasm, customSections);
    },
    run: () => run(bytes),
    times: 1,
  };
}

function warm(wasm: Uint8Array, name: string, run: Start): Operation {
  return { name, run: () => run(wasm), times: 1 };
}

/** V8 shares compiled code between equal modules as long as one of them is alive. */
function warmInV8(wasm: Uint8Array): Operation {
  const alive = new V8.Module(wasm);
  return { ...warm(wasm, 'V8', startInV8), run: () => [alive, startInV8(wasm)] };
}
