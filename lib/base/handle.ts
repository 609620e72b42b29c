/**
 * Common behaviour of all handles of this package, that is, of every object that represents something
 * native or private state: they cannot be cloned, `util.inspect` shows what they are, and another copy
 * of this package recognises them. Nothing here runs code of the caller.
 */

import { inspect, types } from 'node:util';
import { cut } from './short_text';
import { VERSION } from './version';

/** The value of a handle class's property {@link BRAND}, in every copy of this package. */
interface Brand {
  /** The name of the class, regardless of a minifier. */
  readonly name: string;
  /** The version of the package. */
  readonly version: string;
  /** An object that is unique to each copy of the package. */
  readonly copy: object;
}

/** The same symbol in every copy. */
const BRAND = Symbol.for('sandbox-host.handle');
const THIS_COPY = Object.freeze({});

/** A class of handles. */
interface HandleClass {
  readonly name: string;
  /** Whether an object was created by the constructor: false for one that only has the prototype. */
  is(value: object): boolean;
  /** A description of the object in a few properties; it may throw. */
  describe(value: object): object;
}

const classes: HandleClass[] = [];

/**
 * Makes the objects of a class uncloneable. Otherwise `structuredClone` and `postMessage` would create
 * hollow objects, without the private state. V8 clones no `WeakRef`, on every version of Node, and an
 * object that is a `WeakRef` otherwise behaves like any other: that prototype is not visible, and access
 * costs the same. (`markAsUncloneable` is newer than Node 20, and not in other runtimes.)
 */
class Uncloneable extends WeakRef<object> {
  constructor() {
    super(THIS_COPY);
  }
}
/** The prototypes of all handles inherit from it. */
const handlePrototype: object = Object.create(Object.prototype, {
  [inspect.custom]: { value: inspectHandle },
});

/**
 * Turns a class into a handle class. It must be declared with `extends Object`, which only the language
 * requires: a class without `extends` cannot get another base. The public types need not name that base.
 */
export function defineHandle<T extends object>(
  Class: { readonly prototype: T },
  name: string,
  is: (value: object) => boolean,
  describe: (value: T) => object,
): void {
  Object.setPrototypeOf(Class, Uncloneable);
  const brand: Brand = Object.freeze({ name, version: VERSION, copy: THIS_COPY });
  Object.defineProperty(Class, BRAND, { value: brand });
  Object.setPrototypeOf(Class.prototype, handlePrototype);
  classes.push({ name, is, describe: describe as (value: object) => object });
}

function inspectHandle(this: unknown, depth: unknown, options: object): unknown {
  if (typeof this !== 'object' || this === null || types.isProxy(this)) return this;
  const found = classOf(this);
  // An object that only has the prototype, or the prototype itself.
  if (found === undefined) return this;
  if (typeof depth === 'number' && depth < 0) return `[${found.name}]`;
  return `${found.name} ${inspect(described(this, found), { ...options, ...BOUNDS })}`;
}

const BOUNDS = { depth: 2, maxArrayLength: 100, maxStringLength: 200, showHidden: false } as const;

function classOf(value: object): HandleClass | undefined {
  return classes.find(({ is }) => is(value));
}

function described(value: object, { describe }: HandleClass): object {
  try {
    return describe(value);
  } catch (error) {
    // For example, another thread is running the guest.
    return { unknown: (error as Error).message };
  }
}

/** The most names that are shown, because guests choose how many there are. */
const MOST_NAMES = 10;

/** Names for {@link defineHandle}'s `describe`. */
export function someNames<T>(named: readonly T[], nameOf: (one: T) => string): readonly string[] {
  const shown = named.slice(0, MOST_NAMES).map((one) => cut(nameOf(one)));
  return named.length <= MOST_NAMES ? shown : [...shown, `… and ${named.length - MOST_NAMES} more`];
}

/**
 * How messages describe an object that has the prototype of a handle but is not a handle of this copy;
 * undefined for all other objects.
 *
 * @param value - an object that is not a proxy
 */
export function describeForeignHandle(value: object): string | undefined {
  const brand = brandOf(value);
  if (brand === undefined) return undefined;
  const { name, version, copy } = brand;
  if (copy !== THIS_COPY) {
    return `${name} of another copy of sandbox-host, of version ${version}, whose handles are its own: load the package once`;
  }
  return classOf(value) === undefined ? `an object with the prototype of ${name} that is none` : undefined;
}

/** Whether an object is a handle of another copy, or of a class derived from one. */
export function isOfAnotherCopy(value: object): boolean {
  if (types.isProxy(value)) return false;
  const brand = brandOf(value);
  return brand !== undefined && brand.copy !== THIS_COPY;
}

/** The most classes between an object and the handle class. */
const MOST_PROTOTYPES = 16;

function brandOf(value: object): Brand | undefined {
  let holder: unknown = value;
  for (let level = 0; level < MOST_PROTOTYPES && holder !== null && !types.isProxy(holder); level += 1) {
    const brand = dataProperty(dataProperty(holder, 'constructor'), BRAND);
    if (isBrand(brand)) return brand;
    holder = Object.getPrototypeOf(holder);
  }
  return undefined;
}

/** A property, if it can be read without running code. */
export function dataProperty(holder: unknown, key: PropertyKey): unknown {
  if ((typeof holder !== 'object' && typeof holder !== 'function') || holder === null) return undefined;
  return types.isProxy(holder) ? undefined : Object.getOwnPropertyDescriptor(holder, key)?.value;
}

function isBrand(value: unknown): value is Brand {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return false;
  const isString = (key: string): boolean => typeof dataProperty(value, key) === 'string';
  return Object.isFrozen(value) && isString('name') && isString('version');
}
