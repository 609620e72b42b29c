/**
 * The addon: its functions as TypeScript sees them, the scratch buffer that calls go through, and the table that turns
 * its errors into this package's classes. No other file loads it. `crate/node/functions.rs` is the other side.
 */

import { types } from 'node:util';
import { ArgumentError, BusyError, InternalError, LimitError, SandboxError } from '../base/errors';
import { loadBinary } from './binary';

/** An import or export of a module. `type` has the shape of the JavaScript type reflection proposal. */
export interface NativeExtern {
  readonly name: string;
  readonly kind: 'function' | 'memory' | 'table' | 'global' | 'other';
  readonly type: Readonly<Record<string, unknown>>;
}

/** What a module imports and exports. */
export interface NativeModuleDescription {
  readonly imports: readonly (NativeExtern & { readonly module: string })[];
  readonly exports: readonly NativeExtern[];
  readonly hasStart: boolean;
  /** The place in `exports` of the module's own memory 0, or -1. */
  readonly exportedMemory0: number;
}

/** The kinds of objects that have numbers. */
export type NativeKind = 'engines' | 'caches' | 'budgets' | 'modules' | 'memories' | 'instances';

/** How a call ended that came back with any status but `STATUS_DONE`. */
export interface NativeFailure {
  readonly trap: string;
  readonly message: string;
  readonly frames: readonly { functionName?: string; functionIndex: number; offset?: number }[];
  /** Holds what was thrown in a supervisor call before it could be caught, if that is why. */
  readonly parked?: { readonly thrown: unknown };
}

/**
 * The functions of the addon. Objects are numbers here. Each number belongs to one wrapper object, which is passed where the number
 * is made, and is given to another object only when that wrapper has been collected, or by a `drop` function: so whoever uses a number
 * must hold the wrapper, also across an `await`.
 */
export interface Native {
  /** Must be called once, before any guest is. Both functions are held weakly. */
  setup(dispatch: () => void, drain: () => void): void;
  /** `options` are doubles, see `crate/node/functions.rs`. */
  engine(wrapper: object, options: Uint8Array): number;
  featureNames(): string[];
  /** `folder` is a path in UTF-8, or empty. */
  newCache(wrapper: object, entries: number, folder: Uint8Array): number;
  serializeModule(engine: number, module: number, wasm: Uint8Array): ArrayBuffer;
  /** As `compile`. How many bytes the module's binary has is in `WORD_COUNT`. */
  deserializeModule(engine: number, bytes: Uint8Array): object | undefined;
  /** The wrapper of that compiled module, if there is one; if not, one must be made and given to `adoptModule` before anything else. */
  compile(engine: number, cache: number, wasm: Uint8Array): object | undefined;
  adoptModule(wrapper: object): number;
  describeModule(module: number): NativeModuleDescription;
  newMemory(wrapper: object, engine: number, initial: number, maximum: number): number;
  dropMemory(memory: number): void;
  memoryBytes(memory: number): number;
  memoryGrow(memory: number, pages: number): number;
  memoryBuffer(memory: number): ArrayBuffer;
  /** As `memoryBuffer`, but undefined if the memory is empty or the runtime forbids such buffers. */
  memoryView(memory: number): ArrayBuffer | undefined;
  memoryAddress(memory: number): bigint;
  memoryRead(memory: number, address: number, dest: Uint8Array): void;
  memoryWrite(memory: number, address: number, src: Uint8Array): void;
  instantiate(wrapper: object, module: number, engine: number, version: number, memories: Uint8Array): number;
  dropInstance(instance: number): void;
  instanceAddress(instance: number): bigint;
  exportedMemory(wrapper: object, instance: number, exportIndex: number): number;
  /** The instance's memory 0, imported, exported or neither, in a start function too; undefined if it has none. */
  memory0(wrapper: object, instance: number): number | undefined;
  /** The same for the instance whose start function waits for its supervisor in that asynchronous call, which has no number yet. */
  memory0OfCall(wrapper: object, call: number): number | undefined;
  takeFailure(): NativeFailure;
  /** Drops what belongs to wrappers that have been collected, and tells whether anything is left. */
  sweep(): boolean;
  invoke(): void;
  start(): void;
  globalGet(): void;
  globalSet(): void;
  // Asynchronous calls, which are numbers too. Their timeouts are in the scratch buffer.
  /** A budget of so many native threads. */
  newBudget(wrapper: object, threads: number): number;
  /** A call that ends with a module, to be asked for by `compiledBy`. */
  compileAsync(engine: number, cache: number, wasm: Uint8Array, budget: number): number;
  /** As `compile`. */
  compiledBy(call: number): object | undefined;
  /** A call that ends with an instance, to be adopted. */
  instantiateAsync(
    module: number,
    engine: number,
    version: number,
    memories: Uint8Array,
    budget: number,
  ): number;
  adoptInstance(wrapper: object, call: number): number;
  invokeAsync(budget: number): number;
  /** Whether it is that call's turn in the group of that instance. */
  hasTurnOfInstance(call: number, instance: number): boolean;
  /** Whether it is that call's turn in the group of that memory. */
  hasTurnOfMemory(call: number, memory: number): boolean;
  /** What runs from here on must end with that call; 0 for none. */
  within(call: number): void;
  stopCall(call: number): void;
  /** An error, not thrown: what native code throws counts as uncaught to debuggers, even if it is caught. */
  takeRefusal(): unknown;
  nextEvent(): void;
  answer(): void;
  putOff(): void;
  countThreadsForTests(): number;
  callForBench(fn: () => void, times: number): void;
  countForTests(): number;
  countEachForTests(): Readonly<Record<NativeKind | 'enginesOfProcess', number>>;
  panicForTests(): void;
  /** Whether to behave as in a runtime that forbids buffers over native memory: not 0. */
  refuseBuffersForTests(refuses: number): void;
}

