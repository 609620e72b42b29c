/** A guest: an instance of a module in the sandbox. Mirrors `gear_sandbox_host::sandbox::SandboxInstance`. */

import { argumentError, array, describe, string } from '../base/arguments';
import { ArgumentError, NoExportError } from '../base/errors';
import { defineHandle, someNames } from '../base/handle';
import { MADE_HERE, refuseUsers } from '../base/internal';
import { shortName } from '../base/short_text';
import { toValue, Value } from '../base/values';
import { layout, native, scratchViews, translate, watchCollections } from '../binding/native';
import { callAsync, refuseInsideTurnOf, type Translations } from '../guest/async_call';
import type { Instantiate, SandboxBackend } from '../guest/backend';
import {
  asyncCallOf,
  currentBounds,
  enterGuest as enterGuestOf,
  failure,
  isUnbounded as isUnboundedOf,
  type Running,
  type RunningGuest,
  runBounded,
} from '../guest/call';
import { invocations, isTraced } from '../guest/diagnostics';
import {
  payloadFor as payloadForOf,
  readSlot as readSlotOf,
  readSlots,
  Slot,
  TYPE_OF,
  writeSlot as writeSlotOf,
} from '../guest/import_signature';
import type { ExportDescription, ExportedFunction, GuestModule } from '../guest/module';
import { checkInvokeOptions, type InvokeOptions, type Limits, withDefaults } from '../guest/options';
import type { ThreadBudget } from '../guest/thread_quota';
import { directFunctions } from './js_supervisor';
import { type Memory, memoryInternals } from './memory';
import { ContextPeer, type ProtocolPeer } from './protocol/peer';
import {
  type AsyncSupervisorContext,
  checkSupervisor,
  refuseForeign,
  type SupervisorContext,
  type SupervisorFuncIndex,
} from './supervisor';

const { words, longs } = scratchViews;
const { WORD_INSTANCE, WORD_FUNC, WORD_COUNT, FUEL } = layout;
const { invoke: nativeInvoke } = native;
const enterGuest = enterGuestOf;
const isUnbounded = isUnboundedOf;
const readSlot = readSlotOf;
const payloadFor = payloadForOf;
const writeSlot = writeSlotOf;

/** An argument of a call: a value, or a plain number or bigint that is converted by the parameter's type. */
export type Argument = Value | number | bigint;

/** What an instance is made of. */
export interface InstanceParts {
  readonly backend: SandboxBackend;
  readonly module: GuestModule;
  readonly version: Instantiate;
  readonly functions: readonly SupervisorFuncIndex[];
  /** In order; memory 0 is the first of them, if there are any. */
  readonly importedMemories: readonly Memory[];
  readonly budget: ThreadBudget;
  readonly isMetered: boolean;
  /** What stops a call that does not say. */
  readonly defaults: Limits | undefined;
  readonly make: (wrapper: object) => number;
}

/** Opens a {@link SandboxInstance} to `components.ts`. */
export interface InstanceInternals {
  make(parts: InstanceParts): SandboxInstance;
  /** Makes one on a native thread, by a native call, and runs its start function there. `limits` have the defaults in them. */
  makeAsync(
    parts: InstanceParts,
    ctx: SupervisorContext | AsyncSupervisorContext,
    limits: Limits | undefined,
    makeCall: () => number,
    translations: Translations,
  ): Promise<SandboxInstance>;
  /** Runs the start function, if there is one. `limits` have the defaults in them. */
  start(instance: SandboxInstance, ctx: SupervisorContext, limits: Limits | undefined): void;
  /** The same for a supervisor that is no `SupervisorContext`. */
  startBy(instance: SandboxInstance, peer: ProtocolPeer): void;
  /** {@link SandboxInstance.invoke} for a supervisor that is no `SupervisorContext`. */
  invokeBy(
    instance: SandboxInstance,
    exportName: string,
    args: readonly Value[],
    peer: ProtocolPeer,
  ): Value | Value[] | undefined;
  /** An address in this process that no other instance has. */
  address(instance: SandboxInstance): bigint;
  /** Takes note of the index that it has got, for people to see. */
  registered(instance: SandboxInstance, index: number): void;
  /** Drops the native instance at once unless a user may still hold this wrapper. */
  dropUnlessHeld(instance: SandboxInstance): void;
  /** From now on a user may hold this wrapper. */
  handOut(instance: SandboxInstance): SandboxInstance;
}

