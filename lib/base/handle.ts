/**
 * What all handles of this package have in common, so everything that stands for something native or for private state: they cannot be
 * cloned, `util.inspect` shows what they are, and another copy of this package recognises them. Nothing here runs code of the caller.
 */

import { inspect, types } from 'node:util';
import { cut } from './short_text';
import { VERSION } from './version';

/** What a class of handles has under {@link BRAND}, in every copy of this package. */
interface Brand {
  /** The class, whatever a minifier has made of its name. */
  readonly name: string;
  /** Of the package. */
  readonly version: string;
  /** An object that each copy of the package has its own of. */
  readonly copy: object;
}

/** The same symbol in every copy. */
const BRAND = Symbol.for('sandbox-host.handle');
const THIS_COPY = Object.freeze({});

/** A class of handles. */
interface HandleClass {
  readonly name: string;
  /** Whether something was made by its constructor: false for what only has the prototype. */
  is(value: object): boolean;
  /** What it is, in a few properties; it may throw. */
  describe(value: object): object;
}

const classes: HandleClass[] = [];

/**
 * Makes the objects of a class uncloneable. `structuredClone` and `postMessage` would make hollow objects of them otherwise: the private state
 * does not go along. V8 clones no `WeakRef`, on every version of Node, and an object that is one behaves as any other in all else: its
 * prototype is out of sight, and access to it costs the same. (`markAsUncloneable` is younger than Node 20, and not in other runtimes.)
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
 * Makes a class one of handles. It must be declared as `extends Object`, which is for the language alone: only then can it have another base,
 * whose name the public types need not have.
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
  // Whatever only has the prototype, and the prototype itself.
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
    // Such as that another thread is running the guest.
    return { unknown: (error as Error).message };
  }
}

/** The most names that are shown: guests choose how many there are. */
const MOST_NAMES = 10;

/** Names for {@link defineHandle}'s `describe`. */
export function someNames<T>(named: readonly T[], nameOf: (one: T) => string): readonly string[] {
  const shown = named.slice(0, MOST_NAMES).map((one) => cut(nameOf(one)));
  return named.length <= MOST_NAMES ? shown : [...shown, `… and ${named.length - MOST_NAMES} more`];
}

/**
 * What to call an object in a message that has the prototype of a handle but is none of this copy; undefined for all other objects.
 *
 * @param value - no proxy
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

/** The most classes between an object and the handle's. */
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
