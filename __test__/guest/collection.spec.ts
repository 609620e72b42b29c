// What nobody can reach is collected, and what native code has of it goes too, whatever was looked at in the meantime. What can still be reached stays:
// handles.long.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CompiledModule,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  type Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from '../../index';
import type { ObjectCounts } from '../../lib/binding/addon';
import { native } from '../../lib/binding/native';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { collectGarbage } from '../support/garbage';
import { type Guest, guest } from '../support/guest';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';

const PAGE = 65536;
const V1 = Instantiate.Version1;
/** Fewer than a sweep is worth, so that nothing but the collector brings it about. */
const FEW = 20;

const GUEST = `(module
  (import "env" "memory" (memory 1 16))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (memory (export "own") 1)
  (global (export "g") (mut i32) (i32.const 0))
  (func (export "run") (param i32) (result i32)
    (i32.store (i32.const 0) (call $ask (local.get 0))) (i32.load (i32.const 0)))
  (func (export "trap") unreachable))`;

const numbered = (n: number): Uint8Array => wat(`(module (func (export "f") (result i32) (i32.const ${n})))`);

const build = (backend: SandboxBackend): Guest =>
  guest({ backend, memory: { initial: 1, maximum: 16 }, imports: { 'env.ask': ([n]) => n }, wat: GUEST });

type NativeKind = keyof Omit<ObjectCounts, 'enginesOfProcess'>;
type Counts = Partial<Record<NativeKind, number>>;

/** What there is once everything that nobody reaches is gone. */
async function settled(): Promise<Record<NativeKind, number>> {
  await collectGarbage();
  await collectGarbage();
  const { enginesOfProcess: _, ...counts } = native.countEachForTests();
  return counts;
}

/**
 * Makes many things, and looks whether all of them are gone once nobody holds them. `make` gives what is to be collected on JavaScript's side too;
 * `least` says how many native objects there are at least while it is held.
 */
async function goes(least: Counts, make: (n: number) => object[] | Promise<object[]>): Promise<void> {
  // What is made once and stays, such as compiled modules of the process.
  await (async () => make(0))();
  const before = await settled();
  const gone: WeakRef<object>[] = [];
  await (async () => {
    const held: object[] = [];
    for (let n = 1; n <= FEW; n++) held.push(...(await make(n)));
    const now = native.countEachForTests();
    for (const [kind, each] of Object.entries(least) as [NativeKind, number][]) {
      assert.ok(
        now[kind] >= before[kind] + each * FEW,
        `${now[kind]} ${kind} are held, ${before[kind]} were there before`,
      );
    }
    gone.push(...held.map((each) => new WeakRef(each)));
  })();
  const after = await settled();
  for (const kind of Object.keys(after) as NativeKind[]) {
    assert.ok(
      after[kind] <= before[kind],
      `${after[kind]} ${kind} are left, ${before[kind]} were there before`,
    );
  }
  const left = gone.flatMap((ref) => ref.deref()?.constructor.name ?? []);
  assert.deepEqual(left, []);
}

