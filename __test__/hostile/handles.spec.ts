// Handles in the wrong hands: as receivers that are none, of other components, backends and threads, after a teardown, in the middle of
// their own calls. Receivers fail by a TypeError, as those of built-in methods do, everything else by an error of this package.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import {
  BusyError,
  CompiledModule,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  SandboxHost,
  SandboxInstance,
  UnregisteredInstance,
  Value,
} from '../../index';
import { forEachBackend, otherThan } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError, caught, rejection, sandboxError } from '../support/expect';
import type { GuestCall } from '../support/guest';
import { type Anything, becameOf, endProcessAfterTests, Findings, settled } from '../support/hostile';
import { wat } from '../support/wat';
import { Subject, stillWorks } from './subject';

endProcessAfterTests();

const V1 = Instantiate.Version1;
const five = (): Value[] => [Value.I32(5)];

/** All that can be done with the handles of a subject, in an order in which each works: its name, and what it gives. */
type Use = readonly [name: string, use: (s: Subject) => unknown];

const useOfMemory: readonly Use[] = [
  ['read', ({ memory }) => memory.read(0, 2)],
  ['readInto', ({ memory }) => memory.readInto(0, new Uint8Array(2))],
  ['writeFrom', ({ memory }) => memory.writeFrom(0, Uint8Array.of(3))],
  ['memoryGrow', ({ memory }) => memory.memoryGrow(0)],
  ['memorySize', ({ memory }) => memory.memorySize()],
  ['buffer', ({ memory }) => memory.buffer.byteLength],
];

const useOfInstance: readonly Use[] = [
  ['getGlobalVal', ({ instance }) => instance.getGlobalVal('g')],
  ['setGlobalVal', ({ instance }) => instance.setGlobalVal('g', Value.I32(3))],
  ['signalHandlerGetGlobalVal', ({ instance }) => instance.signalHandlerGetGlobalVal('g')],
  ['signalHandlerSetGlobalVal', ({ instance }) => instance.signalHandlerSetGlobalVal('g', Value.I32(4))],
  ['getMemory', ({ instance }) => instance.getMemory('own')?.memorySize()],
  ['invoke', ({ instance }) => instance.invoke('f', five(), echoing())],
];

function echoing(): JsSupervisor {
  const supervisor = new JsSupervisor();
  supervisor.define(([n]) => n);
  return supervisor;
}

