// Several copies of the package's JavaScript in one process: calls, handles and errors of each are its own, whoever came first, in the same realm or
// in another. As bundles and test runners load it is in ../package/copies.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises';
import { type Context, runInContext } from 'node:vm';
import { runSnippet } from '../support/child';
import { copyOfPackage, newRealm, type Package } from '../support/copies';
import { type Copy, guestOf } from '../support/copy_guest';
import { forEachBackend } from '../support/engines';
import { collectGarbage } from '../support/garbage';
import type { Anything } from '../support/hostile';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "memory" (memory 1 4))
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "main") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "store") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "trap") unreachable)
  (func (export "spin") (loop $again (br $again))))`;

/** Where a copy is loaded. */
const PLACES: readonly (readonly [name: string, load: () => Package])[] = [
  ['in the same realm', () => copyOfPackage()],
  ['in another realm', () => copyOfPackage(newRealm())],
];

describe('Two copies', () => {
  forEachBackend((backend) => {
    for (const [where, load] of PLACES) {
      describe(where, () => {
        const pair = (): [Copy, Copy] =>
          [copyOfPackage(), load()].map((sh) => guestOf(sh, backend, wat(GUEST))) as [Copy, Copy];

        it('answer each their own guests, synchronously and asynchronously, in any order', async () => {
          const sh = copyOfPackage();
          const a = guestOf(sh, backend, wat(GUEST), (n) => n + 1);
          assert.equal(a.call('main', 1), 2);
          assert.equal(await a.callAsync('main', 1), 2);
          const b = guestOf(load(), backend, wat(GUEST), (n) => n + 1000);
          for (let round = 0; round < 3; round++) {
            assert.equal(b.call('main', 1), 1001);
            assert.equal(a.call('main', 1), 2);
            assert.equal(await b.callAsync('main', 1), 1001);
            assert.equal(await a.callAsync('main', 1), 2);
            assert.deepEqual(
              await Promise.all([a.callAsync('main', 2), b.callAsync('main', 2), a.callAsync('main', 3)]),
              [3, 1002, 4],
            );
          }
        });

        it('settle calls of the first that were pending when the second was loaded', async () => {
          for (const isFirst of [true, false]) {
            const answers: ((n: number) => void)[] = [];
            const later = (): Promise<number> => new Promise((resolve) => answers.push(resolve));
            const a = guestOf(copyOfPackage(), backend, wat(GUEST), later);
            const ofA = a.callAsync('main', 1);
            while (answers.length < 1) await nextTurn();
            const b = guestOf(load(), backend, wat(GUEST), later);
            const ofB = b.callAsync('main', 1);
            while (answers.length < 2) await nextTurn();
            const order = isFirst ? [0, 1] : [1, 0];
            for (const place of order) {
              answers[place](place + 10);
              assert.equal(await [ofA, ofB][place], place + 10);
            }
          }
        });

        it('call one another in supervisor functions, as deep as one likes', async () => {
          const [first, second] = [copyOfPackage(), load()];
          const guests: Copy[] = [];
          const down = (n: number): number =>
            n === 0 ? 7 : (guests[n % 2].call('main', n - 1) as number) + 1;
          guests.push(guestOf(first, backend, wat(GUEST), down), guestOf(second, backend, wat(GUEST), down));
          assert.equal(guests[0].call('main', 9), 16);
          assert.equal(await guests[1].callAsync('main', 9), 16);
        });

        it('hand on what was thrown, by identity, through guests of both', async () => {
          const thrown = new Error('mine');
          const inner = guestOf(load(), backend, wat(GUEST), () => {
            throw thrown;
          });
          const outer = guestOf(copyOfPackage(), backend, wat(GUEST), () => inner.call('main', 1) as number);
          const look = (error: Anything): boolean => {
            assert.ok(error instanceof outer.sh.TrapError);
            assert.ok(error.cause instanceof inner.sh.TrapError);
            assert.equal(error.cause.cause, thrown);
            assert.equal(error.message, 'mine');
            return true;
          };
          assert.throws(() => outer.call('main', 1), look);
          await assert.rejects(outer.callAsync('main', 1), look);
        });

        it('end calls by their own timeouts and signals', async () => {
          const [a, b] = pair();
          const controller = new AbortController();
          const ofB = b.callAsync('spin', undefined, { signal: controller.signal });
          await assert.rejects(a.callAsync('spin', undefined, { timeout: 20 }), {
            code: 'ERR_SANDBOX_TIMEOUT',
          });
          assert.throws(() => a.call('spin', undefined, { timeout: 20 }), { code: 'ERR_SANDBOX_TIMEOUT' });
          assert.equal(a.call('main', 1), 1);
          let isSettled = false;
          void ofB.catch(() => {}).finally(() => (isSettled = true));
          await after(20);
          assert.equal(isSettled, false);
          controller.abort('enough');
          await assert.rejects(ofB, (reason) => reason === 'enough');
          assert.equal(b.call('main', 1), 1);
        });

        it('hold their memories and views apart', () => {
          const [a, b] = pair();
          const views = [a, b].map(({ memory }) => new Uint8Array(memory.buffer));
          a.call('store', 1);
          b.call('store', 2);
          assert.deepEqual(
            views.map((view) => view[0]),
            [1, 2],
          );
          a.memory.memoryGrow(1);
          assert.deepEqual([views[0].length, views[1].length], [0, 65_536]);
          assert.equal(b.memory.read(0, 1)[0], 2);
        });

        it('refuse handles of one another', () => {
          const [a, b] = pair();
          const { code } = { code: 'ERR_SANDBOX_ARGUMENT' };
          const strange = b as Anything;
          assert.throws(() => a.sh.GuestEnvironment.decode(strange.components, Uint8Array.of(0)), { code });
          assert.throws(
            () => new a.sh.SandboxComponents(backend, { cache: new b.sh.ModuleCache() as Anything }),
            {
              code,
            },
          );
          assert.throws(
            () => a.components.instantiate(1, wat(GUEST), strange.env, a.supervisor),
            (error: Anything) => error instanceof a.sh.ArgumentError && error.code === code,
          );
        });

        it('make their own errors', () => {
          const [a, b] = pair();
          for (const [own, other] of [
            [a, b],
            [b, a],
          ]) {
            assert.throws(
              () => own.call('trap'),
              (error) => error instanceof own.sh.TrapError && !(error instanceof other.sh.TrapError),
            );
          }
        });

        it('may be collected, while the other one goes on', async () => {
          const kept = guestOf(copyOfPackage(), backend, wat(GUEST), (n) => n + 1);
          kept.call('store', 5);
          const gone: WeakRef<object>[] = [];
          for (let round = 0; round < 5; round++) {
            await (async () => {
              const copy = guestOf(load(), backend, wat(GUEST), async (n) => n + 2);
              assert.equal(await copy.callAsync('main', 1), 3);
              copy.memory.buffer;
              gone.push(new WeakRef(copy.sh.SandboxComponents), new WeakRef(copy.memory));
            })();
            await collectGarbage();
            assert.equal(kept.call('main', 1), 2);
            assert.equal(await kept.callAsync('main', 1), 2);
          }
          for (let wait = 0; wait < 20 && gone.some((ref) => ref.deref() !== undefined); wait++)
            await collectGarbage();
          // V8 may keep the last one alive by what it has compiled.
          assert.ok(gone.filter((ref) => ref.deref() !== undefined).length <= 2);
          assert.equal(kept.memory.read(0, 1)[0], 5);
        });

        it('stay as long as a call of theirs is pending, though nothing else holds them', async () => {
          const answers: ((n: number) => void)[] = [];
          const result = guestOf(
            load(),
            backend,
            wat(GUEST),
            () => new Promise<number>((resolve) => answers.push(resolve)),
          ).callAsync('main', 1);
          while (answers.length === 0) await nextTurn();
          await collectGarbage();
          answers[0](9);
          assert.equal(await result, 9);
        });
      });
    }
  });
});

describe('Worker threads with two copies each', () => {
  it('run guests of all of them at once', async () => {
    const child = await runSnippet(
      `import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
      const source = \`
        require('ts-node/register');
        const { parentPort, workerData } = require('node:worker_threads');
        const { copyOfPackage, newRealm } = require('../support/copies');
        const { guestOf } = require('../support/copy_guest');
        (async () => {
          const realm = newRealm();
          const guests = ['wasmi', 'wasmer'].flatMap((backend) =>
            [copyOfPackage(), copyOfPackage(realm)].map((sh, n) => guestOf(sh, backend, workerData, async (x) => x + n)));
          for (let round = 0; round < 20; round++) {
            const results = await Promise.all(guests.map((guest) => guest.callAsync('main', round)));
            if (String(results) !== String([0, 1, 0, 1].map((n) => round + n))) throw new Error(String(results));
          }
          parentPort.postMessage('right');
        })();\`;
      const wasm = Buffer.from(process.argv[1], 'base64');
      const workers = [1, 2, 3].map(() => new Worker(source, { eval: true, workerData: wasm }));
      Promise.all(workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))))
        .then((said) => process.stdout.write(said.join()));`,
      { args: [Buffer.from(wat(GUEST)).toString('base64')] },
    );
    assert.deepEqual([child.code, child.stdout], [0, 'right,right,right'], child.stderr);
  });
});

