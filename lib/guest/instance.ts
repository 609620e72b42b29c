import { string } from '../base/arguments';
import { ArgumentError, NoExportError } from '../base/errors';
import { shortName } from '../base/short_text';
import { toValue, type Value } from '../base/values';
import { watchCollections } from '../binding/collections';
import { translate } from '../binding/failures';
import { hot, native } from '../binding/native';
import { layout, scratchViews } from '../binding/scratch';
import type { Answerer } from './answerer';
import { callAsync, refuseInsideTurnOf } from './async_call';
import { enterGuest as enterGuestOf, failure, runBounded } from './call';
import { payloadOf, resultsOf } from './call_arguments';
import { isUnbounded as isUnboundedOf } from './call_context';
import { checkInvokeOptions, type InvokeOptions, type StopConditions, withDefaults } from './call_options';
import type { GuestMemory } from './memory';
import type { ExportedFunction, GuestModule } from './module';
import { readSlot as readSlotOf, readSlots, TYPE_OF, writeSlot as writeSlotOf } from './slots';
import type { ThreadQuota } from './thread_quota';

const { words, longs } = scratchViews;
const { WORD_INSTANCE, WORD_FUNC, WORD_COUNT, FUEL } = layout;
const { invoke: nativeInvoke } = hot;
const enterGuest = enterGuestOf;
const isUnbounded = isUnboundedOf;
const readSlot = readSlotOf;
const writeSlot = writeSlotOf;

/** What an instance is made of. */
export interface InstanceParts {
  readonly module: GuestModule;
  readonly importedMemories: readonly GuestMemory[];
  readonly quota: ThreadQuota;
  readonly isMetered: boolean;
  /** What stops a call that does not say. */
  readonly defaults: StopConditions | undefined;
}

/**
 * An instance of a module, which has to be adopted first: it is the wrapper that native code knows the instance by. Arguments come checked,
 * unless a method says otherwise.
 */
export class GuestInstance {
  readonly module: GuestModule;
  readonly defaults: StopConditions | undefined;
  /** What the last call that has ended left of its fuel. */
  fuel: bigint | undefined;
  /** Whether its start function has run, or it has none. */
  isStarted = false;
  readonly #importedMemories: readonly GuestMemory[];
  readonly #quota: ThreadQuota;
  readonly #isMetered: boolean;
  #id = -1;
  #lastName = '';
  #lastFunction: ExportedFunction | undefined;

  constructor({ module, importedMemories, quota, isMetered, defaults }: InstanceParts) {
    this.module = module;
    this.#importedMemories = importedMemories;
    this.#quota = quota;
    this.#isMetered = isMetered;
    this.defaults = defaults;
    // From here on, because an asynchronous call may link them much later.
    for (const memory of importedMemories) memory.retain();
  }

  /** Makes the native instance. If that fails, this object must not be used any more. */
  adopt(make: (wrapper: object) => number): void {
    this.#id = make(this);
    watchCollections();
  }

