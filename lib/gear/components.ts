/**
 * The store of everything in the sandbox, by index. Mirrors `gear_sandbox_host::sandbox::SandboxComponents`.
 *
 * Difference: there is no single engine store behind it that only grows. A memory and the instances that import it share
 * one, which goes when the last handle to any of them is gone.
 */

import {
  argumentError,
  type BufferSource,
  copyOf,
  isShared,
  lengthOf,
  oneOf,
  uint32,
} from '../base/arguments';
import { debug } from '../base/debug';
import { ArgumentError, InstantiationError, type MissingImport, SandboxError } from '../base/errors';
import { defineHandle } from '../base/handle';
import { MADE_HERE, refuseUsers } from '../base/internal';
import { kindOf, native, translate } from '../binding/native';
import { refuseInsideTurnOfMemories } from '../guest/async_call';
import { BACKENDS, type Instantiate, MEM_UNLIMITED, type SandboxBackend, VERSIONS } from '../guest/backend';
import { type CompiledModule, compileAsync, compiledModuleInternals } from '../guest/compiled_module';
import { instantiations, isTraced } from '../guest/diagnostics';
import { messageOf } from '../guest/host_trap';
import { refuseBeyond, refuseModule } from '../guest/limits';
import { moduleBytes } from '../guest/looks_like';
import type { GuestModule, ImportDescription } from '../guest/module';
import {
  type CheckedOptions,
  checkInvokeOptions,
  checkSandboxOptions,
  type InvokeOptions,
  type Limits,
  type SandboxOptions,
  withDefaults,
} from '../guest/options';
import { isStop, throwIfAborted, throwTimeout, timeoutError } from '../guest/stop';
import { environmentInternals, type GuestEnvironment } from './environment';
import { directOf, type InstanceParts, instanceInternals, type SandboxInstance } from './instance';
import { type Memory, memoryInternals } from './memory';
import { A_FUNCTION, A_MEMORY, describeMemory, missing, missingImports } from './missing_imports';
import type { ProtocolPeer } from './protocol/peer';
import {
  type AsyncSupervisorContext,
  refuseForeign,
  type SupervisorContext,
  type SupervisorFuncIndex,
} from './supervisor';

/**
 * Opens {@link SandboxComponents} to the other files of `lib`. What these functions give is not handed out to a user, so that its
 * teardown drops it at once. They throw an `ArgumentError` for what are no components.
 */
export interface ComponentsInternals {
  check(components: unknown): void;
  memory(components: unknown, index: number): Memory;
  instance(components: unknown, index: number): SandboxInstance;
  /** Puts an instance into the table and gives its index. */
  register(components: unknown, owner: object, instance: SandboxInstance, dispatchThunk: unknown): number;
  /** {@link SandboxComponents.instantiate} for a supervisor that is no `SupervisorContext`; gives the index. */
  instantiateBy<DT>(
    components: SandboxComponents<DT>,
    version: Instantiate,
    wasm: Uint8Array,
    env: GuestEnvironment,
    peer: ProtocolPeer,
    dispatchThunk: DT,
  ): number;
}

