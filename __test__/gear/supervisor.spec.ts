// JsSupervisor: functions that guests call directly, what they get, what they may return, and how they fail.
// Its six-step side is in protocol.spec.ts, its gas in gas.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  JsSupervisor,
  Memory,
  SandboxError,
  SandboxInstance,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, causedBy, supervisorTrap } from '../support/expect';
import { type GuestCall, type GuestFunction, guest } from '../support/guest';
import { noMemory0 } from '../support/memory0';

const GUEST = `(module
  (import "env" "number" (func $number (param i32) (result i32)))
  (import "env" "nothing" (func $nothing))
  (memory (export "bytes") 1)
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func (export "number") (param i32) (result i32) (call $number (local.get 0)))
  (func (export "nothing") (call $nothing))
  (func (export "seven") (result i32) (i32.const 7)))`;

describe('JsSupervisor', () => {
  it('counts its functions from 0', () => {
    const supervisor = new JsSupervisor();
    assert.deepEqual(
      [
        supervisor.define(() => undefined),
        supervisor.define(() => undefined),
        supervisor.define(() => undefined),
      ],
      [0, 1, 2],
    );
    assert.equal(
      new JsSupervisor().define(() => undefined),
      0,
    );
  });

  forEachBackend((backend) => {
    function build(
      number: GuestFunction,
      nothing: GuestFunction = () => undefined,
      version: Instantiate = Instantiate.Version1,
    ) {
      return guest({
        backend,
        version,
        imports: { 'env.number': number, 'env.nothing': nothing },
        wat: GUEST,
      });
    }

    const versions = [Instantiate.Version1, Instantiate.Version2];

    it('is called with the arguments and answers with a Value', () => {
      const { call } = build(([n]) => Value.I32((n as { value: number }).value * 2));
      assert.deepEqual(call('number', Value.I32(21)), Value.I32(42));
      assert.equal(call('nothing'), undefined);
    });

    it('gets every type of argument as an array of Values', () => {
      let seen: unknown;
      const { call } = guest({
        backend,
        imports: {
          'env.f': (args) => {
            seen = args;
            return undefined;
          },
        },
        wat: `(module (import "env" "f" (func $f (param i32 i64 f32 f64 i32)))
          (func (export "f")
            (call $f (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25) (i32.const 5))))`,
      });
      call('f');
      assert.deepEqual(seen, [
        { type: 'i32', value: -1 },
        { type: 'i64', value: -2n },
        { type: 'f32', bits: 0x3f000000 },
        { type: 'f64', bits: 0xbfd0000000000000n },
        { type: 'i32', value: 5 },
      ]);
    });

    it('gets many arguments', () => {
      const count = 200;
      let seen: Value[] = [];
      const { call } = guest({
        backend,
        imports: {
          'env.f': (args) => {
            seen = args;
            return undefined;
          },
        },
        wat: `(module (import "env" "f" (func $f (param ${'i64 '.repeat(count)})))
          (func (export "f")
            (call $f ${Array.from({ length: count }, (_, i) => `(i64.const ${i})`).join(' ')})))`,
      });
      call('f');
      assert.deepEqual(
        seen,
        Array.from({ length: count }, (_, i) => Value.I64(BigInt(i))),
      );
    });

    it('keeps the arguments that a function has kept', () => {
      const kept: Value[][] = [];
      const { call } = build((args) => {
        kept.push(args);
        return args[0];
      });
      call('number', Value.I32(1));
      call('number', Value.I32(2));
      assert.deepEqual(kept, [[Value.I32(1)], [Value.I32(2)]]);
    });

    it('may be given functions after the guest was made', () => {
      const supervisor = new JsSupervisor();
      const { call } = guest({
        backend,
        supervisor,
        imports: { 'env.f': () => Value.I32(supervisor.define(() => undefined)) },
        wat: '(module (import "env" "f" (func (result i32))) (export "f" (func 0)))',
      });
      assert.deepEqual(call('f'), Value.I32(1));
      assert.deepEqual(call('f'), Value.I32(2));
    });

    it('may serve several guests', () => {
      const supervisor = new JsSupervisor();
      const guests = [1, 2, 3].map((n) =>
        guest({
          backend,
          supervisor,
          imports: { 'env.name': (_args, { instance }) => instance?.getGlobalVal('name') },
          wat: `(module (import "env" "name" (func $name (result i32)))
            (global (export "name") i32 (i32.const ${n})) (func (export "f") (result i32) (call $name)))`,
        }),
      );
      assert.deepEqual(
        guests.map(({ call }) => call('f')),
        [Value.I32(1), Value.I32(2), Value.I32(3)],
      );
    });

    describe('call', () => {
      for (const version of versions) {
        it(`has the running instance and its memory under Version${version}`, () => {
          let seen: GuestCall | undefined;
          let inside: unknown[] = [];
          const { call } = build(
            (args, guestCall) => {
              seen = guestCall;
              assert.ok(guestCall.instance instanceof SandboxInstance);
              assert.ok(guestCall.memory instanceof Memory);
              guestCall.memory.writeFrom(0, Uint8Array.of(5));
              inside = [guestCall.instance.getMemory('bytes')?.read(0, 1), guestCall.gas];
              return args[0];
            },
            () => undefined,
            version,
          );
          call('number', Value.I32(1));
          assert.ok(seen);
          assert.deepEqual(inside, [Uint8Array.of(5), version === Instantiate.Version2 ? 1000n : undefined]);
        });
      }

      it('has an imported memory', () => {
        let read: Uint8Array | undefined;
        const { call, memory } = guest({
          backend,
          memory: { initial: 1 },
          imports: {
            'env.f': (_args, guestCall) => {
              read = guestCall.memory?.read(4, 1);
              return undefined;
            },
          },
          wat: `(module (import "env" "memory" (memory 1)) (import "env" "f" (func $f))
            (func (export "f") (call $f)))`,
        });
        memory.writeFrom(4, Uint8Array.of(44));
        call('f');
        assert.deepEqual(read, Uint8Array.of(44));
      });

      it('has the memory of a guest that keeps it to itself', { skip: noMemory0 }, () => {
        const seen: (Memory | undefined)[] = [];
        const { call } = guest({
          backend,
          imports: {
            'env.f': (_args, { memory }) => {
              seen.push(memory);
              assert.equal(memory?.memorySize(), 1);
              memory?.writeFrom(8, Uint8Array.of(42));
              return undefined;
            },
          },
          wat: `(module (import "env" "f" (func $f)) (memory 1)
            (func (export "f") (result i32) (call $f) (i32.load8_u (i32.const 8))))`,
        });
        assert.deepEqual(call('f'), Value.I32(42));
        call('f');
        assert.equal(seen[0], seen[1]);
      });

      it('has no memory where the guest has none', { skip: noMemory0 }, () => {
        let seen: unknown = 'nothing yet';
        const { call } = guest({
          backend,
          imports: {
            'env.f': (_args, guestCall) => {
              seen = guestCall.memory;
              return undefined;
            },
          },
          wat: '(module (import "env" "f" (func $f)) (func (export "f") (call $f)))',
        });
        call('f');
        assert.equal(seen, undefined);
      });

      for (const version of versions) {
        it(`throws when it is used after its function is done under Version${version}`, () => {
          let kept: GuestCall | undefined;
          const { call } = build(
            (args, guestCall) => {
              kept = guestCall;
              return args[0];
            },
            () => undefined,
            version,
          );
          call('number', Value.I32(1));
          caught(SandboxError, () => kept?.instance);
          caught(SandboxError, () => kept?.memory);
          caught(SandboxError, () => kept?.gas);
          assert.deepEqual(call('seven'), Value.I32(7));
        });
      }

      it('throws when it is used after its function has thrown', () => {
        let kept: GuestCall | undefined;
        const { call } = build((_args, guestCall) => {
          kept = guestCall;
          throw new Error('done');
        });
        supervisorTrap(() => call('number', Value.I32(1)));
        caught(SandboxError, () => kept?.instance);
        caught(SandboxError, () => kept?.memory);
        caught(SandboxError, () => kept?.gas);
      });

      it('throws during the next call of the same function', () => {
        const kept: GuestCall[] = [];
        const { call } = build((args, guestCall) => {
          kept.push(guestCall);
          if (kept.length === 2) {
            caught(SandboxError, () => kept[0].instance);
            assert.ok(guestCall.instance);
          }
          return args[0];
        });
        call('number', Value.I32(1));
        call('number', Value.I32(1));
        assert.equal(kept.length, 2);
      });

      it('outlives a nested call, whose own call object does not', () => {
        const kept: GuestCall[] = [];
        const nested = build((args, guestCall) => {
          kept.push(guestCall);
          return args[0];
        });
        const outer = guest({
          backend,
          imports: {
            'env.number': (args, guestCall) => {
              nested.call('number', Value.I32(0));
              caught(SandboxError, () => kept[0].instance);
              assert.ok(guestCall.instance);
              assert.ok(guestCall.memory);
              return args[0];
            },
            'env.nothing': () => undefined,
          },
          wat: GUEST,
        });
        assert.deepEqual(outer.call('number', Value.I32(3)), Value.I32(3));
        assert.equal(kept.length, 1);
      });

      it('gives an instance and a memory that may be used later', () => {
        const kept: { instance?: SandboxInstance | undefined; memory?: Memory | undefined } = {};
        const { call } = build((args, { instance, memory }) => {
          kept.instance = instance;
          kept.memory = memory;
          return args[0];
        });
        call('number', Value.I32(1));
        assert.deepEqual(kept.instance?.invoke('seven', [], new JsSupervisor()), Value.I32(7));
        kept.memory?.writeFrom(0, Uint8Array.of(1));
        assert.deepEqual(kept.memory?.read(0, 1), Uint8Array.of(1));
      });
    });

    describe('that throws', () => {
      const throwables: [what: string, thrown: unknown, text: string][] = [
        ['an Error', new Error('text of the error'), 'text of the error'],
        ['an Error without a message', new Error(), ''],
        ['a RangeError', new RangeError('range'), 'range'],
        ['a string', 'plain text', 'plain text'],
        ['a number', 42, '42'],
        ['a bigint', 12n, '12'],
        ['null', null, 'null'],
        ['undefined', undefined, 'undefined'],
        ['a symbol', Symbol('s'), 'Symbol(s)'],
        ['an object', { code: 1 }, '[object Object]'],
        ['a function', Math.max, String(Math.max)],
      ];
      for (const version of versions) {
        for (const [what, thrown, text] of throwables) {
          it(`${what} traps the guest, with it as the cause, under Version${version}`, () => {
            const { call, instance } = build(
              () => {
                throw thrown;
              },
              () => undefined,
              version,
            );
            const error = supervisorTrap(() => call('number', Value.I32(1)));
            assert.equal(error.message, text);
            causedBy(error, thrown);
            assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
            assert.deepEqual(call('seven'), Value.I32(7));
            assert.equal(call('nothing'), undefined);
          });
        }
      }

      it('an object without a text still traps the guest', () => {
        const thrown = Object.create(null);
        const { call } = build(() => {
          throw thrown;
        });
        causedBy(
          supervisorTrap(() => call('number', Value.I32(1))),
          thrown,
        );
      });

      it('the error of a nested guest hands down the whole chain', () => {
        const root = new Error('root');
        const inner = build(() => {
          throw root;
        });
        const outer = build(() => inner.call('number', Value.I32(1)) as Value);
        const error = supervisorTrap(() => outer.call('number', Value.I32(1)));
        assert.ok(error.cause instanceof TrapError);
        assert.notEqual(error.cause, error);
        assert.equal(error.message, 'root');
        causedBy(error.cause, root);
      });
    });

    describe('that returns the wrong thing', () => {
      const wrongNumbers: [what: string, result: unknown][] = [
        ['nothing', undefined],
        ['null', null],
        ['a plain number', 5],
        ['a string', '5'],
        ['a bigint', 5n],
        ['an i64', Value.I64(5n)],
        ['an f32', Value.f32(5)],
        ['an f64', Value.f64(5)],
        ['an array of Values', [Value.I32(5)]],
        ['an object without a type', { value: 5 }],
        ['an unknown type', { type: 'v128', value: 5 }],
        ['an i32 without a value', { type: 'i32' }],
        ['an i32 with a fraction', { type: 'i32', value: 1.5 }],
        ['an i32 out of range', { type: 'i32', value: 2 ** 31 }],
        ['an i32 of a string', { type: 'i32', value: '5' }],
        ['an i32 of a bigint', { type: 'i32', value: 5n }],
      ];
      for (const version of versions) {
        for (const [what, result] of wrongNumbers) {
          it(`${what} instead of an i32 traps under Version${version}`, () => {
            const { call, instance } = build(
              () => result as Value,
              () => undefined,
              version,
            );
            const error = supervisorTrap(() => call('number', Value.I32(1)));
            assert.ok(error.message.length > 0);
            assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
            assert.deepEqual(call('seven'), Value.I32(7));
          });
        }

        it(`a Value instead of nothing traps under Version${version}`, () => {
          const { call } = build(
            () => Value.I32(0),
            () => Value.I32(0),
            version,
          );
          supervisorTrap(() => call('nothing'));
          assert.deepEqual(call('number', Value.I32(1)), Value.I32(0));
        });
      }

      it('a gas under Version1 traps', () => {
        const { call } = build(
          () => ({ gas: 5n, value: Value.I32(1) }),
          () => ({ gas: 5n }),
        );
        supervisorTrap(() => call('number', Value.I32(1)));
        supervisorTrap(() => call('nothing'));
        assert.deepEqual(call('seven'), Value.I32(7));
      });

      it('a getter that throws traps', () => {
        const { call } = build(
          () =>
            ({
              get type() {
                throw new Error('by the getter');
              },
            }) as unknown as Value,
        );
        supervisorTrap(() => call('number', Value.I32(1)));
        assert.deepEqual(call('seven'), Value.I32(7));
      });

      for (const version of versions) {
        it(`a Promise traps with a clear message under Version${version}`, () => {
          const { call } = build(
            (async () => Value.I32(1)) as unknown as GuestFunction,
            (async () => undefined) as unknown as GuestFunction,
            version,
          );
          assert.match(supervisorTrap(() => call('number', Value.I32(1))).message, /promise/i);
          assert.match(supervisorTrap(() => call('nothing')).message, /promise/i);
          assert.deepEqual(call('seven'), Value.I32(7));
        });
      }
    });

    it('answers 100,000 calls of a guest', () => {
      let calls = 0;
      const { call } = guest({
        backend,
        imports: {
          'env.add': ([a, b]) => {
            calls++;
            return Value.I64((a as { value: bigint }).value + (b as { value: bigint }).value);
          },
        },
        wat: `(module (import "env" "add" (func $add (param i64 i64) (result i64)))
          (func (export "sum") (param $n i64) (result i64) (local $sum i64)
            (loop $again
              (local.set $sum (call $add (local.get $sum) (local.get $n)))
              (local.set $n (i64.sub (local.get $n) (i64.const 1)))
              (br_if $again (i64.ne (local.get $n) (i64.const 0))))
            (local.get $sum)))`,
      });
      assert.deepEqual(call('sum', Value.I64(100_000n)), Value.I64(5_000_050_000n));
      assert.equal(calls, 100_000);
    });
  });
});
