// invoke: what it returns and writes, what it makes of names and arguments, and why it failed.
// Contract: section 6; for the order of checks `detail.rs` of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  CodecError,
  codec,
  NoExportError,
  type SandboxBackend,
  SandboxError,
  type TrapKind,
  Value,
} from '../../../index';
import { forEachBackend } from '../../support/engines';
import { caught, causedBy, sandboxError } from '../../support/expect';
import { pack, type WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { assertWorks, lastTrap, supervisor } from './fixture';

const EXECUTION = -3;
/** Where a test's return buffer is. */
const RET = 1024;

const GUEST = `(module
  (import "env" "nothing" (func $nothing))
  (import "env" "get" (func $get (result i32)))
  (memory (export "memory") 1)
  (table (export "table") 1 funcref)
  (global (export "global") (mut i32) (i32.const 1))
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "all") (param i32 i64 f32 f64) (result i64)
    (i64.add (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1))
             (i64.add (i64.trunc_f32_s (local.get 2)) (i64.trunc_f64_s (local.get 3)))))
  (func (export "unit"))
  (func (export "pair") (result i32 i32) (i32.const 1) (i32.const 2))
  (func (export "reference") (param externref))
  (func (export "call") (call $nothing))
  (func (export "get") (result i32) (call $get))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "load") (drop (i32.load (i32.const -1))))
  (func $endless (export "endless") (call $endless))
  (func (export "unreachable") unreachable))`;

interface Built {
  readonly given: WasmSupervisor;
  readonly index: number;
}

function build(backend: SandboxBackend): Built {
  const given = supervisor(backend);
  const index = given.guest(wat(GUEST), { functions: { 'env.nothing': '$nothing', 'env.get': '$state' } });
  given.memory.fill(0xaa, RET - 8, RET + 32);
  return { given, index };
}

interface RawInvoke {
  name?: bigint;
  args?: bigint;
  retPtr?: number;
  retLen?: number;
}

/** Calls `invoke` with everything as it comes; by default `i32` with the argument 1. */
function invoke({ given, index }: Built, raw: RawInvoke): number {
  return given.with([Buffer.from('i32'), codec.encodeValues([Value.I32(1)])], (name, args) =>
    given.ext.invoke(index, raw.name ?? name, raw.args ?? args, raw.retPtr ?? RET, raw.retLen ?? 10, 0),
  );
}

describe('invoke', () => {
  forEachBackend((backend) => {
    const values: [hex: string, value: Value][] = [
      ['010007000000', Value.I32(7)],
      ['0100ffffffff', Value.I32(-1)],
      ['010000000080', Value.I32(-(2 ** 31))],
      ['0101efcdab8967452301', Value.I64(0x0123456789abcdefn)],
      ['0101ffffffffffffffff', Value.I64(-1n)],
      ['01020000c03f', Value.f32(1.5)],
      ['010200000080', Value.F32(0x80000000)],
      ['01020100807f', Value.F32(0x7f800001)],
      ['0102adbeefff', Value.F32(0xffefbead)],
      ['0103000000000000f83f', Value.f64(1.5)],
      ['0103010000000000f07f', Value.F64(0x7ff0000000000001n)],
      ['0103efbeadde0000f4ff', Value.F64(0xfff40000deadbeefn)],
    ];
    for (const [hex, value] of values) {
      it(`returns 0 and writes ${hex} for ${value.type} ${'bits' in value ? value.bits.toString(16) : value.value}`, () => {
        const built = build(backend);
        const { given } = built;
        const status = given.with([Buffer.from(value.type), codec.encodeValues([value])], (name, args) =>
          invoke(built, { name, args }),
        );
        assert.equal(status, 0);
        const size = hex.length / 2;
        assert.equal(Buffer.from(given.bytes(RET, size)).toString('hex'), hex);
        assert.deepEqual(given.bytes(RET - 8, 8), new Uint8Array(8).fill(0xaa));
        assert.deepEqual(given.bytes(RET + size, 16), new Uint8Array(16).fill(0xaa));
        assert.equal(given.live, 0);
      });
    }

    it('passes arguments of every type', () => {
      const { given, index } = build(backend);
      const args = [Value.I32(-1), Value.I64(2n ** 40n), Value.f32(3), Value.f64(-4)];
      assert.deepEqual(given.call(index, 'all', args), Value.I64(2n ** 40n - 2n));
    });

    it('leaves the return buffer as it was for a Unit, wherever that is', () => {
      const built = build(backend);
      for (const [retPtr, retLen] of [
        [RET, 10],
        [RET, 0],
        [-1, -1],
        [0, 0],
      ]) {
        const { given } = built;
        const before = given.bytes(0, 64);
        const status = given.with([Buffer.from('unit'), Uint8Array.of(0)], (name, args) =>
          invoke(built, { name, args, retPtr, retLen }),
        );
        assert.equal(status, 0);
        assert.deepEqual(given.bytes(RET, 16), new Uint8Array(16).fill(0xaa));
        assert.deepEqual(given.bytes(0, 64), before);
      }
    });

    it('needs no more room than the value takes', () => {
      const built = build(backend);
      const end = built.given.memory.length;
      assert.equal(invoke(built, { retLen: 6 }), 0);
      assert.equal(invoke(built, { retLen: -1 }), 0);
      assert.equal(invoke(built, { retPtr: end - 6, retLen: 10 }), 0);
      assert.deepEqual(built.given.bytes(end - 6, 6), Uint8Array.of(1, 0, 1, 0, 0, 0));
    });

    it('may have the return buffer where the arguments are', () => {
      const { given, index } = build(backend);
      const result = given.with([Buffer.from('i64'), codec.encodeValues([Value.I64(-5n)])], (name, args) => {
        const ptr = Number(args & 0xffff_ffffn);
        assert.equal(given.ext.invoke(index, name, args, ptr, 10, 0), 0);
        return given.bytes(ptr, 10);
      });
      assert.deepEqual(codec.decodeReturnValue(result), Value.I64(-5n));
    });

    it('throws a SandboxError for a return buffer that is too small, after the guest has run', () => {
      const built = build(backend);
      for (const retLen of [5, 1, 0]) {
        const error = caught(SandboxError, () => invoke(built, { retLen }));
        assert.match(error.message, /^Return value buffer is too small/);
      }
      assert.deepEqual(built.given.bytes(RET, 16), new Uint8Array(16).fill(0xaa));
      assert.equal(built.given.host.lastError, undefined);
      assertWorks(built.given);
    });

    it('throws a SandboxError for a return buffer beyond the end of the memory', () => {
      const built = build(backend);
      const end = built.given.memory.length;
      for (const retPtr of [end - 5, end, -1, -(2 ** 31)]) {
        assert.match(caught(SandboxError, () => invoke(built, { retPtr })).message, /^ret_ptr /);
      }
      assert.equal(built.given.host.lastError, undefined);
      assertWorks(built.given);
    });
  });
});

describe('invoke returns -3', () => {
  forEachBackend((backend) => {
    const traps: [name: string, args: Value[], trap: TrapKind][] = [
      ['unreachable', [], 'unreachable'],
      ['divide', [Value.I32(1), Value.I32(0)], 'integer-divide-by-zero'],
      ['divide', [Value.I32(-(2 ** 31)), Value.I32(-1)], 'integer-overflow'],
      ['load', [], 'memory-out-of-bounds'],
      ['endless', [], 'stack-overflow'],
    ];
    for (const [name, args, trap] of traps) {
      it(`for the trap ${trap}, which is the last error`, () => {
        const { given, index } = build(backend);
        assert.deepEqual(given.invoke(index, name, args), { status: EXECUTION, ret: new Uint8Array(10) });
        assert.equal(lastTrap(given).trap, trap);
        assert.deepEqual(given.call(index, 'i32', [Value.I32(1)]), Value.I32(1));
        assertWorks(given);
      });
    }

    it('for an export that there is not', () => {
      const { given, index } = build(backend);
      for (const name of ['none', '', 'I32', 'i32\0', 'toString', '__proto__', 'constructor']) {
        assert.equal(given.invoke(index, name).status, EXECUTION, name);
        assert.ok(given.host.lastError instanceof NoExportError, name);
      }
      assertWorks(given);
    });

    it('for an export that is no function', () => {
      const { given, index } = build(backend);
      for (const name of ['memory', 'table', 'global']) {
        assert.equal(given.invoke(index, name).status, EXECUTION, name);
        assert.ok(given.host.lastError instanceof NoExportError, name);
      }
    });

    it('for a wrong number or a wrong type of arguments', () => {
      const { given, index } = build(backend);
      for (const args of [
        [],
        [Value.I32(1), Value.I32(2)],
        [Value.I64(1n)],
        [Value.f32(1)],
        [Value.f64(1)],
      ]) {
        assert.equal(given.invoke(index, 'i32', args).status, EXECUTION);
        assert.ok(given.host.lastError instanceof ArgumentError);
      }
      assert.deepEqual(given.call(index, 'i32', [Value.I32(3)]), Value.I32(3));
    });

    it('for a function with types that no Value has', () => {
      const { given, index } = build(backend);
      assert.equal(given.invoke(index, 'reference', [Value.I32(0)]).status, EXECUTION);
      assert.ok(given.host.lastError instanceof ArgumentError);
    });

    it('for a function with several results', () => {
      const { given, index } = build(backend);
      assert.deepEqual(given.invoke(index, 'pair'), { status: EXECUTION, ret: new Uint8Array(10) });
      assert.match(given.host.lastError?.message ?? '', /pair returned 2 values/);
    });

    it('for a supervisor call that failed, and the last error has the very thing that was thrown', () => {
      const given = supervisor(backend);
      const index = given.guest(wat(GUEST), {
        thunk: '$thunk_js',
        functions: { 'env.nothing': 0, 'env.get': 0 },
      });
      const things = [
        new Error('text'),
        new RangeError(),
        'text',
        42,
        undefined,
        null,
        Symbol('s'),
        { a: 1 },
      ];
      for (const thrown of things) {
        given.answer = () => {
          throw thrown;
        };
        assert.equal(given.invoke(index, 'call').status, EXECUTION);
        const trap = lastTrap(given);
        assert.equal(trap.trap, 'supervisor');
        causedBy(trap, thrown);
        assert.equal(given.live, 0);
      }
      given.answer = () => given.ok();
      assert.equal(given.call(index, 'call'), undefined);
      assertWorks(given);
    });
  });
});

describe('The arguments of invoke', () => {
  forEachBackend((backend) => {
    const wrong: [what: string, bytes: number[]][] = [
      ['no bytes', []],
      ['a truncated value', [4, 0, 1, 0, 0]],
      ['a missing value', [8, 0, 1, 0, 0, 0]],
      ['an unknown type', [4, 4, 1, 0, 0, 0]],
      ['a length in the wrong form', [1, 0]],
      ['an enormous length', [3, 0xff, 0xff, 0xff, 0xff]],
    ];
    for (const [what, bytes] of wrong) {
      it(`that are no SCALE, ${what}, make it throw a CodecError`, () => {
        const built = build(backend);
        built.given.with([Uint8Array.from(bytes)], (args) => {
          caught(CodecError, () => invoke(built, { args }));
        });
        assert.equal(built.given.host.lastError, undefined);
        assert.deepEqual(built.given.bytes(RET, 16), new Uint8Array(16).fill(0xaa));
        assertWorks(built.given);
      });
    }

    it('that are no bytes at all make it throw a CodecError, whatever stands there', () => {
      const built = build(backend);
      for (const byte of [0, 4]) {
        built.given.memory[2048] = byte;
        caught(CodecError, () => invoke(built, { args: pack(2048, 0) }));
      }
      assertWorks(built.given);
    });

    it('may be followed by bytes that mean nothing', () => {
      const built = build(backend);
      built.given.with([Buffer.from('unit'), Uint8Array.of(0, 99, 99)], (name, args) => {
        assert.equal(invoke(built, { name, args }), 0);
      });
      built.given.with([Uint8Array.of(4, 0, 8, 0, 0, 0, 99, 99)], (args) => {
        assert.equal(invoke(built, { args }), 0);
      });
      assert.deepEqual(built.given.bytes(RET, 6), Uint8Array.of(1, 0, 8, 0, 0, 0));
    });

    it('beyond the end of the memory make it throw a SandboxError', () => {
      const built = build(backend);
      const end = built.given.memory.length;
      for (const [ptr, size] of [
        [end - 5, 6],
        [end + 1, 0],
        [2 ** 31, 6],
        [2 ** 32 - 1, 6],
        [0, 2 ** 32 - 1],
      ]) {
        const error = caught(SandboxError, () => invoke(built, { args: pack(ptr, size) }));
        assert.match(error.message, /^args /);
      }
      assertWorks(built.given);
    });

    it('are looked at before the index of the instance', () => {
      const { given } = build(backend);
      given.with([Uint8Array.of(9)], (bad) => {
        caught(CodecError, () => given.ext.invoke(99, 0n, bad, 0, 0, 0));
      });
    });
  });
});

describe('The name in invoke', () => {
  forEachBackend((backend) => {
    const names = [
      '',
      ' ',
      'é',
      'ключ',
      '関数',
      '🦀',
      '\ufeff',
      '\ufeffbom',
      'bom',
      '\0',
      'x'.repeat(63),
      'x'.repeat(64),
      'x'.repeat(65),
      'é'.repeat(32),
      'é'.repeat(33),
      'y'.repeat(1000),
      // Alike for a hash that multiplies by 31.
      'AaAa',
      'AaBB',
      'BBAa',
      'BBBB',
    ];
    /** A function for each name, which returns its number. */
    const namesGuest = (all: readonly string[]): Uint8Array =>
      wat(
        `(module ${all
          .map((name, n) => `(func (export "${escaped(name)}") (result i32) (i32.const ${n}))`)
          .join('\n')})`,
      );
    const escaped = (name: string): string =>
      [...Buffer.from(name)].map((byte) => `\\${byte.toString(16).padStart(2, '0')}`).join('');

    it('may be any string, and none is taken for another', () => {
      const given = supervisor(backend);
      const index = given.guest(namesGuest(names));
      for (let round = 0; round < 3; round++) {
        for (const [n, name] of names.entries()) assert.deepEqual(given.call(index, name), Value.I32(n));
        for (const [n, name] of [...names.entries()].reverse()) {
          assert.deepEqual(given.call(index, name), Value.I32(n));
        }
      }
    });

    it('may be one of very many that alternate', () => {
      const given = supervisor(backend);
      const many = Array.from({ length: 500 }, (_item, n) => `${'name'.repeat(n % 7)} ${n}`);
      const index = given.guest(namesGuest(many));
      for (let round = 0; round < 2; round++) {
        for (const [n, name] of many.entries()) {
          assert.deepEqual(given.call(index, name), Value.I32(n), name);
          assert.deepEqual(given.call(index, many[0]), Value.I32(0));
        }
      }
    });

    it('may change in place', () => {
      const given = supervisor(backend);
      const index = given.guest(namesGuest(['ab', 'ba', 'aab', 'aba']));
      const args = pack(given.allocate(Uint8Array.of(0)), 1);
      for (let i = 0; i < 8; i++) {
        for (const [n, name] of ['ab', 'ba', 'aab', 'aba'].entries()) {
          given.memory.set(Buffer.from(name), 2048);
          assert.equal(given.ext.invoke(index, pack(2048, name.length), args, RET, 10, 0), 0);
          assert.deepEqual(codec.decodeReturnValue(given.bytes(RET, 10)), Value.I32(n));
        }
      }
    });

    it('that is not UTF-8 makes it throw a SandboxError, each time', () => {
      const built = build(backend);
      const { given } = built;
      const long = [...new Array(70).fill(97), 0xff];
      for (const bytes of [
        [0xff],
        [0xc3],
        [0xc0, 0x80],
        [0xed, 0xa0, 0x80],
        [0xf4, 0x90, 0x80, 0x80],
        [105, 0x80],
        long,
      ]) {
        given.with([Uint8Array.from(bytes)], (name) => {
          for (let i = 0; i < 2; i++) {
            assert.match(caught(SandboxError, () => invoke(built, { name })).message, /UTF-8/);
          }
        });
      }
      assert.equal(given.host.lastError, undefined);
      assertWorks(given);
    });

    it('beyond the end of the memory makes it throw a SandboxError', () => {
      const built = build(backend);
      const end = built.given.memory.length;
      for (const [ptr, size] of [
        [end - 2, 3],
        [end + 1, 0],
        [2 ** 31, 3],
        [2 ** 32 - 1, 3],
        [0, 2 ** 32 - 1],
      ]) {
        const error = caught(SandboxError, () => invoke(built, { name: pack(ptr, size) }));
        assert.match(error.message, /^name /);
      }
      assertWorks(built.given);
    });
  });
});

describe('The index of an instance', () => {
  forEachBackend((backend) => {
    it('that names none, or one torn down, makes invoke throw a SandboxError', () => {
      const { given, index } = build(backend);
      for (const wrong of [index + 1, 2 ** 31 - 1, -(2 ** 31), -1]) {
        sandboxError('Trying to access a non-existent instance', () => given.invoke(wrong, 'unit'));
      }
      given.ext.instance_teardown(index);
      sandboxError('Trying to access a torndown instance', () => given.invoke(index, 'unit'));
      assert.equal(given.live, 0);
      assert.equal(given.host.lastError, undefined);
      assertWorks(given);
    });
  });
});
