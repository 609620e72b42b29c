// How a supervisor answers asynchronous calls: each step by a value or any kind of Promise, what becomes of its errors, and how long the
// call object can be used. Contract: sections 2 and 4; that a process keeps quiet meanwhile is in async_process.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises';
import { inspect } from 'node:util';
import {
  type AsyncSupervisorContext,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { causedBy, rejection } from '../support/expect';
import { type GuestCall, type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor, type Step, sixSteps, stepFailures } from '../support/protocol';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';
import { answers, failings } from '../support/ways';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "gear_gas") (mut i64) (i64.const 100))
  (func (export "f") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "nothing")))`;

const versions = [Instantiate.Version1, Instantiate.Version2];

/** What the supervisor function of these tests answers; under Version 2 it takes 7 of the gas. */
function answerTo([n]: Value[], { gas }: Pick<GuestCall, 'gas'>): ReturnType<GuestFunction> {
  return gas === undefined ? n : { gas: gas - 7n, value: n };
}

/** Asserts that a call traps because of its supervisor, and gives the error. */
async function supervisorTrapOf(call: Promise<unknown>, message?: string): Promise<TrapError> {
  const error = await rejection(TrapError, call);
  assert.equal(error.trap, 'supervisor', error.message);
  if (message !== undefined) assert.equal(error.message, message);
  return error;
}

describe('A step of an asynchronous supervisor call', () => {
  forEachBackend((backend) => {
    for (const version of versions) {
      describe(`under Version${version}, read by readMemoryInto`, () =>
        steps(backend, version, () => new ProtocolSupervisor(version)));
      describe(`under Version${version}, read by readMemory`, () =>
        steps(backend, version, () => new ReadingSupervisor(version)));
    }
  });
});

class ReadingSupervisor extends ProtocolSupervisor {
  readMemory(address: number, size: number): Uint8Array {
    return this.read(address, size);
  }
}

function steps(
  backend: SandboxBackend,
  version: Instantiate,
  makeSupervisor: () => ProtocolSupervisor,
): void {
  const build = () => {
    const context = makeSupervisor();
    const made = guest({ backend, version, supervisor: context, wat: GUEST, imports: { 'env.f': answerTo } });
    const call = (n = 41, options = {}) => made.instance.invokeAsync('f', [Value.I32(n)], context, options);
    const gas = () => made.instance.getGlobalVal('gear_gas');
    return { context, call, gas };
  };
  const left = Value.I64(version === Instantiate.Version2 ? 93n : 100n);

  /** The guest goes on as if nothing had happened, and its gas is what it was. */
  async function works({ context, call, gas }: ReturnType<typeof build>, why: string): Promise<void> {
    assert.deepEqual(gas(), Value.I64(100n), why);
    context.behave();
    assert.deepEqual(await call(), Value.I32(42), why);
    assert.deepEqual(context.steps, sixSteps, why);
    assert.equal(context.leaks, 0, why);
    assert.deepEqual(gas(), left, why);
  }

  for (const [how, way] of answers) {
    it(`answers ${how}`, async () => {
      for (const step of sixSteps) {
        const { context, call, gas } = build();
        context.doAt(step, way);
        assert.deepEqual(await call(), Value.I32(42), step);
        assert.deepEqual(context.steps, sixSteps, step);
        assert.equal(context.leaks, 0, step);
        assert.deepEqual(gas(), left, step);
      }
    });
  }

  for (const [how, failWith] of failings) {
    it(`that ${how} traps with its message and cause, after what there is to free was freed`, async () => {
      for (const { fail, message, steps } of stepFailures) {
        const made = build();
        const { context, call } = made;
        const what = fail.join(' and ');
        const why = new Error(what);
        for (const step of fail) context.doAt(step, failWith(why));
        causedBy(await supervisorTrapOf(call(), message ?? what), why);
        assert.deepEqual(context.steps, steps, what);
        if (!fail.some((step) => step.startsWith('deallocate'))) assert.equal(context.leaks, 0, what);
        await works(made, what);
      }
    });
  }

  it('traps if its Promise gives something else than it should', async () => {
    const wrong: Partial<Record<Step, unknown[]>> = {
      'allocate arguments': [-1, 1.5, Number.NaN, 2 ** 32, '8', 8n, undefined, null, {}],
      invoke: [1, '1', undefined, null, {}],
    };
    if (makeSupervisor() instanceof ReadingSupervisor)
      wrong['read result'] = [undefined, null, 'text', 5, [], new Uint8Array(0)];
    for (const [step, things] of Object.entries(wrong)) {
      for (const thing of things) {
        const made = build();
        made.context.doAt(step as Step, (run) =>
          after(1)
            .then(run)
            .then(() => thing),
        );
        await supervisorTrapOf(made.call());
        await works(made, `${step}: ${String(thing)}`);
      }
    }
  });

  it('that is done only after its call was stopped still has freed what there is to free', async () => {
    for (const step of sixSteps) {
      const { context, call, gas } = build();
      const controller = new AbortController();
      const hasRun = new Promise<void>((resolve) => {
        context.doAt(step, (run) => {
          controller.abort();
          const done = after(1).then(run);
          void done.then(() => resolve());
          return done;
        });
      });
      await assert.rejects(call(41, { signal: controller.signal }));
      await hasRun;
      for (let turn = 0; turn < 5; turn += 1) await nextTurn();
      assert.equal(context.leaks, 0, step);
      assert.deepEqual(gas(), Value.I64(100n), step);
    }
  });

  it('can be of many calls at once, which all answer in other ways', async () => {
    const ways = answers.map(([, way]) => way);
    const guests = Array.from({ length: 12 }, (_, n) => {
      const made = build();
      sixSteps.forEach((step, at) => {
        made.context.doAt(step, (run) => ways[(n * 5 + at * (n + 1)) % ways.length](run));
      });
      return made;
    });
    for (let round = 0; round < 3; round += 1) {
      const calls = guests.map(({ call }, n) => call(100 * round + n));
      const results = await Promise.all(calls);
      results.forEach((result, n) => {
        assert.deepEqual(result, Value.I32(100 * round + n + 1));
      });
    }
    for (const { context } of guests) assert.equal(context.leaks, 0);
  });
}

describe('A function of a JsSupervisor', () => {
  forEachBackend((backend) => {
    for (const version of versions) describe(`under Version${version}`, () => directly(backend, version));

    it('that fails ends its own call, while others that wait go on', async () => {
      const reasons = [new Error('no'), undefined, null, 'text', '', 0, Symbol('s'), () => {}];
      const waits = waitingGuest(backend, GUEST);
      const first = waits.invoke('f', [Value.I32(1)]);
      const second = waits.invoke('f', [Value.I32(2)]);
      await waits.isAsked(1);
      for (const [how, failWith] of failings) {
        const calls = reasons.map((why) => {
          const fail = failWith(why) as () => Promise<Value>;
          const { components } = waits;
          const made = guest({ backend, components, wat: GUEST, imports: { 'env.f': () => fail() } });
          return supervisorTrapOf(made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor));
        });
        const errors = await Promise.all(calls);
        for (const [n, why] of reasons.entries()) causedBy(errors[n], why, how);
      }
      waits.asked[0].resolve(Value.I32(1));
      assert.deepEqual(await first, Value.I32(2));
      await waits.isAsked(2);
      waits.asked[1].reject(undefined);
      causedBy(await supervisorTrapOf(second), undefined);
    });
  });
});

function directly(backend: SandboxBackend, version: Instantiate): void {
  const build = (fn: GuestFunction) => {
    const made = guest({ backend, version, wat: GUEST, imports: { 'env.f': fn } });
    const call = () => made.instance.invokeAsync('f', [Value.I32(41)], made.supervisor);
    const gas = () => made.instance.getGlobalVal('gear_gas');
    return { call, gas };
  };

  it('answers by values and all kinds of Promises', async () => {
    for (const [how, way] of answers) {
      const { call, gas } = build((...asked) => way(() => answerTo(...asked)) as Promise<Value>);
      assert.deepEqual(await call(), Value.I32(42), how);
      assert.deepEqual(gas(), Value.I64(version === Instantiate.Version2 ? 93n : 100n), how);
    }
  });

  /** Calls a guest whose function first does something wrong, and looks that nothing else is wrong then. */
  async function failsBy(wrong: () => unknown, why: string): Promise<TrapError> {
    let isWrong = true;
    const { call, gas } = build((...asked) => (isWrong ? (wrong() as Promise<Value>) : answerTo(...asked)));
    const error = await supervisorTrapOf(call());
    assert.deepEqual(gas(), Value.I64(100n), why);
    isWrong = false;
    assert.deepEqual(await call(), Value.I32(42), why);
    return error;
  }

  it('that fails in any way traps, and leaves the gas as it was', async () => {
    for (const [how, failWith] of failings) {
      const why = new Error(how);
      const error = await failsBy(failWith(why) as () => unknown, how);
      assert.equal(error.message, how);
      causedBy(error, why);
    }
  });

  it('answers alike through methods of a JsSupervisor that are called after an await', async () => {
    const supervisor = new JsSupervisor();
    const seen: unknown[] = [];
    const f = supervisor.define((args, call) => {
      seen.push(call.instance, call.memory);
      return answerTo(args, call);
    });
    const components = new SandboxComponents(backend);
    const env = environment(components, { 'env.f': f });
    const made = components.instantiate(version, wat(GUEST), env, supervisor);
    const instance = components.instance(made.register(components, undefined));
    const ctx: AsyncSupervisorContext = {
      allocateMemory: (size) => supervisor.allocateMemory(size),
      writeMemory: (address, data) => supervisor.writeMemory(address, data),
      invoke: (...asked) => after(1).then(() => supervisor.invoke(...asked)),
      readMemoryInto: (address, dest) => supervisor.readMemoryInto(address, dest),
      deallocateMemory: (ptr) => supervisor.deallocateMemory(ptr),
    };
    assert.deepEqual(await instance.invokeAsync('f', [Value.I32(41)], ctx), Value.I32(42));
    assert.deepEqual(seen, [instance, instance.getMemory('memory')]);
    const left = version === Instantiate.Version2 ? 93n : 100n;
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(left));
  });

  it('traps if its Promise gives something else than it should, and leaves the gas as it was', async () => {
    const wrong = [
      undefined,
      null,
      5,
      'text',
      {},
      [],
      Value.I64(7n),
      Value.f32(7),
      { type: 'i32', value: 2 ** 31 },
      { type: 'i32', value: '7' },
      { gas: 1n },
      { gas: 'much', value: Value.I32(7) },
      { gas: 2n ** 64n, value: Value.I32(7) },
      { gas: 1n, value: Value.I64(7n) },
    ];
    for (const thing of wrong) {
      const what = inspect(thing);
      await failsBy(() => Promise.resolve(thing), what);
      await failsBy(() => after(1, thing), what);
    }
  });
}

describe('A supervisor function that fails because its call has run out of time', () => {
  forEachBackend((backend) => {
    const inner = () => guest({ backend, wat: '(module (func (export "endless") (loop $l (br $l))))' });
    const fails: [string, GuestFunction][] = [
      ['at once', () => inner().call('endless') as undefined],
      ['in a microtask', async () => inner().call('endless') as undefined],
      ['late', () => after(1).then(() => inner().call('endless') as undefined)],
    ];
    const isTimeout = { code: 'ERR_SANDBOX_TIMEOUT' };
    for (const [when, fail] of fails) {
      it(`${when} leaves it ended by its timeout`, async () => {
        const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': fail } });
        await assert.rejects(
          instance.invokeAsync('f', [Value.I32(1)], supervisor, { timeout: 50 }),
          isTimeout,
        );
        assert.equal(instance.invoke('nothing', [], supervisor), undefined);
      });

      it(`${when} in a start function leaves that ended by its timeout`, async () => {
        const components = new SandboxComponents(backend);
        const supervisor = new JsSupervisor();
        const env = environment(components, { 'env.f': supervisor.define(fail) });
        const binary = wat('(module (import "env" "f" (func $f)) (start $f))');
        const options = { timeout: 50 };
        const made = components.instantiateAsync(Instantiate.Version1, binary, env, supervisor, options);
        await assert.rejects(made, isTimeout);
      });
    }
  });
});

describe('The call object of an asynchronous supervisor call', () => {
  const uses: ((call: GuestCall) => unknown)[] = [
    (call) => call.gas,
    (call) => call.instance,
    (call) => call.memory,
  ];

  function assertExpired(call: GuestCall | undefined, why?: string): void {
    assert.ok(call, why);
    for (const use of uses) assert.throws(() => use(call), SandboxError, `${why}: ${use}`);
  }

  forEachBackend((backend) => {
    it('can be used until the Promise of its function is settled', async () => {
      let kept: GuestCall | undefined;
      const made = guest({
        backend,
        version: Instantiate.Version2,
        wat: GUEST,
        imports: {
          'env.f': async (args, call) => {
            kept = call;
            for (const wait of [() => after(1), () => nextTurn(), () => null]) {
              await wait();
              assert.equal(call.gas, 100n);
              assert.equal(call.instance, made.instance);
              const { memory } = call;
              memory?.writeFrom(0, Uint8Array.of(...memory.read(0, 1), 7));
              assert.deepEqual(memory?.read(1, 1), Uint8Array.of(7));
            }
            return answerTo(args, call);
          },
        },
      });
      const call = () => made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor);
      assert.deepEqual(await call(), Value.I32(2));
      assertExpired(kept);
    });

    it('can also be used by code that belongs to no call, as long as the function waits', async () => {
      const { invoke, instance, asked, calls, isAsked } = waitingGuest(backend, GUEST);
      const call = invoke('f', [Value.I32(1)]);
      await isAsked(1);
      await nextTurn();
      assert.equal(calls[0].instance, instance);
      calls[0].memory?.writeFrom(0, Uint8Array.of(1));
      asked[0].resolve(Value.I32(1));
      await call;
      assertExpired(calls[0]);
    });

    it('expires however its function ends', async () => {
      const ends: [string, () => unknown][] = [
        ...answers.map(([how, way]): [string, () => unknown] => [how, () => way(() => Value.I32(1))]),
        ...failings.map(([how, failWith]): [string, () => unknown] => [
          how,
          failWith(new Error(how)) as () => unknown,
        ]),
        ['of a wrong type', () => Value.I64(1n)],
        ['of a wrong type, late', () => after(1, Value.I64(1n))],
      ];
      for (const [how, end] of ends) {
        let kept: GuestCall | undefined;
        const made = guest({
          backend,
          wat: GUEST,
          imports: {
            'env.f': (_, call) => {
              kept = call;
              return end() as Promise<Value>;
            },
          },
        });
        await made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor).catch(() => {});
        assertExpired(kept, how);
      }
    });

    const stops: [string, () => { options: object; stop(): void }][] = [
      ['its timeout is over', () => ({ options: { timeout: 20 }, stop: () => {} })],
      [
        'its signal is aborted',
        () => {
          const controller = new AbortController();
          return { options: { signal: controller.signal }, stop: () => controller.abort() };
        },
      ],
    ];
    for (const [why, make] of stops) {
      it(`expires when ${why} while its function waits`, async () => {
        const { invoke, instance, supervisor, asked, calls, isAsked } = waitingGuest(backend, GUEST);
        // On a busy machine the time can be over before the guest asks.
        while (calls.length === 0) {
          const { options, stop } = make();
          const call = invoke('f', [Value.I32(1)], options);
          void isAsked(1).then(stop);
          await assert.rejects(call);
        }
        assertExpired(calls[0]);
        const next = invoke('f', [Value.I32(5)]);
        await isAsked(2);
        asked[0].resolve(Value.I32(99));
        await nextTurn();
        assertExpired(calls[0]);
        assert.equal(calls[1].instance, instance);
        asked[1].resolve(Value.I32(5));
        assert.deepEqual(await next, Value.I32(6));
        assert.equal(instance.invoke('nothing', [], supervisor), undefined);
      });

      it(`expires in a start function when ${why}`, async () => {
        const components = new SandboxComponents(backend);
        const supervisor = new JsSupervisor();
        const calls: GuestCall[] = [];
        let onAsked: () => void = () => {};
        const f = supervisor.define((_, call) => {
          calls.push(call);
          onAsked();
          return new Promise(() => {});
        });
        const env = environment(components, { 'env.f': f });
        const binary = wat('(module (import "env" "f" (func $f)) (start $f))');
        while (calls.length === 0) {
          const { options, stop } = make();
          onAsked = () => queueMicrotask(stop);
          await assert.rejects(
            components.instantiateAsync(Instantiate.Version1, binary, env, supervisor, options),
          );
        }
        assertExpired(calls[0]);
      });
    }

    it('leaves a function that goes on after its call was stopped to call its guest anew', async () => {
      const controller = new AbortController();
      let again: Promise<unknown> | undefined;
      let onAgain: () => void = () => {};
      const hasGoneOn = new Promise<void>((resolve) => (onAgain = resolve));
      const made = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': async ([n], call) => {
            controller.abort();
            await after(5);
            assertExpired(call);
            assert.equal(made.instance.invoke('nothing', [], made.supervisor), undefined);
            again = made.instance.invokeAsync('nothing', [], made.supervisor);
            onAgain();
            return n;
          },
        },
      });
      const { signal } = controller;
      await assert.rejects(made.instance.invokeAsync('f', [Value.I32(1)], made.supervisor, { signal }));
      await hasGoneOn;
      assert.equal(await again, undefined);
    });
  });
});
