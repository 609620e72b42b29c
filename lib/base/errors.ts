/**
 * The errors that this package throws, each with a stable `code`. Users should test `code` (or `instanceof`),
 * never the message. Native code is independent of these classes: it passes codes and texts, and the
 * TypeScript layer creates the error. An exception that a supervisor throws is always preserved as the
 * `cause`.
 */

/**
 * Every `code` that an error of this package can have. The codes are stable, the messages are not.
 *
 * | code | class | when |
 * |---|---|---|
 * | `ERR_SANDBOX_TRAP` | {@link TrapError} | a guest was stopped by a trap |
 * | `ERR_SANDBOX_TIMEOUT` | {@link SandboxError} | a call ran longer than its `timeout` |
 * | `ERR_SANDBOX_INSTANTIATION` | {@link InstantiationError} | a guest could not be instantiated |
 * | `ERR_SANDBOX_LIMIT` | {@link LimitError} | one of `SandboxOptions.limits` is reached, a memory cannot grow, or the system gives no thread |
 * | `ERR_SANDBOX_BUSY` | {@link BusyError} | another thread is running that guest |
 * | `ERR_SANDBOX_CODEC` | {@link CodecError} | bytes are not the SCALE encoding that was expected |
 * | `ERR_SANDBOX_NO_EXPORT` | {@link NoExportError} | a guest has no such export |
 * | `ERR_SANDBOX_ARGUMENT` | {@link ArgumentError}, {@link SandboxError} | an argument or an index is wrong |
 * | `ERR_SANDBOX_ARGUMENT` | `TypeError`, `RangeError` | the functions of {@link Value} were given what no value can have |
 * | `ERR_SANDBOX_INTERNAL` | {@link InternalError} | a bug in this package |
 *
 * The reference distinguishes these cases only by messages, so this type mirrors no item of it.
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

/**
 * What stopped a guest; see {@link TrapError.trap}. The traps are those of the WebAssembly specification
 * ("Execution", "Instructions"), and the reasons for which this package stops guests. `'interrupted'` is the
 * trap of the `cause` of an error with the code `ERR_SANDBOX_TIMEOUT`.
 */
export type TrapKind =
  /** The guest ran an `unreachable` instruction, which is how most languages abort. */
  | 'unreachable'
  /** A load, a store or a bulk memory instruction reached beyond the end of a memory. */
  | 'memory-out-of-bounds'
  /** A table instruction or an indirect call reached beyond the end of a table. */
  | 'table-out-of-bounds'
  /** An indirect call, or a call through a reference, met a null. */
  | 'indirect-call-null'
  /** An indirect call met a function of a different type than expected. */
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
  /** The guest was stopped from outside. */
  | 'interrupted'
  /** A supervisor call failed; `cause` is what the supervisor threw, if it threw. */
  | 'supervisor'
  /** A memory or a table could not grow, and the guest traps in that case. */
  | 'growth-limited'
  /** An atomic access was not aligned to its width. */
  | 'unaligned-atomic'
  /** The guest threw a WebAssembly exception that was not caught. */
  | 'uncaught-exception'
  /** The machine had no memory for the guest's request. */
  | 'out-of-memory';

/**
 * Why a guest could not be instantiated; see {@link InstantiationError.kind}. Mirrors the variants of
 * `gear_sandbox_host::sandbox::InstantiationError`; as there, a memory that the environment lacks is
 * `'ModuleDecoding'`, and everything else that it lacks `'Instantiation'`.
 */
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

/**
 * One function of the guest's call stack, as far as the engine knows it. For the names see the WebAssembly
 * specification, "Custom Sections", "Name Section".
 */
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
 * The base of all errors of this package, and the error for an unknown index: the messages for those are the
 * ones of the Rust crate `gear-sandbox-host`.
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

  /** The kind of error, for programs. It does not change between releases; messages may. */
  readonly code: ErrorCode;

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - `code`, by default `ERR_SANDBOX_ARGUMENT`, and the `cause`, by default absent
   * @example
   * ```ts
   * new SandboxError('the call has taken longer than its timeout', { code: 'ERR_SANDBOX_TIMEOUT' });
   * ```
   */
  constructor(message: string, options: { code?: ErrorCode; cause?: unknown } = {}) {
    super(message, options);
    this.code = options.code ?? 'ERR_SANDBOX_ARGUMENT';
  }
}

