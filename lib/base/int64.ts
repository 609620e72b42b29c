/**
 * Reads and writes 64-bit integers in byte arrays, little endian. A `DataView` for each array would be
 * simpler, but creating one costs more than the rest of encoding or decoding a supervisor call, so all
 * of them share one of 8 bytes.
 */

const scratch = new DataView(new ArrayBuffer(8));
const scratchBytes = new Uint8Array(scratch.buffer);

/** Writes the lowest 64 bits of a bigint at an offset, whether signed or unsigned. */
export function put64(bytes: Uint8Array, offset: number, value: bigint): void {
  scratch.setBigUint64(0, value, true);
  for (let index = 0; index < 8; index += 1) bytes[offset + index] = scratchBytes[index];
}

/** Reads a signed integer at an offset. */
export function getInt64(bytes: Uint8Array, offset: number): bigint {
  fillScratch(bytes, offset);
  return scratch.getBigInt64(0, true);
}

/** Reads an unsigned integer at an offset. */
export function getUint64(bytes: Uint8Array, offset: number): bigint {
  fillScratch(bytes, offset);
  return scratch.getBigUint64(0, true);
}

function fillScratch(bytes: Uint8Array, offset: number): void {
  for (let index = 0; index < 8; index += 1) scratchBytes[index] = bytes[offset + index];
}
