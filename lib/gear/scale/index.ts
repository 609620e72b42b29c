/**
 * The SCALE codec for data that passes between a sandbox host and its supervisor, byte for byte what
 * `gear-sandbox-env` 1.10.0 encodes: that crate generates `__test__/vectors/scale.json`. This is the
 * public namespace `codec`.
 *
 * Decoding takes any `BufferSource` and throws a `CodecError` for bytes that the reference refuses.
 * Encoding throws an `ArgumentError` for a value without an encoding. Bytes after a complete value are
 * ignored, since the reference ignores them. The format is that of `parity-scale-codec` 3.7:
 * https://docs.rs/parity-scale-codec/3.7.5/parity_scale_codec/
 *
 * @example
 * ```ts
 * const bytes = codec.encodeValues([Value.I32(1), Value.I64(2n)]);
 * codec.decodeValues(bytes); // the same values
 * ```
 *
 * @packageDocumentation
 */

export {
  type DispatchResult,
  type DispatchResultV2,
  decodeDispatchResult,
  decodeDispatchResultV2,
  encodeDispatchResult,
  encodeDispatchResultV2,
} from './dispatch_result';
export {
  decodeEnvironmentDefinition,
  type EnvironmentDefinition,
  type EnvironmentEntry,
  type ExternEntity,
  encodeEnvironmentDefinition,
} from './environment_definition';
export {
  decodeReturnValue,
  decodeWasmReturnValue,
  encodeReturnValue,
  encodeWasmReturnValue,
  type WasmReturnValue,
} from './return_value';
export { decodeValues, encodeValues } from './value';
