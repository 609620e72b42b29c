/** The channels that tell of instantiations and of calls into guests. `diagnostics.ts` has the events as users see them. */

import type { Value } from '../base/values';
import { Tracing } from '../guest/diagnostics';
import type { Instantiate } from './instantiate';

/** An `InstantiateEvent` that has just begun. */
export interface InstantiationEvent {
  readonly components: object;
  readonly version: Instantiate;
  readonly isAsync: boolean;
}

export const instantiations = new Tracing<InstantiationEvent>('instantiate');

export const invocations = new Tracing<{
  readonly instance: object;
  readonly exportName: string;
  readonly args: readonly (Value | number | bigint)[];
  readonly isAsync: boolean;
}>('invoke');
