// Every parameter of every public function: how to pass something hostile in its place, and what of it is right after all.
import { types } from 'node:util';
import {
  CompiledModule,
  codec,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  ModuleCache,
  SandboxComponents,
  SandboxHost,
  type SandboxInstance,
  type SupervisorContext,
  Value,
} from '../../index';
import type { Anything } from '../support/hostile';
import type { Subject } from './subject';

/** Whether a hostile value is one that the function takes; whatever becomes of the call then, it is no `ArgumentError` for it. */
export type Accepts = (value: Anything, name: string) => boolean;

export interface HostileCall {
  /** As `Class.method`, or `new Class`. */
  readonly what: string;
  /** What the error must name. */
  readonly argument: string;
  readonly accepts: Accepts;
  readonly call: (s: Subject, bad: Anything) => unknown;
}

const none: Accepts = () => false;
const any: Accepts = () => true;
const minusZero: Accepts = (value) => Object.is(value, -0);
const int32: Accepts = (value) => Object.is(value, -0) || value === -1;
const nothing: Accepts = (value) => value === undefined;
const text: Accepts = (value) => typeof value === 'string';
const wellFormed: Accepts = (value) => typeof value === 'string' && !/\p{Surrogate}/u.test(value);
const aFunction: Accepts = (value) => typeof value === 'function';
const flag: Accepts = (value) => value === undefined || typeof value === 'boolean';
const size: Accepts = (value) => value === undefined || minusZero(value, '') || value === 2 ** 32;
const positive: Accepts = (value) =>
  value === undefined || (typeof value === 'number' && value > 0 && value < Infinity);
const fuel: Accepts = (value) => value === undefined || value === 1n;
const bytes: Accepts = (value, name) =>
  (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) && !/detached|too short/.test(name);
const options: Accepts = (value) => {
  if (value === undefined) return true;
  try {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    return Object.values(value).every((option) => option === undefined);
  } catch {
    return false;
  }
};
/** A plain number or bigint is converted to the type of the parameter, of which the second of four is an i64. */
const plainAt =
  (at: number): Accepts =>
  (value) =>
    typeof value === (at === 1 ? 'bigint' : 'number');
const supervisor: Accepts = (_, name) =>
  name === 'a supervisor' || name === 'an object with the prototype of JsSupervisor';
/** Without one, that which the guest was instantiated with. */
const supervisorOrNone: Accepts = (value, name) => value === undefined || supervisor(value, name);

const V1 = Instantiate.Version1;
const one = [Value.I32(5)];
/** The encoding of no values. */
const EMPTY = Uint8Array.of(0);

/** The calls by which a guest is made or run, in both ways. */
const both = (
  names: readonly ['invoke', 'invokeAsync'] | readonly ['instantiate', 'instantiateAsync'],
  argument: string,
  accepts: Accepts,
  call: (s: Subject, name: Anything, bad: Anything) => unknown,
): HostileCall[] =>
  names.map((name) => ({
    what: `${names[0] === 'invoke' ? 'SandboxInstance' : 'SandboxComponents'}.${name}`,
    argument,
    accepts,
    call: (s, bad) => call(s, name, bad),
  }));

const invokes = ['invoke', 'invokeAsync'] as const;
const instantiates = ['instantiate', 'instantiateAsync'] as const;

function invoke(s: Subject, name: (typeof invokes)[number], ...args: Anything[]): unknown {
  return (s.instance[name] as (...args: Anything[]) => unknown)(...args);
}

function instantiate(s: Subject, name: (typeof instantiates)[number], ...args: Anything[]): unknown {
  return (s.components[name] as (...args: Anything[]) => unknown)(...args);
}

/** A row of the table below. */
const row = (what: string, argument: string, accepts: Accepts, call: HostileCall['call']): HostileCall => ({
  what,
  argument,
  accepts,
  call,
});

const wide = (bad: Anything, at: number): Anything[] =>
  [Value.I32(1), Value.I64(1n), Value.f32(1), Value.f64(1)].with(at, bad);

