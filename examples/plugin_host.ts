/**
 * A host for untrusted plugins, with six plugins: one that does its work, and five that misbehave. A plugin receives a text and answers
 * with a text. `docs/guides/untrusted-plugins.md` has the reasons for what the host does.
 * `node --require ts-node/register examples/plugin_host.ts`
 */

import {
  CompiledModule,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  type InvokeOptions,
  JsSupervisor,
  type Memory,
  SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  type SandboxOptions,
  TrapError,
  Value,
  type ValueOf,
  type ValueType,
} from 'sandbox-host';
import wabt from 'wabt';

/** The limits of all plugins of this host. */
const OPTIONS: SandboxOptions = {
  fuel: true,
  limits: {
    memoryBytes: 16 * 65_536,
    tableElements: 10_000,
    // A plugin brings its own memory. The host gives it none.
    memories: 0,
    instances: 1,
    moduleBytes: 1_000_000,
    recursionDepth: 5_000,
  },
  // Otherwise a plugin could bring a hundred memories, each as large as the limit.
  features: { multiMemory: false },
};

/** The budget of one call into a plugin. */
const BUDGET: InvokeOptions = { fuel: 10_000_000n, timeout: 10_000 };
const COMPILE_TIMEOUT_MS = 10_000;
/** The longest text that the host accepts from a plugin. */
const MOST_TEXT_BYTES = 10_000;

/**
 * A plugin exports `memory`, `allocate(size: i32) -> i32`, which reserves space for the text that the plugin receives, and
 * `run(ptr: i32, len: i32) -> i64`, which returns the address and length of the answer: `ptr << 32 | len`. A plugin may import
 * `host.log(ptr: i32, len: i32)`.
 */
class Plugin {
  readonly #components: SandboxComponents;
  readonly #supervisor: JsSupervisor;
  readonly #instance: SandboxInstance;
  readonly #memory: Memory;

  /** Compiles and instantiates a plugin on other threads, so that the event loop stays free. */
  static async load(
    backend: SandboxBackend,
    wasm: Uint8Array,
    onLog: (text: string) => void,
  ): Promise<Plugin> {
    const module = await CompiledModule.compile(backend, wasm, { ...OPTIONS, timeout: COMPILE_TIMEOUT_MS });
    const components = new SandboxComponents(backend, OPTIONS);
    const supervisor = new JsSupervisor();
    const log = supervisor.define(([ptr, len], { memory }) => {
      if (memory === undefined) throw new Error('a plugin without a memory has nothing to log');
      onLog(textAt(memory, Value.toNumber(ptr) >>> 0, Value.toNumber(len) >>> 0));
    });
    // A plugin can reach nothing that is not in this environment.
    const definition = new EnvironmentDefinitionBuilder().addHostFunc('host', 'log', log).encode();
    const env = GuestEnvironment.decode(components, definition);
    // This call has a budget, because a start function is also the plugin's code.
    const made = await components.instantiateAsync(Instantiate.Version1, module, env, supervisor, BUDGET);
    const instance = components.instance(made.register(components, undefined));
    return new Plugin(components, supervisor, instance);
  }

  private constructor(components: SandboxComponents, supervisor: JsSupervisor, instance: SandboxInstance) {
    const memory = instance.getMemory('memory');
    if (memory === undefined) throw new Error('the plugin exports no memory');
    this.#components = components;
    this.#supervisor = supervisor;
    this.#instance = instance;
    this.#memory = memory;
  }

  /** The number of pages, of 64 KiB each, in the plugin's memory. */
  get pages(): number {
    return this.#memory.memorySize();
  }

