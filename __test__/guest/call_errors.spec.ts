// What the errors of calls say: which export it was, the limit that ended it, and who has called.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  CompiledModule,
  Instantiate,
  InstantiationError,
  type InvokeOptions,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  TrapError,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import type { GuestFunction } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f))
  (func (export "trap") unreachable)
  (func (export "loop") (loop (br 0)))
  (func (export "ask") (call $f)))`;

const START = '(module (func $start unreachable) (start $start))';
const ENDLESS_START = '(module (func $start (loop (br 0))) (start $start))';

interface Made {
  readonly components: SandboxComponents<undefined>;
  readonly supervisor: JsSupervisor;
  readonly instance: SandboxInstance;
}

function made(backend: SandboxBackend, f: GuestFunction = () => undefined): Made {
  const components = new SandboxComponents(backend, { fuel: true });
  const supervisor = new JsSupervisor();
  const env = environment(components, { 'env.f': supervisor.define(f) });
  const unregistered = components.instantiate(Instantiate.Version1, wat(GUEST), env, supervisor);
  return {
    components,
    supervisor,
    instance: components.instance(unregistered.register(components, undefined)),
  };
}

async function errorOf(run: () => unknown): Promise<Error> {
  try {
    await run();
  } catch (error) {
    assert.ok(error instanceof Error);
    return error;
  }
  assert.fail('nothing was thrown');
}

/** Calls in both ways. */
const ways = [
  [
    'invoke',
    (i: SandboxInstance, name: string, options?: InvokeOptions) => i.invoke(name, [], undefined, options),
  ],
  [
    'invokeAsync',
    (i: SandboxInstance, name: string, options?: InvokeOptions) =>
      i.invokeAsync(name, [], undefined, options),
  ],
] as const;

forEachBackend((backend) => {
  describe(`the errors of calls on ${backend}`, () => {
    for (const [way, call] of ways) {
      it(`name the export that trapped, of ${way}`, async () => {
        const { instance } = made(backend);
        const error = await errorOf(() => call(instance, 'trap'));
        assert.ok(error instanceof TrapError);
        assert.equal(error.exportName, 'trap');
        assert.equal(
          error.message,
          'wasm trap: unreachable instruction executed, in the call of the export "trap"',
        );
      });

      it(`name the export whose supervisor threw, and leave the message as it is, of ${way}`, async () => {
        const why = new Error('why');
        const { instance } = made(backend, () => {
          throw why;
        });
        const error = await errorOf(() => call(instance, 'ask'));
        assert.ok(error instanceof TrapError);
        assert.deepEqual([error.exportName, error.message, error.cause], ['ask', 'why', why]);
      });

      it(`name the budget of a call that is out of fuel, of ${way}`, async () => {
        const { instance } = made(backend);
        const error = await errorOf(() => call(instance, 'loop', { fuel: 1234n }));
        assert.ok(error instanceof TrapError);
        assert.deepEqual([error.trap, error.exportName], ['out-of-fuel', 'loop']);
        assert.equal(
          error.message,
          'wasm trap: out of fuel: the call of the export "loop" has used up its budget of 1234 units',
        );
      });

      it(`name the timeout of a call, of ${way}`, async () => {
        const { instance } = made(backend);
        const error = await errorOf(() => call(instance, 'loop', { timeout: 21 }));
        assert.equal((error as SandboxError).code, 'ERR_SANDBOX_TIMEOUT');
        assert.equal(
          error.message,
          'the call of the export "loop" has taken longer than its timeout of 21 ms',
        );
        assert.equal((error.cause as TrapError).exportName, 'loop');
      });

      it(`say when a limit is that of a call around, of ${way}`, async () => {
        const other = made(backend).instance;
        const inner: Error[] = [];
        let options: InvokeOptions | undefined;
        const { instance } = made(backend, () => {
          try {
            other.invoke('loop', [], undefined, options);
          } catch (error) {
            inner.push(error as Error);
          }
        });
        // Whether this one fails too depends on what is left for it to do.
        const around = (limits: InvokeOptions): Promise<unknown> =>
          Promise.allSettled([(async () => call(instance, 'ask', limits))()]);
        options = { timeout: 60_000 };
        await around({ timeout: 22 });
        options = undefined;
        await around({ fuel: 5000n });
        options = { fuel: 60_000n };
        await around({ fuel: 5000n });
        assert.deepEqual(
          inner.map(({ message }) => message),
          [
            'the call of the export "loop" has taken longer than the timeout of 22 ms of a call around it',
            'wasm trap: out of fuel: the call of the export "loop" has used up what was left of the 5000 units of a call around it',
            'wasm trap: out of fuel: the call of the export "loop" has used up its budget of 60000 units, or what was left of the 5000 units of a call around it',
          ],
        );
      });
    }

    it('cut the name of an export, which may have any length', async () => {
      const name = 'n'.repeat(100_000);
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const wasm = wat(`(module (func (export "${name}") unreachable))`);
      const made = components.instantiate(Instantiate.Version1, wasm, environment(components), supervisor);
      const instance = components.instance(made.register(components, undefined));
      const error = await errorOf(() => instance.invoke(name));
      assert.ok(error.message.length < 300, `${error.message.length} characters`);
    });

    it('say that it was the start function', async () => {
      const { components, supervisor } = made(backend);
      const env = environment(components);
      const version = Instantiate.Version1;
      for (const method of ['instantiate', 'instantiateAsync'] as const) {
        const error = await errorOf(() => components[method](version, wat(START), env, supervisor));
        assert.ok(error instanceof InstantiationError && error.cause instanceof TrapError);
        assert.equal(error.cause.exportName, undefined);
        assert.equal(
          error.cause.message,
          'wasm trap: unreachable instruction executed, in the start function',
        );
        const options = { timeout: 250 };
        const late = await errorOf(() =>
          components[method](version, wat(ENDLESS_START), env, supervisor, options),
        );
        assert.equal(late.message, 'the start function has taken longer than its timeout of 250 ms');
      }
    });

    describe('have the frames of the asynchronous function that awaits', () => {
      const { name } = callerOfAnAsynchronousCall;
      async function callerOfAnAsynchronousCall(run: () => Promise<unknown>): Promise<void> {
        await run();
      }

      const cases: readonly (readonly [string, (given: Made) => Promise<unknown>])[] = [
        ['a trap', ({ instance }) => instance.invokeAsync('trap')],
        ['a timeout', ({ instance }) => instance.invokeAsync('loop', [], undefined, { timeout: 20 })],
        ['an exhausted budget', ({ instance }) => instance.invokeAsync('loop', [], undefined, { fuel: 20n })],
        ['an unknown export', ({ instance }) => instance.invokeAsync('nothing')],
        ['wrong arguments', ({ instance }) => instance.invokeAsync('trap', [1])],
        [
          'a start function that traps',
          ({ components, supervisor }) =>
            components.instantiateAsync(
              Instantiate.Version1,
              wat(START),
              environment(components),
              supervisor,
            ),
        ],
        [
          'a start function that takes too long',
          ({ components, supervisor }) =>
            components.instantiateAsync(
              Instantiate.Version1,
              wat(ENDLESS_START),
              environment(components),
              supervisor,
              { timeout: 100 },
            ),
        ],
        [
          'a module that is none',
          ({ components, supervisor }) =>
            components.instantiateAsync(
              Instantiate.Version1,
              Buffer.from('none'),
              environment(components),
              supervisor,
            ),
        ],
        ['a module that is not compiled', () => CompiledModule.compile(backend, Buffer.from('none'))],
      ];
      for (const [what, run] of cases) {
        it(`of ${what}`, async () => {
          const given = made(backend);
          const error = await errorOf(() => callerOfAnAsynchronousCall(() => run(given)));
          assert.match(error.stack as string, new RegExp(name));
          assert.ok(error instanceof SandboxError);
        });
      }

      it('of a supervisor that throws, whose error keeps its own', async () => {
        const { instance } = made(backend, async () => {
          throw new Error('why');
        });
        const error = await errorOf(() => callerOfAnAsynchronousCall(() => instance.invokeAsync('ask')));
        assert.match(error.stack as string, new RegExp(name));
        assert.doesNotMatch((error.cause as Error).stack as string, new RegExp(name));
      });
    });

    it('blame no signal when the stack of JavaScript is used up', async () => {
      const { instance, supervisor } = made(backend);
      const { signal } = new AbortController();
      const calls: Promise<unknown>[] = [];
      const dive = (): void => {
        calls.push(instance.invokeAsync('ask', [], supervisor, { signal }));
        dive();
      };
      assert.throws(dive, RangeError);
      // Most of them wait for their turn; those at the edge may fail, but by the stack alone.
      for (const call of await Promise.allSettled(calls.slice(-200))) {
        if (call.status === 'rejected')
          assert.ok(!(call.reason instanceof ArgumentError), String(call.reason));
      }
      await Promise.allSettled(calls);
      assert.equal(instance.invoke('ask'), undefined);
    });
  });
});
