// instantiate_version_1 and _2, instance_teardown and get_instance_ptr: what the supervisor gets back, and what its thunk gets.
// Contract: section 6; for the order of checks `detail.rs` of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstantiationError, type SandboxBackend, SandboxError, TrapError, Value } from '../../../index';
import { forEachBackend } from '../../support/engines';
import { caught, causedBy, sandboxError } from '../../support/expect';
import { V8 } from '../../support/v8';
import { pack, type ThunkCall, type WasmSupervisor } from '../../support/wasm_supervisor';
import { invalidWat, wat } from '../../support/wat';
import { assertWorks, lastTrap, supervisor } from './fixture';

const MODULE = -1;
const EXECUTION = -3;

const EMPTY = '(module)';
const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "seven") (result i32) (i32.const 7)))`;
const STARTING = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (global $got (export "got") (mut i32) (i32.const 0))
  (func $start (global.set $got (call $f (i32.const 5))))
  (start $start))`;

const versions = [1, 2] as const;
type Version = (typeof versions)[number];

/** The error by which the last `instantiate` failed. */
function lastFailure(given: WasmSupervisor, kind: InstantiationError['kind']): InstantiationError {
  const error = given.host.lastError;
  assert.ok(error instanceof InstantiationError, `expected an InstantiationError, got ${error}`);
  assert.equal(error.kind, kind);
  return error;
}

describe('instantiate', () => {
  forEachBackend((backend) => {
    for (const version of versions) {
      describe(`under Version${version}`, () => instantiating(backend, version));
    }
  });
});

