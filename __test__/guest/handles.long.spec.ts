// Every native object has one JavaScript owner: while that can be reached, nothing else has its number. Here many of each kind are alive at once,
// below, at and above every number that is a capacity somewhere; some go and are collected, others come, and each must still be itself.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  CompiledModule,
  Instantiate,
  JsSupervisor,
  LimitError,
  type Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SandboxOptions,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { collectGarbage, collectNow } from '../support/garbage';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';

const PAGE = 65536;
/** Around the modules that a cache keeps from being collected, around the entries of the default cache, and far above both. */
const COUNTS = [31, 32, 33, 255, 256, 257, 1000];
const V1 = Instantiate.Version1;
const supervisor = new JsSupervisor();

/** A module whose code, exports and imports all tell its number. */
const numbered = (n: number): Uint8Array =>
  wat(
    `(module (func (export "number") (result i32) (i32.const ${n})) (global (export "g${n}") i32 (i32.const ${n})))`,
  );

/** The same, with one result for all. */
const IDENTITY = '(module (func (export "same") (param i32) (result i32) (local.get 0)))';

function instanceOf(
  components: SandboxComponents<unknown>,
  wasm: Uint8Array | CompiledModule,
  env = environment(components),
): SandboxInstance {
  return components.instance(
    components.instantiate(V1, wasm, env, supervisor).register(components, undefined),
  );
}

function isNumber(instance: SandboxInstance, n: number): void {
  assert.deepEqual(instance.invoke('number', [], supervisor), Value.I32(n));
  assert.deepEqual(instance.getGlobalVal(`g${n}`), Value.I32(n));
  assert.deepEqual(
    instance.exports.map(({ name }) => name),
    ['number', `g${n}`],
  );
}

/** Calls by one guest that wait for their supervisor while others are made, dropped and collected. */
async function whileCallsWait(backend: SandboxBackend, run: () => Promise<void>): Promise<void> {
  const source =
    '(module (import "env" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))';
  const guests = [1, 2].map(() => waitingGuest(backend, source));
  const results = guests.map(({ invoke }) => invoke('run'));
  for (const { isAsked } of guests) await isAsked(1);
  try {
    await run();
  } finally {
    for (const [n, { asked }] of guests.entries()) asked[0].resolve(Value.I32(n + 40));
  }
  assert.deepEqual(await Promise.all(results), [Value.I32(40), Value.I32(41)]);
}

/**
 * Holds as many things as a test wants, drops every second one, has it collected, makes others in their place, and looks at each after each step.
 */
async function holdMany<T>(
  count: number,
  make: (n: number) => T | Promise<T>,
  look: (thing: T, n: number) => void | Promise<void>,
): Promise<void> {
  const things = new Map<number, T>();
  const lookAtAll = async (): Promise<void> => {
    for (const [n, thing] of things) await look(thing, n);
  };
  for (let n = 0; n < count; n++) things.set(n, await make(n));
  await lookAtAll();
  for (let n = 0; n < count; n += 2) things.delete(n);
  await collectGarbage();
  await lookAtAll();
  for (let n = 0; n < count; n += 2) things.set(count + n, await make(count + n));
  await lookAtAll();
  collectNow();
  for (let n = 0; n < count; n += 2) things.set(n, await make(n));
  await lookAtAll();
}

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

