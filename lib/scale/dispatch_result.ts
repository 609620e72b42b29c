/**
 * What a supervisor's dispatch thunk answers: `Result<ReturnValue, HostError>` under `Instantiate.Version1`,
 * and `Result<WasmReturnValue, HostError>` under `Instantiate.Version2`. `HostError` carries nothing, so its
 * encoding is the one byte that says "error".
 */

import { type BufferSource, boolean, int64, object } from '../arguments';
import type { Value } from '../values';
import { Reader } from './reader';
import {
  readReturnValue,
  readWasmReturnValue,
  sizeOfReturnValue,
  sizeOfWasmReturnValue,
  toReturnValue,
  writeReturnValue,
  writeWasmReturnValue,
} from './return_value';
import { Writer } from './writer';

/** The answer to a supervisor call: a value, undefined for none, or a `HostError`, which traps the guest. */
export type DispatchResult =
  | { readonly ok: true; readonly value: Value | undefined }
  | { readonly ok: false };

/** The answer to a supervisor call under `Instantiate.Version2`, with the gas that is left. */
export type DispatchResultV2 =
  | { readonly ok: true; readonly gas: bigint; readonly value: Value | undefined }
  | { readonly ok: false };

/** The first byte of a result, as `parity-scale-codec` has it for Rust's `Result`. */
const OK = 0;
const ERROR = 1;

/**
 * Encodes a `Result<ReturnValue, HostError>`.
 *
 * @throws ArgumentError if that is no result
 * @example
 * ```ts
 * codec.encodeDispatchResult({ ok: true, value: Value.I32(1) }); // 00 01 00 01000000
 * codec.encodeDispatchResult({ ok: false }); // 01
 * ```
 */
export function encodeDispatchResult(result: DispatchResult): Uint8Array<ArrayBuffer> {
  const fields = object(result, 'result');
  if (!boolean(fields.ok, 'result.ok')) return hostError();
  const value = toReturnValue(fields.value, 'result.value');
  const writer = new Writer(1 + sizeOfReturnValue(value));
  writer.byte(OK);
  writeReturnValue(writer, value);
  return writer.bytes;
}

/**
 * Decodes a `Result<ReturnValue, HostError>`. Bytes after it are ignored, as the reference does.
 *
 * @throws CodecError if the bytes are truncated or unknown
 * @example
 * ```ts
 * codec.decodeDispatchResult(Uint8Array.of(0, 0)); // { ok: true, value: undefined }
 * ```
 */
export function decodeDispatchResult(bytes: BufferSource): DispatchResult {
  const reader = new Reader(bytes);
  return readOk(reader) ? { ok: true, value: readReturnValue(reader) } : { ok: false };
}

/**
 * Encodes a `Result<WasmReturnValue, HostError>`.
 *
 * @throws ArgumentError if that is no result
 * @example
 * ```ts
 * codec.encodeDispatchResultV2({ ok: true, gas: 7n, value: undefined }); // 00 0700000000000000 00
 * ```
 */
export function encodeDispatchResultV2(result: DispatchResultV2): Uint8Array<ArrayBuffer> {
  const fields = object(result, 'result');
  if (!boolean(fields.ok, 'result.ok')) return hostError();
  const gas = int64(fields.gas, 'result.gas');
  const inner = toReturnValue(fields.value, 'result.value');
  const writer = new Writer(1 + sizeOfWasmReturnValue({ gas, inner }));
  writer.byte(OK);
  writeWasmReturnValue(writer, { gas, inner });
  return writer.bytes;
}

/**
 * Decodes a `Result<WasmReturnValue, HostError>`. Bytes after it are ignored, as the reference does.
 *
 * @throws CodecError if the bytes are truncated or unknown
 * @example
 * ```ts
 * codec.decodeDispatchResultV2(Uint8Array.of(1)); // { ok: false }
 * ```
 */
export function decodeDispatchResultV2(bytes: BufferSource): DispatchResultV2 {
  const reader = new Reader(bytes);
  if (!readOk(reader)) return { ok: false };
  const { gas, inner } = readWasmReturnValue(reader);
  return { ok: true, gas, value: inner };
}

function readOk(reader: Reader): boolean {
  const start = reader.offset;
  const variant = reader.byte('a result');
  if (variant !== OK && variant !== ERROR) throw reader.error(`unknown result ${variant}`, start);
  return variant === OK;
}

function hostError(): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(ERROR);
}
