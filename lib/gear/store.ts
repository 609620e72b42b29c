/** The memories and instances of some components, by index, and how instances are made. */

import { type BufferSource, copyOf, isShared, lengthOf, uint32 } from '../base/arguments';
import { debug } from '../base/debug';
import { ArgumentError, InstantiationError } from '../base/errors';
import { messageOf } from '../base/message';
import { kindOf, translate } from '../binding/failures';
import { hot, native } from '../binding/native';
import { refuseInsideTurnOfMemories } from '../guest/async_call';
import type { SandboxBackend } from '../guest/backend';
import {
  checkInvokeOptions,
  type InvokeOptions,
  type StopConditions,
  withDefaults,
} from '../guest/call_options';
import { compileAsync } from '../guest/compile';
import { type CompiledModule, moduleOf } from '../guest/compiled_module';
import { refuseModule } from '../guest/limits';
import { moduleBytes } from '../guest/looks_like';
import type { GuestModule } from '../guest/module';
import type { CheckedOptions } from '../guest/options';
import { isStop, throwIfAborted, throwTimeout, timeoutError } from '../guest/stop';
import type { Environment } from './environment';
import { IndexTable } from './index_table';
import { GearInstance } from './instance';
import { type Instantiate, MEM_UNLIMITED } from './instantiate';
import { type Linked, link } from './linking';
import { GearMemory } from './memory';
import type { AsyncSupervisorContext, SupervisorContext } from './supervisor';

/** An instance, and what the supervisor keeps with it. */
interface Entry {
  readonly instance: GearInstance;
  readonly dispatchThunk: unknown;
}

/** A module: its binary, or what it was compiled to. */
export type ModuleSource = Uint8Array | GuestModule;

/** What {@link SandboxComponents} stand for. */
export class Store {
  readonly backend: SandboxBackend;
  readonly memories = new IndexTable<GearMemory>('memoryIdx', 'sandboxed memory', 'a');
  readonly instances = new IndexTable<Entry>('instanceIdx', 'instance', 'an');
  readonly #options: CheckedOptions;

  constructor(backend: SandboxBackend, options: CheckedOptions) {
    this.backend = backend;
    this.#options = options;
  }

  clear(): void {
    debug('clear; instances cnt = %d', this.instances.length);
    debug('clear; memories cnt = %d', this.memories.length);
    const instances = this.instances.clear();
    const memories = this.memories.clear();
    for (const { instance } of instances) instance.tearDown();
    for (const memory of memories) memory.tearDown();
  }

  /** Makes a memory of unchecked sizes, and gives its index. */
  newMemory(initial: number, maximum: number): number {
    const pages = uint32(initial, 'initial');
    const most = uint32(maximum, 'maximum');
    const { engine, limits } = this.#options;
    this.memories.refuseBeyond(limits.memories, 'memories');
    const make = (wrapper: object): number => hot.newMemory(wrapper, engine.number, pages, most);
    try {
      const memory = new GearMemory(this.backend, make);
      memory.maximum = most === MEM_UNLIMITED ? undefined : most;
      return this.memories.add(memory);
    } catch (error) {
      throw translate(error, pages > MOST_PAGES || pages > most ? 'initial' : 'maximum');
    }
  }

  /** Gives an instance an index. */
  add(instance: GearInstance, dispatchThunk: unknown): number {
    // Others may have come while it was being made.
    this.refuseInstance();
    const index = this.instances.add({ instance, dispatchThunk });
    instance.registered(index);
    return index;
  }

