// get_global_val and set_global_val. Contract: section 6.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CodecError, codec, type SandboxBackend, SandboxError, Value } from '../../../index';
import { forEachBackend } from '../../support/engines';
import { caught, causedBy, sandboxError } from '../../support/expect';
import { pack, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, supervisor } from './fixture';

const NOT_FOUND = -1;
const OTHER = -2;

const GUEST = `(module
  (import "env" "ask" (func $ask))
  (global $i32 (export "i32") (mut i32) (i32.const -7))
  (global (export "i64") (mut i64) (i64.const 0x0123456789abcdef))
  (global (export "f32") (mut f32) (f32.const nan:0x200001))
  (global (export "f64") (mut f64) (f64.const nan:0x4000000000001))
  (global (export "constant") i32 (i32.const 5))
  (global (export "reference") (mut externref) (ref.null extern))
  (func (export "function"))
  (func (export "add") (param i32) (result i32)
    (global.set $i32 (i32.add (global.get $i32) (local.get 0)))
    (call $ask)
    (global.get $i32)))`;

function build(backend: SandboxBackend): { given: WasmSupervisor; index: number } {
  const given = supervisor(backend);
  return { given, index: given.guest(wat(GUEST), { thunk: '$thunk_js', functions: { 'env.ask': 0 } }) };
}

