/**
 * The values that pass between a guest and its supervisor: their shape, constructors and checks. Floats
 * are represented by bit patterns and never by JavaScript numbers, which would quiet a signalling NaN
 * and may lose a NaN's payload. The contract is the section "Values" of the documentation; the wire
 * format is in `scale/`.
 */

import { argumentError, describe, list } from './arguments';

/**
 * The type of a {@link Value}: the number types of the WebAssembly specification ("Types", "Number Types").
 * Mirrors `sp_wasm_interface_common::ValueType`.
 */
export type ValueType = 'i32' | 'i64' | 'f32' | 'f64';

/**
 * A WebAssembly value. `i32` and `i64` are signed; `f32` and `f64` hold the IEEE 754 bit pattern as an
 * unsigned integer. Object literals of this shape are equivalent to the constructors of the constant
 * with the same name. Mirrors `sp_wasm_interface_common::Value`.
 *
 * @example
 * ```ts
 * const answer: Value = { type: 'i32', value: 42 };
 * instance.invoke('run', [answer, Value.f64(0.5)], supervisor);
 * ```
 */
export type Value =
  | {
      /** It is a 32-bit integer. */
      readonly type: 'i32';
      /** The integer, from -2^31 to 2^31 - 1. */
      readonly value: number;
    }
  | {
      /** It is a 64-bit integer. */
      readonly type: 'i64';
      /** The integer, from -2^63 to 2^63 - 1. */
      readonly value: bigint;
    }
  | {
      /** It is a 32-bit float. */
      readonly type: 'f32';
      /** Its IEEE 754 bit pattern, from 0 to 2^32 - 1. */
      readonly bits: number;
    }
  | {
      /** It is a 64-bit float. */
      readonly type: 'f64';
      /** Its IEEE 754 bit pattern, from 0 to 2^64 - 1. */
      readonly bits: bigint;
    };

/**
 * The shape of one type of {@link Value}.
 *
 * @example
 * ```ts
 * const gas: ValueOf<'i64'> = Value.I64(1000n);
 * ```
 */
export type ValueOf<T extends ValueType> = Extract<
  Value,
  {
    /** The type whose shape it is. */
    readonly type: T;
  }
>;

/**
 * Creates values, and converts them to numbers. A wrong type throws a `TypeError`. A number that is out
 * of range or has a fraction where it must not throws a `RangeError`. Both have the `code`
 * `ERR_SANDBOX_ARGUMENT`. Mirrors the variants of `sp_wasm_interface_common::Value`.
 *
 * @example
 * ```ts
 * const args = [Value.I32(42), Value.I64(1n << 40n), Value.f64(0.5)];
 * Value.toNumber(args[2]); // 0.5
 * ```
 */
