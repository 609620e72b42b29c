/** The imports that a guest is linked with, decoded and resolved. Mirrors `gear_sandbox_host::sandbox::GuestEnvironment`. */

import { argumentError, type BufferSource, bytes } from '../base/arguments';
import { InstantiationError } from '../base/errors';
import { defineHandle, someNames } from '../base/handle';
import { MADE_HERE, refuseUsers } from '../base/internal';
import { messageOf } from '../guest/host_trap';
import { componentsInternals, type SandboxComponents } from './components';
import { type Memory, memoryInternals } from './memory';
import { decodeEnvironmentDefinition } from './scale/index';
import type { SupervisorFuncIndex } from './supervisor';

/** Opens a {@link GuestEnvironment} to the other files of `lib`. */
export interface EnvironmentInternals {
  /** {@link GuestEnvironment.decode} for an environment that is used before any of its memories can be torn down. */
  decodeForOneUse(components: object, rawEnvDef: Uint8Array): GuestEnvironment;
  /** Throws an `ArgumentError` for what is no environment of these components. */
  check(env: unknown, components: object): asserts env is GuestEnvironment;
  functionByName(env: GuestEnvironment, module: string, name: string): SupervisorFuncIndex | undefined;
  memoryByName(env: GuestEnvironment, module: string, name: string): Memory | undefined;
}

/** @internal */
export let environmentInternals: EnvironmentInternals;

/**
 * A decoded environment definition. It can be used for any number of instances, also after the memories in it have been
 * torn down. Mirrors `gear_sandbox_host::sandbox::GuestEnvironment` (crate `gear-sandbox-host` 1.10.0); unlike there, instantiating does
 * not use it up.
 *
 * @example
 * ```ts
 * const log = supervisor.define((args) => console.log(args));
 * const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'log', log).encode();
 * const env = GuestEnvironment.decode(components, definition);
 * ```
 */
export class GuestEnvironment extends Object {
  readonly #components: object;
  readonly #functions = new Map<string, SupervisorFuncIndex>();
  readonly #memories = new Map<string, Memory>();

  private constructor(key: typeof MADE_HERE, components: object) {
    super();
    refuseUsers(key, 'GuestEnvironment.decode');
    this.#components = components;
  }

  static {
    defineHandle(
      GuestEnvironment,
      'GuestEnvironment',
      (value) => #components in value,
      (env) => ({
        functions: someNames([...env.#functions.keys()], nameOf),
        memories: someNames([...env.#memories.keys()], nameOf),
      }),
    );
    environmentInternals = {
      decodeForOneUse: (components, rawEnvDef) =>
        GuestEnvironment.#decode(components, rawEnvDef, (index) =>
          componentsInternals.memory(components, index),
        ),
      check(env, components): asserts env is GuestEnvironment {
        if (typeof env !== 'object' || env === null || !(#components in env)) {
          throw argumentError('env', 'a GuestEnvironment', env);
        }
        if ((env as GuestEnvironment).#components !== components) {
          throw argumentError('env', 'a GuestEnvironment decoded for these components', env);
        }
      },
      functionByName: (env, module, name) => env.#functions.get(keyOf(module, name)),
      memoryByName: (env, module, name) => env.#memories.get(keyOf(module, name)),
    };
  }

  /**
   * Decodes an environment definition and looks its memories up. Mirrors `GuestEnvironment::decode`.
   *
   * @param components - whose memories it names
   * @param rawEnvDef - the SCALE bytes, as {@link EnvironmentDefinitionBuilder.encode} makes them
   * @returns the environment, for these components only
   * @throws an {@link InstantiationError} (`ERR_SANDBOX_INSTANTIATION`) of the kind `EnvironmentDefinitionCorrupted` if the bytes cannot be
   *   decoded or name a memory that does not exist or is torn down; its `cause` says which
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for what are no components or no bytes
   * @example
   * ```ts
   * const definition = new EnvironmentDefinitionBuilder().addMemory('env', 'memory', components.newMemory(1)).encode();
   * const env = GuestEnvironment.decode(components, definition);
   * ```
   */
  static decode<DT>(components: SandboxComponents<DT>, rawEnvDef: BufferSource): GuestEnvironment {
    componentsInternals.check(components);
    return GuestEnvironment.#decode(components, bytes(rawEnvDef, 'rawEnvDef'), (index) =>
      memoryInternals.handOut(componentsInternals.memory(components, index)),
    );
  }

  static #decode(
    components: object,
    rawEnvDef: Uint8Array,
    memoryAt: (index: number) => Memory,
  ): GuestEnvironment {
    const env = new GuestEnvironment(MADE_HERE, components);
    const { entries } = decodeDefinition(rawEnvDef);
    for (const { moduleName, fieldName, entity } of entries) {
      const key = keyOf(moduleName, fieldName);
      if (entity.kind === 'function') env.#functions.set(key, entity.index as SupervisorFuncIndex);
      else env.#memories.set(key, resolveMemory(memoryAt, entity.index));
    }
    return env;
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

function resolveMemory(memoryAt: (index: number) => Memory, index: number): Memory {
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
