// Return values, with and without gas.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Value } from '../../../lib/base/values';
import {
  decodeReturnValue,
  decodeWasmReturnValue,
  encodeReturnValue,
  encodeWasmReturnValue,
  type WasmReturnValue,
} from '../../../lib/gear/scale';
import { refusesArgument, refusesBytes } from './expect';
import { fromHex, toHex } from './hex';

describe('a return value', () => {
  const table: [value: Value | undefined, hex: string][] = [
    [undefined, '00'],
    [Value.I32(1), '01 00 01000000'],
    [Value.I64(-1n), '01 01 ffffffffffffffff'],
    [Value.F32(0xffff_ffff), '01 02 ffffffff'],
    [Value.F64(1n), '01 03 0100000000000000'],
  ];
  for (const [value, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeReturnValue(value)), hex.replaceAll(' ', ''));
      assert.deepEqual(decodeReturnValue(fromHex(hex)), value);
    });
  }

  it('is a value or undefined, not null or a number', () => {
    refusesArgument(() => encodeReturnValue(null as never), 'value', 'value must be a Value, got null');
    refusesArgument(() => encodeReturnValue(1 as never), 'value', 'value must be a Value, got 1');
  });

  const bad: [hex: string, message: string, offset: number][] = [
    ['', 'truncated: a return value takes 1 byte, 0 left', 0],
    ['02', 'unknown return value 2', 0],
    ['01', 'truncated: the type of a value takes 1 byte, 0 left', 1],
    ['01 04', 'unknown value type 4', 1],
    ['01 00 000000', 'truncated: an i32 takes 4 bytes, 3 left', 2],
  ];
  for (const [hex, message, offset] of bad) {
    it(`is refused as ${hex || 'nothing'}`, () => {
      refusesBytes(() => decodeReturnValue(fromHex(hex)), message, offset);
    });
  }
});

describe('a return value with gas', () => {
  const table: [result: WasmReturnValue, hex: string][] = [
    [{ gas: 7n, inner: undefined }, '0700000000000000 00'],
    [{ gas: -(2n ** 63n), inner: Value.I32(-1) }, '0000000000000080 01 00 ffffffff'],
    [{ gas: 2n ** 63n - 1n, inner: Value.F64(2n) }, 'ffffffffffffff7f 01 03 0200000000000000'],
  ];
  for (const [result, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeWasmReturnValue(result)), hex.replaceAll(' ', ''));
      assert.deepEqual(decodeWasmReturnValue(fromHex(hex)), result);
    });
  }

  it('needs gas that is an i64, and a value or undefined', () => {
    refusesArgument(() => encodeWasmReturnValue(5 as never), 'result', 'result must be an object, got 5');
    refusesArgument(
      () => encodeWasmReturnValue({ gas: 5 as never, inner: undefined }),
      'result.gas',
      'result.gas must be a bigint from -2^63 to 2^63 - 1, got 5',
    );
    refusesArgument(
      () => encodeWasmReturnValue({ gas: 2n ** 63n, inner: undefined }),
      'result.gas',
      'result.gas must be a bigint from -2^63 to 2^63 - 1, got 9223372036854775808n',
    );
    refusesArgument(
      () => encodeWasmReturnValue({ gas: 5n, inner: { type: 'i32', value: 0.5 } }),
      'result.inner.value',
      'result.inner.value must be an integer from -2147483648 to 2147483647, got 0.5',
    );
  });

  it('is refused without enough bytes', () => {
    refusesBytes(
      () => decodeWasmReturnValue(new Uint8Array(7)),
      'truncated: the gas takes 8 bytes, 7 left',
      0,
    );
    refusesBytes(
      () => decodeWasmReturnValue(new Uint8Array(8)),
      'truncated: a return value takes 1 byte, 0 left',
      8,
    );
  });
});
