/**
 * The handles of everything in the sandbox. Mirrors `SandboxComponents`, `GuestEnvironment` and `UnregisteredInstance` of
 * `gear_sandbox_host::sandbox`, which are in one file because their methods name one another.
 *
 * Difference: there is no single engine store behind components that only grows. A memory and the instances that import it share one, which
 * goes when the last handle to any of them is gone.
 */

import { argumentError, type BufferSource, bytes, oneOf } from '../base/arguments';
import { SandboxError } from '../base/errors';
import { defineHandle } from '../base/handle';
import { assertInternal, INTERNAL } from '../base/internal';
import { BACKENDS, type SandboxBackend } from '../guest/backend';
import type { InvokeOptions } from '../guest/call_options';
import type { CompiledModule } from '../guest/compiled_module';
import { checkSandboxOptions, type SandboxOptions } from '../guest/options';
import { checkContext } from './answerers';
import { Environment } from './environment';
import type { GearInstance, SandboxInstance } from './instance';
import { type Instantiate, MEM_UNLIMITED, VERSIONS } from './instantiate';
import type { GearMemory, Memory } from './memory';
import { Store } from './store';
import type { AsyncSupervisorContext, SupervisorContext } from './supervisor';
import { traced, tracedAsync } from './traced';

/**
 * What components stand for; throws an `ArgumentError` for what are none.
 *
 * @internal
 */
export let storeOf: (components: unknown) => Store;

/** What an environment of these components stands for; throws an `ArgumentError` for what is none. */
let environmentOf: (env: unknown, store: Store) => Environment;

/**
 * Memories and instances of guests on one backend. `DT` is what the supervisor keeps with each instance, its dispatch
 * thunk.
 *
 * Indices count from 0, are stable, and are not used again until {@link SandboxComponents.clear}. Mirrors
 * `gear_sandbox_host::sandbox::SandboxComponents` (crate `gear-sandbox-host` 1.10.0), and every method the one of the same name there.
 *
 * @example
 * ```ts
 * const components = new SandboxComponents<undefined>(SandboxBackend.Wasmi);
 * const supervisor = new JsSupervisor();
 * const definition = new EnvironmentDefinitionBuilder()
 *   .addHostFunc('env', 'answer', supervisor.define(() => Value.I32(42)))
 *   .encode();
 * const index = components
 *   .instantiate(Instantiate.Version1, wasm, GuestEnvironment.decode(components, definition), supervisor)
 *   .register(components, undefined);
 * components.instance(index).invoke('main', [], supervisor);
 * ```
 */
export class SandboxComponents<DT = undefined> extends Object {
  /** Which engine runs the guests. */
  readonly backend: SandboxBackend;
  readonly #store: Store;

  /**
   * Makes an empty store. Mirrors `SandboxComponents::new`.
   *
   * @param backend - which engine runs the guests
   * @param options - how they run, and what they may take
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for an unknown backend or option, or a wrong value of one
   * @example
   * ```ts
   * const components = new SandboxComponents(SandboxBackend.Wasmer, { fuel: true, limits: { memories: 4 } });
   * ```
   */
  constructor(backend: SandboxBackend, options?: SandboxOptions) {
    super();
    this.backend = oneOf(backend, 'backend', BACKENDS);
    this.#store = new Store(this.backend, checkSandboxOptions(this.backend, options));
  }

