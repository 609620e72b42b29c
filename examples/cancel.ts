/**
 * Ends asynchronous calls before they are done: by a timeout, by a signal, and a hundred at once by one signal. This works for guests that
 * compute and for guests that wait for their supervisor. All of them can be called again. A subscriber of `node:diagnostics_channel` counts
 * the outcomes of all calls. `docs/guides/async-supervisors.md` has the rules.
 * `node --require ts-node/register examples/cancel.ts`
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { tracingChannel } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  type InvokeEvent,
  type InvokeOptions,
  JsSupervisor,
  SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  type SupervisorEvent,
  Value,
} from 'sandbox-host';
import wabt from 'wabt';

const GUEST = `(module
  (import "env" "sleep" (func $sleep (param $ms i32)))
  (global $rounds (export "rounds") (mut i64) (i64.const 0))
  (func (export "compute") (param $n i32) (result i32)
    (loop $again
      (global.set $rounds (i64.add (global.get $rounds) (i64.const 1)))
      (br $again))
    unreachable)
  (func (export "sleep") (param $ms i32) (result i32)
    (call $sleep (local.get $ms))
    (local.get $ms)))`;

/** Longer than any call in this example may take. */
const HOUR_MS = 3_600_000;
/** Long enough for a guest to start, even on a busy machine. */
const SOON_MS = 250;
const CROWD = 100;

/** The reason of an abort. A signal's reason can be any value; the caller gets the same object. */
class NotNeeded extends Error {}

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  const wasm: Uint8Array = parseWat('guest.wat', GUEST).toBinary({}).buffer;
  const tally = new Tally();
  for (const backend of Object.values(SandboxBackend)) {
    await endThem(backend, wasm);
    for (const line of tally.take()) console.log(`${backend}: ${line}`);
  }
}

async function endThem(backend: SandboxBackend, wasm: Uint8Array): Promise<void> {
  const print = (what: string, became: string): void => console.log(`${backend}: ${what}: ${became}`);
  using guests = new Guests(backend, wasm);
  const guest = await guests.make();

  print('in time', await outcome(guests.call(guest, 'sleep', 5, { timeout: HOUR_MS })));

  // A computing guest is ended wherever it is. Its changes remain.
  print('computing, by a timeout', await outcome(guests.call(guest, 'compute', 0, { timeout: SOON_MS })));
  const rounds = guest.getGlobalVal('rounds');
  print('it had got somewhere', String(rounds?.type === 'i64' && rounds.value > 0n));
  const computing = new AbortController();
  setTimeout(() => computing.abort(new NotNeeded('the user has left')), SOON_MS);
  const { signal } = computing;
  print('computing, by a signal', await outcome(guests.call(guest, 'compute', 0, { signal })));

  // A guest that waits for its supervisor is also ended at once, however long the supervisor's answer would take.
  print('sleeping, by a timeout', await outcome(guests.call(guest, 'sleep', HOUR_MS, { timeout: SOON_MS })));

  // One signal ends all calls that it was given to.
  const closing = new AbortController();
  const crowd = await Promise.all(Array.from({ length: CROWD }, () => guests.make()));
  const calls = crowd.map((each) => guests.call(each, 'sleep', HOUR_MS, { signal: closing.signal }));
  const outcomes = Promise.all(calls.map(outcome));
  await guests.asleep(CROWD);
  closing.abort(new NotNeeded('closing time'));
  print(`${CROWD} sleeping, by one signal`, [...new Set(await outcomes)].join(', '));

  print('the first one again', await outcome(guests.call(guest, 'sleep', 5, {})));
}

/** Guests of one backend, and their supervisor. */
class Guests {
  readonly #components: SandboxComponents;
  readonly #wasm: Uint8Array;
  readonly #env: GuestEnvironment;
  readonly #supervisor = new JsSupervisor();
  /**
   * A signal that fires when the call of a supervisor function is over. The package does not tell the function, but the function runs in the
   * async context in which `invokeAsync` was called.
   */
  readonly #end = new AsyncLocalStorage<AbortSignal>();
  #sleeping = 0;
  #onSleeping: () => void = () => {};

  constructor(backend: SandboxBackend, wasm: Uint8Array) {
    this.#components = new SandboxComponents(backend);
    this.#wasm = wasm;
    const index = this.#supervisor.define(async ([ms]) => {
      this.#sleeping += 1;
      this.#onSleeping();
      try {
        await sleep(Value.toNumber(ms), undefined, { signal: this.#end.getStore() });
      } finally {
        this.#sleeping -= 1;
      }
    });
    const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'sleep', index).encode();
    this.#env = GuestEnvironment.decode(this.#components, definition);
  }

  /** Makes a guest with its own store, so that it never waits for another guest. */
  async make(): Promise<SandboxInstance> {
    const { Version1 } = Instantiate;
    const made = await this.#components.instantiateAsync(Version1, this.#wasm, this.#env, this.#supervisor);
    return this.#components.instance(made.register(this.#components, undefined));
  }

  /** Calls an export. When the call is over, ends the supervisor's work for it, or a timer of an hour would keep the process alive. */
  async call(guest: SandboxInstance, name: string, n: number, options: InvokeOptions) {
    const end = new AbortController();
    try {
      return await this.#end.run(end.signal, () =>
        guest.invokeAsync(name, [Value.I32(n)], this.#supervisor, options),
      );
    } finally {
      end.abort();
    }
  }

  /** Waits until `count` guests sleep. */
  async asleep(count: number): Promise<void> {
    while (this.#sleeping < count) {
      await new Promise<void>((resolve) => {
        this.#onSleeping = resolve;
      });
    }
  }

  [Symbol.dispose](): void {
    this.#components.clear();
  }
}

/** Describes the outcome of a call in words. */
async function outcome(call: Promise<Value | Value[] | undefined>): Promise<string> {
  try {
    const result = await call;
    return `returned ${result === undefined || Array.isArray(result) ? 'something else' : Value.toNumber(result)}`;
  } catch (error) {
    // An aborted call rejects with the signal's reason, as `fetch` does.
    if (error instanceof NotNeeded) return error.message;
    if (error instanceof SandboxError) return error.code;
    throw error;
  }
}

/** Counts the outcomes of all calls in the process. The code that makes the calls need not know about it. */
class Tally {
  readonly #counts = new Map<string, number>();

  constructor() {
    tracingChannel<unknown, InvokeEvent>('sandbox-host.invoke').subscribe({
      ...IGNORED,
      // `asyncEnd` comes when an asynchronous call is over, however it ended.
      asyncEnd: ({ exportName, error }) =>
        this.#count(`calls of ${exportName} that ${error === undefined ? 'returned' : 'failed'}`),
    });
    tracingChannel<unknown, SupervisorEvent>('sandbox-host.supervisor').subscribe({
      ...IGNORED,
      asyncEnd: ({ importName, isStopped }) =>
        this.#count(`answers of ${importName} that ${isStopped ? 'nobody wanted any more' : 'arrived'}`),
    });
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  /** Returns the counts since the last `take`. */
  take(): string[] {
    const lines = [...this.#counts].map(([what, count]) => `${what}: ${count}`).sort();
    this.#counts.clear();
    return lines;
  }
}

/** The types of Node 20 require a function for each event. */
const IGNORED = { start() {}, end() {}, asyncStart() {}, asyncEnd() {}, error() {} };

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
