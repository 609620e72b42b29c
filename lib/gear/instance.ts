/** A guest: an instance of a module in the sandbox. Mirrors `gear_sandbox_host::sandbox::SandboxInstance`. */

import { argumentError, string } from '../base/arguments';
import { defineHandle, someNames } from '../base/handle';
import { assertInternal, INTERNAL } from '../base/internal';
import type { Value } from '../base/values';
import type { Answerer } from '../guest/answerer';
import type { SandboxBackend } from '../guest/backend';
import { type Argument, checkArguments } from '../guest/call_arguments';
import { asyncCallOf } from '../guest/call_context';
import type { InvokeOptions, StopConditions } from '../guest/call_options';
import { isTraced } from '../guest/diagnostics';
import { GuestInstance, type InstanceParts } from '../guest/instance';
import type { ExportDescription } from '../guest/module';
import { answererFor, isToBeChecked } from './answerers';
import { CallingGuest, type Handles } from './calling_guest';
import { invocations } from './channels';
import type { Instantiate } from './instantiate';
import { GearMemory, type Memory } from './memory';
import { ProtocolAnswerer } from './protocol/answerer';
import type { ProtocolPeer } from './protocol/peer';
import {
  type AsyncSupervisorContext,
  checkSupervisor,
  type SupervisorContext,
  type SupervisorFuncIndex,
} from './supervisor';

/** Frozen, because subscribers are told of it. */
const NO_ARGUMENTS: readonly Argument[] = Object.freeze([]);

/** What an instance is made of. */
export interface GearInstanceParts extends InstanceParts {
  readonly backend: SandboxBackend;
  readonly version: Instantiate;
  readonly functions: readonly SupervisorFuncIndex[];
  /** In order; memory 0 is the first of them, if there are any. */
  readonly importedMemories: readonly GearMemory[];
}

/** An instance with what a {@link SandboxInstance} needs of it. */
export class GearInstance extends GuestInstance implements Handles {
  readonly #backend: SandboxBackend;
  readonly #guest: CallingGuest;
  readonly #importedMemory0: GearMemory | undefined;
  readonly #memories = new Map<string, GearMemory>();
  /** Memory 0 if it is neither imported nor exported; null if there is none. */
  #memory0: GearMemory | null | undefined;
  /** The supervisor that it was instantiated with; undefined if that was no `SupervisorContext`. */
  #ownCtx: SupervisorContext | AsyncSupervisorContext | undefined;
  /** The supervisor of the last synchronous call, and what answers by it. */
  #lastCtx: object | undefined;
  #lastAnswerer: Answerer | undefined;
  /** Whether that supervisor must be checked before each call, because its methods are the user's to change. */
  #isChecked = false;
  #handle: SandboxInstance | undefined;
  #isHeld = false;
  #index: number | undefined;
  #isTornDown = false;

  constructor(parts: GearInstanceParts) {
    super(parts);
    this.#backend = parts.backend;
    this.#importedMemory0 = parts.importedMemories.at(0);
    this.#guest = new CallingGuest(parts.version, parts.module.functionImports, parts.functions, this);
  }

  /** The handle, the same each time. */
  get handle(): SandboxInstance {
    this.#handle ??= makeHandle(this);
    return this.#handle;
  }

  /** The handle for a user, who may hold it from now on. */
  handOut(): SandboxInstance {
    this.#isHeld = true;
    return this.handle;
  }

  /** Takes note of the index that it has got, for people to see. */
  registered(index: number): void {
    this.#index = index;
  }

