// A supervisor that runs in V8 and drives its guests with the real crate `gear-sandbox` 1.10.0: crate/support/gear-supervisor, which
// scripts/gear-supervisor.mjs builds. Here its exports become what they stand for; their contract is that crate's src/lib.rs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  codec,
  type SandboxBackend,
  SandboxHost,
  type SupervisorMemoryObject,
  type SupervisorTableObject,
  type Value,
} from '../../index';
import { V8 } from './v8';

/** What a supervisor that traps throws, if the host did not. */
export const { RuntimeError } = V8;

let compiled: object | undefined;

function supervisorModule(): object {
  compiled ??= new V8.Module(readFileSync(join(__dirname, '..', 'vectors', 'gear_supervisor.wasm')));
  return compiled;
}

/** What the supervisor imports. */
export function supervisorImports(): { module: string; name: string; kind: string }[] {
  return V8.Module.imports(supervisorModule());
}

/** The functions that the supervisor has for its guests, by the numbers that it knows them by. */
export const supervisorFunctions = [
  'add',
  'sub',
  'nothing',
  'fail',
  'abort',
  'reenter',
  'grow',
  'peek',
  'floats',
  'drop_running',
] as const;

export type SupervisorFunctionName = (typeof supervisorFunctions)[number];

/** The variants of `gear_sandbox::Error`, from -1 downwards. */
const ERRORS = ['Module', 'OutOfBounds', 'MemoryGrow', 'Execution'] as const;
/** The variants of `gear_sandbox::GlobalsSetError`, likewise. */
const GLOBALS_ERRORS = ['NotFound', 'Other'] as const;

export type GearErrorName = (typeof ERRORS)[number] | (typeof GLOBALS_ERRORS)[number];

/** The `Err` of a `Result` of `gear-sandbox`. */
export class GearError extends Error {
  readonly variant: GearErrorName;

  constructor(variant: GearErrorName) {
    super(`gear-sandbox returned Err(${variant})`);
    this.variant = variant;
  }
}

/** What a negative number stands for is thrown. */
function checked(result: number, errors: readonly GearErrorName[] = ERRORS): number {
  if (result >= 0) return result;
  const variant = errors[-result - 1];
  throw variant === undefined ? new Error(`no error has the number ${result}`) : new GearError(variant);
}

/** The exports of the supervisor. What is lent takes two parameters each: its address and its length. */
interface Exports {
  readonly memory: SupervisorMemoryObject;
  readonly __indirect_function_table: SupervisorTableObject;
  allocate(size: number): number;
  deallocate(pointer: number): void;
  allocated_blocks(): number;
  memory_new(initial: number, maximum: bigint): number;
  memory_clone(memory: number): number;
  memory_read(memory: number, offset: number, ...lent: number[]): number;
  memory_write(memory: number, offset: number, ...lent: number[]): number;
  memory_grow(memory: number, pages: number): number;
  memory_size(memory: number): number;
  memory_buff(memory: number): bigint;
  memory_drop(memory: number): void;
  env_new(): number;
  env_add_host_func(env: number, ...lentAndWhich: number[]): number;
  env_add_memory(env: number, ...lentAndMemory: number[]): number;
  env_drop(env: number): void;
  instance_new(env: number, ...lent: number[]): number;
  instance_invoke(instance: number, ...lentAndOut: number[]): number;
  instance_get_global(instance: number, ...lentAndOut: number[]): number;
  instance_set_global(instance: number, ...lent: number[]): number;
  instance_ptr(instance: number): bigint;
  instance_drop(instance: number): void;
  calls(): number;
  set_nested(instance: number): void;
  set_memory(memory: number): void;
  release(): void;
}

const NO_MAXIMUM = -1n;
/** Enough for a SCALE-encoded `ReturnValue`. */
const OUT_BYTES = 10;

export interface GearSupervisorOptions {
  /** Called whenever the host allocates in the supervisor's memory, which it does in each call of a guest. */
  readonly onAllocate?: () => void;
}

/** A supervisor with its host. */
export class GearSupervisor {
  readonly host: SandboxHost;
  readonly exports: Exports;
  readonly #made: Owned[] = [];