/**
 * An argument or an option has the wrong type, is out of range or unknown. It is thrown before anything has
 * happened. The message usually has the form `<argument> must be …, got …`.
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

  /** Always `ERR_SANDBOX_ARGUMENT`. */
  declare readonly code: 'ERR_SANDBOX_ARGUMENT';
  /** The argument at fault, as a path from the parameter's name: `args[1].value`. */
  readonly argument: string;

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `argument` at fault, and the `cause`, by default absent
   * @example
   * ```ts
   * new ArgumentError('args[0] must be of type i32, got i64', { argument: 'args[0]' });
   * ```
   */
  constructor(message: string, options: { argument: string; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_ARGUMENT' });
    this.argument = options.argument;
  }
}

/**
 * A guest was stopped by a trap. The store stays usable: memory and globals are as they were at that moment,
 * and the instance can be invoked again. See the WebAssembly specification, "Runtime Structure", "Results".
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

  /** Always `ERR_SANDBOX_TRAP`. */
  declare readonly code: 'ERR_SANDBOX_TRAP';
  /** What stopped the guest. */
  readonly trap: TrapKind;
  /** The export that was called; undefined if it was a start function. */
  readonly exportName: string | undefined;
  /** The guest's call stack, innermost function first; empty where the engine provides none. */
  readonly wasmStack: readonly WasmFrame[];

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `trap`; the `exportName`, by default undefined; `wasmStack`, by default empty; and
   *   the `cause`, by default absent
   * @example
   * ```ts
   * new TrapError('wasm trap: out of fuel', { trap: 'out-of-fuel', exportName: 'run' });
   * ```
   */
  constructor(
    message: string,
    options: {
      trap: TrapKind;
      exportName?: string | undefined;
      wasmStack?: readonly WasmFrame[];
      cause?: unknown;
    },
  ) {
    super(message, { ...options, code: 'ERR_SANDBOX_TRAP' });
    this.trap = options.trap;
    this.exportName = options.exportName;
    this.wasmStack = options.wasmStack ?? [];
  }
}

/**
 * An import that an environment does not satisfy; see {@link InstantiationError.missing}. It has the shape of
 * `ModuleImportDescriptor` of the WebAssembly JavaScript Interface ("Modules"), with the type that the type
 * reflection proposal adds.
 */
export interface MissingImport {
  /** The module name of the import, the first of its two names. */
  readonly module: string;
  /** The field name of the import, the second one. */
  readonly name: string;
  /** The kind of the import. */
  readonly kind: 'function' | 'memory' | 'table' | 'global' | 'other';
  /** Its type, in the form of {@link ExportDescription.type}. */
  readonly type: Readonly<Record<string, unknown>>;
  /** A description of what the environment has under these names; absent if it has nothing. */
  readonly given?: string;
}

/**
 * A guest could not be instantiated. `cause` is the reason: a {@link CodecError}, a {@link SandboxError} that
 * names the import, a {@link TrapError} of the start function, or an error with the engine's message. Mirrors
 * `gear_sandbox_host::sandbox::InstantiationError`.
 *
 * @example
 * ```ts
 * try {
 *   components.instantiate(Instantiate.Version1, wasm, env, supervisor);
 * } catch (error) {
 *   if (error instanceof InstantiationError && error.kind === 'ModuleDecoding') console.error(error.cause);
 * }
 * ```
 */
export class InstantiationError extends SandboxError {
  static {
    nameErrors(InstantiationError);
  }

  /** Always `ERR_SANDBOX_INSTANTIATION`. */
  declare readonly code: 'ERR_SANDBOX_INSTANTIATION';
  /** The step that failed, by the names of the reference crate. */
  readonly kind: InstantiationErrorKind;
  /**
   * **All** imports that are missing or have a different type, if that is the reason; absent otherwise.
   */
  declare readonly missing?: readonly MissingImport[];

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `kind`; `missing`, by default absent; and the `cause`, by default absent
   * @example
   * ```ts
   * new InstantiationError('the module is empty', { kind: 'ModuleDecoding' });
   * ```
   */
  constructor(
    message: string,
    options: { kind: InstantiationErrorKind; missing?: readonly MissingImport[]; cause?: unknown },
  ) {
    super(message, { ...options, code: 'ERR_SANDBOX_INSTANTIATION' });
    this.kind = options.kind;
    if (options.missing !== undefined) this.missing = options.missing;
  }
}

