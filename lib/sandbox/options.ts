/** What a caller may ask for when components are made or a guest is called, and the checks of it. */

import { argumentError, object, oneOf, uint32 } from '../arguments';
import { ArgumentError } from '../errors';
import { DEFAULT_CACHE, NO_CACHE, native } from '../native';

/** How {@link SandboxComponents} run their guests. */
export interface SandboxOptions {
  /** How hard wasmer's compiler tries; wasmi ignores it. Default `'speed'`. */
  readonly optLevel?: 'none' | 'speed';
  /** Which compiler wasmer uses. Published builds have only `'cranelift'`, the default. */
  readonly compiler?: 'cranelift' | 'singlepass';
  /** Where compiled modules are kept; false keeps none. Default: one cache in memory for the whole process. */
  readonly cache?: ModuleCache | false;
}

/** How one call runs. Metering, deadlines and signals will be options of it; this version has none. */
export type InvokeOptions = Readonly<Record<never, never>>;

/** Opens a {@link ModuleCache} to this file. */
let cacheId: (cache: unknown) => number;

/**
 * Compiled modules in memory, for components that should not share the process's own cache. Threads that share nothing else
 * share modules only by the process's own cache.
 *
 * @example
 * ```ts
 * const components = new SandboxComponents('wasmer', { cache: new ModuleCache({ entries: 16 }) });
 * ```
 */
export class ModuleCache {
  readonly #id: number;

  /**
   * @param options - `entries`: the most modules that are kept, 1 to 65,536, default 256
   * @throws ArgumentError
   */
  constructor(options: { readonly entries?: number } = {}) {
    const { entries = DEFAULT_ENTRIES } = knownOptions(options, 'options', ['entries']);
    const count = uint32(entries, 'options.entries');
    if (count < 1 || count > MOST_ENTRIES) {
      throw argumentError('options.entries', `an integer from 1 to ${MOST_ENTRIES}`, entries);
    }
    this.#id = native.newCache(count);
  }

  static {
    cacheId = (cache) => {
      if (typeof cache !== 'object' || cache === null || !(#id in cache)) {
        throw argumentError('options.cache', 'a ModuleCache or false', cache);
      }
      return (cache as ModuleCache).#id;
    };
  }
}

const DEFAULT_ENTRIES = 256;
const MOST_ENTRIES = 65_536;

/** The native numbers that options come to. */
export interface CheckedOptions {
  readonly optLevel: 'none' | 'speed';
  readonly cache: number;
}

/** Checks the options of components. */
export function checkSandboxOptions(options: SandboxOptions | undefined): CheckedOptions {
  const given = knownOptions(options, 'options', ['optLevel', 'compiler', 'cache']);
  const { optLevel = 'speed', compiler = 'cranelift', cache } = given;
  if (oneOf(compiler, 'options.compiler', ['cranelift', 'singlepass']) === 'singlepass') {
    throw new ArgumentError('options.compiler must be cranelift: this build has no singlepass', {
      argument: 'options.compiler',
    });
  }
  return {
    optLevel: oneOf(optLevel, 'options.optLevel', ['none', 'speed']),
    cache: cache === undefined ? DEFAULT_CACHE : cache === false ? NO_CACHE : cacheId(cache),
  };
}

/** Checks the options of a call. */
export function checkInvokeOptions(options: InvokeOptions | undefined): void {
  if (options !== undefined) knownOptions(options, 'options', []);
}

/** The options given, each read once; one that is unknown and not undefined is an error. */
function knownOptions(options: unknown, name: string, known: readonly string[]): Record<string, unknown> {
  if (options === undefined) return {};
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(object(options, name))) {
    if (value === undefined) continue;
    if (!known.includes(key)) {
      throw new ArgumentError(`${name}.${key} is no option here; known are: ${known.join(', ') || 'none'}`, {
        argument: `${name}.${key}`,
      });
    }
    given[key] = value;
  }
  return given;
}
