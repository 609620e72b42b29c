// Every type of Value, with the bits that conversions love to change: signalling NaNs, payloads, signs, extremes.
// They go in and out as arguments, results, globals and through supervisor calls, directly and in six steps.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Instantiate, JsSupervisor, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { type DefiningSupervisor, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';

const values: Record<'i32' | 'i64' | 'f32' | 'f64', Value[]> = {
  i32: [0, 1, -1, 0x7fffffff, -0x80000000].map(Value.I32),
  i64: [0n, 1n, -1n, 2n ** 53n + 1n, 0x7fffffffffffffffn, -0x8000000000000000n].map(Value.I64),
  f32: [
    0x00000000, 0x80000000, 0x3f800000, 0x00000001, 0x7f7fffff, 0x7f800000, 0xff800000,
    // quiet NaNs: canonical, negative, with a payload
    0x7fc00000, 0xffc00000, 0x7fc12345, 0x7fffffff, 0xffffffff,
    // signalling NaNs
    0x7f800001, 0x7fa00000, 0x7fbfffff, 0xff800001, 0xffa54321,
  ].map(Value.F32),
  f64: [
    0x0000000000000000n,
    0x8000000000000000n,
    0x3ff0000000000000n,
    0x0000000000000001n,
    0x7fefffffffffffffn,
    0x7ff0000000000000n,
    0xfff0000000000000n,
    // quiet NaNs: canonical, negative, with a payload
    0x7ff8000000000000n,
    0xfff8000000000000n,
    0x7ff8123456789abcn,
    0x7fffffffffffffffn,
    0xffffffffffffffffn,
    // signalling NaNs
    0x7ff0000000000001n,
    0x7ff4000000000000n,
    0x7ff7ffffffffffffn,
    0xfff0000000000001n,
    0xfff5432112345678n,
  ].map(Value.F64),
};

const types = ['i32', 'i64', 'f32', 'f64'] as const;
const all = types.flatMap((type) => values[type].map((value) => [type, value] as const));

const zero = { i32: '(i32.const 0)', i64: '(i64.const 0)', f32: '(f32.const 0)', f64: '(f64.const 0)' };

const GUEST = `(module
  ${types.map((type) => `(import "env" "${type}" (func $ask-${type} (param ${type}) (result ${type})))`).join('\n')}
  (import "env" "all" (func $ask-all (param i32 f32 i64 f64)))
  (global (export "gear_gas") (mut i64) (i64.const 0))
  ${types
    .map(
      (type) => `
  (global $${type} (export "${type}") (mut ${type}) ${zero[type]})
  (func (export "same ${type}") (param ${type}) (result ${type}) (local.get 0))
  (func (export "twice ${type}") (param ${type}) (result ${type} i32 ${type})
    (local.get 0) (i32.const 1) (local.get 0))
  (func (export "ask ${type}") (param ${type}) (result ${type}) (call $ask-${type} (local.get 0)))
  (func (export "get ${type}") (result ${type}) (global.get $${type}))
  (func (export "set ${type}") (param ${type}) (global.set $${type} (local.get 0)))`,
    )
    .join('\n')}
  (func (export "bits f32") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
  (func (export "bits f64") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
  (func (export "asked bits f32") (param f32) (result i32) (i32.reinterpret_f32 (call $ask-f32 (local.get 0))))
  (func (export "asked bits f64") (param f64) (result i64) (i64.reinterpret_f64 (call $ask-f64 (local.get 0))))
  (func (export "signalling")
    (call $ask-all (i32.const -1) (f32.const nan:0x200001) (i64.const -1) (f64.const -nan:0x4000000000001))))`;

const label = (value: Value) => ('bits' in value ? `0x${value.bits.toString(16)}` : String(value.value));

describe('Values keep their bits', () => {
  forEachBackend((backend) => {
    const { instance, supervisor } = lazyGuest();

    function lazyGuest() {
      let made: ReturnType<typeof guest> | undefined;
      const get = () => {
        made ??= guest({ backend, imports: echoes(), wat: GUEST });
        return made;
      };
      return { instance: () => get().instance, supervisor: () => get().supervisor };
    }

    function echoes(onAll: (args: Value[]) => void = () => {}) {
      return {
        'env.i32': ([value]: Value[]) => value,
        'env.i64': ([value]: Value[]) => value,
        'env.f32': ([value]: Value[]) => value,
        'env.f64': ([value]: Value[]) => value,
        'env.all': (args: Value[]) => {
          onAll(args);
          return undefined;
        },
      };
    }

    const call = (name: string, ...args: Value[]) => instance().invoke(name, args, supervisor());

    for (const [type, value] of all) {
      it(`${type} ${label(value)} as argument and result`, () => {
        assert.deepEqual(call(`same ${type}`, value), value);
      });

      it(`${type} ${label(value)} among several results`, () => {
        assert.deepEqual(call(`twice ${type}`, value), [value, Value.I32(1), value]);
      });

      it(`${type} ${label(value)} as global`, () => {
        assert.equal(instance().setGlobalVal(type, value), true);
        assert.deepEqual(instance().getGlobalVal(type), value);
        assert.deepEqual(call(`get ${type}`), value);
        instance().setGlobalVal(type, values[type][0]);
        call(`set ${type}`, value);
        assert.deepEqual(instance().getGlobalVal(type), value);
      });
    }

    for (const value of values.f32) {
      it(`f32 ${label(value)} as the guest sees it`, () => {
        assert.deepEqual(call('bits f32', value), Value.I32((value as { bits: number }).bits | 0));
        assert.deepEqual(call('asked bits f32', value), Value.I32((value as { bits: number }).bits | 0));
      });
    }

    for (const value of values.f64) {
      it(`f64 ${label(value)} as the guest sees it`, () => {
        const bits = BigInt.asIntN(64, (value as { bits: bigint }).bits);
        assert.deepEqual(call('bits f64', value), Value.I64(bits));
        assert.deepEqual(call('asked bits f64', value), Value.I64(bits));
      });
    }

    const supervisors: [string, Instantiate, () => DefiningSupervisor][] = [];
    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      supervisors.push(
        [`a JsSupervisor under Version${version}`, version, () => new JsSupervisor()],
        [`the six steps under Version${version}`, version, () => new ProtocolSupervisor(version)],
      );
    }
    for (const [name, version, make] of supervisors) {
      it(`through ${name}`, () => {
        const seen: Value[] = [];
        const made = guest({
          backend,
          version,
          supervisor: make(),
          imports: Object.fromEntries(
            Object.entries(echoes()).map(([field, echo]) => [
              field,
              (args: Value[]) => {
                seen.push(args[0]);
                return echo(args);
              },
            ]),
          ),
          wat: GUEST,
        });
        for (const [type, value] of all) {
          assert.deepEqual(made.call(`ask ${type}`, value), value, `${type} ${label(value)}`);
        }
        assert.deepEqual(
          seen,
          all.map(([, value]) => value),
        );
      });

      it(`of constants of the guest through ${name}`, () => {
        let seen: Value[] = [];
        const made = guest({
          backend,
          version,
          supervisor: make(),
          imports: echoes((args) => {
            seen = args;
          }),
          wat: GUEST,
        });
        made.call('signalling');
        assert.deepEqual(seen, [
          Value.I32(-1),
          Value.F32(0x7fa00001),
          Value.I64(-1n),
          Value.F64(0xfff4000000000001n),
        ]);
      });
    }
  });
});
