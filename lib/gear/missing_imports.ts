/** What an environment lacks of what a module imports: all of it at once, as data and as a sentence. */

import { debug } from '../base/debug';
import { InstantiationError, type MissingImport, SandboxError } from '../base/errors';
import { cut } from '../base/short_text';
import type { ImportDescription } from '../guest/module';

/** The most imports that a message names, and the most characters of a name in it: the guest chooses both. */
const MOST_NAMED = 10;
const MOST_CHARACTERS = 80;

/** An import that the environment does not satisfy; `given` says what it has under that name, if it has anything. */
export function missing(wanted: ImportDescription, given: string | undefined): MissingImport {
  return Object.freeze(given === undefined ? { ...wanted } : { ...wanted, given });
}

/** What an environment has under a name, for {@link missing}, if it is not of the kind that is imported. */
export const A_FUNCTION = 'a function';
export const A_MEMORY = 'a memory';

/** The error for them. The kind for a memory that is missing is the reference's. */
export function missingImports(imports: readonly MissingImport[]): InstantiationError {
  const lacksMemory = imports.some(
    ({ kind, given }) => kind === 'memory' && (given === undefined || given === A_FUNCTION),
  );
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
    if (!canBeGiven(only)) {
      const what = signature(only.kind, only.type);
      return `the import ${fullName(only)} cannot be satisfied: it is ${what}, and ${WHAT_CAN_BE_GIVEN}`;
    }
    if (only.given === undefined) return `the environment has no ${only.kind} for the import ${named(only)}`;
    return `the environment has no such ${only.kind} for the import ${named(only)}`;
  }
  const more = imports.length - MOST_NAMED;
  const rest = more > 0 ? `; and ${more} more` : '';
  const list = imports.slice(0, MOST_NAMED).map(named).join('; ');
  const why = imports.every(canBeGiven)
    ? ''
    : `. Of these, some can never be satisfied: ${WHAT_CAN_BE_GIVEN}`;
  return `the environment does not satisfy ${imports.length} imports: ${list}${rest}${why}`;
}

const WHAT_CAN_BE_GIVEN = 'an environment gives functions and memories only';

function canBeGiven({ kind }: MissingImport): boolean {
  return kind === 'function' || kind === 'memory';
}

function fullName({ module, name }: MissingImport): string {
  return `${cut(module, MOST_CHARACTERS)}.${cut(name, MOST_CHARACTERS)}`;
}

function named(wanted: MissingImport): string {
  const { kind, type, given } = wanted;
  const what = `${fullName(wanted)}: ${signature(kind, type)}`;
  return given === undefined ? what : `${what}, but it has ${given}`;
}

/** A type as people read it. */
function signature(kind: string, type: Readonly<Record<string, unknown>>): string {
  switch (kind) {
    case 'function':
      return `a function (${list(type.parameters)}) -> (${list(type.results)})`;
    case 'memory':
      return describeMemory(type.minimum as number, type.maximum as number | undefined);
    case 'table':
      return `a table of ${String(type.element)}${sizes('element', type.minimum, type.maximum)}`;
    case 'global':
      return `a ${type.mutable === true ? 'mutable ' : ''}global of type ${String(type.value)}`;
    default:
      return 'a tag, or another kind that this package does not know';
  }
}

/** A memory as people read it; both numbers are pages. */
export function describeMemory(minimum: number, maximum: number | undefined): string {
  return `a memory${sizes('page', minimum, maximum)}`;
}

function sizes(unit: string, minimum: unknown, maximum: unknown): string {
  const most = maximum === undefined ? 'no maximum' : `a maximum of ${String(maximum)}`;
  return ` of ${String(minimum)} ${unit}${minimum === 1 ? '' : 's'} with ${most}`;
}

function list(types: unknown): string {
  const names = types as readonly string[];
  return names.length <= MOST_NAMED
    ? names.join(', ')
    : `${names.slice(0, MOST_NAMED).join(', ')}, and ${names.length - MOST_NAMED} more`;
}
