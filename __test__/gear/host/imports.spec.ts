// What a host is made of, and what it gives: its options, the functions that supervisors import, the components behind them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  SandboxHost,
  type SandboxHostOptions,
  Value,
} from '../../../index';
import { forEachBackend } from '../../support/engines';
import { argumentError, caught, causedBy, sandboxError } from '../../support/expect';
import { V8 } from '../../support/v8';
import { hostFunctions, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, lastTrap, supervisor } from './fixture';

const GUEST = `(module
  (import "env" "nothing" (func $nothing))
  (global (export "g") (mut i32) (i32.const 3))
  (func (export "three") (result i32) (i32.const 3))
  (func (export "call") (call $nothing)))`;

/** Options that are right, and those of them that a test wants to be wrong. */
function options(backend: SandboxBackend, wrong: Record<string, unknown> = {}): SandboxHostOptions {
  return {
    backend,
    memory: () => assert.fail('nobody needs the memory'),
    table: () => assert.fail('nobody needs the table'),
    allocator: { allocate: () => 0, deallocate: () => undefined },
    ...wrong,
  } as SandboxHostOptions;
}

describe('The imports of a host', () => {
  forEachBackend((backend) => {
    it('are the host functions of the module env, and no others', () => {
      const { imports } = new SandboxHost(options(backend));
      assert.deepEqual(Object.keys(imports), ['env']);
      const names = Object.values(hostFunctions).map(([name]) => name);
      assert.deepEqual(Object.keys(imports.env).sort(), names.sort());
    });

    it('take as many parameters as their types have', () => {
      const { env } = new SandboxHost(options(backend)).imports;
      for (const [name, params] of Object.values(hostFunctions)) {
        assert.equal(env[name as keyof typeof env].length, params.split(' ').length, name);
      }
    });

    it('return what their types have', () => {
      const given = supervisor(backend);
      const { ext } = given;
      const memory = ext.memory_new(1, 2);
      const instance = given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } });
      const nothing = 0n;
      const args = given.allocate(Uint8Array.of(0));
      assert.equal(ext.memory_size(memory), 1);
      assert.equal(ext.memory_grow(memory, 1), 1);
      assert.equal(ext.memory_get(memory, 0, 0, 1), 0);
      assert.equal(ext.memory_set(memory, 0, 0, 1), 0);
      assert.equal(ext.instantiate_1(given.element('$thunk_1'), nothing, nothing, 0), -1);
      assert.equal(ext.instantiate_2(given.element('$thunk_2'), nothing, nothing, 0), -1);
      assert.equal(ext.invoke(instance, nothing, (1n << 32n) | BigInt(args), 0, 0, 0), -3);
      assert.deepEqual(given.getGlobal(instance, 'g'), Value.I32(3));
      assert.equal(given.setGlobal(instance, 'g', Value.I32(4)), 0);
      assert.equal(typeof ext.get_buff(memory), 'bigint');
      assert.equal(typeof ext.get_instance_ptr(instance), 'bigint');
      assert.equal(ext.memory_teardown(memory), undefined);
      assert.equal(ext.instance_teardown(instance), undefined);
    });

    it('can be given to V8 beside others of the same module', () => {
      const { imports } = new SandboxHost(options(backend));
      const wasm = wat(`(module
        (import "env" "ext_sandbox_memory_new_version_1" (func $new (param i32 i32) (result i32)))
        (import "env" "one" (func $one (result i32)))
        (func (export "f") (result i32) (i32.add (call $new (i32.const 0) (i32.const 0)) (call $one))))`);
      const instance = new V8.Instance(new V8.Module(wasm), { env: { ...imports.env, one: () => 1 } });
      assert.equal((instance.exports as { f(): number }).f(), 1);
    });

    it('do not depend on how they are called', () => {
      const { ext_sandbox_memory_new_version_1: make } = new SandboxHost(options(backend)).imports.env;
      assert.equal(make(1, 2), 0);
    });
  });
});

