/**
 * The errors that this package throws, each with a stable `code`. Users should test `code` (or `instanceof`),
 * never the message. Native code knows nothing of these classes: it hands over codes and texts, and the
 * TypeScript layer builds the error. An exception that a supervisor throws is never wrapped away: it is the
 * `cause`.
 */

/**
 * Every `code` that an error of this package can have.
 *
 * | code | class | when |
 * |---|---|---|
 * | `ERR_SANDBOX_TRAP` | {@link TrapError} | a guest was stopped by a trap |
 * | `ERR_SANDBOX_TIMEOUT` | {@link SandboxError} | a call ran longer than its `timeout` |
 * | `ERR_SANDBOX_INSTANTIATION` | {@link InstantiationError} | a guest could not be instantiated |
 * | `ERR_SANDBOX_LIMIT` | {@link LimitError} | one of `SandboxOptions.limits` is reached |
 * | `ERR_SANDBOX_BUSY` | {@link BusyError} | another thread is running that guest |
 * | `ERR_SANDBOX_CODEC` | {@link CodecError} | bytes are not the SCALE encoding that was expected |
 * | `ERR_SANDBOX_NO_EXPORT` | {@link NoExportError} | a guest has no such export |
 * | `ERR_SANDBOX_ARGUMENT` | {@link ArgumentError}, {@link SandboxError} | an argument or an index is wrong |
 * | `ERR_SANDBOX_INTERNAL` | {@link InternalError} | a bug in this package |
 */
export type ErrorCode =
  | 'ERR_SANDBOX_TRAP'
  | 'ERR_SANDBOX_TIMEOUT'
  | 'ERR_SANDBOX_INSTANTIATION'
  | 'ERR_SANDBOX_LIMIT'
  | 'ERR_SANDBOX_BUSY'
  | 'ERR_SANDBOX_CODEC'
  | 'ERR_SANDBOX_NO_EXPORT'
  | 'ERR_SANDBOX_ARGUMENT'
  | 'ERR_SANDBOX_INTERNAL';

/** What stopped a guest; see {@link TrapError.trap}. */
export type TrapKind =
  /** The guest ran an `unreachable` instruction, which is how most languages abort. */
  | 'unreachable'
  /** A load, a store or a bulk memory instruction reached beyond the end of a memory. */
  | 'memory-out-of-bounds'
  /** A table instruction or an indirect call reached beyond the end of a table. */
  | 'table-out-of-bounds'
  /** An indirect call, or a call through a reference, met a null. */
  | 'indirect-call-null'
  /** An indirect call met a function of another type than it asked for. */
  | 'indirect-call-signature'
  /** A signed division overflowed, or a float was too large for the integer it was converted to. */
  | 'integer-overflow'
  /** An integer was divided by zero. */
  | 'integer-divide-by-zero'
  /** A NaN was converted to an integer. */
  | 'invalid-conversion'
  /** The guest called too deeply. */
  | 'stack-overflow'
  /** The budget `InvokeOptions.fuel` is used up. */
  | 'out-of-fuel'
  /** Somebody stopped the guest from outside. */
  | 'interrupted'
  /** A supervisor call failed; `cause` is what the supervisor threw, if it threw. */
  | 'supervisor'
  /** A memory or a table could not grow, and the guest is one that traps then. */
  | 'growth-limited'
  /** An atomic access was not aligned to its width. */
  | 'unaligned-atomic'
  /** The guest threw a WebAssembly exception that nobody caught. */
  | 'uncaught-exception'
  /** The machine had no memory for what the guest asked for. */
  | 'out-of-memory';

/** Why a guest could not be instantiated; see {@link InstantiationError.kind}. */
export type InstantiationErrorKind =
  /** The environment definition can't be decoded, or names a memory that isn't there. */
  | 'EnvironmentDefinitionCorrupted'
  /** The bytes are no valid WebAssembly module, or use a feature that is switched off. */
  | 'ModuleDecoding'
  /**
   * The module is valid but does not fit its environment: an import is missing, a segment is out of bounds.
   */
  | 'Instantiation'
  /** The start function trapped. */
  | 'StartTrapped'
  /** The code was compiled for a CPU feature that this machine does not have. */
  | 'CpuFeature';