describe('A receiver that is none', () => {
  /** An object of each class, and right arguments of its methods; a getter has none. */
  const objects = (
    s: WithModule,
  ): readonly (readonly [object: Anything, args: Record<PropertyKey, Anything[]>])[] => [
    [
      s.components,
      {
        clear: [],
        newMemory: [0],
        instance: [s.index],
        dispatchThunk: [s.index],
        memory: [s.memoryIndex],
        memoryTeardown: [s.memoryIndex],
        instanceTeardown: [s.index],
        instantiate: [V1, s.wasm, s.env(), s.supervisor],
        instantiateAsync: [V1, s.wasm, s.env(), s.supervisor],
        [Symbol.dispose]: [],
      },
    ],
    [
      s.instance,
      {
        exports: [],
        fuel: [],
        invoke: ['f', five(), s.supervisor],
        invokeAsync: ['f', five(), s.supervisor],
        getGlobalVal: ['g'],
        setGlobalVal: ['g', Value.I32(9)],
        signalHandlerGetGlobalVal: ['g'],
        signalHandlerSetGlobalVal: ['g', Value.I32(9)],
        getMemory: ['own'],
      },
    ],
    [
      s.memory,
      {
        buffer: [],
        read: [0, 1],
        readInto: [0, new Uint8Array(1)],
        writeFrom: [0, Uint8Array.of(1)],
        memoryGrow: [1],
        memorySize: [],
        asWasmi: [],
        asWasmer: [],
      },
    ],
    [s.unregistered(), { register: [s.components, undefined] }],
    [
      new EnvironmentDefinitionBuilder(),
      { addHostFunc: ['m', 'f', 0], addMemory: ['m', 'n', 0], encode: [] },
    ],
    [
      s.supervisor,
      {
        define: [() => undefined],
        invoke: [8, 1, 0],
        readMemoryInto: [8, new Uint8Array(1)],
        readMemory: [8, 1],
        writeMemory: [8, Uint8Array.of(1)],
        allocateMemory: [1],
        deallocateMemory: [8],
      },
    ],
    [s.module, { imports: [], exports: [], serialize: [] }],
    [s.env(), {}],
    [new ModuleCache(), {}],
  ];

  const impostors: readonly (readonly [name: string, make: (object: Anything) => Anything])[] = [
    ['undefined', () => undefined],
    ['null', () => null],
    ['a number', () => 5],
    ['an object', () => ({})],
    ['an heir', (object) => Object.create(object)],
    ['a proxy', (object) => new Proxy(object, {})],
    ['the prototype', (object) => Object.getPrototypeOf(object)],
    ['an object with the same properties', (object) => ({ ...object })],
    ['another handle', (object) => (object instanceof JsSupervisor ? new ModuleCache() : new JsSupervisor())],
  ];

  forEachBackend((backend) => {
    it('fails by a TypeError, or rejects, and harms nothing', async () => {
      const findings = new Findings();
      const s = await withModule(backend);
      for (const [object, args] of objects(s)) {
        const { constructor: Class } = object;
        for (const key of Reflect.ownKeys(Class.prototype)) {
          if (key === 'constructor') continue;
          const { value, get } = Object.getOwnPropertyDescriptor(Class.prototype, key) as PropertyDescriptor;
          const given = args[key];
          findings.check(() => assert.ok(given, `there are no arguments for ${Class.name}.${String(key)}`));
          for (const [impostor, make] of impostors) {
            const what = `${Class.name}.${String(key)} of ${impostor}`;
            let isSynchronous = true;
            const became = await becameOf(() => {
              const promise = (value ?? get).apply(make(object), given);
              isSynchronous = false;
              return promise;
            });
            findings.check(() => {
              assert.ok('error' in became, `${what} must fail`);
              const { error } = became;
              assert.ok(error instanceof TypeError || error instanceof SandboxError, `${what}: ${error}`);
              assert.notEqual((error as SandboxError).code, 'ERR_SANDBOX_INTERNAL', `${what}: ${error}`);
              assert.equal(
                isSynchronous,
                !String(key).endsWith('Async'),
                `${what} must ${isSynchronous ? 'reject' : 'throw'}`,
              );
            });
          }
          findings.check(() => stillWorks(s));
        }
      }
      findings.none();
    });

    it('does not matter to functions that are of no object', async () => {
      const s = await withModule(backend);
      const { decode } = GuestEnvironment;
      const { compile } = CompiledModule;
      const { I32, toNumber } = Value;
      assert.ok(decode(s.components, Uint8Array.of(0)) instanceof GuestEnvironment);
      assert.ok((await compile(backend, s.wasm)) instanceof CompiledModule);
      assert.equal(toNumber(I32(5)), 5);
    });
  });
});

interface WithModule extends Subject {
  readonly module: CompiledModule;
}

async function withModule(backend: SandboxBackend): Promise<WithModule> {
  const s = new Subject(backend);
  return Object.assign(s, { module: await CompiledModule.compile(backend, s.wasm) });
}

