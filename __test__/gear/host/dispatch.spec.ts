// What happens when a guest calls the supervisor: what its dispatch thunk gets, what becomes of its answer, and of each way to fail.
// Contract: section 6, and section 2 for the messages, which are those of `dispatch_common` of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CodecError, codec, type SandboxBackend, SandboxError, type TrapError, Value } from '../../../index';
import { forEachBackend } from '../../support/engines';
import { causedBy } from '../../support/expect';
import { V8 } from '../../support/v8';
import { packResult, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, type FixtureOptions, lastTrap, supervisor } from './fixture';

const EXECUTION = -3;
const GAS = 1000n;

const GUEST = `(module
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (import "env" "echo i32" (func $echo_i32 (param i32) (result i32)))
  (import "env" "echo i64" (func $echo_i64 (param i64) (result i64)))
  (import "env" "echo f32" (func $echo_f32 (param f32) (result f32)))
  (import "env" "echo f64" (func $echo_f64 (param f64) (result f64)))
  (import "env" "all" (func $all (param i32 i64 f32 f64)))
  (import "env" "nothing" (func $nothing))
  (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
  (func (export "i32") (param i32) (result i32) (call $echo_i32 (local.get 0)))
  (func (export "i64") (param i64) (result i64) (call $echo_i64 (local.get 0)))
  (func (export "f32") (param f32) (result f32) (call $echo_f32 (local.get 0)))
  (func (export "f64") (param f64) (result f64) (call $echo_f64 (local.get 0)))
  (func (export "all") (call $all (i32.const -2) (i64.const -3) (f32.const nan:0x200001) (f64.const -1.5)))
  (func (export "nothing") (call $nothing))
  (func (export "add three times") (param i32) (result i32)
    (call $add (local.get 0) (call $add (local.get 0) (call $add (local.get 0) (i32.const 1)))))
  (func (export "seven") (result i32) (i32.const 7)))`;

const versions = [1, 2] as const;
type Version = (typeof versions)[number];

