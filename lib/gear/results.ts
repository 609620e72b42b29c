/** What supervisor functions return. */

import { types } from 'node:util';
import { describe } from '../base/arguments';
import { shortName } from '../base/short_text';
import type { Value } from '../base/values';
import { HostTrap } from '../guest/host_trap';

/**
 * What a supervisor function of a {@link JsSupervisor} returns: a value of exactly the type of the guest's import, undefined for none, an
 * array of values if the import has several results, or, under `Instantiate.Version2`, any of these with the gas that is left. Mirrors
 * `sp_wasm_interface_common::ReturnValue` and `gear_sandbox_env::WasmReturnValue`, which have room for one value.
 */
export type SupervisorResult =
  | Value
  | readonly Value[]
  | undefined
  | {
      /** The gas that is left, an i64: the new value of the guest's global `gear_gas`. */
      readonly gas: bigint;
      /** The value; absent if the function returns nothing. */
      readonly value?: Value | readonly Value[] | undefined;
    };

/** Taken before anybody could change it. */
const promiseThen = Promise.prototype.then;

export function noFunction(funcIdx: number): never {
  throw new HostTrap(`the supervisor has no function with the index ${funcIdx}`);
}

export function refusePromise(result: unknown): void {
  if (isPromise(result)) {
    // The caller hears of the trap; nobody would of the Promise, and Node ends a process whose rejections nobody hears of.
    if (types.isPromise(result)) promiseThen.call(result, undefined, () => {});
    throw new HostTrap(
      'a supervisor function returned a Promise, which only asynchronous calls can wait for',
    );
  }
}

/** Whether a result has gas with it. A `Value` has a type, so the two cannot be mixed up. */
export function isGasResult(result: SupervisorResult): result is { gas: bigint; value?: Value } {
  return typeof result === 'object' && result !== null && !('type' in result) && 'gas' in result;
}

/** The gas that a supervisor function gave back. */
export function checkedGas(gas: unknown, name: string): bigint {
  if (typeof gas === 'bigint' && BigInt.asIntN(64, gas) === gas) return gas;
  throw new HostTrap(
    `the supervisor function for ${shortName(name)} must return gas as an i64 bigint, got ${describe(gas)}`,
  );
}

/** Whether `await` would wait for it. */
export function isPromise(result: unknown): result is PromiseLike<unknown> {
  const isObject = (typeof result === 'object' && result !== null) || typeof result === 'function';
  return isObject && typeof (result as { then?: unknown }).then === 'function';
}
