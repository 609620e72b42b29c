/**
 * Argument checks, used by all of `lib`. Each takes a value and the name by which the caller knows it,
 * and returns the value with its type, or throws an `ArgumentError`: `<argument> must be …, got …`. No
 * check runs code of the caller (getters, `valueOf`, proxy traps), so an argument cannot change between
 * its check and its use.
 */

import { types } from 'node:util';
import { ArgumentError } from './errors';
import { dataProperty, describeForeignHandle } from './handle';
import { cut } from './short_text';

/**
 * Any object that holds bytes: an `ArrayBuffer`, a `SharedArrayBuffer`, or a view of one, such as a
 * `Uint8Array` or a `Buffer`.
 */
export type BufferSource = ArrayBufferLike | ArrayBufferView;

const UINT32_MAX = 0xffff_ffff;
const MOST_OF_HANDLE = 200;
/** Up to this many bytes are copied faster one by one. */
const FEW_BYTES = 32;
/** Larger bigints are not shown: converting an enormous one to decimal digits would take minutes. */
const BIGINT_SHOWN = 1n << 128n;

/** A number from 0 to 2^32 - 1 without a fraction: an index, an address or a size of 32-bit WebAssembly. */
export function uint32(value: unknown, name: string): number {
  // `>>> 0` also turns -0 into 0.
  if (typeof value === 'number' && value >>> 0 === value) return value >>> 0;
  throw argumentError(name, `an integer from 0 to ${UINT32_MAX}`, value);
}

/** A number without a fraction from `min` to `max`, both included. */
export function integer(
  value: unknown,
  name: string,
  min: number = Number.MIN_SAFE_INTEGER,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  // Adding 0 turns -0 into 0.
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value + 0;
  throw argumentError(name, `an integer from ${min} to ${max}`, value);
}

/** A bigint from -2^63 to 2^63 - 1. */
export function int64(value: unknown, name: string): bigint {
  if (typeof value === 'bigint' && BigInt.asIntN(64, value) === value) return value;
  throw argumentError(name, 'a bigint from -2^63 to 2^63 - 1', value);
}

/** A bigint from 0 to 2^64 - 1. */
export function uint64(value: unknown, name: string): bigint {
  if (typeof value === 'bigint' && BigInt.asUintN(64, value) === value) return value;
  throw argumentError(name, 'a bigint from 0 to 2^64 - 1', value);
}

/** `true` or `false`. */
export function boolean(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value;
  throw argumentError(name, 'a boolean', value);
}

/** A primitive string. */
export function string(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw argumentError(name, 'a string', value);
}

/** A string that UTF-8 can encode: one without half a surrogate pair. */
export function wellFormedString(value: unknown, name: string): string {
  if (!/\p{Surrogate}/u.test(string(value, name))) return value as string;
  throw argumentError(name, 'a string without lone surrogates', value);
}

/** An object that is neither null nor an array nor a function, to read its properties. */
export function object(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !isArray(value)) return value as Record<string, unknown>;
  throw argumentError(name, 'an object', value);
}

/**
 * An array. Its elements have not been checked, and neither has its length if it is a proxy: see
 * {@link list}.
 */
export function array(value: unknown, name: string): readonly unknown[] {
  if (isArray(value)) return value;
  throw argumentError(name, 'an array', value);
}

/** An array that will be read to its end, so it must have one: a proxy may report any length. */
export function list(value: unknown, name: string): readonly unknown[] {
  const elements = array(value, name);
  const { length } = elements;
  if (typeof length === 'number' && length >>> 0 === length) return elements;
  throw argumentError(`${name}.length`, `an integer from 0 to ${UINT32_MAX}`, length);
}

/** A function. */
export function fn(value: unknown, name: string): (...args: never[]) => unknown {
  if (typeof value === 'function') return value as (...args: never[]) => unknown;
  throw argumentError(name, 'a function', value);
}

/** One of the values in `allowed`. */
export function oneOf<const T extends string | number | boolean>(
  value: unknown,
  name: string,
  allowed: readonly T[],
): T {
  if (allowed.includes(value as T)) return value as T;
  throw argumentError(name, `one of ${allowed.map(describe).join(', ')}`, value);
}

/**
 * The bytes of an `ArrayBuffer`, a `SharedArrayBuffer` or any view of one, as a `Uint8Array` over the
 * same memory. Nothing is copied, and the result is no subclass such as `Buffer`, whose `slice` behaves
 * differently. It may be the caller's own array, with properties of its own, so use {@link lengthOf},
 * {@link copyOf} and {@link copyInto} on it instead of its properties. A detached buffer is refused,
 * because its length of 0 would pass as "no bytes".
 */
export function bytes(value: unknown, name: string): Uint8Array {
  if (isBufferSource(value) && !isDetached(value)) return viewOf(value);
  throw argumentError(name, 'a buffer or a view of one, not detached', value);
}

/** The number of bytes of an array, regardless of its own properties. */
export function lengthOf(view: Uint8Array): number {
  // This does not use `getterOf`: all its functions are one to V8, so that it inlines none of them.
  return lengthGetter.call(view);
}

/** A copy of an array, without its own properties. */
export function copyOf(view: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view);
}

/** Like {@link copyOf}, for an array that is usually short. */
export function copyOfFew(view: Uint8Array): Uint8Array<ArrayBuffer> {
  const length = lengthOf(view);
  if (length > FEW_BYTES) return copyOf(view);
  const copy = new Uint8Array(length);
  for (let index = 0; index < length; index += 1) copy[index] = view[index];
  return copy;
}

