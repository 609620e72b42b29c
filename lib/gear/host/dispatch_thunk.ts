/** The supervisor's dispatch thunk: the function in its table that takes its guests' calls. */

import { describe } from '../../base/arguments';
import { SandboxError } from '../../base/errors';
import { messageOf } from '../../base/message';
import { type SupervisorMemoryObject, type SupervisorTableObject, v8 } from './v8';

/**
 * Takes a guest's call: the SCALE-encoded arguments, the state that was passed to the host function that
 * runs the guest, and the index of the supervisor function. Returns where the SCALE-encoded result lies:
 * its address in the upper 32 bits and its length in the lower 32. Addresses and lengths are in bytes,
 * and all numbers are i32s. In a supervisor built from the crate `gear-sandbox`, this is the function
 * `dispatch_thunk` of its host executor.
 */
export type DispatchThunk = (argsPtr: number, argsLen: number, state: number, funcIdx: number) => bigint;

/**
 * Looks a thunk up.
 *
 * @param source - returns the supervisor's table
 * @throws SandboxError if there is no function at `index`
 */
export function thunkAt(source: () => SupervisorTableObject, index: number): DispatchThunk {
  const table = tableOf(source);
  if (index >= table.length) {
    throw new SandboxError(
      `dispatch_thunk is out of bounds: there is no element ${index} in a table of ${table.length}`,
    );
  }
  const element: unknown = table.get(index);
  if (typeof element === 'function') return element as DispatchThunk;
  throw new SandboxError(
    `dispatch_thunk must be the index of a function, element ${index} is ${describe(element)}`,
  );
}

function tableOf(source: () => SupervisorTableObject): SupervisorTableObject {
  let table: SupervisorTableObject;
  try {
    table = source();
  } catch (cause) {
    throw new SandboxError(`options.table() must give the supervisor's table, threw: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (typeof table === 'object' && table !== null && typeof table.get === 'function') return table;
  throw new SandboxError(
    `options.table() must give the supervisor's WebAssembly.Table, gave ${describe(table)}`,
  );
}

/**
 * Calls a thunk, and splits its result without creating a bigint, which is all that JavaScript could
 * get. It also ensures that the thunk has the required type, which JavaScript cannot check: a call with
 * a different type would convert the arguments.
 *
 * ```wat
 * (import "" "thunk" (func $thunk (param i32 i32 i32 i32) (result i64)))
 * (import "" "memory" (memory 1))
 * (func (export "call") (param i32 i32 i32 i32) (result i32) (local $packed i64)
 *   (local.set $packed (call $thunk (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
 *   (i64.store32 (i32.const 0) (local.get $packed))
 *   (i32.wrap_i64 (i64.shr_u (local.get $packed) (i64.const 32))))
 * ```
 */
// biome-ignore format: a section each
const CALLER = Uint8Array.of(
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  // The types of a thunk and of `call`.
  0x01, 0x11, 0x02, 0x60, 0x04, 0x7f, 0x7f, 0x7f, 0x7f, 0x01, 0x7e, 0x60, 0x04, 0x7f, 0x7f, 0x7f, 0x7f, 0x01, 0x7f,
  // The imports "thunk" and "memory".
  0x02, 0x15, 0x02, 0x00, 0x05, 0x74, 0x68, 0x75, 0x6e, 0x6b, 0x00, 0x00,
  0x00, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x00, 0x01,
  0x03, 0x02, 0x01, 0x01,
  // The export "call".
  0x07, 0x08, 0x01, 0x04, 0x63, 0x61, 0x6c, 0x6c, 0x00, 0x01,
  0x0a, 0x1f, 0x01, 0x1d, 0x01, 0x01, 0x7e,
  0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0x20, 0x03, 0x10, 0x00, 0x21, 0x04,
  0x41, 0x00, 0x20, 0x04, 0x3e, 0x02, 0x00,
  0x20, 0x04, 0x42, 0x20, 0x88, 0xa7, 0x0b,
);

/**
 * Calls one thunk. Returns the address of its answer as an i32, and stores the length where
 * {@link callerOf} says.
 */
export type ThunkCaller = (argsPtr: number, argsLen: number, state: number, funcIdx: number) => number;

/**
 * The state that all callers share. Created when it is first needed: most processes have no WebAssembly
 * supervisor.
 */
interface Callers {
  readonly module: object;
  readonly memory: SupervisorMemoryObject;
  readonly length: Uint32Array;
  readonly known: WeakMap<DispatchThunk, ThunkCaller>;
}

let callers: Callers | undefined;

function makeCallers(): Callers {
  const memory = new v8.Memory({ initial: 1, maximum: 1 });
  return {
    module: new v8.Module(CALLER),
    memory,
    length: new Uint32Array(memory.buffer, 0, 1),
    known: new WeakMap(),
  };
}

/**
 * Returns the caller of a thunk. It is requested when the thunk is first called, not when it is looked
 * up, because the reference does not notice a wrong type any earlier either.
 *
 * @throws SandboxError if the thunk has a different type
 */
export function callerOf(thunk: DispatchThunk): { call: ThunkCaller; length: Uint32Array } {
  callers ??= makeCallers();
  const { module, memory, length, known } = callers;
  let call = known.get(thunk);
  if (call === undefined) {
    call = makeCaller(module, { thunk, memory });
    known.set(thunk, call);
  }
  return { call, length };
}

function makeCaller(module: object, imports: object): ThunkCaller {
  try {
    return new v8.Instance(module, { '': imports }).exports.call as ThunkCaller;
  } catch (cause) {
    throw new SandboxError('the dispatch thunk must be of type (i32, i32, i32, i32) -> i64', { cause });
  }
}
