/**
 * The scratch buffer, through which calls carry their arguments and results. The receiver reads everything out before any other code can run, so
 * one buffer serves calls at any depth.
 */

import { layout } from './scratch_layout';

export { layout } from './scratch_layout';

/** The buffer itself, for the addon. */
export const scratch = new ArrayBuffer(layout.SCRATCH_BYTES);

/**
 * Views of the scratch buffer. Hot files take them into constants of their own (`const { words } = scratchViews`): what is
 * imported is looked up again at each use, which V8 does not optimise away and costs more than the use itself.
 */
export const scratchViews = Object.freeze({
  words: new Uint32Array(scratch),
  ints: new Int32Array(scratch),
  longs: new BigInt64Array(scratch),
  ulongs: new BigUint64Array(scratch),
  doubles: new Float64Array(scratch),
});