/** A guest whose functions the supervisor's own thunks answer, or those of this name. */
function guestOf(
  given: WasmSupervisor,
  version: Version,
  thunk = `$thunk_${version}`,
  func?: string,
): number {
  const echo = func ?? '$echo';
  return given.guest(wat(GUEST), {
    version,
    thunk,
    functions: {
      'env.add': func ?? '$add',
      'env.echo i32': echo,
      'env.echo i64': echo,
      'env.echo f32': echo,
      'env.echo f64': echo,
      'env.all': func ?? '$nothing',
      'env.nothing': func ?? '$nothing',
    },
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sum = [Value.I32(2), Value.I32(3)];

describe('A guest’s call', () => {
  forEachBackend((backend) => {
    for (const version of versions) describe(`under Version${version}`, () => calls(backend, version));
  });
});

function calls(backend: SandboxBackend, version: Version): void {
  const gasLeft = version === 1 ? undefined : 990n;

  it('gives the thunk the SCALE-encoded arguments, under Version2 with the gas first', () => {
    const given = supervisor(backend);
    const index = guestOf(given, version, '$thunk_js');
    const seen: string[] = [];
    given.answer = ({ args, func }) => {
      seen.push(hex(args));
      return func === given.element('$add') ? given.ok(Value.I32(0), gasLeft) : given.ok(undefined, gasLeft);
    };
    given.call(index, 'nothing');
    given.call(index, 'add', [Value.I32(1), Value.I32(-1)]);
    given.call(index, 'all');
    assert.deepEqual(
      seen,
      version === 1
        ? [
            '00',
            '08' + '0001000000' + '00ffffffff',
            '10' + '00feffffff' + '01fdffffffffffffff' + '020100a07f' + '03000000000000f8bf',
          ]
        : [
            '04' + '01e803000000000000',
            '0c' + '01de03000000000000' + '0001000000' + '00ffffffff',
            '14' +
              '01de03000000000000' +
              '00feffffff' +
              '01fdffffffffffffff' +
              '020100a07f' +
              '03000000000000f8bf',
          ],
    );
    assert.equal(given.live, 0);
  });

  const values = [
    Value.I32(0),
    Value.I32(-(2 ** 31)),
    Value.I64(-1n),
    Value.I64(0x0123456789abcdefn),
    Value.F32(0x7f800001),
    Value.F32(0xffffffff),
    Value.F64(0x7ff0000000000001n),
    Value.F64(0xffff000000000000n),
  ];
  it('takes values of every type out and back, with every bit', () => {
    const given = supervisor(backend);
    const index = guestOf(given, version);
    for (const value of values) assert.deepEqual(given.call(index, value.type, [value]), value);
    assert.equal(given.live, 0);
  });

  it('takes a Unit for a function without a result', () => {
    const given = supervisor(backend);
    assert.equal(given.call(guestOf(given, version), 'nothing'), undefined);
    assert.equal(given.live, 0);
  });

  it('takes an answer that is followed by bytes that mean nothing', () => {
    const given = supervisor(backend);
    const index = guestOf(given, version, '$thunk_js');
    for (const more of [1, 10, 1000, 100_000]) {
      given.answer = () =>
        given.result(Uint8Array.from([...okBytes(version, Value.I32(8)), ...new Array(more).fill(1)]));
      assert.deepEqual(given.call(index, 'add', sum), Value.I32(8));
      given.answer = () => given.result(Uint8Array.from([...okBytes(version), ...new Array(more).fill(1)]));
      assert.equal(given.call(index, 'nothing'), undefined);
    }
    assert.equal(given.live, 0);
  });

  it('allocates as many bytes as the arguments have, and frees the arguments before the answer', () => {
    const given = supervisor(backend);
    const index = guestOf(given, version, '$thunk_js');
    const steps: [string, number][] = [];
    given.allocator = {
      allocate: (size) => {
        steps.push(['allocate', size]);
        return given.exports.allocate(size);
      },
      deallocate: (ptr) => {
        steps.push(['deallocate', ptr]);
        given.exports.deallocate(ptr);
      },
    };
    let answer = 0;
    let args = 0;
    given.answer = (call) => {
      args = call.argsPtr;
      assert.equal(call.args.length, version === 1 ? 11 : 20);
      const packed = given.ok(Value.I32(5), gasLeft);
      answer = Number(packed >> 32n);
      return packed;
    };
    assert.deepEqual(given.call(index, 'add', sum), Value.I32(5));
    assert.deepEqual(steps, [
      ['allocate', version === 1 ? 11 : 20],
      ['deallocate', args],
      ['deallocate', answer],
    ]);
  });

  it('does not look at the arguments or the answer once they are freed', () => {
    const given = supervisor(backend);
    const index = guestOf(given, version, '$thunk_js');
    const sizes = new Map<number, number>();
    given.allocator = {
      allocate: (size) => {
        const ptr = given.exports.allocate(size);
        sizes.set(ptr, size);
        return ptr;
      },
      deallocate: (ptr) => {
        given.memory.fill(0xff, ptr, ptr + (sizes.get(ptr) ?? 0));
        given.exports.deallocate(ptr);
      },
    };
    given.answer = ({ args }) => {
      const bytes = okBytes(version, codec.decodeValues(args).at(-1));
      const packed = given.result(bytes);
      sizes.set(Number(packed >> 32n), bytes.length);
      return packed;
    };
    for (const value of values) assert.deepEqual(given.call(index, value.type, [value]), value);
    assert.equal(given.live, 0);
  });

  it('may have more than 63 arguments', () => {
    const given = supervisor(backend);
    let expected: Uint8Array = new Uint8Array(0);
    given.answer = ({ args }) => {
      assert.equal(hex(args), hex(expected));
      return given.ok(undefined, gasLeft);
    };
    for (const count of [61, 62, 63, 64, 65, 127, 300, 1000]) {
      const types = Array.from(
        { length: count },
        (_item, n) => (['i32', 'i64', 'f32', 'f64'] as const)[n % 4],
      );
      const wasm = wat(`(module (import "env" "f" (func $f (param ${types.join(' ')})))
        (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
        (func (export "run") (call $f ${types.map((type, n) => `(${type}.const ${n})`).join(' ')})))`);
      const all = types.map((type, n) => {
        if (type === 'i32') return Value.I32(n);
        if (type === 'i64') return Value.I64(BigInt(n));
        return type === 'f32' ? Value.f32(n) : Value.f64(n);
      });
      expected = codec.encodeValues(version === 1 ? all : [Value.I64(GAS), ...all]);
      const index = given.guest(wasm, { version, thunk: '$thunk_js', functions: { 'env.f': 0 } });
      assert.equal(given.call(index, 'run'), undefined, `${count} arguments`);
    }
    assert.equal(given.live, 0);
  });

  describe('that fails', () => {
    /** A supervisor with a guest, both thunks and the functions of which fail as the test wants. */
    function build(options: FixtureOptions = {}) {
      const given = supervisor(backend, options);
      return { given, index: guestOf(given, version, '$thunk_js'), good: guestOf(given, version) };
    }

    /** Runs a guest's call, which must fail by this message; nothing may be left. Gives its error. */
    function failure(
      given: WasmSupervisor,
      index: number,
      message: string,
      name = 'add',
      live = 0,
    ): TrapError {
      const before = given.live;
      const { status, ret } = given.invoke(index, name, name === 'add' ? sum : []);
      assert.deepEqual([status, ret], [EXECUTION, new Uint8Array(10)]);
      const trap = lastTrap(given);
      assert.equal(trap.trap, 'supervisor');
      assert.equal(trap.message, message);
      assert.equal(given.live - before, live, 'live allocations');
      return trap;
    }

    /** That the gas is as it was, and that everything works, the failed guest too. */
    function stillWorks({ given, index, good }: ReturnType<typeof build>): void {
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(GAS));
      assert.deepEqual(given.call(index, 'seven'), Value.I32(7));
      given.answer = () => given.result(okBytes(version, Value.I32(5)));
      assert.deepEqual(given.call(index, 'add', sum), Value.I32(5));
      assert.deepEqual(given.call(good, 'add', sum), Value.I32(5));
      assertWorks(given);
    }

    it('because the thunk traps', () => {
      const made = build();
      const { given } = made;
      const index = guestOf(given, version, undefined, '$trap');
      for (let i = 0; i < 3; i++) {
        const { cause } = failure(given, index, 'unreachable');
        assert.ok(cause instanceof V8.RuntimeError);
      }
      stillWorks(made);
    });

    it('because a function of JavaScript that the thunk calls throws', () => {
      const made = build();
      for (const [thrown, text] of [
        [new Error('text of the error'), 'text of the error'],
        ['plain text', 'plain text'],
        [undefined, 'undefined'],
      ]) {
        made.given.answer = () => {
          throw thrown;
        };
        causedBy(failure(made.given, made.index, text as string), thrown);
      }
      stillWorks(made);
    });

    it('because the thunk is of another type', () => {
      const made = build({
        definitions: '(func $other (param i32) (result i64) i64.const 0)',
        elements: ['$other'],
      });
      const index = guestOf(made.given, version, '$other');
      const text = 'the dispatch thunk must be of type (i32, i32, i32, i32) -> i64';
      assert.ok(failure(made.given, index, text).cause instanceof SandboxError);
      stillWorks(made);
    });

    it('because the answer is HostError', () => {
      const made = build();
      const { given } = made;
      const message = 'Supervisor function returned sandbox::HostError';
      assert.equal(
        Object.hasOwn(failure(given, guestOf(given, version, undefined, '$host_error'), message), 'cause'),
        false,
      );
      for (const bytes of [[1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 9, 9]]) {
        given.answer = () => given.result(Uint8Array.from(bytes));
        failure(given, made.index, message);
        failure(given, made.index, message, 'nothing');
      }
      stillWorks(made);
    });

    it('because the answer cannot be decoded', () => {
      const made = build();
      const message =
        version === 1
          ? 'Decoding Result<ReturnValue, HostError> failed!'
          : 'Decoding Result<WasmReturnValue, HostError> failed!';
      const gas = version === 1 ? [] : [1, 0, 0, 0, 0, 0, 0, 0];
      for (const bytes of [
        [2],
        [255],
        [0],
        [0, ...gas.slice(1)],
        [0, ...gas],
        [0, ...gas, 2],
        [0, ...gas, 1],
        [0, ...gas, 1, 0],
        [0, ...gas, 1, 0, 1, 2, 3],
        [0, ...gas, 1, 4, 0, 0, 0, 0],
        [0, ...gas, 1, 1, 1, 2, 3, 4, 5, 6, 7],
      ]) {
        made.given.answer = () => made.given.result(Uint8Array.from(bytes));
        const trap = failure(made.given, made.index, message);
        assert.ok(trap.cause instanceof CodecError, `bytes [${bytes}]`);
      }
      // Of no bytes at all, where there may have been some before.
      for (const name of ['add', 'nothing']) {
        made.given.answer = () => {
          const ptr = made.given.allocate(okBytes(version, Value.I32(1)));
          return packResult(ptr, 0);
        };
        assert.ok(failure(made.given, made.index, message, name).cause instanceof CodecError);
      }
      stillWorks(made);
    });

    it('because the answer has a value of the wrong type', () => {
      const made = build();
      const answers: [name: string, value: Value | undefined, got: string][] = [
        ['add', undefined, 'i32, got undefined'],
        ['add', Value.I64(7n), 'i32, got a Value of type i64'],
        ['add', Value.f32(7), 'i32, got a Value of type f32'],
        ['add', Value.f64(7), 'i32, got a Value of type f64'],
        ['nothing', Value.I32(0), 'nothing, got a Value of type i32'],
      ];
      for (const [name, value, got] of answers) {
        made.given.answer = () => made.given.ok(value, version === 1 ? undefined : 1n);
        const trap = failure(
          made.given,
          made.index,
          `the supervisor function for env.${name} must return ${got}`,
          name,
        );
        assert.equal(Object.hasOwn(trap, 'cause'), false);
      }
      stillWorks(made);
    });

    it('because the answer lies beyond the end of the memory, and is freed all the same', () => {
      const made = build();
      const { given } = made;
      const message = "Can't read the serialized result from dispatch thunk";
      for (const size of [given.memory.length, 2 ** 31, 2 ** 32 - 1]) {
        given.answer = () => packResult(given.allocate(new Uint8Array(20)), size);
        assert.ok(failure(given, made.index, message).cause instanceof RangeError);
      }
      const own = given.allocator;
      const end = given.memory.length;
      for (const [ptr, size] of [
        [end - 5, 6],
        [end, 1],
        [end + 1, 0],
        [2 ** 31, 6],
        [2 ** 32 - 1, 6],
        [2 ** 32 - 1, 0],
      ]) {
        const freed: number[] = [];
        given.allocator = {
          ...own,
          deallocate: (address) => {
            if (address < 0 || address >= end - 5) freed.push(address >>> 0);
            else own.deallocate(address);
          },
        };
        given.answer = () => packResult(ptr, size);
        assert.ok(failure(given, made.index, message).cause instanceof RangeError);
        assert.deepEqual(freed, [ptr]);
      }
      given.allocator = own;
      stillWorks(made);
    });

    it('because what the answer says is nothing that the allocator gave', () => {
      const made = build();
      const { given } = made;
      for (const packed of [
        0n,
        packResult(0, 1),
        packResult(4096, 4),
        packResult(given.memory.length - 5, 6),
        -1n,
      ]) {
        given.answer = () => packed;
        const trap = failure(given, made.index, "Can't deallocate memory for dispatch thunk's result");
        assert.ok(trap.cause instanceof V8.RuntimeError);
      }
      stillWorks(made);
    });

    it('because the answer is the arguments, which have been freed', () => {
      const made = build();
      made.given.answer = ({ argsPtr, args }) => packResult(argsPtr, args.length);
      failure(made.given, made.index, "Can't deallocate memory for dispatch thunk's result");
      stillWorks(made);
    });

    it('because the allocator throws', () => {
      const made = build();
      const own = made.given.allocator;
      for (const thrown of [new Error('no room'), 'text', undefined, null]) {
        made.given.allocator = {
          ...own,
          allocate: () => {
            throw thrown;
          },
        };
        const trap = failure(made.given, made.index, "Can't allocate memory in supervisor for the arguments");
        causedBy(trap, thrown);
      }
      made.given.allocator = own;
      stillWorks(made);
    });

    it('because the allocator of the supervisor traps', () => {
      const made = build({ definitions: '(func (export "trap") (param i32) (result i32) unreachable)' });
      const own = made.given.allocator;
      made.given.allocator = { ...own, allocate: (size) => made.given.exports.trap(size) };
      const trap = failure(made.given, made.index, "Can't allocate memory in supervisor for the arguments");
      assert.ok(trap.cause instanceof V8.RuntimeError);
      made.given.allocator = own;
      stillWorks(made);
    });

    it('because the allocator gives no address', () => {
      const made = build();
      const own = made.given.allocator;
      for (const ptr of [
        0,
        -0,
        Number.NaN,
        1.5,
        -1.5,
        2 ** 32,
        -(2 ** 31) - 1,
        Infinity,
        '8',
        8n,
        undefined,
        null,
        {},
        true,
      ]) {
        made.given.allocator = {
          allocate: () => ptr as number,
          deallocate: () => assert.fail('there is nothing to be freed'),
        };
        const trap = failure(made.given, made.index, "Can't allocate memory in supervisor for the arguments");
        assert.ok(trap.cause instanceof SandboxError);
        assert.match(trap.cause.message, /allocate/);
      }
      made.given.allocator = own;
      stillWorks(made);
    });

    it('because the allocator gives an address beyond the end, which is freed', () => {
      const made = build();
      const { given } = made;
      const own = given.allocator;
      const end = given.memory.length;
      for (const ptr of [end - 8, end, 2 ** 31, 2 ** 32 - 1, -1, -(2 ** 31), -16]) {
        const freed: number[] = [];
        given.allocator = { allocate: () => ptr, deallocate: (address) => void freed.push(address) };
        given.answer = () => assert.fail('there are no arguments');
        const trap = failure(given, made.index, "Can't write invoke args into memory");
        assert.ok(trap.cause instanceof RangeError);
        assert.deepEqual(freed, [ptr >>> 0]);
      }
      const thrown = new Error('nothing of mine');
      given.allocator = {
        allocate: () => -1,
        deallocate: () => {
          throw thrown;
        },
      };
      causedBy(
        failure(given, made.index, 'Failed deallocation after failed write of invoke arguments'),
        thrown,
      );
      given.allocator = own;
      stillWorks(made);
    });

    /** An allocator that frees, but throws at the nth time. */
    function throwing({ given }: ReturnType<typeof build>, at: number, thrown: unknown): void {
      const own = given.allocator;
      let times = 0;
      given.allocator = {
        ...own,
        deallocate: (ptr) => {
          own.deallocate(ptr);
          if (++times === at) throw thrown;
        },
      };
    }

    it('because the arguments cannot be freed; the answer is left to the supervisor', () => {
      const made = build();
      const own = made.given.allocator;
      for (const thrown of [new Error('not mine'), undefined]) {
        throwing(made, 1, thrown);
        made.given.answer = () => made.given.ok(Value.I32(1), gasLeft);
        causedBy(failure(made.given, made.index, 'Failed deallocation after invoke', 'add', 1), thrown);
        made.given.allocator = own;
      }
      stillWorks(made);
    });

    it('because the arguments cannot be freed after the thunk failed, which is what counts', () => {
      const made = build();
      const own = made.given.allocator;
      const thrown = new Error('not mine');
      throwing(made, 1, thrown);
      made.given.answer = () => {
        throw new Error('an earlier one');
      };
      causedBy(failure(made.given, made.index, 'Failed deallocation after invoke'), thrown);
      made.given.allocator = own;
      stillWorks(made);
    });

    it('because the answer cannot be freed, whatever it says', () => {
      const made = build();
      const own = made.given.allocator;
      const answers = [
        () => made.given.ok(Value.I32(1), gasLeft),
        () => made.given.result(Uint8Array.of(1)),
        () => made.given.result(Uint8Array.of(9)),
        () => packResult(made.given.allocate(new Uint8Array(8)), 2 ** 32 - 1),
      ];
      for (const answer of answers) {
        const thrown = new Error('not mine');
        throwing(made, 2, thrown);
        made.given.answer = answer;
        causedBy(
          failure(made.given, made.index, "Can't deallocate memory for dispatch thunk's result"),
          thrown,
        );
        made.given.allocator = own;
      }
      stillWorks(made);
    });

    it('many times over, or succeeds, without memory that is not given back', () => {
      const given = supervisor(backend);
      const count = 1000;
      const text = `(module
        (import "env" "f" (func $f (param ${'i64 '.repeat(count)})))
        (global (export "gear_gas") (mut i64) (i64.const ${GAS}))
        (func (export "run") (param $n i32)
          (loop $again
            (call $f ${'(i64.const 1) '.repeat(count)})
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))`;
      const [good, bad] = ['$nothing', '$trap'].map((func) =>
        given.guest(wat(text), { version, functions: { 'env.f': func } }),
      );
      const times = 3000;
      const before = process.memoryUsage().arrayBuffers;
      given.call(good, 'run', [Value.I32(times)]);
      for (let i = 0; i < times; i++)
        assert.equal(given.invoke(bad, 'run', [Value.I32(1)]).status, EXECUTION);
      const grown = process.memoryUsage().arrayBuffers - before;
      // The arguments of all calls take 24 MB twice.
      assert.ok(grown < 8 * 2 ** 20, `${grown} bytes more`);
      assert.equal(given.live, 0);
    });

    it('many times over', () => {
      const made = build();
      for (let i = 0; i < 500; i++) {
        const thrown = { i };
        made.given.answer = () => {
          throw thrown;
        };
        causedBy(failure(made.given, made.index, '[object Object]'), thrown);
      }
      stillWorks(made);
    });

    it('in the middle of others', () => {
      const made = build();
      let count = 0;
      made.given.answer = () => {
        if (++count === 2) throw new Error('the second');
        return made.given.result(okBytes(version, Value.I32(1)));
      };
      assert.equal(made.given.invoke(made.index, 'add three times', [Value.I32(1)]).status, EXECUTION);
      assert.equal(count, 2);
      assert.equal(lastTrap(made.given).message, 'the second');
      assert.equal(made.given.live, 0);
      stillWorks(made);
    });
  });
}

/** The bytes of an answer. */
function okBytes(version: Version, value?: Value): Uint8Array {
  return version === 1
    ? codec.encodeDispatchResult({ ok: true, value })
    : codec.encodeDispatchResultV2({ ok: true, gas: GAS, value });
}

describe('The gas of a guest under Version2', () => {
  forEachBackend((backend) => {
    it('is what the guest’s gear_gas has before each call, and gear_gas is what comes back', () => {
      const given = supervisor(backend);
      const index = guestOf(given, 2, '$thunk_js');
      const seen: bigint[] = [];
      const back = [5n, 0n, -1n, -(2n ** 63n), 2n ** 63n - 1n, 1n];
      given.answer = ({ args }) => {
        const [gas] = codec.decodeValues(args);
        seen.push((gas as { value: bigint }).value);
        assert.deepEqual(given.getGlobal(index, 'gear_gas'), gas);
        return given.ok(Value.I32(1), back[seen.length - 1]);
      };
      given.call(index, 'add three times', [Value.I32(1)]);
      given.call(index, 'add three times', [Value.I32(1)]);
      assert.deepEqual(seen, [GAS, ...back.slice(0, -1)]);
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(1n));
    });

    it('goes down by what the supervisor takes', () => {
      const given = supervisor(backend);
      const index = guestOf(given, 2);
      given.call(index, 'add three times', [Value.I32(1)]);
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(GAS - 30n));
      given.setGlobal(index, 'gear_gas', Value.I64(12n));
      given.call(index, 'nothing');
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(2n));
    });

    it('is what comes back, not what the thunk set meanwhile', () => {
      const given = supervisor(backend);
      const index = guestOf(given, 2, '$thunk_js');
      given.answer = () => {
        given.setGlobal(index, 'gear_gas', Value.I64(77n));
        return given.ok(Value.I32(1), 55n);
      };
      given.call(index, 'add', sum);
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(55n));
    });

    it('does not come with the calls of a guest under Version1, which may have a gear_gas', () => {
      const given = supervisor(backend);
      const index = guestOf(given, 1);
      assert.deepEqual(given.call(index, 'add', sum), Value.I32(5));
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(GAS));
    });
  });
});
