/**
 * Builds the encoded environment definition that `GuestEnvironment.decode` takes. It knows names and indices
 * only; whether they exist is checked when a guest is instantiated. The format is in
 * `scale/environment_definition.ts`.
 */

import { uint32, wellFormedString } from '../arguments';
import { type EnvironmentEntry, type ExternEntity, encodeEnvironmentDefinition } from '../scale';

/**
 * Collects what a guest may import.
 *
 * Each method throws an `ArgumentError` at once for a name that is no well-formed string, or an index that is
 * no u32.
 *
 * @example
 * ```ts
 * const memory = components.newMemory(1);
 * const log = supervisor.define((args) => console.log(args));
 * const definition = new EnvironmentDefinitionBuilder()
 *   .addHostFunc('env', 'log', log)
 *   .addMemory('env', 'memory', memory)
 *   .encode();
 * const environment = GuestEnvironment.decode(components, definition);
 * ```
 */
export class EnvironmentDefinitionBuilder {
  readonly #entries: EnvironmentEntry[] = [];

  /**
   * Lets the guest import a function of the supervisor.
   *
   * @param module - the module name of the import
   * @param field - the field name of the import
   * @param supervisorFuncIndex - the index that the supervisor is called with, such as `JsSupervisor.define`
   *   gives
   */
  addHostFunc(module: string, field: string, supervisorFuncIndex: number): this {
    return this.#add(module, field, 'function', uint32(supervisorFuncIndex, 'supervisorFuncIndex'));
  }

  /**
   * Lets the guest import a memory.
   *
   * @param module - the module name of the import
   * @param field - the field name of the import
   * @param memoryIndex - the index of the memory in its components, as `newMemory` gives it
   */
  addMemory(module: string, field: string, memoryIndex: number): this {
    return this.#add(module, field, 'memory', uint32(memoryIndex, 'memoryIndex'));
  }

  /** Gives the SCALE encoding of all entries so far. The builder can be used further. */
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
