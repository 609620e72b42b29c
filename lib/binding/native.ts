/** The addon as this copy of the package has it. No other file loads it. `crate/node/binding.rs` is the other side. */

import type { Binding, HotFunctions } from './addon';
import { loadBinary } from './binary';
import { scratch } from './scratch';

/** What the addon itself exports. */
interface Addon {
  readonly Binding: new (scratch: ArrayBuffer) => Binding;
  readonly DEFAULT_CACHE: number;
}

const addon = loadBinary() as Addon;

/** The cache number of the one that all copies of this package in the process share. */
export const DEFAULT_CACHE = addon.DEFAULT_CACHE;

/**
 * The functions of the addon. They share nothing with those of another copy of the package: a process can have several, of bundles, of test
 * files, or of both module systems.
 */
export const native: Binding = new addon.Binding(scratch);

/** Those that calls go through, and those that make and drop instances and memories. */
export const hot: HotFunctions = native.hotFunctions();
