// Bad arguments to every public function: an ArgumentError that names the argument, and nothing is harmed.
// One table per parameter; a row is a call of a function with something bad in one place.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  SandboxInstance,
  type SupervisorContext,
  UnregisteredInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError, caught } from '../support/expect';
import { type Guest, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

// biome-ignore lint/suspicious/noExplicitAny: everything here is of a wrong type
type Anything = any;

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (global (export "g") (mut i32) (i32.const 1))
  (func (export "f") (param i32) (result i32) (local.get 0))
  (func (export "wide") (param i32 i64 f32 f64)))`;

const notU32: Anything[] = [
  undefined,
  null,
  -1,
  0.5,
  Number.NaN,
  Infinity,
  2 ** 32,
  '1',
  1n,
  true,
  {},
  [1],
  Symbol('1'),
];
const notText: Anything[] = [undefined, null, 5, 5n, true, {}, ['f'], Symbol('f'), Buffer.from('f')];
const notBytes: Anything[] = [
  undefined,
  null,
  5,
  'bytes',
  {},
  [0],
  { length: 1, 0: 0 },
  () => new Uint8Array(1),
];
const notObject: Anything[] = [5, 'options', true, 5n, Symbol('options')];
const notValue: Anything[] = [
  undefined,
  null,
  5,
  5n,
  'i32',
  {},
  [],
  { type: 'i32' },
  { type: 'v128', value: 1 },
  { type: 'I32', value: 1 },
  { value: 1 },
  { type: 'i32', value: 1n },
  { type: 'i32', value: '1' },
  { type: 'i32', value: 1.5 },
  { type: 'i32', value: Number.NaN },
  { type: 'i32', value: 2 ** 31 },
  { type: 'i32', value: -(2 ** 31) - 1 },
  { type: 'i32', bits: 1 },
];
const badNumbers: [index: number, value: Anything][] = [
  [1, { type: 'i64', value: 1 }],
  [1, { type: 'i64', value: 2n ** 63n }],
  [1, { type: 'i64', value: -(2n ** 63n) - 1n }],
  [2, { type: 'f32', bits: -1 }],
  [2, { type: 'f32', bits: 2 ** 32 }],
  [2, { type: 'f32', bits: 1n }],
  [2, { type: 'f32', value: 1 }],
  [3, { type: 'f64', bits: 1 }],
  [3, { type: 'f64', bits: -1n }],
  [3, { type: 'f64', bits: 2n ** 64n }],
];

/** Like a SupervisorContext, but something is missing or is no function. */
/** A plain number is an argument of any type but i64, for which a plain bigint is one. */
function notArgument(plain: 'number' | 'bigint'): Anything[] {
  return notValue.filter((bad) => typeof bad !== plain);
}

function notContext(): Anything[] {
  const complete: Anything = () => {
    const context = new ProtocolSupervisor();
    return {
      invoke: context.invoke.bind(context),
      readMemoryInto: context.readMemoryInto.bind(context),
      writeMemory: context.writeMemory.bind(context),
      allocateMemory: context.allocateMemory.bind(context),
      deallocateMemory: context.deallocateMemory.bind(context),
    };
  };
  const broken: Anything[] = [undefined, null, 5, 'ctx', {}, [], () => 1n];
  for (const method of Object.keys(complete())) {
    const lacking = complete();
    delete lacking[method];
    broken.push(lacking, { ...complete(), [method]: 5 });
  }
  broken.push({ ...complete(), readMemory: 5 });
  return broken;
}

interface Subject extends Pick<Guest, 'components' | 'index' | 'supervisor'> {
  instance: SandboxInstance;
  memory: Memory;
  unregistered(): UnregisteredInstance;
  env(): GuestEnvironment;
  wasm: Uint8Array;
  ctx: SupervisorContext;
}

type Row = [
  what: string,
  argument: string,
  bad: Anything[] | (() => Anything[]),
  call: (subject: Subject, bad: Anything) => unknown,
];

const rows: Row[] = [
  [
    'new SandboxComponents',
    'backend',
    [undefined, null, 'v8', 'Wasmi', 0, 1, {}, Symbol('wasmi')],
    (_s, bad) => new SandboxComponents(bad),
  ],
  [
    'new SandboxComponents',
    'options',
    notObject,
    (s, bad) => new SandboxComponents(s.components.backend, bad),
  ],
  [
    'new SandboxComponents',
    'cache',
    [5, 'cache', true, {}],
    (s, bad) => new SandboxComponents(s.components.backend, { cache: bad }),
  ],
  ['newMemory', 'initial', notU32, (s, bad) => s.components.newMemory(bad, 1)],
  ['newMemory', 'maximum', notU32.slice(1), (s, bad) => s.components.newMemory(1, bad)],
  ['instance', 'instanceIdx', notU32, (s, bad) => s.components.instance(bad)],
  ['dispatchThunk', 'instanceIdx', notU32, (s, bad) => s.components.dispatchThunk(bad)],
  ['instanceTeardown', 'instanceIdx', notU32, (s, bad) => s.components.instanceTeardown(bad)],
  ['memory', 'memoryIdx', notU32, (s, bad) => s.components.memory(bad)],
  ['memoryTeardown', 'memoryIdx', notU32, (s, bad) => s.components.memoryTeardown(bad)],
  [
    'instantiate',
    'version',
    [undefined, null, 0, 3, 1.5, '1', 1n, {}],
    (s, bad) => s.components.instantiate(bad, s.wasm, s.env(), s.ctx),
  ],
  [
    'instantiate',
    'wasm',
    notBytes,
    (s, bad) => s.components.instantiate(Instantiate.Version1, bad, s.env(), s.ctx),
  ],
  [
    'instantiate',
    'env',
    [undefined, null, 5, {}, Uint8Array.of(0), new EnvironmentDefinitionBuilder()],
    (s, bad) => s.components.instantiate(Instantiate.Version1, s.wasm, bad, s.ctx),
  ],
  [
    'instantiate',
    'ctx',
    notContext,
    (s, bad) => s.components.instantiate(Instantiate.Version1, s.wasm, s.env(), bad),
  ],
  [
    'instantiate',
    'options',
    notObject,
    (s, bad) => s.components.instantiate(Instantiate.Version1, s.wasm, s.env(), s.ctx, bad),
  ],
  [
    'register',
    'components',
    [undefined, null, 5, {}, 'wasmi'],
    (s, bad) => s.unregistered().register(bad, undefined),
  ],
  [
    'GuestEnvironment.decode',
    'components',
    [undefined, null, 5, {}, 'wasmi'],
    (_s, bad) => GuestEnvironment.decode(bad, Uint8Array.of(0)),
  ],
  ['GuestEnvironment.decode', 'rawEnvDef', notBytes, (s, bad) => GuestEnvironment.decode(s.components, bad)],
  [
    'addHostFunc',
    'module',
    notText,
    (_s, bad) => new EnvironmentDefinitionBuilder().addHostFunc(bad, 'f', 0 as Anything),
  ],
  [
    'addHostFunc',
    'field',
    notText,
    (_s, bad) => new EnvironmentDefinitionBuilder().addHostFunc('env', bad, 0 as Anything),
  ],
  [
    'addHostFunc',
    'supervisorFuncIndex',
    notU32,
    (_s, bad) => new EnvironmentDefinitionBuilder().addHostFunc('env', 'f', bad),
  ],
  ['addMemory', 'module', notText, (_s, bad) => new EnvironmentDefinitionBuilder().addMemory(bad, 'f', 0)],
  ['addMemory', 'field', notText, (_s, bad) => new EnvironmentDefinitionBuilder().addMemory('env', bad, 0)],
  [
    'addMemory',
    'memoryIndex',
    notU32,
    (_s, bad) => new EnvironmentDefinitionBuilder().addMemory('env', 'f', bad),
  ],
  ['define', 'fn', [undefined, null, 5, 'fn', {}, []], (_s, bad) => new JsSupervisor().define(bad)],
  ['JsSupervisor.allocateMemory', 'size', notU32, (_s, bad) => new JsSupervisor().allocateMemory(bad)],
  [
    'JsSupervisor.deallocateMemory',
    'ptr',
    [...notU32, 8],
    (_s, bad) => new JsSupervisor().deallocateMemory(bad),
  ],
  [
    'JsSupervisor.writeMemory',
    'address',
    notU32,
    (_s, bad) => new JsSupervisor().writeMemory(bad, Uint8Array.of(1)),
  ],
  [
    'JsSupervisor.writeMemory',
    'data',
    notBytes,
    (_s, bad) => allocated(1, ({ supervisor, ptr }) => supervisor.writeMemory(ptr, bad)),
  ],
  [
    'JsSupervisor.readMemoryInto',
    'address',
    notU32,
    (_s, bad) => new JsSupervisor().readMemoryInto(bad, new Uint8Array(1)),
  ],
  [
    'JsSupervisor.readMemoryInto',
    'dest',
    notBytes,
    (_s, bad) => allocated(1, ({ supervisor, ptr }) => supervisor.readMemoryInto(ptr, bad)),
  ],
  [
    'JsSupervisor.invoke',
    'invokeArgsPtr',
    notU32,
    (_s, bad) => allocated(1, ({ supervisor }) => supervisor.invoke(bad, 1, 0 as Anything)),
  ],
  [
    'JsSupervisor.invoke',
    'invokeArgsLen',
    notU32,
    (_s, bad) => allocated(1, ({ supervisor, ptr }) => supervisor.invoke(ptr, bad, 0 as Anything)),
  ],
  [
    'JsSupervisor.invoke',
    'funcIdx',
    notU32,
    (_s, bad) => allocated(1, ({ supervisor, ptr }) => supervisor.invoke(ptr, 1, bad)),
  ],
  ['invoke', 'exportName', notText, (s, bad) => s.instance.invoke(bad, [Value.I32(1)], s.ctx)],
  [
    'invoke',
    'args',
    [undefined, null, 5, 'args', {}, { length: 1 }, Uint8Array.of(1)],
    (s, bad) => s.instance.invoke('f', bad, s.ctx),
  ],
  ['invoke', 'args', [[], [Value.I32(1), Value.I32(2)]], (s, bad) => s.instance.invoke('f', bad, s.ctx)],
  ['invoke', 'args[0]', notArgument('number'), (s, bad) => s.instance.invoke('f', [bad], s.ctx)],
  [
    'invoke',
    'args[0]',
    [Value.I64(1n), Value.f32(1), Value.f64(1)],
    (s, bad) => s.instance.invoke('f', [bad], s.ctx),
  ],
  [
    'invoke',
    'args[3]',
    notArgument('number'),
    (s, bad) => s.instance.invoke('wide', [Value.I32(1), Value.I64(1n), Value.f32(1), bad], s.ctx),
  ],
  [
    'invoke',
    'args[1]',
    notArgument('bigint'),
    (s, bad) => s.instance.invoke('wide', [Value.I32(1), bad, Value.f32(1), Value.f64(1)], s.ctx),
  ],
  [
    'invoke',
    'ctx',
    () => notContext().filter((bad) => bad !== undefined),
    (s, bad) => s.instance.invoke('f', [Value.I32(1)], bad),
  ],
  ['invoke', 'options', notObject, (s, bad) => s.instance.invoke('f', [Value.I32(1)], s.ctx, bad)],
  ['getGlobalVal', 'name', notText, (s, bad) => s.instance.getGlobalVal(bad)],
  ['setGlobalVal', 'name', notText, (s, bad) => s.instance.setGlobalVal(bad, Value.I32(1))],
  ['setGlobalVal', 'value', notValue, (s, bad) => s.instance.setGlobalVal('g', bad)],
  ['signalHandlerGetGlobalVal', 'name', notText, (s, bad) => s.instance.signalHandlerGetGlobalVal(bad)],
  [
    'signalHandlerSetGlobalVal',
    'name',
    notText,
    (s, bad) => s.instance.signalHandlerSetGlobalVal(bad, Value.I32(1)),
  ],
  [
    'signalHandlerSetGlobalVal',
    'value',
    notValue,
    (s, bad) => s.instance.signalHandlerSetGlobalVal('g', bad),
  ],
  ['getMemory', 'name', notText, (s, bad) => s.instance.getMemory(bad)],
  ['read', 'addr', notU32, (s, bad) => s.memory.read(bad, 1)],
  ['read', 'size', notU32, (s, bad) => s.memory.read(0, bad)],
  ['readInto', 'addr', notU32, (s, bad) => s.memory.readInto(bad, new Uint8Array(1))],
  ['readInto', 'dest', notBytes, (s, bad) => s.memory.readInto(0, bad)],
  ['writeFrom', 'addr', notU32, (s, bad) => s.memory.writeFrom(bad, Uint8Array.of(1))],
  ['writeFrom', 'src', notBytes, (s, bad) => s.memory.writeFrom(0, bad)],
  ['memoryGrow', 'pages', notU32, (s, bad) => s.memory.memoryGrow(bad)],
  ['new ModuleCache', 'options', notObject, (_s, bad) => new ModuleCache(bad)],
  ['new ModuleCache', 'entries', [-1, 1.5, '1', Number.NaN], (_s, bad) => new ModuleCache({ entries: bad })],
  [
    'new ModuleCache',
    'unsafeDirectory',
    [5, {}, true],
    (_s, bad) => new ModuleCache({ unsafeDirectory: bad } as Anything),
  ],
];

/** A JsSupervisor with one function, and some memory of it that encodes no arguments. */
function allocated(size: number, use: (made: { supervisor: JsSupervisor; ptr: number }) => unknown): unknown {
  const supervisor = new JsSupervisor();
  supervisor.define(() => undefined);
  const ptr = supervisor.allocateMemory(size);
  supervisor.writeMemory(ptr, new Uint8Array(size));
  return use({ supervisor, ptr });
}

describe('A bad argument', () => {
  forEachBackend((backend) => {
    for (const [what, argument, bad, call] of rows) {
      it(`of ${what} is reported as ${argument}`, () => {
        const subject = build(backend);
        for (const each of typeof bad === 'function' ? bad() : bad) {
          argumentError(argument, () => call(subject, each));
          stillWorks(subject);
        }
      });
    }

    it('of invoke that is a number out of its range is reported as its args[i]', () => {
      const subject = build(backend);
      const right = [Value.I32(1), Value.I64(1n), Value.f32(1), Value.f64(1)];
      for (const [i, value] of badNumbers) {
        argumentError(`args[${i}]`, () => subject.instance.invoke('wide', right.with(i, value), subject.ctx));
      }
      stillWorks(subject);
    });

    it('of invoke that is a hole in the array is reported as its args[i]', () => {
      const subject = build(backend);
      argumentError('args[0]', () => subject.instance.invoke('f', new Array(1), subject.ctx));
    });

    it('is an unknown option, which is named', () => {
      const subject = build(backend);
      argumentError('nonsense', () => new SandboxComponents(backend, { nonsense: 1 } as Anything));
      argumentError('nonsense', () => new ModuleCache({ nonsense: 1 } as Anything));
      argumentError('nonsense', () =>
        subject.instance.invoke('f', [Value.I32(1)], subject.ctx, { nonsense: 1 } as Anything),
      );
      argumentError('nonsense', () =>
        subject.components.instantiate(Instantiate.Version1, subject.wasm, subject.env(), subject.ctx, {
          nonsense: 1,
        } as Anything),
      );
      stillWorks(subject);
    });

    it('is not undefined in the place of an optional one', () => {
      const subject = build(backend);
      assert.equal(new SandboxComponents(backend, undefined).backend, backend);
      assert.equal(typeof subject.components.newMemory(1, undefined), 'number');
      assert.deepEqual(subject.instance.invoke('f', [Value.I32(1)], subject.ctx, undefined), Value.I32(1));
      assert.deepEqual(subject.instance.invoke('f', [Value.I32(1)], subject.ctx, {}), Value.I32(1));
      assert.ok(
        subject.components.instantiate(Instantiate.Version1, subject.wasm, subject.env(), subject.ctx, {}),
      );
    });

    it('is an index that is no index, not one that is merely unknown', () => {
      const { components } = build(backend);
      assert.equal(
        caught(SandboxError, () => components.instance(0xffffffff)).message,
        'Trying to access a non-existent instance',
      );
      assert.equal(
        caught(SandboxError, () => components.memory(0xffffffff)).message,
        'Trying to access a non-existent sandboxed memory',
      );
      argumentError('instanceIdx', () => components.instance(2 ** 32));
      argumentError('memoryIdx', () => components.memory(2 ** 32));
    });

    it('that throws when it is looked at lets its own error out', () => {
      const subject = build(backend);
      const thrown = new Error('by a getter');
      const trap = {
        get type(): 'i32' {
          throw thrown;
        },
        value: 1,
      };
      assert.throws(
        () => subject.instance.invoke('f', [trap], subject.ctx),
        (error) => error === thrown || error instanceof SandboxError,
      );
      stillWorks(subject);
    });

    it('cannot be an object that was not made by this package', () => {
      const subject = build(backend);
      assert.throws(() => new (Memory as Anything)().read(0, 1));
      assert.throws(() => new (SandboxInstance as Anything)().invoke('f', [Value.I32(1)], subject.ctx));
      assert.throws(() => new (UnregisteredInstance as Anything)().register(subject.components, undefined));
      assert.throws(() => {
        const env = new (GuestEnvironment as Anything)();
        subject.components.instantiate(Instantiate.Version1, subject.wasm, env, subject.ctx);
      });
      stillWorks(subject);
    });

    it('cannot be smuggled in as another receiver', () => {
      const subject = build(backend);
      const impostors: Anything[] = [undefined, null, {}, 5, subject.components, subject.supervisor];
      for (const impostor of impostors) {
        assert.throws(() => subject.instance.invoke.call(impostor, 'f', [Value.I32(1)], subject.ctx));
        assert.throws(() => subject.instance.getGlobalVal.call(impostor, 'g'));
        assert.throws(() => subject.memory.read.call(impostor, 0, 1));
        assert.throws(() => subject.memory.memoryGrow.call(impostor, 1));
      }
      for (const impostor of [undefined, null, {}, 5, subject.memory, subject.instance] as Anything[]) {
        assert.throws(() => subject.components.newMemory.call(impostor, 1));
        assert.throws(() => subject.components.clear.call(impostor));
      }
      for (const imitation of [SandboxComponents, UnregisteredInstance, GuestEnvironment]) {
        const fake = Object.create(imitation.prototype);
        assert.throws(() => GuestEnvironment.decode(fake, Uint8Array.of(0)));
        assert.throws(() => subject.unregistered().register(fake, undefined));
        assert.throws(() =>
          subject.components.instantiate(Instantiate.Version1, subject.wasm, fake, subject.ctx),
        );
      }
      stillWorks(subject);
    });
  });
});

function build(backend: SandboxBackend): Subject {
  const made = guest({ backend, memory: { initial: 1, maximum: 2 }, wat: GUEST });
  const wasm = wat('(module (func (export "seven") (result i32) (i32.const 7)))');
  const env = () => environment(made.components);
  return {
    ...made,
    memory: made.memory,
    wasm,
    env,
    ctx: made.supervisor,
    unregistered: () => made.components.instantiate(Instantiate.Version1, wasm, env(), made.supervisor),
  };
}

function stillWorks({ instance, memory, components, index, ctx }: Subject): void {
  assert.deepEqual(instance.invoke('f', [Value.I32(5)], ctx), Value.I32(5));
  assert.deepEqual(instance.getGlobalVal('g'), Value.I32(1));
  assert.equal(memory.memorySize(), 1);
  assert.deepEqual(memory.read(0, 1), Uint8Array.of(0));
  assert.deepEqual(components.instance(index).invoke('f', [Value.I32(6)], ctx), Value.I32(6));
}
