/** The sandbox for a supervisor that is WebAssembly itself. Mirrors the crate `gear-sandbox-interface`. */

import { fn, object } from '../../base/arguments';
import type { SandboxError } from '../../base/errors';
import { defineHandle } from '../../base/handle';
import type { SandboxBackend } from '../../guest/backend';
import type { SandboxOptions } from '../../guest/options';
import { SandboxComponents } from '../components';
import { checkAllocator, type SupervisorAllocator } from './allocator';
import type { DispatchThunk } from './dispatch_thunk';
import { type HostFunctions, hostFunctions } from './host_functions';
import { SupervisorMemory } from './supervisor_memory';
import type { SupervisorMemoryObject, SupervisorTableObject } from './v8';

/**
 * What a {@link SandboxHost} needs of its supervisor, and how its guests run. In place of `gear_sandbox_interface::init`, whose
 * `store_clear_counter_limit` has no counterpart: no store only grows here.
 */
export interface SandboxHostOptions extends SandboxOptions {
  /** Which engine runs the guests. */
  readonly backend: SandboxBackend;
  /** Gives the supervisor's memory. Called by each host function that reads or writes it, not before. */
  readonly memory: () => SupervisorMemoryObject;
  /** Gives the table that the supervisor's dispatch thunks are in. Called by `instantiate`. */
  readonly table: () => SupervisorTableObject;
  /** The supervisor's allocator. */
  readonly allocator: SupervisorAllocator;
}

/**
 * The host functions `env.ext_sandbox_*` for a supervisor that is WebAssembly and runs in V8: one built from the Rust crate
 * `gear-sandbox` 1.10.0, for example. Each supervisor has a host of its own; any number of them can live in a process. Mirrors
 * `gear_sandbox_interface::sandbox::HostFunctions` (crate `gear-sandbox-interface` 1.10.0).
 *
 * What a guest does wrong the supervisor learns by a number, see {@link HostFunctions}. What the supervisor does wrong (an unknown
 * index, a second teardown, bytes that cannot be decoded, a return value that does not fit) throws a `SandboxError` out of the
 * host function, with which the supervisor traps; the host, its guests and the supervisor stay usable.
 *
 * A guest's call goes to the supervisor's dispatch thunk: the arguments are encoded straight into the supervisor's memory, and the
 * host frees them, and what the thunk returns, by `allocator.deallocate`.
 *
 * @example
 * ```ts
 * interface Exports {
 *   memory: SupervisorMemoryObject;
 *   __indirect_function_table: SupervisorTableObject;
 *   allocate(size: number): number;
 *   deallocate(ptr: number): void;
 *   run(): void;
 * }
 * let exports: Exports; // there when the first host function is called
 * const host = new SandboxHost({
 *   backend: SandboxBackend.Wasmer,
 *   memory: () => exports.memory,
 *   table: () => exports.__indirect_function_table,
 *   allocator: { allocate: (size) => exports.allocate(size), deallocate: (ptr) => exports.deallocate(ptr) },
 * });
 * const { instance } = await WebAssembly.instantiate(wasm, host.imports);
 * exports = instance.exports as unknown as Exports;
 * exports.run();
 * ```
 */
export class SandboxHost extends Object {
  /** The supervisor's imports: give them to `WebAssembly.instantiate`, with others of your own if it has more. */
  readonly imports: {
    /** The host functions, under the module name that `gear-sandbox` imports them by. */
    readonly env: HostFunctions;
  };
  /** The memories and guests of the supervisor, by the indices that it knows. */
  readonly components: SandboxComponents<DispatchThunk>;
  #lastError: SandboxError | undefined;

  static {
    defineHandle(
      SandboxHost,
      'SandboxHost',
      (value) => #lastError in value,
      ({ components }) => ({ components }),
    );
  }

  /**
   * Makes a host. The supervisor need not be there yet. In place of `gear_sandbox_interface::init`.
   *
   * @param options - the engine, what the host needs of the supervisor, and the {@link SandboxOptions} of its guests
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for an unknown or wrong option
   * @example
   * ```ts
   * import { readFile } from 'node:fs/promises';
   *
   * const memory = new WebAssembly.Memory({ initial: 32 });
   * const table = new WebAssembly.Table({ element: 'anyfunc', initial: 64 });
   * let top = 1024 * 1024;
   * const allocate = (size: number): number => (top += size) - size; // it never gives anything back
   * const host = new SandboxHost({
   *   backend: SandboxBackend.Wasmi,
   *   memory: () => memory,
   *   table: () => table,
   *   allocator: { allocate, deallocate: () => {} },
   *   fuel: true,
   * });
   * const imports = { env: { ...host.imports.env, memory, table } };
   * await WebAssembly.instantiate(await readFile('supervisor.wasm'), imports);
   * ```
   */
  constructor(options: SandboxHostOptions) {
    super();
    const { backend, memory, table, allocator, ...sandbox } = object(options, 'options');
    fn(memory, 'options.memory');
    fn(table, 'options.table');
    this.components = new SandboxComponents(backend as SandboxBackend, sandbox as SandboxOptions);
    this.imports = {
      env: hostFunctions({
        components: this.components,
        memory: new SupervisorMemory(memory as SandboxHostOptions['memory']),
        table: table as SandboxHostOptions['table'],
        allocator: checkAllocator(allocator, 'options.allocator'),
        failed: (error) => {
          this.#lastError = error;
        },
      }),
    };
  }

  /**
   * Why `instantiate`, `invoke` or `set_global_val` last returned a negative number: the `TrapError` of a guest, for example,
   * with what your own code threw as its `cause`. The reference only logs it.
   *
   * @example
   * ```ts
   * if (host.lastError instanceof TrapError) console.error(host.lastError.trap);
   * ```
   */
  get lastError(): SandboxError | undefined {
    return this.#lastError;
  }

  /**
   * Forgets all guests and memories, for `using` (the ECMAScript proposal "Explicit Resource Management"). The host can be used again:
   * indices start at 0.
   *
   * @example
   * ```ts
   * host[Symbol.dispose](); // the same as host.components.clear()
   * ```
   */
  [Symbol.dispose](): void {
    this.components.clear();
  }
}