export const Value = Object.freeze({
  /**
   * An i32.
   *
   * @param n - an integer from -2^31 to 2^31 - 1
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `n` is no number
   * @throws `RangeError` (`ERR_SANDBOX_ARGUMENT`) if it has a fraction or is out of range
   * @example
   * ```ts
   * Value.I32(-1); // { type: 'i32', value: -1 }
   * Value.I32(0xffff_ffff | 0); // the same, from an unsigned number
   * ```
   */
  I32(n: number): ValueOf<'i32'> {
    if (isInt32(n)) return { type: 'i32', value: n | 0 };
    throw payloadError('n', 'i32', n);
  },

  /**
   * An i64.
   *
   * @param n - a bigint from -2^63 to 2^63 - 1
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `n` is no bigint
   * @throws `RangeError` (`ERR_SANDBOX_ARGUMENT`) if it is out of range
   * @example
   * ```ts
   * Value.I64(-1n); // { type: 'i64', value: -1n }
   * Value.I64(BigInt.asIntN(64, 0xffff_ffff_ffff_ffffn)); // the same, from an unsigned bigint
   * ```
   */
  I64(n: bigint): ValueOf<'i64'> {
    if (isInt64(n)) return { type: 'i64', value: n };
    throw payloadError('n', 'i64', n);
  },

  /**
   * An f32 from its bit pattern. For an f32 from a number see `Value.f32`.
   *
   * @param bits - an integer from 0 to 2^32 - 1
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `bits` is no number
   * @throws `RangeError` (`ERR_SANDBOX_ARGUMENT`) if it has a fraction or is out of range
   * @example
   * ```ts
   * Value.F32(0x3fc0_0000); // 1.5
   * Value.F32(0x7fa0_0001); // a signalling NaN, which no JavaScript number can carry
   * ```
   */
  F32(bits: number): ValueOf<'f32'> {
    if (isUint32(bits)) return { type: 'f32', bits: bits >>> 0 };
    throw payloadError('bits', 'f32', bits);
  },

  /**
   * An f64 from its bit pattern. For an f64 from a number see `Value.f64`.
   *
   * @param bits - a bigint from 0 to 2^64 - 1
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `bits` is no bigint
   * @throws `RangeError` (`ERR_SANDBOX_ARGUMENT`) if it is out of range
   * @example
   * ```ts
   * Value.F64(0x3ff8_0000_0000_0000n); // 1.5
   * ```
   */
  F64(bits: bigint): ValueOf<'f64'> {
    if (isUint64(bits)) return { type: 'f64', bits };
    throw payloadError('bits', 'f64', bits);
  },

  /**
   * An f32 from a number, rounded to the nearest f32. A NaN becomes the canonical one, 0x7fc00000
   * (WebAssembly specification, "Values", "Floating-Point").
   *
   * @param x - any number
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `x` is no number
   * @example
   * ```ts
   * Value.f32(1.5); // { type: 'f32', bits: 0x3fc0_0000 }
   * ```
   */
  f32(x: number): ValueOf<'f32'> {
    return { type: 'f32', bits: bitsOfF32(float(x, 'x')) };
  },

  /**
   * An f64 from a number. A NaN becomes the canonical one, 0x7ff8000000000000 (WebAssembly
   * specification, "Values", "Floating-Point").
   *
   * @param x - any number
   * @returns the value, a new object
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `x` is no number
   * @example
   * ```ts
   * Value.f64(1.5); // { type: 'f64', bits: 0x3ff8_0000_0000_0000n }
   * ```
   */
  f64(x: number): ValueOf<'f64'> {
    return { type: 'f64', bits: bitsOfF64(float(x, 'x')) };
  },

  /**
   * The number that a value represents: for a float, the number itself, not its bits, so a NaN loses its
   * payload.
   *
   * @param v - a value; an i64 must be a safe integer
   * @returns the number
   * @throws `TypeError` (`ERR_SANDBOX_ARGUMENT`) if `v` is no value
   * @throws `RangeError` (`ERR_SANDBOX_ARGUMENT`) if its payload is out of range, or an i64 is no safe
   *   integer
   * @example
   * ```ts
   * Value.toNumber(Value.I64(42n)); // 42
   * Value.toNumber(Value.F32(0x3fc0_0000)); // 1.5
   * ```
   */
  toNumber(v: Value): number {
    if (typeof v !== 'object' || v === null) throw plainError(TypeError, 'v', 'a Value', v);
    const type: unknown = v.type;
    switch (type) {
      case 'i32': {
        const value = (v as ValueOf<'i32'>).value;
        if (isInt32(value)) return value | 0;
        throw payloadError('v.value', type, value);
      }
      case 'i64': {
        const value = (v as ValueOf<'i64'>).value;
        if (!isInt64(value)) throw payloadError('v.value', type, value);
        const number = Number(value);
        if (Number.isSafeInteger(number)) return number;
        throw plainError(RangeError, 'v.value', 'a safe integer to become a number', value);
      }
      case 'f32': {
        const bits = (v as ValueOf<'f32'>).bits;
        if (isUint32(bits)) return numberOfF32(bits);
        throw payloadError('v.bits', type, bits);
      }
      case 'f64': {
        const bits = (v as ValueOf<'f64'>).bits;
        if (isUint64(bits)) return numberOfF64(bits);
        throw payloadError('v.bits', type, bits);
      }
      default:
        throw plainError(TypeError, 'v.type', TYPE_EXPECTED, type);
    }
  },
});

/**
 * Checks that something is a {@link Value}.
 *
 * @throws ArgumentError naming the property at fault, such as `args[1].value`
 * @internal
 */
export function checkValue(value: unknown, name: string): asserts value is Value {
  toValue(value, name);
}

/**
 * Returns a checked copy of a value that a caller passed. Each property is read exactly once, so a
 * getter cannot return different values to the check and to the use.
 *
 * @param name - how the caller knows the value
 * @param index - its index, if `name` is that of an array; so the name `args[1]` is only built if it is
 *   needed
 * @throws ArgumentError naming the property at fault, such as `args[1].value`
 * @internal
 */
