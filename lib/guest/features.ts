/**
 * The WebAssembly proposals that guests may use. Both engines refuse a module that needs a proposal
 * which is off.
 */

import { boolean } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { knownOptions } from '../base/known_options';
import { native } from '../binding/native';
import { SandboxBackend } from './backend';

/**
 * Proposals by their names. A proposal that is on by default can be turned off. One that is always false
 * cannot be turned on, because no engine here, or not the chosen one, supports it. For what each
 * proposal adds, see the WebAssembly specification, "Change History", or
 * https://github.com/WebAssembly/proposals.
 *
 * @example
 * ```ts
 * // A guest that uses SIMD or has several memories is refused, on both engines alike.
 * const components = new SandboxComponents(SandboxBackend.Wasmi, { features: { simd: false, multiMemory: false } });
 * ```
 */
export interface SandboxFeatures {
  /** Imported and exported mutable globals. Default true. */
  readonly mutableGlobals?: boolean;
  /** `i32.extend8_s` and the like. Default true. */
  readonly signExtension?: boolean;
  /** `i32.trunc_sat_f32_s` and the like. Default true. */
  readonly saturatingFloatToInt?: boolean;
  /** Several results, and parameters of blocks. Default true. */
  readonly multiValue?: boolean;
  /** `memory.copy`, `memory.fill`, passive segments. Default true. */
  readonly bulkMemory?: boolean;
  /** `funcref` and `externref` as values, several tables. Default true. */
  readonly referenceTypes?: boolean;
  /** Fixed-width SIMD. Default true. */
  readonly simd?: boolean;
  /** Relaxed SIMD, whose results depend on the machine. Default true, but false if `deterministic`. */
  readonly relaxedSimd?: boolean;
  /** Several memories in one module. Default true. */
  readonly multiMemory?: boolean;
  /** `i32.add` and the like in constant expressions. Default true. */
  readonly extendedConst?: boolean;
  /** Tail calls: on wasmi only. Default true there, and always false on wasmer. */
  readonly tailCall?: boolean;
  /** Floating-point numbers at all. Default true. */
  readonly floats?: boolean;
  /** Shared memories and atomics: always false. */
  readonly threads?: boolean;
  /** 64-bit memories: always false. */
  readonly memory64?: boolean;
  /** Exceptions: always false. */
  readonly exceptions?: boolean;
  /** Garbage-collected types: always false. */
  readonly gc?: boolean;
  /** Typed function references: always false. */
  readonly functionReferences?: boolean;
}

/** The proposals that no engine here supports. */
const ABSENT = ['threads', 'memory64', 'exceptions', 'gc', 'functionReferences'];

/** The names of all other proposals, in the order of their bits. */
const NAMES: readonly string[] = native.featureNames();

/** The bits of the features of a backend. */
export function featureBits(features: unknown, backend: SandboxBackend, isDeterministic: boolean): number {
  const given = knownOptions(features, 'options.features', [...NAMES, ...ABSENT]);
  const isOff: Record<string, boolean> = {
    relaxedSimd: isDeterministic,
    tailCall: backend === SandboxBackend.Wasmer,
  };
  let bits = 2 ** NAMES.length - 1;
  // A proposal that is off for every module of a backend is left to its compiler to refuse.
  if (isDeterministic) bits -= 2 ** NAMES.indexOf('relaxedSimd');
  for (const [name, value] of Object.entries(given)) {
    const argument = `options.features.${name}`;
    const isWanted = boolean(value, argument);
    if (isWanted && (ABSENT.includes(name) || isOff[name])) {
      const why =
        name === 'relaxedSimd'
          ? 'deterministic guests have no relaxed SIMD'
          : `${backend} does not have it here`;
      throw new ArgumentError(`${argument} must be false: ${why}`, { argument });
    }
    const bit = NAMES.includes(name) ? 2 ** NAMES.indexOf(name) : 0;
    if (!isWanted && (bits & bit) !== 0) bits -= bit;
  }
  return bits;
}