/** @internal */
export let instanceInternals: InstanceInternals;

/**
 * A guest. Get one by {@link SandboxComponents.instance}; it stays usable after its teardown for as long as you hold it. Mirrors
 * `gear_sandbox_host::sandbox::SandboxInstance` (crate `gear-sandbox-host` 1.10.0).
 *
 * @example
 * ```ts
 * const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, undefined);
 * const instance = components.instance(index);
 * instance.invoke('add', [Value.I32(1), Value.I32(2)], supervisor); // { type: 'i32', value: 3 }
 * instance.getGlobalVal('counter'); // { type: 'i64', value: 7n }
 * ```
 */
export class SandboxInstance extends Object {
  readonly #backend: SandboxBackend;
  readonly #module: GuestModule;
  readonly #guest: RunningGuest;
  readonly #memories = new Map<string, Memory>();
  readonly #importedMemories: readonly Memory[];
  readonly #budget: ThreadBudget;
  readonly #isMetered: boolean;
  readonly #defaults: Limits | undefined;
  #fuel: bigint | undefined;
  #running: Running | undefined;
  /** The supervisor that it was instantiated with; undefined if that was no `SupervisorContext`. */
  #ownCtx: SupervisorContext | AsyncSupervisorContext | undefined;
  /** Memory 0 if it is neither imported nor exported; null if there is none. */
  #memory0: Memory | null | undefined;
  #lastName = '';
  #lastFunction: ExportedFunction | undefined;
  #id = -1;
  #isHeld = false;
  #isStarted = false;
  #index: number | undefined;
  #isTornDown = false;

  private constructor(key: typeof MADE_HERE, parts: InstanceParts) {
    super();
    refuseUsers(key, 'SandboxComponents.instance');
    const { backend, module, version, functions, importedMemories, budget, isMetered, defaults } = parts;
    this.#backend = backend;
    this.#budget = budget;
    this.#isMetered = isMetered;
    this.#defaults = defaults;
    this.#module = module;
    this.#guest = {
      version,
      sites: module.sites,
      functions,
      instance: () => (this.#isStarted ? instanceInternals.handOut(this) : undefined),
      memory: () => {
        const imported = importedMemories.at(0);
        return imported === undefined ? this.#ownMemory0() : memoryInternals.handOut(imported);
      },
    };
    this.#importedMemories = importedMemories;
    // From here on, because an asynchronous call may link them much later.
    for (const memory of importedMemories) memoryInternals.retain(memory);
  }

