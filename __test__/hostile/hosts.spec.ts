// A SandboxHost whose supervisor gives it the wrong things: memories, tables, addresses and answers of every kind, numbers out of every
// range, and code in all of its callbacks that does something in the middle. The host function returns, or throws an error of this package
// or what was thrown; the host, its guests and the supervisor work on.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { types } from 'node:util';
import {
  BusyError,
  codec,
  EnvironmentDefinitionBuilder,
  type HostFunctions,
  JsSupervisor,
  type SandboxBackend,
  SandboxError,
  SandboxHost,
  TrapError,
  Value,
} from '../../index';
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
  settled,
  thrownByValue,
} from '../support/hostile';
import { V8 } from '../support/v8';
import { wat } from '../support/wat';
import { Subject } from './subject';

endProcessAfterTests();

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "memory" (memory 1 4))
  (global (export "g") (mut i32) (i32.const 1))
  (func (export "f") (param i32) (result i32) (call $f (local.get 0))))`;

type Name = keyof HostFunctions extends `ext_sandbox_${infer N}` ? N : never;

/** Where things stand in the supervisor's memory. */
const AT = {
  name: 16,
  args: 64,
  value: 96,
  global: 128,
  result: 160,
  env: 512,
  wasm: 1024,
  answer: 8192,
  room: 16_384,
};

/** A supervisor in JavaScript; a test may put something else in the place of each of its parts. */
class Supervisor {
  readonly host: SandboxHost;
  readonly pending: Promise<unknown>[] = [];
  memory: () => Anything;
  table: () => Anything;
  element: () => Anything = () => this.thunk;
  allocate: (size: number) => Anything = () => AT.room;
  deallocate: (ptr: number) => Anything = () => {};
  answer: () => Anything = () =>
    this.put(AT.answer, codec.encodeDispatchResult({ ok: true, value: Value.I32(5) }));
  readonly thunk = (): Anything => this.answer();
  readonly instance: number;
  readonly #memory = new V8.Memory({ initial: 1, maximum: 64 });

  constructor(backend: SandboxBackend) {
    this.memory = () => this.#memory;
    this.table = () => ({ length: 1, get: () => this.element() });
    this.host = new SandboxHost({
      backend,
      memory: () => this.memory(),
      table: () => this.table(),
      allocator: { allocate: (size) => this.allocate(size), deallocate: (ptr) => this.deallocate(ptr) },
    });
    this.call('memory_new_version_1', 1, 4);
    this.instance = this.instantiate() as number;
  }

  /** Puts bytes into the memory, and gives their place. */
  put(address: number, bytes: Uint8Array): bigint {
    new Uint8Array(this.#memory.buffer).set(bytes, address);
    return (BigInt(address) << 32n) | BigInt(bytes.length);
  }

  /** The same as host functions take it. */
  packed(address: number, bytes: Uint8Array): bigint {
    this.put(address, bytes);
    return (BigInt(bytes.length) << 32n) | BigInt(address);
  }

  read(address: number, size: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer).slice(address, address + size);
  }

  grow(): void {
    this.#memory.grow(1);
  }

  call(name: Name, ...args: Anything[]): unknown {
    return (this.host.imports.env[`ext_sandbox_${name}`] as (...args: Anything[]) => unknown)(...args);
  }

  /** Right arguments of each host function. */
  argumentsOf(name: Name): Anything[] {
    const text = (bytes: string): bigint => this.packed(AT.name, Buffer.from(bytes));
    switch (name) {
      case 'memory_new_version_1':
        return [1, 2];
      case 'memory_get_version_1':
      case 'memory_set_version_1':
        return [0, 8, AT.result, 16];
      case 'memory_grow_version_1':
        return [0, 0];
      case 'instantiate_version_1':
      case 'instantiate_version_2': {
        const env = new EnvironmentDefinitionBuilder()
          .addHostFunc('env', 'f', 0)
          .addMemory('env', 'memory', 0)
          .encode();
        return [0, this.packed(AT.wasm, wat(GUEST)), this.packed(AT.env, env), 0];
      }
      case 'invoke_version_1':
        return [
          this.instance,
          text('f'),
          this.packed(AT.args, codec.encodeValues([Value.I32(5)])),
          AT.result,
          16,
          0,
        ];
      case 'get_global_val_version_1':
        return [this.instance, text('g')];
      case 'set_global_val_version_1':
        return [this.instance, text('g'), this.packed(AT.value, Uint8Array.of(0, 1, 0, 0, 0))];
      case 'instance_teardown_version_1':
      case 'get_instance_ptr_version_1':
        return [this.instance];
      default:
        return [0];
    }
  }

  /** Calls a host function with right arguments. */
  run(name: Name): unknown {
    return this.call(name, ...this.argumentsOf(name));
  }

  /** Makes a guest with a start function. */
  start(): unknown {
    const wasm = this.packed(AT.wasm, wat('(module (func $f) (start $f))'));
    return this.call('instantiate_version_1', 0, wasm, this.packed(AT.env, Uint8Array.of(0)), 0);
  }

  instantiate(): unknown {
    return this.run('instantiate_version_1');
  }
}

const NAMES = Object.keys(
  new SandboxHost({
    backend: 'wasmi',
    memory: () => ({ buffer: new ArrayBuffer(0) }),
    table: () => ({ length: 0, get: () => null }),
    allocator: { allocate: () => 8, deallocate() {} },
  }).imports.env,
).map((name) => name.slice('ext_sandbox_'.length) as Name);

/** Those that look at the supervisor's memory. */
const WITH_MEMORY = [
  'memory_get_version_1',
  'memory_set_version_1',
  'instantiate_version_1',
  'instantiate_version_2',
  'invoke_version_1',
  'get_global_val_version_1',
  'set_global_val_version_1',
] as const satisfies readonly Name[];

const healthy = new Map<SandboxBackend, Supervisor>();

/** That the host is as good as new, with the parts of another supervisor. */
function works(s: Supervisor, what: string): void {
  const { backend } = s.host.components;
  const other = healthy.get(backend) ?? new Supervisor(backend);
  healthy.set(backend, other);
  const { memory, table, allocate, deallocate } = other;
  Object.assign(s, { memory, table, element: () => other.thunk, allocate, deallocate });
  s.host.components.clear();
  assert.equal(s.call('memory_new_version_1', 1, 4), 0, what);
  const index = s.call('instantiate_version_1', ...other.argumentsOf('instantiate_version_1'));
  assert.equal(index, 0, `${what}: afterwards no guest can be made: ${s.host.lastError}`);
  other.put(AT.result, new Uint8Array(16));
  const status = s.call('invoke_version_1', ...other.argumentsOf('invoke_version_1').with(0, 0));
  assert.equal(status, 0, `${what}: ${s.host.lastError}`);
  assert.deepEqual(codec.decodeReturnValue(other.read(AT.result, 16)), Value.I32(5), what);
}

/** That a call has returned, or thrown what it may. */
function isRight(became: Became, what: string): void {
  if ('error' in became) isRefusal(became.error, undefined, what);
  else
    assert.ok(
      ['number', 'bigint', 'undefined'].includes(typeof became.value),
      `${what}: gives ${typeof became.value}`,
    );
}

function isMemory(value: Anything): boolean {
  try {
    return types.isAnyArrayBuffer(value.buffer);
  } catch {
    return false;
  }
}

describe('A host', () => {
  forEachBackend((backend) => {
    /** Does something with a supervisor of its own for each hostile value, after which it must work. */
    async function againstEach(
      attack: (s: Supervisor, hostile: HostileValue, findings: Findings) => Promise<void> | void,
    ): Promise<void> {
      const findings = new Findings();
      for (const hostile of hostileValues) {
        const s = new Supervisor(backend);
        await attack(s, hostile, findings);
        findings.check(() => works(s, hostile.name));
      }
      findings.none();
    }

    for (const name of WITH_MEMORY) {
      it(`is given a hostile memory in ${name}`, async () => {
        await againstEach(async (s, hostile, findings) => {
          const memory = hostile.make();
          const args = s.argumentsOf(name);
          s.memory = () => memory;
          const became = await becameOf(() => s.call(name, ...args));
          findings.check(() => isRight(became, hostile.name));
          if (!isMemory(hostile.make()))
            findings.check(() =>
              assert.ok('error' in became, `${hostile.name} is no memory, but gives ${shown(became)}`),
            );
        });
      });

      it(`is given a memory with a hostile buffer in ${name}`, async () => {
        await againstEach(async (s, hostile, findings) => {
          const buffer = hostile.make();
          const args = s.argumentsOf(name);
          s.memory = () => ({ buffer });
          const became = await becameOf(() => s.call(name, ...args));
          findings.check(() => isRight(became, hostile.name));
          if (!types.isAnyArrayBuffer(buffer) || hostile.name.startsWith('a detached'))
            findings.check(() =>
              assert.ok('error' in became, `${hostile.name} is no buffer, but gives ${shown(became)}`),
            );
        });
      });
    }

    it('is given a hostile table', async () => {
      await againstEach(async (s, hostile, findings) => {
        s.table = hostile.make;
        const became = await becameOf(() => s.instantiate());
        findings.check(() => isRight(became, hostile.name));
        findings.check(() =>
          assert.ok('error' in became, `${hostile.name} is no table, but gives ${shown(became)}`),
        );
      });
    });

    it('is given a hostile thunk', async () => {
      await againstEach(async (s, hostile, findings) => {
        s.element = hostile.make;
        const became = await becameOf(() => s.instantiate());
        findings.check(() => isRight(became, hostile.name));
        const isFunction = typeof hostile.make() === 'function';
        findings.check(() =>
          assert.equal('error' in became, !isFunction, `${hostile.name}: ${shown(became)}`),
        );
        if (isFunction && 'value' in became)
          findings.check(() =>
            assert.equal(
              s.call('invoke_version_1', ...s.argumentsOf('invoke_version_1').with(0, became.value)),
              -3,
            ),
          );
      });
    });

    it('is given a hostile address by the allocator', async () => {
      await againstEach(async (s, hostile, findings) => {
        s.allocate = hostile.make;
        const became = await becameOf(() => s.run('get_global_val_version_1'));
        findings.check(() => isRight(became, hostile.name));
        findings.check(() =>
          assert.ok('error' in became, `${hostile.name} is no address, but gives ${shown(became)}`),
        );
        findings.check(() => failedBySupervisor(s, hostile.name));
      });
    });

    it('is given a hostile answer by the thunk', async () => {
      await againstEach((s, hostile, findings) => {
        s.answer = hostile.make;
        findings.check(() => failedBySupervisor(s, hostile.name));
      });
    });

    for (const part of ['answer', 'allocate', 'deallocate', 'memory'] as const) {
      it(`learns of whatever ${part} throws by the cause of its error`, async () => {
        await againstEach((s, hostile, findings) => {
          const args = s.argumentsOf('invoke_version_1');
          const why = hostile.make();
          let looks = 0;
          const memory = s.memory;
          // The first three looks are those of the host function itself.
          s[part] = () => {
            looks += 1;
            if (part === 'memory' && looks < 3) return memory();
            throw why;
          };
          findings.check(() => assert.equal(s.call('invoke_version_1', ...args), -3, hostile.name));
          findings.check(() => {
            const chain = causes(s.host.lastError);
            assert.ok(chain[0] instanceof TrapError, hostile.name);
            assert.ok(
              Object.is(chain.at(-1), why) || chain.some((cause) => Object.is(cause, why)),
              hostile.name,
            );
          });
        });
      });
    }

    it('passes on why the call around it was aborted, the very same', async () => {
      const findings = new Findings();
      for (const hostile of hostileValues) {
        if (hostile.name === 'undefined') continue;
        const s = new Supervisor(backend);
        const around = new Subject(backend);
        const controller = new AbortController();
        const why = hostile.make();
        const thrown: unknown[] = [];
        around.answer = ([n]) => {
          controller.abort(why);
          for (const run of [() => s.run('invoke_version_1'), () => s.start()]) {
            try {
              run();
            } catch (error) {
              thrown.push(error);
            }
          }
          return n;
        };
        const { signal } = controller;
        const became = await becameOf(() =>
          around.instance.invoke('f', [Value.I32(5)], around.supervisor, { signal }),
        );
        findings.check(() => assert.ok('error' in became && Object.is(became.error, why), hostile.name));
        findings.check(() =>
          assert.ok(thrown.length === 2 && thrown.every((each) => Object.is(each, why)), hostile.name),
        );
        findings.check(() => works(s, hostile.name));
      }
      findings.none();
    });

    function failedBySupervisor(s: Supervisor, what: string): void {
      assert.equal(s.run('invoke_version_1'), -3, what);
      assert.ok(s.host.lastError instanceof TrapError, `${what}: ${s.host.lastError}`);
      assert.equal(s.host.lastError.trap, 'supervisor', what);
    }
  });
});

const i32 = [0, 1, -1, 2 ** 31 - 1, -(2 ** 31), 65_536, 4_294_967_295];
const i64 = [
  0n,
  1n,
  -1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  2n ** 32n,
  0xffff_ffffn,
  (1n << 32n) | 65_535n,
  (2n << 32n) | 65_535n,
];

describe('A host function', () => {
  forEachBackend((backend) => {
    for (const name of NAMES) {
      it(`${name} takes every number that WebAssembly can give it`, async () => {
        const findings = new Findings();
        const known = new Supervisor(backend).argumentsOf(name);
        for (const [at, right] of known.entries()) {
          for (const number of typeof right === 'bigint' ? i64 : i32) {
            const s = new Supervisor(backend);
            const args = s.argumentsOf(name).with(at, number);
            const what = `argument ${at} is ${number}`;
            const became = await becameOf(() => s.call(name, ...args));
            findings.check(() => isRight(became, what));
            findings.check(() => works(s, what));
          }
        }
        findings.none();
      });

      it(`${name} converts what JavaScript gives it, as an exported function would`, async () => {
        const findings = new Findings();
        const known = new Supervisor(backend).argumentsOf(name);
        for (let at = 0; at < known.length; at += 1) {
          for (const hostile of hostileValues) {
            const s = new Supervisor(backend);
            const args = s.argumentsOf(name).with(at, hostile.make());
            const what = `argument ${at} is ${hostile.name}`;
            const became = await becameOf(() => s.call(name, ...args));
            const converted = await becameOf(() => exported(typeof known[at], hostile.make()));
            const isConversion =
              'error' in became && 'error' in converted && classOf(became.error) === classOf(converted.error);
            if (!isConversion) findings.check(() => isRight(became, what));
            findings.check(() => works(s, what));
          }
        }
        findings.none();
      });
    }
  });

  const classOf = (error: unknown): unknown => types.isNativeError(error) && Object.getPrototypeOf(error);

  let functions: Record<string, (value: Anything) => unknown> | undefined;

  /** Passes something to an exported function of V8. */
  function exported(type: string, value: Anything): unknown {
    const source = '(module (func (export "number") (param i32)) (func (export "bigint") (param i64)))';
    functions ??= new V8.Instance(new V8.Module(wat(source)), {}).exports as typeof functions;
    return functions?.[type](value);
  }
});

function echoing(): JsSupervisor {
  const supervisor = new JsSupervisor();
  supervisor.define(([n]) => n);
  return supervisor;
}

/** What the code of the supervisor does in the middle of a host function. */
const deeds: readonly (readonly [name: string, act: (s: Supervisor) => unknown])[] = [
  [
    'throw',
    () => {
      throw thrownByValue;
    },
  ],
  ['grow its memory', (s) => s.grow()],
  ['dispose the host', (s) => s.host[Symbol.dispose]()],
  ['clear the components', (s) => s.host.components.clear()],
  ['tear the guest down', (s) => s.call('instance_teardown_version_1', s.instance)],
  ["tear the guest's memory down", (s) => s.call('memory_teardown_version_1', 0)],
  ["grow the guest's memory", (s) => s.call('memory_grow_version_1', 0, 1)],
  ['call the guest again', (s) => s.call('invoke_version_1', ...s.argumentsOf('invoke_version_1'))],
  ['make another guest', (s) => s.instantiate()],
  [
    'begin an asynchronous call',
    (s) => {
      const call = s.host.components.instance(s.instance).invokeAsync('f', [Value.I32(1)], echoing());
      call.catch(() => {});
      s.pending.push(call);
    },
  ],
  ['collect garbage', () => global.gc?.()],
];

describe('The code of a supervisor', () => {
  forEachBackend((backend) => {
    for (const [deed, act] of deeds) {
      for (const part of ['memory', 'table', 'element', 'allocate', 'deallocate', 'answer'] as const) {
        it(`may ${deed} in ${part}`, async () => {
          for (const name of NAMES) {
            for (let at = 1; at <= (part === 'memory' ? 5 : 1); at += 1) {
              const s = new Supervisor(backend);
              const args = s.argumentsOf(name);
              const plain = s[part] as (...args: Anything[]) => Anything;
              let times = 0;
              s[part] = (...given: Anything[]) => {
                times += 1;
                if (times === at) act(s);
                return plain(...given);
              };
              const became = await becameOf(() => s.call(name, ...args));
              if ('error' in became && !causes(became.error).includes(thrownByValue))
                assert.ok(became.error instanceof SandboxError, `${name}, ${at}: ${became.error}`);
              isRight(became, `${name}, ${at}`);
              if (name === 'invoke_version_1' && 'value' in became && became.value === 0)
                assert.deepEqual(codec.decodeReturnValue(s.read(AT.result, 16)), Value.I32(5));
              works(s, `${name}, ${at}`);
              for (const call of s.pending) {
                const other = await becameOf(() => settled(call));
                if ('error' in other) assert.ok(other.error instanceof BusyError, shown(other));
                else assert.deepEqual(other.value, Value.I32(1));
              }
            }
          }
        });
      }
    }
  });
});

/** An error and all that it is because of. */
function causes(error: unknown): unknown[] {
  return types.isNativeError(error) && !types.isProxy(error) ? [error, ...causes(error.cause)] : [error];
}

function shown(became: Became): string {
  return 'error' in became ? String(became.error) : String(became.value);
}