describe('In another realm', () => {
  forEachBackend((backend) => {
    const build = (): { realm: Context; copy: Copy } => {
      const realm = newRealm();
      return { realm, copy: guestOf(copyOfPackage(realm), backend, wat(GUEST)) };
    };
    const V1 = 1;
    const failures: readonly (readonly [
      what: string,
      name: string,
      code: string,
      fail: (copy: Copy) => unknown,
    ])[] = [
      ['a trap', 'TrapError', 'ERR_SANDBOX_TRAP', (copy) => copy.call('trap')],
      ['a trap of an asynchronous call', 'TrapError', 'ERR_SANDBOX_TRAP', (copy) => copy.callAsync('trap')],
      [
        'a timeout',
        'SandboxError',
        'ERR_SANDBOX_TIMEOUT',
        (copy) => copy.call('spin', undefined, { timeout: 10 }),
      ],
      ['an unknown export', 'NoExportError', 'ERR_SANDBOX_NO_EXPORT', (copy) => copy.call('nothing')],
      ['a wrong argument', 'ArgumentError', 'ERR_SANDBOX_ARGUMENT', (copy) => copy.components.newMemory(-1)],
      [
        'a size no memory has',
        'ArgumentError',
        'ERR_SANDBOX_ARGUMENT',
        (copy) => copy.components.newMemory(5, 3),
      ],
      [
        'an access out of bounds',
        'ArgumentError',
        'ERR_SANDBOX_ARGUMENT',
        (copy) => copy.memory.read(65_530, 10),
      ],
      [
        'a write out of bounds',
        'ArgumentError',
        'ERR_SANDBOX_ARGUMENT',
        (copy) => copy.memory.writeFrom(65_530, new Uint8Array(10)),
      ],
      ['growth beyond the maximum', 'LimitError', 'ERR_SANDBOX_LIMIT', (copy) => copy.memory.memoryGrow(9)],
      [
        'a module that is none',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) => copy.components.instantiate(V1, Uint8Array.of(1, 2, 3), copy.env, copy.supervisor),
      ],
      [
        'a module that is none, compiled asynchronously',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) => copy.sh.CompiledModule.compile(backend, Uint8Array.of(1, 2, 3)),
      ],
      [
        'a segment out of bounds',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) =>
          copy.components.instantiate(
            V1,
            wat('(module (memory 1) (data (i32.const 65536) "x"))'),
            copy.env,
            copy.supervisor,
          ),
      ],
      [
        'an import that is missing',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) =>
          copy.components.instantiate(V1, wat('(module (import "a" "b" (func)))'), copy.env, copy.supervisor),
      ],
      [
        'a start function that traps',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) =>
          copy.components.instantiateAsync(
            V1,
            wat('(module (func $s unreachable) (start $s))'),
            copy.env,
            copy.supervisor,
          ),
      ],
      [
        'a folder that cannot be used',
        'ArgumentError',
        'ERR_SANDBOX_ARGUMENT',
        (copy) => new copy.sh.ModuleCache({ unsafeDirectory: '/dev/null/x' }),
      ],
      [
        'a guest that is busy',
        'BusyError',
        'ERR_SANDBOX_BUSY',
        async (copy) => {
          const controller = new AbortController();
          const spinning = copy.callAsync('spin', undefined, { signal: controller.signal });
          try {
            copy.memory.read(0, 1);
          } finally {
            controller.abort();
            await spinning.catch(() => {});
          }
        },
      ],
      [
        'bytes that are no definition',
        'InstantiationError',
        'ERR_SANDBOX_INSTANTIATION',
        (copy) => copy.sh.GuestEnvironment.decode(copy.components as Anything, Uint8Array.of(255)),
      ],
      [
        'bytes that are no values',
        'CodecError',
        'ERR_SANDBOX_CODEC',
        (copy) => copy.sh.codec.decodeValues(Uint8Array.of(255)),
      ],
    ];
    for (const [what, name, code, fail] of failures) {
      it(`${what} is the ${name} of that copy and an Error of that realm`, async () => {
        const { realm, copy } = build();
        const error: Anything = await (async () => fail(copy))().then(
          () => assert.fail('nothing was thrown'),
          (error) => error,
        );
        assert.equal(error.code, code, error.stack);
        assert.ok(error instanceof (copy.sh as Anything)[name], `it is a ${error.name}`);
        assert.equal(error.name, name);
        assert.ok(error instanceof copy.sh.SandboxError && error instanceof runInContext('Error', realm));
        assert.equal(error instanceof Error, false);
        assert.doesNotMatch(error.message, /^Error: |has a bug/);
      });
    }

    it('messages are the same as in this one', async () => {
      const { copy } = build();
      const here = guestOf(copyOfPackage(), backend, wat(GUEST));
      for (const [what, , , fail] of failures) {
        const [there, same] = await Promise.all(
          [copy, here].map((each) => (async () => fail(each))().catch((error: Anything) => error.message)),
        );
        assert.equal(there, same, what);
      }
    });

    it('an error of this realm that a supervisor throws keeps its message and is the cause', () => {
      const thrown = new TypeError('of here');
      const copy = guestOf(copyOfPackage(newRealm()), backend, wat(GUEST), () => {
        throw thrown;
      });
      assert.throws(
        () => copy.call('main', 1),
        (error: Anything) =>
          error.cause === thrown && error.message === 'of here' && error.trap === 'supervisor',
      );
    });

    it('binaries, buffers, options and values may be of any realm', async () => {
      const { realm, copy } = build();
      const of = (source: string): Anything => runInContext(source, realm);
      for (const { sh } of [copy, guestOf(copyOfPackage(), backend, wat(GUEST))]) {
        const components = new sh.SandboxComponents(
          backend,
          of('({ limits: { memoryBytes: 65536 * 4 }, fuel: true })'),
        );
        const bytes = of(`Uint8Array.of(${wat(GUEST)})`);
        for (const wasm of [bytes, bytes.buffer, wat(GUEST)]) {
          const supervisor = new sh.JsSupervisor();
          const f = supervisor.define(of("([n]) => Promise.resolve({ type: 'i32', value: n.value + 1 })"));
          const memory = components.newMemory(1, 4);
          const definition = new sh.EnvironmentDefinitionBuilder()
            .addHostFunc('env', 'f', f)
            .addMemory('env', 'memory', memory)
            .encode();
          const env = sh.GuestEnvironment.decode(components, definition);
          const made = await components.instantiateAsync(V1, wasm, env, supervisor);
          const instance = components.instance(made.register(components, undefined));
          assert.equal(
            (
              (await instance.invokeAsync(
                'main',
                of("[{ type: 'i32', value: 4 }]"),
                supervisor,
                of('({ fuel: 1000n })'),
              )) as Anything
            ).value,
            5,
          );
          components.memory(memory).writeFrom(0, of('Uint16Array.of(258)'));
          const dest = of('new Uint8Array(2)');
          components.memory(memory).readInto(0, dest);
          assert.deepEqual([...dest], [2, 1]);
        }
      }
    });
  });
});