/** @internal */
export let componentsInternals: ComponentsInternals;

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
  readonly #options: CheckedOptions;
  #memories: (Memory | null)[] = [];
  #memoriesAlive = 0;
  #instances: ({ readonly instance: SandboxInstance; readonly dispatchThunk: DT } | null)[] = [];
  #instancesAlive = 0;

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
    this.#options = checkSandboxOptions(this.backend, options);
  }

  static {
    defineHandle(
      SandboxComponents,
      'SandboxComponents',
      (value) => #options in value,
      (components) => ({
        backend: components.backend,
        memories: components.#memoriesAlive,
        instances: components.#instancesAlive,
      }),
    );
    const check = (components: unknown): SandboxComponents<unknown> => {
      if (typeof components !== 'object' || components === null || !(#options in components)) {
        throw argumentError('components', 'SandboxComponents', components);
      }
      return components as SandboxComponents<unknown>;
    };
    componentsInternals = {
      check,
      memory: (components, index) => check(components).#memory(index),
      instance: (components, index) => check(components).#entry(index).instance,
      instantiateBy(components, version, wasm, env, peer, dispatchThunk) {
        const start = (instance: SandboxInstance): void => instanceInternals.startBy(instance, peer);
        const source = components.#source(wasm);
        components.#refuseInstance();
        return components.#add(components.#instantiate(version, source, env, start), dispatchThunk);
      },
      register(components, owner, instance, dispatchThunk) {
        const checked = check(components);
        if (checked !== owner) {
          throw argumentError('components', 'the SandboxComponents that made the instance', components);
        }
        return checked.#add(instance, dispatchThunk);
      },
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
    debug('clear; instances cnt = %d', this.#instances.length);
    debug('clear; memories cnt = %d', this.#memories.length);
    const instances = this.#instances;
    const memories = this.#memories;
    this.#instances = [];
    this.#memories = [];
    this.#instancesAlive = 0;
    this.#memoriesAlive = 0;
    for (const entry of instances) if (entry !== null) instanceInternals.dropUnlessHeld(entry.instance);
    for (const memory of memories) if (memory !== null) memoryInternals.tearDown(memory);
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
    const pages = uint32(initial, 'initial');
    const most = uint32(maximum, 'maximum');
    const { engine, limits } = this.#options;
    refuseBeyond(this.#memoriesAlive, limits.memories, 'memories');
    const make = (wrapper: object): number => native.newMemory(wrapper, engine.number, pages, most);
    try {
      const memory = memoryInternals.make(this.backend, make);
      memoryInternals.setMaximum(memory, most === MEM_UNLIMITED ? undefined : most);
      const index = this.#memories.push(memory) - 1;
      this.#memoriesAlive += 1;
      return index;
    } catch (error) {
      throw translate(error, pages > MOST_PAGES || pages > most ? 'initial' : 'maximum');
    }
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
    return instanceInternals.handOut(this.#entry(instanceIdx).instance);
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
    return this.#entry(instanceIdx).dispatchThunk;
  }

  #entry(instanceIdx: number): { readonly instance: SandboxInstance; readonly dispatchThunk: DT } {
    const entry = this.#instances[uint32(instanceIdx, 'instanceIdx')];
    if (entry) return entry;
    throw new SandboxError(
      entry === undefined
        ? 'Trying to access a non-existent instance'
        : 'Trying to access a torndown instance',
    );
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
    return memoryInternals.handOut(this.#memory(memoryIdx));
  }

  #memory(memoryIdx: number): Memory {
    const memory = this.#memories[uint32(memoryIdx, 'memoryIdx')];
    if (memory) return memory;
    throw new SandboxError(
      memory === undefined
        ? 'Trying to access a non-existent sandboxed memory'
        : 'Trying to access a torndown sandboxed memory',
    );
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
    const index = uint32(memoryIdx, 'memoryIdx');
    const memory = this.#memories[index];
    if (memory === undefined) throw new SandboxError('Trying to teardown a non-existent sandboxed memory');
    if (memory === null) throw new SandboxError('Double teardown of a sandboxed memory');
    this.#memories[index] = null;
    this.#memoriesAlive -= 1;
    memoryInternals.tearDown(memory);
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
    const index = uint32(instanceIdx, 'instanceIdx');
    const entry = this.#instances[index];
    if (entry === undefined) throw new SandboxError('Trying to teardown a non-existent instance');
    if (entry === null) throw new SandboxError('Double teardown of an instance');
    this.#instances[index] = null;
    this.#instancesAlive -= 1;
    instanceInternals.dropUnlessHeld(entry.instance);
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
    environmentInternals.check(env, this);
    if (directOf(ctx) === undefined) refuseForeign(ctx);
    const { isMetered, defaults } = this.#options;
    const limits = limitsOfStart(checkInvokeOptions(options, isMetered), defaults);
    // After the getters of the other arguments, which may do anything to a buffer.
    const source = this.#source(wasm);
    this.#refuseInstance();
    const start = (instance: SandboxInstance): void => instanceInternals.start(instance, ctx, limits());
    return new UnregisteredInstance(MADE_HERE, this, this.#instantiate(version, source, env, start));
  }

  /** A binary that is not too long, or a compiled module. */
  #source(wasm: unknown): Uint8Array | GuestModule {
    const { engine, limits } = this.#options;
    const compiled = compiledModuleInternals.moduleOf(wasm);
    if (compiled === undefined) {
      const binary = moduleBytes(wasm, 'wasm');
      refuseModule(lengthOf(binary), limits);
      return binary;
    }
    if (!compiled.engine.isLike(engine)) {
      throw new ArgumentError(
        'wasm must be a module that was compiled with the options of these components',
        {
          argument: 'wasm',
        },
      );
    }
    refuseModule(compiled.byteLength, limits);
    return compiled.module;
  }

  #instantiate(
    version: Instantiate,
    source: Uint8Array | GuestModule,
    env: GuestEnvironment,
    start: (instance: SandboxInstance) => void,
  ): SandboxInstance {
    if (!isTraced(instantiations)) return this.#made(version, source, env, start);
    return instantiations.traceSync(
      // Subscribers may keep it.
      () => instanceInternals.handOut(this.#made(version, source, env, start)),
      { components: this, version, isAsync: false },
    );
  }

  #made(
    version: Instantiate,
    source: Uint8Array | GuestModule,
    env: GuestEnvironment,
    start: (instance: SandboxInstance) => void,
  ): SandboxInstance {
    const { engine, modules } = this.#options;
    const module = source instanceof Uint8Array ? modules.compile(engine, unshared(source)) : source;
    const instance = this.#link(version, module, env);
    try {
      start(instance);
    } catch (cause) {
      instanceInternals.dropUnlessHeld(instance);
      if (isStop(cause)) throw cause;
      throw startTrapped(cause);
    }
    return instance;
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
    const make = (): Promise<SandboxInstance> => this.#madeAsync(version, wasm, env, ctx, options);
    if (!isTraced(instantiations)) return new UnregisteredInstance(MADE_HERE, this, await make());
    const event = { components: this, version, isAsync: true };
    // Subscribers may keep it.
    const traced = async (): Promise<SandboxInstance> => instanceInternals.handOut(await make());
    return new UnregisteredInstance(MADE_HERE, this, await instantiations.tracePromise(traced, event));
  }

  async #madeAsync(
    version: Instantiate,
    wasm: BufferSource | CompiledModule,
    env: GuestEnvironment,
    ctx: SupervisorContext | AsyncSupervisorContext,
    options: InvokeOptions | undefined,
  ): Promise<SandboxInstance> {
    oneOf(version, 'version', VERSIONS);
    this.#refuseInstance();
    const given = this.#source(wasm);
    // A copy, because the caller may write to it meanwhile.
    const source = given instanceof Uint8Array ? copyOf(given) : given;
    environmentInternals.check(env, this);
    if (directOf(ctx as SupervisorContext) === undefined) refuseForeign(ctx);
    const { engine, isMetered, defaults, budget } = this.#options;
    const limits = checkInvokeOptions(options, isMetered);
    const left = limitsOfStart(limits, defaults);
    const module = source instanceof Uint8Array ? await compileAsync(source, this.#options, limits) : source;
    const { parts, memories } = this.#parts(version, module, env);
    refuseInsideTurnOfMemories(
      [...new Uint32Array(memories.buffer)].filter((_, index) => module.imports[index].kind === 'memory'),
    );
    const makeCall = (): number =>
      native.instantiateAsync(module.id, engine.number, version, memories, budget.number);
    const translations = { refused: linkError, trapped: startTrapped };
    // Awaited, so that the caller's frames are in the stack of an error.
    return await instanceInternals.makeAsync(parts, ctx, left(), makeCall, translations);
  }

  #add(instance: SandboxInstance, dispatchThunk: DT): number {
    // Others may have come while it was being made.
    this.#refuseInstance();
    this.#instancesAlive += 1;
    const index = this.#instances.push({ instance, dispatchThunk }) - 1;
    instanceInternals.registered(instance, index);
    return index;
  }

  #refuseInstance(): void {
    refuseBeyond(this.#instancesAlive, this.#options.limits.instances, 'instances');
  }

  #link(version: Instantiate, module: GuestModule, env: GuestEnvironment): SandboxInstance {
    const { parts } = this.#parts(version, module, env);
    try {
      return instanceInternals.make(parts);
    } catch (error) {
      throw linkError(error);
    }
  }

  /** Resolves the imports of a module. */
  #parts(
    version: Instantiate,
    module: GuestModule,
    env: GuestEnvironment,
  ): { parts: InstanceParts; memories: Uint8Array } {
    const { imports } = module;
    const memories: (Memory | undefined)[] = [];
    const functions: SupervisorFuncIndex[] = [];
    const lacking: MissingImport[] = [];
    for (const wanted of imports) {
      const memory = environmentInternals.memoryByName(env, wanted.module, wanted.name);
      const index = environmentInternals.functionByName(env, wanted.module, wanted.name);
      memories.push(wanted.kind === 'memory' ? memory : undefined);
      if (wanted.kind === 'memory' && memory !== undefined) {
        const given = unlike(wanted, memory);
        if (given !== undefined) lacking.push(missing(wanted, given));
      } else if (wanted.kind === 'function' && index !== undefined) {
        functions.push(index);
      } else {
        lacking.push(
          missing(wanted, memory !== undefined ? A_MEMORY : index !== undefined ? A_FUNCTION : undefined),
        );
      }
    }
    if (lacking.length > 0) throw missingImports(lacking);
    const numbers = new Uint32Array(memories.length);
    for (const [index, memory] of memories.entries()) {
      if (memory !== undefined) numbers[index] = memoryInternals.id(memory, 'env');
    }
    const bytesOfNumbers = new Uint8Array(numbers.buffer);
    const { engine, isMetered, defaults, budget } = this.#options;
    const make = (wrapper: object): number =>
      native.instantiate(wrapper, module.id, engine.number, version, bytesOfNumbers);
    const importedMemories = memories.filter((memory) => memory !== undefined);
    const { backend } = this;
    const parts = {
      backend,
      module,
      version,
      functions,
      importedMemories,
      budget,
      isMetered,
      defaults,
      make,
    };
    return { parts, memories: bytesOfNumbers };
  }
}