describe('What nobody can reach is collected', () => {
  forEachBackend((backend) => {
    it('components, with their engine', async () => {
      await goes({ engines: 1 }, () => [new SandboxComponents<unknown>(backend)]);
    });

    it('memories', async () => {
      await goes({ memories: 1 }, () => {
        const components = new SandboxComponents<unknown>(backend);
        return [components, components.memory(components.newMemory(1, 2))];
      });
    });

    it('memories whose buffer was read, written, grown and read again', async () => {
      await goes({ memories: 1 }, (n) => {
        const components = new SandboxComponents<unknown>(backend);
        const memory = components.memory(components.newMemory(1, 4));
        new Uint8Array(memory.buffer).fill(n);
        memory.memoryGrow(1);
        const { buffer } = memory;
        // Enough for copies to be made by a view of their own.
        for (let at = 0; at < 50; at++) assert.equal(memory.read(at, 1)[0], n);
        return [components, memory, buffer, new DataView(buffer, 8)];
      });
    });

    it('memories whose buffer was transferred away', async () => {
      await goes({ memories: 1 }, () => {
        const components = new SandboxComponents<unknown>(backend);
        const memory = components.memory(components.newMemory(1, 4));
        const { buffer } = memory;
        return [components, memory, structuredClone(buffer, { transfer: [buffer] }), memory.buffer];
      });
    });

    it('instances, their memories and views, and their supervisors', async () => {
      await goes({ memories: 3, instances: 1 }, (n) => {
        const made = build(backend);
        made.call('run', Value.I32(n));
        const own = made.instance.getMemory('own') as Memory;
        const views = [made.memory, own].map(({ buffer }) => new Uint8Array(buffer));
        // One that is neither imported nor exported, which only its instance holds.
        const hidden = guest({
          backend,
          components: made.components,
          imports: {
            'env.ask': (_, call) => {
              call.memory?.buffer;
              return undefined;
            },
          },
          wat: '(module (import "env" "ask" (func $ask)) (memory 1) (func (export "run") (call $ask)))',
        });
        hidden.call('run');
        return [made.components, made.supervisor, made.instance, made.memory, own, ...views, hidden.instance];
      });
    });

    it('instances whose calls have trapped, and their errors', async () => {
      await goes({ instances: 1 }, async () => {
        const { instance, supervisor, call } = build(backend);
        const errors: unknown[] = [];
        try {
          call('trap');
        } catch (error) {
          errors.push(error);
        }
        await instance.invokeAsync('trap', [], supervisor).catch((error) => errors.push(error));
        return [instance, ...(errors as object[])];
      });
    });

    it('instances that were never registered, and environments that were never used', async () => {
      await goes({ instances: 1 }, () => {
        const components = new SandboxComponents<unknown>(backend);
        const env = environment(components);
        const made = components.instantiate(V1, numbered(1), env, new JsSupervisor());
        const unused = GuestEnvironment.decode(components, Uint8Array.of(0));
        return [components, env, made, unused];
      });
    });

    it('all of it if it refers to itself in a circle', async () => {
      await goes({ memories: 2, instances: 1 }, (n) => {
        const circle: object[] = [];
        const made = guest({
          backend,
          memory: { initial: 1, maximum: 16 },
          imports: {
            'env.ask': ([n], call) => {
              circle.push(call.instance as SandboxInstance, call.memory as Memory);
              return n;
            },
          },
          wat: GUEST,
        });
        const { buffer } = made.memory;
        Object.assign(made.memory, { circle });
        Object.assign(buffer, { circle });
        circle.push(made.components, made.supervisor, made.instance.getMemory('own') as Memory, buffer);
        made.call('run', Value.I32(n));
        return circle;
      });
    });

    it('all of it after asynchronous calls, which waited', async () => {
      await goes({ quotas: 1, instances: 1 }, async (n) => {
        const source =
          '(module (import "env" "f" (func $f (result i32))) (memory (export "m") 1) (func (export "run") (result i32) (call $f)))';
        const waiting = waitingGuest(backend, source);
        const memory = waiting.instance.getMemory('m') as Memory;
        const { buffer } = memory;
        const result = waiting.invoke('run');
        await waiting.isAsked(1);
        waiting.asked[0].resolve(Value.I32(n));
        assert.deepEqual(await result, Value.I32(n));
        const { components, supervisor, instance } = waiting;
        return [components, supervisor, instance, memory, buffer, memory.buffer];
      });
    });

    it('caches, and the modules in them', async () => {
      await goes({ caches: 1, modules: 3 }, (n) => {
        const cache = new ModuleCache({ entries: 3 });
        const components = new SandboxComponents<unknown>(backend, { cache });
        for (const each of [0, 1, 2]) {
          components.instantiate(
            V1,
            numbered(10_000 + 3 * n + each),
            environment(components),
            new JsSupervisor(),
          );
        }
        return [cache, components];
      });
    });

    it('compiled modules that no cache keeps', async () => {
      await goes({ modules: 1, engines: 1 }, async (n) => {
        const module = await CompiledModule.compile(backend, numbered(20_000 + n), { cache: false });
        return [module, ...module.exports];
      });
    });

    it('modules of the process, but for those that were used last', async () => {
      const before = await settled();
      await (async () => {
        const components = new SandboxComponents<unknown>(backend);
        for (let n = 0; n < 200; n++) await CompiledModule.compile(backend, numbered(30_000 + n));
        components.clear();
      })();
      const after = await settled();
      assert.ok(
        after.modules <= before.modules + 32,
        `${after.modules} modules are left of ${before.modules + 200}`,
      );
    });

    it('engines of ever other options, but for some of those that nobody uses', async () => {
      for (let n = 0; n < 400; n++) {
        const components = new SandboxComponents<unknown>(backend, { limits: { recursionDepth: 500 + n } });
        components.newMemory(1);
        if (n % 40 === 39) await collectGarbage();
      }
      const { engines, enginesOfProcess } = native.countEachForTests();
      // 64 that nobody uses of either backend, those that are in use, and those that were when engines were counted last.
      assert.ok(
        enginesOfProcess <= 2 * 64 + engines + 2 * 40,
        `${enginesOfProcess} engines, ${engines} of them in use`,
      );
    });

    it('the bytes of memories whose buffer was read', async () => {
      const round = async (): Promise<void> => {
        for (let n = 0; n < 20; n++) {
          const components = new SandboxComponents<unknown>(backend);
          const memory = components.memory(components.newMemory(64));
          new Uint8Array(memory.buffer).fill(1);
        }
        await collectGarbage();
      };
      await round();
      const before = process.memoryUsage().rss;
      for (let n = 0; n < 10; n++) await round();
      const growth = (process.memoryUsage().rss - before) / 2 ** 20;
      assert.ok(growth < 200, `grew by ${growth.toFixed(0)} MiB of ${(10 * 20 * 64 * PAGE) / 2 ** 20}`);
    });
  });
});

