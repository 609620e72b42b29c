/** Makes guests for benchmarks: WebAssembly text to a running instance in one call. */

import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SandboxOptions,
  type SupervisorContext,
} from 'sandbox-host';
import loadWabt from 'wabt';

/** The two engines, in the order of all tables. */
export const ENGINES: readonly SandboxBackend[] = ['wasmi', 'wasmer'];

/** The binary of a module in text form. */
export async function wat(source: string): Promise<Uint8Array> {
  const wabt = await loadWabt();
  const module = wabt.parseWat('guest.wat', source);
  try {
    return module.toBinary({}).buffer.slice();
  } finally {
    module.destroy();
  }
}

/** An instance in components of its own. `functions` are the supervisor's indices of what it imports from `env`. */
export function instantiate(
  backend: SandboxBackend,
  wasm: Uint8Array,
  supervisor: SupervisorContext,
  functions: Readonly<Record<string, number>> = {},
  version: Instantiate = Instantiate.Version1,
  options: SandboxOptions = {},
): SandboxInstance {
  const components = new SandboxComponents(backend, options);
  const environment = GuestEnvironment.decode(components, definition(functions));
  const index = components
    .instantiate(version, wasm, environment, supervisor)
    .register(components, undefined);
  return components.instance(index);
}

/** An encoded environment definition of functions and at most one memory, all in the module `env`. */
export function definition(functions: Readonly<Record<string, number>>, memory?: number): Uint8Array {
  const builder = new EnvironmentDefinitionBuilder();
  for (const [name, index] of Object.entries(functions)) builder.addHostFunc('env', name, index);
  if (memory !== undefined) builder.addMemory('env', 'memory', memory);
  return builder.encode();
}
