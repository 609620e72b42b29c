// What may be left out of a call or said more simply: plain numbers and bigints as arguments, no arguments, no supervisor.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  type AsyncSupervisorContext,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorContext,
  Value,
} from '../../index';
import { supervisor as wasmSupervisor } from '../gear/host/fixture';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError } from '../support/expect';
import { guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { V8 } from '../support/v8';
import { wat } from '../support/wat';

const ECHO = `(module
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
  (func (export "f64") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
  (func (export "all") (param i32 i64 f32 f64) (result i64)
    (i64.add (i64.extend_i32_s (local.get 0)) (i64.add (local.get 1)
      (i64.add (i64.trunc_f32_s (local.get 2)) (i64.trunc_f64_s (local.get 3)))))))`;

const numbers = [
  ...[0, -0, 1, -1, 1.5, -1.5, 0.1, Number.NaN, Infinity, -Infinity, 2 ** 31, -(2 ** 31), 2 ** 31 - 1],
  ...[2 ** 32, 2 ** 32 + 7, -(2 ** 32) - 7, 2 ** 53, 2 ** 53 + 2, 2 ** 63, 1e300, -1e300, 1e-300, 5e-324],
  ...[3.4028235677973366e38, 16777217, Number.MAX_VALUE, Number.MIN_SAFE_INTEGER],
];
const bigints = [
  0n,
  1n,
  -1n,
  2n ** 63n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  2n ** 64n,
  2n ** 64n + 5n,
  -(2n ** 70n) - 3n,
];

const GUEST = `(module
  (import "env" "f" (func $f (result i32)))
  (func $start (drop (call $f)))
  (start $start)
  (func (export "ask") (result i32) (call $f)))`;

/** An instance that was made with that supervisor, in one of the two ways. */
async function instanceWith(
  backend: SandboxBackend,
  ctx: SupervisorContext | AsyncSupervisorContext,
  isAsync: boolean,
): Promise<SandboxInstance> {
  const components = new SandboxComponents(backend);
  const env = environment(components, { 'env.f': 0 });
  const made = isAsync
    ? await components.instantiateAsync(Instantiate.Version1, wat(GUEST), env, ctx)
    : components.instantiate(Instantiate.Version1, wat(GUEST), env, ctx as SupervisorContext);
  return components.instance(made.register(components, undefined));
}

function answering(answer: number): JsSupervisor {
  const supervisor = new JsSupervisor();
  supervisor.define(() => Value.I32(answer));
  return supervisor;
}

forEachBackend((backend) => {
  describe(`a plain argument on ${backend}`, () => {
    const made = () => guest({ backend, wat: ECHO }).instance;

    for (const type of ['i32', 'f32', 'f64'] as const) {
      it(`is converted to an ${type} as V8 converts it`, async () => {
        const instance = made();
        const exports = new V8.Instance(new V8.Module(wat(ECHO)), {}).exports as Record<
          string,
          (n: number) => unknown
        >;
        for (const n of numbers) {
          const theirs = exports[type](n);
          const ours = (result: unknown): unknown => (result as { value: unknown }).value;
          assert.equal(ours(instance.invoke(type, [n])), theirs, `${n}`);
          assert.equal(ours(await instance.invokeAsync(type, [n])), theirs, `${n}`);
        }
      });

      it(`that is a bigint is refused for an ${type}`, async () => {
        const instance = made();
        argumentError('args[0]', () => instance.invoke(type, [1n]));
        await assert.rejects(instance.invokeAsync(type, [1n]), ArgumentError);
      });
    }

    it('is converted to an i64 as V8 converts it, if it is a bigint', () => {
      const instance = made();
      const exports = new V8.Instance(new V8.Module(wat(ECHO)), {}).exports as Record<
        string,
        (n: bigint) => bigint
      >;
      for (const n of bigints) assert.deepEqual(instance.invoke('i64', [n]), Value.I64(exports.i64(n)));
    });

    it('is refused for an i64 if it is a number', () => {
      argumentError('args[0]', () => made().invoke('i64', [1]));
    });

    it('may stand beside values', () => {
      const instance = made();
      assert.deepEqual(instance.invoke('all', [1, Value.I64(2n), 3.5, Value.f64(4)]), Value.I64(10n));
      assert.deepEqual(instance.invoke('all', [Value.I32(-1), -2n, Value.f32(-3), -4]), Value.I64(-10n));
    });

    it('of another type is refused, and the message says what would be right', () => {
      const instance = made();
      for (const bad of ['1', true, null, undefined, Symbol('1'), () => 1]) {
        const error = argumentError('args[1]', () => instance.invoke('all', [1, bad as never, 1, 1]));
        assert.match(error.message, /a Value or a bigint, for an i64/);
      }
    });
  });

  describe(`a call without a supervisor on ${backend}`, () => {
    for (const isAsync of [false, true]) {
      it(`is answered by the one of ${isAsync ? 'instantiateAsync' : 'instantiate'}`, async () => {
        const instance = await instanceWith(backend, answering(1), isAsync);
        assert.deepEqual(instance.invoke('ask'), Value.I32(1));
        assert.deepEqual(await instance.invokeAsync('ask'), Value.I32(1));
        assert.deepEqual(instance.invoke('ask', undefined, undefined, { timeout: 60_000 }), Value.I32(1));
        assert.deepEqual(instance.invoke('ask', [], answering(2)), Value.I32(2));
        assert.deepEqual(await instance.invokeAsync('ask', [], answering(3)), Value.I32(3));
        // That of the last call is not remembered.
        assert.deepEqual(instance.invoke('ask', []), Value.I32(1));
      });
    }

    it('is answered by the six steps of the one of the user, which is checked each time', async () => {
      const supervisor = new ProtocolSupervisor();
      supervisor.define(() => Value.I32(5));
      const instance = await instanceWith(backend, supervisor, false);
      assert.deepEqual(instance.invoke('ask'), Value.I32(5));
      Object.defineProperty(supervisor, 'invoke', { value: undefined });
      argumentError('ctx', () => instance.invoke('ask'));
    });

    it('is answered by Promises if it is asynchronous and so was its instantiation', async () => {
      const supervisor = new JsSupervisor();
      supervisor.define(async () => Value.I32(6));
      const instance = await instanceWith(backend, supervisor, true);
      assert.deepEqual(await instance.invokeAsync('ask'), Value.I32(6));
    });

    it('needs one if its guest was made by a WebAssembly supervisor', async () => {
      const given = wasmSupervisor(backend);
      const index = given.guest(wat('(module (func (export "nothing")))'));
      const instance = given.host.components.instance(index);
      argumentError('ctx', () => instance.invoke('nothing'));
      await assert.rejects(instance.invokeAsync('nothing'), ArgumentError);
      assert.equal(instance.invoke('nothing', [], new JsSupervisor()), undefined);
    });

    it('needs one that is a supervisor', async () => {
      const instance = await instanceWith(backend, answering(1), false);
      for (const bad of [null, 5, {}]) argumentError('ctx', () => instance.invoke('ask', [], bad as never));
    });
  });
});