export function toValue(value: unknown, name: string, index?: number): Value {
  if (typeof value !== 'object' || value === null) {
    throw argumentError(pathOf(name, index), 'a Value', value);
  }
  const type = (value as { type?: unknown }).type;
  switch (type) {
    case 'i32': {
      const n = (value as { value?: unknown }).value;
      if (isInt32(n)) return { type, value: n | 0 };
      throw argumentError(`${pathOf(name, index)}.value`, PAYLOADS.i32.expected, n);
    }
    case 'i64': {
      const n = (value as { value?: unknown }).value;
      if (isInt64(n)) return { type, value: n };
      throw argumentError(`${pathOf(name, index)}.value`, PAYLOADS.i64.expected, n);
    }
    case 'f32': {
      const bits = (value as { bits?: unknown }).bits;
      if (isUint32(bits)) return { type, bits: bits >>> 0 };
      throw argumentError(`${pathOf(name, index)}.bits`, PAYLOADS.f32.expected, bits);
    }
    case 'f64': {
      const bits = (value as { bits?: unknown }).bits;
      if (isUint64(bits)) return { type, bits };
      throw argumentError(`${pathOf(name, index)}.bits`, PAYLOADS.f64.expected, bits);
    }
    default:
      throw argumentError(`${pathOf(name, index)}.type`, TYPE_EXPECTED, type);
  }
}

/**
 * Returns a copy of a list of values that a caller passed, checked like {@link toValue}.
 *
 * @internal
 */
export function toValues(values: unknown, name: string): Value[] {
  const source = list(values, name);
  const checked: Value[] = [];
  // By index, since an iterator would pass over holes or be the caller's own.
  for (let index = 0; index < source.length; index += 1) checked.push(toValue(source[index], name, index));
  return checked;
}

const TYPE_EXPECTED = 'one of "i32", "i64", "f32", "f64"';

/** The payload of each type: its JavaScript type, and its range in words. */
const PAYLOADS = {
  i32: { kind: 'number', expected: 'an integer from -2147483648 to 2147483647' },
  i64: { kind: 'bigint', expected: 'a bigint from -2^63 to 2^63 - 1' },
  f32: { kind: 'number', expected: 'an integer from 0 to 4294967295, the bits of an f32' },
  f64: { kind: 'bigint', expected: 'a bigint from 0 to 2^64 - 1, the bits of an f64' },
} as const;

// `|` and `>>>` would call `valueOf` of an object, so check the type first. -0 passes; callers convert
// it to 0.
function isInt32(n: unknown): n is number {
  return typeof n === 'number' && (n | 0) === n;
}

function isUint32(n: unknown): n is number {
  return typeof n === 'number' && n >>> 0 === n;
}

function isInt64(n: unknown): n is bigint {
  return typeof n === 'bigint' && BigInt.asIntN(64, n) === n;
}

function isUint64(n: unknown): n is bigint {
  return typeof n === 'bigint' && BigInt.asUintN(64, n) === n;
}

function float(x: unknown, name: string): number {
  if (typeof x === 'number') return x;
  throw plainError(TypeError, name, 'a number', x);
}

const CANONICAL_NAN_F32 = 0x7fc0_0000;
const CANONICAL_NAN_F64 = 0x7ff8_0000_0000_0000n;

/**
 * Converts between floats and their bits. No code of the caller runs between the write and the read.
 */
const float64 = new DataView(new ArrayBuffer(8));

// JavaScript does not specify with which bits a NaN is stored, hence the two constants.
function bitsOfF32(x: number): number {
  if (Number.isNaN(x)) return CANONICAL_NAN_F32;
  float64.setFloat32(0, x);
  return float64.getUint32(0);
}

function bitsOfF64(x: number): bigint {
  if (Number.isNaN(x)) return CANONICAL_NAN_F64;
  float64.setFloat64(0, x);
  return float64.getBigUint64(0);
}

function numberOfF32(bits: number): number {
  float64.setUint32(0, bits);
  return float64.getFloat32(0);
}

function numberOfF64(bits: bigint): number {
  float64.setBigUint64(0, bits);
  return float64.getFloat64(0);
}

function pathOf(name: string, index: number | undefined): string {
  return index === undefined ? name : `${name}[${index}]`;
}

function payloadError(name: string, type: ValueType, value: unknown): TypeError | RangeError {
  const { kind, expected } = PAYLOADS[type];
  return plainError(typeof value === kind ? RangeError : TypeError, name, expected, value);
}

/**
 * The constructors of values throw the same errors as JavaScript's own functions; the `code` shows that
 * they come from this package.
 */
function plainError<E extends TypeError | RangeError>(
  Class: new (message: string) => E,
  name: string,
  expected: string,
  value: unknown,
): E & { code: 'ERR_SANDBOX_ARGUMENT' } {
  const error = new Class(`${name} must be ${expected}, got ${describe(value)}`);
  return Object.assign(error, { code: 'ERR_SANDBOX_ARGUMENT' as const });
}