describe('A handle that nobody gave out', () => {
  const classes = [
    Memory,
    SandboxInstance,
    UnregisteredInstance,
    GuestEnvironment,
    CompiledModule,
  ] as unknown as (new (
    ...args: Anything[]
  ) => object)[];
  for (const Class of classes) {
    it(`is not made by new ${Class.name}, nor by a class that extends it`, () => {
      const args = ['wasmi', {}, {}, 0, () => new ArrayBuffer(0)];
      for (const given of [[], args, [Symbol('made here'), ...args]]) {
        caught(SandboxError, () => new Class(...given));
        caught(SandboxError, () => new (class extends Class {})(...given));
        caught(SandboxError, () => Reflect.construct(Class, given, Object));
      }
    });
  }

  forEachBackend((backend) => {
    it('is sent to no other thread, and none as what has its properties alone', async () => {
      const s = await withModule(backend);
      const { port1 } = new MessageChannel();
      const hollow = (handle: object): Anything => {
        assert.throws(() => port1.postMessage(handle), /could not be cloned/);
        return { ...handle };
      };
      argumentError('components', () => GuestEnvironment.decode(hollow(s.components), Uint8Array.of(0)));
      argumentError('components', () => s.unregistered().register(hollow(s.components), undefined));
      argumentError('env', () => s.components.instantiate(V1, s.wasm, hollow(s.env()), s.supervisor));
      argumentError('wasm', () => s.components.instantiate(V1, hollow(s.module), s.env(), s.supervisor));
      argumentError('ctx', () => s.instance.invoke('f', five(), hollow(s.supervisor)));
      argumentError(
        'options.cache',
        () => new SandboxComponents(backend, { cache: hollow(new ModuleCache()) }),
      );
      assert.throws(() => Memory.prototype.read.call(hollow(s.memory), 0, 1), TypeError);
      port1.close();
      stillWorks(s);
    });

    it('is none as a proxy or an heir', async () => {
      const s = await withModule(backend);
      for (const make of [
        (handle: object) => new Proxy(handle, {}),
        (handle: object) => Object.create(handle),
      ]) {
        const of = (handle: object): Anything => make(handle);
        argumentError('components', () => GuestEnvironment.decode(of(s.components), Uint8Array.of(0)));
        argumentError('components', () => s.unregistered().register(of(s.components), undefined));
        argumentError('env', () => s.components.instantiate(V1, s.wasm, of(s.env()), s.supervisor));
        argumentError('wasm', () => s.components.instantiate(V1, of(s.module), s.env(), s.supervisor));
        argumentError(
          'options.cache',
          () => new SandboxComponents(backend, { cache: of(new ModuleCache()) }),
        );
        // It has all methods of a context, but they do not work on it.
        const became = await becameOf(() => s.instance.invoke('f', five(), of(s.supervisor)));
        assert.ok('error' in became && (became.error as SandboxError).code === 'ERR_SANDBOX_TRAP');
        stillWorks(s);
      }
    });
  });
});

describe('A handle of others', () => {
  forEachBackend((backend) => {
    for (const other of [backend, otherThan(backend)]) {
      const whose = other === backend ? 'other components' : 'another backend';

      it(`is refused by components if it is of ${whose}`, async () => {
        const s = await withModule(backend);
        const strange = await withModule(other);
        argumentError('env', () => s.components.instantiate(V1, s.wasm, strange.env(), s.supervisor));
        await rejection(SandboxError, s.components.instantiateAsync(V1, s.wasm, strange.env(), s.supervisor));
        const made = strange.unregistered();
        argumentError('components', () => made.register(s.components, undefined));
        assert.equal(
          strange.components.instance(made.register(strange.components, undefined)).fuel,
          undefined,
        );
        if (other !== backend)
          argumentError('wasm', () => s.components.instantiate(V1, strange.module, s.env(), s.supervisor));
        stillWorks(s);
        stillWorks(strange);
      });

      it(`does not come in by a method of the components that was replaced, if it is of ${whose}`, () => {
        const strange = new Subject(other);
        class Replaced extends SandboxComponents {
          override memory(): Memory {
            return strange.memory;
          }
        }
        const components = new Replaced(backend);
        const own = SandboxComponents.prototype.memory.call(components, components.newMemory(1, 2));
        const env = environment(components, {}, { 'env.memory': 0 });
        const wasm = wat(
          '(module (import "env" "memory" (memory 1)) (func (export "store") (i32.store8 (i32.const 3) (i32.const 9))))',
        );
        const index = components
          .instantiate(V1, wasm, env, new JsSupervisor())
          .register(components, undefined);
        components.instance(index).invoke('store', [], new JsSupervisor());
        assert.deepEqual(own.read(3, 1), Uint8Array.of(9));
        assert.deepEqual(strange.memory.read(3, 1), Uint8Array.of(0));
        stillWorks(strange);
      });
    }

    it('is taken once where it can be taken once', () => {
      const s = new Subject(backend);
      const made = s.unregistered();
      made.register(s.components, undefined);
      sandboxError('the instance is registered already', () => made.register(s.components, undefined));
      stillWorks(s);
    });
  });
});

