/**
 * What can be watched through `node:diagnostics_channel`: every instantiation, every call into a guest and every call out of one, each as
 * a tracing channel. Whoever looks at a channel first asks {@link isTraced}, which is all that it costs while nobody subscribes.
 *
 * The channels are `tracing:sandbox-host.instantiate:*`, `tracing:sandbox-host.invoke:*` and `tracing:sandbox-host.supervisor:*`, where
 * `*` is one of `start`, `end`, `asyncStart`, `asyncEnd` and `error`, as Node describes them for `TracingChannel`.
 */

import { type Channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import type { Value } from '../base/values';
import type { SandboxComponents } from '../gear/components';
import type { SandboxInstance } from '../gear/instance';
import type { SupervisorFuncIndex } from '../gear/supervisor';
import type { Instantiate } from './backend';

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

const CAN_INHERIT = canInherit(tracingChannel('sandbox-host.probe'));

/** A tracing channel of Node's, for those who tell of events. Those who subscribe use the channels behind it, by their names. */
class Tracing<Event extends object> {
  readonly channels: TracingChannel<unknown, Event>;
  /** The same; they tell every subscriber. */
  readonly #telling: TracingChannel<unknown, Event>;

  constructor(name: string) {
    const channels = tracingChannel<unknown, Event>(`sandbox-host.${name}`);
    this.channels = channels;
    this.#telling = CAN_INHERIT ? tellingAll(channels) : channels;
  }

  /** As {@link TracingChannel.traceSync}. */
  traceSync<T>(run: () => T, event: Event): T {
    return this.#telling.traceSync(run, event) as T;
  }

  /** As {@link TracingChannel.tracePromise}. */
  tracePromise<T>(run: () => Promise<T>, event: Event): Promise<T> {
    return this.#telling.tracePromise(run, event) as Promise<T>;
  }

  /** Tells of an event that is no part of a function or a Promise. */
  publish(name: 'error' | 'asyncStart' | 'asyncEnd', event: Event): void {
    this.#telling[name].publish(event);
  }
}

type Watched = Readonly<
  Record<'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error', { readonly hasSubscribers: boolean }>
>;

/** Whether anybody subscribes to one of the events. Asks Node's own channels, which are all of one shape to V8. */
export function isTraced({ channels }: { readonly channels: Watched }): boolean {
  const { start, end, asyncStart, asyncEnd, error } = channels;
  return (
    start.hasSubscribers ||
    end.hasSubscribers ||
    error.hasSubscribers ||
    asyncStart.hasSubscribers ||
    asyncEnd.hasSubscribers
  );
}

export const instantiations = new Tracing<InstantiateEvent>('instantiate');
export const invocations = new Tracing<InvokeEvent>('invoke');
export const supervisorCalls = new Tracing<SupervisorEvent>('supervisor');

/**
 * Whether channels can be inherited from. Not in newer Nodes, where they have private members; and there is no need to, because those tell every
 * subscriber by themselves.
 */
function canInherit(channels: TracingChannel<unknown, object>): boolean {
  try {
    Object.create(channels).traceSync(() => undefined, {});
    return true;
  } catch {
    return false;
  }
}

/** Channels that inherit everything from Node's but the way in which they tell their subscribers: all that there are when it begins. */
function tellingAll<Event extends object>(
  channels: TracingChannel<unknown, Event>,
): TracingChannel<unknown, Event> {
  const events = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;
  const telling = events.map((event) => [event, { value: tellingEach(channels[event] as Channel) }]);
  return Object.create(channels, Object.fromEntries(telling));
}

function tellingEach(channel: Channel): Channel {
  const publish = (message: unknown): void => {
    const { _subscribers: subscribers } = channel as { _subscribers?: unknown };
    if (!Array.isArray(subscribers)) {
      channel.publish(message);
      return;
    }
    // Node walks through the very list that is shortened when somebody unsubscribes meanwhile.
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
