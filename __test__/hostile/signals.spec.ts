// Signals that are none, or no longer what they were: proxies, heirs, signals with methods of their own, and reasons of every kind.
// Whatever a signal does, its call works, or ends with the signal's reason or an error, and the guest can be called again both ways.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type SandboxBackend, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import {
  type Anything,
  type Became,
  becameOf,
  endProcessAfterTests,
  Findings,
  hostileValues,
  isEndless,
  isRefusal,
  thrownByValue,
} from '../support/hostile';
import { wat } from '../support/wat';
import { Subject, stillWorks } from './subject';

endProcessAfterTests();

const fail = (): never => {
  throw thrownByValue;
};

/** A real signal that has these properties of its own. */
function signalWith(properties: Record<string, unknown>): AbortSignal {
  return Object.assign(new AbortController().signal, properties);
}

const kept: (() => void)[] = [];

const signals: [string, () => Anything][] = [
  ['an heir of a signal', () => Object.create(new AbortController().signal)],
  ['what only has the prototype', () => Object.create(AbortSignal.prototype)],
  ['an event target', () => new EventTarget()],
  [
    'an object like a signal',
    () => ({ aborted: false, reason: 1, addEventListener() {}, removeEventListener() {} }),
  ],
  ['a proxy of a signal', () => new Proxy(new AbortController().signal, {})],
  ['a proxy of a signal that throws', () => new Proxy(new AbortController().signal, { get: fail })],
  ['a proxy for which nothing is a property', () => new Proxy({}, { get: () => Number.NaN })],
  ['a frozen signal', () => Object.freeze(new AbortController().signal)],
  ['a signal that throws when it is listened to', () => signalWith({ addEventListener: fail })],
  ['a signal that cannot be listened to', () => signalWith({ addEventListener: 5 })],
  [
    'a signal that calls at once, and later again and again',
    () =>
      signalWith({
        addEventListener: (_type: string, listener: () => void) => {
          kept.push(listener, listener);
          listener();
        },
      }),
  ],
  [
    'a signal that is aborted when it is listened to',
    () => {
      const controller = new AbortController();
      const add = controller.signal.addEventListener;
      return Object.assign(controller.signal, {
        addEventListener(this: AbortSignal, ...args: Parameters<typeof add>) {
          add.apply(this, args);
          controller.abort('enough');
        },
      });
    },
  ],
  [
    'a signal that says of itself that it is aborted',
    () =>
      Object.defineProperties(new AbortController().signal, {
        aborted: { get: () => true },
        reason: { get: fail },
        throwIfAborted: { value: fail },
      }),
  ],
];

/** They come last, because such a signal has once broken all asynchronous calls that came after. */
const signalsWithoutEnd: typeof signals = [
  ['a signal that throws at the end', () => signalWith({ removeEventListener: fail })],
  ['a signal without an end', () => signalWith({ removeEventListener: undefined })],
];

type Call = [name: string, call: (s: Subject, signal: Anything) => unknown];

const calls: Call[] = [
  ...(['invoke', 'invokeAsync'] as const).map(
    (name): Call => [name, (s, signal) => s.instance[name]('f', [Value.I32(5)], s.supervisor, { signal })],
  ),
  ...(['instantiate', 'instantiateAsync'] as const).map(
    (name): Call => [
      name,
      (s, signal) =>
        s.components[name](1, wat('(module (func $f) (start $f))'), s.env(), s.supervisor, { signal }),
    ],
  ),
];

/** That a guest can be called in both ways. */
async function worksBothWays(s: Subject, what: string): Promise<void> {
  const became = await becameOf(() => {
    stillWorks(s);
    return s.instance.invokeAsync('f', [Value.I32(5)], s.supervisor);
  });
  assert.ok(!('error' in became), `${what}: afterwards the guest does not work any more: ${shown(became)}`);
}

/** Why asynchronous calls of this thread are not waited for any more, if one has broken them all. */
let broken: string | undefined;

/** Takes note of a call that never ends, if it has company. */
async function lookWhetherAllAreBroken(backend: SandboxBackend, what: string): Promise<void> {
  const { instance, supervisor } = new Subject(backend);
  const became = await becameOf(() => instance.invokeAsync('f', [Value.I32(5)], supervisor));
  if (isEndless(became)) broken = `no asynchronous call of this thread ends any more since ${what}`;
}

function shown(became: Became): unknown {
  return 'error' in became ? became.error : became.value;
}

describe('A hostile signal', () => {
  forEachBackend((backend) => {
    for (const [what, make] of signals) endsItsCallOrNot(backend, what, make);

    it('has no say in what a reason is: the very same comes out, of each kind', async () => {
      assert.equal(broken, undefined);
      const findings = new Findings();
      const s = new Subject(backend);
      for (const { name, make } of hostileValues) {
        if (name === 'undefined') continue;
        for (const [how, call] of calls) {
          const reason = make();
          for (const isEarly of [true, false]) {
            const controller = new AbortController();
            if (isEarly) controller.abort(reason);
            s.answer = ([n]) => {
              controller.abort(reason);
              return n;
            };
            if (!isEarly && how.startsWith('instantiate')) continue;
            const became = await becameOf(() => call(s, controller.signal));
            findings.check(() =>
              assert.ok('error' in became && Object.is(became.error, reason), `${how}, ${isEarly}: ${name}`),
            );
            s.answer = ([n]) => n;
          }
        }
        findings.check(() => stillWorks(s));
      }
      findings.none();
    });
  });
});

describe('A signal that is hostile at the end', () => {
  forEachBackend((backend) => {
    for (const [what, make] of signalsWithoutEnd) endsItsCallOrNot(backend, what, make);
  });
});

function endsItsCallOrNot(backend: SandboxBackend, what: string, make: () => Anything): void {
  it(`ends its call or not, and harms no other: ${what}`, async () => {
    const findings = new Findings();
    for (const [name, call] of calls) {
      assert.equal(broken, undefined);
      const s = new Subject(backend);
      const became = await becameOf(() => call(s, make()));
      if (isEndless(became)) await lookWhetherAllAreBroken(backend, `${name} with ${what}`);
      findings.check(() => {
        if ('error' in became && became.error !== 'enough') isRefusal(became.error, undefined, name);
      });
      // The call is over.
      for (const listener of kept.splice(0)) listener();
      if (broken === undefined)
        await worksBothWays(s, name).catch((error: Error) => findings.add(error.message));
    }
    findings.none();
  });
}