describe('A handle after its end', () => {
  const ends: readonly (readonly [name: string, end: (s: Subject) => void])[] = [
    ['instanceTeardown', (s) => s.components.instanceTeardown(s.index)],
    ['memoryTeardown', (s) => s.components.memoryTeardown(s.memoryIndex)],
    [
      'both teardowns',
      (s) => {
        s.components.memoryTeardown(s.memoryIndex);
        s.components.instanceTeardown(s.index);
      },
    ],
    ['clear', (s) => s.components.clear()],
    ['dispose', (s) => s.components[Symbol.dispose]()],
  ];

  forEachBackend((backend) => {
    for (const [how, end] of ends) {
      it(`works as before, after ${how}`, async () => {
        const s = new Subject(backend);
        const wasm = wat(
          '(module (import "env" "memory" (memory 1)) (func (export "seven") (result i32) (i32.const 7)))',
        );
        const env = environment(s.components, {}, { 'env.memory': s.memoryIndex });
        const made = s.unregistered();
        const other = new Subject(backend);
        end(s);
        global.gc?.();
        for (const [name, use] of [...useOfMemory, ...useOfInstance])
          assert.deepEqual(await becameOf(() => use(s)), await becameOf(() => use(other)), name);
        assert.deepEqual(await s.instance.invokeAsync('f', five(), s.supervisor), Value.I32(5));
        const index = s.components.instantiate(V1, wasm, env, s.supervisor).register(s.components, undefined);
        assert.deepEqual(s.components.instance(index).invoke('seven', [], s.supervisor), Value.I32(7));
        assert.equal(typeof made.register(s.components, undefined), 'number');
        stillWorks(s);
      });
    }

    it('has no index any more, and no other has its index, after a teardown', () => {
      const s = new Subject(backend);
      const { components, index, memoryIndex } = s;
      components.instanceTeardown(index);
      components.memoryTeardown(memoryIndex);
      sandboxError('Trying to access a torndown instance', () => components.instance(index));
      sandboxError('Trying to access a torndown instance', () => components.dispatchThunk(index));
      sandboxError('Double teardown of an instance', () => components.instanceTeardown(index));
      sandboxError('Trying to access a torndown sandboxed memory', () => components.memory(memoryIndex));
      sandboxError('Double teardown of a sandboxed memory', () => components.memoryTeardown(memoryIndex));
      assert.notEqual(components.newMemory(0), memoryIndex);
      assert.notEqual(s.unregistered().register(components, undefined), index);
      stillWorks(s);
    });
  });
});

const SPINNING = `(module
  (import "env" "memory" (memory 1))
  (func (export "spin") (loop $again (br $again))))`;

