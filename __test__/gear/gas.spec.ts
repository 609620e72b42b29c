// The gas of a guest: under Version2 the exported global `gear_gas` travels with every supervisor call.
// Under Version1 nobody looks at it. The protocol itself is in protocol.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Instantiate, JsSupervisor, type SandboxBackend, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, causedBy, supervisorTrap } from '../support/expect';
import { type DefiningSupervisor, type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';

const GAS = '(global $gas (export "gear_gas") (mut i64) (i64.const 1000))';

/** A guest with some kind of `gear_gas`, or none. */
const withGas = (gas: string) => `(module
  (import "env" "number" (func $number (param i32) (result i32)))
  (import "env" "nothing" (func $nothing))
  ${gas}
  (func (export "number") (param i32) (result i32) (call $number (local.get 0)))
  (func (export "nothing") (call $nothing))
  (func (export "seven") (result i32) (i32.const 7)))`;

const NO_GAS = 'Cannot get gas global from store environment';

describe('Gas', () => {
  forEachBackend((backend) => {
    describe('under Version1', () => {
      it('is not given to the supervisor', () => {
        let seen: unknown[] = [];
        const { call, instance } = guest({
          backend,
          imports: {
            'env.number': (args, guestCall) => {
              seen = [args, guestCall.gas];
              return args[0];
            },
            'env.nothing': () => undefined,
          },
          wat: withGas(GAS),
        });
        assert.deepEqual(call('number', Value.I32(5)), Value.I32(5));
        assert.deepEqual(seen, [[Value.I32(5)], undefined]);
        assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
      });

      it('is not prepended in the protocol', () => {
        const supervisor = new ProtocolSupervisor();
        const { call } = guest({
          backend,
          supervisor,
          imports: { 'env.number': ([n]) => n, 'env.nothing': () => undefined },
          wat: withGas(GAS),
        });
        call('number', Value.I32(5));
        assert.deepEqual(supervisor.writtenArguments, [Uint8Array.of(4, 0, 5, 0, 0, 0)]);
      });

      for (const [what, gas] of Object.entries({
        'without gear_gas': '',
        'with gear_gas of another type': '(global (export "gear_gas") (mut i32) (i32.const 5))',
        'with an immutable gear_gas': '(global (export "gear_gas") i64 (i64.const 5))',
        'with a function called gear_gas': '(func (export "gear_gas"))',
      })) {
        it(`a guest ${what} runs and calls the supervisor`, () => {
          const { call } = guest({
            backend,
            imports: { 'env.number': ([n]) => n, 'env.nothing': () => undefined },
            wat: withGas(gas),
          });
          assert.deepEqual(call('number', Value.I32(5)), Value.I32(5));
          assert.deepEqual(call('seven'), Value.I32(7));
        });
      }
    });

    const ways: [string, () => DefiningSupervisor][] = [
      ['a JsSupervisor', () => new JsSupervisor()],
      ['the six steps', () => new ProtocolSupervisor(Instantiate.Version2)],
    ];
    for (const [way, make] of ways) describe(`under Version2 with ${way}`, () => version2(backend, make));
  });
});

function version2(backend: SandboxBackend, make: () => DefiningSupervisor): void {
  function build(number: GuestFunction, nothing: GuestFunction = () => undefined, gas = GAS) {
    return guest({
      backend,
      version: Instantiate.Version2,
      supervisor: make(),
      imports: { 'env.number': number, 'env.nothing': nothing },
      wat: withGas(gas),
    });
  }

  it('is given to the supervisor beside the arguments', () => {
    let seen: unknown[] = [];
    const { call, instance } = build((args, { gas }) => {
      seen = [args, gas];
      return args[0];
    });
    instance.setGlobalVal('gear_gas', Value.I64(77n));
    call('number', Value.I32(5));
    assert.deepEqual(seen, [[Value.I32(5)], 77n]);
  });

  it('stays as it was when the supervisor returns only a value or nothing', () => {
    const { call, instance } = build(([n]) => n);
    assert.deepEqual(call('number', Value.I32(5)), Value.I32(5));
    assert.equal(call('nothing'), undefined);
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
  });

  it('is written back', () => {
    const { call, instance } = build(
      ([n], { gas }) => ({ gas: (gas as bigint) - 1n, value: n }),
      (_args, { gas }) => ({ gas: (gas as bigint) - 10n }),
    );
    assert.deepEqual(call('number', Value.I32(5)), Value.I32(5));
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(999n));
    assert.equal(call('nothing'), undefined);
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(989n));
    assert.deepEqual(call('number', Value.I32(6)), Value.I32(6));
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(988n));
  });

  it('may be any i64', () => {
    for (const next of [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]) {
      const seen: unknown[] = [];
      const { call, instance } = build(([n], { gas }) => {
        seen.push(gas);
        return { gas: next, value: n };
      });
      call('number', Value.I32(1));
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(next));
      call('number', Value.I32(1));
      assert.deepEqual(seen, [1000n, next]);
    }
  });

  it('is read anew before each call and seen by the guest after it', () => {
    const seen: unknown[] = [];
    const { call } = guest({
      backend,
      version: Instantiate.Version2,
      supervisor: make(),
      imports: {
        'env.charge': (_args, { gas }) => {
          seen.push(gas);
          return { gas: (gas as bigint) - 100n };
        },
      },
      wat: `(module (import "env" "charge" (func $charge))
        (global $gas (export "gear_gas") (mut i64) (i64.const 1000))
        (func $spend (global.set $gas (i64.sub (global.get $gas) (i64.const 7))))
        (func (export "run") (result i64)
          (call $charge) (call $spend) (call $charge) (call $spend) (call $charge) (global.get $gas)))`,
    });
    assert.deepEqual(call('run'), Value.I64(686n));
    assert.deepEqual(seen, [1000n, 893n, 786n]);
  });

  it('stays as it was when the supervisor throws', () => {
    const thrown = new Error('no');
    const { call, instance } = build(() => {
      throw thrown;
    });
    causedBy(
      supervisorTrap(() => call('number', Value.I32(1))),
      thrown,
    );
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
  });

  it('stays as it was when the value that comes with it is wrong', () => {
    const { call, instance } = build(
      () => ({ gas: 5n, value: Value.I64(1n) }),
      () => ({ gas: 5n, value: Value.I32(1) }),
    );
    supervisorTrap(() => call('number', Value.I32(1)));
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
    supervisorTrap(() => call('nothing'));
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
  });

  it('stays as it was when the value that should come with it is missing', () => {
    const { call, instance } = build(() => ({ gas: 5n }));
    supervisorTrap(() => call('number', Value.I32(1)));
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
  });

  it('keeps what earlier supervisor calls of a failed call have written', () => {
    const { call, instance } = guest({
      backend,
      version: Instantiate.Version2,
      supervisor: make(),
      imports: { 'env.charge': () => ({ gas: 5n }) },
      wat: `(module (import "env" "charge" (func $charge)) ${GAS}
        (func (export "run") (call $charge) unreachable))`,
    });
    assert.equal(caught(TrapError, () => call('run')).trap, 'unreachable');
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(5n));
  });

  for (const [what, gas] of Object.entries({
    'without gear_gas': '',
    'that does not export its gear_gas': '(global $gear_gas (mut i64) (i64.const 5))',
    'with a function called gear_gas': '(func (export "gear_gas"))',
    'with a memory called gear_gas': '(memory (export "gear_gas") 1)',
  })) {
    it(`a guest ${what} runs until it calls the supervisor`, () => {
      let calls = 0;
      const { call } = build(
        ([n]) => {
          calls++;
          return n;
        },
        () => undefined,
        gas,
      );
      assert.deepEqual(call('seven'), Value.I32(7));
      assert.equal(supervisorTrap(() => call('number', Value.I32(1))).message, NO_GAS);
      assert.equal(supervisorTrap(() => call('nothing')).message, NO_GAS);
      assert.equal(calls, 0);
      assert.deepEqual(call('seven'), Value.I32(7));
    });
  }

  for (const [what, gas] of Object.entries({
    'an i32': '(global (export "gear_gas") (mut i32) (i32.const 5))',
    'an f64': '(global (export "gear_gas") (mut f64) (f64.const 5))',
    'a v128': '(global (export "gear_gas") (mut v128) (v128.const i64x2 0 0))',
    'a reference': '(global (export "gear_gas") (mut externref) (ref.null extern))',
    'an immutable i64': '(global (export "gear_gas") i64 (i64.const 5))',
  })) {
    it(`a guest whose gear_gas is ${what} traps at the supervisor call`, () => {
      const { call, instance } = build(([n]) => n, undefined, gas);
      const before = instance.getGlobalVal('gear_gas');
      assert.deepEqual(call('seven'), Value.I32(7));
      assert.match(supervisorTrap(() => call('number', Value.I32(1))).message, /gas global/);
      assert.deepEqual(instance.getGlobalVal('gear_gas'), before);
      assert.deepEqual(call('seven'), Value.I32(7));
    });
  }

  it('is counted for each guest on its own', () => {
    const first = build(([n], { gas }) => ({ gas: (gas as bigint) - 1n, value: n }));
    const second = guest({
      backend,
      components: first.components,
      version: Instantiate.Version2,
      supervisor: make(),
      imports: {
        'env.number': ([n], { gas }) => ({ gas: (gas as bigint) - 2n, value: n }),
        'env.nothing': () => undefined,
      },
      wat: withGas(GAS),
    });
    first.call('number', Value.I32(1));
    second.call('number', Value.I32(1));
    second.call('number', Value.I32(1));
    assert.deepEqual(first.instance.getGlobalVal('gear_gas'), Value.I64(999n));
    assert.deepEqual(second.instance.getGlobalVal('gear_gas'), Value.I64(996n));
  });
}

