/**
 * The answer of a supervisor's dispatch thunk: `Result<ReturnValue, HostError>` under
 * `Instantiate.Version1`, and `Result<WasmReturnValue, HostError>` under `Instantiate.Version2`.
 * `HostError` has no fields, so its encoding is the single byte for "error".
 */

import { type BufferSource, boolean, int64, object } from '../../base/arguments';
import type { Value } from '../../base/values';
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

/**
 * The answer to a supervisor call: a value, undefined for none, or a `HostError`, which traps the guest.
 * Mirrors `Result<ReturnValue, gear_sandbox_env::HostError>`.
 */
export type DispatchResult =
  | {
      /** The function has an answer. */
      readonly ok: true;
      /** What it returns, or undefined if it returns nothing. */
      readonly value: Value | undefined;
    }
  | {
      /** The function has failed: a `HostError`. */
      readonly ok: false;
    };

/**
 * The answer to a supervisor call under `Instantiate.Version2`, with the remaining gas. Mirrors
 * `Result<gear_sandbox_env::WasmReturnValue, gear_sandbox_env::HostError>`.
 */
export type DispatchResultV2 =
  | {
      /** The function has an answer. */
      readonly ok: true;
      /** The remaining gas, an i64: the new value of the guest's global `gear_gas`. */
      readonly gas: bigint;
      /** What it returns, or undefined if it returns nothing. */
      readonly value: Value | undefined;
    }
  | {
      /** The function has failed: a `HostError`. */
      readonly ok: false;
    };

/** The first byte of a result, as `parity-scale-codec` encodes Rust's `Result`. */
const OK = 0;
const ERROR = 1;

/**
 * Encodes a `Result<ReturnValue, HostError>`, with `gear_sandbox_env::HostError`.
 *
 * @param result - the answer
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `result.ok` is no boolean, or
 *   `result.value` neither undefined nor a value
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
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns the answer
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
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
 * Encodes a `Result<WasmReturnValue, HostError>`, with `gear_sandbox_env::HostError`.
 *
 * @param result - the answer, with the remaining gas
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `result.ok` is no boolean, `result.gas`
 *   no i64, or `result.value` neither undefined nor a value
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
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns the answer, with the remaining gas
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
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