function instantiating(backend: SandboxBackend, version: Version): void {
  const build = (): WasmSupervisor => supervisor(backend);
  const instantiate = `instantiate_${version}` as const;

  it('counts the indices of instances from 0', () => {
    const given = build();
    assert.deepEqual(
      [0, 1, 2].map(() => given.instantiate(wat(EMPTY), { version })),
      [0, 1, 2],
    );
  });

  it('links a guest with functions and memories', () => {
    const given = build();
    const memory = given.ext.memory_new(1, 1);
    given.write(memory, 3, 30);
    const index = given.guest(
      wat(`(module
        (import "env" "memory" (memory 1)) (import "x" "add" (func $add (param i32 i32) (result i32)))
        (global (export "gear_gas") (mut i64) (i64.const 1000))
        (func (export "run") (param i32) (result i32)
          (call $add (local.get 0) (i32.load8_u (i32.const 3)))))`),
      { version, functions: { 'x.add': '$add' }, memories: { 'env.memory': memory } },
    );
    assert.deepEqual(given.call(index, 'run', [Value.I32(12)]), Value.I32(42));
  });

  it('leaves the bytes in the supervisor’s memory alone, and frees nothing of them', () => {
    const given = build();
    const code = wat(GUEST);
    const ptr = given.allocate(code);
    const envDef = given.environment({ functions: { 'env.f': '$echo' } });
    const index = given.with([envDef], (packed) =>
      given.ext[instantiate](given.element(`$thunk_${version}`), pack(ptr, code.length), packed, 0),
    );
    assert.equal(index, 0);
    assert.deepEqual(given.bytes(ptr, code.length), Uint8Array.from(code));
    given.memory.fill(0, ptr, ptr + code.length);
    given.exports.deallocate(ptr);
    assert.deepEqual(given.call(index, 'run', [Value.I32(3)]), Value.I32(3));
    assert.equal(given.live, 0);
  });

  it('does not call the supervisor', () => {
    const given = build();
    given.allocator = {
      allocate: () => assert.fail('nobody needs memory'),
      deallocate: () => assert.fail('nobody frees memory'),
    };
    assert.equal(
      given.instantiate(wat(GUEST), { version, functions: { 'env.f': 0 }, thunk: '$thunk_js' }),
      0,
    );
  });

  describe('returns -1', () => {
    const modules: [what: string, binary: () => Uint8Array][] = [
      ['no bytes', () => new Uint8Array(0)],
      ['bytes that are no module', () => Buffer.from('no module')],
      ['half a module', () => wat(GUEST).subarray(0, 30)],
      ['an invalid module', () => invalidWat('(module (func (result i32)))')],
    ];
    for (const [what, binary] of modules) {
      it(`for ${what}`, () => {
        const given = build();
        assert.equal(given.instantiate(binary(), { version, functions: { 'env.f': 0 } }), MODULE);
        assert.ok('cause' in lastFailure(given, 'ModuleDecoding'));
        assertWorks(given);
      });
    }

    const environments: [what: string, bytes: Uint8Array][] = [
      ['no bytes', new Uint8Array(0)],
      ['a truncated list', Uint8Array.of(8, 4, 97)],
      ['an unknown kind of entry', Uint8Array.of(4, 4, 97, 4, 98, 3, 0, 0, 0, 0)],
      ['a name that is not UTF-8', Uint8Array.of(4, 4, 0xff, 4, 98, 1, 0, 0, 0, 0)],
    ];
    for (const [what, bytes] of environments) {
      it(`for an environment of ${what}`, () => {
        const given = build();
        const index = given.with([wat(EMPTY), bytes], (code, envDef) =>
          given.ext[instantiate](given.element('$thunk_1'), code, envDef, 0),
        );
        assert.equal(index, MODULE);
        assert.ok('cause' in lastFailure(given, 'EnvironmentDefinitionCorrupted'));
        assertWorks(given);
      });
    }

    it('for a memory in the environment that does not exist or is torn down, used or not', () => {
      const given = build();
      given.ext.memory_teardown(given.ext.memory_new(1, 1));
      const messages = [
        'Trying to access a torndown sandboxed memory',
        'Trying to access a non-existent sandboxed memory',
      ];
      for (const [index, message] of messages.entries()) {
        assert.equal(given.instantiate(wat(EMPTY), { version, memories: { 'env.memory': index } }), MODULE);
        const { cause } = lastFailure(given, 'EnvironmentDefinitionCorrupted');
        assert.equal((cause as Error).message, message);
      }
      assertWorks(given);
    });

    it('for an import that the environment does not have', () => {
      const given = build();
      const guests: [string, object, InstantiationError['kind']][] = [
        [GUEST, {}, 'Instantiation'],
        [GUEST, { functions: { 'env.g': 0, 'x.f': 0 } }, 'Instantiation'],
        [GUEST, { memories: { 'env.f': given.ext.memory_new(1, 1) } }, 'Instantiation'],
        ['(module (import "env" "m" (memory 1)))', { functions: { 'env.m': 0 } }, 'ModuleDecoding'],
        ['(module (import "env" "g" (global i32)))', { functions: { 'env.g': 0 } }, 'Instantiation'],
        ['(module (import "env" "t" (table 1 funcref)))', { functions: { 'env.t': 0 } }, 'Instantiation'],
      ];
      for (const [text, parts, kind] of guests) {
        assert.equal(given.instantiate(wat(text), { version, ...parts }), MODULE);
        lastFailure(given, kind);
      }
      assertWorks(given);
    });

    it('for what cannot be linked', () => {
      const given = build();
      const memories = { 'env.memory': given.ext.memory_new(1, 3) };
      for (const text of [
        '(module (import "env" "memory" (memory 2)))',
        '(module (import "env" "memory" (memory 1 2)))',
        '(module (memory 1) (data (i32.const 65536) "x"))',
        '(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))',
      ]) {
        assert.equal(given.instantiate(wat(text), { version, memories }), MODULE, text);
        lastFailure(given, 'Instantiation');
      }
      assertWorks(given);
    });

    it('and gives the next instance the index that the failed one would have had', () => {
      const given = build();
      assert.equal(given.instantiate(wat(EMPTY), { version }), 0);
      assert.equal(given.instantiate(wat(GUEST), { version }), MODULE);
      assert.equal(given.instantiate(wat(EMPTY), { version }), 1);
    });
  });

  describe('with a start function', () => {
    it('runs it, with its supervisor calls', () => {
      const given = build();
      const index = given.guest(wat(STARTING), { version, functions: { 'env.f': '$echo' } });
      assert.deepEqual(given.getGlobal(index, 'got'), Value.I32(5));
      assert.deepEqual(given.getGlobal(index, 'gear_gas'), Value.I64(version === 1 ? 1000n : 990n));
      assert.equal(given.live, 0);
    });

    it('hands the state of the call to its thunk', () => {
      const given = build();
      for (const state of [7, 0, -1, -(2 ** 31), 2 ** 31 - 1]) {
        const index = given.guest(wat(STARTING), { version, state, functions: { 'env.f': '$state' } });
        assert.deepEqual(given.getGlobal(index, 'got'), Value.I32(state));
      }
    });

    it('returns -3 if that traps', () => {
      const given = build();
      assert.equal(
        given.instantiate(wat('(module (func $f unreachable) (start $f))'), { version }),
        EXECUTION,
      );
      const { cause } = lastFailure(given, 'StartTrapped');
      assert.ok(cause instanceof TrapError);
      assert.equal(cause.trap, 'unreachable');
      assert.equal(given.instantiate(wat(EMPTY), { version }), 0);
      assertWorks(given);
    });

    it('returns -3 if its supervisor call fails, with what was thrown as the cause of the trap', () => {
      const given = build();
      const thrown = { by: 'the supervisor' };
      given.answer = () => {
        throw thrown;
      };
      const parts = { version, thunk: '$thunk_js', functions: { 'env.f': 0 } };
      assert.equal(given.instantiate(wat(STARTING), parts), EXECUTION);
      const trap = lastFailure(given, 'StartTrapped').cause;
      assert.ok(trap instanceof TrapError);
      assert.equal(trap.trap, 'supervisor');
      causedBy(trap, thrown);
      assert.equal(given.live, 0);
      assertWorks(given);
    });

    it('returns -3 if the supervisor answers with HostError', () => {
      const given = build();
      assert.equal(
        given.instantiate(wat(STARTING), { version, functions: { 'env.f': '$host_error' } }),
        EXECUTION,
      );
      assert.equal(given.live, 0);
      assertWorks(given);
    });

    it('may make another guest meanwhile', () => {
      const given = build();
      const made: number[] = [];
      given.answer = () => {
        const inner = given.guest(wat(GUEST), { version, functions: { 'env.f': '$echo' } });
        made.push(inner);
        return given.ok(given.call(inner, 'seven'), version === 1 ? undefined : 1n);
      };
      const index = given.guest(wat(STARTING), { version, thunk: '$thunk_js', functions: { 'env.f': 0 } });
      assert.deepEqual([made, index], [[0], 1]);
      assert.deepEqual(given.getGlobal(index, 'got'), Value.I32(7));
    });
  });

  it('passes the state of each later call on unchanged', () => {
    const given = build();
    const index = given.guest(wat(GUEST), { version, state: 77, functions: { 'env.f': '$state' } });
    for (const state of [7, 0, 0, -1, 7, 2 ** 31 - 1, -(2 ** 31)]) {
      assert.deepEqual(given.call(index, 'run', [Value.I32(1)], state), Value.I32(state));
    }
  });

  it('passes the index of the function on unchanged', () => {
    const given = build();
    const calls: ThunkCall[] = [];
    given.answer = (call) => {
      calls.push(call);
      return given.ok(Value.I32(1), version === 1 ? undefined : 1n);
    };
    for (const func of [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      const index = given.guest(wat(GUEST), { version, thunk: '$thunk_js', functions: { 'env.f': func } });
      given.call(index, 'run', [Value.I32(1)], 3);
      assert.deepEqual([calls.at(-1)?.func, calls.at(-1)?.state], [func | 0, 3]);
    }
  });

  it('keeps a thunk with each instance', () => {
    const given = build();
    given.answer = () => given.ok(Value.I32(1), version === 1 ? undefined : 1n);
    const [a, b] = [`$thunk_${version}`, '$thunk_js'].map((thunk) =>
      given.guest(wat(GUEST), { version, thunk, functions: { 'env.f': '$echo' } }),
    );
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(given.call(a, 'run', [Value.I32(9)]), Value.I32(9));
      assert.deepEqual(given.call(b, 'run', [Value.I32(9)]), Value.I32(1));
    }
  });

  it('keeps the thunk that was in the table at that time', () => {
    const given = build();
    const thunk = given.element(`$thunk_${version}`);
    const index = given.guest(wat(GUEST), { version, thunk, functions: { 'env.f': '$echo' } });
    (given.exports.table as unknown as { set(index: number, element: null): void }).set(thunk, null);
    assert.deepEqual(given.call(index, 'run', [Value.I32(9)]), Value.I32(9));
    caught(SandboxError, () => given.instantiate(wat(EMPTY), { version, thunk }));
  });

  describe('throws a SandboxError', () => {
    it('for a thunk beyond the end of the table', () => {
      const given = build();
      for (const thunk of [given.exports.table.length, 2 ** 31 - 1, -(2 ** 31), -1]) {
        const error = caught(SandboxError, () => given.instantiate(wat(EMPTY), { version, thunk }));
        assert.match(error.message, /^dispatch_thunk is out of bounds/);
      }
      assertWorks(given);
    });

    it('for a thunk that is null', () => {
      const given = build();
      const error = caught(SandboxError, () => given.instantiate(wat(EMPTY), { version, thunk: 0 }));
      assert.match(error.message, /^dispatch_thunk /);
      assertWorks(given);
    });

    it('for a table that has no functions', () => {
      const table = new V8.Table({ initial: 5, element: 'externref' });
      const given = supervisor(backend, { options: { table: () => table } });
      for (const [index, element] of [undefined, null, 5, {}, 'text'].entries()) {
        table.set(index, element);
        const error = caught(SandboxError, () => given.instantiate(wat(EMPTY), { version, thunk: index }));
        assert.match(error.message, /^dispatch_thunk /);
      }
      assert.equal(given.live, 0);
    });

    it('for bytes beyond the end of the memory', () => {
      const given = build();
      const thunk = given.element('$thunk_1');
      const size = given.memory.length;
      for (const [ptr, len] of [
        [size - 3, 4],
        [size, 1],
        [size + 1, 0],
        [2 ** 31, 1],
        [2 ** 32 - 1, 2 ** 32 - 1],
        [0, 2 ** 31],
      ]) {
        const outside = pack(ptr, len);
        given.with([wat(EMPTY), Uint8Array.of(0)], (code, envDef) => {
          const wasm = caught(SandboxError, () => given.ext[instantiate](thunk, outside, envDef, 0));
          assert.match(wasm.message, /^wasm /);
          const env = caught(SandboxError, () => given.ext[instantiate](thunk, code, outside, 0));
          assert.match(env.message, /^env_def /);
        });
      }
      assert.equal(given.instantiate(wat(EMPTY), { version }), 0);
      assertWorks(given);
    });
  });

  it('takes a thunk of another type, with which the guest traps at its first call', () => {
    const types = [
      '(param i32 i32 i32) (result i64)',
      '(param i32 i32 i32 i32 i32) (result i64)',
      '(param i32 i32 i32 i64) (result i64)',
      '(param i32 i32 i32 f32) (result i64)',
      '(param i32 i32 i32 i32) (result i32)',
      '(param i32 i32 i32 i32) (result i64 i64)',
      '(param i32 i32 i32 i32)',
      '',
    ];
    const elements = types.map((_type, index) => `$other${index}`);
    const definitions = types.map((type, index) => `(func $other${index} ${type} unreachable)`).join('\n');
    const given = supervisor(backend, { definitions, elements });
    for (const thunk of elements) {
      const index = given.guest(wat(GUEST), { version, thunk, functions: { 'env.f': 0 } });
      for (let i = 0; i < 2; i++) {
        assert.equal(given.invoke(index, 'run', [Value.I32(1)]).status, EXECUTION);
        const trap = lastTrap(given);
        assert.equal(trap.trap, 'supervisor');
        assert.ok(trap.cause instanceof SandboxError);
        assert.match(trap.message, /dispatch thunk must be of type/);
        assert.equal(given.live, 0);
      }
      assert.deepEqual(given.call(index, 'seven'), Value.I32(7));
    }
    assertWorks(given);
  });

  it('takes a thunk of another type for a guest that calls nothing', () => {
    const given = supervisor(backend, { definitions: '(func $other)', elements: ['$other'] });
    const index = given.guest(wat('(module (func (export "f") (result i32) (i32.const 1)))'), {
      version,
      thunk: '$other',
    });
    assert.deepEqual(given.call(index, 'f'), Value.I32(1));
  });
}