// What only a JsSupervisor can get wrong.
describe('Gas that a JsSupervisor returns', () => {
  forEachBackend((backend) => {
    it('traps when it is no i64', () => {
      for (const gas of [2n ** 63n, -(2n ** 63n) - 1n, 5, '5', null, Value.I64(5n)]) {
        const { call, instance } = guest({
          backend,
          version: Instantiate.Version2,
          imports: {
            'env.number': ([n]) => ({ gas, value: n }) as unknown as Value,
            'env.nothing': () => ({ gas }) as unknown as Value,
          },
          wat: withGas(GAS),
        });
        supervisorTrap(() => call('number', Value.I32(1)));
        supervisorTrap(() => call('nothing'));
        assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
        assert.deepEqual(call('seven'), Value.I32(7));
      }
    });

    it('is written last by the outer of two nested calls', () => {
      const nested = new JsSupervisor();
      nested.define(([n], { gas }) => ({ gas: (gas as bigint) - 500n, value: n }));
      let between: Value | undefined;
      const { call, instance } = guest({
        backend,
        version: Instantiate.Version2,
        imports: {
          'env.number': ([n], { gas, instance: running }) => {
            running?.invoke('number', [Value.I32(0)], nested);
            between = running?.getGlobalVal('gear_gas');
            return { gas: (gas as bigint) - 1n, value: n };
          },
          'env.nothing': () => undefined,
        },
        wat: withGas(GAS),
      });
      assert.deepEqual(call('number', Value.I32(1)), Value.I32(1));
      assert.deepEqual(between, Value.I64(500n));
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(999n));
    });
  });
});
