// An imported function with several results: a supervisor function answers it with an array of values, in the order of its type.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  TrapError,
  Value,
} from '../../index';
import { supervisor as wasmSupervisor } from '../gear/host/fixture';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { supervisorTrap } from '../support/expect';
import { type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32 i64 f32 f64)))
  (global (export "gear_gas") (mut i64) (i64.const 100))
  (func (export "ask") (param i32) (result i32 i64 f32 f64) (call $f (local.get 0))))`;

/** With bits of a NaN that a conversion would lose. */
const FOUR = [
  Value.I32(-1),
  Value.I64(-(2n ** 63n)),
  Value.F32(0x7fa0_0001),
  Value.F64(0x7ff4_0000_0000_0001n),
];

const made = (backend: SandboxBackend, version: Instantiate, f: GuestFunction) =>
  guest({ backend, version, wat: GUEST, imports: { 'env.f': f } });

const MANY = 1000;
const many = Array.from({ length: MANY }, (_, index) => Value.I32(index));

forEachBackend((backend) => {
  describe(`an import with several results on ${backend}`, () => {
    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      it(`is answered by an array of values under Version${version}`, async () => {
        const { instance } = made(backend, version, () => FOUR);
        assert.deepEqual(instance.invoke('ask', [1]), FOUR);
        assert.deepEqual(await instance.invokeAsync('ask', [1]), FOUR);
      });

      it(`is answered by a Promise of one under Version${version}`, async () => {
        const { instance } = made(backend, version, async () => FOUR);
        assert.deepEqual(await instance.invokeAsync('ask', [1]), FOUR);
        assert.match(supervisorTrap(() => instance.invoke('ask', [1])).message, /Promise/);
      });
    }

    it('is answered by one with gas under Version2', async () => {
      const { instance } = made(backend, Instantiate.Version2, (_args, { gas }) => ({
        gas: (gas ?? 0n) - 7n,
        value: FOUR,
      }));
      assert.deepEqual(instance.invoke('ask', [1]), FOUR);
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(93n));
      assert.deepEqual(await instance.invokeAsync('ask', [1]), FOUR);
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(86n));
    });

    it('may have as many as a function can have', () => {
      const results = Array(MANY).fill('i32').join(' ');
      const { instance } = guest({
        backend,
        wat: `(module (import "env" "f" (func $f (result ${results}))) (func (export "ask") (result ${results}) (call $f)))`,
        imports: { 'env.f': () => many },
      });
      assert.deepEqual(instance.invoke('ask'), many);
    });

    it('traps the guest, and leaves the gas, for whatever is no such array', async () => {
      const wrong: readonly unknown[] = [
        ...[undefined, null, 5, FOUR[0], 'four', {}, [], FOUR.slice(1), [...FOUR, FOUR[0]]],
        ...[FOUR.toReversed(), new Array(4), [1, 2n, 3, 4], FOUR.with(3, { type: 'f64', bits: 1 } as never)],
        ...[{ length: 4, 0: FOUR[0], 1: FOUR[1], 2: FOUR[2], 3: FOUR[3] }, Proxy.revocable([], {}).proxy],
      ];
      for (const result of wrong) {
        const { instance } = made(backend, Instantiate.Version2, () => ({ gas: 1n, value: result }) as never);
        const error = supervisorTrap(() => instance.invoke('ask', [1]));
        assert.match(error.message, /^the supervisor function for env\.f must return /);
        await assert.rejects(instance.invokeAsync('ask', [1]), TrapError);
        assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(100n));
      }
    });

    it('is read once, whatever its elements do meanwhile', () => {
      const { instance: other } = made(backend, Instantiate.Version1, () => FOUR);
      const reads = [0, 0, 0, 0];
      const watched = FOUR.map((value, at) =>
        Object.defineProperty({ ...value }, 'type', {
          get() {
            reads[at] += 1;
            other.invoke('ask', [1]);
            return value.type;
          },
        }),
      ) as Value[];
      const { instance } = made(backend, Instantiate.Version1, () => watched);
      assert.deepEqual(instance.invoke('ask', [1]), FOUR);
      assert.deepEqual(reads, [1, 1, 1, 1]);
    });

    it('cannot be answered by the six steps, which have room for one, and says so', async () => {
      const supervisor = new ProtocolSupervisor();
      const components = new SandboxComponents(backend);
      const env = environment(components, { 'env.f': supervisor.define(() => FOUR[0]) });
      const unregistered = components.instantiate(Instantiate.Version1, wat(GUEST), env, supervisor);
      const instance = components.instance(unregistered.register(components, undefined));
      const error = supervisorTrap(() => instance.invoke('ask', [1]));
      assert.match(error.message, /^env\.f has several results, and a ReturnValue has room for one/);
      await assert.rejects(instance.invokeAsync('ask', [1]), { message: error.message });
      assert.deepEqual(supervisor.steps, []);
      assert.deepEqual(instance.invoke('ask', [1], jsSupervisor()), FOUR);
    });

    it('cannot be answered by a WebAssembly supervisor either', () => {
      const given = wasmSupervisor(backend);
      const index = given.guest(wat(GUEST), { functions: { 'env.f': '$nothing' } });
      assert.equal(given.invoke(index, 'ask', [Value.I32(1)]).status, -3);
      assert.match(given.host.lastError?.message ?? '', /^env\.f has several results/);
      assert.equal(given.live, 0);
    });
  });
});

function jsSupervisor(): JsSupervisor {
  const supervisor = new JsSupervisor();
  supervisor.define(() => FOUR);
  return supervisor;
}