  static {
    defineHandle(
      SandboxComponents,
      'SandboxComponents',
      (value) => #store in value,
      (components) => ({
        backend: components.backend,
        memories: components.#store.memories.alive,
        instances: components.#store.instances.alive,
      }),
    );
    storeOf = (components) => {
      if (typeof components !== 'object' || components === null || !(#store in components)) {
        throw argumentError('components', 'SandboxComponents', components);
      }
      return components.#store;
    };
  }

  /**
   * Forgets all instances and memories; indices start at 0 again. Handles taken before stay usable, and guests that are running run on.
   * Mirrors `SandboxComponents::clear`.
   *
   * @example
   * ```ts
   * components.newMemory(1); // 0
   * components.clear();
   * components.newMemory(1); // 0 again
   * ```
   */
  clear(): void {
    this.#store.clear();
  }

  /**
   * The same as {@link SandboxComponents.clear}, for `using` (the ECMAScript proposal "Explicit Resource Management").
   *
   * @example
   * ```ts
   * {
   *   using components = new SandboxComponents(SandboxBackend.Wasmi);
   *   components.newMemory(1);
   * } // it is forgotten here
   * ```
   */
  [Symbol.dispose](): void {
    this.clear();
  }

  /**
   * Makes a memory that guests can import. Mirrors `SandboxComponents::new_memory`.
   *
   * @param initial - its size in pages of 64 KiB, 0 to 65,536
   * @param maximum - the most pages it can grow to, at most 65,536; `MEM_UNLIMITED` for no maximum
   * @returns its index, counted from 0
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `initial` is more than `maximum` or either is too large
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if there are as many memories as `limits.memories` says, if `initial` is more than
   *   `limits.memoryBytes`, if `limits.totalBytes` has no room for it, or if the machine has none
   * @example
   * ```ts
   * const index = components.newMemory(1, 16); // 64 KiB, up to 1 MiB
   * const memory = components.memory(index);
   * ```
   */
  newMemory(initial: number, maximum: number = MEM_UNLIMITED): number {
    return this.#store.newMemory(initial, maximum);
  }

  /**
   * The instance at an index, the same object each time. Mirrors `SandboxComponents::instance`.
   *
   * @param instanceIdx - its index, as {@link UnregisteredInstance.register} gave it
   * @returns the instance, which stays usable after its teardown for as long as you hold it
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is none, or it is torn down
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `instanceIdx` is no integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, undefined);
   * const instance = components.instance(index);
   * ```
   */
  instance(instanceIdx: number): SandboxInstance {
    return this.#store.instances.at(instanceIdx).instance.handOut();
  }

  /**
   * What was registered with the instance at an index. Mirrors `SandboxComponents::dispatch_thunk`.
   *
   * @param instanceIdx - the instance's index
   * @returns what {@link UnregisteredInstance.register} was given
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is none, or it is torn down
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `instanceIdx` is no integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const components = new SandboxComponents<string>(SandboxBackend.Wasmi);
   * const env = GuestEnvironment.decode(components, definition);
   * const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, 'mine');
   * components.dispatchThunk(index); // 'mine'
   * ```
   */
  dispatchThunk(instanceIdx: number): DT {
    return this.#store.instances.at(instanceIdx).dispatchThunk as DT;
  }

  /**
   * The memory at an index, the same object each time. Mirrors `SandboxComponents::memory`.
   *
   * @param memoryIdx - its index, as {@link SandboxComponents.newMemory} gave it
   * @returns the memory, which stays usable after its teardown for as long as you hold it
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is none, or it is torn down
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `memoryIdx` is no integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const memory = components.memory(components.newMemory(1));
   * memory.memorySize(); // 1
   * ```
   */
  memory(memoryIdx: number): Memory {
    return this.#store.memories.at(memoryIdx).handOut();
  }

  /**
   * Forgets the memory at an index. Instances that import it keep it. Mirrors `SandboxComponents::memory_teardown`.
   *
   * @param memoryIdx - the memory's index
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is none, or it is torn down
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `memoryIdx` is no integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const index = components.newMemory(1);
   * components.memoryTeardown(index);
   * components.memory(index); // SandboxError: Trying to access a torndown sandboxed memory
   * ```
   */
  memoryTeardown(memoryIdx: number): void {
    this.#store.memories.remove(memoryIdx).tearDown();
  }

  /**
   * Forgets the instance at an index; if it is running, it runs on. Mirrors `SandboxComponents::instance_teardown`.
   *
   * @param instanceIdx - the instance's index
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is none, or it is torn down
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `instanceIdx` is no integer from 0 to 2^32 - 1
   * @example
   * ```ts
   * const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, undefined);
   * components.instanceTeardown(index);
   * components.instance(index); // SandboxError: Trying to access a torndown instance
   * ```
   */
  instanceTeardown(instanceIdx: number): void {
    this.#store.instances.remove(instanceIdx).instance.tearDown();
  }

  /**
   * Makes an instance of a module and runs its start function. Mirrors `SandboxComponents::instantiate`.
   *
   * A module is compiled once and kept, see {@link SandboxOptions.cache}.
   *
   * @param version - the convention of its supervisor calls
   * @param wasm - the module's binary, or a module that was compiled with the options of these components
   * @param env - what it imports
   * @param ctx - runs the supervisor functions that its start function calls
   * @param options - what ends it: `signal`, and `timeout` in ms, which compiling counts for, though that is not stopped by it; `fuel`, in
   *   units, is for the start function
   * @returns the instance, to be given an index by {@link UnregisteredInstance.register}
   * @throws an {@link InstantiationError} (`ERR_SANDBOX_INSTANTIATION`) whose `kind` says at which step it failed, and `cause` why
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if it would exceed one of {@link SandboxOptions.limits}
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for arguments of the wrong type, an environment of other components, a module
   *   that was compiled with other options, and `fuel` without {@link SandboxOptions.fuel}
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) if a guest is running asynchronously that shares a memory which the module imports
   * @throws a {@link SandboxError} (`ERR_SANDBOX_TIMEOUT`) if it takes longer than `options.timeout`, or what is left to the call around it
   * @throws the `reason` of `options.signal`, or of a call around this one, if that signal is aborted
   * @example
   * ```ts
   * const env = GuestEnvironment.decode(components, definition);
   * const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor, { timeout: 1000 });
   * const index = made.register(components, undefined);
   * ```
   */
  instantiate(
    version: Instantiate,
    wasm: BufferSource | CompiledModule,
    env: GuestEnvironment,
    ctx: SupervisorContext,
    options?: InvokeOptions,
  ): UnregisteredInstance {
    oneOf(version, 'version', VERSIONS);
    const store = this.#store;
    const environment = environmentOf(env, store);
    checkContext(ctx);
    const conditions = store.conditionsOfStart(options);
    // After the getters of the other arguments, which may do anything to a buffer.
    const source = store.source(wasm);
    store.refuseInstance();
    const make = (): GearInstance =>
      store.instantiate(version, source, environment, (instance) => instance.startWith(ctx, conditions()));
    return new UnregisteredInstance(INTERNAL, store, traced(this, version, make));
  }

  /**
   * Makes an instance as {@link SandboxComponents.instantiate} does, but compiles, links and runs its start function on a native
   * thread. It waits its turn if an imported memory belongs to guests that are running. The reference has no such method.
   *
   * @param version - the convention of its supervisor calls
   * @param wasm - the module's binary, of which a copy is taken, or a module that was compiled with the options of these components
   * @param env - what it imports
   * @param ctx - runs the supervisor functions that its start function calls; it may answer with Promises
   * @param options - what ends it: `signal`, and `timeout` in ms, which compiling counts for; `fuel`, in units, is for the start function
   * @returns a Promise of the instance, to be given an index by {@link UnregisteredInstance.register}. The method never throws: the Promise
   *   rejects, with what {@link SandboxComponents.instantiate} throws
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) (it rejects) if it is made inside a supervisor call of a guest that shares a memory
   *   which the module imports
   * @example
   * ```ts
   * const made = await components.instantiateAsync(Instantiate.Version1, wasm, env, supervisor, { timeout: 1000 });
   * const instance = components.instance(made.register(components, undefined));
   * ```
   */
  async instantiateAsync(
    version: Instantiate,
    wasm: BufferSource | CompiledModule,
    env: GuestEnvironment,
    ctx: SupervisorContext | AsyncSupervisorContext,
    options?: InvokeOptions,
  ): Promise<UnregisteredInstance> {
    const store = this.#store;
    const make = (): Promise<GearInstance> => {
      oneOf(version, 'version', VERSIONS);
      const check = (): Environment => {
        const environment = environmentOf(env, store);
        checkContext(ctx);
        return environment;
      };
      return store.instantiateAsync(version, wasm, check, ctx, options);
    };
    return new UnregisteredInstance(INTERNAL, store, await tracedAsync(this, version, make));
  }
}

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
  readonly #store: Store;
  readonly #environment: Environment;

