/**
 * `ReturnValue` of `sp-wasm-interface-common`, the result of a function, and `WasmReturnValue` of
 * `gear-sandbox-env`, which has the remaining gas before it. `undefined` represents `ReturnValue::Unit`.
 * The encoding of a `ReturnValue` is the same as that of an `Option<Value>`.
 */

import { type BufferSource, int64, object } from '../../base/arguments';
import { toValue, type Value } from '../../base/values';
import { Reader } from './reader';
import { readValue, sizeOfValue, writeValue } from './value';
import { Writer } from './writer';

/** What a function returns under `Instantiate.Version2`. Mirrors `gear_sandbox_env::WasmReturnValue`. */
export interface WasmReturnValue {
  /** The remaining gas, an i64: the new value of the guest's global `gear_gas`. */
  readonly gas: bigint;
  /** The value, or undefined for a function that returns nothing. */
  readonly inner: Value | undefined;
}

/** The first byte of a return value: the index of the variant in the Rust enum. */
const UNIT = 0;
const VALUE = 1;

/**
 * Encodes a `sp_wasm_interface_common::ReturnValue`. The bytes of an `Option<Value>` are the same.
 *
 * @param value - a value, or undefined for a function that returns nothing
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `value` is neither undefined nor a value
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
 * Decodes a `sp_wasm_interface_common::ReturnValue`. Bytes after it are ignored, as the reference does.
 *
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns the value, or undefined for a function that returns nothing
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
 * @example
 * ```ts
 * codec.decodeReturnValue(Uint8Array.of(0)); // undefined
 * ```
 */
export function decodeReturnValue(bytes: BufferSource): Value | undefined {
  return readReturnValue(new Reader(bytes));
}

/**
 * Encodes a `gear_sandbox_env::WasmReturnValue`.
 *
 * @param result - what a function returns, with the remaining gas
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `gas` is no i64, or `inner` neither
 *   undefined nor a value
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
 * Decodes a `gear_sandbox_env::WasmReturnValue`. Bytes after it are ignored, as the reference does.
 *
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns what a function returns, with the remaining gas
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
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

/** Writes a return value that has been checked. */
export function writeReturnValue(writer: Writer, value: Value | undefined): void {
  if (value === undefined) {
    writer.byte(UNIT);
  } else {
    writer.byte(VALUE);
    writeValue(writer, value);
  }
}

/** The number of bytes that {@link writeReturnValue} writes. */
export function sizeOfReturnValue(value: Value | undefined): number {
  return value === undefined ? 1 : 1 + sizeOfValue(value);
}

/** Reads a return value with its gas. */
export function readWasmReturnValue(reader: Reader): WasmReturnValue {
  const gas = reader.int64('the gas');
  return { gas, inner: readReturnValue(reader) };
}

/** Writes a return value with its gas, both of which have been checked. */
export function writeWasmReturnValue(writer: Writer, { gas, inner }: WasmReturnValue): void {
  writer.bits64(gas);
  writeReturnValue(writer, inner);
}

/** The number of bytes that {@link writeWasmReturnValue} writes. */
export function sizeOfWasmReturnValue({ inner }: WasmReturnValue): number {
  return 8 + sizeOfReturnValue(inner);
}