describe('Many compiled modules', () => {
  forEachBackend((backend) => {
    const caches: readonly (readonly [name: string, options: () => SandboxOptions, counts: number[]])[] = [
      ['in the cache of the process', () => ({}), COUNTS],
      ['without a cache', () => ({ cache: false }), [33, 257]],
      ['in a cache of one', () => ({ cache: new ModuleCache({ entries: 1 }) }), [33, 257]],
      ['in a cache of 32', () => ({ cache: new ModuleCache({ entries: 32 }) }), [31, 32, 33]],
      ['in a cache of 33', () => ({ cache: new ModuleCache({ entries: 33 }) }), [32, 33, 34]],
    ];
    for (const [name, options, counts] of caches) {
      for (const count of counts) {
        it(`are each itself: ${count} ${name}`, async () => {
          const given = options();
          const components = new SandboxComponents<unknown>(backend, given);
          const make = (n: number) => CompiledModule.compile(backend, numbered(n), given);
          await holdMany(count, make, (module, n) => {
            isNumber(instanceOf(components, module), n);
            assert.equal(module.exports[1].name, `g${n}`);
            components.clear();
          });
        });

        it(`are each itself, compiled where they are instantiated: ${count} ${name}`, async () => {
          const components = new SandboxComponents<unknown>(backend, options());
          await holdMany(count, (n) => instanceOf(components, numbered(n)), isNumber);
        });
      }
    }

    it('are each itself when they are compiled and instantiated asynchronously, all at once', async () => {
      const components = new SandboxComponents<unknown>(backend);
      const env = environment(components);
      for (const from of [0, 150]) {
        const numbers = Array.from({ length: 300 }, (_, n) => from + n);
        const made = await Promise.all(
          numbers.map((n) => components.instantiateAsync(V1, numbered(n), env, supervisor)),
        );
        const instances = made.map((each) => components.instance(each.register(components, undefined)));
        collectNow();
        const results = instances.map((instance) => instance.invokeAsync('number', [], supervisor));
        assert.deepEqual(
          await Promise.all(results),
          numbers.map((n) => Value.I32(n)),
        );
        for (const [place, instance] of instances.entries()) isNumber(instance, from + place);
        await collectGarbage();
      }
    });

    it('are each itself while asynchronous calls wait', async () => {
      await whileCallsWait(backend, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const make = (n: number) => CompiledModule.compile(backend, numbered(n));
        await holdMany(257, make, async (module, n) => {
          const made = await components.instantiateAsync(V1, module, environment(components), supervisor);
          isNumber(components.instance(made.register(components, undefined)), n);
        });
      });
    });

    it('may be dropped while they are being instantiated', async () => {
      const components = new SandboxComponents<unknown>(backend);
      const env = environment(components);
      const compiled = Array.from({ length: 64 }, (_, n) =>
        CompiledModule.compile(backend, numbered(n), { cache: false }),
      );
      const options = new SandboxComponents<unknown>(backend, { cache: false });
      const pending = (await Promise.all(compiled)).map((module) =>
        options.instantiateAsync(V1, module, environment(options), supervisor),
      );
      compiled.length = 0;
      collectNow();
      for (let n = 1000; n < 1064; n++) components.instantiate(V1, numbered(n), env, supervisor);
      const made = await Promise.all(pending);
      for (const [n, each] of made.entries())
        isNumber(options.instance(each.register(options, undefined)), n);
    });
  });
});

describe('Many caches', () => {
  forEachBackend((backend) => {
    for (const count of COUNTS) {
      it(`each serve their components: ${count}`, async () => {
        const make = (n: number) =>
          new SandboxComponents<unknown>(backend, { cache: new ModuleCache({ entries: 1 + (n % 3) }) });
        await holdMany(count, make, (components, n) => {
          isNumber(instanceOf(components, numbered(n % 40)), n % 40);
          components.clear();
        });
      });
    }
  });

  // wasmi makes no machine code, so nothing of it is on disk.
  it('each write to their own folder', async () => {
    const root = mkdtempSync(join(tmpdir(), 'sandbox-host-handles-'));
    folders.push(root);
    const folderOf = (n: number): string => join(root, String(n));
    const make = (n: number) => {
      mkdirSync(folderOf(n), { recursive: true, mode: 0o700 });
      const cache = new ModuleCache({ entries: 1, unsafeDirectory: folderOf(n) });
      return {
        components: new SandboxComponents<unknown>('wasmer', { cache }),
        files: readdirSync(folderOf(n)).length,
      };
    };
    await holdMany(66, make, (made, n) => {
      instanceOf(made.components, numbered(5000 + made.files));
      made.files += 1;
      assert.equal(readdirSync(folderOf(n)).length, made.files, `of cache ${n}`);
    });
  });
});

describe('Many engines', () => {
  forEachBackend((backend) => {
    for (const count of COUNTS) {
      it(`each limit what they are to limit: ${count}`, async () => {
        const make = (n: number) =>
          new SandboxComponents<unknown>(backend, { limits: { memoryBytes: (n + 1) * PAGE } });
        await holdMany(count, make, (components, n) => {
          components.newMemory(1);
          const { message } = caught(LimitError, () => components.newMemory(n + 2));
          assert.match(message, new RegExp(`\\b${(n + 1) * PAGE}\\b`));
          components.clear();
        });
      });
    }

    it('each run their own modules, with ever other options', async () => {
      const module = wat(`(module (func $f (export "deep") (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 0)))))`);
      const depth = (n: number): number => 100 + n;
      const make = (n: number) =>
        new SandboxComponents<unknown>(backend, { limits: { recursionDepth: depth(n) } });
      await holdMany(100, make, (components, n) => {
        const instance = instanceOf(components, module);
        const few = Value.I32(50);
        assert.deepEqual(instance.invoke('deep', [few], supervisor), few);
        assert.throws(() => instance.invoke('deep', [Value.I32(depth(n) + 1)], supervisor), /stack/i);
        components.clear();
      });
    });
  });
});