  static {
    defineHandle(
      SandboxInstance,
      'SandboxInstance',
      (value) => #guest in value,
      (instance) => instance.#described(),
    );
    instanceInternals = {
      make(parts) {
        const instance = new SandboxInstance(MADE_HERE, parts);
        try {
          instance.#adopt(parts.make);
        } catch (error) {
          for (const memory of parts.importedMemories) memoryInternals.release(memory);
          throw error;
        }
        return instance;
      },
      makeAsync(parts, ctx, limits, makeCall, translations) {
        const instance = new SandboxInstance(MADE_HERE, parts);
        instance.#ownCtx = ctx;
        const result = (call: number): SandboxInstance => {
          instance.#adopt((wrapper) => native.adoptInstance(wrapper, call));
          instance.#isStarted = true;
          return instance;
        };
        const running = instance.#asyncRunningFor(ctx);
        const ended = (): void => instance.#keepFuel();
        return callAsync({
          running,
          limits,
          argument: 'wasm',
          exportName: undefined,
          make: makeCall,
          result,
          ended,
          ...translations,
        });
      },
      start(instance, ctx, limits) {
        instance.#ownCtx = ctx;
        instance.#start(instance.#runningFor(ctx), limits);
      },
      startBy: (instance, peer) => instance.#start(instance.#runningBy(peer), instance.#defaults),
      invokeBy(instance, exportName, args, peer) {
        const call = instance.#runningBy(peer);
        const ctx = peer as unknown as SupervisorContext;
        if (isTraced(invocations)) return instance.#invokeTraced(exportName, args, ctx, call, undefined);
        // The instance knows it now, so `invoke` does not check it: one function for both is quicker than two. No code of others runs in between.
        return instance.invoke(exportName, args, ctx);
      },
      address: (instance) => native.instanceAddress(instance.#id),
      registered(instance, index) {
        instance.#index = index;
      },
      dropUnlessHeld(instance) {
        instance.#isTornDown = true;
        if (instance.#isHeld) return;
        native.dropInstance(instance.#id);
        instance.#id = -1;
        for (const memory of instance.#importedMemories) memoryInternals.release(memory);
      },
      handOut(instance) {
        instance.#isHeld = true;
        return instance;
      },
    };
  }

  /**
   * What the instance exports, in the order of its module; frozen. The WebAssembly JavaScript Interface has it as
   * `WebAssembly.Module.exports`.
   *
   * @example
   * ```ts
   * const functions = instance.exports.filter(({ kind }) => kind === 'function').map(({ name }) => name);
   * ```
   */
  get exports(): readonly ExportDescription[] {
    return this.#module.exports;
  }

  /**
   * Calls an exported function and waits until it is done. Supervisor functions that the guest calls meanwhile run in `ctx`,
   * and may use this instance in every way, also by further calls. Mirrors `SandboxInstance::invoke`; unlike there, a
   * function with several results gives an array of them.
   *
   * @param exportName - the name of the function
   * @param args - its arguments: values of exactly its types, or plain numbers and bigints, which are converted by the parameter's type as
   *   the WebAssembly JavaScript Interface does ("ToWebAssemblyValue"); by default none
   * @param ctx - runs the supervisor functions; by default what the instance was instantiated with
   * @param options - what ends the call: `timeout` (ms), `fuel` (units) and `signal`
   * @returns the result, undefined if there is none, an array if there are several
   * @throws a {@link TrapError} (`ERR_SANDBOX_TRAP`) if the guest traps: it stays usable
   * @throws a {@link NoExportError} (`ERR_SANDBOX_NO_EXPORT`) if there is no export of that name, or it is no function
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for wrong arguments, for `fuel` without {@link SandboxOptions.fuel}, and for a
   *   function whose type has more than i32, i64, f32 and f64
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or one that shares its memory, is running asynchronously
   * @throws a {@link SandboxError} (`ERR_SANDBOX_TIMEOUT`) if it takes longer than `options.timeout`, or what is left to the call around it;
   *   a `TrapError` is the `cause`
   * @throws the `reason` of `options.signal`, or of a call around this one, if that signal is aborted
   * @example
   * ```ts
   * try {
   *   instance.invoke('div', [Value.I32(1), Value.I32(0)], supervisor);
   * } catch (error) {
   *   if (error instanceof TrapError) console.log(error.trap); // integer-divide-by-zero
   * }
   * ```
   */
  invoke(
    exportName: string,
    args: readonly Argument[] = NO_ARGUMENTS,
    ctx?: SupervisorContext,
    options?: InvokeOptions,
  ): Value | Value[] | undefined {
    if (isTraced(invocations)) return this.#invokeTraced(exportName, args, ctx, undefined, options);
    const last = exportName === this.#lastName ? this.#lastFunction : undefined;
    const fn = last ?? this.#function(exportName);
    const payloads = checkArguments(fn, args);
    const call = this.#runningFor(ctx);
    const limits = options === undefined ? this.#defaults : this.#limits(options);
    if (limits !== undefined || !isUnbounded())
      return this.#invokeBounded(exportName, fn, payloads, call, limits);
    // The same as there, but without objects. From here until the results are read nothing of others may run but the guest.
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = fn.index;
    words[WORD_COUNT] = fn.slots;
    for (let index = 0; index < payloads.length; index += 1)
      writeSlot(fn.parameters[index], index, payloads[index]);
    const isDone = enterGuest(call, nativeInvoke, 'exportName', 0, undefined);
    if (this.#isMetered) this.#fuel = longs[FUEL];
    if (!isDone) throw failure({ exportName, limits, bounds: currentBounds() })();
    const results = fn.results;
    if (results.length === 0) return undefined;
    if (results.length === 1) return readSlot(results[0], 0);
    return readSlots(results);
  }

  #invokeBounded(
    exportName: string,
    fn: ExportedFunction,
    payloads: readonly (number | bigint)[],
    call: Running,
    limits: Limits | undefined,
  ): Value | Value[] | undefined {
    return runBounded({
      call,
      enter: nativeInvoke,
      argument: 'exportName',
      exportName,
      limits,
      write: () => this.#writeCall(fn, payloads),
      ended: () => this.#keepFuel(),
      read: () => resultsOf(fn),
    });
  }

  /** What stops a call with these options. */
  #limits(options: InvokeOptions | undefined): Limits | undefined {
    return withDefaults(checkInvokeOptions(options, this.#isMetered), this.#defaults);
  }

  /** Writes a call to the scratch buffer. */
  #writeCall(fn: ExportedFunction, payloads: readonly (number | bigint)[]): void {
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = fn.index;
    words[WORD_COUNT] = fn.slots;
    for (let index = 0; index < payloads.length; index += 1)
      writeSlot(fn.parameters[index], index, payloads[index]);
  }

  /** What `ctx` is checked by may run anything, so it is a part of what subscribers are told of; `known` answers without a check. */
  #invokeTraced(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | undefined,
    known: Running | undefined,
    options: InvokeOptions | undefined,
  ): Value | Value[] | undefined {
    const invoke = (): Value | Value[] | undefined => {
      const fn = this.#function(exportName);
      const payloads = checkArguments(fn, args);
      const call = known ?? this.#runningFor(ctx);
      const limits = this.#limits(options);
      return this.#invokeBounded(exportName, fn, payloads, call, limits);
    };
    return invocations.traceSync(invoke, { instance: this, exportName, args, isAsync: false });
  }

  /**
   * Calls an exported function on a native thread. The event loop stays free while the guest computes, and supervisor functions may
   * return Promises. Calls of instances that share a memory run one after another, in the order in which they were made; all
   * others run side by side.
   *
   * While the call runs, this instance and those that share its memory throw `BusyError`, except during their supervisor calls. A call
   * that is made inside a supervisor call of its own guest rejects with `BusyError`, because to wait for it there would never end. The
   * reference has no such method.
   *
   * @param exportName - the name of the function
   * @param args - its arguments, as {@link SandboxInstance.invoke} takes them
   * @param ctx - runs the supervisor functions; it may answer with Promises; by default what the instance was instantiated with
   * @param options - what ends the call: `timeout` (ms), `fuel` (units) and `signal`. The time that it waits for its turn and for the
   *   supervisor's Promises counts
   * @returns a Promise of what {@link SandboxInstance.invoke} returns. The method never throws: the Promise rejects, with what
   *   {@link SandboxInstance.invoke} throws
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) (it rejects) if it is made inside a supervisor call of this guest, or of one that shares
   *   its memory
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) (it rejects) if there is no native thread for it, see {@link SandboxOptions.threads}
   * @example
   * ```ts
   * const length = supervisor.define(async ([port]) => {
   *   const response = await fetch(`http://localhost:${Value.toNumber(port)}/`);
   *   return Value.I32((await response.arrayBuffer()).byteLength);
   * });
   * const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'length', length).encode();
   * // … instantiate a guest that imports it …
   * await instance.invokeAsync('run', [], supervisor, { timeout: 1000, signal: controller.signal });
   * ```
   */
  invokeAsync(
    exportName: string,
    args: readonly Argument[] = NO_ARGUMENTS,
    ctx?: SupervisorContext | AsyncSupervisorContext,
    options?: InvokeOptions,
  ): Promise<Value | Value[] | undefined> {
    try {
      if (!isTraced(invocations)) return this.#invokeAsync(exportName, args, ctx, options);
      const event = { instance: this, exportName, args, isAsync: true };
      // An asynchronous function, because Node tells of what is thrown otherwise as of a call that has not begun.
      const invoke = async (): Promise<Value | Value[] | undefined> =>
        await this.#invokeAsync(exportName, args, ctx, options);
      return invocations.tracePromise(invoke, event);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Throws what can be said at once. What comes later is thrown in `callAsync`, whose Promise must be the caller's for its frames' sake. */
  #invokeAsync(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | AsyncSupervisorContext | undefined,
    options: InvokeOptions | undefined,
  ): Promise<Value | Value[] | undefined> {
    const fn = this.#function(exportName);
    const payloads = checkArguments(fn, args);
    const limits = this.#limits(options);
    const running = this.#asyncRunningFor(ctx === undefined ? this.#ownCtxFor(ctx) : ctx);
    refuseInsideTurnOf(this.#id);
    const budget = this.#budget.number;
    return callAsync({
      running,
      limits,
      argument: 'exportName',
      exportName,
      make: () => {
        this.#writeCall(fn, payloads);
        return native.invokeAsync(budget);
      },
      result: () => resultsOf(fn),
      refused: (error) => translate(error, 'exportName'),
      ended: () => this.#keepFuel(),
    });
  }

  /**
   * What the last call of this guest that has ended left of its fuel, in units, see {@link InvokeOptions.fuel}; undefined before the first
   * one and without {@link SandboxOptions.fuel}. 0n if it was out of fuel. A call without a budget counts down from 2^63 - 1. The reference
   * has no fuel.
   *
   * @example
   * ```ts
   * instance.invoke('run', [], supervisor, { fuel: 1_000_000n });
   * const used = 1_000_000n - (instance.fuel ?? 0n);
   * ```
   */
  get fuel(): bigint | undefined {
    return this.#fuel;
  }

  /** Keeps what a call that has run has left. */
  #keepFuel(): void {
    if (this.#isMetered) this.#fuel = longs[FUEL];
  }

  /**
   * The value of an exported global. Mirrors `SandboxInstance::get_global_val`.
   *
   * @param name - the name of the export
   * @returns its value, or undefined if there is no global of that name, or its type is none of `Value`'s
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `name` is no string
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or one that shares its memory, is running asynchronously
   * @example
   * ```ts
   * instance.getGlobalVal('gear_gas'); // { type: 'i64', value: 1000n }
   * instance.getGlobalVal('nothing'); // undefined
   * ```
   */
  getGlobalVal(name: string): Value | undefined {
    const global = this.#module.globals.get(string(name, 'name'));
    if (global?.slot === undefined) return undefined;
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = global.index;
    try {
      native.globalGet();
    } catch (error) {
      throw translate(error, 'name');
    }
    return readSlot(global.slot, 0);
  }

  /**
   * Sets an exported global. Mirrors `SandboxInstance::set_global_val`.
   *
   * @param name - the name of the export
   * @param value - its new value, of exactly its type
   * @returns true, or false if there is no global of that name
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if the global is immutable
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `name` is no string, or `value` no value of the global's type
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or one that shares its memory, is running asynchronously
   * @example
   * ```ts
   * instance.setGlobalVal('gear_gas', Value.I64(1_000n)); // true
   * instance.setGlobalVal('nothing', Value.I64(0n)); // false
   * ```
   */
  setGlobalVal(name: string, value: Value): boolean {
    const global = this.#module.globals.get(string(name, 'name'));
    const checked = toValue(value, 'value');
    if (global === undefined) return false;
    if (global.slot === undefined || TYPE_OF[global.slot] !== checked.type) {
      const type = global.slot === undefined ? 'a type that no Value has' : TYPE_OF[global.slot];
      throw new ArgumentError(
        `value must be of the type of the global ${shortName(name)}, ${type}, got ${checked.type}`,
        {
          argument: 'value',
        },
      );
    }
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = global.index;
    writeSlot(global.slot, 0, payloadOf(checked));
    try {
      native.globalSet();
    } catch (error) {
      throw translate(error, 'name');
    }
    return true;
  }

  /**
   * The same as {@link SandboxInstance.getGlobalVal}, which works inside a supervisor call as it is. Mirrors
   * `SandboxInstance::signal_handler_get_global_val`.
   *
   * @param name - the name of the export
   * @returns as {@link SandboxInstance.getGlobalVal}
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `name` is no string
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or one that shares its memory, is running asynchronously
   */
  signalHandlerGetGlobalVal(name: string): Value | undefined {
    return this.getGlobalVal(name);
  }

  /**
   * The same as {@link SandboxInstance.setGlobalVal}, which works inside a supervisor call as it is. Mirrors
   * `SandboxInstance::signal_handler_set_global_val`.
   *
   * @param name - the name of the export
   * @param value - its new value, of exactly its type
   * @returns as {@link SandboxInstance.setGlobalVal}
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if the global is immutable
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `name` is no string, or `value` no value of the global's type
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or one that shares its memory, is running asynchronously
   */
  signalHandlerSetGlobalVal(name: string, value: Value): boolean {
    return this.setGlobalVal(name, value);
  }

  /**
   * An exported memory, the same object each time. The reference has no such method.
   *
   * @param name - the name of the export
   * @returns the memory, or undefined if there is none of that name
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `name` is no string
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while the guest, or another of its store group, runs asynchronously and is in no supervisor
   * call, if the memory has not been asked for before
   * @example
   * ```ts
   * const text = instance.getMemory('memory')?.read(8, 20); // 20 bytes at 8
   * ```
   */
  getMemory(name: string): Memory | undefined {
    const known = this.#memories.get(string(name, 'name'));
    if (known !== undefined) return known;
    const index = this.#module.memories.get(name);
    if (index === undefined) return undefined;
    const memory = memoryInternals.make(this.#backend, (wrapper) => {
      try {
        return native.exportedMemory(wrapper, this.#id, index);
      } catch (error) {
        throw translate(error, 'name');
      }
    });
    this.#memories.set(name, memoryInternals.handOut(memory));
    return memory;
  }

  #described(): object {
    const exports = someNames(this.#module.exports, ({ name }) => name);
    return {
      ...(this.#index === undefined ? {} : { index: this.#index }),
      backend: this.#backend,
      exports,
      ...(this.#fuel === undefined ? {} : { fuel: this.#fuel }),
      ...(this.#isTornDown ? { isTornDown: true } : {}),
    };
  }

  /** What answers this guest's calls by `ctx`: the same as the last time if it is the same supervisor. */
  #runningFor(ctx: SupervisorContext | undefined): Running {
    const last = this.#running;
    // The methods of a supervisor of the user's own may have changed since, so it is checked each time.
    if (last !== undefined && last.ctx === ctx && !last.isChecked) return last;
    return ctx === undefined
      ? this.#runningFor(this.#ownCtxFor(ctx) as SupervisorContext)
      : this.#checkedRunningFor(ctx, last);
  }

  /** The supervisor of a call that is given none. */
  #ownCtxFor(ctx: undefined): SupervisorContext | AsyncSupervisorContext {
    if (this.#ownCtx === undefined) throw argumentError('ctx', 'a SupervisorContext', ctx);
    return this.#ownCtx;
  }

  #checkedRunningFor(ctx: SupervisorContext, last: Running | undefined): Running {
    const functions = directOf(ctx);
    if (last !== undefined && last.ctx === ctx) return last;
    const isChecked = functions === undefined;
    if (isChecked) refuseForeign(ctx);
    const peer = isChecked ? new ContextPeer(ctx) : undefined;
    this.#running = {
      guest: this.#guest,
      ctx,
      isChecked,
      peer,
      functions: functions ?? [],
      asyncContext: undefined,
    };
    return this.#running;
  }

  #asyncRunningFor(ctx: SupervisorContext | AsyncSupervisorContext): Running {
    const functions = directOf(ctx as SupervisorContext);
    if (functions === undefined) refuseForeign(ctx);
    const asyncContext = functions === undefined ? (ctx as AsyncSupervisorContext) : undefined;
    const guest = this.#guest;
    return { guest, ctx, isChecked: false, peer: undefined, functions: functions ?? [], asyncContext };
  }

  /** The same for a supervisor that is no `SupervisorContext`. */
  #runningBy(peer: ProtocolPeer): Running {
    const last = this.#running;
    if (last !== undefined && last.ctx === peer) return last;
    const guest = this.#guest;
    this.#running = { guest, ctx: peer, isChecked: false, peer, functions: [], asyncContext: undefined };
    return this.#running;
  }

  #start(call: Running, limits: Limits | undefined): void {
    if (this.#module.hasStart) {
      runBounded({
        call,
        enter: native.start,
        argument: 'wasm',
        exportName: undefined,
        limits,
        write: () => {
          words[WORD_INSTANCE] = this.#id;
        },
        ended: () => this.#keepFuel(),
        read: () => undefined,
      });
    }
    this.#isStarted = true;
  }

  #adopt(make: (wrapper: object) => number): void {
    this.#id = make(this);
    watchCollections();
  }

  /** Memory 0 if it is the guest's own, exported or not. */
  #ownMemory0(): Memory | undefined {
    const name = this.#module.memory0;
    const known = name === undefined ? this.#memory0 : this.#memories.get(name);
    if (known !== undefined) return known === null ? undefined : memoryInternals.handOut(known);
    if (this.#id === -1) return this.#memory0InStart(name);
    if (name !== undefined) return this.getMemory(name);
    this.#memory0 = this.#makeMemory0((wrapper) => native.memory0(wrapper, this.#id));
    return this.#memory0 === null ? undefined : memoryInternals.handOut(this.#memory0);
  }

  /** The same while an asynchronous start function runs, when there is no native number yet. */
  #memory0InStart(name: string | undefined): Memory | undefined {
    const call = asyncCallOf(this.#guest);
    if (call === undefined) return undefined;
    const memory = this.#makeMemory0((wrapper) => native.memory0OfCall(wrapper, call));
    if (memory === null) return undefined;
    if (name === undefined) this.#memory0 = memory;
    else this.#memories.set(name, memory);
    return memoryInternals.handOut(memory);
  }

  #makeMemory0(find: (wrapper: object) => number | undefined): Memory | null {
    let hasNone = false;
    const memory = memoryInternals.make(this.#backend, (wrapper) => {
      const number = find(wrapper);
      hasNone = number === undefined;
      return number ?? -1;
    });
    return hasNone ? null : memory;
  }

  /** Looks a function up, and remembers it: most instances are called by one name again and again. */
  #function(exportName: string): ExportedFunction {
    const fn = this.#module.functions.get(exportName) ?? this.#noFunction(exportName);
    this.#lastName = exportName;
    this.#lastFunction = fn;
    return fn;
  }

  /** Says why a function cannot be called. */
  #noFunction(exportName: unknown): never {
    const name = string(exportName, 'exportName');
    if (this.#module.functions.has(name)) {
      throw new ArgumentError(
        `exportName must name a function whose types are i32, i64, f32 and f64, ${shortName(name)} has others`,
        {
          argument: 'exportName',
        },
      );
    }
    const kind = this.#module.kindOf(name);
    const message =
      kind === undefined
        ? `there is no export ${shortName(name)}`
        : `the export ${shortName(name)} is a ${kind}, not a function`;
    throw new NoExportError(message, { exportName: name });
  }
}

