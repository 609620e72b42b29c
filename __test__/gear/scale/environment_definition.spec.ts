// Environment definitions: the bytes of small ones by hand, names in Unicode, and what is refused.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  decodeEnvironmentDefinition,
  type EnvironmentDefinition,
  type EnvironmentEntry,
  encodeEnvironmentDefinition,
} from '../../../lib/gear/scale';
import { refusesArgument, refusesBytes } from './expect';
import { fromHex, toHex } from './hex';

function entry(
  moduleName: string,
  fieldName: string,
  kind: 'function' | 'memory',
  index: number,
): EnvironmentEntry {
  return { moduleName, fieldName, entity: { kind, index } };
}

describe('an environment definition', () => {
  const table: [entries: EnvironmentEntry[], hex: string][] = [
    [[], '00'],
    [[entry('', '', 'function', 0)], '04 00 00 01 00000000'],
    [[entry('env', 'f', 'function', 228)], '04 0c656e76 0466 01 e4000000'],
    [[entry('env', 'm', 'memory', 0xffff_ffff)], '04 0c656e76 046d 02 ffffffff'],
    [[entry('é', '🦀', 'memory', 1)], '04 08c3a9 10f09fa680 02 01000000'],
    [[entry('\ufeffa', '', 'memory', 1)], '04 10efbbbf61 00 02 01000000'],
    [[entry('x'.repeat(64), '', 'memory', 1)], '04 0101(78)*64 00 02 01000000'],
    [
      [entry('a', 'b', 'memory', 1), entry('a', 'b', 'function', 2)],
      '08 0461 0462 02 01000000 0461 0462 01 02000000',
    ],
  ];
  for (const [entries, hex] of table) {
    it(`is encoded as ${hex}`, () => {
      assert.equal(toHex(encodeEnvironmentDefinition({ entries })), toHex(fromHex(hex)));
      assert.deepEqual(decodeEnvironmentDefinition(fromHex(hex)), { entries });
    });
  }

  const good = entry('env', 'f', 'function', 1);
  const badArguments: [definition: unknown, argument: string, rest: string][] = [
    [null, 'definition', 'an object, got null'],
    [{}, 'definition.entries', 'an array, got undefined'],
    // biome-ignore lint/suspicious/noSparseArray: a hole must not pass
    [{ entries: [good, , good] }, 'definition.entries[1]', 'an object, got undefined'],
    [{ entries: [good, 5] }, 'definition.entries[1]', 'an object, got 5'],
    [{ entries: [{ ...good, moduleName: 5 }] }, 'definition.entries[0].moduleName', 'a string, got 5'],
    [
      { entries: [{ ...good, fieldName: 'a\udc00' }] },
      'definition.entries[0].fieldName',
      'a string without lone surrogates, got "a\\udc00"',
    ],
    [
      { entries: [{ ...good, entity: undefined }] },
      'definition.entries[0].entity',
      'an object, got undefined',
    ],
    [
      { entries: [{ ...good, entity: { kind: 'table', index: 1 } }] },
      'definition.entries[0].entity.kind',
      'one of "function", "memory", got "table"',
    ],
    [
      { entries: [{ ...good, entity: { kind: 'memory', index: -1 } }] },
      'definition.entries[0].entity.index',
      'an integer from 0 to 4294967295, got -1',
    ],
  ];
  for (const [definition, argument, rest] of badArguments) {
    it(`needs ${argument} to be ${rest}`, () => {
      refusesArgument(
        () => encodeEnvironmentDefinition(definition as EnvironmentDefinition),
        argument,
        `${argument} must be ${rest}`,
      );
    });
  }

  const badBytes: [hex: string, message: string, offset: number][] = [
    ['', 'truncated: a list of entries takes 1 byte, 0 left', 0],
    ['04', 'truncated: a list of entries of length 1 takes at least 7 bytes, 0 left', 1],
    ['04 00 00 00 00000000', 'unknown kind of entity 0', 3],
    ['04 00 00 03 00000000', 'unknown kind of entity 3', 3],
    ['04 0461 00 01 000000', 'truncated: a function index takes 4 bytes, 3 left', 5],
    ['04 ac61 00 01 00000000', 'truncated: a module name of length 43 takes at least 43 bytes, 7 left', 2],
    [
      '04 00 03ffffffff 00',
      'truncated: a field name of length 4294967295 takes at least 4294967295 bytes, 1 left',
      7,
    ],
    ['04 0500 61 00 01 0000', 'a module name has a length that is not in its shortest form', 1],
    ['04 04ff 00 01 00000000', 'invalid UTF-8 in a module name', 2],
    ['04 00 0ceda080 01 00000000', 'invalid UTF-8 in a field name', 3],
  ];
  for (const [hex, message, offset] of badBytes) {
    it(`is refused as ${hex || 'nothing'}`, () => {
      refusesBytes(() => decodeEnvironmentDefinition(fromHex(hex)), message, offset);
    });
  }

  it('may have 20,000 entries', () => {
    const entries = Array.from({ length: 20_000 }, (_, index) =>
      entry('env', `f${index}`, 'function', index),
    );
    const bytes = encodeEnvironmentDefinition({ entries });
    assert.equal(toHex(bytes.subarray(0, 4)), '82380100');
    assert.deepEqual(decodeEnvironmentDefinition(bytes), { entries });
  });
});