  /** Refuses an instance beyond the limit. */
  refuseInstance(): void {
    this.instances.refuseBeyond(this.#options.limits.instances, 'instances');
  }

  /** A binary that is not too long, or a compiled module, of what a caller gave. */
  source(wasm: unknown): ModuleSource {
    const { engine, limits } = this.#options;
    const compiled = moduleOf(wasm);
    if (compiled === undefined) {
      const binary = moduleBytes(wasm, 'wasm');
      refuseModule(lengthOf(binary), limits);
      return binary;
    }
    if (!compiled.engine.isLike(engine)) {
      throw new ArgumentError(
        'wasm must be a module that was compiled with the options of these components',
        { argument: 'wasm' },
      );
    }
    refuseModule(compiled.byteLength, limits);
    return compiled.module;
  }

  /** What stops the start function, of the unchecked options of an instantiation that begins now. */
  conditionsOfStart(options: InvokeOptions | undefined): () => StopConditions | undefined {
    const { isMetered, defaults } = this.#options;
    return leftForStart(checkInvokeOptions(options, isMetered), defaults);
  }

  /** Makes an instance, and runs its start function by `start`. */
  instantiate(
    version: Instantiate,
    source: ModuleSource,
    env: Environment,
    start: (instance: GearInstance) => void,
  ): GearInstance {
    const { engine, modules } = this.#options;
    const module = source instanceof Uint8Array ? modules.compile(engine, unshared(source)) : source;
    const linked = link(module, env);
    const instance = this.#instance(version, module, linked);
    const make = (wrapper: object): number =>
      hot.instantiate(wrapper, module.id, engine.number, version, linked.memories);
    try {
      instance.adopt(make);
    } catch (error) {
      instance.abandon();
      throw linkError(error);
    }
    try {
      start(instance);
    } catch (cause) {
      instance.tearDown();
      if (isStop(cause)) throw cause;
      throw startTrapped(cause);
    }
    return instance;
  }

  /** The same on a native thread, where `ctx` may answer with Promises. `wasm` is unchecked, and checked before `check` is called. */
  async instantiateAsync(
    version: Instantiate,
    wasm: BufferSource | CompiledModule,
    check: () => Environment,
    ctx: SupervisorContext | AsyncSupervisorContext,
    options: InvokeOptions | undefined,
  ): Promise<GearInstance> {
    this.refuseInstance();
    const given = this.source(wasm);
    // A copy, because the caller may write to it meanwhile.
    const source = given instanceof Uint8Array ? copyOf(given) : given;
    const env = check();
    const { engine, isMetered, defaults, quota } = this.#options;
    const conditions = checkInvokeOptions(options, isMetered);
    const left = leftForStart(conditions, defaults);
    const module =
      source instanceof Uint8Array ? await compileAsync(source, this.#options, conditions) : source;
    const linked = link(module, env);
    refuseInsideTurnOfMemories(linked.memoryIds);
    const make = (): number =>
      native.instantiateAsync(module.id, engine.number, version, linked.memories, quota.number);
    const instance = this.#instance(version, module, linked);
    // Awaited, so that the caller's frames are in the stack of an error.
    await instance.startWithAsync(ctx, left(), make, { refused: linkError, trapped: startTrapped });
    return instance;
  }

  #instance(version: Instantiate, module: GuestModule, linked: Linked): GearInstance {
    const { isMetered, defaults, quota } = this.#options;
    const { functions, importedMemories } = linked;
    return new GearInstance({
      backend: this.backend,
      module,
      version,
      functions,
      importedMemories,
      quota,
      isMetered,
      defaults,
    });
  }
}

const MOST_PAGES = 65_536;

/**
 * What is left of the stop conditions when the start function runs, if there is one: compiling and linking take their part of a timeout that
 * was given, not of the default one.
 */
function leftForStart(
  conditions: StopConditions | undefined,
  defaults: StopConditions | undefined,
): () => StopConditions | undefined {
  if (conditions === undefined) return () => defaults;
  const { timeout, fuel, signal } = conditions;
  throwIfAborted(signal);
  const begun = performance.now();
  return () => {
    const left = timeout - (performance.now() - begun);
    const bounds = { at: 0, conditions, around: undefined };
    if (timeout > 0 && left <= 0)
      throwTimeout(
        timeoutError({ exportName: undefined, doing: 'instantiating', conditions, bounds }, undefined),
      );
    const given = timeout > 0 ? { timeout: left, wholeTimeout: timeout, fuel, signal } : conditions;
    return withDefaults(given, defaults);
  };
}

/** A copy of shared memory, which another thread could change between the engine's check and its use. */
function unshared(binary: Uint8Array): Uint8Array {
  return isShared(binary) ? copyOf(binary) : binary;
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