/**
 * One more memory, instance, page or byte would exceed `SandboxOptions.limits`, a memory's own maximum, or
 * the machine's resources. Nothing has changed: tear something down, or raise the limit. A guest that grows
 * its own memory or table beyond a limit gets -1 instead, as WebAssembly specifies.
 *
 * An asynchronous call also ends with this error if the system provides no native thread for it, or if guests
 * that wait for such calls hold all of `SandboxOptions.threads`. In that case the call has not begun, unless
 * its guest was waiting for a Promise: that guest stops where it was. The call can be tried again.
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

  /** Always `ERR_SANDBOX_LIMIT`. */
  declare readonly code: 'ERR_SANDBOX_LIMIT';

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `cause`, by default absent
   * @example
   * ```ts
   * new LimitError('there are 1 memories already, and the limit is 1');
   * ```
   */
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, { ...options, code: 'ERR_SANDBOX_LIMIT' });
  }
}

/**
 * A guest, its memory or its globals were used synchronously while another thread was running the guest; or
 * an asynchronous call was made inside a supervisor call of its own guest. Nothing has changed. Wait for the
 * running asynchronous call.
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

  /** Always `ERR_SANDBOX_BUSY`. */
  declare readonly code: 'ERR_SANDBOX_BUSY';

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `cause`, by default absent
   * @example
   * ```ts
   * new BusyError('an asynchronous call is running in the guest');
   * ```
   */
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, { ...options, code: 'ERR_SANDBOX_BUSY' });
  }
}

/**
 * Bytes that should be a SCALE encoding are truncated, unknown or not canonical, so the reference refuses
 * them too. Mirrors `parity_scale_codec::Error`.
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

  /** Always `ERR_SANDBOX_CODEC`. */
  declare readonly code: 'ERR_SANDBOX_CODEC';
  /** The offset in bytes, from 0, of the item that cannot be decoded; the message contains it, too. */
  readonly offset: number;

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `offset` in bytes, and the `cause`, by default absent
   * @example
   * ```ts
   * new CodecError('unknown value type 9 at byte 1', { offset: 1 });
   * ```
   */
  constructor(message: string, options: { offset: number; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_CODEC' });
    this.offset = options.offset;
  }
}

/**
 * A guest has no export with this name, or the export has a different kind than the call needs. The reference
 * reports this as `Error::Sandbox` with a message.
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

  /** Always `ERR_SANDBOX_NO_EXPORT`. */
  declare readonly code: 'ERR_SANDBOX_NO_EXPORT';
  /** The requested name. */
  readonly exportName: string;

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the requested `exportName`, and the `cause`, by default absent
   * @example
   * ```ts
   * new NoExportError('there is no export mian', { exportName: 'mian' });
   * ```
   */
  constructor(message: string, options: { exportName: string; cause?: unknown }) {
    super(message, { ...options, code: 'ERR_SANDBOX_NO_EXPORT' });
    this.exportName = options.exportName;
  }
}

/**
 * A bug in this package or in an engine, such as a panic that was caught at the boundary of native code.
 * Please report it. Everything that runs native code can throw it, so it is not listed at each method. If a
 * guest was running, its store may be unusable. In that case every further use of the store throws this error
 * again.
 *
 * @example
 * ```ts
 * try {
 *   instance.invoke('run', [], supervisor);
 * } catch (error) {
 *   if (error instanceof InternalError) components.clear(); // to be sure, whatever the message says
 *   throw error;
 * }
 * ```
 */
export class InternalError extends SandboxError {
  static {
    nameErrors(InternalError);
  }

  /** Always `ERR_SANDBOX_INTERNAL`. */
  declare readonly code: 'ERR_SANDBOX_INTERNAL';

  /**
   * Creates such an error, for a test that replaces this package. Nothing is checked.
   *
   * @param message - what went wrong, for people
   * @param options - the `cause`, by default absent
   * @example
   * ```ts
   * new InternalError('internal failure of the engine');
   * ```
   */
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
