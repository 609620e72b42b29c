/**
 * Builds the encoded environment definition that `GuestEnvironment.decode` takes. It knows names and indices
 * only; whether they exist is checked when a guest is instantiated. The format is in
 * `scale/environment_definition.ts`.
 */

import { uint32, wellFormedString } from '../base/arguments';
import { defineHandle, someNames } from '../base/handle';
import { type EnvironmentEntry, type ExternEntity, encodeEnvironmentDefinition } from './scale/index';

/**
 * Collects what a guest may import. Mirrors `gear_sandbox::SandboxEnvironmentBuilder` (crate `gear-sandbox` 1.10.0) as far as that makes a
 * `gear_sandbox_env::EnvironmentDefinition`.
 *
 * @example
 * ```ts
 * const memory = components.newMemory(1);
 * const log = supervisor.define((args) => console.log(args));
 * const definition = new EnvironmentDefinitionBuilder()
 *   .addHostFunc('env', 'log', log)
 *   .addMemory('env', 'memory', memory)
 *   .encode();
 * const env = GuestEnvironment.decode(components, definition);
 * ```
 */
export class EnvironmentDefinitionBuilder extends Object {
  readonly #entries: EnvironmentEntry[] = [];

  static {
    defineHandle(
      EnvironmentDefinitionBuilder,
      'EnvironmentDefinitionBuilder',
      (value) => #entries in value,
      (builder) => ({
        entries: someNames(builder.#entries, ({ moduleName, fieldName }) => `${moduleName}.${fieldName}`),
      }),
    );
  }

  /**
   * Lets the guest import a function of the supervisor. Mirrors `SandboxEnvironmentBuilder::add_host_func`.
   *
   * @param module - the module name of the import
   * @param field - the field name of the import
   * @param supervisorFuncIndex - the index that the supervisor is called with, such as {@link JsSupervisor.define} gives
   * @returns this builder
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) at once if a name is no string or has a lone surrogate, or the index is no
   *   integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const now = supervisor.define(() => Value.I64(BigInt(Date.now())));
   * const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'now', now).encode();
   * ```
   */
  addHostFunc(module: string, field: string, supervisorFuncIndex: number): this {
    return this.#add(module, field, 'function', uint32(supervisorFuncIndex, 'supervisorFuncIndex'));
  }

  /**
   * Lets the guest import a memory. Mirrors `SandboxEnvironmentBuilder::add_memory`.
   *
   * @param module - the module name of the import
   * @param field - the field name of the import
   * @param memoryIndex - the index of the memory in its components, as {@link SandboxComponents.newMemory} gives it
   * @returns this builder
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) at once if a name is no string or has a lone surrogate, or the index is no
   *   integer from 0 to 2^32 - 1; whether there is such a memory is looked at by {@link GuestEnvironment.decode}
   * @example
   * ```ts
   * const index = components.newMemory(1, 16);
   * const definition = new EnvironmentDefinitionBuilder().addMemory('env', 'memory', index).encode();
   * ```
   */
  addMemory(module: string, field: string, memoryIndex: number): this {
    return this.#add(module, field, 'memory', uint32(memoryIndex, 'memoryIndex'));
  }

  /**
   * Gives the SCALE encoding of all entries so far: that of `gear_sandbox_env::EnvironmentDefinition`. The builder can be used further.
   *
   * @returns the bytes, a new array
   * @example
   * ```ts
   * const nothing = new EnvironmentDefinitionBuilder().encode(); // for guests that import nothing
   * ```
   */
  encode(): Uint8Array<ArrayBuffer> {
    return encodeEnvironmentDefinition({ entries: this.#entries });
  }

  #add(module: string, field: string, kind: ExternEntity['kind'], index: number): this {
    const moduleName = wellFormedString(module, 'module');
    const fieldName = wellFormedString(field, 'field');
    this.#entries.push({ moduleName, fieldName, entity: { kind, index } });
    return this;
  }
}
