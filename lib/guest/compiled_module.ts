/** A module that was compiled before it is instantiated: off the JavaScript thread, or in another process. */

import { argumentError, type BufferSource, copyOf, lengthOf, object, oneOf } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { defineHandle, someNames } from '../base/handle';
import { assertInternal, INTERNAL } from '../base/internal';
import type { DeserializedModule } from '../binding/addon';
import { native } from '../binding/native';
import { BACKENDS, type SandboxBackend } from './backend';
import { checkInvokeOptions, type InvokeOptions, type StopConditions } from './call_options';
import { compileAsync } from './compile';
import type { Engine } from './engine';
import { refuseModule } from './limits';
import { looksLikeInPlaceOfSerialized, moduleBytes } from './looks_like';
import { type ExportDescription, type GuestModule, guestModule, type ImportDescription } from './module';
import { compileError } from './modules';
import { type CheckedOptions, checkSandboxOptions, type SandboxOptions } from './options';

/**
 * How a module is compiled: {@link SandboxOptions} as the components have them in which it is to run, and what ends the waiting. The
 * compiler itself cannot be stopped: it goes on in its thread, and what it makes is thrown away.
 *
 * @example
 * ```ts
 * const options: CompileOptions = { fuel: true, timeout: 5_000 };
 * const module = await CompiledModule.compile('wasmer', wasm, options);
 * ```
 */
export interface CompileOptions extends SandboxOptions {
  /** The most wall time in ms, above 0. */
  readonly timeout?: number | undefined;
  /** Ends the waiting with the signal's `reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** What a {@link CompiledModule} stands for. */
export interface CompiledParts {
  readonly module: GuestModule;
  readonly engine: Engine;
  readonly byteLength: number;
}

/**
 * What a compiled module stands for; undefined for anything else.
 *
 * @internal
 */
export let moduleOf: (value: unknown) => CompiledParts | undefined;

/**
 * A compiled module: give it to `instantiate` in place of the binary, as often as you like. The WebAssembly JavaScript Interface has
 * `WebAssembly.Module` for it ("Modules"); the reference compiles where it instantiates.
 *
 * @example
 * ```ts
 * const module = await CompiledModule.compile('wasmer', wasm, { signal: AbortSignal.timeout(5000) });
 * components.instantiate(Instantiate.Version1, module, env, supervisor);
 * ```
 */
export class CompiledModule extends Object {
  /** Whose code it is. */
  readonly backend: SandboxBackend;
  readonly #module: GuestModule;
  readonly #engine: Engine;
  readonly #byteLength: number;
  readonly #serialize: () => ArrayBuffer;

  private constructor(
    key: typeof INTERNAL,
    backend: SandboxBackend,
    engine: Engine,
    module: GuestModule,
    byteLength: number,
    serialize: () => ArrayBuffer,
  ) {
    super();
    assertInternal(key, 'CompiledModule.compile');
    this.backend = backend;
    this.#engine = engine;
    this.#module = module;
    this.#byteLength = byteLength;
    this.#serialize = serialize;
  }

