// What a hostile caller may pass where something else is expected, and what may become of that: it works, or it is refused by an
// error of this package, or the value's own error comes out. Never anything else, and never a crash.
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { inspect, types } from 'node:util';
import {
  ArgumentError,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  JsSupervisor,
  Memory,
  ModuleCache,
  SandboxComponents,
  SandboxError,
  SandboxHost,
  SandboxInstance,
  UnregisteredInstance,
} from '../../index';

// biome-ignore lint/suspicious/noExplicitAny: everything here is of a wrong type
export type Anything = any;

/** What every trap and getter of a hostile value throws. */
export const thrownByValue = new Error('thrown by a hostile value');

export interface HostileValue {
  readonly name: string;
  /** Makes a new one, because using it may change it. */
  make(): Anything;
}

type Resizable = ArrayBuffer & { resize(length: number): void };

/** A buffer that can be resized, which the types of this Node do not know. */
export function resizable(length: number, most: number): Resizable {
  const Class = ArrayBuffer as unknown as new (
    length: number,
    options: { maxByteLength: number },
  ) => Resizable;
  return new Class(length, { maxByteLength: most });
}

export function detach(buffer: ArrayBuffer): void {
  structuredClone(buffer, { transfer: [buffer] });
}

function detached<T>(make: (buffer: ArrayBuffer) => T): T {
  const buffer = new ArrayBuffer(16);
  const made = make(buffer);
  detach(buffer);
  return made;
}

function shrunk<T>(make: (buffer: ArrayBuffer) => T): T {
  const buffer = resizable(16, 16);
  const made = make(buffer);
  buffer.resize(2);
  return made;
}

const fail = (): never => {
  throw thrownByValue;
};

/** A proxy all of whose traps throw. */
function throwing(target: object): object {
  return new Proxy(
    target,
    Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, fail])),
  );
}

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** An array of bytes that says something else of itself than it is. */
function lying(properties: Record<string, unknown>): Uint8Array {
  const array = Uint8Array.of(4, 0, 1, 0);
  for (const [name, value] of Object.entries(properties)) Object.defineProperty(array, name, { value });
  return array;
}

const classes = [
  SandboxComponents,
  SandboxInstance,
  Memory,
  GuestEnvironment,
  EnvironmentDefinitionBuilder,
  JsSupervisor,
  ModuleCache,
  SandboxHost,
  UnregisteredInstance,
] as const;

const values: [name: string, make: () => Anything][] = [
  ['undefined', () => undefined],
  ['null', () => null],
  ['true', () => true],
  ['NaN', () => Number.NaN],
  ['-1', () => -1],
  ['-0', () => -0],
  ['1.5', () => 1.5],
  ['2 ** 32', () => 2 ** 32],
  ['2 ** 53', () => 2 ** 53],
  ['Infinity', () => Infinity],
  ['1n', () => 1n],
  ['2n ** 64n', () => 2n ** 64n],
  ['an empty string', () => ''],
  ['a string', () => '1'],
  ['half a surrogate pair', () => '\ud800'],
  ['__proto__', () => '__proto__'],
  ['a long string', () => 'x'.repeat(100_000)],
  ['a symbol', () => Symbol('hostile')],
  ['a function', () => () => 1],
  ['a class', () => class {}],
  ['a function that throws', () => fail],
  ['an object', () => ({})],
  ['an object without a prototype', () => Object.create(null)],
  ['a frozen object', () => Object.freeze({})],
  ['an object with an unknown property', () => ({ nonsense: 1 })],
  ['a boxed number', () => Object(0)],
  ['a boxed string', () => Object('f')],
  ['an object that throws when it is converted', () => ({ valueOf: fail, toString: fail, toJSON: fail })],
  ['an object whose getters throw', () => withThrowingGetters()],
  ['a date', () => new Date(0)],
  ['a map', () => new Map([['timeout', 1]])],
  ['a Promise', () => Promise.resolve(1)],
  // biome-ignore lint/suspicious/noThenProperty: on purpose
  ['a thenable', () => ({ then: (done: (value: number) => void) => done(1) })],
  ['an array', () => []],
  ['a frozen array', () => Object.freeze([{}])],
  ['an array of holes', () => new Array(3)],
  ['an array that contains itself', () => selfish()],
  ['something like an array', () => ({ length: 1, 0: 0 })],
  ['a proxy that throws', () => throwing({})],
  ['a proxy of an array that throws', () => throwing([])],
  ['a proxy of a function that throws', () => throwing(() => 1)],
  ['a proxy of bytes that throws', () => throwing(new Uint8Array(1))],
  ['a proxy of bytes', () => new Proxy(new Uint8Array(1), {})],
  ['a revoked proxy', () => revoked({})],
  ['a revoked proxy of an array', () => revoked([])],
  ['a proxy of an array of no length', () => new Proxy([], { get: () => Number.NaN })],
  ['a detached ArrayBuffer', () => detached((buffer) => buffer)],
  ['a detached Uint8Array', () => detached((buffer) => new Uint8Array(buffer))],
  ['a detached DataView', () => detached((buffer) => new DataView(buffer))],
  ['a SharedArrayBuffer', () => new SharedArrayBuffer(8)],
  ['a view of shared memory', () => new Uint8Array(new SharedArrayBuffer(8), 2, 3)],
  ['a resizable ArrayBuffer', () => resizable(4, 8)],
  ['a view of a resizable ArrayBuffer', () => new Uint8Array(resizable(4, 8))],
  ['a view that its buffer became too short for', () => shrunk((buffer) => new Uint8Array(buffer, 4, 8))],
  ['a view that became shorter', () => shrunk((buffer) => new Uint8Array(buffer))],
  ['a DataView that its buffer became too short for', () => shrunk((buffer) => new DataView(buffer, 4))],
  ['a Float64Array', () => new Float64Array(1)],
  ['a BigInt64Array', () => new BigInt64Array(1)],
  ['a DataView', () => new DataView(new ArrayBuffer(8), 3)],
  ['a Buffer', () => Buffer.from('hostile')],
  ['bytes that claim to be more', () => lying({ length: 1000, byteLength: 1000 })],
  ['bytes that claim to be fewer', () => lying({ length: 0, byteLength: 0 })],
  ['bytes that claim another buffer', () => lying({ buffer: new ArrayBuffer(0), byteOffset: 5 })],
  ['bytes with methods of their own', () => lying({ slice: fail, subarray: fail, set: fail, fill: fail })],
  ['bytes of another species', () => lying({ constructor: { [Symbol.species]: Float64Array } })],
  ['components of wasmi', () => new SandboxComponents('wasmi')],
  ['components of wasmer', () => new SandboxComponents('wasmer')],
  ['a memory of other components', () => otherMemory()],
  ['a builder', () => new EnvironmentDefinitionBuilder()],
  ['a supervisor', () => new JsSupervisor()],
  ['a cache', () => new ModuleCache()],
  [
    'an environment of other components',
    () => GuestEnvironment.decode(new SandboxComponents('wasmi'), Uint8Array.of(0)),
  ],
  ...classes.map((Class): [string, () => Anything] => [
    `an object with the prototype of ${Class.name}`,
    () => Object.create(Class.prototype),
  ]),
];

