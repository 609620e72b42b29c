/** How much guests may take. */

import { integer } from '../base/arguments';
import { LimitError } from '../base/errors';
import { knownOptions } from '../base/known_options';

/**
 * Limits of the guests of some components. A guest that grows its memory or table beyond one gets -1, as WebAssembly has it; everything
 * else throws a `LimitError`, and changes nothing.
 *
 * @example
 * ```ts
 * const limits = { memoryBytes: 64 * 1024 * 1024, instances: 1, moduleBytes: 5_000_000 };
 * const components = new SandboxComponents('wasmi', { fuel: true, limits });
 * ```
 */
export interface SandboxLimits {
  /**
   * The most bytes of any one memory. Where the process is short of addresses, as under `ulimit -v`, a memory reserves no more of them than
   * this and its own maximum allow.
   */
  readonly memoryBytes?: number;
  /** The most elements of any one table. */
  readonly tableElements?: number;
  /**
   * The most bytes of all memories and tables together; an element of a table counts 8 bytes. What is torn down counts until nothing can reach
   * it: not your handles to it, nor guests, nor other instances that share a memory with it.
   */
  readonly totalBytes?: number;
  /** The most memories that are in the components at once. */
  readonly memories?: number;
  /** The most instances that are in the components at once. */
  readonly instances?: number;
  /** The most bytes of a module's binary. */
  readonly moduleBytes?: number;
  /**
   * The stack of a guest in bytes, 65,536 to 67,108,864; when it is exhausted the guest traps with `'stack-overflow'`, at the same depth
   * whatever ran before it, in synchronous and asynchronous calls alike (on Windows wasmer may give it a larger one that it has at hand).
   * Default 1,048,576, or 16,777,216 if `deterministic`.
   */
  readonly stackBytes?: number;
  /**
   * The most guest calls inside one another, 1 to 1,000,000; one more traps with `'stack-overflow'` on both engines alike, unless the stack
   * is exhausted before. Default: 10,240 on wasmi, also on wasmer if `deterministic`; else wasmer has only its stack.
   */
  readonly recursionDepth?: number;
}

/** The limits, with null, or infinity for what is checked here, where there is none. */
export interface CheckedLimits {
  readonly memories: number;
  readonly instances: number;
  readonly moduleBytes: number;
  readonly memoryBytes: number | null;
  readonly tableElements: number | null;
  readonly totalBytes: number | null;
  readonly stackBytes: number | null;
  readonly recursionDepth: number | null;
}

const KNOWN: Record<keyof SandboxLimits, readonly [least: number, most: number, ifNone: number | null]> = {
  memoryBytes: [0, Number.MAX_SAFE_INTEGER, null],
  tableElements: [0, 0xffff_ffff, null],
  totalBytes: [0, Number.MAX_SAFE_INTEGER, null],
  memories: [0, 0xffff_ffff, Infinity],
  instances: [0, 0xffff_ffff, Infinity],
  moduleBytes: [0, Number.MAX_SAFE_INTEGER, Infinity],
  stackBytes: [65_536, 67_108_864, null],
  recursionDepth: [1, 1_000_000, null],
};

export function checkLimits(limits: unknown): CheckedLimits {
  const given = knownOptions(limits, 'options.limits', Object.keys(KNOWN));
  const checked: Record<string, number | null> = {};
  for (const [name, [least, most, ifNone]] of Object.entries(KNOWN)) {
    const value = given[name];
    checked[name] = value === undefined ? ifNone : integer(value, `options.limits.${name}`, least, most);
  }
  return checked as unknown as CheckedLimits;
}

/** Refuses a module whose binary is too long. */
export function refuseModule(length: number, { moduleBytes }: CheckedLimits): void {
  if (length > moduleBytes) {
    throw new LimitError(`wasm has ${length} bytes, and the limit is ${moduleBytes}`);
  }
}

/** Refuses one more of something that there may be so many of. */
export function refuseBeyond(count: number, most: number, what: string): void {
  if (count >= most) throw new LimitError(`there are ${count} ${what} already, and the limit is ${most}`);
}