  private constructor(key: typeof INTERNAL, store: Store, environment: Environment) {
    super();
    assertInternal(key, 'GuestEnvironment.decode');
    this.#store = store;
    this.#environment = environment;
  }

  static {
    defineHandle(
      GuestEnvironment,
      'GuestEnvironment',
      (value) => #store in value,
      (env) => env.#environment.described(),
    );
    environmentOf = (env, store) => {
      if (typeof env !== 'object' || env === null || !(#store in env)) {
        throw argumentError('env', 'a GuestEnvironment', env);
      }
      if (env.#store === store) return env.#environment;
      throw argumentError('env', 'a GuestEnvironment decoded for these components', env);
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
    const store = storeOf(components);
    const memoryAt = (index: number): GearMemory => {
      const memory = store.memories.at(index);
      // From now on the environment leads to it, however long.
      memory.isHeld = true;
      return memory;
    };
    return new GuestEnvironment(INTERNAL, store, new Environment(bytes(rawEnvDef, 'rawEnvDef'), memoryAt));
  }
}

/**
 * An instance without an index. Mirrors `gear_sandbox_host::sandbox::UnregisteredInstance`.
 *
 * @example
 * ```ts
 * const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor);
 * const index = made.register(components, undefined);
 * ```
 */
export class UnregisteredInstance extends Object {
  readonly #store: Store;
  #instance: GearInstance | undefined;

  static {
    defineHandle(
      UnregisteredInstance,
      'UnregisteredInstance',
      (value) => #store in value,
      (made) => (made.#instance === undefined ? { isRegistered: true } : { instance: made.#instance.handle }),
    );
  }

  /** @internal */
  constructor(key: typeof INTERNAL, store: Store, instance: GearInstance) {
    super();
    assertInternal(key, 'SandboxComponents.instantiate');
    this.#store = store;
    this.#instance = instance;
  }

  /**
   * Gives the instance an index, once. Mirrors `UnregisteredInstance::register`.
   *
   * @param components - the components that made it
   * @param dispatchThunk - kept with it, see {@link SandboxComponents.dispatchThunk}
   * @returns the index, counted from 0
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for other components than those
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if there are as many instances by now as `limits.instances` says; it can be tried
   *   again
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) the second time
   * @example
   * ```ts
   * const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, undefined);
   * components.instance(index).invoke('main', [], supervisor);
   * ```
   */
  register<DT>(components: SandboxComponents<DT>, dispatchThunk: DT): number {
    const instance = this.#instance;
    if (instance === undefined) throw new SandboxError('the instance is registered already');
    if (storeOf(components) !== this.#store) {
      throw argumentError('components', 'the SandboxComponents that made the instance', components);
    }
    const index = this.#store.add(instance, dispatchThunk);
    this.#instance = undefined;
    return index;
  }
}
