// A supervisor in WebAssembly that runs in V8 and does what the client in the crate `gear-sandbox` does: it has a memory, a
// table with dispatch thunks and an allocator, and all its calls of host functions come out of WebAssembly.
// Stands alone, so that scripts in workers and child processes can use it too: the text is compiled by who has `wat`.
import assert from 'node:assert/strict';
import {
  codec,
  EnvironmentDefinitionBuilder,
  type SandboxBackend,
  SandboxHost,
  type SandboxHostOptions,
  type SupervisorAllocator,
  type SupervisorMemoryObject,
  type SupervisorTableObject,
  type Value,
} from '../../index';
import { V8 } from './v8';

/** A function of WebAssembly, as JavaScript sees it. */
// biome-ignore lint/suspicious/noExplicitAny: numbers and bigints, according to its type
export type WasmFunction = (...args: any[]) => any;

/** The host functions by the names under which the supervisor exports them again: [import, parameters, result]. */
export const hostFunctions: Readonly<Record<keyof HostCalls, readonly [string, string, string]>> = {
  memory_new: ['ext_sandbox_memory_new_version_1', 'i32 i32', 'i32'],
  memory_get: ['ext_sandbox_memory_get_version_1', 'i32 i32 i32 i32', 'i32'],
  memory_set: ['ext_sandbox_memory_set_version_1', 'i32 i32 i32 i32', 'i32'],
  memory_grow: ['ext_sandbox_memory_grow_version_1', 'i32 i32', 'i32'],
  memory_size: ['ext_sandbox_memory_size_version_1', 'i32', 'i32'],
  memory_teardown: ['ext_sandbox_memory_teardown_version_1', 'i32', ''],
  instantiate_1: ['ext_sandbox_instantiate_version_1', 'i32 i64 i64 i32', 'i32'],
  instantiate_2: ['ext_sandbox_instantiate_version_2', 'i32 i64 i64 i32', 'i32'],
  invoke: ['ext_sandbox_invoke_version_1', 'i32 i64 i64 i32 i32 i32', 'i32'],
  instance_teardown: ['ext_sandbox_instance_teardown_version_1', 'i32', ''],
  get_global_val: ['ext_sandbox_get_global_val_version_1', 'i32 i64', 'i64'],
  set_global_val: ['ext_sandbox_set_global_val_version_1', 'i32 i64 i64', 'i32'],
  get_buff: ['ext_sandbox_get_buff_version_1', 'i32', 'i64'],
  get_instance_ptr: ['ext_sandbox_get_instance_ptr_version_1', 'i32', 'i64'],
};

/** The host functions, called out of the supervisor's WebAssembly. */
export interface HostCalls {
  memory_new(initial: number, maximum: number): number;
  memory_get(memory: number, offset: number, bufPtr: number, bufLen: number): number;
  memory_set(memory: number, offset: number, valPtr: number, valLen: number): number;
  memory_grow(memory: number, pages: number): number;
  memory_size(memory: number): number;
  memory_teardown(memory: number): void;
  instantiate_1(thunk: number, wasm: bigint, envDef: bigint, state: number): number;
  instantiate_2(thunk: number, wasm: bigint, envDef: bigint, state: number): number;
  invoke(instance: number, name: bigint, args: bigint, retPtr: number, retLen: number, state: number): number;
  instance_teardown(instance: number): void;
  get_global_val(instance: number, name: bigint): bigint;
  set_global_val(instance: number, name: bigint, value: bigint): number;
  get_buff(memory: number): bigint;
  get_instance_ptr(instance: number): bigint;
}

/** What is always in the table, from element 1 on; element 0 is null. */
const ELEMENTS = [
  '$thunk_1',
  '$thunk_2',
  '$thunk_js',
  '$add',
  '$echo',
  '$nothing',
  '$state',
  '$host_error',
  '$trap',
] as const;

/** What a test adds to the supervisor. */
export interface SupervisorParts {
  /** More WAT: functions, globals, exports, data at the addresses 1024 to 4095. */
  readonly definitions?: string;
  /** Names of functions in `definitions` for the table. */
  readonly elements?: readonly string[];
  /** The limits of its memory in pages. */
  readonly memory?: string;
}

const LEAST_HEAP = 4096;

/** The parameters and the result of a dispatch thunk. */
const THUNK = '(param $args i32) (param $len i32) (param $state i32) (param $func i32) (result i64)';
/** Those of a function that the thunks call. Its type is called `$function`. */
export const FUNCTION = '(param $values i32) (param $count i32) (param $state i32) (result i32)';

