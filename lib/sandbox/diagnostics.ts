/**
 * What can be watched through `node:diagnostics_channel`: every instantiation, every call into a guest and every call out of one, each as
 * a tracing channel. Whoever looks at a channel first asks {@link isTraced}, which is all that it costs while nobody subscribes.
 *
 * The channels are `tracing:sandbox-host.instantiate:*`, `tracing:sandbox-host.invoke:*` and `tracing:sandbox-host.supervisor:*`, where
 * `*` is one of `start`, `end`, `asyncStart`, `asyncEnd` and `error`, as Node describes them for `TracingChannel`.
 */

import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import type { Value } from '../values';
import type { Instantiate } from './backend';
import type { SandboxComponents } from './components';
import type { SandboxInstance } from './instance';
import type { SupervisorFuncIndex } from './supervisor';

/** What subscribers of `sandbox-host.instantiate` get. `result` is there at the end if it went well, `error` if not. */
export interface InstantiateEvent {
  readonly components: SandboxComponents<unknown>;
  readonly version: Instantiate;
  /** Whether it is an `instantiateAsync`. */
  readonly isAsync: boolean;
  result?: SandboxInstance;
  error?: unknown;
}

/** What subscribers of `sandbox-host.invoke` get. `result` is there at the end if it went well, `error` if not. */
export interface InvokeEvent {
  readonly instance: SandboxInstance;
  readonly exportName: string;
  readonly args: readonly Value[];
  /** Whether it is an `invokeAsync`. */
  readonly isAsync: boolean;
  result?: Value | Value[] | undefined;
  error?: unknown;
}

/** What subscribers of `sandbox-host.supervisor` get: a guest calls its supervisor. */
export interface SupervisorEvent {
  /** The guest that calls; undefined while its start function runs. */
  readonly instance: SandboxInstance | undefined;
  /** What the guest imports the function as: `module.name`. */
  readonly importName: string;
  readonly funcIdx: SupervisorFuncIndex;
  /** Whether the call into the guest is asynchronous, so that the supervisor may answer with a Promise. */
  readonly isAsync: boolean;
  /** Whether the call into the guest was ended before the supervisor's Promise was settled. */
  isStopped?: boolean;
  error?: unknown;
}

export const instantiations = channel<InstantiateEvent>('instantiate');
export const invocations = channel<InvokeEvent>('invoke');
export const supervisorCalls = channel<SupervisorEvent>('supervisor');

function channel<Event extends object>(name: string): TracingChannel<unknown, Event> {
  return tracingChannel<unknown, Event>(`sandbox-host.${name}`);
}

type Watched = Readonly<
  Record<'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error', { readonly hasSubscribers: boolean }>
>;

/** Whether anybody subscribes to one of a channel's events. */
export function isTraced({ start, end, asyncStart, asyncEnd, error }: Watched): boolean {
  return (
    start.hasSubscribers ||
    end.hasSubscribers ||
    error.hasSubscribers ||
    asyncStart.hasSubscribers ||
    asyncEnd.hasSubscribers
  );
}
