// Asynchronous calls: what they give, whose a guest is meanwhile, and how they are stopped. What becomes of them when the process or
// its worker ends is in async_process.long.spec.ts. Times here are far apart, so that a busy machine changes nothing.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, it } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import {
  ArgumentError,
  type AsyncSupervisorContext,
  BusyError,
  type GuestEnvironment,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  NoExportError,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { rejection } from '../support/expect';
import { guest } from '../support/guest';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1 4)
  (global (export "n") (mut i32) (i32.const 0))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "sum") (param $times i32) (result i32) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (call $f (local.get $times))))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $l (local.get $times)))
    (local.get $sum))
  (func (export "load") (result i32) (i32.load (i32.const 0)))
  (func (export "f then load") (result i32) (drop (call $f (i32.const 0))) (i32.load (i32.const 0)))
  (func (export "pair") (result i32 i64) (i32.const 1) (i64.const 2))
  (func (export "nothing"))
  (func (export "trap") unreachable)
  (func (export "endless") (loop $l (br $l))))`;

/** Waits until a call has rejected, with an error that `check` is content with. */
async function stopped(call: Promise<unknown>, check: (error: unknown) => void): Promise<void> {
  await assert.rejects(call, (error) => {
    check(error);
    return true;
  });
}

/** A guest whose supervisor function answers when the test says so. */
const waiting = (backend: SandboxBackend) => waitingGuest(backend, GUEST);

/** A supervisor with a memory of its own, each of whose steps is passed through `wrap`. */
function contextBy(wrap: (value: unknown) => unknown): {
  ctx: AsyncSupervisorContext;
  define: JsSupervisor['define'];
} {
  class Inner extends JsSupervisor {}
  const inner = new Inner();
  const ctx: AsyncSupervisorContext = {
    invoke: (ptr, size, index) => wrap(inner.invoke(ptr, size, index)) as bigint,
    readMemoryInto: (address, dest) => wrap(inner.readMemoryInto(address, dest)) as undefined,
    writeMemory: (address, data) => wrap(inner.writeMemory(address, data)) as undefined,
    allocateMemory: (size) => wrap(inner.allocateMemory(size)) as number,
    deallocateMemory: (ptr) => wrap(inner.deallocateMemory(ptr)) as undefined,
  };
  return { ctx, define: (fn) => inner.define(fn) };
}

describe('An asynchronous call', () => {
  forEachBackend((backend) => {
    it('gives what a synchronous call gives', async () => {
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      const invoke = (name: string, ...args: Value[]) => instance.invokeAsync(name, args, supervisor);
      assert.deepEqual(await invoke('f', Value.I32(41)), Value.I32(42));
      assert.equal(await invoke('nothing'), undefined);
      assert.deepEqual(await invoke('pair'), [Value.I32(1), Value.I64(2n)]);
      assert.equal((await rejection(TrapError, invoke('trap'))).trap, 'unreachable');
    });

    it('rejects an unknown export and a wrong number of arguments, and never throws', async () => {
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      await rejection(NoExportError, instance.invokeAsync('none', [], supervisor));
      await rejection(ArgumentError, instance.invokeAsync('f', [], supervisor));
    });

    it('waits for Promises of supervisor functions, again and again', async () => {
      for (const answer of [
        (n: Value) => n,
        (n: Value) => Promise.resolve(n),
        (n: Value) => after(1, n),
        (n: Value) => new Promise<Value>((resolve) => setImmediate(resolve, n)),
      ]) {
        const { instance, supervisor } = guest({
          backend,
          wat: GUEST,
          imports: { 'env.f': ([n]) => answer(n) },
        });
        assert.deepEqual(await instance.invokeAsync('sum', [Value.I32(20)], supervisor), Value.I32(210));
      }
    });

    it('traps with what a supervisor function threw or rejected with, by identity', async () => {
      for (const fail of [
        (why: unknown) => {
          throw why;
        },
        (why: unknown) => Promise.reject(why),
        (why: unknown) => after(1).then(() => Promise.reject(why)),
      ]) {
        const why = new Error('no');
        const made = guest({ backend, wat: GUEST, imports: { 'env.f': () => fail(why) } });
        const call = made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor);
        const error = await rejection(TrapError, call);
        assert.equal(error.cause, why);
        assert.equal(error.trap, 'supervisor');
        assert.equal(await made.instance.invokeAsync('nothing', [], made.supervisor), undefined);
      }
    });

    it('takes the six steps by values and by Promises', async () => {
      for (const wrap of [
        (value: unknown) => value,
        (value: unknown) => Promise.resolve(value),
        (value: unknown) => after(0, value),
      ]) {
        const { ctx, define } = contextBy(wrap);
        const components = new SandboxComponents(backend);
        const env = environment(components, { 'env.f': define(([n]) => n) }, {});
        const made = await components.instantiateAsync(Instantiate.Version1, wat(GUEST), env, ctx);
        const instance = components.instance(made.register(components, undefined));
        assert.deepEqual(await instance.invokeAsync('sum', [Value.I32(5)], ctx), Value.I32(15));
      }
    });

    it('traps with the message of the step that failed, and frees what there is to free', async () => {
      const why = new Error('full');
      const freed: number[] = [];
      const ctx: AsyncSupervisorContext = {
        allocateMemory: async () => 64,
        writeMemory: () => Promise.reject(why),
        invoke: () => assert.fail('the steps have gone on'),
        readMemoryInto: () => assert.fail('the steps have gone on'),
        deallocateMemory: async (ptr) => void freed.push(ptr),
      };
      const made = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      const error = await rejection(TrapError, made.instance.invokeAsync('f', [Value.I32(1)], ctx));
      assert.equal(error.message, "Can't write invoke args into memory");
      assert.equal(error.cause, why);
      assert.deepEqual(freed, [64]);
    });

    it('carries gas under Version 2, also over a Promise', async () => {
      const { instance, supervisor } = guest({
        backend,
        version: Instantiate.Version2,
        wat: `(module
          (import "env" "f" (func $f (result i32)))
          (global (export "gear_gas") (mut i64) (i64.const 100))
          (func (export "run") (result i32) (call $f)))`,
        imports: {
          'env.f': async (_, { gas }) => {
            await after(1);
            return { gas: (gas ?? 0n) - 7n, value: Value.I32(1) };
          },
        },
      });
      assert.deepEqual(await instance.invokeAsync('run', [], supervisor), Value.I32(1));
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(93n));
    });

    it('goes on in a memory that has grown while it was waiting', async () => {
      const { invoke, asked, calls, isAsked } = waiting(backend);
      const call = invoke('f then load');
      await isAsked(1);
      const memory = calls[0].memory;
      assert.ok(memory);
      await after(5);
      memory.memoryGrow(2);
      memory.writeFrom(0, new Uint8Array([7, 0, 0, 0]));
      asked[0].resolve(Value.I32(0));
      assert.deepEqual(await call, Value.I32(7));
    });

    it('runs the calls of one guest one after another, and those of others side by side', async () => {
      const one = waiting(backend);
      const other = waiting(backend);
      const done: string[] = [];
      const note = (name: string) => () => void done.push(name);
      const calls = [
        one.invoke('f', [Value.I32(1)]).then(note('first')),
        one.invoke('f', [Value.I32(2)]).then(note('second')),
        other.invoke('f', [Value.I32(3)]).then(note('other')),
      ];
      await Promise.all([one.isAsked(1), other.isAsked(1)]);
      await after(10);
      assert.equal(one.asked.length, 1, 'the second call waits for its turn');
      other.asked[0].resolve(Value.I32(0));
      await calls[2];
      one.asked[0].resolve(Value.I32(0));
      await one.isAsked(2);
      one.asked[1].resolve(Value.I32(0));
      await Promise.all(calls);
      assert.deepEqual(done, ['other', 'first', 'second']);
    });

    it('does not show a memory that nobody has asked for before while the guest runs', async () => {
      const { instance, invoke, asked, isAsked } = waiting(backend);
      const call = invoke('f', [Value.I32(1)]);
      assert.throws(() => instance.getMemory('memory'), BusyError);
      await isAsked(1);
      await after(5);
      assert.equal(instance.getMemory('memory')?.memorySize(), 1);
      asked[0].resolve(Value.I32(1));
      await call;
    });

    it('has the guest for itself, except during supervisor calls', async () => {
      const { instance, supervisor, invoke, asked, isAsked } = waiting(backend);
      const memory = instance.getMemory('memory') ?? assert.fail();
      const before = memory.buffer;
      const call = invoke('f', [Value.I32(1)]);
      assert.equal(before.byteLength, 0, 'views are detached when it starts');
      const uses: (() => unknown)[] = [
        () => memory.buffer,
        () => memory.read(0, 1),
        () => memory.memorySize(),
        () => memory.memoryGrow(1),
        () => memory.writeFrom(0, new Uint8Array(1)),
        () => instance.getGlobalVal('n'),
        () => instance.setGlobalVal('n', Value.I32(1)),
        () => instance.invoke('nothing', [], supervisor),
      ];
      for (const use of uses) assert.throws(use, BusyError, String(use));
      await isAsked(1);
      await after(5);
      for (const use of uses) use();
      const during = memory.buffer;
      assert.ok(during.byteLength > 0);
      asked[0].resolve(Value.I32(1));
      await call;
      assert.equal(during.byteLength, 0, 'a view taken in a supervisor call is detached after it');
      for (const use of uses) use();
    });

    it('is refused inside a supervisor call of its own guest, also after an await there', async () => {
      const seen: unknown[] = [];
      const made = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': async ([n]) => {
            seen.push(await rejection(BusyError, made.instance.invokeAsync('nothing', [], made.supervisor)));
            await after(1);
            seen.push(await rejection(BusyError, made.instance.invokeAsync('nothing', [], made.supervisor)));
            return n;
          },
        },
      });
      await made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor);
      assert.equal(seen.length, 2);
      const late = waiting(backend);
      const first = late.invoke('f', [Value.I32(1)]);
      await late.isAsked(1);
      const second = late.invoke('nothing');
      late.asked[0].resolve(Value.I32(1));
      await Promise.all([first, second]);
    });

    it('can be torn down and cleared while it runs', async () => {
      const { components, index, invoke, asked, isAsked } = waiting(backend);
      const call = invoke('f', [Value.I32(1)]);
      components.instanceTeardown(index);
      components.clear();
      await isAsked(1);
      asked[0].resolve(Value.I32(1));
      assert.deepEqual(await call, Value.I32(2));
    });

    it('keeps the async context of its caller in supervisor functions', async () => {
      const storage = new AsyncLocalStorage<string>();
      const seen: unknown[] = [];
      const made = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': async ([n]) => {
            seen.push(storage.getStore());
            await after(1);
            seen.push(storage.getStore());
            return n;
          },
        },
      });
      await storage.run('mine', () => made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor));
      assert.deepEqual(seen, ['mine', 'mine']);
    });

    it('leaves the event loop its turns, however chatty the guest is', async () => {
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      let isDone = false;
      let turns = 0;
      const tick = (): void => {
        turns += 1;
        if (!isDone) setImmediate(tick);
      };
      setImmediate(tick);
      await instance.invokeAsync('sum', [Value.I32(20_000)], supervisor);
      isDone = true;
      assert.ok(turns > 3, `${turns} turns`);
    });
  });
});

describe('An asynchronous call that is stopped', () => {
  forEachBackend((backend) => {
    const stops: [string, () => { options: object; check(error: unknown): void }][] = [
      [
        'by its timeout',
        () => ({
          options: { timeout: 20 },
          check: (error) => assert.equal((error as SandboxError).code, 'ERR_SANDBOX_TIMEOUT'),
        }),
      ],
      [
        'by a signal',
        () => {
          const controller = new AbortController();
          const why = { why: 'enough' };
          setTimeout(() => controller.abort(why), 20);
          return { options: { signal: controller.signal }, check: (error) => assert.equal(error, why) };
        },
      ],
    ];
    for (const [name, stop] of stops) {
      it(`${name} ends while it computes, and can be used again`, async () => {
        const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
        const { options, check } = stop();
        await stopped(instance.invokeAsync('endless', [], supervisor, options), check);
        assert.deepEqual(instance.invoke('f', [Value.I32(1)], supervisor), Value.I32(2));
      });

      it(`${name} ends while it waits, and the late answer reaches nobody`, async () => {
        const { instance, supervisor, invoke, asked, isAsked } = waiting(backend);
        // On a busy machine it can be stopped before it waits.
        while (asked.length === 0) {
          const { options, check } = stop();
          await stopped(invoke('f', [Value.I32(1)], options), check);
        }
        assert.equal(instance.invoke('nothing', [], supervisor), undefined);
        const next = invoke('f', [Value.I32(5)]);
        asked[0].resolve(Value.I32(99));
        await isAsked(2);
        asked[1].resolve(Value.I32(5));
        assert.deepEqual(await next, Value.I32(6));
      });

      it(`${name} ends while it waits for its turn`, async () => {
        const { invoke, asked, isAsked } = waiting(backend);
        const first = invoke('f', [Value.I32(1)]);
        const { options, check } = stop();
        await stopped(invoke('f', [Value.I32(2)], options), check);
        await isAsked(1);
        asked[0].resolve(Value.I32(1));
        assert.deepEqual(await first, Value.I32(2));
      });

      it(`${name} ends in a start function`, async () => {
        const components = new SandboxComponents(backend);
        const supervisor = new JsSupervisor();
        const env = environment(components, {}, {});
        const binary = wat('(module (func $s (loop $l (br $l))) (start $s))');
        const { options, check } = stop();
        const made = components.instantiateAsync(Instantiate.Version1, binary, env, supervisor, options);
        await stopped(made, check);
      });
    }

    it('takes nested calls with it', async () => {
      const inner = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      const seen: unknown[] = [];
      const outer = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': async ([n]) => {
            await after(1);
            try {
              inner.instance.invoke('endless', [], inner.supervisor);
            } catch (error) {
              seen.push((error as SandboxError).code);
            }
            return n;
          },
        },
      });
      const call = outer.instance.invokeAsync('f', [Value.I32(1)], outer.supervisor, { timeout: 50 });
      assert.equal((await rejection(SandboxError, call)).code, 'ERR_SANDBOX_TIMEOUT');
      assert.deepEqual(seen, ['ERR_SANDBOX_TIMEOUT']);
    });

    it('is refused before it begins if its signal is aborted', async () => {
      const { invoke, asked } = waiting(backend);
      const why = new Error('no');
      await assert.rejects(invoke('f', [Value.I32(1)], { signal: AbortSignal.abort(why) }), why);
      assert.equal(asked.length, 0);
    });
  });
});

describe('instantiateAsync', () => {
  forEachBackend((backend) => {
    const start = `(module (import "env" "f" (func $f (param i32) (result i32)))
      (import "env" "memory" (memory 1))
      (func $s (i32.store (i32.const 0) (call $f (i32.const 1)))) (start $s)
      (func (export "load") (result i32) (i32.load (i32.const 0))))`;

    it('runs a start function that waits for its supervisor', async () => {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const memory = components.newMemory(1);
      const f = supervisor.define(async (_, call) => {
        await after(1);
        assert.equal(call.instance, undefined);
        assert.equal(call.memory?.memorySize(), 1);
        return Value.I32(9);
      });
      const env = environment(components, { 'env.f': f }, { 'env.memory': memory });
      const both = [1, 2].map(() =>
        components.instantiateAsync(Instantiate.Version1, wat(start), env, supervisor),
      );
      for (const made of await Promise.all(both)) {
        const instance = components.instance(made.register(components, undefined));
        assert.deepEqual(instance.invoke('load', [], supervisor), Value.I32(9));
      }
    });

    it('rejects with the errors of instantiate', async () => {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const env = environment(components, {}, {});
      const make = (binary: Uint8Array) =>
        components.instantiateAsync(Instantiate.Version1, binary, env, supervisor);
      const kinds: [string, Uint8Array][] = [
        ['ModuleDecoding', new Uint8Array([1, 2, 3])],
        ['Instantiation', wat('(module (import "a" "b" (func)))')],
        ['Instantiation', wat('(module (memory 1) (data (i32.const 65536) "x"))')],
        ['StartTrapped', wat('(module (func $s unreachable) (start $s))')],
      ];
      for (const [kind, binary] of kinds) {
        assert.equal((await rejection(InstantiationError, make(binary))).kind, kind);
      }
    });
  });
});

describe('Many guests', () => {
  for (const [backend, count] of [
    ['wasmi', 10_000],
    ['wasmer', 500],
  ] as const) {
    it(`wait at once on ${backend} and are settled in another order: ${count}`, async () => {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const answers: (() => void)[] = [];
      const f = supervisor.define(([n]) => new Promise((resolve) => void answers.push(() => resolve(n))));
      const env: GuestEnvironment = environment(components, { 'env.f': f }, {});
      const binary = wat(`(module (import "env" "f" (func $f (param i32) (result i32)))
        (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))))`);
      const calls = Array.from({ length: count }, (_, n) => {
        const made = components.instantiate(Instantiate.Version1, binary, env, supervisor);
        const instance = components.instance(made.register(components, undefined));
        return instance.invokeAsync('f', [Value.I32(n)], supervisor);
      });
      while (answers.length < count) await after(5);
      let seed = 1;
      for (let left = count; left > 0; left -= 1) {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        const at = seed % left;
        answers[at]();
        answers[at] = answers[left - 1];
      }
      const results = await Promise.all(calls);
      results.forEach((result, n) => {
        assert.deepEqual(result, Value.I32(n + 1));
      });
    });
  }
});
