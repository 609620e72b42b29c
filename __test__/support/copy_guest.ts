// A guest of a given copy of the package. Stands alone, so that workers can use it too.
import type { InvokeOptions, SandboxBackend } from '../../index';
import type { Package } from './copies';

/** Answers the import `env.f` of the guest. */
type Answer = (n: number) => number | Promise<number>;

export type Copy = ReturnType<typeof guestOf>;

/** Makes a guest that imports `env.memory` and `env.f`, a function of an i32 with an i32 as its result. */
export function guestOf(sh: Package, backend: SandboxBackend, wasm: Uint8Array, answer: Answer = (n) => n) {
  const components = new sh.SandboxComponents(backend);
  const supervisor = new sh.JsSupervisor();
  const f = supervisor.define(([n]) => {
    const result = answer(sh.Value.toNumber(n) as number);
    return typeof result === 'number' ? sh.Value.I32(result) : result.then((n) => sh.Value.I32(n));
  });
  const memoryIndex = components.newMemory(1, 4);
  const definition = new sh.EnvironmentDefinitionBuilder()
    .addHostFunc('env', 'f', f)
    .addMemory('env', 'memory', memoryIndex)
    .encode();
  const env = sh.GuestEnvironment.decode(components, definition);
  const index = components.instantiate(1, wasm, env, supervisor).register(components, undefined);
  const instance = components.instance(index);
  const memory = components.memory(memoryIndex);
  const args = (n: number | undefined) => (n === undefined ? [] : [sh.Value.I32(n)]);
  const numberOf = (result: unknown) => (result as { value?: number } | undefined)?.value;
  return {
    sh,
    components,
    supervisor,
    env,
    instance,
    memory,
    call: (name: string, n?: number, options: InvokeOptions = {}): number | undefined =>
      numberOf(instance.invoke(name, args(n), supervisor, options)),
    callAsync: async (name: string, n?: number, options: InvokeOptions = {}): Promise<number | undefined> =>
      numberOf(await instance.invokeAsync(name, args(n), supervisor, options)),
  };
}