/**
 * The text of a supervisor. Its thunks take arguments apart, trap if they are not encoded as they must be, and call the
 * element that the guest's import has as its index, as the client does by a function pointer. Such a {@link FUNCTION} gets the
 * address of the first encoded value, how many there are, and the state; it writes its encoded `ReturnValue` to the address
 * 64 and gives the length, or 0 for a `HostError`. Under Version 2 each call costs 10 gas.
 */
export function supervisorText(parts: SupervisorParts = {}): string {
  const { definitions = '', elements = [], memory = '1' } = parts;
  const names = Object.entries(hostFunctions);
  const hostImports = names.map(
    ([name, [field, params, result]]) =>
      `(import "env" "${field}" (func $${name} (param ${params}) ${result && `(result ${result})`}))`,
  );
  const forwarders = names.map(([name, [, params, result]]) => {
    const locals = params.split(' ').map((_type, index) => `(local.get ${index})`);
    return `(func (export "${name}") (param ${params}) ${result && `(result ${result})`} (call $${name} ${locals.join(' ')}))`;
  });
  const all = [...ELEMENTS, ...elements];
  return `(module
  ${hostImports.join('\n  ')}
  (import "js" "answer" (func $answer (param i32 i32 i32 i32) (result i64)))
  (type $function (func ${FUNCTION}))
  (memory (export "memory") ${memory})
  (table (export "table") ${all.length + 1} funcref)
  (elem (i32.const 1) func ${all.join(' ')})
  ${forwarders.join('\n  ')}

  ;; The allocator. Blocks lie one behind another, each behind its mark and the address of the block before it.
  (global $top (mut i32) (i32.const ${LEAST_HEAP}))
  (global $last (mut i32) (i32.const 0))
  (global $live (mut i32) (i32.const 0))
  (global $allocations (mut i32) (i32.const 0))
  (func (export "live") (result i32) (global.get $live))
  (func (export "allocations") (result i32) (global.get $allocations))
  (func $allocate (export "allocate") (param $size i32) (result i32) (local $block i32) (local $end i32)
    (local.set $block (global.get $top))
    (local.set $end (i32.and (i32.add (i32.add (local.get $block) (local.get $size)) (i32.const 15)) (i32.const -8)))
    (loop $more
      (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (then
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 0))))
        (br $more))))
    (i32.store (local.get $block) (i32.const 0x4556494c))
    (i32.store offset=4 (local.get $block) (global.get $last))
    (global.set $last (local.get $block))
    (global.set $top (local.get $end))
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
    (i32.add (local.get $block) (i32.const 8)))
  (func $deallocate (export "deallocate") (param $ptr i32) (local $block i32)
    (local.set $block (i32.sub (local.get $ptr) (i32.const 8)))
    (if (i32.lt_u (local.get $block) (i32.const ${LEAST_HEAP})) (then unreachable))
    (if (i32.ne (i32.load (local.get $block)) (i32.const 0x4556494c)) (then unreachable))
    (i32.store (local.get $block) (i32.const 0))
    (global.set $live (i32.sub (global.get $live) (i32.const 1)))
    (loop $more
      (if (global.get $last) (then
        (if (i32.eqz (i32.load (global.get $last))) (then
          (global.set $top (global.get $last))
          (global.set $last (i32.load offset=4 (global.get $last)))
          (br $more)))))))
  (func (export "grow") (param $pages i32) (result i32) (memory.grow (local.get $pages)))

  ;; The thunks.
  (func $pack (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
  (func $value_size (param $value i32) (result i32)
    (if (i32.gt_u (i32.load8_u (local.get $value)) (i32.const 3)) (then unreachable))
    (select (i32.const 9) (i32.const 5) (i32.and (i32.load8_u (local.get $value)) (i32.const 1))))
  ;; How many values there are, and where the first one is. Traps if they take more or less than all bytes.
  (func $decode (param $args i32) (param $len i32) (result i32 i32)
    (local $count i32) (local $values i32) (local $at i32) (local $left i32)
    (if (i32.and (i32.load8_u (local.get $args)) (i32.const 3))
      (then
        (if (i32.ne (i32.and (i32.load8_u (local.get $args)) (i32.const 3)) (i32.const 1)) (then unreachable))
        (local.set $count (i32.shr_u (i32.load16_u align=1 (local.get $args)) (i32.const 2)))
        (local.set $values (i32.add (local.get $args) (i32.const 2))))
      (else
        (local.set $count (i32.shr_u (i32.load8_u (local.get $args)) (i32.const 2)))
        (local.set $values (i32.add (local.get $args) (i32.const 1)))))
    (local.set $at (local.get $values))
    (local.set $left (local.get $count))
    (loop $more (if (local.get $left) (then
      (local.set $at (i32.add (local.get $at) (call $value_size (local.get $at))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $more))))
    (if (i32.ne (local.get $at) (i32.add (local.get $args) (local.get $len))) (then unreachable))
    (local.get $count) (local.get $values))
  ;; Ok with what stands at 64 behind \`gap\` bytes, or Err if that has no length.
  (func $result (param $len i32) (param $gap i32) (result i32 i32) (local $ptr i32)
    (if (i32.eqz (local.get $len)) (then
      (local.set $ptr (call $allocate (i32.const 1)))
      (i32.store8 (local.get $ptr) (i32.const 1))
      (return (local.get $ptr) (i32.const 1))))
    (local.set $gap (i32.add (local.get $gap) (i32.const 1)))
    (local.set $ptr (call $allocate (i32.add (local.get $len) (local.get $gap))))
    (i32.store8 (local.get $ptr) (i32.const 0))
    (memory.copy (i32.add (local.get $ptr) (local.get $gap)) (i32.const 64) (local.get $len))
    (local.get $ptr) (i32.add (local.get $len) (local.get $gap)))
  (func $thunk_1 ${THUNK} (local $count i32) (local $values i32)
    (call $decode (local.get $args) (local.get $len))
    (local.set $values) (local.set $count)
    (call_indirect (type $function) (local.get $values) (local.get $count) (local.get $state) (local.get $func))
    (i32.const 0) (call $result) (call $pack))
  (func $thunk_2 ${THUNK} (local $count i32) (local $values i32) (local $gas i64) (local $ptr i32)
    (call $decode (local.get $args) (local.get $len))
    (local.set $values) (local.set $count)
    (if (i32.eqz (local.get $count)) (then unreachable))
    (if (i32.ne (i32.load8_u (local.get $values)) (i32.const 1)) (then unreachable))
    (local.set $gas (i64.load offset=1 align=1 (local.get $values)))
    (call_indirect (type $function)
      (i32.add (local.get $values) (i32.const 9)) (i32.sub (local.get $count) (i32.const 1)) (local.get $state) (local.get $func))
    (i32.const 8) (call $result)
    (local.set $len) (local.set $ptr)
    (if (i32.eqz (i32.load8_u (local.get $ptr))) (then
      (i64.store offset=1 align=1 (local.get $ptr) (i64.sub (local.get $gas) (i64.const 10)))))
    (call $pack (local.get $ptr) (local.get $len)))
  (func $thunk_js ${THUNK}
    (call $answer (local.get $args) (local.get $len) (local.get $state) (local.get $func)))

  ;; The functions.
  (func $return_i32 (param $value i32) (result i32)
    (i32.store16 (i32.const 64) (i32.const 0x0001))
    (i32.store align=1 (i32.const 66) (local.get $value))
    (i32.const 6))
  (func $add ${FUNCTION}
    (call $return_i32 (i32.add
      (i32.load offset=1 align=1 (local.get $values)) (i32.load offset=6 align=1 (local.get $values)))))
  (func $echo ${FUNCTION}
    (i32.store8 (i32.const 64) (i32.const 1))
    (memory.copy (i32.const 65) (local.get $values) (call $value_size (local.get $values)))
    (i32.add (call $value_size (local.get $values)) (i32.const 1)))
  (func $nothing ${FUNCTION} (i32.store8 (i32.const 64) (i32.const 0)) (i32.const 1))
  (func $state ${FUNCTION} (call $return_i32 (local.get $state)))
  (func $host_error ${FUNCTION} (i32.const 0))
  (func $trap ${FUNCTION} unreachable)
  ${definitions})`;
}

