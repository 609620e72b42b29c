// Lists of values: the bytes of small ones by hand, and what is said about bad values and bad bytes.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Value } from '../../../lib/base/values';
import { decodeValues, encodeValues } from '../../../lib/gear/scale';
import { refusesArgument, refusesBytes } from './expect';
import { fromHex, toHex } from './hex';

const table: [values: Value[], hex: string][] = [
  [[], '00'],
  [[Value.I32(1)], '04 00 01000000'],
  [[Value.I32(-2)], '04 00 feffffff'],
  [[Value.I64(-2n)], '04 01 feffffffffffffff'],
  [[Value.F32(0x7fa0_0001)], '04 02 0100a07f'],
  [[Value.F64(0x7ff4_0000_0000_0001n)], '04 03 010000000000f47f'],
  [[Value.f32(1.5), Value.f64(1.5)], '08 02 0000c03f 03 000000000000f83f'],
];

describe('a list of values', () => {
  for (const [values, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeValues(values)), hex.replaceAll(' ', ''));
      assert.deepEqual(decodeValues(fromHex(hex)), values);
    });
  }

  it('is encoded from what was read first, though a getter changes its mind and the list', () => {
    const values: Value[] = [];
    let reads = 0;
    values.push({
      type: 'i32',
      get value() {
        reads += 1;
        values.push(Value.I32(9));
        return reads;
      },
    });
    assert.equal(toHex(encodeValues(values)), '0800010000000009000000');
    assert.equal(reads, 1);
  });

  it('takes no array of anything else', () => {
    refusesArgument(() => encodeValues('x' as never), 'values', 'values must be an array, got "x"');
    refusesArgument(() => encodeValues([1] as never), 'values[0]', 'values[0] must be a Value, got 1');
    refusesArgument(
      () => encodeValues([Value.I32(1), { type: 'i64', value: 1 as never }]),
      'values[1].value',
      'values[1].value must be a bigint from -2^63 to 2^63 - 1, got 1',
    );
    refusesArgument(
      () => encodeValues([{ type: 'f32', bits: 0.5 }]),
      'values[0].bits',
      'values[0].bits must be an integer from 0 to 4294967295, the bits of an f32, got 0.5',
    );
  });

  const bad: [hex: string, message: string, offset: number][] = [
    ['', 'truncated: a list of values takes 1 byte, 0 left', 0],
    ['01', 'truncated: a list of values takes 1 byte, 0 left', 1],
    ['04', 'truncated: a list of values of length 1 takes at least 5 bytes, 0 left', 1],
    ['04 00 010000', 'truncated: a list of values of length 1 takes at least 5 bytes, 4 left', 1],
    ['04 01 01000000', 'truncated: an i64 takes 8 bytes, 4 left', 2],
    ['04 04 01000000', 'unknown value type 4', 1],
    ['08 00 01000000 ff 01000000', 'unknown value type 255', 6],
    ['01 00', 'a list of values has a length that is not in its shortest form', 0],
    ['fe ff 00 00', 'a list of values has a length that is not in its shortest form', 0],
    ['03 ff ff ff 3f', 'a list of values has a length that is not in its shortest form', 0],
    ['07 00 00 00 00 01', 'a list of values has a length beyond 32 bits', 0],
    [
      '03 ff ff ff ff',
      'truncated: a list of values of length 4294967295 takes at least 21474836475 bytes, 0 left',
      5,
    ],
  ];
  for (const [hex, message, offset] of bad) {
    it(`is refused as ${hex || 'nothing'}`, () => {
      refusesBytes(() => decodeValues(fromHex(hex)), message, offset);
    });
  }

  it('is decoded from any buffer source', () => {
    const { buffer } = fromHex('04 00 01000000 0000');
    const expected = [Value.I32(1)];
    assert.deepEqual(decodeValues(buffer), expected);
    assert.deepEqual(decodeValues(new DataView(buffer)), expected);
    assert.deepEqual(decodeValues(new BigInt64Array(buffer)), expected);
    assert.deepEqual(decodeValues(Buffer.from(buffer)), expected);
  });

  it('is not decoded from what has no bytes', () => {
    const message = 'bytes must be a buffer or a view of one, not detached, got';
    refusesArgument(() => decodeValues('0400' as never), 'bytes', `${message} "0400"`);
    const detached = new Uint8Array(3);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    refusesArgument(() => decodeValues(detached), 'bytes', `${message} a detached Uint8Array`);
  });

  it('costs no memory for a length that only claims to be large', () => {
    const bytes = fromHex('fe ff ff ff (0001000000)*1000');
    const start = process.memoryUsage().heapUsed;
    for (let round = 0; round < 1000; round += 1) assert.throws(() => decodeValues(bytes));
    assert.ok(process.memoryUsage().heapUsed - start < 64 * 2 ** 20);
  });
});