/** Copies an entire array to the beginning of another, which must have room for it. */
export function copyInto(dest: Uint8Array, source: Uint8Array): void {
  typedArraySet.call(dest, source);
}

/** Whether an array is a view of memory that other threads may write to. */
export function isShared(view: Uint8Array): boolean {
  return types.isSharedArrayBuffer(typedArrayBuffer(view));
}

/** The error for a wrong argument; `expected` completes "must be …". */
export function argumentError(name: string, expected: string, value: unknown): ArgumentError {
  return new ArgumentError(`${name} must be ${expected}, got ${describe(value)}`, { argument: name });
}

/**
 * A short description of any value, for messages. It never throws and runs no code of the value: no
 * getter, no `toString`, no proxy trap.
 */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return describeString(value);
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'bigint':
      return value > -BIGINT_SHOWN && value < BIGINT_SHOWN ? `${value}n` : 'a bigint of more than 128 bits';
    case 'symbol':
      return cut(String(value));
    case 'function':
      return types.isProxy(value) ? 'a Proxy' : 'a function';
    case 'object':
      return value === null ? 'null' : describeObject(value);
    default:
      return String(value); // undefined and booleans
  }
}

function describeString(text: string): string {
  const shown = cut(text);
  if (shown === text) return JSON.stringify(text);
  return `${JSON.stringify(shown)} of ${text.length} characters`;
}

function describeObject(value: object): string {
  // Check this first: everything below would run a proxy's traps, or throw if the proxy is revoked.
  if (types.isProxy(value)) return 'a Proxy';
  if (Array.isArray(value)) return `an array of length ${value.length}`;
  if (isBufferSource(value)) {
    const className = bufferClass(value);
    const article = /^[AI]/.test(className) ? 'an' : 'a';
    return isDetached(value)
      ? `a detached ${className}`
      : `${article} ${className} of ${lengthOf(viewOf(value))} bytes`;
  }
  const handle = describeForeignHandle(value);
  if (handle !== undefined) return cut(handle, MOST_OF_HANDLE);
  const className = classNameOf(value);
  return className === undefined || className === 'Object' ? 'an object' : `an instance of ${cut(className)}`;
}

/** The name of the class whose prototype is the object's own, if it can be read without running code. */
export function classNameOf(value: object): string | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  const name = dataProperty(dataProperty(prototype, 'constructor'), 'name');
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/** `Array.isArray` that does not throw on a revoked proxy. */
export function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

// The getters of the prototypes themselves, because a subclass or an own property may override those
// that `view.byteLength` finds.
const typedArrayPrototype: object = Object.getPrototypeOf(Uint8Array.prototype);
const typedArrayClass = getterOf<string | undefined>(typedArrayPrototype, Symbol.toStringTag);
const typedArrayBuffer = getterOf<ArrayBufferLike>(typedArrayPrototype, 'buffer');
const typedArrayOffset = getterOf<number>(typedArrayPrototype, 'byteOffset');
const typedArrayLength = getterOf<number>(typedArrayPrototype, 'byteLength');
const typedArraySet = Uint8Array.prototype.set;
const lengthGetter = Object.getOwnPropertyDescriptor(typedArrayPrototype, 'length')?.get as () => number;
const dataViewBuffer = getterOf<ArrayBufferLike>(DataView.prototype, 'buffer');
const dataViewOffset = getterOf<number>(DataView.prototype, 'byteOffset');
const dataViewLength = getterOf<number>(DataView.prototype, 'byteLength');

function getterOf<T>(prototype: object, key: PropertyKey): (receiver: object) => T {
  const getter = Object.getOwnPropertyDescriptor(prototype, key)?.get as () => T;
  return (receiver) => getter.call(receiver);
}

function isBufferSource(value: unknown): value is BufferSource {
  return ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value);
}

/** Returns a view of an entire source that is not detached. */
function viewOf(source: BufferSource): Uint8Array {
  if (!ArrayBuffer.isView(source)) return new Uint8Array(source);
  const className = typedArrayClass(source);
  if (className === undefined) {
    return new Uint8Array(dataViewBuffer(source), dataViewOffset(source), dataViewLength(source));
  }
  const isPlain = className === 'Uint8Array' && Object.getPrototypeOf(source) === Uint8Array.prototype;
  if (isPlain) return source as Uint8Array;
  return new Uint8Array(typedArrayBuffer(source), typedArrayOffset(source), typedArrayLength(source));
}

/**
 * Whether a buffer is detached, or a view is unusable because its buffer is detached or has become too
 * short for it.
 */
function isDetached(source: BufferSource): boolean {
  try {
    if (!ArrayBuffer.isView(source)) {
      // `ArrayBuffer.prototype.detached` is newer than Node 20. Creating a view of a detached buffer
      // fails too.
      new Uint8Array(source);
    } else if (typedArrayClass(source) === undefined) {
      dataViewLength(source);
    } else if (typedArrayLength(source) === 0) {
      // A typed array just claims to be empty then, but its methods throw.
      Uint8Array.prototype.indexOf.call(source as Uint8Array, 0);
    }
    return false;
  } catch {
    return true;
  }
}

function bufferClass(source: BufferSource): string {
  if (!ArrayBuffer.isView(source)) return types.isArrayBuffer(source) ? 'ArrayBuffer' : 'SharedArrayBuffer';
  return typedArrayClass(source) ?? 'DataView';
}
