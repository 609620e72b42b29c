import { Instantiate, JsSupervisor, type SandboxBackend, Value } from 'sandbox-host';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';
import { WORK, WORKING_GUEST } from './support/working_guest';

export const about: About = {
  title: 'Interruptible guests',
  text: [
    'What it costs that a guest can be stopped: the same guest in components that are `interruptible` and in others that are not, which are the',
    'peer.',
  ].join('\n'),
};

/** The most that stopping may cost, by export. The others are not looked at. */
const TARGETS = new Map([
  ['calls', 1.15],
  ['loops', 1.5],
]);

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(WORKING_GUEST);
  return ENGINES.flatMap((backend) =>
    WORK.filter(([, name]) => TARGETS.has(name)).map(([what, name, argument]) => {
      const plain = operation(backend, wasm, name, argument, false);
      return {
        name: `${backend}, ${what}`,
        operations: [
          plain,
          { ...operation(backend, wasm, name, argument, true), target: TARGETS.get(name)! },
        ],
        peers: [plain.name],
        rounds: 24,
      };
    }),
  );
}

function operation(
  backend: SandboxBackend,
  wasm: Uint8Array,
  name: string,
  argument: number,
  interruptible: boolean,
): Operation {
  const supervisor = new JsSupervisor();
  const instance = instantiate(backend, wasm, supervisor, {}, Instantiate.Version1, { interruptible });
  const args = [Value.I32(argument)];
  return {
    name: interruptible ? 'interruptible' : 'not interruptible',
    run: () => instance.invoke(name, args, supervisor),
    times: 1,
  };
}