describe('A handle in the middle of its own call', () => {
  forEachBackend((backend) => {
    for (const [name, use] of [...useOfMemory, ...useOfInstance]) {
      it(`can ${name} as ever in a synchronous supervisor call`, async () => {
        const s = new Subject(backend);
        const expected = await becameOf(() => use(new Subject(backend)));
        let became: unknown;
        s.answer = ([n]) => {
          try {
            became = { value: use(s) };
          } catch (error) {
            became = { error };
          }
          return n;
        };
        assert.deepEqual(s.instance.invoke('f', five(), s.supervisor), Value.I32(5));
        assert.deepEqual(became, expected);
        s.answer = ([n]) => n;
        stillWorks(s);
      });

      it(`can ${name} as ever in an asynchronous supervisor call, also after it has waited`, async () => {
        const s = new Subject(backend);
        const expected = await becameOf(() => use(new Subject(backend)));
        const became: unknown[] = [];
        s.answer = async ([n]) => {
          became.push(await becameOf(() => use(s)));
          await new Promise(setImmediate);
          became.push(await becameOf(() => use(s)));
          return n;
        };
        assert.deepEqual(await settled(s.instance.invokeAsync('f', five(), s.supervisor)), Value.I32(5));
        assert.equal(became.length, 2);
        assert.deepEqual(became, [expected, expected]);
        s.answer = ([n]) => n;
        stillWorks(s);
      });
    }

    it('is busy while its guest computes on another thread, and its teardown is not', async () => {
      const s = new Subject(backend);
      const env = environment(s.components, {}, { 'env.memory': s.memoryIndex });
      const index = s.components
        .instantiate(V1, wat(SPINNING), env, s.supervisor)
        .register(s.components, undefined);
      const controller = new AbortController();
      const spinning = s.components
        .instance(index)
        .invokeAsync('spin', [], s.supervisor, { signal: controller.signal });
      const findings = new Findings();
      for (const [name, use] of [...useOfMemory, ...useOfInstance.filter(([name]) => name !== 'getMemory')]) {
        const became = await becameOf(() => use(s));
        findings.check(() => assert.ok('error' in became && became.error instanceof BusyError, name));
      }
      caught(BusyError, () => s.components.instantiate(V1, wat(SPINNING), env, s.supervisor));
      const later = s.components.instantiateAsync(V1, wat(SPINNING), env, s.supervisor);
      assert.ok(Array.isArray(s.instance.exports));
      assert.equal(s.components.memory(s.memoryIndex), s.memory);
      s.components.instanceTeardown(index);
      s.components.memoryTeardown(s.memoryIndex);
      s.components.clear();
      controller.abort('enough');
      assert.deepEqual(await becameOf(() => settled(spinning)), { error: 'enough' });
      assert.ok((await settled(later)) instanceof UnregisteredInstance);
      findings.none();
      stillWorks(s);
    });

    it('refuses to be waited for in its own asynchronous supervisor call', async () => {
      const s = new Subject(backend);
      const env = environment(s.components, {}, { 'env.memory': s.memoryIndex });
      const became: unknown[] = [];
      s.answer = async ([n]) => {
        for (let turn = 0; turn < 2; turn += 1) {
          became.push(await becameOf(() => settled(s.instance.invokeAsync('f', five(), s.supervisor))));
          became.push(
            await becameOf(() =>
              settled(s.components.instantiateAsync(V1, wat(SPINNING), env, s.supervisor)),
            ),
          );
        }
        return n;
      };
      assert.deepEqual(await settled(s.instance.invokeAsync('f', five(), s.supervisor)), Value.I32(5));
      assert.deepEqual(
        became.map((each) => (each as { error: unknown }).error instanceof BusyError),
        [true, true, true, true],
      );
      s.answer = ([n]) => n;
      stillWorks(s);
    });

    it('outlives its own end in the middle of the call', async () => {
      for (const name of ['invoke', 'invokeAsync'] as const) {
        const s = new Subject(backend);
        s.answer = ([n]) => {
          s.components.instanceTeardown(s.index);
          s.components.memoryTeardown(s.memoryIndex);
          s.components.clear();
          global.gc?.();
          return n;
        };
        assert.deepEqual(await becameOf(() => s.instance[name]('f', five(), s.supervisor)), {
          value: Value.I32(5),
        });
        s.answer = ([n]) => n;
        stillWorks(s);
      }
    });

    it('is not handed out by a call object that is over, or is none', async () => {
      for (const name of ['invoke', 'invokeAsync'] as const) {
        const s = new Subject(backend);
        const kept: GuestCall[] = [];
        s.answer = ([n], call) => {
          kept.push(call);
          assert.throws(() => Object.create(call).instance, TypeError);
          assert.throws(() => new Proxy(call, {}).memory, TypeError);
          return n;
        };
        await becameOf(() => s.instance[name]('f', five(), s.supervisor));
        for (const property of ['instance', 'memory', 'gas'] as const)
          caught(SandboxError, () => kept[0][property]);
        s.answer = ([n]) => n;
        stillWorks(s);
      }
    });
  });
});

describe('A host that is disposed', () => {
  forEachBackend((backend) => {
    it('forgets its guests, and can be used again', () => {
      const host = new SandboxHost({
        backend,
        memory: () => ({ buffer: new ArrayBuffer(0) }),
        table: () => ({ length: 0, get: () => null }),
        allocator: { allocate: () => 8, deallocate() {} },
      });
      const { components } = host;
      const { ext_sandbox_memory_new_version_1: make, ext_sandbox_memory_size_version_1: sizeOf } =
        host.imports.env;
      assert.equal(make(1, 1), 0);
      const memory = components.memory(0);
      host[Symbol.dispose]();
      host[Symbol.dispose]();
      sandboxError('Trying to access a non-existent sandboxed memory', () => sizeOf(0));
      assert.equal(memory.memorySize(), 1);
      assert.equal(make(2, 2), 0);
      assert.equal(sizeOf(0), 2);
    });
  });
});
