/** How a stopped call ends: what it throws, and how messages name its deadline or fuel. */

import { describe } from '../base/arguments';
import { SandboxError, type TrapError } from '../base/errors';
import type { StopConditions } from './call_options';
import { isAborted, reasonOf, type Signal } from './signal';

/** What the last stopped call has thrown, wrapped, because a signal's reason can be anything. */
let lastStop: { readonly thrown: unknown } | undefined;

/** Ends a call for its signal. */
export function throwReason(signal: Signal): never {
  const thrown = reasonOf(signal);
  lastStop = { thrown };
  throw thrown;
}

/** Ends a call before it begins, if its signal is aborted. */
export function throwIfAborted(signal: Signal | undefined): void {
  if (signal !== undefined && isAborted(signal)) throwReason(signal);
}

/** Ends a call for its deadline, or that of a call around it. */
export function throwTimeout(thrown: SandboxError): never {
  lastStop = { thrown };
  throw thrown;
}

/** The deadline and the fuel of a running call, for messages only: native code enforces them. */
export interface Bounds {
  /** When the call must end, by `performance.now`; Infinity if it need not. */
  readonly at: number;
  readonly conditions: StopConditions;
  readonly around: Bounds | undefined;
}

/** The bounds of a call that begins now, inside calls that have others. */
export function boundsWithin(
  conditions: StopConditions | undefined,
  around: Bounds | undefined,
): Bounds | undefined {
  if (conditions === undefined) return around;
  const at = conditions.timeout > 0 ? performance.now() + conditions.timeout : Infinity;
  return { at, conditions, around };
}

/** A call as messages name it, and what it is bounded by. */
export interface CallName {
  /** The export that is called; undefined for a start function, and where no guest runs. */
  readonly exportName: string | undefined;
  /** What is done instead of a call of an export. */
  readonly doing?: string;
  readonly conditions: StopConditions | undefined;
  /** Of this call, the first if it has any, and of those around it. */
  readonly bounds: Bounds | undefined;
}

function nameOf({ exportName, doing = 'the start function' }: CallName): string {
  return exportName === undefined ? doing : `the call of the export ${describe(exportName)}`;
}

/** The error for a call that a deadline has ended. */
export function timeoutError(call: CallName, cause: TrapError | undefined): SandboxError {
  return new SandboxError(`${nameOf(call)} has taken longer than ${deadlineOf(call)}`, {
    code: 'ERR_SANDBOX_TIMEOUT',
    ...(cause === undefined ? {} : { cause }),
  });
}

function deadlineOf({ conditions, bounds }: CallName): string {
  let first = bounds;
  for (let entry = bounds?.around; entry !== undefined; entry = entry.around) {
    if (first === undefined || entry.at < first.at) first = entry;
  }
  const timeout = first === undefined ? 0 : (first.conditions.wholeTimeout ?? first.conditions.timeout);
  if (first === undefined || timeout === 0) return 'its timeout';
  // Not by the conditions: several calls may have the same defaults.
  return conditions !== undefined && first === bounds
    ? `its timeout of ${timeout} ms`
    : `the timeout of ${timeout} ms of a call around it`;
}

/** What the engine says of a trap, and where it was. */
export function trapMessage(message: string, trap: string, call: CallName): string {
  if (trap !== 'out-of-fuel') return `${message}, in ${nameOf(call)}`;
  const budget = budgetOf(call);
  return budget === undefined
    ? `${message}, in ${nameOf(call)}`
    : `${message}: ${nameOf(call)} has used up ${budget}`;
}

function budgetOf({ conditions, bounds }: CallName): string | undefined {
  const own = conditions?.fuel;
  let around: bigint | undefined;
  let entry = conditions === undefined ? bounds : bounds?.around;
  for (; entry !== undefined && around === undefined; entry = entry.around) around = entry.conditions.fuel;
  const left = around === undefined ? undefined : `what was left of the ${around} units of a call around it`;
  if (own === undefined) return left;
  return `its budget of ${own} units${left === undefined ? '' : `, or ${left}`}`;
}

/** Whether this is what the last stopped call has thrown. */
export function isStop(thrown: unknown): boolean {
  return lastStop !== undefined && Object.is(lastStop.thrown, thrown);
}