/**
 * What is left of the limits when the start function runs, if there is one: compiling and linking take their part of a timeout that was
 * given, not of the default one.
 */
function limitsOfStart(limits: Limits | undefined, defaults: Limits | undefined): () => Limits | undefined {
  if (limits === undefined) return () => defaults;
  const { timeout, fuel, signal } = limits;
  throwIfAborted(signal);
  const begun = performance.now();
  return () => {
    const left = timeout - (performance.now() - begun);
    const bounds = { at: 0, limits, around: undefined };
    if (timeout > 0 && left <= 0)
      throwTimeout(
        timeoutError({ exportName: undefined, doing: 'instantiating', limits, bounds }, undefined),
      );
    const given = timeout > 0 ? { timeout: left, wholeTimeout: timeout, fuel, signal } : limits;
    return withDefaults(given, defaults);
  };
}

/** A copy of shared memory, which another thread could change between the engine's check and its use. */
function unshared(binary: Uint8Array): Uint8Array {
  return isShared(binary) ? copyOf(binary) : binary;
}

const MOST_PAGES = 65_536;

/** What a memory is, if it does not match the type of an import (WebAssembly specification, "Import Matching"). */
function unlike({ type }: ImportDescription, memory: Memory): string | undefined {
  const limits = memoryInternals.limits(memory);
  // Then native code finds out, once it is its turn.
  if (limits === undefined) return undefined;
  const { pages, maximum } = limits;
  const { minimum, maximum: most } = type as { minimum: number; maximum?: number };
  const fits = pages >= minimum && (most === undefined || (maximum !== undefined && maximum <= most));
  return fits ? undefined : describeMemory(pages, maximum);
}

