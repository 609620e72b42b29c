/** Environment definitions, decoded and resolved. */

import { InstantiationError } from '../base/errors';
import { someNames } from '../base/handle';
import { messageOf } from '../base/message';
import type { GearMemory } from './memory';
import { decodeEnvironmentDefinition } from './scale/index';
import type { SupervisorFuncIndex } from './supervisor';

/** The functions and memories that guests may import, by the names that they import them by. */
export class Environment {
  readonly #functions = new Map<string, SupervisorFuncIndex>();
  readonly #memories = new Map<string, GearMemory>();

  /**
   * Decodes a definition, and looks its memories up by `memoryAt`.
   *
   * @throws an `InstantiationError` of the kind `EnvironmentDefinitionCorrupted` if the bytes cannot be decoded, or `memoryAt` throws
   */
  constructor(rawEnvDef: Uint8Array, memoryAt: (index: number) => GearMemory) {
    const { entries } = decodeDefinition(rawEnvDef);
    for (const { moduleName, fieldName, entity } of entries) {
      const key = keyOf(moduleName, fieldName);
      if (entity.kind === 'function') this.#functions.set(key, entity.index as SupervisorFuncIndex);
      else this.#memories.set(key, resolveMemory(memoryAt, entity.index));
    }
  }

  functionNamed(module: string, name: string): SupervisorFuncIndex | undefined {
    return this.#functions.get(keyOf(module, name));
  }

  memoryNamed(module: string, name: string): GearMemory | undefined {
    return this.#memories.get(keyOf(module, name));
  }

  /** What it is, for people. */
  described(): object {
    return {
      functions: someNames([...this.#functions.keys()], nameOf),
      memories: someNames([...this.#memories.keys()], nameOf),
    };
  }
}

/** One key for both names; the length keeps `("a", "bc")` and `("ab", "c")` apart. */
function keyOf(module: string, name: string): string {
  return `${module.length} ${module}${name}`;
}

/** Both names of a key, for people. */
function nameOf(key: string): string {
  const space = key.indexOf(' ');
  const field = space + 1 + Number(key.slice(0, space));
  return `${key.slice(space + 1, field)}.${key.slice(field)}`;
}

function decodeDefinition(rawEnvDef: Uint8Array): ReturnType<typeof decodeEnvironmentDefinition> {
  try {
    return decodeEnvironmentDefinition(rawEnvDef);
  } catch (cause) {
    throw corrupted(cause);
  }
}

function resolveMemory(memoryAt: (index: number) => GearMemory, index: number): GearMemory {
  try {
    return memoryAt(index);
  } catch (cause) {
    throw corrupted(cause);
  }
}

function corrupted(cause: unknown): InstantiationError {
  return new InstantiationError(`the environment definition is corrupted: ${messageOf(cause)}`, {
    kind: 'EnvironmentDefinitionCorrupted',
    cause,
  });
}