describe('Many thread budgets', () => {
  forEachBackend((backend) => {
    it('each give a thread to the calls of their components', async () => {
      const components = (n: number) => ({
        components: new SandboxComponents<unknown>(backend, { threads: 1 }),
        n,
      });
      const source =
        '(module (import "env" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))';
      // On wasmer a guest that waits has a thread, which is all that its budget has.
      await holdMany(33, components, async (made) => {
        const other = components(0);
        const waiting = waitingGuest(backend, source, made);
        const result = waiting.invoke('run');
        await waiting.isAsked(1);
        const others = waitingGuest(backend, source, other);
        const otherResult = others.invoke('run');
        await others.isAsked(1);
        waiting.asked[0].resolve(Value.I32(made.n));
        others.asked[0].resolve(Value.I32(-1));
        assert.deepEqual(await Promise.all([result, otherResult]), [Value.I32(made.n), Value.I32(-1)]);
        made.components.clear();
      });
    });

    for (const count of COUNTS) {
      it(`each serve their components: ${count}`, async () => {
        const make = (n: number) => new SandboxComponents<unknown>(backend, { threads: 1 + (n % 4) });
        await holdMany(count, make, async (components, n) => {
          const instance = instanceOf(components, wat(IDENTITY));
          assert.deepEqual(await instance.invokeAsync('same', [Value.I32(n)], supervisor), Value.I32(n));
          components.clear();
        });
      });
    }
  });
});

const STATEFUL = `(module (import "env" "memory" (memory 1)) (memory (export "own") 1)
  (global (export "g") (mut i32) (i32.const 0))
  (func (export "set") (param i32) (global.set 0 (local.get 0)) (i32.store 1 (i32.const 8) (local.get 0)))
  (func (export "get") (result i32) (i32.add (global.get 0) (i32.load 1 (i32.const 8)))))`;

function stateful(components: SandboxComponents<unknown>, memory: number, n: number): SandboxInstance {
  const env = environment(components, {}, { 'env.memory': memory });
  const instance = instanceOf(components, wat(STATEFUL), env);
  instance.invoke('set', [Value.I32(n)], supervisor);
  return instance;
}

function isStateful(instance: SandboxInstance, n: number): void {
  assert.deepEqual(instance.invoke('get', [], supervisor), Value.I32(2 * n));
  assert.deepEqual(instance.getGlobalVal('g'), Value.I32(n));
}

describe('Many instances', () => {
  forEachBackend((backend) => {
    for (const count of COUNTS) {
      it(`keep their state, each with a memory of its own: ${count}`, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const make = (n: number) => {
          const instance = stateful(components, components.newMemory(1), n);
          components.clear();
          return instance;
        };
        await holdMany(count, make, isStateful);
      });

      it(`keep their state, all with one memory: ${count}`, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const memory = components.newMemory(1);
        let torn = 0;
        const make = (n: number) => {
          const instance = stateful(components, memory, n);
          components.instanceTeardown(torn++);
          return instance;
        };
        await holdMany(count, make, isStateful);
      });
    }

    it('keep their state and their memories over asynchronous calls', async () => {
      await whileCallsWait(backend, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const make = (n: number) => {
          const instance = stateful(components, components.newMemory(1), n);
          components.clear();
          return instance;
        };
        await holdMany(257, make, async (instance, n) => {
          const pending = instance.invokeAsync('get', [], supervisor);
          stateful(components, components.newMemory(1), -1);
          components.clear();
          assert.deepEqual(await pending, Value.I32(2 * n));
          assert.equal(new DataView((instance.getMemory('own') as Memory).buffer).getInt32(8, true), n);
        });
      });
    });

    it('are what their indices stand for, and dispatch thunks too', async () => {
      const components = new SandboxComponents<{ n: number }>(backend);
      const env = environment(components as SandboxComponents<unknown>);
      for (let round = 0; round < 2; round++) {
        const held = Array.from({ length: 1000 }, (_, n) => {
          const index = components.instantiate(V1, numbered(n), env, supervisor).register(components, { n });
          assert.equal(index, n);
          return components.instance(index);
        });
        for (let n = 0; n < 1000; n += 3) components.instanceTeardown(n);
        await collectGarbage();
        const index = components
          .instantiate(V1, numbered(1000), env, supervisor)
          .register(components, { n: 1000 });
        assert.equal(index, 1000);
        for (const [n, instance] of held.entries()) {
          isNumber(instance, n);
          if (n % 3 === 0) {
            assert.throws(() => components.instance(n), /torndown/);
            assert.throws(() => components.dispatchThunk(n), /torndown/);
          } else {
            assert.equal(components.instance(n), instance);
            assert.equal(components.dispatchThunk(n).n, n);
          }
        }
        components.clear();
      }
    });
  });
});

