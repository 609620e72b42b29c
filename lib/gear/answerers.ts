/** Chooses the answerer for a supervisor. */

import { argumentError } from '../base/arguments';
import type { Answerer } from '../guest/answerer';
import type { CallingGuest } from './calling_guest';
import { DirectAnswerer, type DirectFunction, directFunctions } from './direct';
import { ContextAnswerer } from './protocol/answerer';
import {
  type AsyncSupervisorContext,
  checkSupervisor,
  refuseForeign,
  type SupervisorContext,
} from './supervisor';

/** Checks that something is a supervisor, of this copy of the package if it is a `JsSupervisor`. */
export function checkContext(ctx: unknown): asserts ctx is SupervisorContext {
  if (functionsOf(ctx) === undefined) refuseForeign(ctx as object);
}

/** What answers a guest by a supervisor, which is checked. */
export function answererFor(
  guest: CallingGuest,
  ctx: SupervisorContext | AsyncSupervisorContext,
): DirectAnswerer | ContextAnswerer {
  const functions = functionsOf(ctx);
  if (functions !== undefined) return new DirectAnswerer(guest, functions);
  refuseForeign(ctx);
  return new ContextAnswerer(guest, ctx);
}

/** Whether the supervisor of an answerer must be checked before each call, because its methods are the user's to change. */
export function isToBeChecked(answerer: Answerer): boolean {
  return answerer instanceof ContextAnswerer;
}

/** The functions of a `JsSupervisor`; undefined for another supervisor, which is checked here. */
function functionsOf(ctx: unknown): readonly DirectFunction[] | undefined {
  if (typeof ctx !== 'object' || ctx === null) throw argumentError('ctx', 'a SupervisorContext', ctx);
  const functions = directFunctions(ctx);
  if (functions === undefined) checkSupervisor(ctx);
  return functions;
}
