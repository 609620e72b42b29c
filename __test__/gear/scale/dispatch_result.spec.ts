// The answers of a dispatch thunk, in both versions.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Value } from '../../../lib/base/values';
import {
  type DispatchResult,
  type DispatchResultV2,
  decodeDispatchResult,
  decodeDispatchResultV2,
  encodeDispatchResult,
  encodeDispatchResultV2,
} from '../../../lib/gear/scale';
import { refusesArgument, refusesBytes } from './expect';
import { fromHex, toHex } from './hex';

describe('a dispatch result', () => {
  const table: [result: DispatchResult, hex: string][] = [
    [{ ok: false }, '01'],
    [{ ok: true, value: undefined }, '00 00'],
    [{ ok: true, value: Value.I32(1) }, '00 01 00 01000000'],
    [{ ok: true, value: Value.F64(0x7ff4_0000_0000_0001n) }, '00 01 03 010000000000f47f'],
  ];
  for (const [result, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeDispatchResult(result)), hex.replaceAll(' ', ''));
      assert.deepEqual(decodeDispatchResult(fromHex(hex)), result);
    });
  }

  it('needs to say whether it is ok', () => {
    refusesArgument(
      () => encodeDispatchResult({} as never),
      'result.ok',
      'result.ok must be a boolean, got undefined',
    );
    refusesArgument(
      () => encodeDispatchResult(undefined as never),
      'result',
      'result must be an object, got undefined',
    );
    refusesArgument(
      () => encodeDispatchResult({ ok: true, value: { type: 'i32', value: 1n as never } }),
      'result.value.value',
      'result.value.value must be an integer from -2147483648 to 2147483647, got 1n',
    );
  });

  const bad: [hex: string, message: string, offset: number][] = [
    ['', 'truncated: a result takes 1 byte, 0 left', 0],
    ['02 00', 'unknown result 2', 0],
    ['00', 'truncated: a return value takes 1 byte, 0 left', 1],
    ['00 03', 'unknown return value 3', 1],
    ['00 01 09', 'unknown value type 9', 2],
  ];
  for (const [hex, message, offset] of bad) {
    it(`is refused as ${hex || 'nothing'}`, () => {
      refusesBytes(() => decodeDispatchResult(fromHex(hex)), message, offset);
    });
  }
});

describe('a dispatch result of version 2', () => {
  const table: [result: DispatchResultV2, hex: string][] = [
    [{ ok: false }, '01'],
    [{ ok: true, gas: 7n, value: undefined }, '00 0700000000000000 00'],
    [{ ok: true, gas: -1n, value: Value.I32(1) }, '00 ffffffffffffffff 01 00 01000000'],
  ];
  for (const [result, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeDispatchResultV2(result)), hex.replaceAll(' ', ''));
      assert.deepEqual(decodeDispatchResultV2(fromHex(hex)), result);
    });
  }

  it('needs gas if it is ok', () => {
    refusesArgument(
      () => encodeDispatchResultV2({ ok: true, value: undefined } as never),
      'result.gas',
      'result.gas must be a bigint from -2^63 to 2^63 - 1, got undefined',
    );
    refusesArgument(
      () => encodeDispatchResultV2({ ok: 1 } as never),
      'result.ok',
      'result.ok must be a boolean, got 1',
    );
  });

  it('is refused without enough bytes', () => {
    refusesBytes(
      () => decodeDispatchResultV2(fromHex('00 07')),
      'truncated: the gas takes 8 bytes, 1 left',
      1,
    );
    refusesBytes(
      () => decodeDispatchResultV2(fromHex('00 0700000000000000 05')),
      'unknown return value 5',
      9,
    );
  });
});
