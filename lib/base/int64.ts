/**
 * 64-bit integers in the bytes of an array, little endian. A `DataView` over each array would be plainer, but
 * making one costs more than all the rest of encoding or decoding a supervisor call, so there is one, of 8
 * bytes, for all.
 */

const scratch = new DataView(new ArrayBuffer(8));
const scratchBytes = new Uint8Array(scratch.buffer);

/** Puts the lowest 64 bits of a bigint at an offset, so it serves signed and unsigned ones alike. */
export function put64(bytes: Uint8Array, offset: number, value: bigint): void {
  scratch.setBigUint64(0, value, true);
  for (let index = 0; index < 8; index += 1) bytes[offset + index] = scratchBytes[index];
}

/** Gets a signed integer from an offset. */
export function getInt64(bytes: Uint8Array, offset: number): bigint {
  fillScratch(bytes, offset);
  return scratch.getBigInt64(0, true);
}

/** Gets an unsigned integer from an offset. */
export function getUint64(bytes: Uint8Array, offset: number): bigint {
  fillScratch(bytes, offset);
  return scratch.getBigUint64(0, true);
}

function fillScratch(bytes: Uint8Array, offset: number): void {
  for (let index = 0; index < 8; index += 1) scratchBytes[index] = bytes[offset + index];
}
