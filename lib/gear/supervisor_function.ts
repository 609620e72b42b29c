/** The functions of a {@link JsSupervisor}. */

import type { Value } from '../base/values';
import type { SandboxInstance } from './instance';
import type { Memory } from './memory';
import type { SupervisorResult } from './results';

/**
 * A function of a {@link JsSupervisor}. It gets the guest's arguments and the call, and may return a Promise if the call into the guest is
 * asynchronous. What it throws traps the guest. Mirrors `gear_sandbox::HostFuncType`.
 *
 * @example
 * ```ts
 * const charge: SupervisorFunction = ([price], { gas }) => ({ gas: (gas ?? 0n) - BigInt(Value.toNumber(price)) });
 * const index = supervisor.define(charge);
 * ```
 */
export type SupervisorFunction = (
  args: Value[],
  call: SupervisorCall,
  // biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement is a fine supervisor function
) => SupervisorResult | void | PromiseLike<SupervisorResult | void>;

/**
 * What a function of a `JsSupervisor` may know about the guest that is calling it. It must not be used after the function is done: its
 * properties throw a {@link SandboxError} (`ERR_SANDBOX_ARGUMENT`) then. If the function has returned a Promise, it is done when that is
 * settled.
 *
 * @example
 * ```ts
 * const log = supervisor.define(([ptr, len], { memory }) => {
 *   if (memory === undefined) throw new Error('the guest has no memory');
 *   console.log(Buffer.from(memory.read(Value.toNumber(ptr), Value.toNumber(len))).toString());
 * });
 * ```
 */
export interface SupervisorCall {
  /** Under `Instantiate.Version2` the guest's `gear_gas` at the time of the call, undefined under `Version1`. */
  readonly gas?: bigint | undefined;
  /** The running guest; undefined while its start function runs. */
  readonly instance?: SandboxInstance | undefined;
  /** The running guest's memory 0, whether it is imported, exported or neither; undefined if it has none. */
  readonly memory?: Memory | undefined;
}
