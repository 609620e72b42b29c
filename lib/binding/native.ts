/** The functions of the addon. No other file loads it. `crate/node/functions.rs` is the other side. */

import { loadBinary } from './binary';
import { scratch } from './scratch';

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
 * is made, and is given to another object only when that wrapper has been collected, or by a `drop` function: so the user of a number
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

/** The functions of the addon, for this copy of the package: a process can have several, of bundles, of test files, or of both module systems. */
export const native = (loadBinary() as Addon).open(scratch);
