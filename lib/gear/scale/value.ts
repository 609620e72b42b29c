/**
 * `Value` and `Vec<Value>` of `sp-wasm-interface-common`: the arguments of a supervisor call.
 * A value is one byte for its type and 4 or 8 bytes, little endian, for its bits.
 */

import type { BufferSource } from '../../base/arguments';
import { toValues, type Value } from '../../base/values';
import { Reader } from './reader';
import { sizeOfLength, Writer } from './writer';

/** The first byte of a value: the index of the variant in the Rust enum. */
const I32 = 0;
const I64 = 1;
const F32 = 2;
const F64 = 3;

/** The size of the smallest value. */
const LEAST_BYTES = 5;

/**
 * Encodes a `Vec<Value>` of `sp_wasm_interface_common::Value`, as the arguments of a supervisor call are.
 *
 * @param values - any number of values
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `values` is no array of values
 * @example
 * ```ts
 * codec.encodeValues([Value.I32(1)]); // 04 00 01000000
 * ```
 */
export function encodeValues(values: readonly Value[]): Uint8Array<ArrayBuffer> {
  const checked = toValues(values, 'values');
  let size = sizeOfLength(checked.length);
  for (const value of checked) size += sizeOfValue(value);
  const writer = new Writer(size);
  writer.length(checked.length);
  for (const value of checked) writeValue(writer, value);
  return writer.bytes;
}

/**
 * Decodes a `Vec<Value>` of `sp_wasm_interface_common::Value`. Bytes after it are ignored, as the
 * reference does.
 *
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns the values
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
 * @example
 * ```ts
 * codec.decodeValues(Uint8Array.of(4, 0, 1, 0, 0, 0)); // [{ type: 'i32', value: 1 }]
 * ```
 */
export function decodeValues(bytes: BufferSource): Value[] {
  const reader = new Reader(bytes);
  const values: Value[] = [];
  for (let remaining = reader.length('a list of values', LEAST_BYTES); remaining > 0; remaining -= 1) {
    values.push(readValue(reader));
  }
  return values;
}

/** Reads one value. */
export function readValue(reader: Reader): Value {
  const start = reader.offset;
  const type = reader.byte('the type of a value');
  switch (type) {
    case I32:
      return { type: 'i32', value: reader.int32('an i32') };
    case I64:
      return { type: 'i64', value: reader.int64('an i64') };
    case F32:
      return { type: 'f32', bits: reader.uint32('an f32') };
    case F64:
      return { type: 'f64', bits: reader.uint64('an f64') };
    default:
      throw reader.error(`unknown value type ${type}`, start);
  }
}

/** Writes a value that has been checked. */
export function writeValue(writer: Writer, value: Value): void {
  switch (value.type) {
    case 'i32':
      writer.byte(I32);
      writer.bits32(value.value);
      break;
    case 'i64':
      writer.byte(I64);
      writer.bits64(value.value);
      break;
    case 'f32':
      writer.byte(F32);
      writer.bits32(value.bits);
      break;
    case 'f64':
      writer.byte(F64);
      writer.bits64(value.bits);
      break;
  }
}

/** The number of bytes that {@link writeValue} writes. */
export function sizeOfValue(value: Value): number {
  return value.type === 'i32' || value.type === 'f32' ? 5 : 9;
}