describe('The options of a host', () => {
  forEachBackend((backend) => {
    const wrong: [name: string, option: string, values: unknown[]][] = [
      ['backend', 'backend', [undefined, null, 'v8', 0, {}]],
      ['options.memory', 'memory', [undefined, null, 5, 'memory', {}, { buffer: new ArrayBuffer(8) }]],
      ['options.table', 'table', [undefined, null, 5, 'table', {}, []]],
      ['options.allocator', 'allocator', [undefined, null, 5, 'allocator', [], () => 0]],
      [
        'options.allocator.allocate',
        'allocator',
        [{}, { deallocate() {} }, { allocate: 5, deallocate() {} }],
      ],
      ['options.allocator.deallocate', 'allocator', [{ allocate() {} }, { allocate() {}, deallocate: null }]],
      ['options.cache', 'cache', [5, true, {}]],
      ['options.optLevel', 'optLevel', [5, 'fast']],
      ['options.nonsense', 'nonsense', [1, null]],
    ];
    for (const [name, option, values] of wrong) {
      it(`are refused with ${name} missing or wrong`, () => {
        for (const value of values) {
          argumentError(name, () => new SandboxHost(options(backend, { [option]: value })));
        }
      });
    }

    it('are refused if they are no object', () => {
      for (const value of [undefined, null, 5, 'options', []]) {
        argumentError('options', () => new SandboxHost(value as never));
      }
    });

    it('are passed on to the components', () => {
      const given = supervisor(backend, { options: { cache: false, optLevel: 'none' } });
      assertWorks(given);
      assert.equal(given.host.components.backend, backend);
    });

    it('may have undefined for what has a default', () => {
      assert.ok(new SandboxHost(options(backend, { cache: undefined, optLevel: undefined })));
    });

    it('are not used before they are needed', () => {
      const { env } = new SandboxHost(options(backend)).imports;
      const memory = env.ext_sandbox_memory_new_version_1(1, 2);
      env.ext_sandbox_memory_grow_version_1(memory, 1);
      env.ext_sandbox_memory_size_version_1(memory);
      env.ext_sandbox_get_buff_version_1(memory);
      env.ext_sandbox_memory_teardown_version_1(memory);
    });

    it('may have an allocator whose methods need their object', () => {
      class Allocator {
        readonly calls: string[] = [];
        allocate(size: number): number {
          this.calls.push('allocate');
          return given.exports.allocate(size);
        }
        deallocate(ptr: number): void {
          this.calls.push('deallocate');
          given.exports.deallocate(ptr);
        }
      }
      const allocator = new Allocator();
      const given = supervisor(backend, { options: { allocator } });
      assertWorks(given);
      assert.deepEqual(allocator.calls, ['allocate', 'deallocate', 'deallocate']);
    });
  });
});

