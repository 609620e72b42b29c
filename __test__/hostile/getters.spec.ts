// Arguments whose getters and traps do something in the middle of the call that reads them: throw, call the guest again, grow its memory,
// tear it down, clear everything. The call comes to the same as without that, or fails by what was thrown or by an error that says why.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  BusyError,
  CompiledModule,
  codec,
  Instantiate,
  JsSupervisor,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  SandboxHost,
  type SupervisorContext,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError } from '../support/expect';
import {
  type Anything,
  type Became,
  becameOf,
  endProcessAfterTests,
  Findings,
  settled,
  thrownByValue,
} from '../support/hostile';
import { wat } from '../support/wat';
import { Subject, stillWorks } from './subject';

endProcessAfterTests();

const V1 = Instantiate.Version1;

/** What a getter does, besides giving its value. */
interface Deed {
  readonly name: string;
  readonly act: (s: Subject) => void;
  /** What the call around it may fail by. */
  readonly allows?: (error: unknown) => boolean;
}

const echo = (s: Subject, n: number): void =>
  assert.deepEqual(s.instance.invoke('f', [Value.I32(n)], s.plain), Value.I32(n));

const deeds: readonly Deed[] = [
  {
    name: 'throw',
    act: () => {
      throw thrownByValue;
    },
    allows: (error) => causes(error).includes(thrownByValue),
  },
  { name: 'call the guest again', act: (s) => echo(s, 99) },
  { name: 'call another export of it', act: (s) => void s.instance.invoke('wide', wideArguments(), s.plain) },
  {
    name: 'have it trap',
    act: (s) => void assert.throws(() => s.instance.invoke('trap', [], s.plain), TrapError),
  },
  {
    name: 'begin an asynchronous call of it',
    act(s) {
      const call = s.instance.invokeAsync('f', [Value.I32(98)], s.plain);
      // It is looked at later.
      call.catch(() => {});
      s.pending.push(call);
    },
    allows: (error) => causes(error).some((cause) => cause instanceof BusyError),
  },
  { name: 'grow its memory', act: (s) => void s.memory.memoryGrow(1) },
  { name: 'have it grow its memory', act: (s) => void s.instance.invoke('grow', [], s.plain) },
  { name: 'set its globals', act: (s) => void s.instance.setGlobalVal('g', Value.I32(77)) },
  { name: 'make another guest', act: (s) => void s.unregistered() },
  { name: 'tear it down', act: (s) => once(() => s.components.instanceTeardown(s.index)) },
  { name: 'tear its memory down', act: (s) => once(() => s.components.memoryTeardown(s.memoryIndex)) },
  { name: 'clear the components', act: (s) => s.components.clear() },
  { name: 'dispose the components', act: (s) => s.components[Symbol.dispose]() },
  { name: 'collect garbage', act: collectOnce },
];

const collected = new WeakSet<Subject>();

function collectOnce(s: Subject): void {
  if (!collected.has(s)) global.gc?.();
  collected.add(s);
}

/** An error and all that it is because of. */
function causes(error: unknown): unknown[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : [error];
}

/** The second time it is torn down already. */
function once(teardown: () => void): void {
  try {
    teardown();
  } catch (error) {
    assert.ok(error instanceof SandboxError && /teardown/.test(error.message), String(error));
  }
}

const wideArguments = (): Value[] => [Value.I32(1), Value.I64(2n), Value.f32(3), Value.f64(4)];

type Happen = () => void;

/** The same object, but something happens when one of its properties is read. */
const eventful = (target: object, name: PropertyKey, happen: Happen): Anything => {
  const value = (target as Anything)[name];
  return Object.defineProperty(target, name, {
    enumerable: true,
    get: () => {
      happen();
      return value;
    },
  });
};

/** An object like it, but something happens at one of the many looks that are taken at it. */
const watched = (target: object, happen: Happen, at: number): Anything => {
  let looks = 0;
  const look = (): void => {
    looks += 1;
    if (looks === at) happen();
  };
  return new Proxy(target, {
    get: (of, name) => {
      look();
      return Reflect.get(of, name);
    },
    has: (of, name) => {
      look();
      return Reflect.has(of, name);
    },
    ownKeys: (of) => {
      look();
      return Reflect.ownKeys(of);
    },
    getOwnPropertyDescriptor: (of, name) => {
      look();
      return Reflect.getOwnPropertyDescriptor(of, name);
    },
  });
};

const ANSWER = codec.encodeDispatchResult({ ok: true, value: Value.I32(5) });