  /** Drops the native instance at once unless a user may still hold the handle. */
  tearDown(): void {
    this.#isTornDown = true;
    if (!this.#isHeld) this.drop();
  }

  /** What it is, for people. */
  described(): object {
    const exports = someNames(this.module.exports, ({ name }) => name);
    return {
      ...(this.#index === undefined ? {} : { index: this.#index }),
      backend: this.#backend,
      exports,
      ...(this.fuel === undefined ? {} : { fuel: this.fuel }),
      ...(this.#isTornDown ? { isTornDown: true } : {}),
    };
  }

  invoke(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | undefined,
    options: InvokeOptions | undefined,
  ): Value | Value[] | undefined {
    if (isTraced(invocations)) return this.#invokeTraced(exportName, args, ctx, undefined, options);
    const fn = this.functionNamed(exportName);
    const payloads = checkArguments(fn, args);
    const answerer = this.#answererFor(ctx);
    const conditions = options === undefined ? this.defaults : this.conditionsOf(options);
    return this.call(exportName, fn, payloads, answerer, conditions);
  }

  /** The same for a supervisor that is no `SupervisorContext`. */
  invokeBy(exportName: string, args: readonly Value[], peer: ProtocolPeer): Value | Value[] | undefined {
    const answerer = this.#answererBy(peer);
    if (isTraced(invocations)) return this.#invokeTraced(exportName, args, undefined, answerer, undefined);
    const fn = this.functionNamed(exportName);
    return this.call(exportName, fn, checkArguments(fn, args), answerer, this.defaults);
  }

  /** To check `ctx` may run anything, so it is a part of what subscribers are told of; `known` answers without a check. */
  #invokeTraced(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | undefined,
    known: Answerer | undefined,
    options: InvokeOptions | undefined,
  ): Value | Value[] | undefined {
    const invoke = (): Value | Value[] | undefined => {
      const fn = this.functionNamed(exportName);
      const payloads = checkArguments(fn, args);
      const answerer = known ?? this.#answererFor(ctx);
      return this.callBounded(exportName, fn, payloads, answerer, this.conditionsOf(options));
    };
    return invocations.traceSync(invoke, { instance: this.handOut(), exportName, args, isAsync: false });
  }

  /** Throws what can be said at once; the Promise rejects with what comes later. */
  invokeAsync(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | AsyncSupervisorContext | undefined,
    options: InvokeOptions | undefined,
  ): Promise<Value | Value[] | undefined> {
    if (!isTraced(invocations)) return this.#invokeAsync(exportName, args, ctx, options);
    const event = { instance: this.handOut(), exportName, args, isAsync: true };
    // An asynchronous function, because Node tells of what is thrown otherwise as of a call that has not begun.
    const invoke = async (): Promise<Value | Value[] | undefined> =>
      await this.#invokeAsync(exportName, args, ctx, options);
    return invocations.tracePromise(invoke, event);
  }

  #invokeAsync(
    exportName: string,
    args: readonly Argument[],
    ctx: SupervisorContext | AsyncSupervisorContext | undefined,
    options: InvokeOptions | undefined,
  ): Promise<Value | Value[] | undefined> {
    const fn = this.functionNamed(exportName);
    const payloads = checkArguments(fn, args);
    const conditions = this.conditionsOf(options);
    const answerer = answererFor(this.#guest, ctx === undefined ? this.#ownCtxFor(ctx) : ctx);
    return this.callAsync(exportName, fn, payloads, answerer, conditions);
  }

  /** Runs the start function, if there is one. `conditions` have the defaults in them. */
  startWith(ctx: SupervisorContext, conditions: StopConditions | undefined): void {
    this.#ownCtx = ctx;
    this.start(this.#answererFor(ctx), conditions);
  }

  /** The same for a supervisor that is no `SupervisorContext`. */
  startBy(peer: ProtocolPeer): void {
    this.start(this.#answererBy(peer), this.defaults);
  }

  /** Makes the native instance on a native thread by a native call, and runs its start function there. `conditions` have the defaults in them. */
  async startWithAsync(
    ctx: SupervisorContext | AsyncSupervisorContext,
    conditions: StopConditions | undefined,
    make: () => number,
    translations: { refused(error: unknown): unknown; trapped(error: unknown): unknown },
  ): Promise<void> {
    this.#ownCtx = ctx;
    await this.startAsync(answererFor(this.#guest, ctx), conditions, make, translations);
  }

  /** What answers this guest's calls by `ctx`: the same as the last time if it is the same supervisor. */
  #answererFor(ctx: SupervisorContext | undefined): Answerer {
    const last = this.#lastAnswerer;
    if (last !== undefined && this.#lastCtx === ctx && ctx !== undefined) {
      if (this.#isChecked) checkSupervisor(ctx);
      return last;
    }
    return ctx === undefined
      ? this.#answererFor(this.#ownCtxFor(ctx) as SupervisorContext)
      : this.#answererAnew(ctx);
  }

  #answererAnew(ctx: SupervisorContext): Answerer {
    const answerer = answererFor(this.#guest, ctx);
    this.#isChecked = isToBeChecked(answerer);
    this.#lastCtx = ctx;
    this.#lastAnswerer = answerer;
    return answerer;
  }

  /** The same for a supervisor that is no `SupervisorContext`. */
  #answererBy(peer: ProtocolPeer): Answerer {
    if (this.#lastAnswerer !== undefined && this.#lastCtx === peer) return this.#lastAnswerer;
    this.#isChecked = false;
    this.#lastCtx = peer;
    this.#lastAnswerer = new ProtocolAnswerer(this.#guest, peer);
    return this.#lastAnswerer;
  }

  /** The supervisor of a call that is given none. */
  #ownCtxFor(ctx: undefined): SupervisorContext | AsyncSupervisorContext {
    if (this.#ownCtx === undefined) throw argumentError('ctx', 'a SupervisorContext', ctx);
    return this.#ownCtx;
  }

  /** An exported memory by an unchecked name; undefined if there is none. */
  exportedMemoryNamed(name: string): GearMemory | undefined {
    const known = this.#memories.get(string(name, 'name'));
    if (known !== undefined) return known;
    const index = this.module.memories.get(name);
    if (index === undefined) return undefined;
    const memory = new GearMemory(this.#backend, (wrapper) => this.exportedMemory(wrapper, index));
    this.#memories.set(name, memory);
    return memory;
  }

  instanceNow(): SandboxInstance | undefined {
    return this.isStarted ? this.handOut() : undefined;
  }

  memoryNow(): Memory | undefined {
    return (this.#importedMemory0 ?? this.#ownMemory0())?.handOut();
  }

  /** Memory 0 if it is the guest's own, exported or not. */
  #ownMemory0(): GearMemory | undefined {
    const name = this.module.memory0;
    const known = name === undefined ? this.#memory0 : this.#memories.get(name);
    if (known !== undefined) return known ?? undefined;
    if (!this.isAdopted) return this.#memory0InStart(name);
    if (name !== undefined) return this.exportedMemoryNamed(name);
    this.#memory0 = this.#findMemory0(undefined);
    return this.#memory0 ?? undefined;
  }

  /** The same while an asynchronous start function runs. */
  #memory0InStart(name: string | undefined): GearMemory | undefined {
    const call = asyncCallOf(this.#guest);
    if (call === undefined) return undefined;
    const memory = this.#findMemory0(call);
    if (memory === null) return undefined;
    if (name === undefined) this.#memory0 = memory;
    else this.#memories.set(name, memory);
    return memory;
  }

  #findMemory0(startCall: number | undefined): GearMemory | null {
    let hasNone = false;
    const memory = new GearMemory(this.#backend, (wrapper) => {
      const number = this.memory0(wrapper, startCall);
      hasNone = number === null;
      return number ?? -1;
    });
    return hasNone ? null : memory;
  }
}

let makeHandle: (instance: GearInstance) => SandboxInstance;

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
  readonly #instance: GearInstance;

  private constructor(key: typeof INTERNAL, instance: GearInstance) {
    super();
    assertInternal(key, 'SandboxComponents.instance');
    this.#instance = instance;
  }

  static {
    defineHandle(
      SandboxInstance,
      'SandboxInstance',
      (value) => #instance in value,
      (handle) => handle.#instance.described(),
    );
    makeHandle = (instance) => new SandboxInstance(INTERNAL, instance);
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
    return this.#instance.module.exports;
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
    return this.#instance.invoke(exportName, args, ctx, options);
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
      // In here, because a receiver that is no instance must not throw either.
      return this.#instance.invokeAsync(exportName, args, ctx, options);
    } catch (error) {
      return Promise.reject(error);
    }
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
    return this.#instance.fuel;
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
    return this.#instance.getGlobal(name);
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
    return this.#instance.setGlobal(name, value);
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
    return this.#instance.exportedMemoryNamed(name)?.handOut();
  }
}
