/**
 * The host functions `ext_sandbox_*`. Mirrors the runtime interface `gear_sandbox_interface::Sandbox`
 * and its implementation in `gear_sandbox_interface::detail`: each function does its checks in the same
 * order as the reference.
 *
 * An i64 parameter packs an address and a length in bytes, `length << 32 | address`.
 */

import { types } from 'node:util';
import { debug } from '../../base/debug';
import { ArgumentError, BusyError, InstantiationError, SandboxError } from '../../base/errors';
import { messageOf } from '../../base/message';
import { shortName } from '../../base/short_text';
import type { Value } from '../../base/values';
import { type SandboxComponents, storeOf } from '../components';
import { Environment } from '../environment';
import type { GearInstance } from '../instance';
import { Instantiate } from '../instantiate';
import { packed } from '../protocol/packed';
import { decodeValues, encodeReturnValue } from '../scale/index';
import { Reader } from '../scale/reader';
import { readValue } from '../scale/value';
import { traced } from '../traced';
import { allocate, type SupervisorAllocator } from './allocator';
import { type DispatchThunk, thunkAt } from './dispatch_thunk';
import { Names } from './names';
import * as code from './result_codes';
import type { SupervisorMemory } from './supervisor_memory';
import type { SupervisorTableObject } from './v8';
import { WasmSupervisor } from './wasm_supervisor';

const packedLong = packed.long;
const packedWords = packed.words;

/** The objects that the host functions work on. */
export interface Host {
  readonly components: SandboxComponents<DispatchThunk>;
  readonly memory: SupervisorMemory;
  readonly table: () => SupervisorTableObject;
  readonly allocator: SupervisorAllocator;
  /** Records an error that the supervisor only sees as a number. */
  readonly failed: (error: SandboxError) => void;
}

/**
 * The host functions, by the names that supervisors import. Unless stated otherwise, addresses and
 * lengths are in bytes of the supervisor's memory, and sizes of memories in pages of 64 KiB. An i64
 * parameter packs an address and a length, `length << 32 | address`. An i32 may be signed or unsigned.
 * Mirrors `gear_sandbox_interface::Sandbox` (crate `gear-sandbox-interface` 1.10.0), whose functions
 * have the same names without `ext_sandbox_` and `_version_…`.
 *
 * Each function throws a {@link SandboxError}, which traps the supervisor: with the code
 * `ERR_SANDBOX_ARGUMENT` for an index that is unknown or torn down, for an argument that is out of
 * bounds, and if `options.memory` or `options.table` return nothing usable; with `ERR_SANDBOX_CODEC` for
 * an argument that cannot be decoded; with `ERR_SANDBOX_BUSY` while a guest that it would use is running
 * asynchronously. Further errors are listed at each function.
 *
 * (A type alias, because an interface could not be passed as `WebAssembly.Imports`.)
 *
 * @example
 * ```ts
 * // What a supervisor does by its imports, done from JavaScript.
 * const { ext_sandbox_memory_new_version_1, ext_sandbox_memory_size_version_1 } = host.imports.env;
 * const index = ext_sandbox_memory_new_version_1(1, MEM_UNLIMITED);
 * ext_sandbox_memory_size_version_1(index); // 1
 * ```
 */
