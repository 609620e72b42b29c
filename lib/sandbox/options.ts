/** What a caller may ask for when components are made or a guest is called, and the checks of it. */

import { argumentError, boolean, object, oneOf, uint32 } from '../arguments';
import { ArgumentError } from '../errors';
import { DEFAULT_CACHE, NO_CACHE, native } from '../native';
import { isSignal } from './stop';
import { ThreadBudget } from './thread_budget';

/** How {@link SandboxComponents} run their guests. */
export interface SandboxOptions {
  /**
   * Whether {@link InvokeOptions.timeout} stops a guest while it computes, endless loops too. It costs a little, see ARCHITECTURE.md.
   * Without it a call is only stopped when the guest calls its supervisor. Default true.
   */
  readonly interruptible?: boolean;
  /** How hard wasmer's compiler tries; wasmi ignores it. Default `'speed'`. */
  readonly optLevel?: 'none' | 'speed';
  /** Which compiler wasmer uses. Published builds have only `'cranelift'`, the default. */
  readonly compiler?: 'cranelift' | 'singlepass';
  /** Where compiled modules are kept; false keeps none. Default: one cache in memory for the whole process. */
  readonly cache?: ModuleCache | false;
  /**
   * The most native threads that asynchronous calls may hold at once, 1 to 4,096; calls beyond that wait. Guests on wasmer hold one while they
   * wait for a Promise, guests on wasmi do not. As many guests compute at once as there are cores. Default 1,024.
   */
  readonly threads?: number;
}

/**
 * How one call runs. A call that is stopped leaves the guest's memory and globals as they were at that moment, and the instance can
 * be invoked again. Calls that are made inside a supervisor call end with the call around them at the latest.
 *
 * @example
 * ```ts
 * instance.invoke('run', [], supervisor, { timeout: 50, signal: controller.signal });
 * ```
 */
export interface InvokeOptions {
  /** The most wall time in ms that the call may take, above 0. When it is over the call throws `ERR_SANDBOX_TIMEOUT`. */
  readonly timeout?: number | undefined;
  /**
   * Ends the call with the signal's `reason`. No event reaches a signal while a synchronous call runs, unless a supervisor function
   * aborts it; it is looked at before the call and after each supervisor call.
   */
  readonly signal?: AbortSignal | undefined;
}

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

const DEFAULT_THREADS = 1024;
const MOST_THREADS = 4096;

/** The native numbers that options come to. */
export interface CheckedOptions {
  readonly optLevel: 'none' | 'speed';
  readonly interruptible: boolean;
  readonly cache: number;
  readonly budget: ThreadBudget;
}

/** Checks the options of components. */
export function checkSandboxOptions(options: SandboxOptions | undefined): CheckedOptions {
  const given = knownOptions(options, 'options', [
    'optLevel',
    'interruptible',
    'compiler',
    'cache',
    'threads',
  ]);
  const { optLevel = 'speed', interruptible = true, compiler = 'cranelift', cache } = given;
  const threads = uint32(given.threads ?? DEFAULT_THREADS, 'options.threads');
  if (threads < 1 || threads > MOST_THREADS) {
    throw argumentError('options.threads', `an integer from 1 to ${MOST_THREADS}`, threads);
  }
  if (oneOf(compiler, 'options.compiler', ['cranelift', 'singlepass']) === 'singlepass') {
    throw new ArgumentError('options.compiler must be cranelift: this build has no singlepass', {
      argument: 'options.compiler',
    });
  }
  return {
    optLevel: oneOf(optLevel, 'options.optLevel', ['none', 'speed']),
    interruptible: boolean(interruptible, 'options.interruptible'),
    cache: cache === undefined ? DEFAULT_CACHE : cache === false ? NO_CACHE : cacheId(cache),
    budget: new ThreadBudget(threads),
  };
}

/** What stops a call. */
export interface Limits {
  /** In ms; 0 for none. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

/** Checks the options of a call; undefined if nothing stops it. */
export function checkInvokeOptions(options: InvokeOptions | undefined): Limits | undefined {
  if (options === undefined) return undefined;
  const { timeout, signal } = knownOptions(options, 'options', ['timeout', 'signal']);
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout > 0 && timeout < Infinity)) {
    throw argumentError('options.timeout', 'a number of milliseconds above 0', timeout);
  }
  if (signal !== undefined && !isSignal(signal)) {
    throw argumentError('options.signal', 'an AbortSignal', signal);
  }
  if (timeout === undefined && signal === undefined) return undefined;
  return { timeout: timeout ?? 0, signal };
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
