/** What an environment lacks of what a module imports: all of it at once, as data and as a sentence. */

import { cut } from '../arguments';
import { InstantiationError, type MissingImport, SandboxError } from '../errors';
import { debug } from './debug';
import type { ImportDescription } from './guest_module';

/** The most imports that a message names, and the most characters of a name in it: the guest chooses both. */
const MOST_NAMED = 10;
const MOST_CHARACTERS = 80;

/** An import that the environment does not satisfy; `given` says what it has under that name, if it has anything. */
export function missing(wanted: ImportDescription, given: string | undefined): MissingImport {
  return Object.freeze(given === undefined ? { ...wanted } : { ...wanted, given });
}

/** The error for them. The kind for a memory that is missing is the reference's. */
export function missingImports(imports: readonly MissingImport[]): InstantiationError {
  const lacksMemory = imports.some(({ kind, given }) => kind === 'memory' && given === undefined);
  const cause = new SandboxError(messageFor(imports));
  debug('failed to instantiate: %s', cause.message);
  return new InstantiationError(cause.message, {
    kind: lacksMemory ? 'ModuleDecoding' : 'Instantiation',
    cause,
    missing: Object.freeze([...imports]),
  });
}

function messageFor(imports: readonly MissingImport[]): string {
  const [only] = imports;
  if (imports.length === 1 && only !== undefined) {
    if (only.given === undefined) return `the environment has no ${only.kind} for the import ${named(only)}`;
    return `the environment has another ${only.kind} than the import ${named(only)}`;
  }
  const more = imports.length - MOST_NAMED;
  const rest = more > 0 ? `; and ${more} more` : '';
  const list = imports.slice(0, MOST_NAMED).map(named).join('; ');
  return `the environment does not satisfy ${imports.length} imports: ${list}${rest}`;
}

function named({ module, name, kind, type, given }: MissingImport): string {
  const what = `${cut(module, MOST_CHARACTERS)}.${cut(name, MOST_CHARACTERS)}: ${signature(kind, type)}`;
  return given === undefined ? what : `${what}, but it has ${given}`;
}

/** A type as people read it. */
function signature(kind: string, type: Readonly<Record<string, unknown>>): string {
  switch (kind) {
    case 'function':
      return `(${list(type.parameters)}) -> (${list(type.results)})`;
    case 'memory':
      return describeMemory(type.minimum as number, type.maximum as number | undefined);
    case 'table':
      return `a table of ${String(type.element)}${sizes('elements', type.minimum, type.maximum)}`;
    case 'global':
      return `a ${type.mutable === true ? 'mutable ' : ''}global of type ${String(type.value)}`;
    default:
      return `a ${kind}`;
  }
}

/** @param minimum - pages, or what it has of them. @param maximum - pages */
export function describeMemory(minimum: number, maximum: number | undefined): string {
  return `a memory${sizes('pages', minimum, maximum)}`;
}

function sizes(unit: string, minimum: unknown, maximum: unknown): string {
  const most = maximum === undefined ? 'no maximum' : `a maximum of ${String(maximum)}`;
  return ` of ${String(minimum)} ${unit} with ${most}`;
}

function list(types: unknown): string {
  const names = types as readonly string[];
  return names.length <= MOST_NAMED
    ? names.join(', ')
    : `${names.slice(0, MOST_NAMED).join(', ')}, and ${names.length - MOST_NAMED} more`;
}
