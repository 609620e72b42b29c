/**
 * The result codes of host functions. Mirrors the constants of `gear_sandbox_env`, which are the same
 * numbers, unsigned.
 */

/** `ERR_OK`. */
export const OK = 0;
/** `ERR_MODULE`: the module or its environment is wrong. */
export const MODULE = -1;
/** `ERR_OUT_OF_BOUNDS`. */
export const OUT_OF_BOUNDS = -2;
/** `ERR_EXECUTION`: the guest trapped. */
export const EXECUTION = -3;

/** `ERROR_GLOBALS_OK`. */
export const GLOBALS_OK = 0;
/** `ERROR_GLOBALS_NOT_FOUND`. */
export const GLOBALS_NOT_FOUND = -1;
/** `ERROR_GLOBALS_OTHER`. */
export const GLOBALS_OTHER = -2;