const context = (): Required<SupervisorContext> => ({
  invoke: () => (64n << 32n) | BigInt(ANSWER.length),
  readMemoryInto: (_, dest) => dest.set(ANSWER),
  readMemory: () => ANSWER,
  writeMemory() {},
  allocateMemory: () => 8,
  deallocateMemory() {},
});

const METHODS = Object.keys(context()) as (keyof SupervisorContext)[];
/** How many looks are taken at a context in one call. */
const LOOKS = 14;
const five = (): Value[] => [Value.I32(5)];

/** A call in the middle of which something happens, and what it comes to. */
interface Place {
  readonly name: string;
  call(s: Subject, happen: Happen): unknown;
  readonly value: unknown;
  readonly version?: Instantiate;
}

const invoking = (name: 'invoke' | 'invokeAsync'): Place[] => {
  const place = (where: string, call: Place['call']): Place => ({
    name: `${name}, ${where}`,
    call,
    value: Value.I32(5),
  });
  return [
    ...(['type', 'value'] as const).map((property) =>
      place(`the ${property} of its argument`, (s, happen) =>
        s.instance[name]('f', [eventful(Value.I32(5), property, happen)], s.supervisor),
      ),
    ),
    place('an element of its arguments', (s, happen) =>
      s.instance[name]('f', eventful(five(), 0, happen), s.supervisor),
    ),
    ...[1, 2, 3].map((at) =>
      place(`look ${at} at its arguments`, (s, happen) =>
        s.instance[name]('f', watched(five(), happen, at), s.supervisor),
      ),
    ),
    {
      name: `${name}, the second of several arguments`,
      call: (s, happen) =>
        s.instance[name](
          'wide',
          wideArguments().with(1, eventful(Value.I64(2n), 'value', happen)),
          s.supervisor,
        ),
      value: undefined,
    },
    ...(['timeout', 'signal', 'fuel'] as const).map((property) =>
      place(`its ${property}`, (s, happen) =>
        s.instance[name]('f', five(), s.supervisor, eventful({}, property, happen)),
      ),
    ),
    ...[1, 2, 3].map((at) =>
      place(`look ${at} at its options`, (s, happen) =>
        s.instance[name]('f', five(), s.supervisor, watched({ timeout: 9999 }, happen, at)),
      ),
    ),
    ...Array.from({ length: LOOKS }, (_, index) => index + 1).map((at) =>
      place(`look ${at} at its context`, (s, happen) =>
        s.instance[name]('f', five(), watched(context(), happen, at)),
      ),
    ),
    ...METHODS.map((method) =>
      place(`${method} of its context`, (s, happen) => {
        const ctx = context() as Anything;
        const step = ctx[method];
        if (method === 'readMemoryInto') delete ctx.readMemory;
        ctx[method] = (...args: Anything[]) => {
          happen();
          return step(...args);
        };
        return s.instance[name]('f', five(), ctx);
      }),
    ),
    ...(['type', 'value', 'then'] as const).map((property) =>
      place(`the ${property} of what a supervisor function returns`, (s, happen) => {
        s.answer = () => eventful(Value.I32(5), property, happen);
        return s.instance[name]('f', five(), s.supervisor);
      }),
    ),
    ...[1, 2, 3, 4, 5].map((at) =>
      place(`look ${at} at what a supervisor function returns`, (s, happen) => {
        s.answer = () => watched(Value.I32(5), happen, at);
        return s.instance[name]('f', five(), s.supervisor);
      }),
    ),
  ];
};

/** The same under Version 2, where what a function returns may have the gas with it. */
const invokingWithGas = (name: 'invoke' | 'invokeAsync'): Place[] => {
  const place = (where: string, result: (happen: Happen) => Anything): Place => ({
    name: `${name}, ${where} of what a supervisor function returns with its gas`,
    async call(s, happen) {
      s.answer = () => result(happen);
      const value = await s.instance[name]('f', five(), s.supervisor);
      return [value, s.instance.getGlobalVal('gear_gas')];
    },
    value: [Value.I32(5), Value.I64(900n)],
    version: Instantiate.Version2,
  });
  const result = (): Anything => ({ gas: 900n, value: Value.I32(5) });
  return [
    place('the gas', (happen) => eventful(result(), 'gas', happen)),
    place('the value', (happen) => eventful(result(), 'value', happen)),
    place("the value's value", (happen) => ({ gas: 900n, value: eventful(Value.I32(5), 'value', happen) })),
    ...[1, 2, 3, 4, 5, 6].map((at) => place(`look ${at}`, (happen) => watched(result(), happen, at))),
  ];
};

