/** The caches that compiled modules come from. */

import { debug } from '../base/debug';
import { InstantiationError } from '../base/errors';
import { kindOf, translate } from '../binding/failures';
import { DEFAULT_CACHE, hot } from '../binding/native';
import type { Engine } from './engine';
import { looksLike } from './looks_like';
import { type GuestModule, guestModule } from './module';

/** Where native code looks for compiled modules first. */
export class Modules {
  /** What native code knows the cache by, for as long as this object lives; null for none. */
  readonly number: number | null;
  /** The modules that were used last: to describe one again takes longer than to instantiate it. */
  readonly #recent: (GuestModule | undefined)[];
  #next = 0;

  /**
   * @param make - makes the cache for this wrapper, by a native function
   * @param size - how many modules are kept from being collected
   */
  constructor(make: (wrapper: object) => number | null, size: number) {
    this.number = make(this);
    this.#recent = new Array(size).fill(undefined);
  }

  /** Compiles a module, or finds it in the cache. */
  compile(engine: Engine, wasm: Uint8Array): GuestModule {
    let found: object | undefined;
    try {
      found = hot.compile(engine.number, this.number, wasm);
    } catch (error) {
      throw compileError(error, looksLike(wasm));
    }
    return this.keep(guestModule(found));
  }

  /** Takes note that a module was used. */
  keep(module: GuestModule): GuestModule {
    const recent = this.#recent;
    if (recent.length > 0 && !recent.includes(module)) {
      recent[this.#next] = module;
      this.#next = (this.#next + 1) % recent.length;
    }
    return module;
  }
}

/** The most modules that a cache keeps from being collected. */
export const MOST_RECENT = 32;

/** The cache of the process. */
export const SHARED_MODULES = new Modules(() => DEFAULT_CACHE, MOST_RECENT);
/** No cache: a module that nobody holds goes. */
export const UNCACHED_MODULES = new Modules(() => null, 0);

/**
 * What a failed compilation becomes.
 *
 * @param looks - what the bytes look like, if that is why; the engine's own words are the `cause` then
 */
export function compileError(error: unknown, looks: string | undefined): unknown {
  if (kindOf(error) !== 'module') return translate(error, 'wasm');
  const message = looks ?? (error as Error).message;
  debug('failed to create module: %s', message);
  return new InstantiationError(message, { kind: 'ModuleDecoding', cause: error });
}