export type HostFunctions = {
  /**
   * Creates a memory. Mirrors `sandbox::memory_new`.
   *
   * @param initial - its size in pages, 0 to 65,536
   * @param maximum - the most pages it can grow to, at most 65,536; 0xffffffff for no maximum
   * @returns its index
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `initial` is more than `maximum` or
   *   either is too large
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if it would exceed one of
   *   {@link SandboxOptions.limits}
   */
  ext_sandbox_memory_new_version_1(initial: number, maximum: number): number;
  /**
   * Copies bytes out of a memory. Mirrors `sandbox::memory_get`.
   *
   * @param memoryIdx - the index of the memory
   * @param offset - where they begin in it, in bytes
   * @param bufPtr - where they go in the supervisor's memory
   * @param bufLen - how many bytes
   * @returns 0, or -2 if they are out of bounds on either side
   */
  ext_sandbox_memory_get_version_1(memoryIdx: number, offset: number, bufPtr: number, bufLen: number): number;
  /**
   * Copies bytes into a memory. Mirrors `sandbox::memory_set`.
   *
   * @param memoryIdx - the index of the memory
   * @param offset - where they go in it, in bytes
   * @param valPtr - where they begin in the supervisor's memory
   * @param valLen - how many bytes
   * @returns 0, or -2 if they are out of bounds on either side
   */
  ext_sandbox_memory_set_version_1(memoryIdx: number, offset: number, valPtr: number, valLen: number): number;
  /**
   * Grows a memory. Mirrors `sandbox::memory_grow`.
   *
   * @param memoryIdx - the index of the memory
   * @param pages - by how many pages
   * @returns the previous number of pages
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if it cannot grow that much
   */
  ext_sandbox_memory_grow_version_1(memoryIdx: number, pages: number): number;
  /**
   * The size of a memory. Mirrors `sandbox::memory_size`.
   *
   * @param memoryIdx - the index of the memory
   * @returns the number of pages
   */
  ext_sandbox_memory_size_version_1(memoryIdx: number): number;
  /**
   * Releases a memory; instances that import it keep it. Mirrors `sandbox::memory_teardown`.
   *
   * @param memoryIdx - the index of the memory
   */
  ext_sandbox_memory_teardown_version_1(memoryIdx: number): void;
  /**
   * Creates an instance whose calls follow `Instantiate.Version1`. Mirrors `sandbox::instantiate`,
   * version 1.
   *
   * @param dispatchThunk - where the {@link DispatchThunk} stands in the supervisor's table; it takes
   *   the instance's calls
   * @param wasm - the module's binary, packed
   * @param envDef - the SCALE-encoded environment definition, packed
   * @param state - passed on to the thunk for calls of the start function
   * @returns its index; -1 if the module or the environment is wrong or a limit is reached, -3 if the
   *   start function trapped
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is no function at `dispatchThunk`
   */
  ext_sandbox_instantiate_version_1(
    dispatchThunk: number,
    wasm: bigint,
    envDef: bigint,
    state: number,
  ): number;
  /**
   * The same for `Instantiate.Version2`: calls carry the instance's gas. Mirrors `sandbox::instantiate`,
   * version 2.
   *
   * @param dispatchThunk - where the {@link DispatchThunk} stands in the supervisor's table; it takes
   *   the instance's calls
   * @param wasm - the module's binary, packed
   * @param envDef - the SCALE-encoded environment definition, packed
   * @param state - passed on to the thunk for calls of the start function
   * @returns its index; -1 if the module or the environment is wrong or a limit is reached, -3 if the
   *   start function trapped
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if there is no function at `dispatchThunk`
   */
  ext_sandbox_instantiate_version_2(
    dispatchThunk: number,
    wasm: bigint,
    envDef: bigint,
    state: number,
  ): number;
  /**
   * Calls an exported function. Mirrors `sandbox::invoke`.
   *
   * @param instanceIdx - the index of the instance
   * @param name - the export's name, packed
   * @param args - a SCALE-encoded `Vec<Value>`, packed
   * @param retPtr - where the SCALE-encoded `ReturnValue` is written; if the function returns nothing,
   *   nothing is written
   * @param retLen - the size of that buffer in bytes; 10 are enough for every value
   * @param state - passed on to the thunk
   * @returns 0; -3 if there is no such function, the arguments are not of its types, it has several
   *   results, or the guest trapped
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if the value does not fit
   */
  ext_sandbox_invoke_version_1(
    instanceIdx: number,
    name: bigint,
    args: bigint,
    retPtr: number,
    retLen: number,
    state: number,
  ): number;
  /**
   * Releases an instance; if it is running, it continues. Mirrors `sandbox::instance_teardown`.
   *
   * @param instanceIdx - the index of the instance
   */
  ext_sandbox_instance_teardown_version_1(instanceIdx: number): void;
  /**
   * The value of an exported global. Mirrors `sandbox::get_global_val`.
   *
   * @param instanceIdx - the index of the instance
   * @param name - the export's name, packed
   * @returns where the SCALE-encoded `Option<Value>` lies, packed, in a buffer of the supervisor's
   *   allocator that the supervisor frees
   * @throws a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) if the allocator has no room
   */
  ext_sandbox_get_global_val_version_1(instanceIdx: number, name: bigint): bigint;
  /**
   * Sets an exported global. Mirrors `sandbox::set_global_val`.
   *
   * @param instanceIdx - the index of the instance
   * @param name - the export's name, packed
   * @param value - the SCALE-encoded `Value`, packed
   * @returns 0, -1 if there is no such global, -2 if it is immutable or of another type
   */
  ext_sandbox_set_global_val_version_1(instanceIdx: number, name: bigint, value: bigint): number;
  /**
   * The address of a memory in this process, valid until it grows. Mirrors `sandbox::get_buff`.
   *
   * @param memoryIdx - the index of the memory
   * @returns the native address of its first byte, a bigint
   */
  ext_sandbox_get_buff_version_1(memoryIdx: number): bigint;
  /**
   * An address in this process that no other instance has. Mirrors `sandbox::get_instance_ptr`.
   *
   * @param instanceIdx - the index of the instance
   * @returns the address, a bigint that is only good for telling instances apart
   */
  ext_sandbox_get_instance_ptr_version_1(instanceIdx: number): bigint;
};

