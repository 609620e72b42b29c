/** What it costs that guests can be stopped: the same guest in components that are interruptible, and in others that are not. */

import { Instantiate, JsSupervisor, type SandboxBackend, Value } from 'sandbox-host';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import { WORKING_GUEST } from './support/working_guest';

/** The exports, with an argument that takes them about a millisecond in the interpreter, and the most that stopping may cost. */
const WORK: readonly (readonly [what: string, name: string, argument: number, target: number])[] = [
  ['calls: fib', 'calls', 18, 1.15],
  ['the tightest loop', 'loops', 50_000, 1.5],
];

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(WORKING_GUEST);
  return ENGINES.flatMap((backend) =>
    WORK.map(([what, name, argument, target]) => {
      const plain = operation(backend, wasm, name, argument, false);
      return {
        name: `${backend}, ${what}`,
        operations: [plain, { ...operation(backend, wasm, name, argument, true), target }],
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
