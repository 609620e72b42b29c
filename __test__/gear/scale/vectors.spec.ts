// The codec against `vectors/scale.json`, which the real crate made: crate/tests/scale_vectors.rs guards that
// file.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CodecError } from '../../../lib/base/errors';
import * as codec from '../../../lib/gear/scale';
import { fromHex, toHex } from './hex';

interface Vector {
  name: string;
  type: keyof typeof functions;
  hex: string;
  /** The decoded value, or "refused"; 64-bit numbers are decimal strings, and null is undefined. */
  value: unknown;
  /** Only in cases for decoding: how many bytes after the value the crate left unread. */
  unread?: number;
}

const functions = {
  Values: { encode: codec.encodeValues, decode: codec.decodeValues },
  ReturnValue: { encode: codec.encodeReturnValue, decode: codec.decodeReturnValue },
  WasmReturnValue: { encode: codec.encodeWasmReturnValue, decode: codec.decodeWasmReturnValue },
  DispatchResult: { encode: codec.encodeDispatchResult, decode: codec.decodeDispatchResult },
  DispatchResultV2: { encode: codec.encodeDispatchResultV2, decode: codec.decodeDispatchResultV2 },
  EnvironmentDefinition: {
    encode: codec.encodeEnvironmentDefinition,
    decode: codec.decodeEnvironmentDefinition,
  },
};

const path = join(__dirname, '..', '..', 'vectors', 'scale.json');
const vectors: Vector[] = JSON.parse(readFileSync(path, 'utf8')).cases;

for (const type of Object.keys(functions) as (keyof typeof functions)[]) {
  const { encode, decode } = functions[type] as {
    encode: (value: unknown) => Uint8Array;
    decode: (bytes: Uint8Array) => unknown;
  };

  describe(type, () => {
    const cases = vectors.filter((vector) => vector.type === type);

    it('has vectors of each kind', () => {
      assert.ok(cases.filter(({ unread }) => unread === undefined).length >= 15);
      assert.ok(cases.filter(({ unread }) => unread !== undefined).length >= 5);
      assert.ok(cases.filter(({ value }) => value === 'refused').length >= 5);
    });

    for (const [index, { name, hex, value, unread }] of cases.entries()) {
      const bytes = fromHex(hex);

      if (value === 'refused') {
        it(`refuses ${name} (${index})`, () => {
          assert.throws(() => decode(bytes), CodecError);
        });
        continue;
      }

      it(`decodes ${name} (${index})`, () => {
        assert.deepEqual(decode(bytes), revive(value));
      });

      it(`encodes ${name} (${index})`, () => {
        const complete = bytes.subarray(0, bytes.length - (unread ?? 0));
        assert.equal(toHex(encode(revive(value))), toHex(complete));
      });
    }
  });
}

/** Turns the JSON of the vectors into what the codec takes and gives. */
function revive(json: unknown): unknown {
  if (json === null) return undefined;
  if (typeof json !== 'object') return json;
  if (Array.isArray(json)) return json.map(revive);
  const { each, times } = json as { each?: unknown; times?: number };
  if (times !== undefined) return new Array(times).fill(revive(each));
  const entries = Object.entries(json).map(([key, field]) => [key, reviveField(json, key, field)]);
  return Object.fromEntries(entries);
}

function reviveField(holder: object, key: string, field: unknown): unknown {
  const { type } = holder as { type?: unknown };
  const is64 = key === 'gas' || (key === 'value' && type === 'i64') || (key === 'bits' && type === 'f64');
  return is64 ? BigInt(field as string) : revive(field);
}
