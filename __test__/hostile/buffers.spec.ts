// Bytes that are not what they say: with lengths, methods and species of their own, in shared and resizable buffers, in buffers that are
// detached, shrunk or overwritten in the middle of a call. What counts is the bytes themselves, at the time of the call; or the call is refused.
import assert from 'node:assert/strict';
import { ReadableStream, type UnderlyingByteSource } from 'node:stream/web';
import { describe, it } from 'node:test';
import { types } from 'node:util';
import { runInNewContext } from 'node:vm';
import { MessageChannel } from 'node:worker_threads';
import {
  CompiledModule,
  codec,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  LimitError,
  SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorContext,
  TrapError,
  type UnregisteredInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import {
  type Anything,
  type Became,
  becameOf,
  detach,
  endProcessAfterTests,
  Findings,
  isRefusal,
  resizable,
  settled,
  thrownByValue,
} from '../support/hostile';
import { wat } from '../support/wat';
import { Subject, stillWorks } from './subject';

endProcessAfterTests();

const V1 = Instantiate.Version1;

const fail = (): never => {
  throw thrownByValue;
};

/** A view at an offset of a buffer, so that nobody gets away with taking the whole of it. */
function placed(bytes: Uint8Array, buffer: ArrayBufferLike): Uint8Array {
  const view = new Uint8Array(buffer, 8, bytes.length);
  view.set(bytes);
  return view;
}

const lying = (bytes: Uint8Array, properties: PropertyDescriptorMap): Uint8Array =>
  Object.defineProperties(bytes.slice(), properties);

const valued = (entries: Record<PropertyKey, unknown>): PropertyDescriptorMap =>
  Object.fromEntries(Reflect.ownKeys(entries).map((key) => [key, { value: entries[key as string] }]));

const METHODS = ['slice', 'subarray', 'set', 'fill', 'at', 'indexOf', 'copyWithin', 'values', 'entries'];
const FACTS = ['length', 'byteLength', 'byteOffset', 'buffer', 'BYTES_PER_ELEMENT', 'constructor'];

class Liar extends Uint8Array {
  static get [Symbol.species](): Anything {
    return fail();
  }
  static {
    for (const name of [...METHODS, ...FACTS]) Object.defineProperty(Liar.prototype, name, { get: fail });
    Object.defineProperty(Liar.prototype, Symbol.iterator, { get: fail });
    Object.defineProperty(Liar.prototype, Symbol.toStringTag, { get: fail });
  }
}

/** The same bytes in other clothes. */
const disguises: readonly (readonly [name: string, dress: (bytes: Uint8Array) => Anything])[] = [
  ['a Buffer', (bytes) => Buffer.from(bytes)],
  ['an ArrayBuffer', (bytes) => bytes.slice().buffer],
  ['a SharedArrayBuffer', (bytes) => shared(bytes).buffer],
  ['a view of shared memory', (bytes) => placed(bytes, new SharedArrayBuffer(bytes.length + 20))],
  ['a view of a larger buffer', (bytes) => placed(bytes, new ArrayBuffer(bytes.length + 20))],
  ['a resizable ArrayBuffer', (bytes) => tracking(bytes).buffer],
  ['a view of a resizable buffer', (bytes) => placed(bytes, resizable(bytes.length + 20, 9999))],
  ['a view that has the length of its buffer', tracking],
  [
    'a DataView',
    (bytes) => new DataView(placed(bytes, new ArrayBuffer(bytes.length + 20)).buffer, 8, bytes.length),
  ],
  ['an Int8Array', (bytes) => new Int8Array(bytes.slice().buffer)],
  [
    'an Int8Array that poses as a Uint8Array',
    (bytes) => Object.setPrototypeOf(new Int8Array(bytes.slice().buffer), Uint8Array.prototype),
  ],
  ['a Uint8ClampedArray', (bytes) => new Uint8ClampedArray(bytes.slice().buffer)],
  ['a Uint8Array of another realm', (bytes) => runInNewContext('new Uint8Array(bytes)', { bytes })],
  ['bytes that claim to be none', (bytes) => lying(bytes, valued({ length: 0, byteLength: 0 }))],
  ['bytes that claim to be a few', (bytes) => lying(bytes, valued({ length: 1, byteLength: 1 }))],
  ['bytes that claim to be a million', (bytes) => lying(bytes, valued({ length: 1e6, byteLength: 1e6 }))],
  ['bytes that claim to be NaN', (bytes) => lying(bytes, valued({ length: Number.NaN, byteLength: 'x' }))],
  [
    'bytes that claim to lie elsewhere',
    (bytes) => lying(bytes, valued({ buffer: new ArrayBuffer(2), byteOffset: 1 })),
  ],
  ['bytes whose properties throw', (bytes) => lying(bytes, throwingGetters(FACTS))],
  ['bytes whose methods throw', (bytes) => lying(bytes, throwingGetters(METHODS))],
  [
    'bytes with methods that do something else',
    (bytes) =>
      lying(bytes, valued(Object.fromEntries(METHODS.map((name) => [name, () => new Uint8Array(3)])))),
  ],
  [
    'bytes of a larger species',
    (bytes) => lying(bytes, valued({ constructor: { [Symbol.species]: Float64Array } })),
  ],
  [
    'bytes of a species that throws',
    (bytes) => lying(bytes, valued({ constructor: { [Symbol.species]: fail } })),
  ],
  ['bytes without a constructor', (bytes) => lying(bytes, valued({ constructor: undefined }))],
  ['bytes without a prototype', (bytes) => Object.setPrototypeOf(bytes.slice(), null)],
  [
    'bytes whose prototype throws',
    (bytes) =>
      Object.setPrototypeOf(
        bytes.slice(),
        new Proxy({}, { get: fail, has: fail, getOwnPropertyDescriptor: fail }),
      ),
  ],
  [
    'bytes of a subclass all of which throws',
    (bytes) => Object.setPrototypeOf(bytes.slice(), Liar.prototype),
  ],
  ['bytes that cannot be changed otherwise', (bytes) => Object.preventExtensions(bytes.slice())],
];

function throwingGetters(names: readonly string[]): PropertyDescriptorMap {
  return Object.fromEntries(names.map((name) => [name, { get: fail }]));
}

function shared(bytes: Uint8Array): Uint8Array {
  const view = new Uint8Array(new SharedArrayBuffer(bytes.length));
  view.set(bytes);
  return view;
}

function tracking(bytes: Uint8Array): Uint8Array {
  const view = new Uint8Array(resizable(bytes.length, bytes.length + 9999));
  view.set(bytes);
  return view;
}

/** A function that takes bytes. */
interface Taker {
  readonly name: string;
  /** Some that it does something with. */
  bytes(s: Subject): Uint8Array;
  /** What it does with them. */
  use(s: Subject, given: Anything): unknown;
}

const seven = (s: Subject, made: UnregisteredInstance): unknown => {
  const index = made.register(s.components, undefined);
  const result = s.components.instance(index).invoke('seven', [], s.supervisor);
  s.components.instanceTeardown(index);
  return result;
};

const NUMBERS = Uint8Array.from({ length: 40 }, (_, index) => 200 - index);
const numbers = (): Uint8Array => NUMBERS;

/** More copies than it takes until a memory has a view for them, so that both ways are taken. */
const COPIES = 10;

const takers: readonly Taker[] = [
  {
    name: 'Memory.writeFrom',
    bytes: numbers,
    use({ memory }, given) {
      const results: Uint8Array[] = [];
      for (let copy = 0; copy < COPIES; copy += 1) {
        memory.writeFrom(90, new Uint8Array(60));
        memory.writeFrom(100, given);
        results.push(memory.read(90, 60));
      }
      return results;
    },
  },
  {
    name: 'Memory.writeFrom at the very end',
    bytes: numbers,
    use(s, given) {
      const memory = s.components.memory(s.components.newMemory(1));
      for (let copy = 0; copy < COPIES; copy += 1) memory.writeFrom(65_536 - NUMBERS.length, given);
      return memory.read(65_400, 136);
    },
  },
  {
    name: 'JsSupervisor.writeMemory',
    bytes: numbers,
    use(_, given) {
      const supervisor = new JsSupervisor();
      const ptr = supervisor.allocateMemory(64);
      supervisor.writeMemory(ptr + 8, given);
      return supervisor.readMemory(ptr, 64);
    },
  },
  {
    name: 'GuestEnvironment.decode',
    bytes: () =>
      new EnvironmentDefinitionBuilder()
        .addHostFunc('en\u00fc', 'f', 0)
        .addMemory('env', 'memory', 0)
        .encode(),
    use(s, given) {
      const env = GuestEnvironment.decode(s.components, given);
      const wasm = wat(`(module (import "en\u00fc" "f" (func $f (param i32) (result i32)))
        (import "env" "memory" (memory 1))
        (func (export "seven") (result i32) (call $f (i32.const 7))))`);
      return seven(s, s.components.instantiate(V1, wasm, env, s.supervisor));
    },
  },
  {
    name: 'instantiate',
    bytes: (s) => s.wasm,
    use: (s, given) => seven(s, s.components.instantiate(V1, given, s.env(), s.supervisor)),
  },
  {
    name: 'instantiateAsync',
    bytes: (s) => s.wasm,
    use: async (s, given) => seven(s, await s.components.instantiateAsync(V1, given, s.env(), s.supervisor)),
  },
  {
    name: 'CompiledModule.compile',
    bytes: (s) => s.wasm,
    use: async (s, given) => {
      const module = await CompiledModule.compile(s.backend, given);
      return seven(s, s.components.instantiate(V1, module, s.env(), s.supervisor));
    },
  },
  ...(
    [
      ['decodeValues', codec.encodeValues([Value.I64(-5n), Value.f32(1.5)])],
      ['decodeReturnValue', codec.encodeReturnValue(Value.f64(0.5))],
      ['decodeWasmReturnValue', codec.encodeWasmReturnValue({ gas: 7n, inner: Value.I32(1) })],
      ['decodeDispatchResult', codec.encodeDispatchResult({ ok: true, value: Value.I32(1) })],
      ['decodeDispatchResultV2', codec.encodeDispatchResultV2({ ok: true, gas: 7n, value: Value.I32(1) })],
      [
        'decodeEnvironmentDefinition',
        new EnvironmentDefinitionBuilder().addMemory('m\u00fc', 'n', 5).encode(),
      ],
    ] as const
  ).map(
    ([name, encoded]): Taker => ({
      name: `codec.${name}`,
      bytes: () => encoded,
      use: (_, given) => codec[name](given),
    }),
  ),
  {
    name: 'Memory.readInto',
    bytes: numbers,
    use({ memory }, given) {
      memory.writeFrom(
        100,
        NUMBERS.map((byte) => byte + 1),
      );
      for (let copy = 0; copy < COPIES; copy += 1) {
        seen(given).fill(0);
        memory.readInto(100, given);
      }
      return seen(given);
    },
  },
  {
    name: 'JsSupervisor.readMemoryInto',
    bytes: numbers,
    use(_, given) {
      const supervisor = new JsSupervisor();
      const ptr = supervisor.allocateMemory(64);
      supervisor.writeMemory(
        ptr + 8,
        NUMBERS.map((byte) => byte + 1),
      );
      supervisor.readMemoryInto(ptr + 8, given);
      return seen(given);
    },
  },
];

/** Only where there is machine code. */
const deserializing: Taker = {
  name: 'CompiledModule.unsafeDeserialize',
  bytes: numbers,
  use: async (s, given) => {
    const module = CompiledModule.unsafeDeserialize('wasmer', given);
    return seven(s, s.components.instantiate(V1, module, s.env(), s.supervisor));
  },
};

/** What really is in an array or buffer, by means that it has no say in. */
function seen(given: Anything): Uint8Array {
  if (!ArrayBuffer.isView(given)) return new Uint8Array(given);
  const of = (holder: object, name: string): Anything =>
    Object.getOwnPropertyDescriptor(holder, name)?.get?.call(given);
  const holder = types.isDataView(given) ? DataView.prototype : Object.getPrototypeOf(Uint8Array.prototype);
  return new Uint8Array(of(holder, 'buffer'), of(holder, 'byteOffset'), of(holder, 'byteLength'));
}

describe('Bytes in disguise', () => {
  forEachBackend((backend) => {
    const all = backend === SandboxBackend.Wasmer ? [...takers, deserializing] : takers;
    for (const { name, bytes, use } of all) {
      it(`are to ${name} what they are`, async () => {
        const findings = new Findings();
        const s = new Subject(backend);
        const honest =
          name === deserializing.name
            ? (await CompiledModule.compile(backend, s.wasm)).serialize()
            : bytes(s);
        const expected = await use(s, honest.slice());
        for (const [disguise, dress] of disguises) {
          const became = await becameOf(async () => use(s, dress(honest)));
          findings.check(() => assert.deepEqual(became, { value: expected }, `${name} of ${disguise}`));
          findings.check(() => stillWorks(s));
        }
        findings.none();
      });
    }

    it('do not pass for a smaller module than they are', async () => {
      const findings = new Findings();
      const s = new Subject(backend);
      const limits = { moduleBytes: s.wasm.length - 1 };
      const components = new SandboxComponents(backend, { limits });
      const env = GuestEnvironment.decode(components, Uint8Array.of(0));
      const makers: ((given: Anything) => unknown)[] = [
        (given) => components.instantiate(V1, given, env, s.supervisor),
        (given) => components.instantiateAsync(V1, given, env, s.supervisor),
        (given) => CompiledModule.compile(backend, given, { limits }),
      ];
      for (const [disguise, dress] of disguises) {
        for (const make of makers) {
          const became = await becameOf(() => make(dress(s.wasm)));
          findings.check(() => assert.ok('error' in became && became.error instanceof LimitError, disguise));
        }
      }
      findings.none();
    });
  });
});

/** What may become of a resizable buffer in the middle of a call. */
const accidents: readonly (readonly [
  name: string,
  happen: (buffer: ReturnType<typeof resizable>) => void,
])[] = [
  ['is detached', detach],
  ['shrinks to nothing', (buffer) => buffer.resize(0)],
  ['shrinks', (buffer) => buffer.resize(9)],
  ['grows', (buffer) => buffer.resize(buffer.byteLength + 999)],
  ['is overwritten', (buffer) => new Uint8Array(buffer).fill(0xff)],
];

/** An options object, or a context, in whose getter something happens once. */
function eventful<T extends object>(target: T, name: string, happen: () => void): T {
  let isDone = false;
  const value = (target as Anything)[name];
  return Object.defineProperty(target, name, {
    enumerable: true,
    get: () => {
      if (!isDone) happen();
      isDone = true;
      return value;
    },
  });
}

const plainContext = (): SupervisorContext => ({
  invoke: () => 0n,
  readMemoryInto() {},
  writeMemory() {},
  allocateMemory: () => 8,
  deallocateMemory() {},
});

/** Calls that take a module, and run code of the caller before they are done with their arguments. */
const interrupted: readonly (readonly [
  name: string,
  call: (s: Subject, given: Anything, happen: () => void) => unknown,
])[] = [
  ...(['instantiate', 'instantiateAsync'] as const).flatMap(
    (name) =>
      [
        [
          `${name}, by a getter of its context`,
          (s: Subject, given: Anything, happen: () => void) =>
            s.components[name](V1, given, s.env(), eventful(plainContext(), 'writeMemory', happen)),
        ],
        [
          `${name}, by a getter of its options`,
          (s: Subject, given: Anything, happen: () => void) =>
            s.components[name](V1, given, s.env(), s.supervisor, eventful({}, 'timeout', happen)),
        ],
      ] as const,
  ),
  [
    'CompiledModule.compile, by a getter of its options',
    (s, given, happen) => CompiledModule.compile(s.backend, given, eventful({}, 'fuel', happen)),
  ],
];

describe('A buffer in the middle of a call', () => {
  forEachBackend((backend) => {
    for (const [name, call] of interrupted) {
      for (const [accident, happen] of accidents) {
        it(`of ${name}, ${accident}: the call works or is refused`, async () => {
          for (const track of [tracking, fixed]) {
            const s = new Subject(backend);
            const given = track(s.wasm);
            const became = await becameOf(() =>
              call(s, given, () => happen(given.buffer as unknown as ReturnType<typeof resizable>)),
            );
            if ('error' in became) isRefusal(became.error, 'wasm', name);
            else
              assert.deepEqual(instanceOf(s, became.value).invoke('seven', [], s.supervisor), Value.I32(7));
            stillWorks(s);
          }
        });
      }

      it(`of ${name}, outgrows the limit: the call keeps to it`, async () => {
        const s = new Subject(backend);
        const limits = { moduleBytes: s.wasm.length };
        const components = new SandboxComponents<unknown>(backend, { limits });
        const given = tracking(s.wasm);
        const grow = (): void =>
          (given.buffer as unknown as ReturnType<typeof resizable>).resize(s.wasm.length + 8);
        const other = {
          ...s,
          backend,
          components,
          supervisor: s.supervisor,
          env: () => GuestEnvironment.decode(components, Uint8Array.of(0)),
        };
        const became = await becameOf(() => call(other as unknown as Subject, given, grow));
        if ('error' in became)
          assert.ok(became.error instanceof LimitError || name.startsWith('Compiled'), String(became.error));
        else assert.ok(name.startsWith('instantiateAsync'), 'what is taken after the growth is too long');
      });

      it(`of ${name}, belongs to a guest that grows: the call works or is refused`, async () => {
        const s = new Subject(backend);
        s.memory.writeFrom(1000, s.wasm);
        const given = new Uint8Array(s.memory.buffer, 1000, s.wasm.length);
        const became = await becameOf(() => call(s, given, () => s.memory.memoryGrow(1)));
        if ('error' in became) isRefusal(became.error, 'wasm', name);
        else assert.deepEqual(instanceOf(s, became.value).invoke('seven', [], s.supervisor), Value.I32(7));
        stillWorks(s);
      });
    }

    for (const [accident, happen] of accidents) {
      it(`that ${accident} once an asynchronous call is made was taken before`, async () => {
        const s = new Subject(backend);
        const compiling = tracking(s.wasm);
        const compiled = CompiledModule.compile(backend, compiling);
        happen(compiling.buffer as unknown as ReturnType<typeof resizable>);
        const instantiating = tracking(s.wasm);
        const made = s.components.instantiateAsync(V1, instantiating, s.env(), s.supervisor);
        happen(instantiating.buffer as unknown as ReturnType<typeof resizable>);
        assert.deepEqual(seven(s, await settled(made)), Value.I32(7));
        const module = await settled(compiled);
        assert.deepEqual(seven(s, s.components.instantiate(V1, module, s.env(), s.supervisor)), Value.I32(7));
      });
    }
  });
});

const one = [Value.I32(5)];
const ANSWER = codec.encodeDispatchResult({ ok: true, value: Value.I32(6) });

/** Answers each call by an i32 of 6, except for what a test does otherwise. */
const answering = (otherwise: Partial<Record<keyof SupervisorContext, Anything>>): SupervisorContext => ({
  invoke: () => (64n << 32n) | BigInt(ANSWER.length),
  readMemoryInto: (_, dest) => dest.set(ANSWER),
  writeMemory() {},
  allocateMemory: () => 8,
  deallocateMemory() {},
  ...otherwise,
});

const notBytes: readonly (readonly [name: string, make: () => Anything])[] = [
  [
    'a detached Uint8Array',
    () => {
      const bytes = ANSWER.slice();
      detach(bytes.buffer);
      return bytes;
    },
  ],
  ['a proxy of bytes', () => new Proxy(ANSWER.slice(), {})],
  ['an heir of bytes', () => Object.create(ANSWER.slice())],
  ['what has the prototype of bytes', () => Object.create(Uint8Array.prototype)],
  [
    'an Int8Array that poses as a Uint8Array',
    () => Object.setPrototypeOf(new Int8Array(ANSWER.slice().buffer), Uint8Array.prototype),
  ],
  ['an array', () => [...ANSWER]],
  ['no bytes at all', () => new Uint8Array(0)],
  ['nothing', () => undefined],
];

/** The other way to give an answer of a step, in asynchronous calls. */
const later = (answer: Anything): Promise<Anything> =>
  new Promise((resolve) => setImmediate(resolve, answer));

describe('The bytes of a supervisor', () => {
  forEachBackend((backend) => {
    const ways: readonly (readonly [
      name: string,
      call: (s: Subject, ctx: Anything) => unknown,
      give: (answer: Anything) => Anything,
    ])[] = [
      ['invoke', (s, ctx) => s.instance.invoke('f', one, ctx), (answer) => answer],
      ['invokeAsync', (s, ctx) => s.instance.invokeAsync('f', one, ctx), (answer) => answer],
      ['invokeAsync with Promises', (s, ctx) => s.instance.invokeAsync('f', one, ctx), later],
    ];
    for (const [name, call, give] of ways) {
      it(`are what they are when it gives them as an answer in ${name}`, async () => {
        const findings = new Findings();
        const s = new Subject(backend);
        for (const [disguise, dress] of disguises) {
          if (!types.isUint8Array(dress(ANSWER))) continue;
          const became = await becameOf(() => call(s, answering({ readMemory: () => give(dress(ANSWER)) })));
          // Whether an answer is a Promise can only be found out by a property of it.
          const isOwn =
            'error' in became && (became.error as Error).cause === thrownByValue && name !== 'invoke';
          if (!isOwn || disguise !== 'bytes whose prototype throws')
            findings.check(() => assert.deepEqual(became, { value: Value.I32(6) }, disguise));
          findings.check(() => stillWorks(s));
        }
        findings.none();
      });

      for (const [accident, happen] of accidents) {
        it(`were read before it freed them in ${name}, though their buffer ${accident} then`, async () => {
          const s = new Subject(backend);
          for (const track of [tracking, fixed]) {
            const answer = track(ANSWER);
            const buffer = answer.buffer as unknown as ReturnType<typeof resizable>;
            const readMemory = (): Anything => give(answer);
            const deallocateMemory = (ptr: number): Anything => give(ptr === 64 ? happen(buffer) : undefined);
            const became = await becameOf(() => call(s, answering({ readMemory, deallocateMemory })));
            assert.deepEqual(became, { value: Value.I32(6) });
          }
          stillWorks(s);
        });
      }

      it(`trap the guest when they are none in ${name}`, async () => {
        const findings = new Findings();
        const s = new Subject(backend);
        for (const [kind, make] of notBytes) {
          const became = await becameOf(() => call(s, answering({ readMemory: () => give(make()) })));
          findings.check(() => {
            assert.ok('error' in became && became.error instanceof TrapError, `${kind}: ${shown(became)}`);
            assert.equal(became.error.trap, 'supervisor', kind);
            assert.match(became.error.message, /^(Can't read the serialized result|Decoding Result)/, kind);
          });
          findings.check(() => stillWorks(s));
        }
        findings.none();
      });

      it(`may be taken away by it in ${name}`, async () => {
        const s = new Subject(backend);
        const takesArguments = answering({
          writeMemory: (_: number, data: Uint8Array) => give(detach(data.buffer as ArrayBuffer)),
        });
        assert.deepEqual(await becameOf(() => call(s, takesArguments)), { value: Value.I32(6) });
        const takesRoom = answering({
          readMemoryInto: (_: number, dest: Uint8Array) => give(detach(dest.buffer as ArrayBuffer)),
        });
        const became = await becameOf(() => call(s, takesRoom));
        assert.ok('error' in became && became.error instanceof TrapError, shown(became));
        stillWorks(s);
      });
    }
  });
});

describe('The buffer of a guest', () => {
  forEachBackend((backend) => {
    const copiers: readonly (readonly [name: string, take: (buffer: ArrayBuffer) => unknown])[] = [
      ['by structuredClone', (buffer) => structuredClone(buffer, { transfer: [buffer] })],
      ['by a message', (buffer) => new MessageChannel().port1.postMessage(buffer, [buffer])],
    ];
    for (const [how, take] of copiers) {
      it(`is not taken away ${how}`, async () => {
        const s = new Subject(backend);
        const { buffer } = s.memory;
        new Uint8Array(buffer)[9] = 8;
        const became = await becameOf(() => take(buffer));
        // What comes out is a copy, if anything.
        if ('value' in became && became.value instanceof ArrayBuffer) new Uint8Array(became.value).fill(1);
        assert.equal(buffer.byteLength, 65_536);
        assert.deepEqual(s.memory.read(9, 1), Uint8Array.of(8));
        stillWorks(s);
      });
    }

    it('may be taken away by the reader of a stream: copies, the guest and the next buffer work on', async () => {
      const s = new Subject(backend);
      const { buffer } = s.memory;
      // Kept, because nothing must be done with it once the memory is gone.
      const taken = await becameOf(() => readByStream(buffer));
      for (let copy = 0; copy < COPIES; copy += 1) {
        s.memory.writeFrom(100, NUMBERS);
        assert.deepEqual(s.memory.read(100, NUMBERS.length), NUMBERS);
      }
      assert.deepEqual(s.instance.invoke('load', [Value.I32(100)], s.supervisor), Value.I32(200));
      s.memory.memoryGrow(1);
      stillWorks(s);
      assert.ok(taken);
    });
  });
});

async function readByStream(buffer: ArrayBuffer): Promise<unknown> {
  const stream = new ReadableStream({
    type: 'bytes',
    pull(controller) {
      controller.enqueue(Uint8Array.of(1));
    },
  } as UnderlyingByteSource);
  return stream.getReader({ mode: 'byob' }).read(new Uint8Array(buffer));
}

function shown(became: Became): string {
  return 'error' in became ? String(became.error) : JSON.stringify(became.value);
}

function fixed(bytes: Uint8Array): Uint8Array {
  const view = new Uint8Array(resizable(bytes.length, bytes.length + 9999), 0, bytes.length);
  view.set(bytes);
  return view;
}

function instanceOf(s: Subject, made: unknown): SandboxInstance {
  const unregistered = (
    made instanceof CompiledModule ? s.components.instantiate(V1, made, s.env(), s.supervisor) : made
  ) as UnregisteredInstance;
  return s.components.instance(unregistered.register(s.components, undefined));
}
