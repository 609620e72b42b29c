/**
 * The scratch buffer, through which calls carry their arguments and results. Its layout stands here and in `crate/node/scratch.rs`. The
 * receiver reads everything out before any other code can run, so one buffer serves calls at any depth.
 */

const SCRATCH_BYTES = 16 * 1024;
/** The most parameters or results of a function that can be called. */
const MAX_SLOTS = (SCRATCH_BYTES - 24 - 8) / 8;

/** In `words`: which instance is called. */
const WORD_INSTANCE = 0;
/** In `words`: which export is called, or which imported function of the guest is calling. */
const WORD_FUNC = 1;
/** In `words`: how many slots the call has. */
const WORD_COUNT = 2;
/** In `words`: whether the calling guest has gas in {@link GAS}. */
const WORD_HAS_GAS = 3;
/** In `words`: whether a call that is about to run has a budget in {@link FUEL}. */
const WORD_HAS_FUEL = 3;
/** In `words`: how a call ended, into a guest or to its supervisor. */
const WORD_STATUS = 0;
const STATUS_DONE = 0;
const STATUS_TRAPPED = 1;
/** In `words`, of asynchronous calls: which event, of which call, and what is asked for by `nextEvent` and `answer`. */
const WORD_EVENT = 0;
const WORD_CALL = 2;
const WORD_IS_NEW_TURN = 0;
const WORD_LOOKS = 1;
const WORD_HAS_THROWN = 0;
const EVENT_TIME_OVER = 1;
const EVENT_ASKED = 2;
const EVENT_DONE = 3;
const EVENT_TRAPPED = 4;
const EVENT_REFUSED = 5;
/** In `longs`: the gas of the calling guest. */
const GAS = 2;
/** In `doubles`: the timeout of a call that is about to run, in ms, or 0. */
const TIMEOUT = GAS;
/** In `longs`: the budget of a call that is about to run, and what is left of it afterwards. */
const FUEL = SCRATCH_BYTES / 8 - 1;
/** In `longs`: the first argument or result. Slot `i` is `SLOTS + i` here, and `2 * (SLOTS + i)` in `words` and `ints`. */
const SLOTS = 3;

/** The layout, for the same use. */
export const layout = Object.freeze({
  WORD_INSTANCE,
  WORD_FUNC,
  WORD_COUNT,
  WORD_HAS_GAS,
  WORD_HAS_FUEL,
  WORD_STATUS,
  STATUS_DONE,
  STATUS_TRAPPED,
  WORD_EVENT,
  WORD_CALL,
  WORD_IS_NEW_TURN,
  WORD_LOOKS,
  WORD_HAS_THROWN,
  EVENT_TIME_OVER,
  EVENT_ASKED,
  EVENT_DONE,
  EVENT_TRAPPED,
  EVENT_REFUSED,
  GAS,
  TIMEOUT,
  FUEL,
  SLOTS,
  MAX_SLOTS,
} as const);

/** The buffer itself, for the addon. */
export const scratch = new ArrayBuffer(SCRATCH_BYTES);

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