  constructor(backend: SandboxBackend, { onAllocate }: GearSupervisorOptions = {}) {
    this.host = new SandboxHost({
      backend,
      memory: () => this.exports.memory,
      table: () => this.exports.__indirect_function_table,
      allocator: {
        allocate: (size) => {
          onAllocate?.();
          return this.exports.allocate(size);
        },
        deallocate: (pointer) => this.exports.deallocate(pointer),
      },
    });
    this.exports = new V8.Instance(supervisorModule(), this.host.imports).exports as Exports;
  }

  /** `Memory::new`. */
  memory(initial: number, maximum?: number): GearMemory {
    const most = maximum === undefined ? NO_MAXIMUM : BigInt(maximum);
    return this.own(new GearMemory(this, checked(this.exports.memory_new(initial, most))));
  }

  /** `EnvironmentDefinitionBuilder::new`. */
  environment(): GearEnvironment {
    return this.own(new GearEnvironment(this, checked(this.exports.env_new())));
  }

  /** `Instance::new`. */
  instance(environment: GearEnvironment, wasm: Uint8Array): GearInstance {
    const handle = this.lend([wasm], (...code) => this.exports.instance_new(environment.handle, ...code));
    return this.own(new GearInstance(this, checked(handle)));
  }

  /** How many blocks of the supervisor's memory are in use, by itself and by the host. */
  get allocatedBlocks(): number {
    return this.exports.allocated_blocks();
  }

  /** How often guests have called functions of the supervisor. */
  get calls(): number {
    return this.exports.calls();
  }

  /** How many pages the supervisor's own memory has. */
  get pages(): number {
    return this.exports.memory.buffer.byteLength / 65_536;
  }

  /** What the host has, by the indices that it gave out: `memory 0`, `instance 0`. */
  get alive(): string[] {
    // Not asked of `components`, which would hand them out, and what was handed out lives longer.
    const { ext_sandbox_memory_size_version_1, ext_sandbox_get_instance_ptr_version_1 } =
      this.host.imports.env;
    return [
      ...indicesOf('memory', ext_sandbox_memory_size_version_1),
      ...indicesOf('instance', ext_sandbox_get_instance_ptr_version_1),
    ];
  }

  /** Drops all that was made and not dropped yet. */
  dropAll(): void {
    for (const owned of this.#made.reverse()) owned.drop();
    this.exports.release();
  }

  /** Takes note of what was made. */
  own<T extends Owned>(made: T): T {
    this.#made.push(made);
    return made;
  }

  /** Lends bytes and texts to the supervisor for one call, which gets the address and the length of each. */
  lend<R>(given: readonly (Uint8Array | string)[], call: (...ranges: number[]) => R): R {
    const { exports } = this;
    const lent = given.map((each) => {
      const bytes = typeof each === 'string' ? Buffer.from(each) : each;
      const pointer = exports.allocate(bytes.length) >>> 0;
      new Uint8Array(exports.memory.buffer).set(bytes, pointer);
      return [pointer, bytes.length];
    });
    try {
      return call(...lent.flat());
    } finally {
      for (const [pointer] of lent) exports.deallocate(pointer);
    }
  }

  /** The bytes that one call writes: those at the address that it gets, as many as it returns. */
  written(size: number, call: (out: number) => number): Uint8Array {
    return this.lend([new Uint8Array(size)], (out) => {
      const length = call(out);
      return new Uint8Array(this.exports.memory.buffer).slice(out, out + length);
    });
  }
}

function indicesOf(what: string, use: (index: number) => unknown): string[] {
  const found: string[] = [];
  for (let index = 0; ; index += 1) {
    try {
      use(index);
      found.push(`${what} ${index}`);
    } catch (error) {
      if (!/torndown/.test((error as Error).message)) return found;
    }
  }
}

/** Something in the supervisor that it knows by a handle. */
abstract class Owned {
  readonly handle: number;
  protected readonly gear: GearSupervisor;
  #isDropped = false;

  constructor(gear: GearSupervisor, handle: number) {
    this.gear = gear;
    this.handle = handle;
  }