describe('get_global_val', () => {
  forEachBackend((backend) => {
    const values: [name: string, hex: string][] = [
      ['i32', '0100f9ffffff'],
      ['i64', '0101efcdab8967452301'],
      ['f32', '01020100a07f'],
      ['f64', '0103010000000000f47f'],
      ['constant', '010005000000'],
    ];
    for (const [name, hex] of values) {
      it(`gives Some(…) of ${name} in memory of the supervisor’s, which frees it`, () => {
        const { given, index } = build(backend);
        const packed = given.with([Buffer.from(name)], (packedName) =>
          given.ext.get_global_val(index, packedName),
        );
        const [ptr, size] = [Number(packed & 0xffff_ffffn), Number(packed >> 32n)];
        assert.equal(Buffer.from(given.bytes(ptr, size)).toString('hex'), hex);
        assert.equal(given.live, 1);
        given.exports.deallocate(ptr);
        assert.equal(given.live, 0);
      });
    }

    it('gives None for a global that there is not, which the supervisor frees as well', () => {
      const { given, index } = build(backend);
      for (const name of ['none', '', 'function', 'toString', 'reference']) {
        const before = given.exports.allocations();
        assert.equal(given.getGlobal(index, name), undefined, name);
        assert.equal(given.exports.allocations(), before + 2, 'the name and the answer');
      }
      assert.equal(given.live, 0);
    });

    it('throws a SandboxError if the allocator throws, with that as its cause', () => {
      const { given, index } = build(backend);
      const own = given.allocator;
      for (const thrown of [new Error('no room'), 'text', undefined]) {
        given.allocator = {
          ...own,
          allocate: () => {
            throw thrown;
          },
        };
        const error = caught(SandboxError, () => given.getGlobal(index, 'i32'));
        causedBy(error, thrown);
        assert.match(error.message, /^get_global_val can't allocate memory in supervisor/);
      }
      given.allocator = own;
      assert.deepEqual(given.getGlobal(index, 'i32'), Value.I32(-7));
      assert.equal(given.live, 0);
      assertWorks(given);
    });

    it('throws a SandboxError if the allocator gives no address, or one beyond the end', () => {
      const { given, index } = build(backend);
      const own = given.allocator;
      const end = given.memory.length;
      const freed: number[] = [];
      for (const ptr of [
        0,
        -0,
        Number.NaN,
        1.5,
        2 ** 32,
        -(2 ** 31) - 1,
        '8',
        8n,
        undefined,
        null,
        {},
        end - 5,
        end,
        -1,
      ]) {
        given.allocator = {
          allocate: () => ptr as number,
          deallocate: (address) => void freed.push(address),
        };
        caught(SandboxError, () => given.getGlobal(index, 'i32'));
      }
      given.allocator = own;
      assert.deepEqual(given.getGlobal(index, 'i32'), Value.I32(-7));
      assert.equal(given.live, 0);
      assertWorks(given);
    });

    it('asks the allocator for as many bytes as the answer has', () => {
      const { given, index } = build(backend);
      const sizes: number[] = [];
      given.allocator = {
        ...given.allocator,
        allocate: (size) => {
          sizes.push(size);
          return given.exports.allocate(size);
        },
      };
      for (const name of ['none', 'i32', 'f64']) given.getGlobal(index, name);
      assert.deepEqual(sizes, [1, 6, 10]);
    });
  });
});

describe('set_global_val', () => {
  forEachBackend((backend) => {
    const values = [
      Value.I32(2 ** 31 - 1),
      Value.I64(-(2n ** 63n)),
      Value.F32(0xffa00001),
      Value.F64(0xfff0000000000123n),
    ];
    for (const value of values) {
      it(`returns 0 and sets a global of type ${value.type}`, () => {
        const { given, index } = build(backend);
        assert.equal(given.setGlobal(index, value.type, value), 0);
        assert.deepEqual(given.getGlobal(index, value.type), value);
        assert.deepEqual(given.host.components.instance(index).getGlobalVal(value.type), value);
        assert.equal(given.live, 0);
      });
    }

    it('returns -1 for a global that there is not, whatever the value', () => {
      const { given, index } = build(backend);
      for (const name of ['none', '', 'function', 'toString']) {
        assert.equal(given.setGlobal(index, name, Value.I32(1)), NOT_FOUND, name);
        assert.equal(given.setGlobal(index, name, Value.f64(1)), NOT_FOUND, name);
      }
    });

    it('returns -2 for an immutable global, and the last error says why', () => {
      const { given, index } = build(backend);
      assert.equal(given.setGlobal(index, 'constant', Value.I32(1)), OTHER);
      assert.ok(given.host.lastError instanceof SandboxError);
      assert.equal(given.setGlobal(index, 'constant', Value.I64(1n)), OTHER);
      assert.deepEqual(given.getGlobal(index, 'constant'), Value.I32(5));
    });

    it('returns -2 for a value of another type, and the last error says why', () => {
      const { given, index } = build(backend);
      for (const value of [Value.I64(1n), Value.f32(1), Value.f64(1)]) {
        assert.equal(given.setGlobal(index, 'i32', value), OTHER);
        assert.match(given.host.lastError?.message ?? '', /i32/);
      }
      assert.equal(given.setGlobal(index, 'reference', Value.I32(1)), OTHER);
      assert.deepEqual(given.getGlobal(index, 'i32'), Value.I32(-7));
      assertWorks(given);
    });

    it('throws a CodecError for a value that is no SCALE, before it looks at the instance', () => {
      const { given, index } = build(backend);
      for (const bytes of [[], [0], [0, 1, 2, 3], [1, 1, 2, 3, 4], [4, 0, 0, 0, 0], [255]]) {
        given.with([Buffer.from('i32'), Uint8Array.from(bytes)], (name, value) => {
          caught(CodecError, () => given.ext.set_global_val(index, name, value));
          caught(CodecError, () => given.ext.set_global_val(99, name, value));
        });
      }
      assert.deepEqual(given.getGlobal(index, 'i32'), Value.I32(-7));
      assert.equal(given.live, 0);
      assertWorks(given);
    });

    it('takes a value that is followed by bytes that mean nothing', () => {
      const { given, index } = build(backend);
      given.with([Buffer.from('i32'), Uint8Array.of(0, 8, 0, 0, 0, 9, 9)], (name, value) => {
        assert.equal(given.ext.set_global_val(index, name, value), 0);
      });
      assert.deepEqual(given.getGlobal(index, 'i32'), Value.I32(8));
    });

    it('throws a SandboxError for a value beyond the end of the memory', () => {
      const { given, index } = build(backend);
      given.with([Buffer.from('i32')], (name) => {
        for (const [ptr, size] of [
          [given.memory.length - 4, 5],
          [2 ** 31, 5],
          [2 ** 32 - 1, 2 ** 32 - 1],
        ]) {
          const error = caught(SandboxError, () => given.ext.set_global_val(index, name, pack(ptr, size)));
          assert.match(error.message, /^value /);
        }
      });
      assertWorks(given);
    });
  });
});

describe('get_global_val and set_global_val', () => {
  forEachBackend((backend) => {
    const calls: Record<string, (given: WasmSupervisor, index: number, name: bigint) => unknown> = {
      get_global_val: (given, index, name) => given.ext.get_global_val(index, name),
      set_global_val: (given, index, name) =>
        given.with([codec.encodeReturnValue(Value.I32(1)).subarray(1)], (value) =>
          given.ext.set_global_val(index, name, value),
        ),
    };
    for (const [what, call] of Object.entries(calls)) {
      it(`throw a SandboxError for an instance that there is not: ${what}`, () => {
        const { given, index } = build(backend);
        given.with([Buffer.from('i32')], (name) => {
          for (const wrong of [index + 1, -1]) {
            sandboxError('Trying to access a non-existent instance', () => call(given, wrong, name));
          }
          given.ext.instance_teardown(index);
          sandboxError('Trying to access a torndown instance', () => call(given, index, name));
        });
        assert.equal(given.live, 0);
        assertWorks(given);
      });

      it(`throw a SandboxError for a name that is not UTF-8, or beyond the end: ${what}`, () => {
        const { given, index } = build(backend);
        given.with([Uint8Array.of(0xff)], (name) => {
          assert.match(caught(SandboxError, () => call(given, index, name)).message, /UTF-8/);
        });
        for (const [ptr, size] of [
          [given.memory.length - 1, 2],
          [2 ** 32 - 1, 1],
        ]) {
          assert.match(caught(SandboxError, () => call(given, index, pack(ptr, size))).message, /^name /);
        }
        assert.equal(given.live, 0);
        assertWorks(given);
      });
    }

    it('work inside a thunk of the running guest', () => {
      const { given, index } = build(backend);
      const seen: unknown[] = [];
      given.answer = () => {
        seen.push(given.getGlobal(index, 'i32'));
        assert.equal(given.setGlobal(index, 'i32', Value.I32(40)), 0);
        assert.equal(given.setGlobal(index, 'i64', Value.I64(1n)), 0);
        seen.push(given.getGlobal(index, 'i32'));
        assert.equal(given.setGlobal(index, 'constant', Value.I32(1)), OTHER);
        return given.ok();
      };
      assert.deepEqual(given.call(index, 'add', [Value.I32(10)]), Value.I32(40));
      assert.deepEqual(seen, [Value.I32(3), Value.I32(40)]);
      assert.deepEqual(given.getGlobal(index, 'i64'), Value.I64(1n));
      assert.equal(given.live, 0);
    });

    it('throw what is wrong inside a thunk, which may catch it', () => {
      const { given, index } = build(backend);
      given.answer = () => {
        sandboxError('Trying to access a non-existent instance', () => given.getGlobal(9, 'i32'));
        caught(CodecError, () =>
          given.with([Uint8Array.of(9)], (bad) => given.ext.set_global_val(index, 0n, bad)),
        );
        return given.ok();
      };
      assert.deepEqual(given.call(index, 'add', [Value.I32(1)]), Value.I32(-6));
      assert.equal(given.live, 0);
    });
  });
});
