/**
 * The host functions `ext_sandbox_*`. Mirrors the runtime interface `gear_sandbox_interface::Sandbox` and what is behind it in
 * `gear_sandbox_interface::detail`: each function checks in the order in which the reference does.
 *
 * An i64 parameter packs an address and a length in bytes, `length << 32 | address`.
 */

import { ArgumentError, BusyError, InstantiationError, SandboxError } from '../errors';
import { Instantiate } from '../sandbox/backend';
import { componentsInternals, type SandboxComponents } from '../sandbox/components';
import { debug } from '../sandbox/debug';
import { environmentInternals } from '../sandbox/environment';
import { instanceInternals } from '../sandbox/instance';
import { memoryInternals } from '../sandbox/memory';
import { packed } from '../sandbox/packed';
import { messageOf } from '../sandbox/supervisor_trap';
import { decodeValues, encodeReturnValue } from '../scale';
import { Reader } from '../scale/reader';
import { readValue } from '../scale/value';
import { allocate, type SupervisorAllocator } from './allocator';
import { type DispatchThunk, thunkAt } from './dispatch_thunk';
import { Names } from './names';
import * as code from './result_codes';
import type { SupervisorMemory } from './supervisor_memory';
import type { SupervisorTableObject } from './v8';
import { WasmSupervisor } from './wasm_supervisor';

const packedLong = packed.long;
const packedWords = packed.words;

/** What the host functions work on. */
export interface Host {
  readonly components: SandboxComponents<DispatchThunk>;
  readonly memory: SupervisorMemory;
  readonly table: () => SupervisorTableObject;
  readonly allocator: SupervisorAllocator;
  /** Takes note of an error that the supervisor learns of only by a number. */
  readonly failed: (error: SandboxError) => void;
}

/**
 * The host functions by the names that supervisors import. (A type alias, because an interface could not be passed as
 * `WebAssembly.Imports`.)
 */
export type HostFunctions = {
  /** Makes a memory; `maximum` 0xffffffff for none. Returns its index. */
  ext_sandbox_memory_new_version_1(initial: number, maximum: number): number;
  /** Copies `bufLen` bytes at `offset` of a memory into the supervisor's. Returns 0, or -2 out of bounds on either side. */
  ext_sandbox_memory_get_version_1(memoryIdx: number, offset: number, bufPtr: number, bufLen: number): number;
  /** Copies `valLen` bytes of the supervisor's memory to `offset` of another. Returns 0, or -2 out of bounds on either side. */
  ext_sandbox_memory_set_version_1(memoryIdx: number, offset: number, valPtr: number, valLen: number): number;
  /** Grows a memory by `pages`. Returns its pages before. */
  ext_sandbox_memory_grow_version_1(memoryIdx: number, pages: number): number;
  /** The pages of a memory. */
  ext_sandbox_memory_size_version_1(memoryIdx: number): number;
  /** Forgets a memory. */
  ext_sandbox_memory_teardown_version_1(memoryIdx: number): void;
  /** Makes an instance without gas. Returns its index, -1 for a wrong module or environment, -3 if its start function trapped. */
  ext_sandbox_instantiate_version_1(
    dispatchThunk: number,
    wasm: bigint,
    envDef: bigint,
    state: number,
  ): number;
  /** The same for an instance whose calls take its gas along, see `Instantiate.Version2`. */
  ext_sandbox_instantiate_version_2(
    dispatchThunk: number,
    wasm: bigint,
    envDef: bigint,
    state: number,
  ): number;
  /** Calls an export. Returns 0, or -3 if there is none, or the arguments are wrong, or the guest trapped. */
  ext_sandbox_invoke_version_1(
    instanceIdx: number,
    name: bigint,
    args: bigint,
    retPtr: number,
    retLen: number,
    state: number,
  ): number;
  /** Forgets an instance; if it is running, it runs on. */
  ext_sandbox_instance_teardown_version_1(instanceIdx: number): void;
  /** The SCALE-encoded `Option<Value>` of an exported global, packed; the supervisor frees it. */
  ext_sandbox_get_global_val_version_1(instanceIdx: number, name: bigint): bigint;
  /** Sets an exported global. Returns 0, -1 if there is none, -2 if it is immutable or of another type. */
  ext_sandbox_set_global_val_version_1(instanceIdx: number, name: bigint, value: bigint): number;
  /** The native address of a memory. */
  ext_sandbox_get_buff_version_1(memoryIdx: number): bigint;
  /** An address that no other instance has. */
  ext_sandbox_get_instance_ptr_version_1(instanceIdx: number): bigint;
};