describe('A source of the supervisor’s memory', () => {
  forEachBackend((backend) => {
    let source: () => unknown;

    /** A supervisor whose host asks `source` once there is a guest. */
    function build() {
      source = () => given.exports.memory;
      const given: WasmSupervisor = supervisor(backend, { options: { memory: () => source() as never } });
      const instance = given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } });
      return { given, instance, memory: given.ext.memory_new(1, 2) };
    }

    /** Each host function that reads or writes the supervisor's memory. */
    const uses: Record<string, (made: ReturnType<typeof build>) => unknown> = {
      memory_get: ({ given, memory }) => given.ext.memory_get(memory, 0, 8, 8),
      memory_set: ({ given, memory }) => given.ext.memory_set(memory, 0, 8, 8),
      instantiate: ({ given }) => given.instantiate(wat(GUEST), { functions: { 'env.nothing': '$nothing' } }),
      invoke: ({ given, instance }) => given.invoke(instance, 'three'),
      get_global_val: ({ given, instance }) => given.getGlobal(instance, 'g'),
      set_global_val: ({ given, instance }) => given.setGlobal(instance, 'g', Value.I32(9)),
    };

    function nothingHappened({ given, instance, memory }: ReturnType<typeof build>, bytes: Uint8Array): void {
      source = () => given.exports.memory;
      assert.deepEqual(given.memory.subarray(0, 64), bytes);
      assert.equal(given.live, 0);
      assert.deepEqual(given.getGlobal(instance, 'g'), Value.I32(3));
      assert.deepEqual(given.read(memory, 0, 64), new Uint8Array(64));
      assert.equal(given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } }), instance + 1);
      assertWorks(given);
    }

    for (const [name, use] of Object.entries(uses)) {
      it(`may throw: ${name} throws a SandboxError with that as its cause`, () => {
        const made = build();
        made.given.memory.fill(7, 0, 64);
        const bytes = made.given.bytes(0, 64);
        for (const thrown of [new Error('no memory'), 'text', undefined]) {
          source = () => {
            throw thrown;
          };
          const error = caught(SandboxError, () => use(made));
          causedBy(error, thrown);
          assert.match(error.message, /^options\.memory\(\) /);
        }
        nothingHappened(made, bytes);
      });

      it(`may give something else: ${name} throws a SandboxError`, () => {
        const made = build();
        made.given.memory.fill(7, 0, 64);
        const bytes = made.given.bytes(0, 64);
        const { memory, table } = made.given.exports;
        const others = [
          undefined,
          null,
          5,
          'memory',
          {},
          { buffer: new Uint8Array(9) },
          memory.buffer,
          table,
        ];
        for (const other of others) {
          source = () => other;
          assert.match(caught(SandboxError, () => use(made)).message, /^options\.memory\(\) /);
        }
        nothingHappened(made, bytes);
      });
    }

    it('may throw while a guest calls: the guest traps, and that is the cause of the cause', () => {
      const { given, instance } = build();
      const thrown = new Error('no memory');
      given.allocator = {
        ...given.allocator,
        allocate: (size) => {
          source = () => {
            throw thrown;
          };
          return given.exports.allocate(size);
        },
        deallocate: (ptr) => {
          source = () => given.exports.memory;
          given.exports.deallocate(ptr);
        },
      };
      assert.equal(given.invoke(instance, 'call').status, -3);
      const trap = lastTrap(given);
      assert.equal(trap.message, "Can't write invoke args into memory");
      causedBy(trap.cause as SandboxError, thrown);
      assert.equal(given.live, 0);
    });
  });
});

describe('A source of the supervisor’s table', () => {
  forEachBackend((backend) => {
    let source: () => unknown;

    function build(): WasmSupervisor {
      source = () => given.exports.table;
      const given: WasmSupervisor = supervisor(backend, { options: { table: () => source() as never } });
      return given;
    }

    function instantiate(given: WasmSupervisor): number {
      return given.instantiate(wat(GUEST), { functions: { 'env.nothing': '$nothing' } });
    }

    it('may throw: instantiate throws a SandboxError with that as its cause', () => {
      const given = build();
      for (const thrown of [new Error('no table'), 'text', undefined]) {
        source = () => {
          throw thrown;
        };
        const error = caught(SandboxError, () => instantiate(given));
        causedBy(error, thrown);
        assert.match(error.message, /^options\.table\(\) /);
      }
      source = () => given.exports.table;
      assert.equal(instantiate(given), 0);
      assertWorks(given);
    });

    it('may give something else: instantiate throws a SandboxError', () => {
      const given = build();
      const { memory } = given.exports;
      for (const other of [undefined, null, 5, 'table', {}, { get: 5 }, [], memory]) {
        source = () => other;
        assert.match(caught(SandboxError, () => instantiate(given)).message, /^options\.table\(\) /);
      }
      source = () => given.exports.table;
      assert.equal(instantiate(given), 0);
      assertWorks(given);
    });

    it('is asked by instantiate only', () => {
      const given = build();
      const index = instantiate(given);
      source = () => assert.fail('nobody needs the table');
      assert.equal(given.call(index, 'call'), undefined);
      given.ext.instance_teardown(index);
    });
  });
});

