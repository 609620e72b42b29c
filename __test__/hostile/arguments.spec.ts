// Every kind of hostile value for every parameter of every public function: the function takes it, where it is of the right type after
// all, or refuses it by an ArgumentError that names it, or lets the value's own error out. The guest, its handles and its components
// work as before.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as everything from '../../index';
import { ArgumentError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import {
  type Anything,
  type Became,
  becameOf,
  endProcessAfterTests,
  Findings,
  type HostileValue,
  hostileValues,
  isRefusal,
  thrownByValue,
} from '../support/hostile';
import { type Accepts, type HostileCall, hostileCalls } from './calls';
import { Subject, stillWorks } from './subject';

endProcessAfterTests();

const isAsync = (what: string): boolean => /Async$|\.compile$/.test(what);

/** Makes the call of a row, which must not throw if it is asynchronous. */
function made({ what, call }: HostileCall, s: Subject, bad: Anything): Promise<Became> {
  return becameOf(() => {
    if (!isAsync(what)) return call(s, bad);
    let promise: unknown;
    try {
      promise = call(s, bad);
    } catch {
      assert.fail(`${what} must reject, not throw`);
    }
    assert.ok(promise instanceof Promise, `${what} must give a Promise`);
    return promise;
  });
}

/** That a call has become what it may. */
function isRight(became: Became, isAccepted: boolean, argument: string, what: string): void {
  if (isAccepted) {
    if ('error' in became) isRefusal(became.error, undefined, what);
    return;
  }
  assert.ok('error' in became, `${what}: must be refused`);
  isRefusal(became.error, argument, what);
  const isOwn = became.error === thrownByValue || became.error instanceof TypeError;
  assert.ok(
    isOwn || became.error instanceof ArgumentError,
    `${what}: must be an ArgumentError, got ${became.error}`,
  );
}

describe('A hostile argument', () => {
  forEachBackend((backend) => {
    for (const [name, rows] of byName(hostileCalls)) {
      it(`of ${name} does what it may and no harm`, async () => {
        const findings = new Findings();
        for (const hostile of hostileValues) {
          for (const row of rows) {
            const s = subjectOf(backend);
            const what = `${row.what}, ${row.argument}: ${hostile.name}`;
            const bad = hostile.make();
            const isAccepted = row.accepts(hostile.make(), hostile.name);
            const became = await made(row, s, bad);
            findings.check(() => isRight(became, isAccepted, row.argument, what));
            findings.check(() => works(s, what));
          }
        }
        findings.none();
      });
    }
  });
});

describe('The table of hostile calls', () => {
  it('has every public function that has parameters', () => {
    const known = new Set(hostileCalls.map(({ what }) => what));
    assert.deepEqual(
      publicFunctions().filter((name) => !known.has(name)),
      [],
    );
  });
});

describe('A hostile number', () => {
  const numbers: Accepts = (value) => typeof value === 'number';
  const rows: [name: Exclude<keyof typeof Value, 'prototype'>, argument: string, accepts: Accepts][] = [
    ['I32', 'n', (value) => Object.is(value, -0) || value === -1],
    ['I64', 'n', (value) => value === 1n],
    ['F32', 'bits', (value) => Object.is(value, -0)],
    ['F64', 'bits', (value) => value === 1n],
    ['f32', 'x', numbers],
    ['f64', 'x', numbers],
    ['toNumber', 'v', () => false],
  ];
  for (const [name, argument, accepts] of rows) {
    it(`of Value.${name} is refused by a TypeError or a RangeError of this package`, async () => {
      const findings = new Findings();
      const make = Value[name] as (value: Anything) => unknown;
      for (const hostile of hostileValues)
        findings.check(() => numberIsRight(make, argument, accepts(hostile.make(), hostile.name), hostile));
      findings.none();
    });
  }

  for (const type of ['i32', 'i64', 'f32', 'f64'] as const) {
    it(`in a Value of type ${type} is refused by Value.toNumber, which names it`, () => {
      const findings = new Findings();
      const payload = type.startsWith('i') ? 'value' : 'bits';
      const make = (bad: Anything): unknown => Value.toNumber({ type, [payload]: bad } as Anything);
      for (const hostile of hostileValues) {
        const bad = hostile.make();
        const isNumber = Object.is(bad, -0) || (bad === -1 && type === 'i32');
        const isAccepted = type.endsWith('32') ? isNumber : bad === 1n;
        findings.check(() => numberIsRight(make, `v.${payload}`, isAccepted, hostile));
      }
      findings.none();
    });
  }

  function numberIsRight(
    make: (value: Anything) => unknown,
    argument: string,
    isAccepted: boolean,
    { name, make: bad }: HostileValue,
  ): void {
    try {
      make(bad());
    } catch (error) {
      if (error === thrownByValue || (error instanceof TypeError && /revoked/.test(error.message))) return;
      assert.ok(error instanceof TypeError || error instanceof RangeError, `${name}: ${error}`);
      assert.equal((error as Error & { code?: string }).code, 'ERR_SANDBOX_ARGUMENT', `${name}: ${error}`);
      assert.ok(error.message.startsWith(argument), `${name}: must name ${argument}: ${error.message}`);
      assert.ok(!isAccepted, `${name}: must be taken`);
      return;
    }
    assert.ok(isAccepted, `${name}: must be refused`);
  }
});

const subjects = new Map<string, Subject>();

/** One subject for all rows, so that what one call breaks another one finds. */
function subjectOf(backend: Anything): Subject {
  const known = subjects.get(backend) ?? new Subject(backend);
  subjects.set(backend, known);
  return known;
}

function works(s: Subject, what: string): void {
  try {
    stillWorks(s);
  } catch (error) {
    // The next rows are to have a guest that works.
    subjects.delete(s.backend);
    assert.fail(`${what}: afterwards the guest does not work any more: ${error}`);
  }
}

/** The rows of each function. */
function byName(rows: readonly HostileCall[]): Map<string, HostileCall[]> {
  const found = new Map<string, HostileCall[]>();
  for (const row of rows) {
    const known = found.get(row.what);
    if (known === undefined) found.set(row.what, [row]);
    else known.push(row);
  }
  return found;
}

/** The names of all public functions, constructors and methods that have parameters. */
function publicFunctions(): string[] {
  const isError = (value: Anything): boolean => value === Error || value.prototype instanceof Error;
  const names: string[] = [];
  for (const [name, value] of Object.entries(everything) as [string, Anything][]) {
    if (name === 'codec') names.push(...Object.keys(value).map((key) => `codec.${key}`));
    if (typeof value !== 'function' || isError(value)) continue;
    if (value.length > 0) names.push(`new ${name}`);
    for (const holder of [value, value.prototype]) {
      for (const [key, { value: method }] of Object.entries(Object.getOwnPropertyDescriptors(holder)) as [
        string,
        Anything,
      ][])
        if (typeof method === 'function' && key !== 'constructor' && method.length > 0)
          names.push(`${name}.${key}`);
    }
  }
  const notForUsers = [
    'new Memory',
    'new SandboxInstance',
    'new UnregisteredInstance',
    'new GuestEnvironment',
    'new CompiledModule',
  ];
  return names.filter((name) => !notForUsers.includes(name));
}