  static {
    defineHandle(
      CompiledModule,
      'CompiledModule',
      (value) => #module in value,
      (module) => ({
        backend: module.backend,
        bytes: module.#byteLength,
        imports: someNames(module.#module.imports, (one) => `${one.module}.${one.name}`),
        exports: someNames(module.#module.exports, ({ name }) => name),
      }),
    );
    moduleOf = (value) => {
      if (typeof value !== 'object' || value === null || !(#module in value)) return undefined;
      return { module: value.#module, engine: value.#engine, byteLength: value.#byteLength };
    };
  }

  /**
   * Compiles a module on a native thread, through the cache that `options` name. Like `WebAssembly.compile`.
   *
   * @param backend - whose code it is to be
   * @param wasm - the module's binary, of which a copy is taken
   * @param options - those of the components in which it is to run, and what ends the waiting: `timeout` (ms) and `signal`
   * @returns a Promise of the module. The method never throws: the Promise rejects, with one of these
   * @throws an {@link InstantiationError} (`ERR_SANDBOX_INSTANTIATION`) of the kind `ModuleDecoding` if the module is refused
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if it has more bytes than `limits.moduleBytes` says
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for arguments of the wrong type, and for an unknown or wrong option
   * @throws a {@link SandboxError} (`ERR_SANDBOX_TIMEOUT`) if it takes longer than `options.timeout`
   * @throws the `reason` of `options.signal` if that is aborted
   * @example
   * ```ts
   * const module = await CompiledModule.compile(SandboxBackend.Wasmi, wasm);
   * const made = components.instantiate(Instantiate.Version1, module, env, supervisor);
   * ```
   */
  static async compile(
    backend: SandboxBackend,
    wasm: BufferSource,
    options?: CompileOptions,
  ): Promise<CompiledModule> {
    const { checked, waiting } = checkCompileOptions(backend, options);
    const { engine, limits } = checked;
    const given = moduleBytes(wasm, 'wasm');
    refuseModule(lengthOf(given), limits);
    // A copy, because the caller may write to it meanwhile.
    const binary = copyOf(given);
    const module = await compileAsync(binary, checked, waiting);
    const serialize = (): ArrayBuffer => native.serializeModule(engine.number, module.id, binary);
    return new CompiledModule(INTERNAL, backend, engine, module, binary.length, serialize);
  }

  /**
   * What the module imports, in the order of its binary; frozen. The WebAssembly JavaScript Interface has it as `WebAssembly.Module.imports`.
   *
   * @example
   * ```ts
   * const module = await CompiledModule.compile('wasmi', wasm);
   * const functions = module.imports.filter(({ kind }) => kind === 'function');
   * ```
   */
  get imports(): readonly ImportDescription[] {
    return this.#module.imports;
  }

  /**
   * What the module exports, in the order of its binary; frozen. The WebAssembly JavaScript Interface has it as `WebAssembly.Module.exports`.
   *
   * @example
   * ```ts
   * const module = await CompiledModule.compile('wasmi', wasm);
   * const isPlugin = module.exports.some(({ name, kind }) => name === 'run' && kind === 'function');
   * ```
   */
  get exports(): readonly ExportDescription[] {
    return this.#module.exports;
  }

  /**
   * The module as bytes, for {@link CompiledModule.unsafeDeserialize}: its binary and its machine code. wasmer has the latter as
   * `Module::serialize`.
   *
   * @returns the bytes, a new array
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) on wasmi, which makes no machine code: keep the binary, it compiles in no time
   * @example
   * ```ts
   * import { writeFile } from 'node:fs/promises';
   *
   * const module = await CompiledModule.compile(SandboxBackend.Wasmer, wasm);
   * await writeFile('guest.cwasm', module.serialize());
   * ```
   */
  serialize(): Uint8Array {
    if (this.backend !== 'wasmer') {
      throw new ArgumentError('this must be a module of wasmer: wasmi makes no machine code', {
        argument: 'this',
      });
    }
    try {
      return new Uint8Array(this.#serialize());
    } catch (error) {
      throw compileError(error, undefined);
    }
  }

  /**
   * Loads a module that {@link CompiledModule.serialize} gave, in milliseconds. **The machine code in it is run as it is**: whoever can
   * change the bytes can run any code in your process. Damage is found, forgery is not. wasmer has it as `Module::deserialize`.
   *
   * @param backend - `'wasmer'`
   * @param serialized - the bytes, of which a copy is taken
   * @param options - the same as when it was compiled
   * @returns the module
   * @throws an {@link InstantiationError} (`ERR_SANDBOX_INSTANTIATION`) of the kind `ModuleDecoding` for bytes that are damaged, or were made
   *   by another version, with other options or for another kind of processor: compile the binary again then
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if its binary has more bytes than `limits.moduleBytes` says
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for another backend, for what are no bytes, and for an unknown or wrong option
   * @example
   * ```ts
   * import { readFile } from 'node:fs/promises';
   *
   * // A file that nobody else can write to.
   * const module = CompiledModule.unsafeDeserialize(SandboxBackend.Wasmer, await readFile('guest.cwasm'));
   * ```
   */
  static unsafeDeserialize(
    backend: SandboxBackend,
    serialized: BufferSource,
    options?: SandboxOptions,
  ): CompiledModule {
    oneOf(backend, 'backend', BACKENDS);
    if (backend !== 'wasmer')
      throw argumentError('backend', "'wasmer', as wasmi makes no machine code", backend);
    const { engine, limits } = checkSandboxOptions(backend, options);
    // A copy, because what is checked must be what is run, and because it is asked for again.
    const copy = copyOf(moduleBytes(serialized, 'serialized', 'what CompiledModule.serialize gave'));
    let deserialized: DeserializedModule;
    try {
      deserialized = native.deserializeModule(engine.number, copy);
    } catch (error) {
      throw compileError(error, looksLikeInPlaceOfSerialized(copy));
    }
    const module = guestModule(deserialized.wrapper);
    const length = deserialized.binaryBytes;
    refuseModule(length, limits);
    return new CompiledModule(INTERNAL, backend, engine, module, length, () => copyOf(copy).buffer);
  }
}

function checkCompileOptions(
  backend: SandboxBackend,
  options: CompileOptions | undefined,
): { checked: CheckedOptions; waiting: StopConditions | undefined } {
  oneOf(backend, 'backend', BACKENDS);
  // A copy has only its own properties, as with the options of everything else.
  const given: CompileOptions = options === undefined ? {} : { ...object(options, 'options') };
  const { timeout, signal, ...sandbox } = given;
  const checked = checkSandboxOptions(backend, sandbox as SandboxOptions);
  const waiting = checkInvokeOptions({ timeout, signal } as InvokeOptions, false);
  return { checked, waiting };
}
