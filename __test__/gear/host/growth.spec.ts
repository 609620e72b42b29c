// The supervisor's memory grows at every moment at which code of the supervisor runs, which detaches whatever the host had of it.
// Each test is run with a memory that is detached when it grows, and with a shared one.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { codec, type SandboxBackend, Value } from '../../../index';
import { forEachBackend } from '../../support/engines';
import { FUNCTION, packResult, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, supervisor } from './fixture';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "f" (func $f (param i32 i64) (result i64)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (global (export "g") (mut i32) (i32.const 3))
  (func (export "run") (param i32 i64) (result i64) (call $f (local.get 0) (local.get 1)))
  (func (export "twice") (param i32 i64) (result i64)
    (i64.add (call $f (local.get 0) (local.get 1)) (call $f (local.get 0) (local.get 1)))))`;

/** A function of the supervisor that grows its memory, and gives the second argument back. */
const DEFINITIONS = `
  (func $grow_and_echo ${FUNCTION}
    (drop (memory.grow (i32.const 1)))
    (i32.store16 (i32.const 64) (i32.const 0x0101))
    (i64.store offset=2 align=2 (i32.const 64) (i64.load offset=6 align=1 (local.get $values)))
    (i32.const 10))
  (func $second ${FUNCTION}
    (i32.store16 (i32.const 64) (i32.const 0x0101))
    (i64.store offset=2 align=2 (i32.const 64) (i64.load offset=6 align=1 (local.get $values)))
    (i32.const 10))`;

const ARGS = [Value.I32(7), Value.I64(0x123456789an)];
const RESULT = Value.I64(0x123456789an);

type Version = 1 | 2;

interface Built {
  readonly given: WasmSupervisor;
  readonly memory: number;
  readonly index: number;
}

function build(
  backend: SandboxBackend,
  version: Version,
  limits: string,
  func = '$second',
  thunk?: string,
): Built {
  const given = supervisor(backend, {
    definitions: DEFINITIONS,
    elements: ['$grow_and_echo', '$second'],
    memory: limits,
  });
  const memory = given.ext.memory_new(1, 2);
  const index = given.guest(wat(GUEST), {
    version,
    ...(thunk === undefined ? {} : { thunk }),
    memories: { 'env.memory': memory },
    functions: { 'env.f': func },
  });
  return { given, memory, index };
}

/** The host's calls of the allocator, each with something before it. */
function before(given: WasmSupervisor, hooks: { allocate?: () => void; deallocate?: () => void }): void {
  given.allocator = {
    allocate(size) {
      hooks.allocate?.();
      return given.exports.allocate(size);
    },
    deallocate(ptr) {
      hooks.deallocate?.();
      given.exports.deallocate(ptr);
    },
  };
}

describe('The supervisor’s memory may grow', () => {
  forEachBackend((backend) => {
    for (const version of [1, 2] as const) {
      for (const isShared of [false, true]) {
        describe(`under Version${version}, ${isShared ? 'shared' : 'not shared'}`, () =>
          growing(backend, version, isShared));
      }
    }
  });
});

function growing(backend: SandboxBackend, version: Version, isShared: boolean): void {
  const make = (func?: string, thunk?: string, limits = '1 100'): Built =>
    build(backend, version, isShared ? `${limits} shared` : limits, func, thunk);

  /** Calls the guest a few times. All must come back as it is, from and to a memory that has grown. */
  function run({ given, index }: Built): void {
    for (let i = 0; i < 3; i++) {
      const pages = given.memory.length;
      assert.deepEqual(given.call(index, 'run', ARGS), RESULT);
      assert.ok(given.memory.length > pages, 'the memory must have grown');
    }
    assert.equal(given.live, 0);
    assertWorks(given);
  }

  it('in the allocator, for the arguments', () => {
    const made = make();
    before(made.given, { allocate: () => made.given.exports.grow(1) });
    run(made);
  });

  it('in the allocator, because there is no room, so that the arguments lie where nothing was', () => {
    const { given, index } = make();
    let filling = 0;
    before(given, {
      allocate: () => {
        filling = given.fill();
      },
    });
    for (let i = 0; i < 3; i++) {
      const pages = given.memory.length;
      assert.deepEqual(given.call(index, 'run', ARGS), RESULT);
      assert.ok(given.memory.length > pages, 'the memory must have grown');
      given.exports.deallocate(filling);
    }
    assert.equal(given.live, 0);
  });

  it('in the thunk', () => run(make('$grow_and_echo')));

  it('in the thunk, so that the answer lies where nothing was', () => {
    const made = make('$second', '$thunk_js');
    const { given } = made;
    given.answer = ({ args }) => {
      const [value] = codec.decodeValues(args).slice(-1);
      const filling = given.fill();
      const packed = given.ok(value, version === 1 ? undefined : 1n);
      given.exports.deallocate(filling);
      return packed;
    };
    run(made);
  });

  it('in the thunk, so that the answer is at the very end', () => {
    const made = make('$second', '$thunk_js');
    const { given } = made;
    const own = given.allocator;
    let atEnd = 0;
    given.allocator = {
      ...own,
      deallocate: (ptr) => {
        if (ptr !== atEnd) own.deallocate(ptr);
      },
    };
    given.answer = ({ args }) => {
      const [value] = codec.decodeValues(args).slice(-1);
      const bytes =
        version === 1
          ? codec.encodeDispatchResult({ ok: true, value })
          : codec.encodeDispatchResultV2({ ok: true, gas: 1n, value });
      given.exports.grow(1);
      atEnd = given.memory.length - bytes.length;
      given.memory.set(bytes, atEnd);
      return packResult(atEnd, bytes.length);
    };
    run(made);
  });

  it('in deallocate, of the arguments and of the answer', () => {
    const made = make();
    before(made.given, { deallocate: () => made.given.exports.grow(1) });
    run(made);
  });

  it('at all of these moments', () => {
    const made = make('$grow_and_echo');
    const { given } = made;
    before(given, { allocate: () => given.exports.grow(1), deallocate: () => given.exports.grow(1) });
    run(made);
  });

  it('during a nested call', () => {
    const made = make('$second', '$thunk_js');
    const { given, index, memory } = made;
    let depth = 0;
    given.answer = ({ args }) => {
      const [value] = codec.decodeValues(args).slice(-1);
      if (++depth % 2 === 1) {
        const inner = Value.I64(BigInt(depth));
        assert.deepEqual(given.call(index, 'run', [Value.I32(1), inner]), inner);
      } else {
        given.exports.grow(1);
        given.write(memory, 0, depth);
      }
      return given.ok(value, version === 1 ? undefined : 1n);
    };
    run(made);
    assert.equal(depth, 6);
    assert.deepEqual(given.read(memory, 0, 1), Uint8Array.of(6));
  });

  it('by JavaScript, in an import of the supervisor', () => {
    const made = make('$second', '$thunk_js');
    const { given, index } = made;
    const memory = given.exports.memory as unknown as { grow(pages: number): number };
    given.answer = ({ args }) => {
      const [value] = codec.decodeValues(args).slice(-1);
      memory.grow(1);
      return given.ok(value, version === 1 ? undefined : 1n);
    };
    run(made);
    memory.grow(2);
    assert.deepEqual(given.getGlobal(index, 'g'), Value.I32(3));
  });

  it('in the allocator, for the answer of get_global_val', () => {
    const { given, index } = make();
    before(given, { allocate: () => given.exports.grow(1) });
    for (let i = 0; i < 3; i++) assert.deepEqual(given.getGlobal(index, 'g'), Value.I32(3));
    let filling = 0;
    before(given, {
      allocate: () => {
        filling = given.fill();
      },
    });
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(given.getGlobal(index, 'g'), Value.I32(3));
      given.exports.deallocate(filling);
    }
    assert.equal(given.live, 0);
  });

  it('in a start function', () => {
    const { given } = make();
    const starting = wat(`(module (import "env" "f" (func $f (param i32 i64) (result i64)))
      (global (export "gear_gas") (mut i64) (i64.const 1000))
      (global $got (export "got") (mut i64) (i64.const 0))
      (func $start (global.set $got (call $f (i32.const 1) (i64.const 44)))) (start $start))`);
    before(given, { allocate: () => given.exports.grow(1), deallocate: () => given.exports.grow(1) });
    const index = given.guest(starting, { version, functions: { 'env.f': '$grow_and_echo' } });
    assert.deepEqual(given.getGlobal(index, 'got'), Value.I64(44n));
    assert.equal(given.live, 0);
  });

  it('between two calls of the guest, which a failed one may come between', () => {
    const { given, index } = make('$second', '$thunk_js');
    let calls = 0;
    given.answer = ({ args }) => {
      const [value] = codec.decodeValues(args).slice(-1);
      given.exports.grow(1);
      if (++calls === 2) throw new Error('the second');
      return given.ok(value, version === 1 ? undefined : 1n);
    };
    assert.equal(given.invoke(index, 'twice', ARGS).status, -3);
    assert.equal(calls, 2);
    assert.deepEqual(given.call(index, 'twice', ARGS), Value.I64(2n * 0x123456789an));
    assert.equal(given.live, 0);
  });

  it('until it cannot any more', () => {
    const { given, index } = make('$grow_and_echo', undefined, '1 1');
    const own = given.allocator;
    given.allocator = {
      ...own,
      allocate: (size) => {
        const rest = given.fill();
        try {
          return given.exports.allocate(size);
        } finally {
          given.exports.deallocate(rest);
        }
      },
    };
    assert.equal(given.invoke(index, 'run', ARGS).status, -3);
    assert.match(given.host.lastError?.message ?? '', /^Can't allocate memory in supervisor/);
    given.allocator = own;
    assert.deepEqual(given.call(index, 'run', ARGS), RESULT);
    assert.equal(given.live, 0);
  });
}
