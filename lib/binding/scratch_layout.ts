/** Generated from `crate/node/scratch/layout.rs` by `npm run build native -- --accept`: change it there. */

/** The layout of the scratch buffer. Words are 32-bit, in `words` and `ints`; longs are 64-bit, in `longs`, `ulongs` and `doubles`. */
export const layout = Object.freeze({
  /** The size of the buffer. A function has at most 1,000 parameters and 1,000 results in both engines. */
  SCRATCH_BYTES: 16384,
  /** The most slots that a call can have. */
  MAX_SLOTS: 2044,
  /** A word: which instance is called. */
  WORD_INSTANCE: 0,
  /** A word: which export is called, or which imported function of the guest is calling. */
  WORD_FUNC: 1,
  /** A word: how many slots the call has. */
  WORD_COUNT: 2,
  /** A word: whether the calling guest has gas in `GAS`. */
  WORD_HAS_GAS: 3,
  /** A word: whether a call that is about to run has a budget in `FUEL`. */
  WORD_HAS_FUEL: 3,
  /** A word: how a call ended, into a guest or to its supervisor. */
  WORD_STATUS: 0,
  /** A word: which event of asynchronous calls this is. */
  WORD_EVENT: 0,
  /** A word: the asynchronous call that an event or an answer is about. */
  WORD_CALL: 2,
  /** A word, for `nextEvent`: whether this is a new tick of the event loop. */
  WORD_IS_NEW_TICK: 0,
  /** A word, for `nextEvent`: whether to poll for an event for a while. */
  WORD_LOOKS: 1,
  /** A word, for `answer`: whether the supervisor has thrown. */
  WORD_HAS_THROWN: 0,
  /** A long: the gas of the calling guest. */
  GAS: 2,
  /** A long: the timeout of a call that is about to run, as a double, in ms; 0 for none. */
  TIMEOUT: 2,
  /** The first long of the slots, which are arguments or results. */
  SLOTS: 3,
  /** The last long: the budget of a call that is about to run, and its remaining fuel afterwards. */
  FUEL: 2047,
  /** A status: the call returned its results. */
  STATUS_DONE: 0,
  /** A status: the call trapped, and `takeFailure` returns the reason. Or the supervisor threw, and TypeScript has the exception. */
  STATUS_TRAPPED: 1,
  /** An event: there is nothing to do. */
  EVENT_NONE: 0,
  /** An event: there may be something to do, but only in the next tick of the event loop. */
  EVENT_TIME_OVER: 1,
  /** An event: the guest of `WORD_CALL` calls function `WORD_FUNC` of its host. */
  EVENT_HOST_CALL: 2,
  /** An event: the call is over; a function's results are in the slots. */
  EVENT_DONE: 3,
  /** An event: the call is over without results, and `takeFailure` returns the reason. */
  EVENT_TRAPPED: 4,
  /** An event: the call could not be made, and `takeRefusal` returns the reason. */
  EVENT_REFUSED: 5,
} as const);