/** Frozen, because subscribers are told of it. */
const NO_ARGUMENTS: readonly Argument[] = Object.freeze([]);
const NO_PAYLOADS: readonly (number | bigint)[] = [];

/** The functions of a `JsSupervisor`; undefined for another supervisor, which is checked here. */
export function directOf(ctx: SupervisorContext): ReturnType<typeof directFunctions> {
  if (typeof ctx !== 'object' || ctx === null) throw argumentError('ctx', 'a SupervisorContext', ctx);
  const direct = directFunctions(ctx);
  if (direct === undefined) checkSupervisor(ctx);
  return direct;
}

/** Reads the results of a function out of the scratch buffer. */
function resultsOf({ results }: ExportedFunction): Value | Value[] | undefined {
  if (results.length > 1) return readSlots(results);
  return results.length === 1 ? readSlot(results[0], 0) : undefined;
}

/** The arguments' payloads, checked against the function's type. All of them are read before any is written to the scratch buffer. */
function checkArguments(fn: ExportedFunction, args: readonly Argument[]): readonly (number | bigint)[] {
  const parameters = fn.parameters;
  const given = array(args, 'args');
  if (given.length !== parameters.length) {
    throw new ArgumentError(
      `args must have ${parameters.length} ${parameters.length === 1 ? 'value' : 'values'}, as the function has parameters, got ${describe(given.length)}`,
      {
        argument: 'args',
      },
    );
  }
  if (parameters.length === 0) return NO_PAYLOADS;
  const payloads: (number | bigint)[] = [];
  for (let index = 0; index < parameters.length; index += 1) {
    const value = given[index];
    const slot = parameters[index];
    payloads[index] = payloadFor(slot, value) ?? payloadOf(argumentFor(slot, value, index));
  }
  return payloads;
}

