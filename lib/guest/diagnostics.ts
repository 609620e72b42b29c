/**
 * Tracing channels of `node:diagnostics_channel`, of which one tells of every call that leaves a guest. Code that publishes first asks
 * {@link isTraced}, which is all that a channel costs while nobody subscribes.
 *
 * The channel of a name is `tracing:sandbox-host.<name>:*`, where `*` is one of `start`, `end`, `asyncStart`, `asyncEnd` and `error`, as Node
 * describes them for `TracingChannel`.
 */

import { type Channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel';

/** What subscribers are told of a call that leaves a guest. The code that runs the guest adds the guest. */
export interface HostCallEvent {
  /** What the guest imports the function as: `module.name`. */
  readonly importName: string;
  /** Whether the call into the guest is asynchronous, so that the answer may take time. */
  readonly isAsync: boolean;
  /** Whether the call into the guest was ended before the answer was there. */
  isStopped?: boolean;
  /** What was thrown, if the call failed. */
  error?: unknown;
}

const CAN_INHERIT = canInherit(tracingChannel('sandbox-host.probe'));

/** A tracing channel of Node, for publishing. Subscribers use the channels behind it, by their names. */
export class Tracing<Event extends object> {
  readonly channels: TracingChannel<unknown, Event>;
  /** The same channels, made to reach every subscriber. */
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

/** What guests call: their supervisor, or whatever else answers them. */
export const hostCalls = new Tracing<HostCallEvent>('supervisor');

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
        // As Node does, so that the publisher is not disturbed.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  };
  return Object.create(channel, { publish: { value: publish } });
}
