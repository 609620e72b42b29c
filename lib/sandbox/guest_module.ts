/** A compiled module as this environment knows it: what it imports and exports, prepared for linking and calling. */

import { InstantiationError } from '../errors';
import { kindOf, layout, native, translate } from '../native';
import { debug } from './debug';
import { ImportSite, type Slot, slotsOf } from './import_site';

/** An exported function, prepared for calls. */
export interface ExportedFunction {
  readonly index: number;
  readonly parameters: readonly Slot[];
  readonly results: readonly Slot[];
  /** How many slots a call needs. */
  readonly slots: number;
}

/**
 * What an instance exports: `ModuleExportDescriptor` of the WebAssembly JavaScript Interface ("Modules"), with the type that the type
 * reflection proposal adds (https://github.com/WebAssembly/js-types).
 */
export interface ExportDescription {
  /** The name of the export. */
  readonly name: string;
  /** What it is. */
  readonly kind: 'function' | 'memory' | 'table' | 'global';
  /**
   * Its type: `{ parameters, results }` of a function, `{ minimum, maximum? }` of a memory, in pages of 64 KiB,
   * `{ element, minimum, maximum? }` of a table, in elements, or `{ value, mutable }` of a global.
   */
  readonly type: Readonly<Record<string, unknown>>;
}

/** An import as linking needs it. */
export interface GuestImport {
  readonly module: string;
  readonly name: string;
  readonly kind: string;
}

/** A compiled module. */
export class GuestModule {
  readonly id: number;
  readonly imports: readonly GuestImport[];
  /** The imported functions, in order. */
  readonly sites: readonly ImportSite[];
  readonly exports: readonly ExportDescription[];
  readonly hasStart: boolean;
  /** Of each exported function by name; null if its type has no {@link Value}. */
  readonly functions = new Map<string, ExportedFunction | null>();
  readonly globals = new Map<string, { readonly index: number; readonly slot: Slot | undefined }>();
  /** The place of each exported memory by name. */
  readonly memories = new Map<string, number>();
  /** The name of the exported memory 0, if the module has one of its own. */
  readonly memory0: string | undefined;

  constructor(id: number) {
    const description = native.describeModule(id);
    this.id = id;
    this.imports = description.imports;
    this.hasStart = description.hasStart;
    this.memory0 = description.exports[description.exportedMemory0]?.name;
    this.sites = description.imports
      .filter(({ kind }) => kind === 'function')
      .map(({ module, name, type }) => {
        const { parameters, results } = type as { parameters: string[]; results: string[] };
        return new ImportSite(`${module}.${name}`, parameters, results);
      });
    this.exports = Object.freeze(
      description.exports
        .filter(({ kind }) => kind !== 'other')
        .map(({ name, kind, type }) => deepFreeze({ name, kind, type }) as ExportDescription),
    );
    description.exports.forEach(({ name, kind, type }, index) => {
      if (kind === 'function') this.functions.set(name, exportedFunction(index, type));
      else if (kind === 'memory') this.memories.set(name, index);
      else if (kind === 'global')
        this.globals.set(name, { index, slot: slotsOf([type.value as string])?.[0] });
    });
  }
}

function exportedFunction(index: number, type: Readonly<Record<string, unknown>>): ExportedFunction | null {
  const parameters = slotsOf(type.parameters as string[]);
  const results = slotsOf(type.results as string[]);
  if (parameters === undefined || results === undefined) return null;
  const slots = Math.max(parameters.length, results.length);
  return slots > layout.MAX_SLOTS ? null : { index, parameters, results, slots };
}

function deepFreeze<T extends object>(value: T): T {
  for (const property of Object.values(value)) {
    if (typeof property === 'object' && property !== null) deepFreeze(property);
  }
  return Object.freeze(value);
}

/** The modules that this environment used last, by native number; a `Map` keeps their order. */
const known = new Map<number, GuestModule>();

/** How many descriptions are kept. What is dropped here stays in the native cache. */
const MOST_KNOWN = 256;

/** Compiles a module, or finds it in the cache. */
export function compile(engine: number, cache: number, wasm: Uint8Array): GuestModule {
  let id: number;
  try {
    id = native.compile(engine, cache, wasm);
  } catch (error) {
    throw compileError(error);
  }
  return guestModule(id);
}

/** What a failed compilation becomes. */
export function compileError(error: unknown): unknown {
  if (kindOf(error) !== 'module') return translate(error, 'wasm');
  debug('failed to create module: %s', (error as Error).message);
  return new InstantiationError((error as Error).message, { kind: 'ModuleDecoding', cause: error });
}

/** The compiled module with that native number. */
export function guestModule(id: number): GuestModule {
  let module = known.get(id);
  if (module === undefined) {
    module = new GuestModule(id);
    known.set(id, module);
    if (known.size > MOST_KNOWN) forgetOldest();
  }
  return module;
}

function forgetOldest(): void {
  for (const id of known.keys()) {
    if (pins.has(id)) continue;
    known.delete(id);
    native.dropModule(id);
    return;
  }
}

/** How many objects need each module that is not to be forgotten. */
const pins = new Map<number, number>();

const unpinned = new FinalizationRegistry<number>((id) => {
  const count = (pins.get(id) ?? 1) - 1;
  if (count === 0) pins.delete(id);
  else pins.set(id, count);
});

/** Keeps a module for as long as an object lives. */
export function pin(module: GuestModule, holder: object): void {
  pins.set(module.id, (pins.get(module.id) ?? 0) + 1);
  unpinned.register(holder, module.id);
}
