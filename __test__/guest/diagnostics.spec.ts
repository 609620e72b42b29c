// What can be watched through node:diagnostics_channel.
import assert from 'node:assert/strict';
import { type Channel, channel, tracingChannel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { afterEach, describe, it } from 'node:test';
import {
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { type GuestFunction, guest } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "twice") (param i32) (result i32) (call $f (call $f (local.get 0))))
  (func (export "trap") unreachable))`;

/** What a subscriber is told, as `kind:event` and what it was told with. */
type Told = { at: string; message: Record<string, unknown> };

const KINDS = ['instantiate', 'invoke', 'supervisor'] as const;
const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;

let unsubscribe: (() => void)[] = [];

/** Subscribes to everything. */
function watch(): Told[] {
  const told: Told[] = [];
  for (const kind of KINDS) {
    for (const event of EVENTS) {
      const listener = (message: unknown): void => {
        told.push({ at: `${kind}:${event}`, message: message as Record<string, unknown> });
      };
      const watched = channel(`tracing:sandbox-host.${kind}:${event}`);
      watched.subscribe(listener);
      unsubscribe.push(() => watched.unsubscribe(listener));
    }
  }
  return told;
}

/** Has a channel shorten its list of subscribers in place, as older Nodes do. */
function unsubscribeInPlace(watched: Channel): void {
  const list = (): unknown[] | undefined => (watched as { _subscribers?: unknown[] })._subscribers;
  Object.defineProperty(watched, 'unsubscribe', {
    configurable: true,
    value(subscriber: (message: unknown, name: string | symbol) => void) {
      const before = list();
      // A channel has another prototype when it has subscribers.
      const is = Object.getPrototypeOf(watched).unsubscribe.call(watched, subscriber);
      const left = list() ?? [];
      if (before !== undefined && is) before.splice(0, before.length, ...left);
      return is;
    },
  });
  unsubscribe.push(() => Reflect.deleteProperty(watched, 'unsubscribe'));
}

const names = (told: readonly Told[]): string[] => told.map(({ at }) => at);

const guestThat = (backend: SandboxBackend, f: GuestFunction) =>
  guest({ backend, wat: GUEST, imports: { 'env.f': f } });

forEachBackend((backend) => {
  describe(`diagnostics channels on ${backend}`, () => {
    afterEach(() => {
      for (const end of unsubscribe) end();
      unsubscribe = [];
    });

    it('tell of a call and of the supervisor calls in it, in order', async () => {
      const { instance, supervisor } = guestThat(backend, ([n]) => n);
      const told = watch();
      const args = [Value.I32(7)];
      assert.deepEqual(instance.invoke('twice', args, supervisor), Value.I32(7));
      assert.deepEqual(names(told), [
        'invoke:start',
        'supervisor:start',
        'supervisor:end',
        'supervisor:start',
        'supervisor:end',
        'invoke:end',
      ]);
      const [invoked, asked] = told.map(({ message }) => message);
      assert.equal(invoked.instance, instance);
      assert.equal(invoked.exportName, 'twice');
      assert.equal(invoked.args, args);
      assert.equal(invoked.isAsync, false);
      assert.deepEqual(invoked.result, Value.I32(7));
      assert.equal(asked.instance, instance);
      assert.equal(asked.importName, 'env.f');
      assert.equal(asked.funcIdx, 0);
      assert.equal(asked.isAsync, false);
    });

    it('tell of errors by identity', async () => {
      const why = new Error('why');
      const { instance, supervisor } = guestThat(backend, () => {
        throw why;
      });
      const told = watch();
      assert.throws(() => instance.invoke('twice', [Value.I32(7)], supervisor));
      assert.deepEqual(names(told), [
        'invoke:start',
        'supervisor:start',
        'supervisor:error',
        'supervisor:end',
        'invoke:error',
        'invoke:end',
      ]);
      assert.equal(told[2].message.error, why);
      const { error } = told[4].message;
      assert.ok(error instanceof TrapError);
      assert.equal(error.cause, why);
    });

    it('tell of nested calls as well', async () => {
      const { instance, supervisor } = guestThat(backend, ([n]) => {
        assert.throws(() => instance.invoke('trap', [], supervisor));
        return n;
      });
      const told = watch();
      instance.invoke('twice', [Value.I32(7)], supervisor);
      const invocations = told
        .filter(({ at }) => at === 'invoke:start')
        .map(({ message }) => message.exportName);
      assert.deepEqual(invocations, ['twice', 'trap', 'trap']);
      assert.equal(told.filter(({ at }) => at === 'invoke:error').length, 2);
    });

    it('tell of instantiations, also of those that fail', async () => {
      const wasm = wat('(module)');
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const env = environment(components, {});
      const told = watch();
      const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor);
      const index = made.register(components, undefined);
      assert.throws(() => components.instantiate(Instantiate.Version1, wasm.slice(0, 3), env, supervisor));
      await components.instantiateAsync(Instantiate.Version1, wasm, env, supervisor);
      await assert.rejects(
        components.instantiateAsync(Instantiate.Version1, wasm.slice(0, 3), env, supervisor),
      );
      assert.deepEqual(names(told), [
        ...['instantiate:start', 'instantiate:end'],
        ...['instantiate:start', 'instantiate:error', 'instantiate:end'],
        ...['instantiate:start', 'instantiate:end', 'instantiate:asyncStart', 'instantiate:asyncEnd'],
        ...[
          'instantiate:start',
          'instantiate:end',
          'instantiate:error',
          'instantiate:asyncStart',
          'instantiate:asyncEnd',
        ],
      ]);
      const [{ message }] = told;
      assert.equal(message.components, components);
      assert.equal(message.version, Instantiate.Version1);
      assert.equal(message.result, components.instance(index));
    });

    it('tell of a Promise that rejects', async () => {
      const why = new Error('why');
      const { instance, supervisor } = guestThat(backend, async () => {
        throw why;
      });
      const told = watch();
      await assert.rejects(instance.invokeAsync('twice', [Value.I32(7)], supervisor));
      assert.deepEqual(names(told).slice(2, 7), [
        ...['supervisor:start', 'supervisor:end', 'supervisor:error'],
        ...['supervisor:asyncStart', 'supervisor:asyncEnd'],
      ]);
      assert.equal(told[2].message.error, why);
    });

    it('tell of asynchronous calls, and when their supervisors have answered', async () => {
      const told = watch();
      const { instance, supervisor } = guestThat(backend, ([n]) =>
        names(told).includes('supervisor:end') ? new Promise((resolve) => setImmediate(resolve, n)) : n,
      );
      told.length = 0;
      assert.deepEqual(await instance.invokeAsync('twice', [Value.I32(7)], supervisor), Value.I32(7));
      assert.deepEqual(names(told), [
        ...['invoke:start', 'invoke:end', 'supervisor:start', 'supervisor:end'],
        ...['supervisor:start', 'supervisor:end', 'supervisor:asyncStart', 'supervisor:asyncEnd'],
        ...['invoke:asyncStart', 'invoke:asyncEnd'],
      ]);
      assert.ok(told.every(({ message }) => message.isAsync === true && !('error' in message)));
      assert.deepEqual(told.at(-1)?.message.result, Value.I32(7));
    });

    it('tell of a supervisor call that is ended before it has answered', async () => {
      const { instance, supervisor } = guestThat(backend, () => new Promise(() => {}));
      const told = watch();
      await assert.rejects(instance.invokeAsync('twice', [Value.I32(7)], supervisor, { timeout: 20 }));
      assert.deepEqual(names(told).slice(2, 6), [
        'supervisor:start',
        'supervisor:end',
        'supervisor:asyncStart',
        'supervisor:asyncEnd',
      ]);
      assert.equal(told[5].message.isStopped, true);
    });

    it('tell of the next call when the only subscriber has unsubscribed while it was told', () => {
      const { instance, supervisor } = guestThat(backend, ([n]) => n);
      const start = channel('tracing:sandbox-host.invoke:start');
      const once = (): void => void start.unsubscribe(once);
      start.subscribe(once);
      instance.invoke('twice', [Value.I32(7)], supervisor);
      const told = watch();
      instance.invoke('twice', [Value.I32(7)], supervisor);
      assert.equal(names(told).filter((name) => name === 'invoke:start').length, 1);
    });

    for (const kind of ['sync', 'async'] as const) {
      it(`tell every subscriber, also when one unsubscribes while it is told, in ${kind} calls`, async () => {
        const { instance, supervisor } = guestThat(backend, async ([n]) => n);
        const sync = guestThat(backend, ([n]) => n);
        for (const name of KINDS.flatMap((kind) => EVENTS.map((event) => `${kind}:${event}`))) {
          const watched = channel(`tracing:sandbox-host.${name}`);
          unsubscribeInPlace(watched);
          const heard: string[] = [];
          const first = (): void => {
            heard.push('first');
            watched.unsubscribe(first);
          };
          const second = (): void => void heard.push('second');
          watched.subscribe(first);
          watched.subscribe(second);
          unsubscribe.push(() => watched.unsubscribe(second));
          if (kind === 'sync') sync.call('twice', Value.I32(7));
          else await instance.invokeAsync('twice', [Value.I32(7)], supervisor);
          watched.unsubscribe(first);
          // Who is told second is told as often as whoever comes first, and more.
          if (heard.length > 0) assert.deepEqual(heard.slice(0, 2), ['first', 'second'], name);
        }
      });
    }

    it('let what a subscriber throws become an uncaught exception, and tell the others', async () => {
      const { instance, supervisor } = guestThat(backend, ([n]) => n);
      const why = new Error('why');
      const start = channel('tracing:sandbox-host.invoke:start');
      const throwing = (): never => {
        throw why;
      };
      start.subscribe(throwing);
      unsubscribe.push(() => start.unsubscribe(throwing));
      const told = watch();
      const before = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      try {
        const uncaught = once(process, 'uncaughtException');
        assert.deepEqual(instance.invoke('twice', [Value.I32(7)], supervisor), Value.I32(7));
        assert.deepEqual((await uncaught)[0], why);
      } finally {
        for (const listener of before) process.on('uncaughtException', listener);
      }
      assert.equal(names(told)[0], 'invoke:start');
    });

    it('carry the async context that a subscriber binds to them', async () => {
      const { AsyncLocalStorage } = await import('node:async_hooks');
      const storage = new AsyncLocalStorage<string>();
      const seen: (string | undefined)[] = [];
      const { instance, supervisor } = guestThat(backend, ([n]) => {
        seen.push(storage.getStore());
        return n;
      });
      const { start } = tracingChannel('sandbox-host.invoke');
      start.bindStore(storage, () => 'span');
      unsubscribe.push(() => start.unbindStore(storage));
      instance.invoke('twice', [Value.I32(7)], supervisor);
      await instance.invokeAsync('twice', [Value.I32(7)], supervisor);
      assert.deepEqual(seen, ['span', 'span', 'span', 'span']);
    });
  });
});