/** A call of a guest, as a thunk gets it. */
export interface ThunkCall {
  readonly argsPtr: number;
  /** A copy of the encoded arguments. */
  readonly args: Uint8Array;
  readonly state: number;
  readonly func: number;
}

export interface SupervisorOptions {
  readonly backend: SandboxBackend;
  /** The compiled {@link supervisorText}. */
  readonly wasm: Uint8Array;
  /** The same as in the text. */
  readonly elements?: readonly string[] | undefined;
  /** Options of the host, besides or instead of those that lead to this supervisor. */
  readonly options?: Partial<SandboxHostOptions> | undefined;
  /** Take the imports of this host instead of making one. Its options must lead to this supervisor when it is used. */
  readonly host?: SandboxHost | undefined;
}

interface Exports extends HostCalls {
  readonly memory: SupervisorMemoryObject;
  readonly table: SupervisorTableObject;
  allocate(size: number): number;
  deallocate(ptr: number): void;
  live(): number;
  allocations(): number;
  grow(pages: number): number;
}

/** What a guest is made of. */
export interface GuestParts {
  readonly version?: 1 | 2;
  /** The name of the thunk in the table, by default `$thunk_1` or `$thunk_2`, or its index. */
  readonly thunk?: string | number;
  readonly state?: number;
  /** Names of elements, or any indices, by `module.field`. */
  readonly functions?: Readonly<Record<string, string | number>>;
  /** Indices by `module.field`. */
  readonly memories?: Readonly<Record<string, number>>;
}