  /** Drops it, once: afterwards the handle may be that of another. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.dropHandle(this.gear.exports);
  }

  protected abstract dropHandle(exports: Exports): void;
}

/** `gear_sandbox::default_executor::Memory`. */
export class GearMemory extends Owned {
  /** `Memory::clone`. */
  clone(): GearMemory {
    return this.gear.own(new GearMemory(this.gear, checked(this.gear.exports.memory_clone(this.handle))));
  }

  /** `Memory::read`. */
  read(offset: number, size: number): Uint8Array {
    return this.gear.written(size, (out) => {
      checked(this.gear.exports.memory_read(this.handle, offset, out, size));
      return size;
    });
  }

  /** `Memory::write`. */
  write(offset: number, bytes: Uint8Array): void {
    const { memory_write } = this.gear.exports;
    checked(this.gear.lend([bytes], (...lent) => memory_write(this.handle, offset, ...lent)));
  }

  /** `Memory::grow`. */
  grow(pages: number): number {
    return checked(this.gear.exports.memory_grow(this.handle, pages));
  }

  /** `Memory::size`. */
  get size(): number {
    return this.gear.exports.memory_size(this.handle);
  }

  /** `Memory::get_buff`. */
  get buff(): bigint {
    return BigInt.asUintN(64, this.gear.exports.memory_buff(this.handle));
  }

  protected dropHandle({ memory_drop }: Exports): void {
    memory_drop(this.handle);
  }
}

/** `gear_sandbox::default_executor::EnvironmentDefinitionBuilder`. */
export class GearEnvironment extends Owned {
  /** `EnvironmentDefinitionBuilder::add_host_func`. */
  addHostFunc(module: string, field: string, name: SupervisorFunctionName): this {
    const which = supervisorFunctions.indexOf(name);
    const { env_add_host_func } = this.gear.exports;
    checked(this.gear.lend([module, field], (...lent) => env_add_host_func(this.handle, ...lent, which)));
    return this;
  }

  /** `EnvironmentDefinitionBuilder::add_memory`. */
  addMemory(module: string, field: string, { handle }: GearMemory): this {
    const { env_add_memory } = this.gear.exports;
    checked(this.gear.lend([module, field], (...lent) => env_add_memory(this.handle, ...lent, handle)));
    return this;
  }

  protected dropHandle({ env_drop }: Exports): void {
    env_drop(this.handle);
  }
}

/** `gear_sandbox::default_executor::Instance`. */
export class GearInstance extends Owned {
  /** `Instance::invoke`. */
  invoke(name: string, ...args: Value[]): Value | undefined {
    const { gear, handle } = this;
    const { instance_invoke } = gear.exports;
    const bytes = gear.written(OUT_BYTES, (out) =>
      gear.lend([name, codec.encodeValues(args)], (...lent) =>
        checked(instance_invoke(handle, ...lent, out)),
      ),
    );
    return codec.decodeReturnValue(bytes);
  }

  /** `Instance::get_global_val`. */
  getGlobal(name: string): Value | undefined {
    const { gear, handle } = this;
    const { instance_get_global } = gear.exports;
    const bytes = gear.written(OUT_BYTES, (out) =>
      gear.lend([name], (...lent) => checked(instance_get_global(handle, ...lent, out))),
    );
    return bytes.length === 0 ? undefined : codec.decodeReturnValue(Uint8Array.of(SOME, ...bytes));
  }

  /** `Instance::set_global_val`. */
  setGlobal(name: string, value: Value): void {
    const encoded = codec.encodeReturnValue(value).subarray(1);
    const { instance_set_global } = this.gear.exports;
    const result = this.gear.lend([name, encoded], (...lent) => instance_set_global(this.handle, ...lent));
    checked(result, GLOBALS_ERRORS);
  }

  /** `Instance::get_instance_ptr`. */
  get ptr(): bigint {
    return BigInt.asUintN(64, this.gear.exports.instance_ptr(this.handle));
  }

  /** The gas that it has left. */
  get gas(): bigint | undefined {
    const value = this.getGlobal('gear_gas');
    return value?.type === 'i64' ? value.value : undefined;
  }

  protected dropHandle({ instance_drop }: Exports): void {
    instance_drop(this.handle);
  }
}

/** What comes before a value in a SCALE-encoded `ReturnValue`. */
const SOME = 1;
