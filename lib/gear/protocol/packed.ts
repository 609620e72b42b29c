/**
 * An address and a length that are packed into one i64. They are taken apart through memory, because shifting makes bigints
 * in between. Like the scratch buffer this goes by little-endian machines, as all are that Node.js runs on.
 */

const long = new BigInt64Array(1);

/**
 * Put an i64 into `long[0]`, and read its lower half from `words[0]` and its upper half from `words[1]` before anything else
 * can run. Hot files take these into constants of their own.
 */
export const packed = Object.freeze({ long, words: new Uint32Array(long.buffer) });