/** One of each kind of hostile value. */
export const hostileValues: readonly HostileValue[] = values.map(([name, make]) => ({ name, make }));

function withThrowingGetters(): object {
  const names = [
    'type',
    'value',
    'bits',
    'length',
    'timeout',
    'invoke',
    'entries',
    'gas',
    'ok',
    'then',
    'backend',
  ];
  return Object.defineProperties(
    {},
    Object.fromEntries(names.map((name) => [name, { get: fail, enumerable: true }])),
  );
}

function selfish(): unknown[] {
  const array: unknown[] = [];
  array.push(array);
  return array;
}

function otherMemory(): Memory {
  const components = new SandboxComponents('wasmi');
  return components.memory(components.newMemory(0));
}

/** What became of a call. */
export type Became = { readonly value: unknown } | { readonly error: unknown };

/** Makes a call, and waits for it if it is asynchronous. */
export async function becameOf(call: () => unknown): Promise<Became> {
  try {
    const value = call();
    return { value: types.isPromise(value) ? await settled(value) : value };
  } catch (error) {
    return { error };
  }
}

/** Far longer than anything here takes, so that a call which never ends fails its test instead of all that come after it. */
const PATIENCE_MS = 10_000;

/** What a Promise comes to, which must not take forever. */
export async function settled<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(NEVER_SETTLED)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, never]);
  } finally {
    clearTimeout(timer);
  }
}

export const NEVER_SETTLED = 'the Promise never settles';

/** Whether this is what became of a call that never ends. */
export function isEndless(became: Became): boolean {
  return 'error' in became && became.error instanceof Error && became.error.message === NEVER_SETTLED;
}

/** Ends the process some time after its tests, also if a guest that never ends keeps it alive. For specs in which one might. */
export function endProcessAfterTests(): void {
  after(() => {
    setTimeout(() => process.exit(), PATIENCE_MS).unref();
  });
}

/**
 * Asserts that an error is one of this package's and no bug of it, or the hostile value's own. An `ArgumentError` must name `argument`
 * or a part of it.
 */
export function isRefusal(error: unknown, argument: string | undefined, what: string): void {
  if (error === thrownByValue) return;
  if (error instanceof TypeError && /revoked/.test(error.message)) return;
  assert.ok(error instanceof SandboxError, `${what}: expected a SandboxError, got ${shown(error)}`);
  assert.equal(typeof error.code, 'string', what);
  assert.notEqual(error.code, 'ERR_SANDBOX_INTERNAL', `${what}: ${error.message}`);
  if (argument === undefined || !(error instanceof ArgumentError)) return;
  const names = [argument, `${argument}.`, `${argument}[`];
  assert.ok(
    error.argument === argument || names.some((name) => error.argument.startsWith(name)),
    `${what}: must name ${argument}, names ${error.argument}: ${error.message}`,
  );
  // Its last word at least: a message may leave out that it is one of the options.
  const [last] = argument.split('.').slice(-1);
  assert.ok(error.message.includes(last), `${what}: the message must name ${last}: ${error.message}`);
}

function shown(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : inspect(error, { depth: 0 });
}

/** Collects what is wrong with many cases, so that a test tells of all of them and not just of the first. */
export class Findings {
  readonly #found: string[] = [];

  /** Runs some assertions about one case. */
  check(assertions: () => void): void {
    try {
      assertions();
    } catch (error) {
      this.#found.push(error instanceof Error ? error.message : String(error));
    }
  }

  add(finding: string): void {
    this.#found.push(finding);
  }

  /** Fails if there was anything. */
  none(): void {
    const count = this.#found.length;
    const more = count > MOST_SHOWN ? `\n… and ${count - MOST_SHOWN} more` : '';
    assert.ok(count === 0, `${count} cases:\n${this.#found.slice(0, MOST_SHOWN).join('\n')}${more}`);
  }
}

const MOST_SHOWN = 12;
