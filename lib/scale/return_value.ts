/**
 * `ReturnValue` of `sp-wasm-interface-common`, what a function returns, and `WasmReturnValue` of
 * `gear-sandbox-env`, which has the remaining gas before it. `undefined` stands for `ReturnValue::Unit`. The
 * bytes of a `ReturnValue` are also those of an `Option<Value>`.
 */

import { type BufferSource, int64, object } from '../arguments';
import { toValue, type Value } from '../values';
import { Reader } from './reader';
import { readValue, sizeOfValue, writeValue } from './value';
import { Writer } from './writer';

/** What a function returns under `Instantiate.Version2`. */
export interface WasmReturnValue {
  /** The gas that is left, an i64: the new value of the guest's global `gear_gas`. */
  readonly gas: bigint;
  /** The value, or undefined for a function that returns nothing. */
  readonly inner: Value | undefined;
}

/** The first byte of a return value: the index of the variant in the Rust enum. */
const UNIT = 0;
const VALUE = 1;

/**
 * Encodes a `ReturnValue`.
 *
 * @param value - undefined for a function that returns nothing
 * @throws ArgumentError if that is no value
 * @example
 * ```ts
 * codec.encodeReturnValue(undefined); // 00
 * codec.encodeReturnValue(Value.I32(1)); // 01 00 01000000
 * ```
 */
export function encodeReturnValue(value: Value | undefined): Uint8Array<ArrayBuffer> {
  const checked = toReturnValue(value, 'value');
  const writer = new Writer(sizeOfReturnValue(checked));
  writeReturnValue(writer, checked);
  return writer.bytes;
}

/**
 * Decodes a `ReturnValue`. Bytes after it are ignored, as the reference does.
 *
 * @throws CodecError if the bytes are truncated or unknown
 * @example
 * ```ts
 * codec.decodeReturnValue(Uint8Array.of(0)); // undefined
 * ```
 */
export function decodeReturnValue(bytes: BufferSource): Value | undefined {
  return readReturnValue(new Reader(bytes));
}

/**
 * Encodes a `WasmReturnValue`.
 *
 * @throws ArgumentError if `gas` is no i64 or `inner` no value
 * @example
 * ```ts
 * codec.encodeWasmReturnValue({ gas: 7n, inner: undefined }); // 0700000000000000 00
 * ```
 */
export function encodeWasmReturnValue(result: WasmReturnValue): Uint8Array<ArrayBuffer> {
  const { gas, inner } = object(result, 'result');
  const checked = { gas: int64(gas, 'result.gas'), inner: toReturnValue(inner, 'result.inner') };
  const writer = new Writer(sizeOfWasmReturnValue(checked));
  writeWasmReturnValue(writer, checked);
  return writer.bytes;
}

/**
 * Decodes a `WasmReturnValue`. Bytes after it are ignored, as the reference does.
 *
 * @throws CodecError if the bytes are truncated or unknown
 * @example
 * ```ts
 * codec.decodeWasmReturnValue(Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0, 0)); // { gas: 7n, inner: undefined }
 * ```
 */
export function decodeWasmReturnValue(bytes: BufferSource): WasmReturnValue {
  return readWasmReturnValue(new Reader(bytes));
}

/** Checks a value that may be undefined, like {@link toValue}. */
export function toReturnValue(value: unknown, name: string): Value | undefined {
  return value === undefined ? undefined : toValue(value, name);
}

/** Reads a return value. */
export function readReturnValue(reader: Reader): Value | undefined {
  const start = reader.offset;
  const variant = reader.byte('a return value');
  switch (variant) {
    case UNIT:
      return undefined;
    case VALUE:
      return readValue(reader);
    default:
      throw reader.error(`unknown return value ${variant}`, start);
  }
}

/** Writes a return value that is checked already. */
export function writeReturnValue(writer: Writer, value: Value | undefined): void {
  if (value === undefined) {
    writer.byte(UNIT);
  } else {
    writer.byte(VALUE);
    writeValue(writer, value);
  }
}

/** How many bytes {@link writeReturnValue} takes. */
export function sizeOfReturnValue(value: Value | undefined): number {
  return value === undefined ? 1 : 1 + sizeOfValue(value);
}

/** Reads a return value with its gas. */
export function readWasmReturnValue(reader: Reader): WasmReturnValue {
  const gas = reader.int64('the gas');
  return { gas, inner: readReturnValue(reader) };
}

/** Writes a return value with its gas, checked already. */
export function writeWasmReturnValue(writer: Writer, { gas, inner }: WasmReturnValue): void {
  writer.bits64(gas);
  writeReturnValue(writer, inner);
}

/** How many bytes {@link writeWasmReturnValue} takes. */
export function sizeOfWasmReturnValue({ inner }: WasmReturnValue): number {
  return 8 + sizeOfReturnValue(inner);
}
