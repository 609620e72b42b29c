// A process with few addresses. Arguments: backend, and the guests of addresses.spec.ts as base64. Prints as JSON what came of each.
import {
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxOptions,
  type UnregisteredInstance,
} from '../../../index';
import { environment } from '../../support/environment';
import { collectGarbage } from '../../support/garbage';

const backend = process.argv[2] as SandboxBackend;
const [unbounded, bounded, importing, large] = process.argv
  .slice(3)
  .map((base64) => Buffer.from(base64, 'base64'));

const supervisor = new JsSupervisor();
const outcomes: Record<string, unknown> = {};

async function outcome(of: string, act: () => unknown): Promise<void> {
  try {
    outcomes[of] = await act();
  } catch (error) {
    const { name, code } = error as Error & { code?: string };
    outcomes[of] = `${name} ${code}`;
  }
}

function sum(components: SandboxComponents<undefined>, made: UnregisteredInstance): unknown {
  const instance = components.instance(made.register(components, undefined));
  return (instance.invoke('sum', [], supervisor) as { value: unknown }).value;
}

function run(wasm: Uint8Array, options: SandboxOptions = {}, maximum?: number): unknown {
  const components = new SandboxComponents<undefined>(backend, options);
  const memories = maximum === undefined ? {} : { 'env.memory': components.newMemory(1, maximum) };
  const env = environment(components, {}, memories);
  return sum(components, components.instantiate(Instantiate.Version1, wasm, env, supervisor));
}

async function main(): Promise<void> {
  await outcome('bounded by its own maximum', () => run(bounded));
  await outcome('bounded by that of what it imports', () => run(importing, {}, 16));
  await outcome('bounded by a limit', () => run(unbounded, { limits: { memoryBytes: 64 * 2 ** 20 } }));
  await outcome('not bounded', () => run(unbounded));
  await outcome('not bounded, asynchronously', async () => {
    const components = new SandboxComponents<undefined>(backend);
    const env = environment(components, {});
    return sum(
      components,
      await components.instantiateAsync(Instantiate.Version1, unbounded, env, supervisor),
    );
  });
  await outcome('too large', () => run(large));
  // Else it is chance how much of what was made above still has its addresses.
  await collectGarbage();
  const components = new SandboxComponents<undefined>(backend);
  await outcome('a memory that is not bounded', () => components.newMemory(1, 65_536));
  let many = 0;
  await outcome('as many memories as there is room for', () => {
    for (; many < 100_000; many += 1) components.newMemory(1, 64);
    return many;
  });
  components.clear();
  await collectGarbage();
  await outcome('afterwards', () => run(importing, {}, 16));
  process.stdout.write(JSON.stringify({ ...outcomes, many }));
}

main();
