import { JsSupervisor, Value } from 'sandbox-host';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison } from './support/measure';
import type { About } from './support/results';
import { instantiateInV8 } from './support/v8';
import { WORK, WORKING_GUEST } from './support/working_guest';

export const about: About = {
  title: 'Computing',
  text: "How fast guests compute: recursive calls, the tightest loop there is, and a sieve over memory. The peer is V8's own WebAssembly.",
};

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(WORKING_GUEST);
  const supervisor = new JsSupervisor();
  const inV8 = instantiateInV8(wasm).exports;
  const guests = ENGINES.map((backend) => ({ backend, instance: instantiate(backend, wasm, supervisor) }));
  return WORK.map(([what, name, argument]) => ({
    name: what,
    operations: [
      ...guests.map(({ backend, instance }) => {
        const args = [Value.I32(argument)];
        return { name: backend as string, run: () => instance.invoke(name, args, supervisor), times: 1 };
      }),
      { name: 'V8', run: () => inV8[name](argument), times: 1 },
    ],
    peers: ['V8'],
    rounds: 24,
  }));
}
