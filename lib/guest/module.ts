/** A compiled module as this environment knows it: what it imports and exports, prepared for linking and calling. */

import { watchCollections } from '../binding/collections';
import { native } from '../binding/native';
import { layout } from '../binding/scratch';
import { ImportSignature, type Signature, signatureOf } from './signature';
import { type Slot, slotsOf } from './slots';

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

/**
 * What a module imports: `ModuleImportDescriptor` of the WebAssembly JavaScript Interface ("Modules"), with the type that the type reflection
 * proposal adds (https://github.com/WebAssembly/js-types).
 */
export interface ImportDescription {
  /** The first of the two names of the import. */
  readonly module: string;
  /** The second one. */
  readonly name: string;
  /** What it is; `'other'` for a kind of which this package knows nothing. */
  readonly kind: 'function' | 'memory' | 'table' | 'global' | 'other';
  /** Its type, as {@link ExportDescription.type} has it. */
  readonly type: Readonly<Record<string, unknown>>;
}

/** A compiled module: the wrapper of a native one, of which there is one for each. */
export class GuestModule {
  /** What native code knows it by, for as long as this object lives. */
  readonly id: number;
  readonly imports: readonly ImportDescription[];
  /** The imported functions, in order. */
  readonly functionImports: readonly ImportSignature[];
  readonly exports: readonly ExportDescription[];
  readonly hasStart: boolean;
  /** Of each exported function by name; null if its type has no {@link Value}. */
  readonly functions = new Map<string, ExportedFunction | null>();
  readonly globals = new Map<string, { readonly index: number; readonly slot: Slot | undefined }>();
  /** The place of each exported memory by name. */
  readonly memories = new Map<string, number>();
  readonly #tables = new Set<string>();
  /** The name of the exported memory 0, if the module has one of its own. */
  readonly memory0: string | undefined;

  /** For the module that native code has just compiled and knows no wrapper of. */
  constructor() {
    this.id = native.adoptModule(this);
    watchCollections();
    const description = native.describeModule(this.id);
    // In arrays of this realm, which that of the native code may not be.
    this.imports = Object.freeze(
      Array.from(description.imports, ({ module, name, kind, type }) =>
        deepFreeze({ module, name, kind, type }),
      ),
    );
    this.hasStart = description.hasStart;
    this.memory0 = description.exports[description.exportedMemory0 ?? -1]?.name;
    const signatures = new Signatures();
    this.functionImports = description.imports
      .filter(({ kind }) => kind === 'function')
      .map(({ module, name, type }) => new ImportSignature(`${module}.${name}`, signatures.of(type)));
    this.exports = Object.freeze(
      Array.from(description.exports)
        .filter(({ kind }) => kind !== 'other')
        .map(({ name, kind, type }) => deepFreeze({ name, kind, type }) as ExportDescription),
    );
    description.exports.forEach(({ name, kind, type }, index) => {
      if (kind === 'function') this.functions.set(name, exportedFunction(index, signatures.of(type)));
      else if (kind === 'memory') this.memories.set(name, index);
      else if (kind === 'global')
        this.globals.set(name, { index, slot: slotsOf([type.value as string])?.[0] });
      else if (kind === 'table') this.#tables.add(name);
    });
  }

  /** What an export is; undefined if there is none of that name. */
  kindOf(name: string): ExportDescription['kind'] | undefined {
    if (this.functions.has(name)) return 'function';
    if (this.memories.has(name)) return 'memory';
    if (this.globals.has(name)) return 'global';
    return this.#tables.has(name) ? 'table' : undefined;
  }
}

/** The signatures of a module's functions. Native code gives all functions of one type the same object for it, which may have a thousand parameters. */
class Signatures {
  readonly #known = new Map<object, Signature>();

  of(type: Readonly<Record<string, unknown>>): Signature {
    const known = this.#known.get(type);
    if (known !== undefined) return known;
    const signature = signatureOf(type.parameters as string[], type.results as string[]);
    this.#known.set(type, signature);
    return signature;
  }
}

function exportedFunction(index: number, { parameters, results }: Signature): ExportedFunction | null {
  if (parameters === undefined || results === undefined) return null;
  const slots = Math.max(parameters.length, results.length);
  return slots > layout.MAX_SLOTS ? null : { index, parameters, results, slots };
}

function deepFreeze<T extends object>(value: T): T {
  // A type that several have.
  if (Object.isFrozen(value)) return value;
  for (const property of Object.values(value)) {
    if (typeof property === 'object' && property !== null) deepFreeze(property);
  }
  return Object.freeze(value);
}

/** The module that native code has found the wrapper of, or has just compiled. */
export function guestModule(found: object | null | undefined): GuestModule {
  return (found ?? new GuestModule()) as GuestModule;
}
