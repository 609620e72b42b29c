// Guest environments in one call. Stands alone, so that scripts in workers and child processes can use it too.
// Functions and memories are named `module.field`.
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  type SandboxComponents,
  type SupervisorFuncIndex,
} from '../../index';

/** An environment of supervisor function indices and memory indices, by `module.field`. */
export function environment(
  components: SandboxComponents<unknown>,
  functions: Record<string, number> = {},
  memories: Record<string, number> = {},
): GuestEnvironment {
  const builder = new EnvironmentDefinitionBuilder();
  for (const [name, index] of Object.entries(functions)) {
    const [module, field] = splitName(name);
    builder.addHostFunc(module, field, funcIndex(index));
  }
  for (const [name, index] of Object.entries(memories)) {
    const [module, field] = splitName(name);
    builder.addMemory(module, field, index);
  }
  return GuestEnvironment.decode(components, builder.encode());
}

/** A plain number as the branded type. */
export function funcIndex(index: number): SupervisorFuncIndex {
  return index as SupervisorFuncIndex;
}

function splitName(name: string): [module: string, field: string] {
  const dot = name.indexOf('.');
  return [name.slice(0, dot), name.slice(dot + 1)];
}