/** What `invoke` of the host functions gave. */
export interface Invoked {
  readonly status: number;
  /** All bytes of the return buffer, which began as zeros. */
  readonly ret: Uint8Array;
}

/** As long as the client's return buffer: that of a value of 64 bits. */
const RETURN_BYTES = 10;

/** A supervisor with its host. */
export class WasmSupervisor {
  readonly host: SandboxHost;
  readonly exports: Exports & Readonly<Record<string, WasmFunction>>;
  /** Between the host and the supervisor's allocator. A test may put another one here. */
  allocator: SupervisorAllocator;
  /** Answers what comes through `$thunk_js`: a test's own, see {@link WasmSupervisor.ok}. */
  answer: (call: ThunkCall) => bigint = () => {
    throw new Error('this supervisor has no answer');
  };
  readonly #elements: readonly string[];

  constructor(options: SupervisorOptions) {
    const { backend, wasm, elements = [] } = options;
    this.#elements = [...ELEMENTS, ...elements];
    this.host = options.host ?? new SandboxHost({ backend, ...this.forHost, ...options.options });
    const answer = (argsPtr: number, argsLen: number, state: number, func: number): bigint =>
      this.answer({ argsPtr, args: this.bytes(argsPtr, argsLen), state, func });
    const instance = new V8.Instance(new V8.Module(wasm), { ...this.host.imports, js: { answer } });
    this.exports = instance.exports as WasmSupervisor['exports'];
    this.allocator = {
      allocate: (size) => this.exports.allocate(size),
      deallocate: (ptr) => this.exports.deallocate(ptr),
    };
  }

  /** The options by which a host finds this supervisor. */
  get forHost(): Omit<SandboxHostOptions, 'backend'> {
    return {
      memory: () => this.exports.memory,
      table: () => this.exports.table,
      allocator: {
        allocate: (size) => this.allocator.allocate(size),
        deallocate: (ptr) => this.allocator.deallocate(ptr),
      },
    };
  }

  /** The host functions. */
  get ext(): HostCalls {
    return this.exports;
  }

  /** How many allocations nobody has freed. */
  get live(): number {
    return this.exports.live();
  }

  /** The index of a function in the table. */
  element(name: string): number {
    const index = this.#elements.indexOf(name);
    assert.ok(index >= 0, `there is no ${name} in the table`);
    return index + 1;
  }

  /** A view of all of the memory, as it is now. */
  get memory(): Uint8Array {
    return new Uint8Array(this.exports.memory.buffer);
  }

  /** A copy of bytes of the memory. */
  bytes(ptr: number, size: number): Uint8Array {
    return this.memory.slice(ptr >>> 0, (ptr >>> 0) + size);
  }

  /** Writes bytes to a new allocation. */
  allocate(bytes: Uint8Array): number {
    const ptr = this.exports.allocate(bytes.length) >>> 0;
    assert.notEqual(ptr, 0, 'the supervisor is out of memory');
    this.memory.set(bytes, ptr);
    return ptr;
  }

  /** Runs something with bytes in the memory, packed as the arguments of host functions are, and frees them. */
  with<T>(all: readonly Uint8Array[], use: (...packed: bigint[]) => T): T {
    const ptrs = all.map((bytes) => this.allocate(bytes));
    try {
      return use(...ptrs.map((ptr, index) => pack(ptr, all[index].length)));
    } finally {
      for (const ptr of ptrs.reverse()) this.exports.deallocate(ptr);
    }
  }

  /** What a thunk returns for an answer: bytes in a new allocation, packed as a thunk does. */
  result(bytes: Uint8Array): bigint {
    return packResult(this.allocate(bytes), bytes.length);
  }

  /** The result for a value, under Version 2 with the gas that is left. */
  ok(value?: Value, gas?: bigint): bigint {
    return this.result(
      gas === undefined
        ? codec.encodeDispatchResult({ ok: true, value })
        : codec.encodeDispatchResultV2({ ok: true, gas, value }),
    );
  }