/** One function of the guest's call stack, as far as the engine knows it. */
export interface WasmFrame {
  /** The name in the module's name section; absent if there is none. */
  readonly functionName?: string;
  /** The index in the module's function index space, imports first. */
  readonly functionIndex: number;
  /**
   * The offset of the instruction in the module's binary, in bytes; absent if the engine does not know it.
   */
  readonly offset?: number;
}

/**
 * The base of all errors of this package, and the error for an index that names nothing: the messages of
 * those are the ones of the Rust crate `gear-sandbox-host`.
 *
 * @example
 * ```ts
 * try {
 *   components.memory(7);
 * } catch (error) {
 *   if (error instanceof SandboxError) console.error(error.code, error.message);
 *   // ERR_SANDBOX_ARGUMENT Trying to access a non-existent sandboxed memory
 * }
 * ```
 */
export class SandboxError extends Error {
  static {
    nameErrors(SandboxError);
  }

  /** What kind of error this is, for programs. It does not change between releases; messages may. */
  readonly code: ErrorCode;

  /**
   * @param message - what went wrong, for people
   * @param options - `code`, by default `ERR_SANDBOX_ARGUMENT`, and the `cause`, by default absent
   */
  constructor(message: string, options: { code?: ErrorCode; cause?: unknown } = {}) {
    super(message, options);
    this.code = options.code ?? 'ERR_SANDBOX_ARGUMENT';
  }
}

/**
 * An argument or an option is of the wrong type, out of range or unknown. Nothing has happened yet when it is
 * thrown. The message has the form `<argument> must be …, got …`.
 *
 * @example
 * ```ts
 * try {
 *   instance.invoke('run', [{ type: 'i32', value: 1.5 }], supervisor);
 * } catch (error) {
 *   if (error instanceof ArgumentError) console.error(error.argument); // args[0].value
 * }
 * ```
 */
export class ArgumentError extends SandboxError {
  static {
    nameErrors(ArgumentError);
  }

  declare readonly code: 'ERR_SANDBOX_ARGUMENT';
  /** The argument at fault, as a path from the parameter's name: `args[1].value`. */
  readonly argument: string;

  constructor(message: string, options: { argument: string; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_ARGUMENT' });
    this.argument = options.argument;
  }
}

/**
 * A guest was stopped by a trap. The store stays usable: memory and globals are as they were at that moment,
 * and the instance can be invoked again.
 *
 * @example
 * ```ts
 * try {
 *   instance.invoke('run', [], supervisor, { fuel: 1_000_000n });
 * } catch (error) {
 *   if (!(error instanceof TrapError)) throw error;
 *   if (error.trap === 'supervisor') throw error.cause; // what a supervisor function threw, the same object
 *   console.error(error.trap, error.wasmStack);
 * }
 * ```
 */
export class TrapError extends SandboxError {
  static {
    nameErrors(TrapError);
  }

  declare readonly code: 'ERR_SANDBOX_TRAP';
  /** What stopped the guest. */
  readonly trap: TrapKind;
  /** The guest's call stack, innermost function first; empty where the engine gives none. */
  readonly wasmStack: readonly WasmFrame[];

  constructor(
    message: string,
    options: { trap: TrapKind; wasmStack?: readonly WasmFrame[]; cause?: unknown },
  ) {
    super(message, { ...options, code: 'ERR_SANDBOX_TRAP' });
    this.trap = options.trap;
    this.wasmStack = options.wasmStack ?? [];
  }
}

/**
 * A guest could not be instantiated. `cause` says why: a {@link CodecError}, a {@link TrapError} of the start
 * function, or an error with the engine's own words.
 *
 * @example
 * ```ts
 * try {
 *   components.instantiate(Instantiate.Version1, wasm, environment, supervisor);
 * } catch (error) {
 *   if (error instanceof InstantiationError && error.kind === 'ModuleDecoding') console.error(error.cause);
 * }
 * ```
 */
export class InstantiationError extends SandboxError {
  static {
    nameErrors(InstantiationError);
  }