const host = (s: Subject, options: object): SandboxHost =>
  new SandboxHost({
    backend: s.backend,
    memory: () => ({ buffer: new ArrayBuffer(0) }),
    table: () => ({ length: 0, get: () => null }),
    allocator: { allocate: () => 8, deallocate() {} },
    ...options,
  });

/** A supervisor with a function that does nothing, and a room of 8 bytes. */
function roomy(use: (supervisor: JsSupervisor, ptr: number) => unknown): unknown {
  const made = new JsSupervisor();
  made.define(() => undefined);
  return use(made, made.allocateMemory(8));
}

const metered = new WeakMap<Subject, SandboxInstance>();

/** A metered guest beside the subject. */
function meteredGuest(s: Subject): SandboxInstance {
  let instance = metered.get(s);
  if (instance === undefined) {
    const components = new SandboxComponents(s.backend, { fuel: true });
    const env = GuestEnvironment.decode(components, EMPTY);
    const index = components.instantiate(V1, s.wasm, env, s.supervisor).register(components, undefined);
    instance = components.instance(index);
    metered.set(s, instance);
  }
  return instance;
}

/** A context that answers every call with an i32 of 5. */
function answering(method: keyof SupervisorContext, value: Anything): SupervisorContext {
  const answer = codec.encodeDispatchResult({ ok: true, value: Value.I32(5) });
  return {
    invoke: () => (64n << 32n) | BigInt(answer.length),
    readMemoryInto: (_, dest) => dest.set(answer),
    writeMemory() {},
    allocateMemory: () => 8,
    deallocateMemory() {},
    [method]: value,
  };
}

const indexed: readonly (readonly [
  name: 'instance' | 'dispatchThunk' | 'instanceTeardown',
  argument: string,
])[] = [
  ['instance', 'instanceIdx'],
  ['dispatchThunk', 'instanceIdx'],
  ['instanceTeardown', 'instanceIdx'],
];

const contextMethods = [
  'invoke',
  'readMemoryInto',
  'writeMemory',
  'allocateMemory',
  'deallocateMemory',
  'readMemory',
] as const;

/** `-0` is an index, too: that of the guest, which must stay. */
const unlessZero = (bad: Anything): Anything => (Object.is(bad, -0) ? 1000 : bad);