function startTrapped(cause: unknown): InstantiationError {
  const reason = messageOf(cause);
  debug('failed to run the start function: %s', reason);
  return new InstantiationError(`the start function trapped: ${reason}`, { kind: 'StartTrapped', cause });
}

function linkError(error: unknown): unknown {
  const kind = kindOf(error);
  const message = messageOf(error);
  debug('failed to instantiate: %s', message);
  if (kind === 'link') return new InstantiationError(message, { kind: 'Instantiation', cause: error });
  if (kind === 'cpu-feature') return new InstantiationError(message, { kind: 'CpuFeature', cause: error });
  return translate(error, 'wasm');
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
  readonly #components: object;
  #instance: SandboxInstance | undefined;

  static {
    defineHandle(
      UnregisteredInstance,
      'UnregisteredInstance',
      (value) => #components in value,
      (made) => (made.#instance === undefined ? { isRegistered: true } : { instance: made.#instance }),
    );
  }

  /** @internal */
  constructor(key: typeof MADE_HERE, components: object, instance: SandboxInstance) {
    super();
    refuseUsers(key, 'SandboxComponents.instantiate');
    this.#components = components;
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
    const index = componentsInternals.register(components, this.#components, instance, dispatchThunk);
    this.#instance = undefined;
    return index;
  }
}