  declare readonly code: 'ERR_SANDBOX_INSTANTIATION';
  /** At which step it failed: the names of the reference crate. */
  readonly kind: InstantiationErrorKind;

  constructor(message: string, options: { kind: InstantiationErrorKind; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_INSTANTIATION' });
    this.kind = options.kind;
  }
}

/**
 * One more memory, instance, page or byte would exceed `SandboxOptions.limits`. Tear something down, or raise
 * the limit. A guest that grows its own memory or table beyond a limit gets -1 instead, as WebAssembly has
 * it.
 *
 * @example
 * ```ts
 * const components = new SandboxComponents(SandboxBackend.Wasmi, { limits: { memories: 1 } });
 * components.newMemory(1);
 * components.newMemory(1); // LimitError
 * ```
 */
export class LimitError extends SandboxError {
  static {
    nameErrors(LimitError);
  }

  declare readonly code: 'ERR_SANDBOX_LIMIT';

  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, { ...options, code: 'ERR_SANDBOX_LIMIT' });
  }
}

/**
 * A synchronous use of a guest, its memory or its globals, while another thread is running it. Wait for the
 * asynchronous call that runs; nothing has changed.
 *
 * @example
 * ```ts
 * const running = instance.invokeAsync('run', [], supervisor);
 * instance.invoke('run', [], supervisor); // BusyError
 * await running;
 * instance.invoke('run', [], supervisor); // fine
 * ```
 */
export class BusyError extends SandboxError {
  static {
    nameErrors(BusyError);
  }

  declare readonly code: 'ERR_SANDBOX_BUSY';

  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, { ...options, code: 'ERR_SANDBOX_BUSY' });
  }
}

/**
 * Bytes that should be a SCALE encoding are truncated, unknown or not canonical, so the reference refuses
 * them too.
 *
 * @example
 * ```ts
 * codec.decodeReturnValue(Uint8Array.of(1, 9)); // CodecError: unknown value type 9 at byte 1
 * ```
 */
export class CodecError extends SandboxError {
  static {
    nameErrors(CodecError);
  }

  declare readonly code: 'ERR_SANDBOX_CODEC';
  /** The first byte of the item that can't be decoded, counted from 0; it is in the message, too. */
  readonly offset: number;

  constructor(message: string, options: { offset: number; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_CODEC' });
    this.offset = options.offset;
  }
}

/**
 * A guest has no export of that name, or the export is of another kind than the call needs.
 *
 * @example
 * ```ts
 * instance.invoke('mian', [], supervisor); // NoExportError with exportName 'mian'
 * ```
 */
export class NoExportError extends SandboxError {
  static {
    nameErrors(NoExportError);
  }

  declare readonly code: 'ERR_SANDBOX_NO_EXPORT';
  /** The name that was asked for. */
  readonly exportName: string;

  constructor(message: string, options: { exportName: string; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_NO_EXPORT' });
    this.exportName = options.exportName;
  }
}

/**
 * A bug in this package, such as a panic that was caught at the edge of native code. Please report it. The
 * message says whether the store that the call belonged to is still usable.
 *
 * @example
 * ```ts
 * if (error instanceof InternalError) components.clear(); // to be sure, whatever the message says
 * ```
 */
export class InternalError extends SandboxError {
  static {
    nameErrors(InternalError);
  }

  declare readonly code: 'ERR_SANDBOX_INTERNAL';

  /** @param message - tells also whether the store is still usable */
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, { ...options, code: 'ERR_SANDBOX_INTERNAL' });
  }
}

/**
 * Names a class's errors as the built-in classes do: on the prototype, so that `name` is no property of the
 * error itself. The name is that of the class at the time it is declared, so a minifier changes both alike.
 */
function nameErrors(Class: { readonly prototype: Error; readonly name: string }): void {
  Object.defineProperty(Class.prototype, 'name', {
    value: Class.name,
    writable: true,
    enumerable: false,
    configurable: true,
  });
}
