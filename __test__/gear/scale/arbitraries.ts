// Random values of every type of the codec, each with its pair of functions, for property tests.
import fc from 'fast-check';
import type { Value } from '../../../lib/base/values';
import * as codec from '../../../lib/gear/scale';

/** A type of the codec. */
export interface Codec<T> {
  readonly name: string;
  readonly encode: (value: T) => Uint8Array;
  readonly decode: (bytes: Uint8Array) => T;
  readonly arbitrary: fc.Arbitrary<T>;
}

/** Plain objects; fast-check would also make ones without a prototype, which never equal decoded ones. */
function record<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

// `fc.integer` and `fc.bigInt` favour the ends of their ranges; all float bits means all NaN payloads, too.
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const nanF32 = fc.integer({ min: 0, max: 2 ** 23 - 1 }).map((payload) => (0x7f80_0000 | payload) >>> 0);
const nanF64 = fc.bigInt({ min: 0n, max: 2n ** 52n - 1n }).map((payload) => 0xfff0_0000_0000_0000n | payload);

export const value: fc.Arbitrary<Value> = fc.oneof(
  record({ type: fc.constant('i32' as const), value: i32 }),
  record({ type: fc.constant('i64' as const), value: i64 }),
  record({ type: fc.constant('f32' as const), bits: fc.oneof(u32, nanF32) }),
  record({ type: fc.constant('f64' as const), bits: fc.oneof(u64, nanF64) }),
);
const returned = fc.option(value, { nil: undefined });

const failed = fc.constant({ ok: false as const });
const ok = fc.constant(true as const);

/** Names of any Unicode text, now and then so long that their length takes more than one byte. */
const name = fc.oneof(
  { weight: 8, arbitrary: fc.string({ unit: 'binary' }) },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', minLength: 60, maxLength: 80 }) },
);
const entity = record({ kind: fc.constantFrom('function' as const, 'memory' as const), index: u32 });

function typed<T>(entry: Codec<T>): Codec<unknown> {
  return entry as unknown as Codec<unknown>;
}

/** All types of the codec. */
export const codecs: readonly Codec<unknown>[] = [
  typed<readonly Value[]>({
    name: 'values',
    encode: codec.encodeValues,
    decode: codec.decodeValues,
    arbitrary: fc.oneof(fc.array(value), fc.array(value, { minLength: 60, maxLength: 70 })),
  }),
  typed<Value | undefined>({
    name: 'a return value',
    encode: codec.encodeReturnValue,
    decode: codec.decodeReturnValue,
    arbitrary: returned,
  }),
  typed<codec.WasmReturnValue>({
    name: 'a return value with gas',
    encode: codec.encodeWasmReturnValue,
    decode: codec.decodeWasmReturnValue,
    arbitrary: record({ gas: i64, inner: returned }),
  }),
  typed<codec.DispatchResult>({
    name: 'a dispatch result',
    encode: codec.encodeDispatchResult,
    decode: codec.decodeDispatchResult,
    arbitrary: fc.oneof(failed, record({ ok, value: returned })),
  }),
  typed<codec.DispatchResultV2>({
    name: 'a dispatch result of version 2',
    encode: codec.encodeDispatchResultV2,
    decode: codec.decodeDispatchResultV2,
    arbitrary: fc.oneof(failed, record({ ok, gas: i64, value: returned })),
  }),
  typed<codec.EnvironmentDefinition>({
    name: 'an environment definition',
    encode: codec.encodeEnvironmentDefinition,
    decode: codec.decodeEnvironmentDefinition,
    arbitrary: record({ entries: fc.array(record({ moduleName: name, fieldName: name, entity })) }),
  }),
];
