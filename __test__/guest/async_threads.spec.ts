// How many native threads asynchronous calls hold, and what becomes of calls for which there is none. The pool itself is tested in
// crate/tests/executor, and little address space in async_addresses.long.spec.ts.
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  CompiledModule,
  JsSupervisor,
  LimitError,
  type SandboxBackend,
  SandboxComponents,
  Value,
} from '../../index';
import { type ChildResult, runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { Guest, type GuestFunction } from '../support/guest';
import { deferred } from '../support/waiting';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "nothing")))`;

/** Runs a script with that guest in a process of its own. */
const script = (name: string, ...args: readonly (string | number)[]): Promise<ChildResult> =>
  runFile(join(__dirname, 'scripts', name), {
    args: [Buffer.from(wat(GUEST)).toString('base64'), ...args.map(String)],
    timeout: 60_000,
  });

/** The most threads that the pool had while so many guests waited and were answered. */
async function mostThreads(backend: SandboxBackend, guests: number, threads: number | ''): Promise<number> {
  const { code, signal, stdout, stderr } = await script('async_threads.ts', backend, guests, threads);
  assert.deepEqual([code, signal], [0, null], stderr);
  const { ended, most } = JSON.parse(stdout) as { ended: number; most: number };
  assert.equal(ended, guests);
  return most;
}

describe('Threads of asynchronous calls', { concurrency: 2 }, () => {
  forEachBackend((backend) => {
    it('are never more than `threads`', async () => {
      assert.ok((await mostThreads(backend, 500, 4)) <= 4);
    });
  });

  it('are hardly more than cores if 10,000 guests wait on wasmi, where these hold none', async () => {
    const most = await mostThreads('wasmi', 10_000, '');
    assert.ok(most <= availableParallelism() + 2, `${most} threads`);
  });
});

/** Two guests of the same components; each asks what the function says. */
function pair(backend: SandboxBackend, threads: number, outer: GuestFunction, inner: GuestFunction) {
  const components = new SandboxComponents<unknown>(backend, { threads });
  const supervisor = new JsSupervisor();
  const make = (f: GuestFunction) => {
    const made = new Guest({ backend, wat: GUEST, components, supervisor, imports: { 'env.f': f } });
    return (n: number) => made.instance.invokeAsync('f', [Value.I32(n)], supervisor) as Promise<Value>;
  };
  return { outer: make(outer), inner: make(inner), components, supervisor };
}

describe('A call in a supervisor call, with one thread', () => {
  it('runs on wasmi while the guest around it waits', async () => {
    const guests = pair(
      'wasmi',
      1,
      ([n]) => guests.inner((n as { value: number }).value),
      async ([n]) => n,
    );
    assert.deepEqual(await guests.outer(5), Value.I32(7));
  });

  it('is refused on wasmer, because the guest around it holds that thread', async () => {
    let refused: unknown;
    const guests = pair(
      'wasmer',
      1,
      ([n]) =>
        guests.inner((n as { value: number }).value).catch((error: unknown) => {
          refused = error;
          return Value.I32(1);
        }),
      ([n]) => n,
    );
    assert.deepEqual(await guests.outer(5), Value.I32(2));
    assert.ok(refused instanceof LimitError);
    assert.match(refused.message, /`options\.threads`/);
    // Nothing is left of it.
    assert.deepEqual(await guests.inner(5), Value.I32(6));
  });

  it('is refused on wasmer also if it is made after an `await`', async () => {
    const guests = pair(
      'wasmer',
      1,
      async ([n]) => {
        await null;
        return guests.inner((n as { value: number }).value);
      },
      ([n]) => n,
    );
    await assert.rejects(guests.outer(5), ({ cause }: Error) => cause instanceof LimitError);
  });

  it('is refused on wasmer also if it makes an instance', async () => {
    const guests = pair(
      'wasmer',
      1,
      async ([n]) => {
        const { components, supervisor } = guests;
        const env = environment(components, {});
        await components.instantiateAsync(1, wat('(module (func (export "g")))'), env, supervisor);
        return n;
      },
      ([n]) => n,
    );
    await assert.rejects(guests.outer(5), ({ cause }: Error) => cause instanceof LimitError);
  });

  it('waits on wasmer if the guest around it is answered at once', async () => {
    let inner: Promise<Value> | undefined;
    const guests = pair(
      'wasmer',
      1,
      ([n]) => {
        inner = guests.inner(8);
        return n;
      },
      ([n]) => n,
    );
    assert.deepEqual(await guests.outer(5), Value.I32(6));
    assert.deepEqual(await inner, Value.I32(9));
  });

  it('waits on wasmer for a thread that another guest gives back', async () => {
    const answer = deferred();
    const guests = pair(
      'wasmer',
      2,
      ([n]) => guests.inner((n as { value: number }).value),
      ([n]) => n,
    );
    const other = new Guest({
      backend: 'wasmer',
      wat: GUEST,
      components: guests.components,
      supervisor: guests.supervisor as JsSupervisor,
      imports: { 'env.f': () => answer.promise },
    });
    const waits = other.instance.invokeAsync('f', [Value.I32(1)], guests.supervisor);
    const nested = guests.outer(5);
    setTimeout(() => answer.resolve(Value.I32(1)), 20);
    assert.deepEqual(await waits, Value.I32(2));
    assert.deepEqual(await nested, Value.I32(7));
  });

  it('is refused on wasmer if guests that hold all threads wait for such calls', async () => {
    const components = new SandboxComponents<unknown>('wasmer', { threads: 2 });
    const supervisor = new JsSupervisor();
    const make = (f: GuestFunction) =>
      new Guest({ backend: 'wasmer', wat: GUEST, components, supervisor, imports: { 'env.f': f } });
    const call = (guest: Guest, n: number) =>
      guest.instance.invokeAsync('f', [Value.I32(n)], supervisor) as Promise<Value>;
    const inner = [make(([n]) => n), make(([n]) => n)];
    const bothAsked = deferred();
    let asked = 0;
    const outer = inner.map((guest) =>
      make(async ([n]) => {
        asked += 1;
        if (asked === 2) bothAsked.resolve(undefined);
        await bothAsked.promise;
        return call(guest, (n as { value: number }).value);
      }),
    );
    const ended = await Promise.allSettled(outer.map((guest) => call(guest, 5)));
    // The one that is refused ends, and the other one has a thread.
    assert.deepEqual(ended.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  });
});

describe('Compiles that are given up', () => {
  forEachBackend((backend) => {
    it('end at once, and calls after them run', async () => {
      const controller = new AbortController();
      const options = { cache: false, signal: controller.signal } as const;
      const compiles = Array.from({ length: 50 }, (_, n) =>
        CompiledModule.compile(backend, wat(`(module (func (export "f${n}")))`), options),
      );
      const ended = Promise.allSettled(compiles);
      controller.abort();
      assert.ok((await ended).every(({ status }) => status === 'rejected'));
      const guest = new Guest({ backend, wat: GUEST, imports: { 'env.f': async ([n]) => n } });
      assert.deepEqual(await guest.instance.invokeAsync('f', [Value.I32(5)], guest.supervisor), Value.I32(6));
    });
  });
});
