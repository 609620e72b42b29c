// Values: constructors, back to numbers, and the checks of values that callers hand over.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ArgumentError } from '../../lib/base/errors';
import { checkValue, toValue, toValues, Value } from '../../lib/base/values';

const I32_MIN = -(2 ** 31);
const I32_MAX = 2 ** 31 - 1;
const I64_MIN = -(2n ** 63n);
const I64_MAX = 2n ** 63n - 1n;
const U32_MAX = 2 ** 32 - 1;
const U64_MAX = 2n ** 64n - 1n;

/** NaNs that a trip through a JavaScript number would change. */
const SIGNALLING_F32 = 0x7fa0_0001;
const SIGNALLING_F64 = 0x7ff4_0000_0000_0001n;

type PlainErrorClass = typeof TypeError | typeof RangeError;

/** Asserts a plain error with the code and exactly this message. */
function throwsPlain(run: () => unknown, Class: PlainErrorClass, message: string): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof Class);
    assert.equal(Object.getPrototypeOf(error), Class.prototype);
    assert.equal(error.message, message);
    assert.ok(Object.hasOwn(error, 'code'));
    assert.equal((error as Error & { code?: unknown }).code, 'ERR_SANDBOX_ARGUMENT');
    return true;
  });
}

function throwsArgument(run: () => unknown, argument: string, message: string): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof ArgumentError);
    assert.equal(error.argument, argument);
    assert.equal(error.message, message);
    return true;
  });
}

describe('the constructors of integers', () => {
  it('take both ends of the range', () => {
    assert.deepEqual(Value.I32(I32_MIN), { type: 'i32', value: I32_MIN });
    assert.deepEqual(Value.I32(I32_MAX), { type: 'i32', value: I32_MAX });
    assert.deepEqual(Value.I64(I64_MIN), { type: 'i64', value: I64_MIN });
    assert.deepEqual(Value.I64(I64_MAX), { type: 'i64', value: I64_MAX });
  });

  it('turn -0 into 0', () => {
    assert.ok(Object.is(Value.I32(-0).value, 0));
  });

  const i32 = 'n must be an integer from -2147483648 to 2147483647, got';
  const i64 = 'n must be a bigint from -2^63 to 2^63 - 1, got';

  it('throw a RangeError for a number out of range or with a fraction', () => {
    throwsPlain(() => Value.I32(I32_MAX + 1), RangeError, `${i32} 2147483648`);
    throwsPlain(() => Value.I32(I32_MIN - 1), RangeError, `${i32} -2147483649`);
    throwsPlain(() => Value.I32(0.5), RangeError, `${i32} 0.5`);
    throwsPlain(() => Value.I32(Number.NaN), RangeError, `${i32} NaN`);
    throwsPlain(() => Value.I32(Number.POSITIVE_INFINITY), RangeError, `${i32} Infinity`);
    throwsPlain(() => Value.I64(I64_MAX + 1n), RangeError, `${i64} 9223372036854775808n`);
    throwsPlain(() => Value.I64(I64_MIN - 1n), RangeError, `${i64} -9223372036854775809n`);
  });

  it('throw a TypeError for another type', () => {
    throwsPlain(() => Value.I32(1n as never), TypeError, `${i32} 1n`);
    throwsPlain(() => Value.I32('1' as never), TypeError, `${i32} "1"`);
    throwsPlain(() => Value.I32(undefined as never), TypeError, `${i32} undefined`);
    throwsPlain(() => Value.I32({ valueOf: () => 1 } as never), TypeError, `${i32} an object`);
    throwsPlain(() => Value.I64(1 as never), TypeError, `${i64} 1`);
    throwsPlain(() => Value.I64(null as never), TypeError, `${i64} null`);
  });
});

describe('the constructors of floats from bits', () => {
  it('take every pattern', () => {
    for (const bits of [0, 1, SIGNALLING_F32, 0x8000_0000, U32_MAX]) {
      assert.deepEqual(Value.F32(bits), { type: 'f32', bits });
    }
    for (const bits of [0n, 1n, SIGNALLING_F64, 1n << 63n, U64_MAX]) {
      assert.deepEqual(Value.F64(bits), { type: 'f64', bits });
    }
    assert.ok(Object.is(Value.F32(-0).bits, 0));
  });

  const f32 = 'bits must be an integer from 0 to 4294967295, the bits of an f32, got';
  const f64 = 'bits must be a bigint from 0 to 2^64 - 1, the bits of an f64, got';

  it('throw a RangeError for what are no bits', () => {
    throwsPlain(() => Value.F32(-1), RangeError, `${f32} -1`);
    throwsPlain(() => Value.F32(U32_MAX + 1), RangeError, `${f32} 4294967296`);
    throwsPlain(() => Value.F32(1.5), RangeError, `${f32} 1.5`);
    throwsPlain(() => Value.F32(Number.NaN), RangeError, `${f32} NaN`);
    throwsPlain(() => Value.F64(-1n), RangeError, `${f64} -1n`);
    throwsPlain(() => Value.F64(U64_MAX + 1n), RangeError, `${f64} 18446744073709551616n`);
  });

  it('throw a TypeError for another type', () => {
    throwsPlain(() => Value.F32(1n as never), TypeError, `${f32} 1n`);
    throwsPlain(() => Value.F64(1.5 as never), TypeError, `${f64} 1.5`);
  });
});

