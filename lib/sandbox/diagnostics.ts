/**
 * What can be watched through `node:diagnostics_channel`: every instantiation, every call into a guest and every call out of one, each as
 * a tracing channel. Whoever looks at a channel first asks {@link isTraced}, which is all that it costs while nobody subscribes.
 *
 * The channels are `tracing:sandbox-host.instantiate:*`, `tracing:sandbox-host.invoke:*` and `tracing:sandbox-host.supervisor:*`, where
 * `*` is one of `start`, `end`, `asyncStart`, `asyncEnd` and `error`, as Node describes them for `TracingChannel`.
 */

import { type Channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import type { Value } from '../values';
import type { Instantiate } from './backend';
import type { SandboxComponents } from './components';
import type { SandboxInstance } from './instance';
import type { SupervisorFuncIndex } from './supervisor';

/**
 * What subscribers of the tracing channel `sandbox-host.instantiate` get. `result` is there at the end if it went well, `error` if not. The
 * order of the events is that of Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.instantiate:error', (event) => console.error((event as InstantiateEvent).error));
 * ```
 */
export interface InstantiateEvent {
  /** Whose instance it is to be. */
  readonly components: SandboxComponents<unknown>;
  /** The convention of its supervisor calls. */
  readonly version: Instantiate;
  /** Whether it is an `instantiateAsync`. */
  readonly isAsync: boolean;
  /** The instance, which may not have an index yet. */
  result?: SandboxInstance;
  /** What was thrown. */
  error?: unknown;
}

/**
 * What subscribers of the tracing channel `sandbox-host.invoke` get. `result` is there at the end if it went well, `error` if not. The
 * order of the events is that of Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.invoke:start', (event) => console.log('into', (event as InvokeEvent).exportName));
 * subscribe('tracing:sandbox-host.invoke:end', (event) => console.log('out of', (event as InvokeEvent).exportName));
 * ```
 */
export interface InvokeEvent {
  /** The guest that is called. */
  readonly instance: SandboxInstance;
  /** The name of the function, as the caller gave it. */
  readonly exportName: string;
  /** Its arguments, as the caller gave them: they are not checked yet when the call starts. */
  readonly args: readonly (Value | number | bigint)[];
  /** Whether it is an `invokeAsync`. */
  readonly isAsync: boolean;
  /** What it returned: undefined for nothing, an array for several results. */
  result?: Value | Value[] | undefined;
  /** What was thrown. */
  error?: unknown;
}

/**
 * What subscribers of the tracing channel `sandbox-host.supervisor` get: a guest calls its supervisor. The order of the events is that of
 * Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.supervisor:start', (event) => console.log((event as SupervisorEvent).importName));
 * ```
 */
export interface SupervisorEvent {
  /** The guest that calls; undefined while its start function runs. */
  readonly instance: SandboxInstance | undefined;
  /** What the guest imports the function as: `module.name`. */
  readonly importName: string;
  /** The supervisor's index of the function. */
  readonly funcIdx: SupervisorFuncIndex;
  /** Whether the call into the guest is asynchronous, so that the supervisor may answer with a Promise. */
  readonly isAsync: boolean;
  /** Whether the call into the guest was ended before the supervisor's Promise was settled. */
  isStopped?: boolean;
  /** What was thrown, if the call failed. */
  error?: unknown;
}

export const instantiations = channel<InstantiateEvent>('instantiate');
export const invocations = channel<InvokeEvent>('invoke');
export const supervisorCalls = channel<SupervisorEvent>('supervisor');

/**
 * A tracing channel of Node's whose subscribers are all told of an event, also if one of them unsubscribes meanwhile: Nodes before
 * 20.19 walk through the very list that this shortens, and leave out the next one. The channels behind it, by which others subscribe, are
 * Node's own.
 */
function channel<Event extends object>(name: string): TracingChannel<unknown, Event> {
  const tracing = tracingChannel<unknown, Event>(`sandbox-host.${name}`);
  const events = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;
  return Object.create(
    tracing,
    Object.fromEntries(events.map((event) => [event, { value: tellingAll(tracing[event] as Channel) }])),
  );
}

/** A channel that inherits everything from Node's but the way in which it tells its subscribers. */
function tellingAll(channel: Channel): Channel {
  const publish = (message: unknown): void => {
    const { _subscribers: subscribers } = channel as { _subscribers?: unknown };
    if (!Array.isArray(subscribers)) {
      channel.publish(message);
      return;
    }
    for (const subscriber of [...subscribers]) {
      try {
        subscriber(message, channel.name);
      } catch (error) {
        // As Node does, so that who publishes is not disturbed.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  };
  return Object.create(channel, { publish: { value: publish } });
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
