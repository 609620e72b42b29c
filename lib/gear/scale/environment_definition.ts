/**
 * `EnvironmentDefinition` of `gear-sandbox-env`: what a guest may import, each entry under a module name
 * and a field name. Entries keep their order, and duplicates are kept too. What an entry means is
 * decided when a guest is instantiated.
 */

import { type BufferSource, list, object, oneOf, uint32, wellFormedString } from '../../base/arguments';
import { Reader } from './reader';
import { sizeOfLength, sizeOfString, Writer } from './writer';

/** What a guest may import. Mirrors `gear_sandbox_env::EnvironmentDefinition`. */
export interface EnvironmentDefinition {
  /** The imports, in order. Of several of one kind with the same names, the last one counts. */
  readonly entries: readonly EnvironmentEntry[];
}

/** One thing that a guest may import. Mirrors `gear_sandbox_env::Entry`. */
export interface EnvironmentEntry {
  /** The module name of the import. */
  readonly moduleName: string;
  /** The field name of the import. */
  readonly fieldName: string;
  /** The function or memory that satisfies the import. */
  readonly entity: ExternEntity;
}

/**
 * A function of the supervisor, by its supervisor function index, or a sandboxed memory, by its index.
 * Mirrors `gear_sandbox_env::ExternEntity`.
 */
export interface ExternEntity {
  /** The kind of the entity. */
  readonly kind: 'function' | 'memory';
  /** The supervisor function index, or the index of the memory in its components; from 0 to 2^32 - 1. */
  readonly index: number;
}

/** The first byte of an entity. The Rust enum gives these indices itself; there is no 0. */
const FUNCTION = 1;
const MEMORY = 2;

/** The size of an entity. */
const ENTITY_BYTES = 5;
/** The size of an entry with two empty names. */
const LEAST_ENTRY_BYTES = 2 + ENTITY_BYTES;

/**
 * Encodes a `gear_sandbox_env::EnvironmentDefinition`. {@link EnvironmentDefinitionBuilder} is more
 * convenient.
 *
 * @param definition - the entries, which are encoded in their order
 * @returns the bytes, a new array
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `definition` is none, or a name has a
 *   lone surrogate, which UTF-8 can't encode
 * @example
 * ```ts
 * codec.encodeEnvironmentDefinition({
 *   entries: [{ moduleName: 'env', fieldName: 'memory', entity: { kind: 'memory', index: 0 } }],
 * });
 * ```
 */
export function encodeEnvironmentDefinition(definition: EnvironmentDefinition): Uint8Array<ArrayBuffer> {
  const entries = toUtf8Entries(object(definition, 'definition').entries, 'definition.entries');
  let size = sizeOfLength(entries.length);
  for (const entry of entries) {
    size += sizeOfString(entry.moduleName) + sizeOfString(entry.fieldName) + ENTITY_BYTES;
  }
  const writer = new Writer(size);
  writer.length(entries.length);
  for (const entry of entries) {
    writer.string(entry.moduleName);
    writer.string(entry.fieldName);
    writer.byte(entry.kind === 'function' ? FUNCTION : MEMORY);
    writer.bits32(entry.index);
  }
  return writer.bytes;
}

/**
 * Decodes a `gear_sandbox_env::EnvironmentDefinition`. Bytes after it are ignored, as the reference does.
 *
 * @param bytes - the encoding; whatever follows it is ignored
 * @returns the entries, in their order
 * @throws a {@link CodecError} (`ERR_SANDBOX_CODEC`) if the bytes are truncated or unknown, or a name is
 *   no UTF-8
 * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `bytes` is no buffer or view, or is detached
 * @example
 * ```ts
 * codec.decodeEnvironmentDefinition(definition).entries.map(({ moduleName, fieldName }) => `${moduleName}.${fieldName}`);
 * ```
 */
export function decodeEnvironmentDefinition(bytes: BufferSource): EnvironmentDefinition {
  const reader = new Reader(bytes);
  const entries: EnvironmentEntry[] = [];
  for (let remaining = reader.length('a list of entries', LEAST_ENTRY_BYTES); remaining > 0; remaining -= 1) {
    const moduleName = reader.string('a module name');
    const fieldName = reader.string('a field name');
    entries.push({ moduleName, fieldName, entity: readEntity(reader) });
  }
  return { entries };
}

function readEntity(reader: Reader): ExternEntity {
  const start = reader.offset;
  const kind = reader.byte('the kind of an entity');
  switch (kind) {
    case FUNCTION:
      return { kind: 'function', index: reader.uint32('a function index') };
    case MEMORY:
      return { kind: 'memory', index: reader.uint32('a memory index') };
    default:
      throw reader.error(`unknown kind of entity ${kind}`, start);
  }
}

/** An entry that is checked and ready to be written. */
interface Utf8Entry {
  readonly moduleName: Uint8Array;
  readonly fieldName: Uint8Array;
  readonly kind: ExternEntity['kind'];
  readonly index: number;
}

function toUtf8Entries(value: unknown, name: string): Utf8Entry[] {
  const source = list(value, name);
  const entries: Utf8Entry[] = [];
  // By index, since an iterator would pass over holes or be the caller's own.
  for (let index = 0; index < source.length; index += 1) {
    entries.push(toUtf8Entry(source[index], `${name}[${index}]`));
  }
  return entries;
}

function toUtf8Entry(value: unknown, name: string): Utf8Entry {
  const entry = object(value, name);
  const moduleName = utf8(entry.moduleName, `${name}.moduleName`);
  const fieldName = utf8(entry.fieldName, `${name}.fieldName`);
  const entity = object(entry.entity, `${name}.entity`);
  const kind = oneOf(entity.kind, `${name}.entity.kind`, ['function', 'memory']);
  return { moduleName, fieldName, kind, index: uint32(entity.index, `${name}.entity.index`) };
}

function utf8(value: unknown, name: string): Uint8Array {
  return Buffer.from(wellFormedString(value, name), 'utf8');
}
