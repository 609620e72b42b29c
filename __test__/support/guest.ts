// Builds a running guest in one call: components, memory, environment, supervisor functions, instance.
// Imports are named `module.field`; the supervisor is a JsSupervisor unless the test brings another one.
import {
  Instantiate,
  JsSupervisor,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorContext,
  type Value,
} from '../../index';
import { environment } from './environment';
import { wat } from './wat';

/** A function given to a JsSupervisor. */
export type GuestFunction = Parameters<JsSupervisor['define']>[0];
/** The second argument of such a function. */
export type GuestCall = Parameters<GuestFunction>[1];
/** Any supervisor that functions can be added to. */
export type DefiningSupervisor = SupervisorContext & { define(fn: GuestFunction): number };

export interface GuestOptions {
  backend: SandboxBackend;
  wat: string;
  version?: Instantiate;
  /** What the guest imports, by `module.field`. */
  imports?: Record<string, GuestFunction>;
  /** Imported by the guest as `env.memory`. An index is a memory that exists already. */
  memory?: { initial: number; maximum?: number } | number;
  /** Put the guest into these instead of new ones. */
  components?: SandboxComponents<unknown>;
  /** Instead of a new JsSupervisor. */
  supervisor?: DefiningSupervisor;
}

/** A running guest and what it takes to call it. */
export class Guest {
  readonly components: SandboxComponents<unknown>;
  readonly supervisor: DefiningSupervisor;
  readonly instance: SandboxInstance;
  readonly index: number;
  readonly #memoryIndex: number | undefined;

  constructor(options: GuestOptions) {
    this.components = options.components ?? new SandboxComponents<unknown>(options.backend);
    this.supervisor = options.supervisor ?? new JsSupervisor();
    this.#memoryIndex = importedMemory(this.components, options.memory);
    const functions: Record<string, number> = {};
    for (const [name, fn] of Object.entries(options.imports ?? {}))
      functions[name] = this.supervisor.define(fn);
    const memories = this.#memoryIndex === undefined ? {} : { 'env.memory': this.#memoryIndex };
    const version = options.version ?? Instantiate.Version1;
    const env = environment(this.components, functions, memories);
    this.index = this.components
      .instantiate(version, wat(options.wat), env, this.supervisor)
      .register(this.components, undefined);
    this.instance = this.components.instance(this.index);
  }

  /** Calls an export. */
  readonly call = (exportName: string, ...args: Value[]): Value | Value[] | undefined =>
    this.instance.invoke(exportName, args, this.supervisor);

  /** The imported memory or the exported one named `memory`. */
  get memory(): Memory {
    const index = this.#memoryIndex;
    const memory = index === undefined ? this.instance.getMemory('memory') : this.components.memory(index);
    if (!memory) throw new Error('this guest neither imports nor exports a memory');
    return memory;
  }

  /** Of the imported memory. */
  get memoryIndex(): number {
    if (this.#memoryIndex === undefined) throw new Error('this guest imports no memory');
    return this.#memoryIndex;
  }
}

export function guest(options: GuestOptions): Guest {
  return new Guest(options);
}

function importedMemory(
  components: SandboxComponents<unknown>,
  memory: GuestOptions['memory'],
): number | undefined {
  if (memory === undefined || typeof memory === 'number') return memory;
  return memory.maximum === undefined
    ? components.newMemory(memory.initial)
    : components.newMemory(memory.initial, memory.maximum);
}