describe('the constructors of floats from numbers', () => {
  const f32: [x: number, bits: number][] = [
    [0, 0],
    [-0, 0x8000_0000],
    [1.5, 0x3fc0_0000],
    [0.1, 0x3dcc_cccd],
    [16777217, 0x4b80_0000], // 2^24 + 1 lies between two f32: the even one is taken
    [3.4028235677973366e38, 0x7f80_0000], // the least number that rounds to infinity
    [3.4028235677973362e38, 0x7f7f_ffff],
    [1e-46, 0],
    [2 ** -149, 1],
    [Number.POSITIVE_INFINITY, 0x7f80_0000],
    [Number.NEGATIVE_INFINITY, 0xff80_0000],
    [Number.NaN, 0x7fc0_0000],
  ];
  for (const [x, bits] of f32) {
    it(`make 0x${bits.toString(16)} of the f32 ${x}`, () => {
      assert.deepEqual(Value.f32(x), { type: 'f32', bits });
    });
  }

  const f64: [x: number, bits: bigint][] = [
    [0, 0n],
    [-0, 1n << 63n],
    [1.5, 0x3ff8_0000_0000_0000n],
    [0.1, 0x3fb9_9999_9999_999an],
    [Number.MAX_VALUE, 0x7fef_ffff_ffff_ffffn],
    [Number.MIN_VALUE, 1n],
    [Number.POSITIVE_INFINITY, 0x7ff0_0000_0000_0000n],
    [Number.NaN, 0x7ff8_0000_0000_0000n],
  ];
  for (const [x, bits] of f64) {
    it(`make 0x${bits.toString(16)} of the f64 ${x}`, () => {
      assert.deepEqual(Value.f64(x), { type: 'f64', bits });
    });
  }

  it('make the canonical NaN of any NaN', () => {
    const odd = new Float64Array(new BigUint64Array([0xfff8_0000_0000_1234n]).buffer)[0];
    assert.deepEqual(Value.f32(odd), Value.F32(0x7fc0_0000));
    assert.deepEqual(Value.f64(odd), Value.F64(0x7ff8_0000_0000_0000n));
  });

  it('throw a TypeError for what is no number', () => {
    throwsPlain(() => Value.f32(1n as never), TypeError, 'x must be a number, got 1n');
    throwsPlain(() => Value.f64('1' as never), TypeError, 'x must be a number, got "1"');
  });
});

describe('Value.toNumber', () => {
  it('gives an i32 and a safe i64 as they are', () => {
    for (const n of [I32_MIN, -1, 0, I32_MAX]) assert.equal(Value.toNumber(Value.I32(n)), n);
    for (const n of [Number.MIN_SAFE_INTEGER, -1, 0, Number.MAX_SAFE_INTEGER]) {
      assert.equal(Value.toNumber(Value.I64(BigInt(n))), n);
    }
  });

  it('throws a RangeError for an i64 that no number can carry safely', () => {
    for (const n of [2n ** 53n, -(2n ** 53n), I64_MIN, I64_MAX]) {
      throwsPlain(
        () => Value.toNumber(Value.I64(n)),
        RangeError,
        `v.value must be a safe integer to become a number, got ${n}n`,
      );
    }
  });

  it('gives back every f32 and f64', () => {
    fc.assert(
      fc.property(fc.float(), (x) => assert.ok(Object.is(Value.toNumber(Value.f32(x)), x))),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.double(), (x) => assert.ok(Object.is(Value.toNumber(Value.f64(x)), x))),
      { numRuns: 1000 },
    );
  });

  it('gives NaN for every NaN', () => {
    assert.ok(Number.isNaN(Value.toNumber(Value.F32(SIGNALLING_F32))));
    assert.ok(Number.isNaN(Value.toNumber(Value.F64(SIGNALLING_F64))));
  });

  it('throws for what is no value', () => {
    const message = 'v.type must be one of "i32", "i64", "f32", "f64", got';
    throwsPlain(() => Value.toNumber(5 as never), TypeError, 'v must be a Value, got 5');
    throwsPlain(() => Value.toNumber(null as never), TypeError, 'v must be a Value, got null');
    throwsPlain(() => Value.toNumber({} as never), TypeError, `${message} undefined`);
    throwsPlain(() => Value.toNumber({ type: 'v128' } as never), TypeError, `${message} "v128"`);
    throwsPlain(
      () => Value.toNumber({ type: 'i32', value: 2 ** 40 }),
      RangeError,
      'v.value must be an integer from -2147483648 to 2147483647, got 1099511627776',
    );
    throwsPlain(
      () => Value.toNumber({ type: 'f64', bits: 5 as never }),
      TypeError,
      'v.bits must be a bigint from 0 to 2^64 - 1, the bits of an f64, got 5',
    );
  });
});