describe('The components of a host', () => {
  forEachBackend((backend) => {
    it('have what the supervisor makes, by its indices', () => {
      const given = supervisor(backend);
      const { components } = given.host;
      const memories = [given.ext.memory_new(1, 2), given.ext.memory_new(2, 2)];
      const instances = [0, 1].map(() =>
        given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' }, thunk: '$thunk_1' }),
      );
      assert.ok(components instanceof SandboxComponents);
      assert.deepEqual(
        [memories, instances],
        [
          [0, 1],
          [0, 1],
        ],
      );
      assert.equal(components.memory(1).memorySize(), 2);
      components.memory(1).writeFrom(9, Uint8Array.of(4));
      assert.deepEqual(given.read(1, 9, 1), Uint8Array.of(4));
      components.instance(1).setGlobalVal('g', Value.I32(8));
      assert.deepEqual(given.getGlobal(1, 'g'), Value.I32(8));
      assert.deepEqual(given.getGlobal(0, 'g'), Value.I32(3));
      assert.equal(components.dispatchThunk(0), given.exports.table.get(given.element('$thunk_1')));
    });

    it('give the supervisor what was made in them, by their indices', () => {
      const given = supervisor(backend);
      const { components } = given.host;
      assert.equal(components.newMemory(3, 4), 0);
      assert.equal(given.ext.memory_new(1, 1), 1);
      assert.equal(components.newMemory(5, 6), 2);
      assert.deepEqual([0, 1, 2].map(given.ext.memory_size), [3, 1, 5]);
    });

    it('may tear down what the supervisor made, and the other way round', () => {
      const given = supervisor(backend);
      const { components } = given.host;
      for (let i = 0; i < 2; i++) {
        given.ext.memory_new(1, 2);
        given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } });
      }
      components.memoryTeardown(0);
      components.instanceTeardown(0);
      sandboxError('Trying to access a torndown sandboxed memory', () => given.ext.memory_size(0));
      sandboxError('Trying to access a torndown instance', () => given.invoke(0, 'three'));
      given.ext.memory_teardown(1);
      given.ext.instance_teardown(1);
      sandboxError('Trying to access a torndown sandboxed memory', () => components.memory(1));
      sandboxError('Trying to access a torndown instance', () => components.instance(1));
    });

    it('are cleared when the host is disposed, which can be used again', () => {
      const given = supervisor(backend);
      {
        using host = given.host;
        given.ext.memory_new(1, 2);
        given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } });
        assert.ok(host.components.instance(0));
      }
      sandboxError('Trying to access a non-existent sandboxed memory', () => given.ext.memory_size(0));
      sandboxError('Trying to access a non-existent instance', () => given.invoke(0, 'three'));
      assert.equal(given.ext.memory_new(1, 2), 0);
      assert.equal(given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing' } }), 0);
      assertWorks(given);
      given.host[Symbol.dispose]();
      given.host[Symbol.dispose]();
      assertWorks(given);
    });
  });
});

describe('The last error of a host', () => {
  forEachBackend((backend) => {
    it('is undefined at first, and stays until the next', () => {
      const given = supervisor(backend);
      assert.equal(given.host.lastError, undefined);
      const index = given.guest(wat(GUEST), { functions: { 'env.nothing': '$trap' } });
      assert.equal(given.invoke(index, 'call').status, -3);
      const first = lastTrap(given);
      given.call(index, 'three');
      assert.equal(given.host.lastError, first);
      assert.equal(given.invoke(index, 'call').status, -3);
      assert.notEqual(given.host.lastError, first);
    });

    it('is not that of a host function that threw', () => {
      const given = supervisor(backend);
      caught(SandboxError, () => given.ext.memory_size(5));
      caught(SandboxError, () => given.invoke(5, 'f'));
      assert.equal(given.host.lastError, undefined);
    });

    it('can only be read', () => {
      const { host } = supervisor(backend);
      assert.throws(() => {
        (host as { lastError: unknown }).lastError = 1;
      }, TypeError);
    });
  });
});