describe('What somebody can reach by a view alone', () => {
  const views: readonly (readonly [
    what: string,
    of: (buffer: ArrayBuffer) => ArrayBufferView | ArrayBuffer,
  ])[] = [
    ['a buffer', (buffer) => buffer],
    ['a typed array', (buffer) => new Uint8Array(buffer)],
    ['a part of one', (buffer) => new Uint16Array(buffer, 8, 4).subarray(1, 2)],
    ['a DataView', (buffer) => new DataView(buffer, 100)],
    ['a Buffer of Node', (buffer) => Buffer.from(buffer, 3, 9)],
  ];
  const bufferOf = (view: ArrayBufferView | ArrayBuffer): ArrayBuffer =>
    ArrayBuffer.isView(view) ? (view.buffer as ArrayBuffer) : view;

  forEachBackend((backend) => {
    for (const [what, of] of views) {
      it(`stays, for ${what}, and goes with it`, async () => {
        const before = await settled();
        const memories: WeakRef<Memory>[] = [];
        await (async () => {
          const held = Array.from({ length: FEW }, (_, n) => {
            const { memory, instance, components } = build(backend);
            const each = n % 2 === 0 ? memory : (instance.getMemory('own') as Memory);
            each.writeFrom(0, Uint8Array.of(n, n + 1));
            memories.push(new WeakRef(each));
            components.clear();
            return of(each.buffer);
          });
          await collectGarbage();
          await collectGarbage();
          const { memories: alive, instances } = native.countEachForTests();
          assert.ok(alive >= before.memories + FEW);
          assert.ok(instances <= before.instances + 1, 'a view of a memory holds no instance');
          for (const [n, view] of held.entries()) {
            const bytes = new Uint8Array(bufferOf(view));
            assert.deepEqual([bytes.length, bytes[0], bytes[1]], [PAGE, n, n + 1]);
            bytes[0] = 255;
          }
          assert.ok(memories.every((ref) => ref.deref()?.read(0, 1)[0] === 255));
        })();
        const after = await settled();
        assert.ok(
          after.memories <= before.memories,
          `${after.memories} memories are left of ${before.memories + FEW}`,
        );
        assert.ok(memories.every((ref) => ref.deref() === undefined));
      });
    }
  });
});