const NO_VALUES: readonly Value[] = [];

/** Creates the host functions. */
export function hostFunctions({ components, memory, table, allocator, failed }: Host): HostFunctions {
  const store = storeOf(components);
  const { memories, instances } = store;
  const names = new Names();
  let lastSupervisor: WasmSupervisor | undefined;

  /** The supervisor for one run, usually that of the last run. */
  function supervisorFor(thunk: DispatchThunk, state: number): WasmSupervisor {
    const last = lastSupervisor;
    if (last !== undefined && last.thunk === thunk && last.state === state) return last;
    lastSupervisor = new WasmSupervisor(memory, allocator, thunk, state);
    return lastSupervisor;
  }

  /** The bytes that a packed argument refers to, as a view. */
  function bytesOf(argument: bigint, name: string): Uint8Array {
    packedLong[0] = argument;
    const address = packedWords[0];
    const size = packedWords[1];
    return bytesAt(address, size, name).subarray(address, address + size);
  }

  /** A view of the supervisor's memory. Throws unless it has these bytes. */
  function bytesAt(address: number, size: number, name: string): Uint8Array {
    return memory.find(address, size) ?? outOfBounds(address, size, name);
  }

  function nameOf(argument: bigint): string {
    packedLong[0] = argument;
    const address = packedWords[0];
    const size = packedWords[1];
    return names.read(bytesAt(address, size, 'name'), address, size);
  }

  function valuesOf(argument: bigint): readonly Value[] {
    packedLong[0] = argument;
    const address = packedWords[0];
    const size = packedWords[1];
    const bytes = bytesAt(address, size, 'args');
    // Many exports have no parameters, and an empty list of values is a single byte.
    if (size > 0 && bytes[address] === 0) return NO_VALUES;
    return decodeValues(bytes.subarray(address, address + size));
  }

  /** Writes bytes one by one, because there are few. */
  function put(bytes: Uint8Array, address: number, name: string): void {
    const dest = bytesAt(address, bytes.length, name);
    for (let index = 0; index < bytes.length; index += 1) dest[address + index] = bytes[index];
  }

  /**
   * The result code for a guest's failure. A failure that is not the guest's fault is rethrown: another
   * thread is running the guest, or this thread's stack is used up.
   */
  function fail(what: string, error: unknown, result: number): number {
    if (!isOurs(error) || error instanceof BusyError) throw error;
    debug('%s: %s', what, error.message);
    failed(error);
    return result;
  }

  function instantiate(
    version: Instantiate,
    dispatchThunk: number,
    wasm: bigint,
    envDef: bigint,
    state: number,
  ): number {
    bytesOf(wasm, 'wasm');
    bytesOf(envDef, 'env_def');
    const thunk = thunkAt(table, dispatchThunk >>> 0);
    // Read them again: the getter of the table may have run anything.
    const binary = bytesOf(wasm, 'wasm');
    const definition = bytesOf(envDef, 'env_def');
    try {
      // The environment is used before any of its memories can be torn down.
      const env = new Environment(definition, (index) => memories.at(index));
      const supervisor = supervisorFor(thunk, state);
      const source = store.source(binary);
      store.refuseInstance();
      const make = (): GearInstance =>
        store.instantiate(version, source, env, (instance) => instance.startBy(supervisor));
      return store.add(traced(components, version, make), thunk);
    } catch (error) {
      return fail('instantiate', error, isOfStart(error) ? code.EXECUTION : code.MODULE);
    }
  }

  return {
    ext_sandbox_memory_new_version_1: (initial, maximum) =>
      components.newMemory(initial >>> 0, maximum >>> 0),

    ext_sandbox_memory_get_version_1(memoryIdx, offset, bufPtr, bufLen) {
      const address = bufPtr >>> 0;
      const size = bufLen >>> 0;
      // Before the guest's memory is looked up: the getter of the supervisor's memory may have run
      // anything.
      const dest = memory.find(address, size);
      const guest = memories.at(memoryIdx >>> 0);
      if (dest === undefined) return code.OUT_OF_BOUNDS;
      return guest.copyOut(offset >>> 0, dest, address, size) ? code.OK : code.OUT_OF_BOUNDS;
    },

    ext_sandbox_memory_set_version_1(memoryIdx, offset, valPtr, valLen) {
      const address = valPtr >>> 0;
      const size = valLen >>> 0;
      const src = memory.find(address, size);
      if (src === undefined) return code.OUT_OF_BOUNDS;
      const guest = memories.at(memoryIdx >>> 0);
      return guest.copyIn(offset >>> 0, src, address, size) ? code.OK : code.OUT_OF_BOUNDS;
    },

    ext_sandbox_memory_grow_version_1: (memoryIdx, pages) => memories.at(memoryIdx >>> 0).grow(pages >>> 0),

    ext_sandbox_memory_size_version_1: (memoryIdx) => memories.at(memoryIdx >>> 0).pages,

    ext_sandbox_memory_teardown_version_1: (memoryIdx) => components.memoryTeardown(memoryIdx >>> 0),

    ext_sandbox_instantiate_version_1: (dispatchThunk, wasm, envDef, state) =>
      instantiate(Instantiate.Version1, dispatchThunk, wasm, envDef, state),

    ext_sandbox_instantiate_version_2: (dispatchThunk, wasm, envDef, state) =>
      instantiate(Instantiate.Version2, dispatchThunk, wasm, envDef, state),

    ext_sandbox_invoke_version_1(instanceIdx, name, args, retPtr, retLen, state) {
      const exportName = nameOf(name);
      const values = valuesOf(args);
      const index = instanceIdx >>> 0;
      const instance = instances.at(index).instance;
      const supervisor = supervisorFor(components.dispatchThunk(index), state);
      let result: ReturnType<typeof instance.invoke>;
      try {
        result = instance.invokeBy(exportName, values, supervisor);
        if (Array.isArray(result)) {
          // A `ReturnValue` holds at most one value.
          throw new SandboxError(`${shortName(exportName)} returned ${result.length} values`);
        }
      } catch (error) {
        return fail('invoke', error, code.EXECUTION);
      }
      if (result === undefined) return code.OK;
      const bytes = encodeReturnValue(result);
      const room = retLen >>> 0;
      if (bytes.length > room) {
        throw new SandboxError(
          `Return value buffer is too small: the return value takes ${bytes.length} bytes, ret_len is ${room}`,
        );
      }
      put(bytes, retPtr >>> 0, 'ret_ptr');
      return code.OK;
    },

    ext_sandbox_instance_teardown_version_1: (instanceIdx) => components.instanceTeardown(instanceIdx >>> 0),

    ext_sandbox_get_global_val_version_1(instanceIdx, name) {
      const globalName = nameOf(name);
      const value = instances.at(instanceIdx >>> 0).instance.getGlobal(globalName);
      // The encoding of an `Option<Value>` is that of a `ReturnValue`.
      const bytes = encodeReturnValue(value);
      const address = allocateFor('get_global_val', bytes.length);
      put(bytes, address, 'what options.allocator.allocate returns');
      packedWords[0] = address;
      packedWords[1] = bytes.length;
      return packedLong[0];
    },

    ext_sandbox_set_global_val_version_1(instanceIdx, name, value) {
      const globalName = nameOf(name);
      const decoded = readValue(new Reader(bytesOf(value, 'value')));
      const instance = instances.at(instanceIdx >>> 0).instance;
      try {
        return instance.setGlobal(globalName, decoded) ? code.GLOBALS_OK : code.GLOBALS_NOT_FOUND;
      } catch (error) {
        // The global is immutable or has a different type.
        if (!(error instanceof SandboxError) || error.code !== 'ERR_SANDBOX_ARGUMENT') throw error;
        return fail('set_global_val', error, code.GLOBALS_OTHER);
      }
    },

    ext_sandbox_get_buff_version_1: (memoryIdx) => memories.at(memoryIdx >>> 0).address,

    ext_sandbox_get_instance_ptr_version_1: (instanceIdx) => instances.at(instanceIdx >>> 0).instance.address,
  };

  function allocateFor(what: string, size: number): number {
    try {
      return allocate(allocator, size);
    } catch (cause) {
      throw new SandboxError(`${what} can't allocate memory in supervisor: ${messageOf(cause)}`, { cause });
    }
  }
}

/**
 * Whether an error is one of this package. The reason why a call was aborted may be a proxy, whose code
 * `instanceof` would run.
 */
function isOurs(error: unknown): error is SandboxError {
  return !types.isProxy(error) && error instanceof SandboxError;
}

/** Whether a start function trapped or timed out: nothing else in an `instantiate` has a timeout. */
function isOfStart(error: unknown): boolean {
  if (!isOurs(error)) return false;
  return error instanceof InstantiationError
    ? error.kind === 'StartTrapped'
    : error.code === 'ERR_SANDBOX_TIMEOUT';
}

function outOfBounds(address: number, size: number, name: string): never {
  const message = `${name} must lie in the supervisor's memory: ${size} bytes at ${address} are out of bounds`;
  throw new ArgumentError(message, { argument: name });
}