  /** Gives the plugin a text and returns its answer. Make one call at a time: a running call has exclusive use of the memory. */
  async run(text: string, budget = BUDGET): Promise<string> {
    const bytes = new TextEncoder().encode(text);
    // `allocate` is also the plugin's code. Whatever address it returns, `writeFrom` writes to the plugin's memory or throws.
    const ptr = only('i32', await this.#call('allocate', [Value.I32(bytes.length)], budget));
    this.#memory.writeFrom(ptr.value >>> 0, bytes);
    const packed = only('i64', await this.#call('run', [ptr, Value.I32(bytes.length)], budget));
    const answer = BigInt.asUintN(64, packed.value);
    return textAt(this.#memory, Number(answer >> 32n), Number(answer & 0xffff_ffffn));
  }

  #call(exportName: string, args: readonly Value[], budget: InvokeOptions) {
    return this.#instance.invokeAsync(exportName, args, this.#supervisor, budget);
  }

  /** Releases everything that the plugin has. */
  [Symbol.dispose](): void {
    this.#components.clear();
  }
}

/** Reads a text from a plugin's memory. The address and the length come from the plugin, so they may be anything. */
function textAt(memory: Memory, ptr: number, len: number): string {
  if (len > MOST_TEXT_BYTES) throw new RangeError(`a text of ${len} bytes is too long`);
  // `read` throws if any part of the text is outside the memory.
  return new TextDecoder().decode(memory.read(ptr, len));
}

/** Checks the result of an export, because the plugin chooses its type. */
function only<T extends ValueType>(type: T, result: Value | Value[] | undefined): ValueOf<T> {
  if (result === undefined || Array.isArray(result) || result.type !== type) {
    throw new TypeError(`the plugin returned something else than an ${type}`);
  }
  return result as ValueOf<T>;
}

// --- the plugins ----------------------------------------------------------------------------------------------------

/** The parts that all plugins share: a memory, and an allocator that never frees. */
function plugin(run: string): string {
  return `(module
    (import "host" "log" (func $log (param $ptr i32) (param $len i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "memory.grow gave -1")
    (global $free (mut i32) (i32.const 1024))
    (func (export "allocate") (param $size i32) (result i32)
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get $size))))
    (func $packed (param $ptr i32) (param $len i32) (result i64)
      (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
    (func (export "run") (param $ptr i32) (param $len i32) (result i64)
      (local $at i32) (local $byte i32)
      ${run}))`;
}

const PLUGINS: Readonly<Record<string, { readonly wat: string; readonly budget?: InvokeOptions }>> = {
  /** Logs the text that it receives, and converts it to capitals. */
  good: {
    wat: plugin(`
      (call $log (local.get $ptr) (local.get $len))
      (local.set $at (local.get $ptr))
      (loop $next
        (local.set $byte (i32.load8_u (local.get $at)))
        (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))
          (then (i32.store8 (local.get $at) (i32.sub (local.get $byte) (i32.const 32)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (i32.add (local.get $ptr) (local.get $len)))))
      (call $packed (local.get $ptr) (local.get $len))`),
  },
  /** Never returns, and has no fuel budget here, so only the timeout ends it. */
  endless: { wat: plugin('(loop $again (br $again)) unreachable'), budget: { timeout: 100 } },
  /** The same with a fuel budget, which ends it at the same instruction on every machine. */
  busy: { wat: plugin('(loop $again (br $again)) unreachable') },
  /** Takes as much memory as it can get. */
  hungry: {
    wat: plugin(`
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      (call $packed (i32.const 16) (i32.const 19))`),
  },
  /** Reads outside its memory. */
  curious: { wat: plugin('(i64.load (i32.const -8))') },
  /** Asks the host to read outside the plugin's memory. */
  liar: {
    wat: plugin('(call $log (i32.const -16) (i32.const 100)) (call $packed (i32.const 0) (i32.const 0))'),
  },
};

/** Describes the failure of a plugin in words. */
function describe(error: unknown): string {
  if (error instanceof TrapError && error.trap === 'supervisor') {
    // `cause` is the object that the supervisor function threw.
    return `${error.code} ${error.trap}: ${(error.cause as Error).message}`;
  }
  if (error instanceof TrapError) return `${error.code} ${error.trap}`;
  if (error instanceof SandboxError) return error.code;
  // The answer of the plugin was wrong.
  return String(error);
}

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  for (const backend of Object.values(SandboxBackend)) {
    for (const [name, { wat, budget }] of Object.entries(PLUGINS)) {
      const wasm = parseWat(`${name}.wat`, wat).toBinary({}).buffer;
      const print = (text: string): void => console.log(`${backend}: ${name}: ${text}`);
      using loaded = await Plugin.load(backend, wasm, (text) => print(`logs "${text}"`));
      try {
        print(`answers "${await loaded.run('hello, plugin', budget)}"`);
      } catch (error) {
        print(`fails with ${describe(error)}`);
      }
      if (loaded.pages > 1) print(`has ${loaded.pages} pages`);
    }
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
