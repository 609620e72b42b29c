/**
 * The sandbox for a supervisor that is itself WebAssembly. Mirrors the crate `gear-sandbox-interface`.
 */

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
 * What a {@link SandboxHost} needs from its supervisor, and how its guests run. Replaces
 * `gear_sandbox_interface::init`, whose `store_clear_counter_limit` has no counterpart, because stores
 * are renewed here.
 */
export interface SandboxHostOptions extends SandboxOptions {
  /** The engine that runs the guests. */
  readonly backend: SandboxBackend;
  /**
   * Returns the supervisor's memory. Each host function that reads or writes the memory calls this, but
   * nothing calls it before.
   */
  readonly memory: () => SupervisorMemoryObject;
  /** Returns the table with the supervisor's dispatch thunks. Called by `instantiate`. */
  readonly table: () => SupervisorTableObject;
  /** The supervisor's allocator. */
  readonly allocator: SupervisorAllocator;
}

/**
 * The host functions `env.ext_sandbox_*` for a supervisor that is WebAssembly and runs in V8, for
 * example one built from the Rust crate `gear-sandbox` 1.10.0. Each supervisor has a host of its own; a
 * process can have any number of them. Mirrors `gear_sandbox_interface::sandbox::HostFunctions` (crate
 * `gear-sandbox-interface` 1.10.0).
 *
 * A guest's failure is reported to the supervisor by a number, see {@link HostFunctions}. A supervisor's
 * mistake (an unknown index, a second teardown, bytes that cannot be decoded, a return value that does
 * not fit) makes the host function throw a `SandboxError`, which traps the supervisor; the host, its
 * guests and the supervisor stay usable.
 *
 * A guest's call goes to the supervisor's dispatch thunk. The host encodes the arguments directly into
 * the supervisor's memory, and frees them and the thunk's result with `allocator.deallocate`.
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
  /**
   * The supervisor's imports: pass them to `WebAssembly.instantiate`, with others of your own if it
   * needs more.
   */
  readonly imports: {
    /** The host functions, under the module name that `gear-sandbox` imports them by. */
    readonly env: HostFunctions;
  };
  /** The memories and guests of the supervisor, by the supervisor's indices for them. */
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
   * Creates a host. The supervisor need not exist yet. Replaces `gear_sandbox_interface::init`.
   *
   * @param options - the engine, what the host needs of the supervisor, and the {@link SandboxOptions}
   *   of its guests
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
   * The reason why `instantiate`, `invoke` or `set_global_val` last returned a negative number: for
   * example, the `TrapError` of a guest, with the exception of your own code as its `cause`. The
   * reference only logs it.
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
   * Releases all guests and memories, for `using` (the ECMAScript proposal "Explicit Resource
   * Management"). The host can be used again: indices start at 0.
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
