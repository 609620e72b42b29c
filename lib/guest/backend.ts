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