/**
 * Converts a plain number or bigint, as the WebAssembly JavaScript Interface does ("ToWebAssemblyValue"). Of anything else it says what is
 * wrong with it; gives it after all if only its getters were in a mood.
 */
function argumentFor(slot: Slot, argument: unknown, index: number): Value {
  if (typeof argument === 'number') return numberFor(slot, argument, index);
  if (typeof argument === 'bigint') {
    if (slot === Slot.I64) return { type: 'i64', value: BigInt.asIntN(64, argument) };
    throw argumentError(`args[${index}]`, `a number or a Value, for an ${TYPE_OF[slot]}`, argument);
  }
  if (typeof argument !== 'object' || argument === null) {
    const plain = slot === Slot.I64 ? 'bigint' : 'number';
    throw argumentError(`args[${index}]`, `a Value or a ${plain}, for an ${TYPE_OF[slot]}`, argument);
  }
  const value = toValue(argument, 'args', index);
  if (value.type === TYPE_OF[slot]) return value;
  throw new ArgumentError(`args[${index}] must be of type ${TYPE_OF[slot]}, got ${value.type}`, {
    argument: `args[${index}]`,
  });
}

function numberFor(slot: Slot, argument: number, index: number): Value {
  switch (slot) {
    case Slot.I32:
      return { type: 'i32', value: argument | 0 };
    case Slot.F32:
      return Value.f32(argument);
    case Slot.F64:
      return Value.f64(argument);
    case Slot.I64:
      throw argumentError(`args[${index}]`, 'a bigint or a Value, for an i64', argument);
  }
}

function payloadOf(value: Value): number | bigint {
  return value.type === 'i32' || value.type === 'i64' ? value.value : value.bits;
}