describe('the check of a value', () => {
  const good: Value[] = [
    { type: 'i32', value: I32_MIN },
    { type: 'i64', value: I64_MAX },
    { type: 'f32', bits: SIGNALLING_F32 },
    { type: 'f64', bits: SIGNALLING_F64 },
  ];

  it('takes literals and gives a plain copy', () => {
    for (const value of good) {
      checkValue(value, 'value');
      assert.deepEqual(toValue(Object.assign(Object.create(null), value, { extra: 1 }), 'value'), value);
    }
  });

  const bad: [value: unknown, path: string, rest: string][] = [
    [undefined, '', 'a Value, got undefined'],
    [7, '', 'a Value, got 7'],
    [() => {}, '', 'a Value, got a function'],
    [{}, '.type', 'one of "i32", "i64", "f32", "f64", got undefined'],
    [{ type: 'I32', value: 1 }, '.type', 'one of "i32", "i64", "f32", "f64", got "I32"'],
    [{ type: 'i32', value: 1n }, '.value', 'an integer from -2147483648 to 2147483647, got 1n'],
    [{ type: 'i32', bits: 1 }, '.value', 'an integer from -2147483648 to 2147483647, got undefined'],
    [{ type: 'i64', value: 1 }, '.value', 'a bigint from -2^63 to 2^63 - 1, got 1'],
    [
      { type: 'f32', value: 1.5 },
      '.bits',
      'an integer from 0 to 4294967295, the bits of an f32, got undefined',
    ],
    [{ type: 'f32', bits: -1 }, '.bits', 'an integer from 0 to 4294967295, the bits of an f32, got -1'],
    [{ type: 'f64', bits: 1.5 }, '.bits', 'a bigint from 0 to 2^64 - 1, the bits of an f64, got 1.5'],
  ];
  for (const [value, path, rest] of bad) {
    it(`says that ${path || 'it'} must be ${rest}`, () => {
      throwsArgument(() => checkValue(value, 'value'), `value${path}`, `value${path} must be ${rest}`);
      throwsArgument(
        () => toValues([Value.I32(1), value], 'args'),
        `args[1]${path}`,
        `args[1]${path} must be ${rest}`,
      );
    });
  }

  it('reads each property once, and uses what it read', () => {
    const reads: string[] = [];
    const shifty = {
      get type() {
        reads.push('type');
        return reads.length > 1 ? 'nonsense' : 'i32';
      },
      get value() {
        reads.push('value');
        return reads.length > 2 ? 'nonsense' : 5;
      },
      get bits() {
        return assert.fail('an i32 has no bits');
      },
    };
    assert.deepEqual(toValue(shifty, 'value'), { type: 'i32', value: 5 });
    assert.deepEqual(reads, ['type', 'value']);
  });

  it('lets what a getter throws through', () => {
    const thrown = new Error('mine');
    const value = {
      get type(): never {
        throw thrown;
      },
    };
    assert.throws(
      () => checkValue(value, 'value'),
      (error) => error === thrown,
    );
  });

  it('finds holes in a list', () => {
    // biome-ignore lint/suspicious/noSparseArray: that is the point
    const holey = [Value.I32(1), , Value.I32(2)];
    throwsArgument(() => toValues(holey, 'args'), 'args[1]', 'args[1] must be a Value, got undefined');
    throwsArgument(
      () => toValues(new Array(2 ** 32 - 1), 'args'),
      'args[0]',
      'args[0] must be a Value, got undefined',
    );
  });

  it('takes no list that is no array', () => {
    throwsArgument(() => toValues('ab', 'args'), 'args', 'args must be an array, got "ab"');
    throwsArgument(
      () => toValues(new Set(), 'args'),
      'args',
      'args must be an array, got an instance of Set',
    );
  });
});
