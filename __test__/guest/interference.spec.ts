// Code of others that runs in the middle of a call, and uses other guests there: subscribers, hooks, getters, patched prototypes. The call
// comes to the same as without it. All calls go through one scratch buffer, so whoever meddles writes over what stands in it.
import assert from 'node:assert/strict';
import { AsyncLocalStorage, createHook } from 'node:async_hooks';
import { channel, tracingChannel } from 'node:diagnostics_channel';
import { after, describe, it } from 'node:test';
import {
  Instantiate,
  type InvokeOptions,
  JsSupervisor,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  TrapError,
  Value,
} from '../../index';
import { supervisor } from '../gear/host/fixture';
import { forEachBackend, otherThan } from '../support/engines';
import { environment } from '../support/environment';
import type { DefiningSupervisor, GuestFunction } from '../support/guest';
import { ProtocolSupervisor, sixSteps } from '../support/protocol';
import { wat } from '../support/wat';

const { Version1, Version2 } = Instantiate;

const GUEST = `(module
  (import "env" "f" (func $f (param i64 i32 f64) (result i64)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func $start (drop (call $f (i64.const 1) (i32.const 2) (f64.const 3))))
  (start $start)
  (func (export "run") (param i64 i32 f64) (result i64)
    (i64.sub (call $f (local.get 0) (local.get 1) (local.get 2))
             (call $f (i64.const 5) (i32.add (local.get 1) (i32.const 1)) (local.get 2))))
  (func (export "many") (param i64 i32 f64) (result i64 i32 f64)
    (call $f (local.get 0) (local.get 1) (local.get 2)) (local.get 1) (local.get 2)))`;

/** Uses all that a call can use of the scratch buffer. */
const NOISE = `(module
  (import "env" "g" (func $g (param i64 i64 i64 i64) (result i64)))
  (global (export "gear_gas") (mut i64) (i64.const -1))
  (global (export "global") (mut i64) (i64.const -1))
  (memory (export "memory") 1)
  (func (export "noise") (param i64 i64 i64 i64) (result i64 i64 i64 i64)
    (call $g (local.get 0) (local.get 1) (local.get 2) (local.get 3))
    (local.get 1) (local.get 2) (local.get 3))
  (func (export "trap") unreachable))`;

const NOISY = [Value.I64(-1n), Value.I64(-2n), Value.I64(-3n), Value.I64(-4n)];

/** Whoever meddles with calls: uses another guest in every way. */
class Meddler {
  readonly #instance: SandboxInstance;
  readonly #memory: Memory;
  readonly #supervisor = new JsSupervisor();
  #isActing = false;
  #times = 0;