/** Makes the host functions. */
export function hostFunctions({ components, memory, table, allocator, failed }: Host): HostFunctions {
  const names = new Names();
  let lastSupervisor: WasmSupervisor | undefined;

  /** The supervisor for one run, mostly the one of the last run. */
  function supervisorFor(thunk: DispatchThunk, state: number): WasmSupervisor {
    const last = lastSupervisor;
    if (last !== undefined && last.thunk === thunk && last.state === state) return last;
    lastSupervisor = new WasmSupervisor(memory, allocator, thunk, state);
    return lastSupervisor;
  }

  /** The bytes that an argument packs, as a view. */
  function bytesOf(argument: bigint, name: string): Uint8Array {
    packedLong[0] = argument;
    const address = packedWords[0];
    const size = packedWords[1];
    if (memory.has(address, size)) return memory.slice(address, size);
    throw outOfBounds(name, address, size);
  }

  function nameOf(argument: bigint): string {
    packedLong[0] = argument;
    const address = packedWords[0];
    const size = packedWords[1];
    if (memory.has(address, size)) return names.read(memory.at(address, size), address, size);
    throw outOfBounds('name', address, size);
  }

  /**
   * The number that stands for what a guest did wrong. What is not the guest's fault is thrown on: that another thread is
   * running it, or that this thread's stack is used up.
   */
  function fail(what: string, error: unknown, result: number): number {
    if (!(error instanceof SandboxError) || error instanceof BusyError) throw error;
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
    const thunk = thunkAt(table, dispatchThunk >>> 0);
    const binary = bytesOf(wasm, 'wasm');
    const definition = bytesOf(envDef, 'env_def');
    try {
      const env = environmentInternals.decodeForOneUse(components, definition);
      const supervisor = supervisorFor(thunk, state);
      return componentsInternals.instantiateBy(components, version, binary, env, supervisor, thunk);
    } catch (error) {
      const isStart = error instanceof InstantiationError && error.kind === 'StartTrapped';
      return fail('instantiate', error, isStart ? code.EXECUTION : code.MODULE);
    }
  }

  return {
    ext_sandbox_memory_new_version_1: (initial, maximum) =>
      components.newMemory(initial >>> 0, maximum >>> 0),

    ext_sandbox_memory_get_version_1(memoryIdx, offset, bufPtr, bufLen) {
      const guest = componentsInternals.memory(components, memoryIdx >>> 0);
      const [address, size] = [bufPtr >>> 0, bufLen >>> 0];
      if (!memory.has(address, size)) return code.OUT_OF_BOUNDS;
      try {
        guest.readInto(offset >>> 0, memory.slice(address, size));
        return code.OK;
      } catch (error) {
        return unlessOutOfBounds(error);
      }
    },

    ext_sandbox_memory_set_version_1(memoryIdx, offset, valPtr, valLen) {
      const [address, size] = [valPtr >>> 0, valLen >>> 0];
      if (!memory.has(address, size)) return code.OUT_OF_BOUNDS;
      const guest = componentsInternals.memory(components, memoryIdx >>> 0);
      try {
        guest.writeFrom(offset >>> 0, memory.slice(address, size));
        return code.OK;
      } catch (error) {
        return unlessOutOfBounds(error);
      }
    },

    ext_sandbox_memory_grow_version_1: (memoryIdx, pages) =>
      componentsInternals.memory(components, memoryIdx >>> 0).memoryGrow(pages >>> 0),

    ext_sandbox_memory_size_version_1: (memoryIdx) =>
      componentsInternals.memory(components, memoryIdx >>> 0).memorySize(),

    ext_sandbox_memory_teardown_version_1: (memoryIdx) => components.memoryTeardown(memoryIdx >>> 0),

    ext_sandbox_instantiate_version_1: (dispatchThunk, wasm, envDef, state) =>
      instantiate(Instantiate.Version1, dispatchThunk, wasm, envDef, state),

    ext_sandbox_instantiate_version_2: (dispatchThunk, wasm, envDef, state) =>
      instantiate(Instantiate.Version2, dispatchThunk, wasm, envDef, state),

    ext_sandbox_invoke_version_1(instanceIdx, name, args, retPtr, retLen, state) {
      const exportName = nameOf(name);
      const values = decodeValues(bytesOf(args, 'args'));
      const index = instanceIdx >>> 0;
      const instance = componentsInternals.instance(components, index);
      const supervisor = supervisorFor(components.dispatchThunk(index), state);
      let result: ReturnType<typeof instance.invoke>;
      try {
        result = instanceInternals.invokeBy(instance, exportName, values, supervisor);
        if (Array.isArray(result)) {
          // A `ReturnValue` has room for one.
          throw new SandboxError(`${exportName} returned ${result.length} values`);
        }
      } catch (error) {
        return fail('invoke', error, code.EXECUTION);
      }
      if (result === undefined) return code.OK;
      const bytes = encodeReturnValue(result);
      const [address, room] = [retPtr >>> 0, retLen >>> 0];
      if (bytes.length > room) {
        throw new SandboxError(
          `Return value buffer is too small: the return value takes ${bytes.length} bytes, ret_len is ${room}`,
        );
      }
      if (!memory.has(address, bytes.length)) throw outOfBounds('ret_ptr', address, bytes.length);
      put(bytes, memory.at(address, bytes.length), address);
      return code.OK;
    },

    ext_sandbox_instance_teardown_version_1: (instanceIdx) => components.instanceTeardown(instanceIdx >>> 0),

    ext_sandbox_get_global_val_version_1(instanceIdx, name) {
      const globalName = nameOf(name);
      const value = componentsInternals.instance(components, instanceIdx >>> 0).getGlobalVal(globalName);
      // The bytes of an `Option<Value>` are those of a `ReturnValue`.
      const bytes = encodeReturnValue(value);
      const address = allocateFor('get_global_val', bytes.length);
      if (!memory.has(address, bytes.length)) {
        throw outOfBounds('what options.allocator.allocate returned', address, bytes.length);
      }
      put(bytes, memory.at(address, bytes.length), address);
      packedWords[0] = address;
      packedWords[1] = bytes.length;
      return packedLong[0];
    },

    ext_sandbox_set_global_val_version_1(instanceIdx, name, value) {
      const globalName = nameOf(name);
      const decoded = readValue(new Reader(bytesOf(value, 'value')));
      const instance = componentsInternals.instance(components, instanceIdx >>> 0);
      try {
        return instance.setGlobalVal(globalName, decoded) ? code.GLOBALS_OK : code.GLOBALS_NOT_FOUND;
      } catch (error) {
        // Immutable, or of another type.
        if (!(error instanceof SandboxError) || error.code !== 'ERR_SANDBOX_ARGUMENT') throw error;
        return fail('set_global_val', error, code.GLOBALS_OTHER);
      }
    },

    ext_sandbox_get_buff_version_1: (memoryIdx) =>
      memoryInternals.address(componentsInternals.memory(components, memoryIdx >>> 0)),

    ext_sandbox_get_instance_ptr_version_1: (instanceIdx) =>
      instanceInternals.address(componentsInternals.instance(components, instanceIdx >>> 0)),
  };

  function allocateFor(what: string, size: number): number {
    try {
      return allocate(allocator, size);
    } catch (cause) {
      throw new SandboxError(`${what} can't allocate memory in supervisor: ${messageOf(cause)}`, { cause });
    }
  }
}

/** Few bytes, so one by one. */
function put(bytes: Uint8Array, dest: Uint8Array, address: number): void {
  for (let index = 0; index < bytes.length; index += 1) dest[address + index] = bytes[index];
}

function outOfBounds(name: string, address: number, size: number): ArgumentError {
  return new ArgumentError(
    `${name} must lie in the supervisor's memory: ${size} bytes at ${address} are out of bounds`,
    { argument: name },
  );
}

/** Of a read or write of a guest's memory. */
function unlessOutOfBounds(error: unknown): number {
  if (error instanceof ArgumentError) return code.OUT_OF_BOUNDS;
  throw error;
}