export const hostileCalls: readonly HostileCall[] = [
  row('new SandboxComponents', 'backend', none, (_, bad) => new SandboxComponents(bad)),
  row('new SandboxComponents', 'options', options, (s, bad) => new SandboxComponents(s.backend, bad)),
  ...(['fuel', 'interruptible', 'deterministic'] as const).map((name) =>
    row(
      'new SandboxComponents',
      `options.${name}`,
      flag,
      (s, bad) => new SandboxComponents(s.backend, { [name]: bad }),
    ),
  ),
  ...(['optLevel', 'compiler', 'threads'] as const).map((name) =>
    row(
      'new SandboxComponents',
      `options.${name}`,
      nothing,
      (s, bad) => new SandboxComponents(s.backend, { [name]: bad }),
    ),
  ),
  row(
    'new SandboxComponents',
    'options.cache',
    (value, name) => value === undefined || name === 'a cache',
    (s, bad) => new SandboxComponents(s.backend, { cache: bad }),
  ),
  ...(['limits', 'features', 'defaults'] as const).map((name) =>
    row(
      'new SandboxComponents',
      `options.${name}`,
      options,
      (s, bad) => new SandboxComponents(s.backend, { [name]: bad }),
    ),
  ),
  ...(
    [
      'memoryBytes',
      'tableElements',
      'totalBytes',
      'memories',
      'instances',
      'moduleBytes',
      'stackBytes',
      'recursionDepth',
    ] as const
  ).map((name) =>
    row(
      'new SandboxComponents',
      `options.limits.${name}`,
      name === 'stackBytes' || name === 'recursionDepth' ? nothing : size,
      (s, bad) => new SandboxComponents(s.backend, { limits: { [name]: bad } }),
    ),
  ),
  ...(['simd', 'threads', 'tailCall', 'floats'] as const).map((name) =>
    row(
      'new SandboxComponents',
      `options.features.${name}`,
      name === 'threads' ? nothing : flag,
      (s, bad) => new SandboxComponents(s.backend, { features: { [name]: bad } }),
    ),
  ),
  row('SandboxComponents.newMemory', 'initial', minusZero, (s, bad) => s.components.newMemory(bad, 1)),
  row(
    'SandboxComponents.newMemory',
    'maximum',
    (value) => value === undefined || minusZero(value, ''),
    (s, bad) => s.components.newMemory(0, bad),
  ),
  ...indexed.map(([name, argument]) =>
    row(`SandboxComponents.${name}`, argument, minusZero, (s, bad) => s.components[name](unlessZero(bad))),
  ),
  row('SandboxComponents.memory', 'memoryIdx', minusZero, (s, bad) => s.components.memory(bad)),
  row('SandboxComponents.memoryTeardown', 'memoryIdx', minusZero, (s, bad) =>
    s.components.memoryTeardown(unlessZero(bad)),
  ),
  ...both(instantiates, 'version', none, (s, name, bad) =>
    instantiate(s, name, bad, s.wasm, s.env(), s.supervisor),
  ),
  ...both(instantiates, 'wasm', bytes, (s, name, bad) =>
    instantiate(s, name, V1, bad, s.env(), s.supervisor),
  ),
  ...both(instantiates, 'env', none, (s, name, bad) => instantiate(s, name, V1, s.wasm, bad, s.supervisor)),
  ...both(instantiates, 'ctx', supervisor, (s, name, bad) => instantiate(s, name, V1, s.wasm, s.env(), bad)),
  ...contextMethods.flatMap((method) =>
    both(
      instantiates,
      'ctx',
      method === 'readMemory' ? (value) => value === undefined || aFunction(value, '') : aFunction,
      (s, name, bad) => instantiate(s, name, V1, s.wasm, s.env(), answering(method, bad)),
    ),
  ),
  ...both(instantiates, 'options', options, (s, name, bad) =>
    instantiate(s, name, V1, s.wasm, s.env(), s.supervisor, bad),
  ),
  ...both(instantiates, 'options.timeout', positive, (s, name, bad) =>
    instantiate(s, name, V1, s.wasm, s.env(), s.supervisor, { timeout: bad }),
  ),
  ...both(instantiates, 'options.signal', nothing, (s, name, bad) =>
    instantiate(s, name, V1, s.wasm, s.env(), s.supervisor, { signal: bad }),
  ),
  ...both(instantiates, 'options.fuel', nothing, (s, name, bad) =>
    instantiate(s, name, V1, s.wasm, s.env(), s.supervisor, { fuel: bad }),
  ),
  row('UnregisteredInstance.register', 'components', none, (s, bad) =>
    s.unregistered().register(bad, undefined),
  ),
  row('UnregisteredInstance.register', 'dispatchThunk', any, (s, bad) =>
    s.unregistered().register(s.components, bad),
  ),
  row(
    'GuestEnvironment.decode',
    'components',
    (_, name) => name.startsWith('components of'),
    (_, bad) => GuestEnvironment.decode(bad, EMPTY),
  ),
  row('GuestEnvironment.decode', 'rawEnvDef', bytes, (s, bad) => GuestEnvironment.decode(s.components, bad)),

  ...(['addHostFunc', 'addMemory'] as const).flatMap((name) => {
    const what = `EnvironmentDefinitionBuilder.${name}`;
    const add = (...args: Anything[]): unknown =>
      (new EnvironmentDefinitionBuilder()[name] as (...args: Anything[]) => EnvironmentDefinitionBuilder)
        .apply(new EnvironmentDefinitionBuilder(), args)
        .encode();
    return [
      row(what, 'module', wellFormed, (_, bad) => add(bad, 'f', 0)),
      row(what, 'field', wellFormed, (_, bad) => add('env', bad, 0)),
      row(what, name === 'addMemory' ? 'memoryIndex' : 'supervisorFuncIndex', minusZero, (_, bad) =>
        add('env', 'f', bad),
      ),
    ];
  }),

  ...both(invokes, 'exportName', text, (s, name, bad) => invoke(s, name, bad, one, s.supervisor)),
  ...both(invokes, 'args', none, (s, name, bad) => invoke(s, name, 'f', bad, s.supervisor)),
  ...[0, 1, 2, 3].flatMap((at) =>
    both(invokes, `args[${at}]`, plainAt(at), (s, name, bad) =>
      invoke(s, name, 'wide', wide(bad, at), s.supervisor),
    ),
  ),
  ...(['i32', 'i64', 'f32', 'f64'] as const).flatMap((type, at) => {
    const payload = type.startsWith('i') ? 'value' : 'bits';
    const accepts = { i32: int32, i64: fits64, f32: minusZero, f64: fits64 }[type];
    return [
      ...both(invokes, `args[${at}].${payload}`, accepts, (s, name, bad) =>
        invoke(s, name, 'wide', wide({ type, [payload]: bad }, at), s.supervisor),
      ),
      ...both(invokes, `args[${at}].type`, none, (s, name, bad) =>
        invoke(s, name, 'wide', wide({ type: bad, [payload]: 1 }, at), s.supervisor),
      ),
    ];
  }),
  ...both(invokes, 'ctx', supervisorOrNone, (s, name, bad) => invoke(s, name, 'f', one, bad)),
  ...contextMethods.flatMap((method) =>
    both(
      invokes,
      'ctx',
      method === 'readMemory' ? (value) => value === undefined || aFunction(value, '') : aFunction,
      (s, name, bad) => invoke(s, name, 'f', one, answering(method, bad)),
    ),
  ),
  ...both(invokes, 'options', options, (s, name, bad) => invoke(s, name, 'f', one, s.supervisor, bad)),
  ...both(invokes, 'options.timeout', positive, (s, name, bad) =>
    invoke(s, name, 'f', one, s.supervisor, { timeout: bad }),
  ),
  ...both(invokes, 'options.signal', nothing, (s, name, bad) =>
    invoke(s, name, 'f', one, s.supervisor, { signal: bad }),
  ),
  ...both(invokes, 'options.fuel', nothing, (s, name, bad) =>
    invoke(s, name, 'f', one, s.supervisor, { fuel: bad }),
  ),
  ...both(invokes, 'options.fuel', fuel, (s, name, bad) =>
    (meteredGuest(s)[name as 'invoke'] as (...args: Anything[]) => unknown)('seven', [], s.supervisor, {
      fuel: bad,
    }),
  ),
  ...(['getGlobalVal', 'signalHandlerGetGlobalVal'] as const).map((name) =>
    row(`SandboxInstance.${name}`, 'name', text, (s, bad) => s.instance[name](bad)),
  ),
  ...(['setGlobalVal', 'signalHandlerSetGlobalVal'] as const).flatMap((name) => [
    row(`SandboxInstance.${name}`, 'name', text, (s, bad) => s.instance[name](bad, Value.I32(1))),
    row(`SandboxInstance.${name}`, 'value', none, (s, bad) => s.instance[name]('g', bad)),
    row(`SandboxInstance.${name}`, 'value.value', int32, (s, bad) =>
      s.instance[name]('g', { type: 'i32', value: bad }),
    ),
  ]),
  row('SandboxInstance.getMemory', 'name', text, (s, bad) => s.instance.getMemory(bad)),

  row('Memory.read', 'addr', minusZero, (s, bad) => s.memory.read(bad, 1)),
  row('Memory.read', 'size', minusZero, (s, bad) => s.memory.read(0, bad)),
  row('Memory.readInto', 'addr', minusZero, (s, bad) => s.memory.readInto(bad, new Uint8Array(1))),
  row('Memory.readInto', 'dest', bytes, (s, bad) => s.memory.readInto(0, bad)),
  row('Memory.writeFrom', 'addr', minusZero, (s, bad) => s.memory.writeFrom(bad, Uint8Array.of(1))),
  row('Memory.writeFrom', 'src', bytes, (s, bad) => s.memory.writeFrom(0, bad)),
  row('Memory.memoryGrow', 'pages', minusZero, (s, bad) => s.memory.memoryGrow(bad)),

  row('JsSupervisor.define', 'fn', aFunction, (_, bad) => new JsSupervisor().define(bad)),
  row('JsSupervisor.invoke', 'invokeArgsPtr', minusZero, (_, bad) =>
    roomy((made) => made.invoke(bad, 1, 0 as Anything)),
  ),
  row('JsSupervisor.invoke', 'invokeArgsLen', minusZero, (_, bad) =>
    roomy((made, ptr) => made.invoke(ptr, bad, 0 as Anything)),
  ),
  row('JsSupervisor.invoke', 'funcIdx', minusZero, (_, bad) =>
    roomy((made, ptr) => made.invoke(ptr, 1, bad)),
  ),
  row('JsSupervisor.readMemoryInto', 'address', minusZero, (_, bad) =>
    roomy((made) => made.readMemoryInto(bad, new Uint8Array(1))),
  ),
  row('JsSupervisor.readMemoryInto', 'dest', bytes, (_, bad) =>
    roomy((made, ptr) => made.readMemoryInto(ptr, bad)),
  ),
  row('JsSupervisor.readMemory', 'address', minusZero, (_, bad) => roomy((made) => made.readMemory(bad, 1))),
  row('JsSupervisor.readMemory', 'size', minusZero, (_, bad) =>
    roomy((made, ptr) => made.readMemory(ptr, bad)),
  ),
  row('JsSupervisor.writeMemory', 'address', minusZero, (_, bad) =>
    roomy((made) => made.writeMemory(bad, Uint8Array.of(1))),
  ),
  row('JsSupervisor.writeMemory', 'data', bytes, (_, bad) =>
    roomy((made, ptr) => made.writeMemory(ptr, bad)),
  ),
  row('JsSupervisor.allocateMemory', 'size', minusZero, (_, bad) => new JsSupervisor().allocateMemory(bad)),
  row('JsSupervisor.deallocateMemory', 'ptr', none, (_, bad) => new JsSupervisor().deallocateMemory(bad)),

  row('new ModuleCache', 'options', options, (_, bad) => new ModuleCache(bad)),
  row('new ModuleCache', 'options.entries', nothing, (_, bad) => new ModuleCache({ entries: bad })),
  row(
    'new ModuleCache',
    'options.unsafeDirectory',
    nothing,
    (_, bad) =>
      // A string would make a folder.
      new ModuleCache({ unsafeDirectory: typeof bad === 'string' ? `${bad}\0` : bad }),
  ),

  row('CompiledModule.compile', 'backend', none, (s, bad) => CompiledModule.compile(bad, s.wasm)),
  row('CompiledModule.compile', 'wasm', bytes, (s, bad) => CompiledModule.compile(s.backend, bad)),
  row('CompiledModule.compile', 'options', options, (s, bad) =>
    CompiledModule.compile(s.backend, s.wasm, bad),
  ),
  row('CompiledModule.compile', 'options.timeout', positive, (s, bad) =>
    CompiledModule.compile(s.backend, s.wasm, { timeout: bad }),
  ),
  row('CompiledModule.compile', 'options.signal', nothing, (s, bad) =>
    CompiledModule.compile(s.backend, s.wasm, { signal: bad }),
  ),
  row('CompiledModule.unsafeDeserialize', 'backend', none, (_, bad) =>
    CompiledModule.unsafeDeserialize(bad, EMPTY),
  ),
  row('CompiledModule.unsafeDeserialize', 'serialized', bytes, (_, bad) =>
    CompiledModule.unsafeDeserialize('wasmer', bad),
  ),
  row('CompiledModule.unsafeDeserialize', 'options', options, (_, bad) =>
    CompiledModule.unsafeDeserialize('wasmer', EMPTY, bad),
  ),

  row('new SandboxHost', 'options', none, (_, bad) => new SandboxHost(bad)),
  row('new SandboxHost', 'backend', none, (s, bad) => host(s, { backend: bad })),
  row('new SandboxHost', 'options.memory', aFunction, (s, bad) => host(s, { memory: bad })),
  row('new SandboxHost', 'options.table', aFunction, (s, bad) => host(s, { table: bad })),
  row('new SandboxHost', 'options.allocator', none, (s, bad) => host(s, { allocator: bad })),
  row('new SandboxHost', 'options.allocator.allocate', aFunction, (s, bad) =>
    host(s, { allocator: { allocate: bad, deallocate() {} } }),
  ),
  row('new SandboxHost', 'options.allocator.deallocate', aFunction, (s, bad) =>
    host(s, { allocator: { allocate: () => 8, deallocate: bad } }),
  ),
  row('new SandboxHost', 'options.fuel', flag, (s, bad) => host(s, { fuel: bad })),

  row(
    'codec.encodeValues',
    'values',
    (_, name) => name === 'an array',
    (_, bad) => codec.encodeValues(bad),
  ),
  row('codec.encodeValues', 'values[1]', none, (_, bad) => codec.encodeValues([Value.I32(1), bad])),
  row('codec.encodeReturnValue', 'value', nothing, (_, bad) => codec.encodeReturnValue(bad)),
  row('codec.encodeDispatchResult', 'result', none, (_, bad) => codec.encodeDispatchResult(bad)),
  row(
    'codec.encodeDispatchResult',
    'result.ok',
    (value) => value === true,
    (_, bad) => codec.encodeDispatchResult({ ok: bad, value: undefined }),
  ),
  row('codec.encodeDispatchResult', 'result.value', nothing, (_, bad) =>
    codec.encodeDispatchResult({ ok: true, value: bad }),
  ),
  row('codec.encodeDispatchResultV2', 'result', none, (_, bad) => codec.encodeDispatchResultV2(bad)),
  row('codec.encodeDispatchResultV2', 'result.gas', fits64, (_, bad) =>
    codec.encodeDispatchResultV2({ ok: true, gas: bad, value: undefined }),
  ),
  row('codec.encodeDispatchResultV2', 'result.value', nothing, (_, bad) =>
    codec.encodeDispatchResultV2({ ok: true, gas: 1n, value: bad }),
  ),
  row('codec.encodeWasmReturnValue', 'result', none, (_, bad) => codec.encodeWasmReturnValue(bad)),
  row('codec.encodeWasmReturnValue', 'result.gas', fits64, (_, bad) =>
    codec.encodeWasmReturnValue({ gas: bad, inner: undefined }),
  ),
  row('codec.encodeWasmReturnValue', 'result.inner', nothing, (_, bad) =>
    codec.encodeWasmReturnValue({ gas: 1n, inner: bad }),
  ),
  row('codec.encodeEnvironmentDefinition', 'definition', none, (_, bad) =>
    codec.encodeEnvironmentDefinition(bad),
  ),
  row(
    'codec.encodeEnvironmentDefinition',
    'definition.entries',
    (_, name) => name === 'an array',
    (_, bad) => codec.encodeEnvironmentDefinition({ entries: bad }),
  ),
  row('codec.encodeEnvironmentDefinition', 'definition.entries[0]', none, (_, bad) =>
    codec.encodeEnvironmentDefinition({ entries: [bad] }),
  ),
  ...(['moduleName', 'fieldName', 'entity'] as const).map((name) =>
    row(
      'codec.encodeEnvironmentDefinition',
      `definition.entries[0].${name}`,
      name === 'entity' ? none : wellFormed,
      (_, bad) =>
        codec.encodeEnvironmentDefinition({
          entries: [{ moduleName: 'env', fieldName: 'f', entity: { kind: 'memory', index: 0 }, [name]: bad }],
        }),
    ),
  ),
  ...(['kind', 'index'] as const).map((name) =>
    row(
      'codec.encodeEnvironmentDefinition',
      `definition.entries[0].entity.${name}`,
      name === 'kind' ? none : minusZero,
      (_, bad) =>
        codec.encodeEnvironmentDefinition({
          entries: [{ moduleName: 'env', fieldName: 'f', entity: { kind: 'memory', index: 0, [name]: bad } }],
        }),
    ),
  ),
  ...(
    [
      'decodeValues',
      'decodeReturnValue',
      'decodeWasmReturnValue',
      'decodeDispatchResult',
      'decodeDispatchResultV2',
      'decodeEnvironmentDefinition',
    ] as const
  ).map((name) => row(`codec.${name}`, 'bytes', bytes, (_, bad) => codec[name](bad))),
];

function fits64(value: Anything): boolean {
  return value === 1n;
}
