/**
 * How the supervisor calls of an instance go. Mirrors `gear_sandbox_env::Instantiate`.
 *
 * @example
 * ```ts
 * const made = components.instantiate(Instantiate.Version2, wasm, env, supervisor);
 * ```
 */
export const Instantiate = Object.freeze({
  /** Arguments go out, a value comes back. */
  Version1: 1,
  /**
   * The guest's global `gear_gas`, a mutable i64 that it exports, goes out as the first argument, and what is left of it comes back with
   * the value.
   */
  Version2: 2,
});
/** One of the numbers of the constant of the same name. Mirrors `gear_sandbox_env::Instantiate`. */
export type Instantiate = (typeof Instantiate)[keyof typeof Instantiate];

export const VERSIONS: readonly Instantiate[] = Object.freeze(Object.values(Instantiate));

/** No maximum, for {@link SandboxComponents.newMemory}: 2^32 - 1. Mirrors `gear_sandbox_env::MEM_UNLIMITED`. */
export const MEM_UNLIMITED = 0xffff_ffff;