describe('Many memories', () => {
  forEachBackend((backend) => {
    const isMemory = (memory: Memory, n: number): void => {
      assert.deepEqual([...memory.read(n, 4)], [n & 255, n >> 8, 1, 0]);
      assert.equal(new Uint8Array(memory.buffer)[n], n & 255);
      assert.equal(memory.memorySize(), 1 + (n % 2));
    };
    for (const count of COUNTS) {
      it(`keep their bytes: ${count}`, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const make = (n: number) => {
          const memory = components.memory(components.newMemory(1 + (n % 2), 2));
          memory.writeFrom(n, Uint8Array.of(n & 255, n >> 8, 1));
          if (n % 5 === 0) components.clear();
          return memory;
        };
        await holdMany(count, make, isMemory);
      });
    }

    it('keep their bytes if instances have made them, which only they hold', async () => {
      const wasm = wat('(module (memory (export "m") 1 2) (memory (export "n") 1 2))');
      const make = (n: number) => {
        const components = new SandboxComponents<unknown>(backend);
        const instance = instanceOf(components, wasm);
        if (n % 2 === 1) instance.getMemory('n')?.memoryGrow(1);
        const memory = instance.getMemory(n % 2 === 0 ? 'm' : 'n') as Memory;
        memory.writeFrom(n, Uint8Array.of(n & 255, n >> 8, 1));
        return memory;
      };
      await holdMany(257, make, isMemory);
    });

    it('keep their bytes while asynchronous calls wait', async () => {
      await whileCallsWait(backend, async () => {
        const make = (n: number) => {
          const components = new SandboxComponents<unknown>(backend);
          const memory = components.memory(components.newMemory(1 + (n % 2), 2));
          memory.writeFrom(n, Uint8Array.of(n & 255, n >> 8, 1));
          return memory;
        };
        await holdMany(257, make, async (memory, n) => {
          isMemory(memory, n);
          await nextTurn();
        });
      });
    });
  });
});

const ASKS = `(module (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "run") (param i32) (result i32) (call $f (local.get 0))))`;

describe('Many asynchronous calls', () => {
  forEachBackend((backend) => {
    for (const count of COUNTS) {
      it(`get each its own answer, with guests of their own: ${count}`, async () => {
        const components = new SandboxComponents<unknown>(backend);
        const own = new JsSupervisor();
        const f = own.define(async ([n]) => {
          for (let turns = Value.toNumber(n) as number; turns % 7 > 0; turns--) await nextTurn();
          if (Value.toNumber(n) === 5) collectNow();
          return Value.I32((Value.toNumber(n) as number) + 1);
        });
        const env = environment(components, { 'env.f': f });
        for (let round = 0; round < 2; round++) {
          const results = Array.from({ length: count }, (_, n) => {
            const index = components.instantiate(V1, wat(ASKS), env, own).register(components, undefined);
            return components.instance(index).invokeAsync('run', [Value.I32(n)], own);
          });
          // Nothing but the calls holds the guests.
          components.clear();
          assert.deepEqual(
            await Promise.all(results),
            results.map((_, n) => Value.I32(n + 1)),
          );
        }
      });
    }

    it('get each its own answer, error or end, with one guest', async () => {
      const { invoke, instance, supervisor } = (() => {
        const own = new JsSupervisor();
        const components = new SandboxComponents<unknown>(backend);
        const f = own.define(async ([n]) => {
          await nextTurn();
          if ((Value.toNumber(n) as number) % 3 === 1) throw new Error(`no ${Value.toNumber(n)}`);
          return n;
        });
        const env = environment(components, { 'env.f': f });
        const index = components.instantiate(V1, wat(ASKS), env, own).register(components, undefined);
        const instance = components.instance(index);
        const invoke = (n: number, options = {}) => instance.invokeAsync('run', [Value.I32(n)], own, options);
        return { invoke, instance, supervisor: own };
      })();
      const ended = new AbortController();
      const results = Array.from({ length: 1000 }, (_, n) =>
        invoke(n, n % 3 === 2 ? { signal: ended.signal } : {}),
      );
      ended.abort('ended');
      collectNow();
      const settled = await Promise.allSettled(results);
      for (const [n, outcome] of settled.entries()) {
        if (n % 3 === 0) assert.deepEqual(outcome, { status: 'fulfilled', value: Value.I32(n) });
        else if (n % 3 === 2) assert.deepEqual(outcome, { status: 'rejected', reason: 'ended' });
        else assert.equal((outcome as PromiseRejectedResult).reason.cause.message, `no ${n}`);
      }
      assert.deepEqual(await instance.invokeAsync('run', [Value.I32(9)], supervisor), Value.I32(9));
    });
  });
});