/** What the addon itself exports. */
interface Addon {
  /** Gives functions that share nothing with those of another copy of this file. */
  open(scratch: ArrayBuffer): Native;
}

/** The cache number of the one that all copies of this package in the process share. */
export const DEFAULT_CACHE = 0xffff_fffe;
/** Compile without a cache. */
export const NO_CACHE = 0xffff_ffff;

// The scratch buffer. Its layout stands here and in `crate/node/scratch.rs`. Whoever receives reads everything out before
// any other code can run, so one buffer serves calls at any depth.

const SCRATCH_BYTES = 16 * 1024;
/** The most parameters or results of a function that can be called. */
const MAX_SLOTS = (SCRATCH_BYTES - 24 - 8) / 8;

/** In `words`: which instance is called. */
const WORD_INSTANCE = 0;
/** In `words`: which export is called, or which imported function of the guest is calling. */
const WORD_FUNC = 1;
/** In `words`: how many slots the call has. */
const WORD_COUNT = 2;
/** In `words`: whether the calling guest has gas in {@link GAS}. */
const WORD_HAS_GAS = 3;
/** In `words`: whether a call that is about to run has a budget in {@link FUEL}. */
const WORD_HAS_FUEL = 3;
/** In `words`: how a call ended, into a guest or to its supervisor. */
const WORD_STATUS = 0;
const STATUS_DONE = 0;
const STATUS_TRAPPED = 1;
/** In `words`, of asynchronous calls: which event, of which call, and what is asked for by `nextEvent` and `answer`. */
const WORD_EVENT = 0;
const WORD_CALL = 2;
const WORD_IS_NEW_TURN = 0;
const WORD_LOOKS = 1;
const WORD_HAS_THROWN = 0;
const EVENT_TIME_OVER = 1;
const EVENT_ASKED = 2;
const EVENT_DONE = 3;
const EVENT_TRAPPED = 4;
const EVENT_REFUSED = 5;
/** In `longs`: the gas of the calling guest. */
const GAS = 2;
/** In `doubles`: the timeout of a call that is about to run, in ms, or 0. */
const TIMEOUT = GAS;
/** In `longs`: the budget of a call that is about to run, and what is left of it afterwards. */
const FUEL = SCRATCH_BYTES / 8 - 1;
/** In `longs`: the first argument or result. Slot `i` is `SLOTS + i` here, and `2 * (SLOTS + i)` in `words` and `ints`. */
const SLOTS = 3;