  constructor(backend: SandboxBackend) {
    const components = new SandboxComponents(backend, { fuel: true });
    const g = this.#supervisor.define(([a]) => {
      if ((a as { value: bigint }).value === 13n) throw new Error('on purpose');
      return { gas: -7n, value: a };
    });
    const env = environment(components, { 'env.g': g });
    const made = components.instantiate(Version2, wat(NOISE), env, this.#supervisor);
    this.#instance = components.instance(made.register(components, undefined));
    this.#memory = this.#instance.getMemory('memory') as Memory;
  }

  /** How often it has meddled since it was asked the last time. */
  times(): number {
    const times = this.#times;
    this.#times = 0;
    return times;
  }

  readonly act = (): void => {
    if (this.#isActing) return;
    this.#isActing = true;
    try {
      this.#times += 1;
      const instance = this.#instance;
      assert.deepEqual(instance.invoke('noise', NOISY, this.#supervisor, { fuel: 1000n }), NOISY);
      assert.throws(() => instance.invoke('trap', [], this.#supervisor), TrapError);
      assert.throws(
        () => instance.invoke('noise', [Value.I64(13n), ...NOISY.slice(1)], this.#supervisor),
        TrapError,
      );
      assert.throws(() => instance.invoke('noise', NOISY, this.#supervisor, { fuel: 0n }), TrapError);
      instance.setGlobalVal('global', Value.I64(-9n));
      assert.deepEqual(instance.getGlobalVal('global'), Value.I64(-9n));
      this.#memory.writeFrom(0, Uint8Array.of(1, 2, 3));
      assert.equal(this.#memory.read(1, 1)[0], 2);
      if (this.#memory.memorySize() < 100) this.#memory.memoryGrow(1);
    } finally {
      this.#isActing = false;
    }
  };
}

/** What the calls under test do at each place where a caller or a supervisor may have code of theirs. */
const places = {
  argument() {},
  option() {},
  result() {},
  thrown() {},
  step() {},
};

/** A value whose properties run code. */
function watched(value: Value, place: 'argument' | 'result'): Value {
  const properties = Object.entries(value).map(([key, held]) => [
    key,
    {
      enumerable: true,
      get() {
        places[place]();
        return held;
      },
    },
  ]);
  return Object.defineProperties({}, Object.fromEntries(properties)) as Value;
}

const thrown = {
  toString() {
    places.thrown();
    return 'thrown';
  },
};

/** Multiplies, adds and cuts, so that no argument may be another; a 42 as the second one makes it throw. */
function answerTo(args: readonly Value[]): Value {
  const { value: a } = args[0] as { value: bigint };
  const { value: b } = args[1] as { value: number };
  const c = Value.toNumber(args[2]);
  if (b === 42) throw thrown;
  return Value.I64(a * 1000n + BigInt(b) * 10n + BigInt(Math.trunc(c)));
}

/** What a guest came to. */
interface Came {
  readonly one: unknown;
  readonly several: unknown;
  readonly gas: unknown;
  readonly trap: unknown;
  readonly fuel: readonly (bigint | undefined)[];
}

/** A way to call a guest. */
interface Way {
  readonly name: string;
  make(backend: SandboxBackend, version: Instantiate): () => Promise<Came>;
}

const ARGUMENTS: [Value, Value, Value] = [Value.I64(3n), Value.I32(7), Value.f64(9.5)];
const THROWING: [Value, Value, Value] = [Value.I64(3n), Value.I32(42), Value.f64(9.5)];

type Call = (name: string, args: Value[]) => unknown;

/** Calls a guest that is new, and looks at everything that it has left. */
async function came(instance: SandboxInstance, call: Call): Promise<Came> {
  instance.setGlobalVal('gear_gas', Value.I64(1000n));
  const args = (values: readonly Value[]): Value[] => values.map((value) => watched(value, 'argument'));
  const one = await call('run', args(ARGUMENTS));
  const fuel = [instance.fuel];
  const several = await call('many', args(ARGUMENTS));
  fuel.push(instance.fuel);
  const gas = instance.getGlobalVal('gear_gas');
  let trap: unknown;
  try {
    await call('run', args(THROWING));
  } catch (error) {
    assert.ok(error instanceof TrapError, String(error));
    assert.equal(error.cause, thrown);
    trap = [error.trap, error.message, error.exportName];
  }
  fuel.push(instance.fuel);
  return { one, several, gas, trap, fuel };
}

/** A supervisor function. Under Version 2 it takes ten units of gas. */
const answering =
  (version: Instantiate, later: boolean): GuestFunction =>
  (args, { gas }) => {
    const value = watched(answerTo(args), 'result');
    const result = version === Version1 ? value : { gas: (gas as bigint) - 10n, value };
    return later ? new Promise((resolve) => setImmediate(resolve, result)) : result;
  };

/** Options whose properties run code, without effect. */
function limits(): InvokeOptions {
  const get = (): number => {
    places.option();
    return 60_000;
  };
  const options: InvokeOptions = { fuel: 1_000_000n, signal: new AbortController().signal };
  return Object.defineProperty(options, 'timeout', { enumerable: true, get });
}

interface DirectParts {
  readonly isAsync: boolean;
  readonly later?: boolean;
  readonly steps?: boolean;
  readonly bounded?: boolean;
}

/** A way by the methods of an instance. */
const way = (name: string, { isAsync, later = false, steps = false, bounded = false }: DirectParts): Way => ({
  name,
  make(backend, version) {
    const components = new SandboxComponents(backend, { fuel: true });
    const ctx: DefiningSupervisor = steps ? new ProtocolSupervisor(version) : new JsSupervisor();
    const f = ctx.define(answering(version, later));
    if (ctx instanceof ProtocolSupervisor) {
      for (const step of sixSteps) {
        ctx.doAt(step, (run) => {
          places.step();
          const done = run();
          places.step();
          return isAsync ? Promise.resolve(done) : done;
        });
      }
    }
    const wasm = wat(GUEST);
    const env = environment(components, { 'env.f': f });
    const options = (): InvokeOptions | undefined => (bounded ? limits() : undefined);
    return async () => {
      const made = isAsync
        ? await components.instantiateAsync(version, wasm, env, ctx, options())
        : components.instantiate(version, wasm, env, ctx, options());
      const instance = components.instance(made.register(components, undefined));
      return await came(instance, (name, args) =>
        isAsync
          ? instance.invokeAsync(name, args, ctx, options())
          : instance.invoke(name, args, ctx, options()),
      );
    };
  },
});

const throughWebAssembly: Way = {
  name: 'to a WebAssembly supervisor',
  make(backend, version) {
    const given = supervisor(backend, { options: { fuel: true } });
    const { allocator } = given;
    given.allocator = {
      allocate(size) {
        places.step();
        return allocator.allocate(size);
      },
      deallocate(ptr) {
        places.step();
        allocator.deallocate(ptr);
      },
    };
    given.answer = ({ args }) => {
      places.step();
      // Under Version 2 the gas comes first.
      const values = decoded(args).slice(version - 1);
      return given.ok(answerTo(values), version === Version1 ? undefined : 990n);
    };
    const parts = { version, thunk: '$thunk_js', functions: { 'env.f': 0 } } as const;
    const wasm = wat(GUEST);
    return async () => {
      const index = given.guest(wasm, parts);
      const instance = given.host.components.instance(index);
      given.setGlobal(index, 'gear_gas', Value.I64(1000n));
      const one = given.call(index, 'run', ARGUMENTS);
      const fuel = [instance.fuel];
      const gas = given.getGlobal(index, 'gear_gas');
      assert.equal(given.invoke(index, 'run', THROWING).status, -3);
      fuel.push(instance.fuel);
      const error = given.host.lastError;
      assert.ok(error instanceof TrapError && error.cause === thrown);
      return { one, several: undefined, gas, trap: [error.trap, error.message, error.exportName], fuel };
    };
  },
};

const ways: readonly Way[] = [
  way('directly', { isAsync: false }),
  way('directly, within limits', { isAsync: false, bounded: true }),
  way('by the six steps', { isAsync: false, steps: true }),
  way('by the six steps, within limits', { isAsync: false, steps: true, bounded: true }),
  throughWebAssembly,
  way('asynchronously, answered at once', { isAsync: true }),
  way('asynchronously, answered by a Promise, within limits', { isAsync: true, later: true, bounded: true }),
  way('asynchronously, by six steps that are Promises', { isAsync: true, steps: true }),
];

/** Installs somebody's code, and gives what takes it away. */
type Install = (act: () => void) => () => void;

/** Whose code runs in the middle of a call. */
const others: readonly (readonly [who: string, install: Install])[] = [
  ...(['instantiate', 'invoke', 'supervisor'] as const).flatMap((kind) => [
    ...(['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const).map(
      (event) =>
        [`a subscriber to ${kind}:${event}`, subscriber(`tracing:sandbox-host.${kind}:${event}`)] as const,
    ),
    [`a store that is bound to ${kind}:start`, store(`sandbox-host.${kind}`)] as const,
  ]),
  ...(['init', 'before', 'after', 'destroy'] as const).map(
    (event) => [`the async hook ${event}`, hook(event)] as const,
  ),
  ...(['argument', 'option', 'result', 'thrown', 'step'] as const).map(
    (place) => [`the ${place} of a call`, at(place)] as const,
  ),
  ...(
    [
      [Array.prototype, ['map', 'forEach', 'push', 'slice']],
      [Map.prototype, ['get', 'set', 'delete']],
      [WeakMap.prototype, ['get']],
      [AsyncLocalStorage.prototype, ['getStore', 'run']],
      [EventTarget.prototype, ['addEventListener', 'removeEventListener']],
      [Promise.prototype, ['then']],
    ] as const
  ).flatMap(([prototype, names]) =>
    names.map(
      (name) =>
        [`a patched ${prototype.constructor.name}.prototype.${name}`, patch(prototype, name)] as const,
    ),
  ),
  ...[Array, Uint8Array, Promise].map(
    (Class) => [`the Symbol.species of ${Class.name}`, property(Class, Symbol.species)] as const,
  ),
  ...(['prepareStackTrace', 'stackTraceLimit'] as const).map(
    (name) => [`Error.${name}`, property(Error, name)] as const,
  ),
];

function subscriber(name: string): Install {
  return (act) => {
    channel(name).subscribe(act);
    return () => channel(name).unsubscribe(act);
  };
}

function store(name: string): Install {
  return (act) => {
    const storage = new AsyncLocalStorage();
    const { start } = tracingChannel(name);
    start.bindStore(storage, () => {
      act();
      return 1;
    });
    return () => start.unbindStore(storage);
  };
}

function hook(event: 'init' | 'before' | 'after' | 'destroy'): Install {
  return (act) => {
    const installed = createHook({ [event]: () => act() }).enable();
    return () => installed.disable();
  };
}

function at(place: keyof typeof places): Install {
  return (act) => {
    const before = places[place];
    places[place] = act;
    return () => {
      places[place] = before;
    };
  };
}

function patch(prototype: object, name: string): Install {
  return (act) => {
    const before = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
    const original = before.value as (...args: unknown[]) => unknown;
    const { apply } = Reflect;
    Object.defineProperty(prototype, name, {
      ...before,
      value: function patched(this: unknown, ...args: unknown[]) {
        act();
        return apply(original, this, args);
      },
    });
    return () => void Object.defineProperty(prototype, name, before);
  };
}

function property(holder: object, key: PropertyKey): Install {
  return (act) => {
    const before = Object.getOwnPropertyDescriptor(holder, key);
    const value: unknown = before?.get === undefined ? before?.value : holder;
    Object.defineProperty(holder, key, {
      configurable: true,
      get() {
        act();
        return value;
      },
    });
    return () => {
      if (before === undefined) Reflect.deleteProperty(holder, key);
      else Object.defineProperty(holder, key, before);
    };
  };
}

forEachBackend((backend) => {
  describe(`a call into a guest on ${backend}`, () => {
    const meddled = new Map(others.map(([who]) => [who, 0]));
    for (const version of [Version1, Version2]) {
      for (const { name, make } of ways) {
        describe(`${name}, under Version${version}`, () => {
          for (const [who, install] of others) {
            it(`comes to the same when ${who} uses other guests`, async () => {
              const call = make(backend, version);
              const expected = await call();
              for (const other of [backend, otherThan(backend)]) {
                const meddler = new Meddler(other);
                const uninstall = install(meddler.act);
                let actual: Came;
                try {
                  actual = await call();
                } finally {
                  uninstall();
                }
                meddled.set(who, (meddled.get(who) ?? 0) + meddler.times());
                assertSame(actual, expected);
              }
            });
          }
        });
      }
    }

    after(() => {
      const idle = [...meddled].filter(([who, times]) => times === 0 && !isIdle.has(who)).map(([who]) => who);
      assert.deepEqual(idle, [], 'nobody of these has run in a call');
    });
  });
});

/** That two calls came to the same, but for the fuel of what was done in the supervisor calls of one of them, which that has to pay for. */
function assertSame({ fuel: left, ...actual }: Came, { fuel: leftThen, ...expected }: Came): void {
  assert.deepEqual(actual, expected);
  assert.equal(left.length, leftThen.length);
  for (const [index, then] of leftThen.entries()) {
    const paid = (then as bigint) - (left[index] as bigint);
    assert.ok(paid >= 0n && paid < 5000n, `${left[index]} units left instead of ${then}`);
  }
}

/** Whom no call asks, because nothing of theirs is used; they are here in case that changes. Nothing fails to be instantiated here. */
const isIdle = new Set([
  'a subscriber to instantiate:error',
  'a patched Array.prototype.forEach',
  'a patched EventTarget.prototype.addEventListener',
  'a patched EventTarget.prototype.removeEventListener',
  'Error.prepareStackTrace',
  'Error.stackTraceLimit',
]);

/** The values of a call, by hand: a codec may be patched just now. */
function decoded(bytes: Uint8Array): Value[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values: Value[] = [];
  for (let offset = 1; offset < bytes.length; ) {
    const type = bytes[offset];
    if (type === 0) values.push({ type: 'i32', value: view.getInt32(offset + 1, true) });
    else if (type === 1) values.push({ type: 'i64', value: view.getBigInt64(offset + 1, true) });
    else values.push({ type: 'f64', bits: view.getBigUint64(offset + 1, true) });
    offset += type === 0 ? 5 : 9;
  }
  return values;
}
