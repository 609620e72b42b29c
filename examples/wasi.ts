/**
 * A WASI (preview 1) host for guests of a sandbox. Each WASI function is a supervisor function that reads and writes the
 * guest's memory. @bjorn3/browser_wasi_shim implements the functions. It was written for V8's own WebAssembly objects, so
 * this file gives it a guest's memory, and converts between its numbers and `Value`s.
 */

import {
  type JsSupervisor,
  type Memory,
  type SandboxInstance,
  type SupervisorContext,
  TrapError,
  Value,
} from 'sandbox-host';

/** The arguments, environment and files of a program. */
export interface WasiOptions {
  /** The command line, starting with the program's name. Use only ASCII: the shim counts characters where it should count bytes. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The files, by name, of the only folder that the program can see. They exist only in memory. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** The path at which the program sees that folder. */
  readonly folder?: string;
  /** Called for each line, as soon as the program has printed it. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
}

/** One run of a WASI program: its arguments, files and output. Make another `WasiHost` to run the program again. */
export class WasiHost {
  /** The module name that WASI programs import. */
  static readonly MODULE = 'wasi_snapshot_preview1';

  /** The lines that the program has printed so far. */
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  /** How many times the program has called a WASI function. */
  calls = 0;

  readonly #functions: WasiFunctions;
  readonly #files: Map<string, unknown>;
  readonly #lines: readonly LineSplitter[];
  readonly #isExit: (error: unknown) => error is { readonly code: number };
  #memory: Memory | undefined;

  static async create(options: WasiOptions): Promise<WasiHost> {
    return new WasiHost(await loadShim(), options);
  }

  private constructor(shim: Shim, { args, env = {}, files = {}, folder = '/files', onLine }: WasiOptions) {
    const [out, err] = (['stdout', 'stderr'] as const).map(
      (stream) =>
        new LineSplitter((line) => {
          this[stream].push(line);
          onLine?.(line, stream);
        }),
    );
    this.#lines = [out, err];
    this.#files = new Map(
      Object.entries(files).map(([name, content]) => {
        const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
        return [name, new shim.File(bytes)];
      }),
    );
    const wasi = new shim.WASI(
      [...args],
      Object.entries(env).map(([name, value]) => `${name}=${value}`),
      [
        new shim.OpenFile(new shim.File([])),
        new shim.ConsoleStdout((bytes) => out.push(bytes)),
        new shim.ConsoleStdout((bytes) => err.push(bytes)),
        new shim.PreopenDirectory(
          folder,
          this.#files as ConstructorParameters<typeof shim.PreopenDirectory>[1],
        ),
      ],
      { debug: false },
    );
    // The shim reads `memory.buffer` anew in each call, because in V8 growth detaches the buffer. `Memory.buffer` behaves
    // the same, so a getter is enough, and no bytes are copied.
    const buffer = () => {
      if (this.#memory === undefined) throw new Error('the guest has no memory');
      return this.#memory.buffer;
    };
    const memory = {
      get buffer() {
        return buffer();
      },
    };
    wasi.inst = { exports: { memory } } as unknown as typeof wasi.inst;
    this.#functions = wasi.wasiImport as WasiFunctions;
    this.#isExit = (error) => error instanceof shim.WASIProcExit;
  }

  /** The names of all WASI functions. */
  get names(): readonly string[] {
    return Object.keys(this.#functions);
  }

  /**
   * Calls a WASI function for the guest that has this memory.
   *
   * @throws what the function throws; `proc_exit` always throws an error that {@link WasiHost.run} recognises
   */
  call(name: string, args: readonly Value[], memory: Memory | undefined): Value | undefined {
    this.calls += 1;
    this.#memory = memory;
    const result = this.#functions[name](...args.map((arg, index) => toNumber(arg, name, index)));
    // If the shim returns nothing, V8 converts that to zero, which means "success".
    return name === 'proc_exit' ? undefined : Value.I32(typeof result === 'number' ? result | 0 : 0);
  }

  /** Defines all WASI functions as supervisor functions, and returns their indices by name. */
  define(supervisor: JsSupervisor): Map<string, number> {
    return new Map(
      this.names.map((name) => [
        name,
        supervisor.define((args, { memory }) => this.call(name, args, memory)),
      ]),
    );
  }

  /** Runs a program from its `_start` to its end, and returns its exit status. */
  run(instance: SandboxInstance, context: SupervisorContext): number {
    try {
      instance.invoke('_start', [], context);
      return 0;
    } catch (error) {
      // `proc_exit` throws in a supervisor function, so the guest traps. The `cause` of the TrapError is the thrown object
      // itself.
      const cause = error instanceof TrapError ? error.cause : undefined;
      if (this.#isExit(cause)) return cause.code;
      throw error;
    } finally {
      for (const lines of this.#lines) lines.end();
    }
  }

  /** Returns the text of a file in the program's folder, as the program left it; undefined if the file does not exist. */
  file(name: string): string | undefined {
    const file = this.#files.get(name) as { readonly data: Uint8Array } | undefined;
    return file && new TextDecoder().decode(file.data);
  }
}

// The shim is an ES module, and this file may be compiled to CommonJS, which can load an ES module only with `import()`.
const loadShim = () => import('@bjorn3/browser_wasi_shim');
type Shim = Awaited<ReturnType<typeof loadShim>>;

type WasiFunctions = Readonly<Record<string, (...args: (number | bigint)[]) => unknown>>;

/**
 * Returns the number or bigint that the shim expects. WebAssembly's integers have no sign and `Value`s are signed, but
 * WASI's integers are unsigned, for example pointers beyond 2 GiB. The only exception is the offset of `fd_seek`.
 */
function toNumber(value: Value, name: string, index: number): number | bigint {
  switch (value.type) {
    case 'i32':
      return value.value >>> 0;
    case 'i64':
      return name === 'fd_seek' ? value.value : BigInt.asUintN(64, value.value);
    default:
      throw new TypeError(`argument ${index} of ${name} is an ${value.type}, and no WASI function has one`);
  }
}

/** Splits a program's output into lines. A character or a line may arrive in several pieces. */
class LineSplitter {
  readonly #decoder = new TextDecoder();
  readonly #onLine: (line: string) => void;
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(line);
  }

  /** Emits the last line if it has no line break. */
  end(): void {
    const line = this.#rest + this.#decoder.decode();
    this.#rest = '';
    if (line !== '') this.#onLine(line);
  }
}
