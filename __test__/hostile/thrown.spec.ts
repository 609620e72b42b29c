// Whatever a supervisor throws or rejects with comes out as the cause, the very same thing: out of functions of a JsSupervisor, each of the
// six steps and start functions, in both kinds of calls, under both versions. And the guest can be called again.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runInNewContext } from 'node:vm';
import {
  BusyError,
  Instantiate,
  InstantiationError,
  InternalError,
  JsSupervisor,
  LimitError,
  type SandboxBackend,
  SandboxError,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { type Guest, guest } from '../support/guest';
import {
  type Became,
  becameOf,
  endProcessAfterTests,
  Findings,
  hostileValues,
  thrownByValue,
} from '../support/hostile';
import { ProtocolSupervisor, type Step, sixSteps, type Way } from '../support/protocol';
import { wat } from '../support/wat';

endProcessAfterTests();

const fail = (): never => {
  throw thrownByValue;
};

const errorWith = (properties: PropertyDescriptorMap): Error =>
  Object.defineProperties(new Error('told'), properties);

/** Errors that are no longer what they were, and those of this package, which must not be taken for its own of this call. */
const errors: [name: string, make: () => unknown][] = [
  ['an error', () => new Error('told')],
  ['a frozen error', () => Object.freeze(new Error('told'))],
  ['an error whose message throws', () => errorWith({ message: { get: fail } })],
  ['an error whose message is a symbol', () => errorWith({ message: { value: Symbol('told') } })],
  [
    'an error whose every property throws',
    () =>
      // The stack first, which is else made of the other two when it is replaced.
      errorWith({ stack: { get: fail }, message: { get: fail }, name: { get: fail }, cause: { get: fail } }),
  ],
  ['an error without a prototype', () => Object.setPrototypeOf(new Error('told'), null)],
  ['a proxy of an error', () => new Proxy(new Error('told'), {})],
  [
    'a proxy of an error whose prototype throws',
    () => new Proxy(new Error('told'), { getPrototypeOf: fail }),
  ],
  ['an error of another realm', () => runInNewContext('new Error("told")')],
  ['an error that native code might have made', () => errorWith({ kind: { value: 'busy' } })],
  ['another such error', () => errorWith({ kind: { value: 'panic' } })],
  ['an error whose kind throws', () => errorWith({ kind: { get: fail } })],
  ['a DOMException', () => new DOMException('told', 'AbortError')],
  ['a SandboxError', () => new SandboxError('told')],
  ['a TrapError', () => new TrapError('told', { trap: 'interrupted' })],
  ['a timeout', () => new SandboxError('told', { code: 'ERR_SANDBOX_TIMEOUT' })],
  ['a BusyError', () => new BusyError('told')],
  ['a LimitError', () => new LimitError('told')],
  ['an InternalError', () => new InternalError('told')],
  ['an InstantiationError', () => new InstantiationError('told', { kind: 'StartTrapped' })],
  ['what only has the prototype of an error', () => Object.create(TrapError.prototype)],
  ['a RangeError of an exhausted stack', () => new RangeError('Maximum call stack size exceeded')],
  ['a Promise that is pending', () => new Promise(() => {})],
  ['a description of thrown things', () => ({ thrown: { value: 1 } })],
];

const thrown = [...errors.map(([name, make]) => ({ name, make })), ...hostileValues];

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func (export "f") (param i32) (result i32) (call $f (local.get 0))))`;
const STARTING = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func $start (drop (call $f (i32.const 1))))
  (start $start))`;

/** Where a supervisor fails: in a function of a JsSupervisor, or in a step of the protocol. */
type Place = 'a function' | Step;

class Failing {
  readonly guest: Guest;
  readonly #protocol: ProtocolSupervisor | undefined;
  readonly #place: Place;
  #way: Way | undefined;

  constructor(backend: SandboxBackend, version: Instantiate, place: Place) {
    this.#place = place;
    this.#protocol = place === 'a function' ? undefined : new ProtocolSupervisor(version);
    this.guest = guest({
      backend,
      version,
      supervisor: this.#protocol ?? new JsSupervisor(),
      imports: { 'env.f': ([n]) => (this.#way === undefined ? n : (this.#way(() => n) as Value)) },
      wat: GUEST,
    });
  }

  failBy(way: Way): void {
    if (this.#place === 'a function') this.#way = way;
    else this.#protocol?.doAt(this.#place, way);
  }

  behave(): void {
    this.#way = undefined;
    this.#protocol?.behave();
  }
}

const one = [Value.I32(5)];

/** How a guest is called, and how its supervisor fails then. */
const calls: [
  name: string,
  call: (made: Guest, version: Instantiate) => unknown,
  failWith: (why: unknown) => Way,
][] = [
  ['invoke', ({ instance, supervisor }) => instance.invoke('f', one, supervisor), throwing],
  ['invokeAsync', ({ instance, supervisor }) => instance.invokeAsync('f', one, supervisor), throwing],
  ['invokeAsync', ({ instance, supervisor }) => instance.invokeAsync('f', one, supervisor), rejecting],
  ['instantiate', (made, version) => start(made, version, 'instantiate'), throwing],
  ['instantiateAsync', (made, version) => start(made, version, 'instantiateAsync'), throwing],
  ['instantiateAsync', (made, version) => start(made, version, 'instantiateAsync'), rejecting],
];

describe('What a supervisor throws is the cause', () => {
  forEachBackend((backend) => {
    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      for (const place of ['a function', ...sixSteps] as const) {
        it(`when it fails in ${place} under Version${version}`, async () => {
          const findings = new Findings();
          const made = new Failing(backend, version, place);
          for (const [how, call, failWith] of calls) {
            for (const { name, make } of thrown) {
              const why = make();
              made.failBy(failWith(why));
              const became = await becameOf(() => call(made.guest, version));
              made.behave();
              const what = `${how} that is ${failWith === rejecting ? 'rejected' : 'thrown'} ${name}`;
              findings.check(() => isCause(became, how, why, what));
              findings.check(() => worksAsBefore(made.guest, what));
            }
          }
          findings.none();
        });
      }
    }
  });
});

function throwing(why: unknown): Way {
  return () => {
    throw why;
  };
}

function rejecting(why: unknown): Way {
  return () => Promise.reject(why);
}

function start(made: Guest, version: Instantiate, how: 'instantiate' | 'instantiateAsync'): unknown {
  const { components, supervisor } = made;
  return components[how](version, wat(STARTING), environment(components, { 'env.f': 0 }), supervisor);
}

function isCause(became: Became, how: string, why: unknown, what: string): void {
  assert.ok('error' in became, `${what}: must fail`);
  let { error } = became;
  if (how.startsWith('instantiate')) {
    assert.ok(
      error instanceof InstantiationError,
      `${what}: must be an InstantiationError, is ${typeof error}`,
    );
    assert.equal(error.kind, 'StartTrapped', what);
    error = error.cause;
  }
  assert.ok(error instanceof TrapError, `${what}: must be a TrapError, is ${typeof error}`);
  assert.equal(error.trap, 'supervisor', what);
  assert.equal(typeof error.message, 'string', what);
  assert.ok(Object.hasOwn(error, 'cause') && Object.is(error.cause, why), `${what}: must be the cause`);
}

function worksAsBefore({ instance, supervisor }: Guest, what: string): void {
  assert.deepEqual(instance.invoke('f', one, supervisor), one[0], what);
  assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n), what);
}
