import { Instantiate, JsSupervisor, type SandboxBackend, type SandboxOptions, Value } from 'sandbox-host';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';
import { WORK, WORKING_GUEST } from './support/working_guest';

export const about: About = {
  title: 'Metered guests',
  text: 'What it costs that a guest uses fuel: the same guest metered, interruptible, both, and neither, which is the peer.',
};

const WAYS: readonly (readonly [name: string, options: SandboxOptions, target?: number])[] = [
  ['neither', { interruptible: false }],
  ['interruptible', {}],
  ['metered', { fuel: true, interruptible: false }, 1.3],
  ['metered and interruptible', { fuel: true }, 1.3],
];

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(WORKING_GUEST);
  return ENGINES.flatMap((backend) =>
    WORK.map(([what, name, argument]) => ({
      name: `${backend}, ${what}`,
      operations: WAYS.map(([way, options, target]) => ({
        ...operation(backend, wasm, name, argument, way, options),
        // The interpreter's own meter is not ours to better.
        ...(target === undefined || backend === 'wasmi' ? {} : { target }),
      })),
      peers: [WAYS[0][0]],
      rounds: 24,
    })),
  );
}

function operation(
  backend: SandboxBackend,
  wasm: Uint8Array,
  name: string,
  argument: number,
  way: string,
  options: SandboxOptions,
): Operation {
  const supervisor = new JsSupervisor();
  const instance = instantiate(backend, wasm, supervisor, {}, Instantiate.Version1, options);
  const args = [Value.I32(argument)];
  return { name: way, run: () => instance.invoke(name, args, supervisor), times: 1 };
}