/** The layout, for the same use. */
export const layout = Object.freeze({
  WORD_INSTANCE,
  WORD_FUNC,
  WORD_COUNT,
  WORD_HAS_GAS,
  WORD_HAS_FUEL,
  WORD_STATUS,
  STATUS_DONE,
  STATUS_TRAPPED,
  WORD_EVENT,
  WORD_CALL,
  WORD_IS_NEW_TURN,
  WORD_LOOKS,
  WORD_HAS_THROWN,
  EVENT_TIME_OVER,
  EVENT_ASKED,
  EVENT_DONE,
  EVENT_TRAPPED,
  EVENT_REFUSED,
  GAS,
  TIMEOUT,
  FUEL,
  SLOTS,
  MAX_SLOTS,
} as const);

const scratch = new ArrayBuffer(SCRATCH_BYTES);

/** The functions of the addon, for this copy of the package: a process can have several, of bundles, of test files, or of both module systems. */
export const native = (loadBinary() as Addon).open(scratch);

/**
 * Views of the scratch buffer. Hot files take them into constants of their own (`const { words } = scratchViews`): what is
 * imported is looked up again at each use, which V8 does not optimise away and costs more than the use itself.
 */
export const scratchViews = Object.freeze({
  words: new Uint32Array(scratch),
  ints: new Int32Array(scratch),
  longs: new BigInt64Array(scratch),
  ulongs: new BigUint64Array(scratch),
  doubles: new Float64Array(scratch),
});

/** Tells the addon who answers guests' calls, and who takes the events of asynchronous ones. Once. */
export function setDispatch(dispatch: () => void, drain: () => void): void {
  // Native code refers to them weakly, or it would keep this copy of the package for ever; so the object that its functions keep must do it.
  Object.defineProperty(native, 'answerers', { value: [dispatch, drain] });
  native.setup(dispatch, drain);
}

/** The error class for each kind of failure that the addon reports. */
export function translate(error: unknown, argument: string): unknown {
  const kind = kindOf(error);
  if (kind === undefined) return error;
  const message = (error as Error).message;
  switch (kind) {
    case 'memory-size':
      return new ArgumentError(`${argument} must be a size that a memory can have: ${message}`, { argument });
    case 'out-of-bounds':
      return new ArgumentError(message, { argument });
    case 'memory-grow':
      return new LimitError(`Cannot grow memory: ${message}`);
    case 'limit':
      return new LimitError(message);
    case 'no-buffers':
      return new LimitError(`${message}: copy the bytes by Memory.read and Memory.writeFrom`);
    case 'global':
      return new SandboxError(message);
    case 'busy':
      return new BusyError(message);
    case 'poisoned':
      return new InternalError(message);
    case 'panic':
      return new InternalError(
        `sandbox-host has a bug: ${message}. If a guest was running, its store is unusable now`,
      );
    default:
      return new InternalError(`sandbox-host has a bug: ${message}. The store is still usable`);
  }
}

/** The addon marks its own errors with a property `kind`. They may be of another realm than this code, so their class does not tell. */
export function kindOf(error: unknown): string | undefined {
  if (!types.isNativeError(error)) return undefined;
  const kind = (error as { kind?: unknown }).kind;
  return typeof kind === 'string' ? kind : undefined;
}

/** Whether the next garbage collection will be noticed. */
let isWatching = false;

const registry = new FinalizationRegistry<undefined>(() => {
  queueMicrotask(() => {
    isWatching = false;
    if (native.sweep()) watchCollections();
  });
});

/**
 * Lets the native side drop what belongs to wrappers once they are collected, even if nothing new is made meanwhile. To be called when a
 * wrapper is made.
 *
 * Collections are noticed by an object that nobody holds. Wrappers themselves are not registered: V8 would keep them until its next full
 * collection, while those that live shortly go with a quick one.
 */
export function watchCollections(): void {
  if (isWatching) return;
  isWatching = true;
  registry.register({}, undefined);
}
