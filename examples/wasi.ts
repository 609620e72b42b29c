/**
 * A WASI (preview 1) host for guests of a sandbox: each WASI function is a supervisor function that reads and writes
 * the guest's memory. What the functions do is @bjorn3/browser_wasi_shim's affair, which was written for V8's own
 * WebAssembly objects; this file gives it a guest's memory and turns its numbers into `Value`s and back.
 */

import {
  type JsSupervisor,
  type Memory,
  type SandboxInstance,
  type SupervisorContext,
  TrapError,
  Value,
} from 'sandbox-host';

/** What a program is started with. */
export interface WasiOptions {
  /** The command line, the program's name first. Keep it to ASCII: the shim counts characters where it means bytes. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files of the one folder that the program can see, by their names. They live in memory only. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Where the program sees that folder. */
  readonly folder?: string;
  /** Called for each line that the program prints, when it prints it. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
}

/** One run of a WASI program: its arguments, files and output. Make another one to run the program again. */
export class WasiHost {
  /** The module name that WASI programs import. */
  static readonly MODULE = 'wasi_snapshot_preview1';

  /** What the program printed so far, line by line. */
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  /** How often it called a WASI function. */
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
    // The shim asks for `memory.buffer` in each call anew, as it must with V8, where growth detaches the buffer. It is
    // the same here, so a getter is all that it takes: no bytes are copied.
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

  /** The names of the WASI functions that there are. */
  get names(): readonly string[] {
    return Object.keys(this.#functions);
  }

  /**
   * Calls a WASI function as the guest whose memory that is.
   *
   * @throws what the function throws; `proc_exit` throws always, and {@link WasiHost.run} knows that error again
   */
  call(name: string, args: readonly Value[], memory: Memory | undefined): Value | undefined {
    this.calls += 1;
    this.#memory = memory;
    const result = this.#functions[name](...args.map((arg, index) => toNumber(arg, name, index)));
    // Where the shim returns nothing, V8 makes a zero of it, which is the number for "success".
    return name === 'proc_exit' ? undefined : Value.I32(typeof result === 'number' ? result | 0 : 0);
  }

  /** Defines all WASI functions as supervisor functions, and gives their indices by name. */
  define(supervisor: JsSupervisor): Map<string, number> {
    return new Map(
      this.names.map((name) => [
        name,
        supervisor.define((args, { memory }) => this.call(name, args, memory)),
      ]),
    );
  }

  /** Runs a program from its `_start` to its end and gives its exit status. */
  run(instance: SandboxInstance, context: SupervisorContext): number {
    try {
      instance.invoke('_start', [], context);
      return 0;
    } catch (error) {
      // Leaving by `proc_exit` is an exception that a supervisor function threw, so it traps the guest, and comes out
      // as the `cause`: the very object that was thrown.
      const cause = error instanceof TrapError ? error.cause : undefined;
      if (this.#isExit(cause)) return cause.code;
      throw error;
    } finally {
      for (const lines of this.#lines) lines.end();
    }
  }

  /** The text of a file in the program's folder, as the program left it; undefined if there is none. */
  file(name: string): string | undefined {
    const file = this.#files.get(name) as { readonly data: Uint8Array } | undefined;
    return file && new TextDecoder().decode(file.data);
  }
}

// The shim is an ES module, and this file may be compiled to CommonJS, which can load one only in this way.
const loadShim = () => import('@bjorn3/browser_wasi_shim');
type Shim = Awaited<ReturnType<typeof loadShim>>;

type WasiFunctions = Readonly<Record<string, (...args: (number | bigint)[]) => unknown>>;

/**
 * The number or bigint that the shim expects. WebAssembly's integers have no sign of their own, and `Value`s are
 * signed, but in WASI all are unsigned: pointers beyond 2 GiB, for example. The one exception is where to seek to.
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

/** Cuts what a program writes into lines; a character or a line may come in several pieces. */
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

  /** Gives out what is left of a last line without an end. */
  end(): void {
    const line = this.#rest + this.#decoder.decode();
    this.#rest = '';
    if (line !== '') this.#onLine(line);
  }
}