describe('instance_teardown', () => {
  forEachBackend((backend) => {
    it('forgets an instance, whose index is not used again', () => {
      const given = supervisor(backend);
      const index = given.guest(wat(EMPTY));
      assert.equal(given.ext.instance_teardown(index), undefined);
      sandboxError('Trying to access a torndown instance', () => given.invoke(index, 'f'));
      assert.equal(given.guest(wat(EMPTY)), index + 1);
      assertWorks(given);
    });

    it('throws a SandboxError for an index that names none, and for the second time', () => {
      const given = supervisor(backend);
      given.ext.instance_teardown(given.guest(wat(EMPTY)));
      sandboxError('Double teardown of an instance', () => given.ext.instance_teardown(0));
      for (const index of [1, -1, -(2 ** 31)]) {
        sandboxError('Trying to teardown a non-existent instance', () => given.ext.instance_teardown(index));
      }
      assertWorks(given);
    });
  });
});

describe('get_instance_ptr', () => {
  forEachBackend((backend) => {
    it('gives each instance an address of its own, which stays', () => {
      const given = supervisor(backend);
      for (let i = 0; i < 10; i++) given.guest(wat(EMPTY));
      const addresses = Array.from({ length: 10 }, (_item, index) => given.ext.get_instance_ptr(index));
      assert.equal(new Set(addresses).size, 10);
      assert.ok(addresses.every((address) => address !== 0n));
      given.ext.memory_new(1, 1);
      assert.deepEqual(
        addresses,
        addresses.map((_address, index) => given.ext.get_instance_ptr(index)),
      );
    });

    it('throws a SandboxError for an index that names none, or one torn down', () => {
      const given = supervisor(backend);
      given.ext.instance_teardown(given.guest(wat(EMPTY)));
      sandboxError('Trying to access a torndown instance', () => given.ext.get_instance_ptr(0));
      sandboxError('Trying to access a non-existent instance', () => given.ext.get_instance_ptr(1));
      sandboxError('Trying to access a non-existent instance', () => given.ext.get_instance_ptr(-1));
    });
  });
});

describe('A guest without gear_gas', () => {
  forEachBackend((backend) => {
    const wasm = () =>
      wat(`(module (import "env" "f" (func $f)) (func (export "call") (call $f)) (func (export "nothing")))`);

    it('can be made under Version2, and invoked until it calls the supervisor', () => {
      const given = supervisor(backend);
      const index = given.guest(wasm(), { version: 2, functions: { 'env.f': '$nothing' } });
      assert.equal(given.call(index, 'nothing'), undefined);
      assert.equal(given.invoke(index, 'call').status, EXECUTION);
      assert.equal(given.live, 0);
      assert.equal(given.call(index, 'nothing'), undefined);
    });

    it('can call the supervisor under Version1', () => {
      const given = supervisor(backend);
      const index = given.guest(wasm(), { functions: { 'env.f': '$nothing' } });
      assert.equal(given.call(index, 'call'), undefined);
    });
  });
});