  /** An encoded environment. */
  environment({ functions = {}, memories = {} }: GuestParts): Uint8Array {
    const builder = new EnvironmentDefinitionBuilder();
    for (const [name, index] of Object.entries(functions)) {
      builder.addHostFunc(...splitName(name), typeof index === 'string' ? this.element(index) : index);
    }
    for (const [name, index] of Object.entries(memories)) builder.addMemory(...splitName(name), index);
    return builder.encode();
  }

  /** Calls `instantiate`, and gives what it returned. */
  instantiate(wasm: Uint8Array, parts: GuestParts = {}): number {
    const { version = 1, thunk = `$thunk_${version}`, state = 0 } = parts;
    const index = typeof thunk === 'string' ? this.element(thunk) : thunk;
    return this.with([wasm, this.environment(parts)], (code, envDef) =>
      version === 1
        ? this.ext.instantiate_1(index, code, envDef, state)
        : this.ext.instantiate_2(index, code, envDef, state),
    );
  }

  /** The same for a guest that must work. */
  guest(wasm: Uint8Array, parts: GuestParts = {}): number {
    const index = this.instantiate(wasm, parts);
    assert.ok(index >= 0, `instantiate returned ${index}: ${this.host.lastError?.message}`);
    return index;
  }

  /** Calls `invoke` with a return buffer, as the client does. */
  invoke(instance: number, name: string, args: readonly Value[] = [], state = 0): Invoked {
    const parts = [Buffer.from(name), codec.encodeValues(args), new Uint8Array(RETURN_BYTES)];
    return this.with(parts, (packedName, packedArgs, packedRet) => {
      const retPtr = Number(packedRet & 0xffff_ffffn);
      const status = this.ext.invoke(instance, packedName, packedArgs, retPtr | 0, RETURN_BYTES, state);
      return { status, ret: this.bytes(retPtr, RETURN_BYTES) };
    });
  }

  /** The same for a call that must work; gives its value. */
  call(instance: number, name: string, args: readonly Value[] = [], state = 0): Value | undefined {
    const { status, ret } = this.invoke(instance, name, args, state);
    assert.equal(status, 0, this.host.lastError?.message);
    return codec.decodeReturnValue(ret);
  }

  /** Calls `get_global_val`, decodes its answer and frees it, as the client does. */
  getGlobal(instance: number, name: string): Value | undefined {
    return this.with([Buffer.from(name)], (packedName) => {
      const packed = this.ext.get_global_val(instance, packedName);
      const ptr = Number(packed & 0xffff_ffffn);
      const size = Number(BigInt.asUintN(32, packed >> 32n));
      const value = codec.decodeReturnValue(this.bytes(ptr, size));
      this.exports.deallocate(ptr | 0);
      return value;
    });
  }

  /** Calls `set_global_val`, and gives what it returned. */
  setGlobal(instance: number, name: string, value: Value): number {
    return this.with(
      [Buffer.from(name), codec.encodeReturnValue(value).subarray(1)],
      (packedName, packedValue) => this.ext.set_global_val(instance, packedName, packedValue),
    );
  }

  /** Bytes of a guest's memory, by `memory_get`. */
  read(memory: number, offset: number, size: number): Uint8Array {
    return this.with([new Uint8Array(size)], (packed) => {
      const ptr = Number(packed & 0xffff_ffffn);
      assert.equal(this.ext.memory_get(memory, offset, ptr | 0, size), 0);
      return this.bytes(ptr, size);
    });
  }

  /** Writes bytes to a guest's memory, by `memory_set`. */
  write(memory: number, offset: number, ...bytes: number[]): void {
    const status = this.with([Uint8Array.from(bytes)], (packed) =>
      this.ext.memory_set(memory, offset, Number(packed & 0xffff_ffffn) | 0, bytes.length),
    );
    assert.equal(status, 0);
  }

  /** Allocates all that is left of the memory, so that the next allocation grows it. */
  fill(): number {
    const probe = this.exports.allocate(0);
    this.exports.deallocate(probe);
    return this.allocate(new Uint8Array(this.memory.length - probe));
  }
}

/** An i64 argument of a host function. */
export function pack(ptr: number, size: number): bigint {
  return BigInt.asIntN(64, (BigInt(size >>> 0) << 32n) | BigInt(ptr >>> 0));
}

/** What a thunk returns. */
export function packResult(ptr: number, size: number): bigint {
  return pack(size, ptr);
}

function splitName(name: string): [module: string, field: string] {
  const dot = name.indexOf('.');
  return [name.slice(0, dot), name.slice(dot + 1)];
}
