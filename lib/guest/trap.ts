/** The errors that traps become. */

import { InternalError, LimitError, TrapError, type TrapKind, type WasmFrame } from '../base/errors';
import { messageOf } from '../base/message';
import type { NativeFailure } from '../binding/addon';
import { HostTrap } from './host_trap';
import { type CallName, trapMessage } from './stop';

/** The error for a trap; `thrown` is what was thrown in a host call, if that is why. */
export function trapError(
  { trap, message, frames }: NativeFailure,
  thrown: { readonly thrown: unknown } | undefined,
  call: CallName,
): Error {
  if (trap === 'internal') return new InternalError(message);
  // The guest is not at fault.
  if (trap === 'out-of-memory') return new LimitError(message);
  const details = {
    trap: trap as TrapKind,
    wasmStack: frames as readonly WasmFrame[],
    exportName: call.exportName,
  };
  if (thrown === undefined) {
    // The sentences for failures in a host call are those of the reference.
    return new TrapError(trap === 'supervisor' ? message : trapMessage(message, trap, call), details);
  }
  const cause = thrown.thrown;
  if (!HostTrap.is(cause)) return new TrapError(messageOf(cause), { ...details, cause });
  if (cause.thrown === undefined) return new TrapError(cause.message, details);
  return new TrapError(cause.message, { ...details, cause: cause.thrown.value });
}
