/** The choices that a supervisor has: which engine runs its guests, and which convention their calls follow. */

/**
 * Which engine runs the guests. Mirrors `gear_sandbox_host::sandbox::SandboxBackend`.
 *
 * @example
 * ```ts
 * for (const backend of Object.values(SandboxBackend)) new SandboxComponents(backend).newMemory(1);
 * ```
 */
export const SandboxBackend = Object.freeze({
  /** The interpreter: starts at once, takes little memory, and runs everywhere the same. */
  Wasmi: 'wasmi',
  /** The Cranelift compiler: compiles a module once, then runs it at native speed. */
  Wasmer: 'wasmer',
});
/** One of the strings of the constant of the same name. Mirrors `gear_sandbox_host::sandbox::SandboxBackend`. */
export type SandboxBackend = (typeof SandboxBackend)[keyof typeof SandboxBackend];

export const BACKENDS: readonly SandboxBackend[] = Object.freeze(Object.values(SandboxBackend));

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
