// What a supervisor may do with its host while one of its guests waits for it: the same as at any other time.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { codec, JsSupervisor, type SandboxBackend, TrapError, Value } from '../../../index';
import { forEachBackend, otherThan } from '../../support/engines';
import { causedBy, sandboxError } from '../../support/expect';
import { type GuestFunction, guest } from '../../support/guest';
import { ProtocolSupervisor } from '../../support/protocol';
import { FUNCTION, type ThunkCall, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, lastTrap, supervisor } from './fixture';

const EXECUTION = -3;
const PAGE = 65536;
const GAS = 1000n;

/** Asks the supervisor with what it is asked itself. */
const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "f" (func $f (param i32 i64) (result i64)))
  (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
  (global $g (export "g") (mut i32) (i32.const 3))
  (func (export "run") (param i32 i64) (result i64) (call $f (local.get 0) (local.get 1)))
  (func (export "twice") (param i32 i64) (result i64)
    (i64.sub (call $f (local.get 0) (local.get 1)) (call $f (local.get 0) (local.get 1))))
  (func (export "run, then sum") (param i32 i64) (result i64)
    (i64.add (call $f (local.get 0) (local.get 1))
             (i64.extend_i32_u (i32.add (global.get $g) (i32.load8_u (i32.const 20))))))
  (func (export "run, then grow") (param i32 i64) (result i64)
    (drop (call $f (local.get 0) (local.get 1)))
    (drop (memory.grow (i32.const 1)))
    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const ${PAGE})) (i32.const 1)) (i32.const 9))
    (call $f (i32.const 0) (i64.const 4)))
  (func (export "double") (param i64) (result i64) (i64.mul (local.get 0) (i64.const 2)))
  (func (export "trap") unreachable))`;

const versions = [1, 2] as const;
type Version = (typeof versions)[number];

const run = (n: number, x: number): [string, Value[]] => ['run', [Value.I32(n), Value.I64(BigInt(x))]];

/** The two arguments of a call. */
function argsOf({ args }: ThunkCall): { n: number; x: bigint } {
  const [n, x] = codec.decodeValues(args).slice(-2) as unknown as [{ value: number }, { value: bigint }];
  return { n: n.value, x: x.value };
}

describe('While a guest waits for its supervisor,', () => {
  forEachBackend((backend) => {
    for (const version of versions) describe(`under Version${version}`, () => inside(backend, version));
  });
});

function inside(backend: SandboxBackend, version: Version): void {
  /** A guest whose supervisor answers by a function of the test's, which gives the value. */
  function build(answer: (call: ThunkCall) => bigint) {
    const given = supervisor(backend);
    given.answer = (call) => given.ok(Value.I64(answer(call)), version === 1 ? undefined : GAS - 10n);
    return { given, ...guestIn(given) };
  }

  function guestIn(given: WasmSupervisor, memory = given.ext.memory_new(1, 5)) {
    const parts = { version, thunk: '$thunk_js', memories: { 'env.memory': memory } };
    return { memory, index: given.guest(wat(GUEST), { ...parts, functions: { 'env.f': 0 } }) };
  }

  const value = (result: Value | undefined): bigint => (result as { value: bigint }).value;

  it('WebAssembly may invoke it again, fifty deep, each time with other arguments and another state', () => {
    const given = supervisor(backend, {
      elements: ['$recurse'],
      definitions: `
        (data (i32.const 1024) "run")
        (global $instance (export "instance") (mut i32) (i32.const -1))
        (func $return_i64 (param $value i64) (result i32)
          (i32.store16 (i32.const 64) (i32.const 0x0101))
          (i64.store align=2 (i32.const 66) (local.get $value))
          (i32.const 10))
        (func $recurse ${FUNCTION} (local $n i32) (local $x i64) (local $buf i32) (local $inner i64)
          (local.set $n (i32.load offset=1 align=1 (local.get $values)))
          (local.set $x (i64.load offset=6 align=1 (local.get $values)))
          (if (i32.eqz (local.get $n)) (then (return (call $return_i64 (local.get $x)))))
          (local.set $buf (call $allocate (i32.const 32)))
          (i32.store16 (local.get $buf) (i32.const 0x0008))
          (i32.store offset=2 align=2 (local.get $buf) (i32.sub (local.get $n) (i32.const 1)))
          (i32.store8 offset=6 (local.get $buf) (i32.const 1))
          (i64.store offset=7 align=1 (local.get $buf)
            (i64.add (i64.mul (local.get $x) (i64.const 3)) (i64.extend_i32_u (local.get $n))))
          (if (call $invoke (global.get $instance) (i64.const 0x3_0000_0400)
                (i64.or (i64.const 0xf_0000_0000) (i64.extend_i32_u (local.get $buf)))
                (i32.add (local.get $buf) (i32.const 16)) (i32.const 10) (i32.add (local.get $state) (i32.const 1)))
            (then unreachable))
          (local.set $inner (i64.load offset=18 align=2 (local.get $buf)))
          (call $deallocate (local.get $buf))
          ;; The arguments must still be there.
          (call $return_i64 (i64.add
            (i64.add (local.get $inner) (i64.extend_i32_u (i32.mul (local.get $state) (i32.const 11))))
            (i64.add (i64.mul (i64.load offset=6 align=1 (local.get $values)) (i64.const 7))
                     (i64.extend_i32_u (i32.load offset=1 align=1 (local.get $values)))))))`,
    });
    const expected = (n: bigint, x: bigint, state: bigint): bigint =>
      n === 0n ? x : BigInt.asIntN(64, expected(n - 1n, x * 3n + n, state + 1n) + state * 11n + x * 7n + n);
    const memory = given.ext.memory_new(1, 1);
    const index = given.guest(wat(GUEST), {
      version,
      memories: { 'env.memory': memory },
      functions: { 'env.f': '$recurse' },
    });
    (given.exports.instance as unknown as { value: number }).value = index;
    for (const depth of [0, 1, 2, 50]) {
      const result = given.call(index, 'run', [Value.I32(depth), Value.I64(5n)], 100);
      assert.deepEqual(result, Value.I64(expected(BigInt(depth), 5n, 100n)));
    }
    assert.equal(given.live, 0);
    // What comes back last is that of the outermost calls, of which each had the gas from before it.
    assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(version === 1 ? GAS : GAS - 40n));
  });

  for (const where of ['the allocator', 'the thunk'] as const) {
    it(`it may be invoked again fifty deep in ${where}, with a thousand arguments of which none gets lost`, () => {
      const given = supervisor(backend);
      const count = 1000;
      const param = new Array(count).fill('i64').join(' ');
      const locals = Array.from({ length: count }, (_item, n) => `(local.get ${n})`).join(' ');
      const index = given.guest(
        wat(`(module (import "env" "f" (func $f (param ${param}) (result i64)))
          (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
          (func (export "run") (param ${param}) (result i64) (call $f ${locals})))`),
        { version, thunk: '$thunk_js', functions: { 'env.f': 0 } },
      );
      const at = (depth: number): Value[] =>
        Array.from({ length: count }, (_item, n) => Value.I64(BigInt(depth * count + n)));
      const results: bigint[] = [];
      let entered = 0;
      /** Runs the next level, and keeps the depth of the level that it was called by. */
      const deeper = (): void => {
        const depth = ++entered;
        if (depth <= 50) results.push(value(given.call(index, 'run', at(depth))));
      };
      const own = given.allocator;
      if (where === 'the allocator') {
        given.allocator = {
          ...own,
          allocate: (size) => {
            deeper();
            return own.allocate(size);
          },
        };
      }
      given.answer = ({ args, argsPtr }) => {
        const values = codec.decodeValues(args).slice(-count);
        const depth = value(values[0]) / BigInt(count);
        assert.deepEqual(values, at(Number(depth)));
        if (where === 'the thunk') deeper();
        assert.deepEqual(given.bytes(argsPtr, args.length), args);
        return given.ok(Value.I64(depth), version === 1 ? undefined : GAS);
      };
      assert.deepEqual(given.call(index, 'run', at(0)), Value.I64(0n));
      assert.deepEqual(
        results,
        Array.from({ length: 50 }, (_item, n) => BigInt(50 - n)),
      );
      assert.equal(given.live, 0);
    });
  }

  it('each call keeps its own state, also after another one inside it', () => {
    const states: number[] = [];
    const { given, index } = build(({ state }) => {
      states.push(state);
      if (states.length === 1) value(given.call(index, 'twice', [Value.I32(0), Value.I64(1n)], 8));
      return 0n;
    });
    given.call(index, 'twice', [Value.I32(0), Value.I64(1n)], 7);
    assert.deepEqual(states, [7, 8, 8, 7]);
  });

  it('a call inside it may fail, and the one around it goes on with its own arguments', () => {
    const statuses: number[] = [];
    const { given, index } = build((call) => {
      const { n, x } = argsOf(call);
      if (n === 0) throw new Error('the innermost');
      statuses.push(given.invoke(index, ...run(n - 1, Number(x) + 1)).status);
      statuses.push(given.invoke(index, 'trap').status);
      assert.deepEqual(argsOf(call), { n, x });
      return x + BigInt(n);
    });
    for (let i = 0; i < 100; i++) {
      assert.deepEqual(given.call(index, ...run(3, 10)), Value.I64(13n));
      assert.deepEqual(given.call(index, 'twice', [Value.I32(2), Value.I64(10n)]), Value.I64(0n));
    }
    assert.deepEqual(statuses.slice(0, 6), [EXECUTION, EXECUTION, 0, EXECUTION, 0, EXECUTION]);
    assert.equal(given.live, 0);
  });

  it('a failure deep inside comes out with every level as a cause', () => {
    const root = { root: true };
    const { given, index } = build((call) => {
      const { n } = argsOf(call);
      if (n === 0) throw root;
      const { status } = given.invoke(index, ...run(n - 1, 0));
      assert.equal(status, EXECUTION);
      throw given.host.lastError;
    });
    assert.equal(given.invoke(index, ...run(5, 0)).status, EXECUTION);
    let trap = lastTrap(given);
    for (let level = 0; level < 5; level++) {
      assert.ok(trap.cause instanceof TrapError);
      trap = trap.cause;
    }
    causedBy(trap, root);
    assert.equal(given.live, 0);
  });

  it('its memory can be read and written', () => {
    const { given, index, memory } = build((call) => {
      given.write(memory, 20, given.read(memory, 20, 1)[0] + 5);
      return argsOf(call).x;
    });
    given.write(memory, 20, 1);
    assert.deepEqual(given.call(index, 'run, then sum', [Value.I32(0), Value.I64(100n)]), Value.I64(109n));
  });

  it('its memory can grow, and the guest goes on in the larger one', () => {
    const sizes: number[] = [];
    const { given, index, memory } = build((call) => {
      sizes.push(given.ext.memory_grow(memory, 1));
      return argsOf(call).x;
    });
    assert.deepEqual(given.call(index, 'run, then grow', [Value.I32(0), Value.I64(1n)]), Value.I64(4n));
    assert.deepEqual(sizes, [1, 3]);
    assert.deepEqual(given.read(memory, 3 * PAGE - 1, 1), Uint8Array.of(9));
  });

  it('its globals can be read and written', () => {
    const { given, index } = build((call) => {
      assert.deepEqual(given.getGlobal(index, 'g'), Value.I32(3));
      assert.equal(given.setGlobal(index, 'g', Value.I32(30)), 0);
      return argsOf(call).x;
    });
    assert.deepEqual(given.call(index, 'run, then sum', [Value.I32(0), Value.I64(100n)]), Value.I64(130n));
  });

  it('another guest can be invoked, of another memory or of the same', () => {
    const { given, index, memory } = build((call) => {
      const { n, x } = argsOf(call);
      return n === 0 ? x : value(given.call(n % 2 ? another : same, ...run(n - 1, Number(x) * 2)));
    });
    const { index: another } = guestIn(given);
    const { index: same } = guestIn(given, memory);
    assert.deepEqual(given.call(index, ...run(10, 1)), Value.I64(1024n));
    assert.equal(given.live, 0);
  });

  it('a guest can be made, invoked and torn down', () => {
    const made: number[][] = [];
    const { given, index } = build((call) => {
      const inner = guestIn(given);
      made.push([inner.index, inner.memory]);
      const result = given.call(inner.index, 'double', [Value.I64(argsOf(call).x)]);
      given.ext.instance_teardown(inner.index);
      given.ext.memory_teardown(inner.memory);
      return value(result);
    });
    for (let n = 1; n <= 20; n++) assert.deepEqual(given.call(index, ...run(0, n)), Value.I64(BigInt(2 * n)));
    assert.deepEqual(made.at(-1), [20, 20]);
    assert.equal(given.live, 0);
  });

  it('a guest can be made that traps in its start function', () => {
    const { given, index } = build((call) => {
      assert.equal(
        given.instantiate(wat('(module (func $f unreachable) (start $f))'), { version }),
        EXECUTION,
      );
      assert.equal(given.instantiate(Uint8Array.of(0), { version }), -1);
      return argsOf(call).x;
    });
    assert.deepEqual(given.call(index, ...run(0, 8)), Value.I64(8n));
  });

  it('it can be torn down with its memory, and runs to its end', () => {
    const calls: ThunkCall[] = [];
    const { given, index, memory } = build((call) => {
      if (calls.push(call) === 1) {
        given.ext.instance_teardown(index);
        given.ext.memory_teardown(memory);
        for (let i = 0; i < 10; i++) {
          const inner = guestIn(given);
          given.ext.instance_teardown(inner.index);
          given.ext.memory_teardown(inner.memory);
        }
      }
      sandboxError('Trying to access a torndown instance', () => given.invoke(index, 'double'));
      sandboxError('Trying to access a torndown instance', () => given.getGlobal(index, 'g'));
      sandboxError('Trying to access a torndown sandboxed memory', () => given.ext.memory_size(memory));
      return argsOf(call).x;
    });
    assert.deepEqual(given.call(index, 'run, then grow', [Value.I32(0), Value.I64(1n)]), Value.I64(4n));
    assert.equal(calls.length, 2);
    sandboxError('Trying to access a torndown instance', () => given.invoke(index, 'double'));
    sandboxError('Double teardown of an instance', () => given.ext.instance_teardown(index));
    assert.equal(given.live, 0);
    assertWorks(given);
  });

  it('it can be torn down from a call inside a call, and each of them ends', () => {
    const { given, index } = build((call) => {
      const { n, x } = argsOf(call);
      if (n === 0) {
        given.ext.instance_teardown(index);
        return x;
      }
      return value(given.call(index, ...run(n - 1, Number(x) + 1))) * 2n;
    });
    assert.deepEqual(given.call(index, ...run(5, 1)), Value.I64(192n));
    sandboxError('Trying to access a torndown instance', () => given.invoke(index, 'double'));
    assertWorks(given);
  });

  it('it can be torn down and then fail', () => {
    const thrown = new Error('after its teardown');
    const { given, index } = build(() => {
      given.ext.instance_teardown(index);
      throw thrown;
    });
    assert.equal(given.invoke(index, ...run(0, 1)).status, EXECUTION);
    causedBy(lastTrap(given), thrown);
    assert.equal(given.live, 0);
    assertWorks(given);
  });

  it('a memory that it imports besides another can be torn down, too', () => {
    const given = supervisor(backend);
    const memories = [given.ext.memory_new(1, 1), given.ext.memory_new(1, 1)];
    const index = given.guest(
      wat(`(module (import "env" "a" (memory 1)) (import "env" "b" (memory 1)) (import "env" "f" (func $f))
        (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
        (func (export "run") (result i32)
          (i32.store8 0 (i32.const 0) (i32.const 3)) (i32.store8 1 (i32.const 0) (i32.const 4))
          (call $f)
          (i32.add (i32.load8_u 0 (i32.const 0)) (i32.load8_u 1 (i32.const 0)))))`),
      {
        version,
        thunk: '$thunk_js',
        functions: { 'env.f': 0 },
        memories: { 'env.a': memories[0], 'env.b': memories[1] },
      },
    );
    given.answer = () => {
      for (const memory of memories) given.ext.memory_teardown(memory);
      for (let i = 0; i < 10; i++) given.write(given.ext.memory_new(1, 1), 0, 99);
      return given.ok(undefined, version === 1 ? undefined : GAS);
    };
    assert.deepEqual(given.call(index, 'run'), Value.I32(7));
  });

  it('everything can be cleared, and it runs to its end', () => {
    let calls = 0;
    const { given, index } = build((call) => {
      if (++calls === 1) {
        given.host.components.clear();
        sandboxError('Trying to access a non-existent instance', () => given.invoke(index, 'double'));
        const { index: again } = guestIn(given);
        assert.equal(again, 0);
        assert.deepEqual(given.call(again, 'double', [Value.I64(4n)]), Value.I64(8n));
      }
      return argsOf(call).x;
    });
    assert.deepEqual(given.call(index, 'run, then grow', [Value.I32(0), Value.I64(1n)]), Value.I64(4n));
    assert.equal(given.live, 0);
    assertWorks(given);
  });

  it('it can be invoked by JavaScript with another supervisor, which then gets its calls', () => {
    const asked: string[] = [];
    const js = new JsSupervisor();
    js.define(([n, x]) => {
      asked.push('js');
      if ((n as { value: number }).value > 0) value(given.call(index, ...run(0, 1)));
      return x;
    });
    const { given, index } = build((call) => {
      const { n, x } = argsOf(call);
      asked.push('wasm');
      if (n > 0) given.host.components.instance(index).invoke('run', [Value.I32(n - 1), Value.I64(x)], js);
      return x;
    });
    assert.deepEqual(given.call(index, 'twice', [Value.I32(2), Value.I64(6n)]), Value.I64(0n));
    assert.deepEqual(asked, ['wasm', 'js', 'wasm', 'wasm', 'js', 'wasm']);
    assert.deepEqual(
      given.host.components.instance(index).invoke('run', [Value.I32(0), Value.I64(6n)], js),
      Value.I64(6n),
    );
    assert.equal(given.live, 0);
  });

  it('its host may throw at the supervisor, which may go on', () => {
    const { given, index } = build((call) => {
      sandboxError('Trying to access a non-existent instance', () => given.invoke(99, 'double'));
      sandboxError('Double teardown of an instance', () => given.ext.instance_teardown(torn));
      return argsOf(call).x;
    });
    const { index: torn } = guestIn(given);
    given.ext.instance_teardown(torn);
    assert.deepEqual(given.call(index, ...run(0, 8)), Value.I64(8n));
    assert.equal(given.live, 0);
  });

  it('its host may throw at the supervisor, with which the guest fails', () => {
    const { given, index } = build(() => given.ext.memory_size(99) as unknown as bigint);
    assert.equal(given.invoke(index, ...run(0, 8)).status, EXECUTION);
    const trap = lastTrap(given);
    assert.equal(trap.message, 'Trying to access a non-existent sandboxed memory');
    assert.equal(given.live, 0);
    assertWorks(given);
  });
}

describe('The supervisor’s allocator may run other guests', () => {
  const OTHER = `(module
    (import "env" "f" (func $f (param i64 i64 i64 i64) (result i64)))
    (global (export "gear_gas") (mut i64) (i64.const 7777))
    (func (export "ask") (result i64) (call $f (i64.const -1) (i64.const -2) (i64.const -3) (i64.const -4))))`;
  const sum: GuestFunction = (args) =>
    Value.I64(args.reduce((total, arg) => total + (arg as { value: bigint }).value, 0n));

  forEachBackend((backend) => {
    for (const version of versions) {
      /** Ways to run another guest; each gives -10. */
      const others: Record<string, () => () => unknown> = {
        'with a JsSupervisor': () => {
          const { call } = guest({ backend, version, imports: { 'env.f': sum }, wat: OTHER });
          return () => call('ask');
        },
        'with a JsSupervisor on the other engine': () => {
          const { call } = guest({
            backend: otherThan(backend),
            version,
            imports: { 'env.f': sum },
            wat: OTHER,
          });
          return () => call('ask');
        },
        'with a SupervisorContext': () => {
          const context = new ProtocolSupervisor(version);
          const { call } = guest({
            backend,
            version,
            supervisor: context,
            imports: { 'env.f': sum },
            wat: OTHER,
          });
          return () => call('ask');
        },
        'by another host': () => {
          const other = supervisor(backend);
          const index = other.guest(wat(OTHER), { version, thunk: '$thunk_js', functions: { 'env.f': 0 } });
          other.answer = ({ args }) => {
            const values = codec.decodeValues(args).slice(-4);
            return other.ok(sum(values, {}) as Value, version === 1 ? undefined : 0n);
          };
          return () => other.call(index, 'ask');
        },
        'by another host, whose call fails': () => {
          const other = supervisor(backend);
          const index = other.guest(wat(OTHER), { version, functions: { 'env.f': '$trap' } });
          return () => (other.invoke(index, 'ask').status === EXECUTION ? Value.I64(-10n) : undefined);
        },
        'by the same host': () => () => Value.I64(-10n),
      };
      for (const [way, make] of Object.entries(others)) {
        it(`${way}, and nothing is mixed up under Version${version}`, () => {
          const other = make();
          const given = supervisor(backend);
          const index = given.guest(wat(GUEST), {
            version,
            thunk: '$thunk_js',
            memories: { 'env.memory': given.ext.memory_new(1, 1) },
            functions: { 'env.f': 0 },
          });
          let nested = 0;
          const runOther = (): void => {
            assert.deepEqual(other(), Value.I64(-10n));
            if (way !== 'by the same host' || nested > 0) return;
            nested++;
            assert.deepEqual(given.call(index, ...run(55, 66)), Value.I64(66n));
            nested--;
          };
          given.allocator = {
            allocate(size) {
              runOther();
              return given.exports.allocate(size);
            },
            deallocate(ptr) {
              runOther();
              given.exports.deallocate(ptr);
            },
          };
          const seen: unknown[] = [];
          given.answer = (call) => {
            runOther();
            const { n, x } = argsOf(call);
            if (n !== 55) seen.push([n, x, call.args[0]]);
            return given.ok(Value.I64(x), version === 1 ? undefined : 990n);
          };
          for (let i = 0; i < 10; i++)
            assert.deepEqual(given.call(index, ...run(i, 1000 + i)), Value.I64(BigInt(1000 + i)));
          assert.deepEqual(
            seen,
            Array.from({ length: 10 }, (_item, i) => [i, BigInt(1000 + i), version === 1 ? 8 : 12]),
          );
          assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(version === 1 ? GAS : 990n));
          assert.equal(given.live, 0);
        });
      }
    }
  });
});

describe('A guest and a supervisor that call each other without end', () => {
  forEachBackend((backend) => {
    /** A function of the supervisor that invokes \`run\` of an instance, and does nothing but trap if that fails. */
    const DEFINITIONS = `
      (data (i32.const 1024) "run\\00")
      (global $instance (export "instance") (mut i32) (i32.const 0))
      (func $endless ${FUNCTION}
        (if (call $invoke (global.get $instance) (i64.const 0x3_0000_0400) (i64.const 0x1_0000_0403)
              (i32.const 1100) (i32.const 10) (i32.const 0))
          (then unreachable))
        (i32.const 0))`;
    const ENDLESS = `(module (import "env" "f" (func $f))
      (global (export "gear_gas") (mut i64) (i64.const 1000))
      (func (export "run") (call $f)) (func (export "seven") (result i32) (i32.const 7)))`;

    /** After the stack has been used up. The last of the calls may not have had enough of it to free its arguments. */
    function isUsable(given: WasmSupervisor, index: number): void {
      assert.ok(given.live <= 3, `${given.live} live allocations`);
      assert.deepEqual(given.call(index, 'seven'), Value.I32(7));
      assertWorks(given);
    }

    for (const version of versions) {
      it(`end in a failure of the outermost call under Version${version}, and work on`, () => {
        const given = supervisor(backend, { definitions: DEFINITIONS, elements: ['$endless'] });
        const index = given.guest(wat(ENDLESS), { version, functions: { 'env.f': '$endless' } });
        for (let i = 0; i < 3; i++) {
          assert.equal(given.invoke(index, 'run').status, EXECUTION);
          assert.equal(lastTrap(given).trap, 'supervisor');
        }
        isUsable(given, index);
      });
    }

    it('end also if each call makes a new guest', () => {
      const given = supervisor(backend);
      let deepest = 0;
      let depth = 0;
      const fresh = () => given.guest(wat(ENDLESS), { thunk: '$thunk_js', functions: { 'env.f': 0 } });
      given.answer = () => {
        deepest = Math.max(deepest, ++depth);
        try {
          given.call(fresh(), 'run');
        } finally {
          depth--;
        }
        return given.ok();
      };
      const index = fresh();
      assert.equal(given.invoke(index, 'run').status, EXECUTION);
      assert.ok(deepest > 10, `${deepest} deep`);
      assert.deepEqual(given.call(index, 'seven'), Value.I32(7));
      assertWorks(given);
    });

    it('end also if they go back and forth between two hosts and both engines', () => {
      const [a, b] = [backend, otherThan(backend)].map((each) => supervisor(each));
      const [inA, inB] = [a, b].map((each) =>
        each.guest(wat(ENDLESS), { thunk: '$thunk_js', functions: { 'env.f': 0 } }),
      );
      a.answer = () => {
        b.call(inB, 'run');
        return a.ok();
      };
      b.answer = () => {
        a.call(inA, 'run');
        return b.ok();
      };
      assert.equal(a.invoke(inA, 'run').status, EXECUTION);
      isUsable(a, inA);
      isUsable(b, inB);
    });
  });
});
