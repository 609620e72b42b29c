// The host functions for guests' memories: memory_new, get, set, grow, size, teardown and get_buff.
// Contract: section 6; for the order of checks `detail.rs` of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LimitError, type SandboxBackend, SandboxError, Value } from '../../../index';
import { forEachBackend } from '../../support/engines';
import { caught, sandboxError } from '../../support/expect';
import { V8 } from '../../support/v8';
import type { HostCalls, WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, supervisor } from './fixture';

const PAGE = 65536;
const OUT_OF_BOUNDS = -2;
/** Where a test's buffer in the supervisor's memory is. */
const BUF = 1024;

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "ask" (func $ask))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow, store and ask")
    (drop (memory.grow (i32.const 1)))
    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const ${PAGE})) (i32.const 1)) (i32.const 9))
    (call $ask)))`;

/** A guest that has this memory. */
function guestOf(given: WasmSupervisor, memory: number, ask = '$nothing'): number {
  return given.guest(wat(GUEST), { memories: { 'env.memory': memory }, functions: { 'env.ask': ask } });
}

/** A supervisor with a memory of a page that may have four. */
function build(backend: SandboxBackend) {
  const given = supervisor(backend);
  const memory = given.ext.memory_new(1, 4);
  given.memory.fill(0xaa, BUF, BUF + 64);
  return { given, ext: given.ext, memory };
}

/** The bytes at `BUF`, of which nobody has written any. */
function untouched(given: WasmSupervisor): void {
  assert.deepEqual(given.bytes(BUF, 64), new Uint8Array(64).fill(0xaa));
}

describe('memory_new', () => {
  forEachBackend((backend) => {
    it('makes memories of the given sizes and counts their indices from 0', () => {
      const { ext } = supervisor(backend);
      assert.deepEqual([ext.memory_new(0, 0), ext.memory_new(1, 1), ext.memory_new(3, 10)], [0, 1, 2]);
      assert.deepEqual([0, 1, 2].map(ext.memory_size), [0, 1, 3]);
    });

    it('takes -1 as no maximum', () => {
      const { ext } = supervisor(backend);
      const memory = ext.memory_new(1, -1);
      assert.equal(ext.memory_grow(memory, 100), 1);
      assert.equal(ext.memory_size(memory), 101);
    });

    it('throws a SandboxError for sizes that no memory can have, and the supervisor stays usable', () => {
      const given = supervisor(backend);
      for (const [initial, maximum] of [
        [5, 3],
        [65537, -1],
        [-1, -1],
        [-(2 ** 31), -1],
        [1, 65537],
        [1, -2],
        [1, -(2 ** 31)],
      ]) {
        caught(SandboxError, () => given.ext.memory_new(initial, maximum));
      }
      assert.equal(given.ext.memory_new(1, 3), 0);
      assertWorks(given);
    });

    it('keeps all earlier memories alive, however many there are', () => {
      const given = supervisor(backend);
      const instance = guestOf(given, given.ext.memory_new(1, 2));
      given.write(0, 0, 100);
      for (let index = 1; index < 120; index++) {
        assert.equal(given.ext.memory_new(1, 2), index);
        given.write(index, 0, index);
      }
      for (let index = 1; index < 120; index++) {
        assert.deepEqual(given.read(index, 0, 2), Uint8Array.of(index, 0));
      }
      assert.deepEqual(given.call(instance, 'load', [Value.I32(0)]), Value.I32(100));
    });
  });
});

describe('memory_get and memory_set', () => {
  forEachBackend((backend) => {
    it('copy bytes out of and into a memory', () => {
      const { given, ext, memory } = build(backend);
      given.memory.set([1, 2, 3, 4], BUF);
      assert.equal(ext.memory_set(memory, 100, BUF, 4), 0);
      assert.equal(ext.memory_get(memory, 99, BUF + 8, 6), 0);
      assert.deepEqual(given.bytes(BUF + 7, 8), Uint8Array.of(0xaa, 0, 1, 2, 3, 4, 0, 0xaa));
    });

    it('meet the guest in its memory', () => {
      const { given, memory } = build(backend);
      const instance = guestOf(given, memory);
      for (let n = 1; n < 40; n++) {
        given.write(memory, n, n);
        assert.deepEqual(given.call(instance, 'load', [Value.I32(n)]), Value.I32(n));
        given.call(instance, 'store', [Value.I32(n), Value.I32(2 * n)]);
        assert.deepEqual(given.read(memory, n, 1), Uint8Array.of(2 * n));
      }
    });

    it('copy up to the end of both memories', () => {
      const { given, ext, memory } = build(backend);
      given.memory.set([5, 6, 7], PAGE - 3);
      assert.equal(ext.memory_set(memory, PAGE - 3, PAGE - 3, 3), 0);
      given.memory.fill(0, PAGE - 3);
      assert.equal(ext.memory_get(memory, PAGE - 3, PAGE - 3, 3), 0);
      assert.deepEqual(given.bytes(PAGE - 3, 3), Uint8Array.of(5, 6, 7));
    });

    it('copy whole memories', () => {
      const { given, ext, memory } = build(backend);
      const bytes = Uint8Array.from({ length: PAGE }, (_byte, index) => index * 7);
      given.memory.set(bytes);
      assert.equal(ext.memory_set(memory, 0, 0, PAGE), 0);
      given.memory.fill(0);
      assert.equal(ext.memory_get(memory, 0, 0, PAGE), 0);
      assert.deepEqual(given.memory, bytes);
    });

    it('copy as many bytes as they are told, be they few or many, the first time and the hundredth', () => {
      const { given, ext, memory } = build(backend);
      for (let round = 0; round < 100; round++) {
        for (const size of [1, 255, 256, 257, 1000]) {
          const bytes = new Uint8Array(size).fill(round + 1);
          given.memory.fill(0xaa, BUF, BUF + 2048);
          given.memory.set(bytes, BUF);
          assert.equal(ext.memory_set(memory, round, BUF, size), 0);
          given.memory.fill(0xaa, BUF, BUF + 2048);
          assert.equal(ext.memory_get(memory, round, BUF + 1, size), 0);
          assert.deepEqual(given.bytes(BUF, size + 2), Uint8Array.of(0xaa, ...bytes, 0xaa));
        }
      }
    });

    const outside: [what: string, address: number, size: number][] = [
      ['one byte beyond the end', PAGE - 3, 4],
      ['at the end', PAGE, 1],
      ['beyond the end', PAGE + 1, 1],
      ['at an address that is negative as an i32', -1, 1],
      ['with an end beyond 2^32', -2, 4],
      ['at 2^31', -(2 ** 31), 1],
      ['with a length that is negative as an i32', 0, -1],
      ['with a length of 2^31', 0, -(2 ** 31)],
      ['with the largest address and length', -1, -1],
      ['with no bytes, beyond the end', PAGE + 1, 0],
      ['with no bytes, at the largest address', -1, 0],
    ];
    for (const [what, address, size] of outside) {
      it(`return -2 for bytes of the guest ${what}, and copy nothing`, () => {
        const { given, ext, memory } = build(backend);
        // As often as it takes until the host has another way for few bytes.
        for (let i = 0; i < 20; i++) {
          assert.equal(ext.memory_get(memory, address, BUF, size), OUT_OF_BOUNDS);
          assert.equal(ext.memory_set(memory, address, BUF, size), OUT_OF_BOUNDS);
        }
        untouched(given);
        assert.deepEqual(given.host.components.memory(memory).read(0, PAGE), new Uint8Array(PAGE));
        assertWorks(given);
      });

      it(`return -2 for bytes of the supervisor ${what}, and copy nothing`, () => {
        const { given, ext, memory } = build(backend);
        const before = given.bytes(0, PAGE);
        for (let i = 0; i < 20; i++) {
          assert.equal(ext.memory_get(memory, 0, address, size), OUT_OF_BOUNDS);
          assert.equal(ext.memory_set(memory, 0, address, size), OUT_OF_BOUNDS);
        }
        assert.deepEqual(given.memory, before);
        assert.deepEqual(given.host.components.memory(memory).read(0, PAGE), new Uint8Array(PAGE));
        assertWorks(given);
      });
    }

    it('copy no bytes anywhere up to the end', () => {
      const { given, ext, memory } = build(backend);
      for (const address of [0, 1, PAGE - 1, PAGE]) {
        for (let i = 0; i < 20; i++) {
          assert.equal(ext.memory_get(memory, address, BUF, 0), 0);
          assert.equal(ext.memory_get(memory, 0, address, 0), 0);
          assert.equal(ext.memory_set(memory, address, BUF, 0), 0);
          assert.equal(ext.memory_set(memory, 0, address, 0), 0);
        }
      }
      untouched(given);
      const none = ext.memory_new(0, 1);
      assert.equal(ext.memory_get(none, 0, BUF, 0), 0);
      assert.equal(ext.memory_get(none, 1, BUF, 0), OUT_OF_BOUNDS);
      assert.equal(ext.memory_get(none, 0, BUF, 1), OUT_OF_BOUNDS);
      assert.equal(ext.memory_set(none, 0, BUF, 1), OUT_OF_BOUNDS);
    });

    it('look at the index first in memory_get, and at the supervisor’s bytes first in memory_set', () => {
      const { given, ext } = build(backend);
      sandboxError('Trying to access a non-existent sandboxed memory', () => ext.memory_get(7, 0, -1, 1));
      assert.equal(ext.memory_set(7, 0, -1, 1), OUT_OF_BOUNDS);
      sandboxError('Trying to access a non-existent sandboxed memory', () => ext.memory_set(7, -1, BUF, 1));
      untouched(given);
    });

    it('see what the guest’s memory grew by, whoever grew it', () => {
      const { given, ext, memory } = build(backend);
      const instance = guestOf(given, memory);
      const growers = [
        () => ext.memory_grow(memory, 1),
        () => (given.call(instance, 'grow', [Value.I32(1)]) as { value: number }).value,
        () => given.host.components.memory(memory).memoryGrow(1),
      ];
      for (const [index, grow] of growers.entries()) {
        const pages = index + 1;
        for (let i = 0; i < 20; i++)
          assert.equal(ext.memory_set(memory, pages * PAGE, BUF, 1), OUT_OF_BOUNDS);
        assert.equal(grow(), pages);
        given.write(memory, pages * PAGE, pages);
        given.write(memory, (pages + 1) * PAGE - 1, 2 * pages);
        assert.deepEqual(given.read(memory, pages * PAGE, 1), Uint8Array.of(pages));
        assert.deepEqual(
          given.call(instance, 'load', [Value.I32((pages + 1) * PAGE - 1)]),
          Value.I32(2 * pages),
        );
        assert.equal(ext.memory_size(memory), pages + 1);
      }
    });

    it('see what the running guest has grown its memory by', () => {
      const { given, ext, memory } = build(backend);
      for (let i = 0; i < 20; i++) given.read(memory, 0, 1);
      const seen: unknown[] = [];
      given.answer = () => {
        const pages = ext.memory_size(memory);
        seen.push(pages, given.read(memory, pages * PAGE - 1, 1)[0]);
        return given.ok();
      };
      const instance = given.guest(wat(GUEST), {
        thunk: '$thunk_js',
        memories: { 'env.memory': memory },
        functions: { 'env.ask': 0 },
      });
      given.call(instance, 'grow, store and ask');
      given.call(instance, 'grow, store and ask');
      assert.deepEqual(seen, [2, 9, 3, 9]);
    });

    it('meet the guest also in a memory that it takes into its store with another one', () => {
      const { given, ext } = build(backend);
      const [a, b] = [ext.memory_new(1, 4), ext.memory_new(1, 4)];
      for (let i = 1; i <= 20; i++) {
        given.write(a, i, i);
        given.write(b, i, 2 * i);
      }
      const instance = given.guest(
        wat(`(module (import "env" "a" (memory 1)) (import "env" "b" (memory 1))
          (func (export "copy") (param i32 i32) (memory.copy 1 0 (local.get 1) (local.get 0) (i32.const 1)))
          (func (export "load") (param i32) (result i32) (i32.load8_u 1 (local.get 0))))`),
        { memories: { 'env.a': a, 'env.b': b } },
      );
      for (let i = 1; i <= 20; i++) {
        given.call(instance, 'copy', [Value.I32(i), Value.I32(100 + i)]);
        assert.deepEqual(given.read(b, 100 + i, 1), Uint8Array.of(i));
        given.write(b, i, 3 * i);
        assert.deepEqual(given.call(instance, 'load', [Value.I32(i)]), Value.I32(3 * i));
        assert.deepEqual(given.read(a, i, 1), Uint8Array.of(i));
      }
    });
  });
});

describe('memory_grow and memory_size', () => {
  forEachBackend((backend) => {
    it('give the pages before and now', () => {
      const { ext, memory } = build(backend);
      assert.equal(ext.memory_grow(memory, 0), 1);
      assert.equal(ext.memory_grow(memory, 2), 1);
      assert.equal(ext.memory_grow(memory, 1), 3);
      assert.equal(ext.memory_size(memory), 4);
    });

    it('throw a LimitError for more than the maximum, and leave the memory as it was', () => {
      const { given, ext, memory } = build(backend);
      given.write(memory, PAGE - 1, 3);
      for (const pages of [4, 65536, -1, -(2 ** 31)]) {
        assert.match(caught(LimitError, () => ext.memory_grow(memory, pages)).message, /^Cannot grow memory/);
      }
      assert.equal(ext.memory_size(memory), 1);
      assert.deepEqual(given.read(memory, PAGE - 1, 1), Uint8Array.of(3));
      assert.equal(ext.memory_grow(memory, 3), 1);
      assertWorks(given);
    });
  });
});

describe('get_buff', () => {
  forEachBackend((backend) => {
    it('gives an address that stays while the memory does not grow, and differs between memories', () => {
      const { given, ext, memory } = build(backend);
      const address = ext.get_buff(memory);
      assert.ok(address > 0n);
      given.write(memory, 0, 1);
      guestOf(given, memory);
      assert.equal(ext.get_buff(memory), address);
      assert.notEqual(ext.get_buff(ext.memory_new(1, 4)), address);
    });
  });
});

describe('memory_teardown', () => {
  forEachBackend((backend) => {
    it('forgets a memory, whose index is not used again', () => {
      const { given, ext, memory } = build(backend);
      ext.memory_teardown(memory);
      assert.equal(ext.memory_new(2, 2), memory + 1);
      assert.equal(ext.memory_size(memory + 1), 2);
      assertWorks(given);
    });

    it('leaves the memory to the guests that have it', () => {
      const { given, ext, memory } = build(backend);
      given.write(memory, 5, 50);
      const instance = guestOf(given, memory);
      ext.memory_teardown(memory);
      for (let i = 0; i < 20; i++) ext.memory_teardown(ext.memory_new(1, 1));
      assert.deepEqual(given.call(instance, 'load', [Value.I32(5)]), Value.I32(50));
      assert.deepEqual(given.call(instance, 'grow', [Value.I32(1)]), Value.I32(1));
    });
  });
});

describe('The index of a memory', () => {
  const calls: Record<string, (ext: HostCalls, memory: number) => unknown> = {
    memory_get: (ext, memory) => ext.memory_get(memory, 0, BUF, 1),
    memory_set: (ext, memory) => ext.memory_set(memory, 0, BUF, 1),
    memory_grow: (ext, memory) => ext.memory_grow(memory, 0),
    memory_size: (ext, memory) => ext.memory_size(memory),
    get_buff: (ext, memory) => ext.get_buff(memory),
  };

  forEachBackend((backend) => {
    for (const [name, call] of Object.entries(calls)) {
      it(`that names none, or one torn down, makes ${name} throw a SandboxError`, () => {
        const { given, ext, memory } = build(backend);
        for (const index of [1, 2 ** 31 - 1, -1, -(2 ** 31)]) {
          sandboxError('Trying to access a non-existent sandboxed memory', () => call(ext, index));
        }
        ext.memory_teardown(memory);
        sandboxError('Trying to access a torndown sandboxed memory', () => call(ext, memory));
        untouched(given);
        assertWorks(given);
      });
    }

    it('that names none, or one torn down, makes memory_teardown throw a SandboxError', () => {
      const { given, ext, memory } = build(backend);
      for (const index of [1, -1]) {
        sandboxError('Trying to teardown a non-existent sandboxed memory', () => ext.memory_teardown(index));
      }
      ext.memory_teardown(memory);
      sandboxError('Double teardown of a sandboxed memory', () => ext.memory_teardown(memory));
      assertWorks(given);
    });
  });
});

describe('The supervisor’s memory', () => {
  forEachBackend((backend) => {
    it('may have grown since the last call', () => {
      const { given, ext, memory } = build(backend);
      given.write(memory, 0, 1, 2, 3);
      for (let pages = 1; pages < 6; pages++) {
        assert.equal(ext.memory_get(memory, 0, pages * PAGE, 3), OUT_OF_BOUNDS);
        assert.equal(ext.memory_get(memory, 0, pages * PAGE - 3, 3), 0);
        assert.equal(given.exports.grow(1), pages);
        assert.equal(ext.memory_get(memory, 0, 0, 0), 0);
        assert.equal(ext.memory_get(memory, 0, pages * PAGE - 1, 3), 0);
        assert.deepEqual(given.bytes(pages * PAGE - 3, 5), Uint8Array.of(1, 2, 1, 2, 3));
        assert.equal(ext.memory_get(memory, 0, (pages + 1) * PAGE - 2, 3), OUT_OF_BOUNDS);
      }
    });

    it('may have no page, until it grows', () => {
      const none = new V8.Memory({ initial: 0 });
      const { ext } = supervisor(backend, { options: { memory: () => none } });
      const memory = ext.memory_new(1, 1);
      assert.equal(ext.memory_get(memory, 0, 0, 0), 0);
      assert.equal(ext.memory_get(memory, 0, 0, 1), OUT_OF_BOUNDS);
      assert.equal(ext.memory_set(memory, 0, 0, 1), OUT_OF_BOUNDS);
      none.grow(1);
      new Uint8Array(none.buffer)[PAGE - 1] = 5;
      assert.equal(ext.memory_set(memory, 0, PAGE - 1, 1), 0);
      assert.equal(ext.memory_get(memory, 0, 7, 1), 0);
      assert.equal(new Uint8Array(none.buffer)[7], 5);
    });

    it('may be shared, and grow', () => {
      const given = supervisor(backend, { memory: '1 4 shared' });
      assert.ok(given.exports.memory.buffer instanceof SharedArrayBuffer);
      const memory = given.ext.memory_new(1, 1);
      const instance = guestOf(given, memory);
      given.write(memory, 0, 1, 2, 3);
      for (let pages = 1; pages < 4; pages++) {
        for (let i = 0; i < 20; i++)
          assert.equal(given.ext.memory_get(memory, 0, pages * PAGE, 3), OUT_OF_BOUNDS);
        assert.equal(given.exports.grow(1), pages);
        assert.equal(given.ext.memory_get(memory, 0, pages * PAGE - 1, 3), 0);
        assert.deepEqual(given.bytes(pages * PAGE - 1, 3), Uint8Array.of(1, 2, 3));
        assert.equal(given.ext.memory_set(memory, 100 + pages, pages * PAGE, 1), 0);
        assert.deepEqual(given.call(instance, 'load', [Value.I32(100 + pages)]), Value.I32(2));
        assert.equal(given.ext.memory_get(memory, 0, (pages + 1) * PAGE - 2, 3), OUT_OF_BOUNDS);
      }
      const large = new Uint8Array(1000).fill(7);
      given.memory.set(large, 3 * PAGE);
      assert.equal(given.ext.memory_set(memory, 500, 3 * PAGE, 1000), 0);
      given.memory.fill(0, 3 * PAGE);
      assert.equal(given.ext.memory_get(memory, 500, 3 * PAGE, 1000), 0);
      assert.deepEqual(given.bytes(3 * PAGE, 1000), large);
      assertWorks(given);
    });
  });
});
