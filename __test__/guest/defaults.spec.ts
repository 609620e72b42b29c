// SandboxOptions.defaults: what bounds each call and each start function that says nothing else. Fuel is exact, so most of these tests use
// that; deadlines take the same way.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CompiledModule,
  Instantiate,
  InstantiationError,
  type InvokeDefaults,
  type InvokeOptions,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxOptions,
  TrapError,
  Value,
} from '../../index';
import { lastTrap, supervisor as wasmSupervisor } from '../gear/host/fixture';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError, caught, rejection } from '../support/expect';
import { type Guest, type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (result i32)))
  (func (export "endless") (loop $l (br $l)))
  (func (export "call") (result i32) (call $f))
  (func (export "seven") (result i32) (i32.const 7)))`;

const ENDLESS_START = '(module (func $start (loop $l (br $l))) (start $start))';
const SHORT_START = '(module (func $start) (start $start))';

/** More than any call here needs. */
const BUDGET = 1000n;

function components(backend: SandboxBackend, defaults: InvokeDefaults): SandboxComponents<unknown> {
  return new SandboxComponents<unknown>(backend, { fuel: true, defaults });
}

function made(
  backend: SandboxBackend,
  defaults: InvokeDefaults,
  f: GuestFunction = () => Value.I32(1),
): Guest {
  return guest({ backend, wat: GUEST, imports: { 'env.f': f }, components: components(backend, defaults) });
}

function instantiate(store: SandboxComponents<unknown>, text: string, options?: InvokeOptions) {
  const env = environment(store);
  return store.instantiate(Instantiate.Version1, wat(text), env, new JsSupervisor(), options);
}

function instantiateAsync(store: SandboxComponents<unknown>, text: string, options?: InvokeOptions) {
  const env = environment(store);
  return store.instantiateAsync(Instantiate.Version1, wat(text), env, new JsSupervisor(), options);
}

function assertOutOf(budget: bigint, error: unknown): void {
  assert.ok(error instanceof TrapError, `${error}`);
  assert.equal(error.trap, 'out-of-fuel');
  assert.match(error.message, new RegExp(`has used up its budget of ${budget} units$`));
}

function assertTimeout(error: unknown): void {
  assert.ok(error instanceof SandboxError, `${error}`);
  assert.equal(error.code, 'ERR_SANDBOX_TIMEOUT');
  assert.match(error.message, /has taken longer than its timeout of 20 ms$/);
}

describe('The defaults of calls', () => {
  forEachBackend((backend) => {
    it('bound a call that has no options, or whose options do not say', async () => {
      const { instance, supervisor } = made(backend, { fuel: BUDGET });
      const other = new ProtocolSupervisor();
      for (const options of [undefined, {}, { fuel: undefined }, { timeout: 100_000 }]) {
        for (const ctx of [supervisor, other, undefined]) {
          instance.invoke('seven', [], ctx, options);
          const left = instance.fuel ?? 0n;
          assert.ok(left > BUDGET - 10n && left < BUDGET, `${left}`);
          assertOutOf(
            BUDGET,
            caught(TrapError, () => instance.invoke('endless', [], ctx, options)),
          );
          assertOutOf(BUDGET, await rejection(TrapError, instance.invokeAsync('endless', [], ctx, options)));
        }
      }
    });

    it('end a call that takes too long', async () => {
      const { instance, supervisor } = made(backend, { timeout: 20 });
      assertTimeout(caught(SandboxError, () => instance.invoke('endless')));
      assertTimeout(
        caught(SandboxError, () => instance.invoke('endless', [], supervisor, { fuel: 2n ** 62n })),
      );
      assertTimeout(await rejection(SandboxError, instance.invokeAsync('endless')));
      assert.deepEqual(instance.invoke('seven'), Value.I32(7));
    });

    it('give way to what a call says, be it less or more, each for itself', async () => {
      const { instance, supervisor } = made(backend, { fuel: BUDGET, timeout: 100_000 });
      for (const fuel of [0n, 10n, 100_000n]) {
        const error = caught(TrapError, () => instance.invoke('endless', [], supervisor, { fuel }));
        assertOutOf(fuel, error);
        assertOutOf(
          fuel,
          await rejection(TrapError, instance.invokeAsync('endless', [], supervisor, { fuel })),
        );
      }
      const impatient = made(backend, { fuel: BUDGET, timeout: 100_000 });
      const options = { timeout: 20, fuel: 2n ** 63n - 1n };
      assertTimeout(
        caught(SandboxError, () => impatient.instance.invoke('endless', [], supervisor, options)),
      );
    });

    it('leave the signal of a call in force', () => {
      const { instance, supervisor } = made(backend, { fuel: BUDGET, timeout: 100_000 });
      const signal = AbortSignal.abort('enough');
      assert.throws(
        () => instance.invoke('seven', [], supervisor, { signal }),
        (thrown) => thrown === 'enough',
      );
    });

    it('bound a nested call, which draws on the call around it besides', () => {
      const nested: unknown[] = [];
      const { instance, supervisor } = made(backend, { fuel: BUDGET }, (_args, { instance }) => {
        nested.push(caught(TrapError, () => instance?.invoke('endless')));
        return Value.I32(nested.length);
      });
      const around = { fuel: 3n * BUDGET };
      assert.deepEqual(instance.invoke('call', [], supervisor, around), Value.I32(1));
      const left = instance.fuel ?? 0n;
      assert.ok(left > 2n * BUDGET - 20n && left < 2n * BUDGET, `${left}`);
      instance.invoke('call');
      assert.equal(instance.fuel, 0n);
      const messages = nested.map((error) => (error as TrapError).message);
      assert.match(
        messages[0],
        /its budget of 1000 units, or what was left of the 3000 units of a call around it$/,
      );
      assert.match(
        messages[1],
        /its budget of 1000 units, or what was left of the 1000 units of a call around it$/,
      );
    });

    it('tell the timeout of a nested call from that of the call around it', () => {
      const nested: unknown[] = [];
      const { instance, supervisor } = made(backend, { timeout: 20 }, (_args, { instance }) => {
        nested.push(caught(SandboxError, () => instance?.invoke('endless')));
        return Value.I32(1);
      });
      instance.invoke('call', [], supervisor, { timeout: 100_000 });
      caught(SandboxError, () => instance.invoke('call'));
      const messages = nested.map((error) => (error as SandboxError).message);
      assert.match(messages[0], /its timeout of 20 ms$/);
      assert.match(messages[1], /the timeout of 20 ms of a call around it$/);
    });

    it('bound a start function, on the thread that makes the instance and on another', async () => {
      const store = components(backend, { fuel: BUDGET });
      for (const options of [undefined, {}, { timeout: 100_000 }]) {
        const failed = caught(InstantiationError, () => instantiate(store, ENDLESS_START, options));
        assert.equal(failed.kind, 'StartTrapped');
        assertOutOf(BUDGET, failed.cause);
        const rejected = await rejection(InstantiationError, instantiateAsync(store, ENDLESS_START, options));
        assertOutOf(BUDGET, rejected.cause);
      }
      const tight = caught(InstantiationError, () => instantiate(store, ENDLESS_START, { fuel: 5n }));
      assertOutOf(5n, tight.cause);
      instantiate(store, SHORT_START);
      await instantiateAsync(store, SHORT_START);
      const impatient = components(backend, { timeout: 20 });
      for (const options of [undefined, { fuel: 2n ** 62n }]) {
        assertTimeout(caught(SandboxError, () => instantiate(impatient, ENDLESS_START, options)));
        assertTimeout(await rejection(SandboxError, instantiateAsync(impatient, ENDLESS_START, options)));
      }
    });

    it('bound what a supervisor that is WebAssembly calls', () => {
      const options: SandboxOptions = { fuel: true, defaults: { fuel: BUDGET } };
      const given = wasmSupervisor(backend, { options });
      const index = given.guest(wat('(module (func (export "endless") (loop $l (br $l))))'));
      assert.equal(given.invoke(index, 'endless').status, -3);
      assertOutOf(BUDGET, lastTrap(given));
      assert.equal(given.instantiate(wat(ENDLESS_START)), -3);
      assertOutOf(BUDGET, given.host.lastError?.cause);
      const impatient = wasmSupervisor(backend, { options: { defaults: { timeout: 20 } } });
      assert.equal(impatient.instantiate(wat(ENDLESS_START)), -3);
      assertTimeout(impatient.host.lastError);
    });

    it('do not bound compiling', async () => {
      const defaults = { timeout: 1e-6 };
      await CompiledModule.compile(backend, wat(SHORT_START), { defaults, cache: false });
      const store = new SandboxComponents(backend, { defaults, cache: false });
      store.instantiate(Instantiate.Version1, wat('(module)'), environment(store), new JsSupervisor());
    });
  });

  it('must be what the options of a call may be', () => {
    const make = (defaults: unknown, fuel = true) =>
      new SandboxComponents('wasmi', { fuel, defaults: defaults as InvokeDefaults });
    for (const defaults of [undefined, {}, { fuel: undefined, timeout: undefined }]) make(defaults, false);
    make({ fuel: 0n, timeout: 0.5 });
    make({ fuel: 2n ** 63n - 1n });
    for (const timeout of [0, -1, Number.NaN, Infinity, '5', 5n, null]) {
      argumentError('options.defaults.timeout', () => make({ timeout }));
    }
    for (const fuel of [-1n, 2n ** 63n, 5, '5', null]) {
      argumentError('options.defaults.fuel', () => make({ fuel }));
    }
    for (const defaults of [null, 5, 'fuel']) argumentError('options.defaults', () => make(defaults));
    argumentError('options.defaults.signal', () => make({ signal: AbortSignal.timeout(5) }));
    const error = argumentError('options.defaults.fuel', () => make({ fuel: 5n }, false));
    assert.match(error.message, /`options\.fuel: true`/);
  });
});