/** Its start function calls the supervisor, and it has the memory of the subject. */
const STARTING = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "memory" (memory 1))
  (global $started (mut i32) (i32.const 0))
  (func $start (global.set $started (call $f (i32.const 5))))
  (start $start)
  (func (export "started") (result i32) (global.get $started)))`;

const instantiating = (name: 'instantiate' | 'instantiateAsync'): Place[] => {
  const place = (
    where: string,
    call: (s: Subject, happen: Happen) => [ctx: Anything, options?: Anything],
  ): Place => ({
    name: `${name}, ${where}`,
    async call(s, happen) {
      const { components } = s;
      const env = environment(components, { 'env.f': 0 }, { 'env.memory': s.memoryIndex });
      const [ctx, options] = call(s, happen);
      const index = (await components[name](V1, wat(STARTING), env, ctx, options)).register(
        components,
        undefined,
      );
      return components.instance(index).invoke('started', [], s.supervisor);
    },
    value: Value.I32(5),
  });
  return [
    ...METHODS.map((method) =>
      place(`${method} of its context`, (_, happen) => [eventful(context(), method, happen)]),
    ),
    place('its timeout', (s, happen) => [s.supervisor, eventful({}, 'timeout', happen)]),
    place('its signal', (s, happen) => [s.supervisor, eventful({}, 'signal', happen)]),
    place('what a supervisor function returns', (s, happen) => {
      s.answer = () => eventful(Value.I32(5), 'value', happen);
      return [s.supervisor];
    }),
  ];
};

const settingGlobals = (['setGlobalVal', 'signalHandlerSetGlobalVal'] as const).flatMap((name) =>
  (['type', 'value'] as const).map(
    (property): Place => ({
      name: `${name}, the ${property} of its value`,
      call(s, happen) {
        s.instance[name]('g', eventful(Value.I32(12), property, happen));
        return s.instance.getGlobalVal('g');
      },
      value: Value.I32(12),
    }),
  ),
);

/** Those of functions that only read their arguments, and what they come to. */
const others: readonly Place[] = [
  ...settingGlobals,
  {
    name: 'encodeValues, a value',
    call: (_, happen) =>
      codec.encodeValues([Value.I64(1n), eventful(Value.I64(-2n), 'value', happen), Value.F64(3n)]),
    value: codec.encodeValues([Value.I64(1n), Value.I64(-2n), Value.F64(3n)]),
  },
  {
    name: 'encodeDispatchResultV2, its gas',
    call: (_, happen) =>
      codec.encodeDispatchResultV2(eventful({ ok: true, gas: 7n, value: Value.I32(1) }, 'gas', happen)),
    value: codec.encodeDispatchResultV2({ ok: true, gas: 7n, value: Value.I32(1) }),
  },
  {
    name: 'encodeWasmReturnValue, its value',
    call: (_, happen) =>
      codec.encodeWasmReturnValue(eventful({ gas: 7n, inner: Value.I64(1n) }, 'inner', happen)),
    value: codec.encodeWasmReturnValue({ gas: 7n, inner: Value.I64(1n) }),
  },
  {
    name: 'encodeEnvironmentDefinition, an entry',
    call: (_, happen) =>
      codec.encodeEnvironmentDefinition({
        entries: [
          eventful(
            { moduleName: 'm', fieldName: 'n', entity: { kind: 'memory', index: 0 } },
            'entity',
            happen,
          ),
        ],
      }),
    value: codec.encodeEnvironmentDefinition({
      entries: [{ moduleName: 'm', fieldName: 'n', entity: { kind: 'memory', index: 0 } }],
    }),
  },
  {
    name: 'new SandboxComponents, a limit',
    call: (s, happen) =>
      new SandboxComponents(s.backend, { limits: eventful({ memories: 1 }, 'memories', happen) }).newMemory(
        1,
      ),
    value: 0,
  },
  {
    name: 'new ModuleCache, its entries',
    call: (_, happen) => new ModuleCache(eventful({ entries: 1 }, 'entries', happen)) instanceof ModuleCache,
    value: true,
  },
  {
    name: 'CompiledModule.compile, an option',
    call: async (s, happen) => {
      const module = await CompiledModule.compile(s.backend, s.wasm, eventful({}, 'features', happen));
      return module instanceof CompiledModule;
    },
    value: true,
  },
  {
    name: 'new SandboxHost, its allocator',
    call: (s, happen) =>
      new SandboxHost(
        eventful(
          {
            backend: s.backend,
            memory: () => {},
            table: () => {},
            allocator: { allocate() {}, deallocate() {} },
          },
          'allocator',
          happen,
        ),
      ).components.newMemory(1),
    value: 0,
  },
];

declare module './subject' {
  interface Subject {
    /** A supervisor that only ever echoes. */
    readonly plain: JsSupervisor;
  }
}

/** A subject with a supervisor that echoes whatever the one of the test does. */
function subject(backend: SandboxBackend, version?: Instantiate): Subject {
  const made = new Subject(backend, version);
  const plain = new JsSupervisor();
  plain.define(([n]) => n);
  return Object.assign(made, { plain });
}

describe('A getter', () => {
  forEachBackend((backend) => {
    const places = [
      ...invoking('invoke'),
      ...invoking('invokeAsync'),
      ...invokingWithGas('invoke'),
      ...invokingWithGas('invokeAsync'),
      ...instantiating('instantiate'),
      ...instantiating('instantiateAsync'),
      ...others,
    ];
    for (const { name: deed, act, allows = () => false } of deeds) {
      it(`may ${deed} wherever it is`, async () => {
        const findings = new Findings();
        for (const { name, call, value, version } of places) {
          const s = subject(backend, version);
          let hasHappened = false;
          const happen = (): void => {
            hasHappened = true;
            act(s);
          };
          const became = await becameOf(() => call(s, happen));
          // How often some things are looked at, and whether they are Promises, depends on the call.
          const isSure = !/ look \d| then /.test(name) || name.endsWith('at its context');
          if (!hasHappened && isSure) findings.add(`${name}: nothing has happened`);
          findings.check(() => {
            if ('error' in became) assert.ok(allows(became.error), `${name}: ${shown(became)}`);
            else assert.deepEqual(became.value, value, name);
          });
          for (const pending of s.pending) {
            const other = await becameOf(() => settled(pending));
            findings.check(() => {
              if ('error' in other) assert.ok(other.error instanceof BusyError, `${name}: ${shown(other)}`);
              else assert.deepEqual(other.value, Value.I32(98), name);
            });
          }
          s.answer = ([n]) => n;
          findings.check(() => works(s, name));
        }
        findings.none();
      });
    }
  });
});

/** Arguments of `wide` that are not what they seem, and what the guest may be given for them; undefined if they are refused. */
const seeming: readonly (readonly [name: string, make: () => Anything, refused?: string])[] = [
  [
    'have an iterator that gives others',
    () => Object.assign(wideArguments(), { [Symbol.iterator]: () => [].values() }),
  ],
  [
    'have methods that give others',
    () => Object.assign(wideArguments(), { map: () => [], entries: () => [], at: () => 5 }),
  ],
  ['are an array of another class', () => class extends Array<Value> {}.from(wideArguments())],
  ['have no prototype', () => Object.setPrototypeOf(wideArguments(), null)],
  ['inherit what they are', () => wideArguments().map((value) => Object.create(value))],
  ['are frozen', () => Object.freeze(wideArguments().map((value) => Object.freeze(value)))],
  ['become fewer', () => changing((args) => args.pop()), 'args[3]'],
  ['become none', () => changing((args) => args.splice(0)), 'args[1]'],
  ['become more', () => changing((args) => args.push(Value.I32(1)))],
  ['become others', () => changing((args) => args.splice(2, 1, Value.I32(1))), 'args[2]'],
  [
    'are of a type that is inherited from everything',
    () => [{ type: 'toString', value: 1 }, ...wideArguments().slice(1)],
    'args[0].type',
  ],
  [
    'are of no type but a prototype',
    () => [{ ['__proto__']: 1, type: '__proto__' }, ...wideArguments().slice(1)],
    'args[0].type',
  ],
  ...[Infinity, Number.NaN, -1, 2 ** 53, '4', 4n, Symbol('4'), null].map(
    (length) =>
      [
        `claim a length of ${String(length)}`,
        () =>
          new Proxy(wideArguments(), {
            get: (of, name) => (name === 'length' ? length : Reflect.get(of, name)),
          }),
        'args',
      ] as const,
  ),
];

/** Arguments that change when the first of them is read. */
function changing(change: (args: Value[]) => void): Anything {
  const args = wideArguments();
  let isDone = false;
  args[0] = eventful(args[0], 'value', () => {
    if (!isDone) change(args);
    isDone = true;
  });
  return args;
}

describe('Arguments', () => {
  forEachBackend((backend) => {
    for (const name of ['invoke', 'invokeAsync'] as const) {
      for (const [what, make, refused] of seeming) {
        it(`of ${name} that ${what} are what their elements are when they are read`, async () => {
          const s = subject(backend);
          const became = await becameOf(() => s.instance[name]('wide', make(), s.supervisor));
          if (refused === undefined) assert.deepEqual(became, { value: undefined });
          else
            assert.ok(
              'error' in became && (became.error as ArgumentError).argument === refused,
              shown(became),
            );
          stillWorks(s);
        });
      }
    }

    it('of an asynchronous call may be changed once it is made', async () => {
      const s = subject(backend);
      const argument = { type: 'i32', value: 5 };
      const args = [argument] as Anything;
      const call = s.instance.invokeAsync('f', args, s.supervisor);
      argument.value = 6;
      args.length = 0;
      assert.deepEqual(await settled(call), Value.I32(5));
    });
  });

  it('of encodeValues that claim to be without end are refused', () => {
    for (const length of [Infinity, Number.NaN, -1, 1.5, 2 ** 32, '1', 1n, null]) {
      const endless = new Proxy([], { get: (_, name) => (name === 'length' ? length : Value.I32(1)) });
      const entries = new Proxy([], {
        get: (_, name) =>
          name === 'length'
            ? length
            : { moduleName: 'm', fieldName: 'n', entity: { kind: 'memory', index: 0 } },
      });
      argumentError('values.length', () => codec.encodeValues(endless));
      argumentError('definition.entries.length', () => codec.encodeEnvironmentDefinition({ entries }));
    }
  });
});

describe('Options', () => {
  /** As they come out of JSON, with a property of that name of their own. */
  const withProto = (value: unknown): Anything => JSON.parse(`{ "__proto__": ${JSON.stringify(value)} }`);

  forEachBackend((backend) => {
    const places: readonly (readonly [name: string, call: (s: Subject, options: Anything) => unknown])[] = [
      ['invoke', (s, options) => s.instance.invoke('f', five(), s.supervisor, options)],
      ['invokeAsync', (s, options) => s.instance.invokeAsync('f', five(), s.supervisor, options)],
      ['instantiate', (s, options) => s.components.instantiate(V1, s.wasm, s.env(), s.supervisor, options)],
      [
        'instantiateAsync',
        (s, options) => s.components.instantiateAsync(V1, s.wasm, s.env(), s.supervisor, options),
      ],
      ['CompiledModule.compile', (s, options) => CompiledModule.compile(backend, s.wasm, options)],
      ['new SandboxComponents', (_, options) => new SandboxComponents(backend, options)],
      ['new ModuleCache', (_, options) => new ModuleCache(options)],
    ];
    for (const [name, call] of places) {
      it(`of ${name} that have a prototype for a property are refused, and change nothing of other objects`, async () => {
        const s = subject(backend);
        const became = await becameOf(() => call(s, withProto({ timeout: 1, fuel: true, entries: 1 })));
        assert.ok('error' in became && became.error instanceof ArgumentError, shown(became));
        assert.equal(became.error.argument, 'options.__proto__');
        assert.equal(({} as Anything).timeout, undefined);
        stillWorks(s);
      });

      it(`of ${name} are only those of the object itself`, async () => {
        const s = subject(backend);
        const inherited = Object.create({
          timeout: 'long',
          fuel: 'much',
          signal: 5,
          entries: 'many',
          nonsense: 1,
        });
        const became = await becameOf(() => call(s, inherited));
        assert.ok('value' in became, shown(became));
        stillWorks(s);
      });

      it(`of ${name} may come from a proxy that gives something else each time: each is read once`, async () => {
        const s = subject(backend);
        const reads: PropertyKey[] = [];
        const options = new Proxy(
          {},
          {
            ownKeys: () => ['timeout', 'fuel', 'entries', 'absent'].slice(...keysOf(name)),
            getOwnPropertyDescriptor: (_, key) =>
              key === 'absent' ? undefined : { value: 1, enumerable: true, configurable: true },
            get: (_, key) => {
              reads.push(key);
              return reads.length > 1 ? 'something else' : optionOf(name);
            },
          },
        );
        const became = await becameOf(() => call(s, options));
        assert.ok('value' in became, shown(became));
        assert.equal(reads.length, 1);
        stillWorks(s);
      });
    }
  });

  function keysOf(name: string): [from: number, to: number] {
    if (name === 'new SandboxComponents') return [1, 2];
    return name === 'new ModuleCache' ? [2, 4] : [0, 1];
  }

  function optionOf(name: string): unknown {
    if (name === 'new SandboxComponents') return true;
    return name === 'new ModuleCache' ? 1 : 9999;
  }
});

function works(s: Subject, what: string): void {
  try {
    stillWorks(s);
  } catch (error) {
    assert.fail(`${what}: afterwards the guest does not work any more: ${error}`);
  }
}

function shown(became: Became): string {
  if (!('error' in became)) return JSON.stringify(became.value);
  const { cause } = became.error as Error;
  return `${became.error}${cause === undefined ? '' : `, because of ${cause}`}`;
}