  /** The native instance could not be made. */
  abandon(): void {
    for (const memory of this.#importedMemories) memory.release();
  }

  /** Drops the native instance. */
  drop(): void {
    hot.dropInstance(this.#id);
    this.#id = -1;
    this.abandon();
  }

  /** Whether there is a native instance by now. */
  get isAdopted(): boolean {
    return this.#id !== -1;
  }

  /** An address in this process that no other instance has. */
  get address(): bigint {
    return native.instanceAddress(this.#id);
  }

  /** What stops a call with these options, which are checked here. */
  conditionsOf(options: InvokeOptions | undefined): StopConditions | undefined {
    return withDefaults(checkInvokeOptions(options, this.#isMetered), this.defaults);
  }

  /** Looks a function up by an unchecked name, and remembers it: most instances are called by one name again and again. */
  functionNamed(exportName: string): ExportedFunction {
    const last = exportName === this.#lastName ? this.#lastFunction : undefined;
    return last ?? this.#functionAnew(exportName);
  }

  #functionAnew(exportName: string): ExportedFunction {
    const fn = this.module.functions.get(exportName) ?? this.#noFunction(exportName);
    this.#lastName = exportName;
    this.#lastFunction = fn;
    return fn;
  }

  /** Says why a function cannot be called. */
  #noFunction(exportName: unknown): never {
    const name = string(exportName, 'exportName');
    if (this.module.functions.has(name)) {
      throw new ArgumentError(
        `exportName must name a function whose types are i32, i64, f32 and f64, ${shortName(name)} has others`,
        { argument: 'exportName' },
      );
    }
    const kind = this.module.kindOf(name);
    const message =
      kind === undefined
        ? `there is no export ${shortName(name)}`
        : `the export ${shortName(name)} is a ${kind}, not a function`;
    throw new NoExportError(message, { exportName: name });
  }

  /** Calls a function. */
  call(
    exportName: string,
    fn: ExportedFunction,
    payloads: readonly (number | bigint)[],
    answerer: Answerer,
    conditions: StopConditions | undefined,
  ): Value | Value[] | undefined {
    if (conditions !== undefined || !isUnbounded())
      return this.callBounded(exportName, fn, payloads, answerer, conditions);
    // The same as there, but without objects. From here until the results are read no code of others may run but the guest.
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = fn.index;
    words[WORD_COUNT] = fn.slots;
    for (let index = 0; index < payloads.length; index += 1)
      writeSlot(fn.parameters[index], index, payloads[index]);
    const isDone = enterGuest(answerer, nativeInvoke, 'exportName', 0, undefined);
    if (this.#isMetered) this.fuel = longs[FUEL];
    if (!isDone) throw failure(exportName, conditions)();
    const results = fn.results;
    if (results.length === 0) return undefined;
    if (results.length === 1) return readSlot(results[0], 0);
    return readSlots(results);
  }

  /** The same, whether or not anything stops the call. */
  callBounded(
    exportName: string,
    fn: ExportedFunction,
    payloads: readonly (number | bigint)[],
    answerer: Answerer,
    conditions: StopConditions | undefined,
  ): Value | Value[] | undefined {
    return runBounded({
      answerer,
      enter: nativeInvoke,
      argument: 'exportName',
      exportName,
      conditions,
      write: () => this.#writeCall(fn, payloads),
      ended: () => this.#keepFuel(),
      read: () => resultsOf(fn),
    });
  }

  /** Calls a function on a native thread. Throws what can be said at once; the Promise rejects with what comes later. */
  callAsync(
    exportName: string,
    fn: ExportedFunction,
    payloads: readonly (number | bigint)[],
    answerer: Answerer,
    conditions: StopConditions | undefined,
  ): Promise<Value | Value[] | undefined> {
    refuseInsideTurnOf(this.#id);
    const quota = this.#quota.number;
    // The caller's Promise must be that of `callAsync`, for its frames' sake.
    return callAsync({
      answerer,
      conditions,
      argument: 'exportName',
      exportName,
      make: () => {
        this.#writeCall(fn, payloads);
        return hot.invokeAsync(quota);
      },
      result: () => resultsOf(fn),
      refused: (error) => translate(error, 'exportName'),
      ended: () => this.#keepFuel(),
    });
  }

  /** Runs the start function, if there is one. */
  start(answerer: Answerer, conditions: StopConditions | undefined): void {
    if (this.module.hasStart) {
      runBounded({
        answerer,
        enter: hot.start,
        argument: 'wasm',
        exportName: undefined,
        conditions,
        write: () => {
          words[WORD_INSTANCE] = this.#id;
        },
        ended: () => this.#keepFuel(),
        read: () => undefined,
      });
    }
    this.isStarted = true;
  }

  /**
   * Makes the native instance on a native thread, and runs its start function there.
   *
   * @param make - the native call
   */
  async startAsync(
    answerer: Answerer,
    conditions: StopConditions | undefined,
    make: () => number,
    translations: { refused(error: unknown): unknown; trapped(error: unknown): unknown },
  ): Promise<void> {
    const result = (call: number): void => {
      this.adopt((wrapper) => native.adoptInstance(wrapper, call));
      this.isStarted = true;
    };
    await callAsync({
      answerer,
      conditions,
      argument: 'wasm',
      exportName: undefined,
      make,
      result,
      ended: () => this.#keepFuel(),
      ...translations,
    });
  }

  /** Writes a call to the scratch buffer. */
  #writeCall(fn: ExportedFunction, payloads: readonly (number | bigint)[]): void {
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = fn.index;
    words[WORD_COUNT] = fn.slots;
    for (let index = 0; index < payloads.length; index += 1)
      writeSlot(fn.parameters[index], index, payloads[index]);
  }

  /** Keeps what a call that has run has left. */
  #keepFuel(): void {
    if (this.#isMetered) this.fuel = longs[FUEL];
  }

  /** The value of an exported global, by an unchecked name; undefined if there is none, or no `Value` can be its value. */
  getGlobal(name: string): Value | undefined {
    const global = this.module.globals.get(string(name, 'name'));
    if (global?.slot === undefined) return undefined;
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = global.index;
    try {
      hot.globalGet();
    } catch (error) {
      throw translate(error, 'name');
    }
    return readSlot(global.slot, 0);
  }

  /** Sets an exported global; both arguments are unchecked. Returns whether there is one of that name. */
  setGlobal(name: string, value: Value): boolean {
    const global = this.module.globals.get(string(name, 'name'));
    const checked = toValue(value, 'value');
    if (global === undefined) return false;
    if (global.slot === undefined || TYPE_OF[global.slot] !== checked.type) {
      const type = global.slot === undefined ? 'a type that no Value has' : TYPE_OF[global.slot];
      throw new ArgumentError(
        `value must be of the type of the global ${shortName(name)}, ${type}, got ${checked.type}`,
        { argument: 'value' },
      );
    }
    words[WORD_INSTANCE] = this.#id;
    words[WORD_FUNC] = global.index;
    writeSlot(global.slot, 0, payloadOf(checked));
    try {
      hot.globalSet();
    } catch (error) {
      throw translate(error, 'name');
    }
    return true;
  }

  /** The native number of an exported memory, for its wrapper. */
  exportedMemory(wrapper: object, exportIndex: number): number {
    try {
      return native.exportedMemory(wrapper, this.#id, exportIndex);
    } catch (error) {
      throw translate(error, 'name');
    }
  }

  /**
   * The native number of memory 0, for its wrapper; null if there is none. While an asynchronous start function runs, the instance has
   * no number yet, but the call has.
   */
  memory0(wrapper: object, startCall: number | undefined): number | null {
    return startCall === undefined
      ? native.memory0(wrapper, this.#id)
      : native.memory0OfCall(wrapper, startCall);
  }
}
