import { argumentError, uint32, wellFormedString } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { defineHandle } from '../base/handle';
import { knownOptions } from '../base/known_options';
import { watchCollections } from '../binding/collections';
import { kindOf, translate } from '../binding/failures';
import { native } from '../binding/native';
import { MOST_RECENT, Modules } from './modules';

/** Opens a {@link ModuleCache} to `options.ts`. */
export let modulesOf: (cache: unknown) => Modules;

/** What a {@link ModuleCache} is made with. */
export interface ModuleCacheOptions {
  /** The most modules that are kept in memory, 1 to 65,536. Default 256. */
  readonly entries?: number;
  /**
   * A folder in which the machine code of wasmer's modules is kept as well, for other processes and the next start; any number of them may
   * use it at once. It is made if it is missing. **Whoever can write to it can run any code in your process**: give it one that nobody but
   * you writes to. On Unix it must belong to you or root and must not be writable by everyone.
   *
   * Files are written atomically and checked when they are read; a damaged one costs a compile. Nothing in the folder is ever evicted; any
   * file may be deleted at any time.
   */
  readonly unsafeDirectory?: string;
}

/**
 * Compiled modules in memory, for components that should not share the process's own cache, and on disk if you name a folder. Threads
 * that share nothing else share modules only by the process's own cache. The reference has none.
 *
 * @example
 * ```ts
 * const cache = new ModuleCache({ entries: 16, unsafeDirectory: '/var/cache/my-node/modules' });
 * const components = new SandboxComponents('wasmer', { cache });
 * ```
 */
export class ModuleCache extends Object {
  readonly #modules: Modules;
  readonly #described: object;

  /**
   * Makes a cache, and the folder if it is named and missing.
   *
   * @param options - how many modules it keeps, and where on disk
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) for an unknown or wrong option, and for a folder that cannot be used
   * @example
   * ```ts
   * const components = new SandboxComponents(SandboxBackend.Wasmi, { cache: new ModuleCache({ entries: 16 }) });
   * ```
   */
  constructor(options: ModuleCacheOptions = {}) {
    super();
    const given = knownOptions(options, 'options', ['entries', 'unsafeDirectory']);
    const { entries = DEFAULT_ENTRIES, unsafeDirectory } = given;
    const count = uint32(entries, 'options.entries');
    if (count < 1 || count > MOST_ENTRIES) {
      throw argumentError('options.entries', `an integer from 1 to ${MOST_ENTRIES}`, entries);
    }
    const folder = unsafeDirectory === undefined ? null : folderName(unsafeDirectory);
    this.#described = { entries: count, ...(folder === null ? {} : { unsafeDirectory: folder }) };
    try {
      const make = (wrapper: object): number => native.newCache(wrapper, count, folder);
      this.#modules = new Modules(make, Math.min(count, MOST_RECENT));
      watchCollections();
    } catch (error) {
      if (kindOf(error) !== 'cache-folder') throw translate(error, 'options.unsafeDirectory');
      throw new ArgumentError(`options.unsafeDirectory: ${(error as Error).message}`, {
        argument: 'options.unsafeDirectory',
        cause: error,
      });
    }
  }

  static {
    defineHandle(
      ModuleCache,
      'ModuleCache',
      (value) => #modules in value,
      (cache) => cache.#described,
    );
    modulesOf = (cache) => {
      if (typeof cache !== 'object' || cache === null || !(#modules in cache)) {
        throw argumentError('options.cache', 'a ModuleCache or false', cache);
      }
      return (cache as ModuleCache).#modules;
    };
  }
}

function folderName(value: unknown): string {
  const name = wellFormedString(value, 'options.unsafeDirectory');
  if (name !== '' && !name.includes('\0')) return name;
  throw argumentError('options.unsafeDirectory', 'the path of a folder', value);
}

const DEFAULT_ENTRIES = 256;
const MOST_ENTRIES = 65_536;
