// Every kind of trap that a guest can cause, by several instructions each. The guest stays usable afterwards.
// Exhausted stacks are in stack.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SandboxBackend, SandboxError, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, rejection } from '../support/expect';
import { type Guest, guest } from '../support/guest';
import { wat } from '../support/wat';

// There are no types of it without those of a browser.
declare const WebAssembly: {
  instantiate(wasm: Uint8Array): Promise<{ instance: { exports: Record<string, () => void> } }>;
  RuntimeError: ErrorConstructor;
};

/** Kind of trap, what causes it, the body of a function with `(local $x i32)`. */
const traps: [kind: TrapError['trap'], cause: string, body: string][] = [
  ['unreachable', 'unreachable', 'unreachable'],
  ['unreachable', 'unreachable in a called function', '(call $unreachable)'],

  ['memory-out-of-bounds', 'a load behind the end', '(drop (i32.load (i32.const 65533)))'],
  ['memory-out-of-bounds', 'a load at the last address', '(drop (i32.load8_u (i32.const -1)))'],
  [
    'memory-out-of-bounds',
    'a load with an overflowing offset',
    '(drop (i32.load offset=4294967295 (i32.const -1)))',
  ],
  ['memory-out-of-bounds', 'a wide load', '(drop (v128.load (i32.const 65521)))'],
  ['memory-out-of-bounds', 'a store', '(i64.store (i32.const 65529) (i64.const 0))'],
  ['memory-out-of-bounds', 'memory.fill', '(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))'],
  ['memory-out-of-bounds', 'memory.copy', '(memory.copy (i32.const 0) (i32.const 65535) (i32.const 2))'],
  ['memory-out-of-bounds', 'memory.init', '(memory.init $data (i32.const 0) (i32.const 2) (i32.const 2))'],

  ['table-out-of-bounds', 'call_indirect', '(call_indirect $table (type $plain) (i32.const 10))'],
  [
    'table-out-of-bounds',
    'call_indirect at the last index',
    '(call_indirect $table (type $plain) (i32.const -1))',
  ],
  ['table-out-of-bounds', 'table.get', '(drop (table.get $table (i32.const 10)))'],
  ['table-out-of-bounds', 'table.set', '(table.set $table (i32.const 10) (ref.null func))'],
  ['table-out-of-bounds', 'table.fill', '(table.fill $table (i32.const 9) (ref.null func) (i32.const 2))'],
  [
    'table-out-of-bounds',
    'table.copy',
    '(table.copy $table $table (i32.const 0) (i32.const 9) (i32.const 2))',
  ],
  [
    'table-out-of-bounds',
    'table.init',
    '(table.init $table $elements (i32.const 0) (i32.const 1) (i32.const 2))',
  ],

  ['indirect-call-null', 'call_indirect', '(call_indirect $table (type $plain) (i32.const 5))'],
  ['indirect-call-signature', 'call_indirect', '(call_indirect $table (type $plain) (i32.const 1))'],

  ['integer-overflow', 'i32.div_s', '(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))'],
  ['integer-overflow', 'i64.div_s', '(drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))'],
  ['integer-overflow', 'i32.trunc_f32_s', '(drop (i32.trunc_f32_s (f32.const 2147483648)))'],
  ['integer-overflow', 'i32.trunc_f64_u', '(drop (i32.trunc_f64_u (f64.const -1)))'],
  ['integer-overflow', 'i64.trunc_f64_s', '(drop (i64.trunc_f64_s (f64.const 1e300)))'],
  ['integer-overflow', 'i64.trunc_f32_u of infinity', '(drop (i64.trunc_f32_u (f32.const inf)))'],

  ['integer-divide-by-zero', 'i32.div_s', '(drop (i32.div_s (i32.const 1) (local.get $x)))'],
  ['integer-divide-by-zero', 'i32.div_u', '(drop (i32.div_u (i32.const 1) (local.get $x)))'],
  ['integer-divide-by-zero', 'i32.rem_s', '(drop (i32.rem_s (i32.const 1) (local.get $x)))'],
  ['integer-divide-by-zero', 'i32.rem_u', '(drop (i32.rem_u (i32.const 1) (local.get $x)))'],
  ['integer-divide-by-zero', 'i64.div_s', '(drop (i64.div_s (i64.const 1) (i64.const 0)))'],
  ['integer-divide-by-zero', 'i64.rem_u', '(drop (i64.rem_u (i64.const 1) (i64.const 0)))'],

  ['invalid-conversion', 'i32.trunc_f32_s of NaN', '(drop (i32.trunc_f32_s (f32.const nan)))'],
  ['invalid-conversion', 'i64.trunc_f64_u of NaN', '(drop (i64.trunc_f64_u (f64.const nan)))'],
];

const source = (body: string) => `(module
  (type $plain (func))
  (memory (export "memory") 1)
  (table $table 10 funcref)
  (elem (table $table) (i32.const 0) func $nothing $other)
  (elem $elements func $nothing $nothing)
  (data $data "abc")
  (global $n (export "n") (mut i32) (i32.const 0))
  (func $nothing)
  (func $other (param i32))
  (func $unreachable unreachable)
  (func (export "trap") (local $x i32)
    (i32.store8 (i32.const 100) (i32.const 5))
    (global.set $n (i32.const 6))
    ${body})
  (func (export "seven") (result i32) (i32.const 7)))`;

/** Functions that wait for a supervisor. */
const WAITING = `(module (import "env" "f" (func $f)) (global (mut i32) (i32.const 0))
  (func $inner (call $f) (global.set 0 (i32.const 1)))
  (func $outer (export "outer") (call $inner) (global.set 0 (i32.const 2)))
  (func $other (export "other") (call $f) (global.set 0 (i32.const 3))))`;

const names = ({ wasmStack }: TrapError): string[] => wasmStack.map(({ functionName }) => functionName ?? '');

const rejected = async (run: () => unknown): Promise<TrapError> => caught(TrapError, run);

describe('A trap', () => {
  forEachBackend((backend) => {
    for (const [kind, cause, body] of traps) {
      it(`is ${kind} by ${cause}`, () => {
        const { call, instance } = guest({ backend, wat: source(body) });
        for (let i = 0; i < 3; i++) {
          const error = caught(TrapError, () => call('trap'));
          assert.equal(error.trap, kind, error.message);
          assert.equal(error.code, 'ERR_SANDBOX_TRAP');
          assert.ok(error.message.length > 0);
          assert.deepEqual(call('seven'), Value.I32(7));
        }
        assert.deepEqual(instance.getGlobalVal('n'), Value.I32(6));
        assert.deepEqual(instance.getMemory('memory')?.read(100, 1), Uint8Array.of(5));
      });
    }

    it('is supervisor when the supervisor throws', () => {
      const { call } = guest({
        backend,
        imports: {
          'env.f': () => {
            throw new Error('by the supervisor');
          },
        },
        wat: '(module (import "env" "f" (func $f)) (func (export "trap") (call $f)))',
      });
      const error = caught(TrapError, () => call('trap'));
      assert.equal(error.trap, 'supervisor');
      assert.equal(error.message, 'by the supervisor');
    });

    it('is an Error, a SandboxError and a TrapError', () => {
      const { call } = guest({ backend, wat: source('unreachable') });
      const error = caught(TrapError, () => call('trap'));
      assert.ok(error instanceof Error);
      assert.ok(error instanceof SandboxError);
      assert.equal(error.name, 'TrapError');
      assert.match(String(error.stack), /traps\.spec/);
    });

    it('comes from the loaded memory that the guest sees, not from the host', () => {
      const { call, memory } = guest({
        backend,
        memory: { initial: 1, maximum: 2 },
        wat: `(module (import "env" "memory" (memory 1))
          (func (export "load") (result i32) (i32.load8_u (i32.const 65536))))`,
      });
      assert.equal(caught(TrapError, () => call('load')).trap, 'memory-out-of-bounds');
      memory.memoryGrow(1);
      assert.deepEqual(call('load'), Value.I32(0));
    });

    it('may happen a thousand times, between good calls', () => {
      const { call } = guest({ backend, wat: source('(drop (i32.load (i32.const -1)))') });
      for (let i = 0; i < 1000; i++) {
        caught(TrapError, () => call('trap'));
        assert.deepEqual(call('seven'), Value.I32(7));
      }
    });

    it('may alternate with traps of the WebAssembly that V8 runs', async () => {
      const { call } = guest({ backend, wat: source('(drop (i32.load (i32.const -1)))') });
      const { instance } = await WebAssembly.instantiate(
        wat('(module (memory 1) (func (export "f") (drop (i32.load (i32.const -1)))))'),
      );
      for (let i = 0; i < 1000; i++) {
        assert.throws(() => instance.exports.f(), WebAssembly.RuntimeError);
        caught(TrapError, () => call('trap'));
      }
    });

    it('has a wasmStack, which may be empty where the engine gives none', () => {
      const { call } = guest({ backend, wat: source('(call $unreachable)') });
      const { wasmStack } = caught(TrapError, () => call('trap'));
      assert.ok(Array.isArray(wasmStack));
      for (const frame of wasmStack) {
        assert.equal(typeof frame.functionIndex, 'number');
        assert.ok(frame.functionName === undefined || typeof frame.functionName === 'string');
        assert.ok(frame.offset === undefined || typeof frame.offset === 'number');
      }
    });
  });

  // wasmi keeps no frames of a trap.
  describe(`on ${SandboxBackend.Wasmer} only`, () => {
    it('names the functions of its wasmStack, innermost first', () => {
      const { call } = guest({
        backend: SandboxBackend.Wasmer,
        imports: { 'env.f': () => undefined },
        wat: `(module (import "env" "f" (func $f))
          (func $inner unreachable)
          (func $middle (call $f) (call $inner) (call $f))
          (func $outer (export "exported") (call $middle) (call $f)))`,
      });
      const { wasmStack } = caught(TrapError, () => call('exported'));
      assert.deepEqual(
        wasmStack.map(({ functionName, functionIndex }) => [functionName, functionIndex]),
        [
          ['inner', 1],
          ['middle', 2],
          ['outer', 3],
        ],
      );
    });

    for (const [how, invoke] of [
      ['', ({ instance }: Guest) => rejected(() => instance.invoke('outer'))],
      [
        ' in an asynchronous call',
        ({ instance }: Guest) => rejection(TrapError, instance.invokeAsync('outer')),
      ],
    ] as const) {
      it(`has a wasmStack when the supervisor threw${how}`, async () => {
        const failing = guest({
          backend: SandboxBackend.Wasmer,
          imports: {
            'env.f': () => {
              throw new Error('by the supervisor');
            },
          },
          wat: WAITING,
        });
        const error = await invoke(failing);
        assert.equal(error.trap, 'supervisor');
        assert.equal((error.cause as Error).message, 'by the supervisor');
        assert.deepEqual(names(error), ['inner', 'outer']);
        assert.ok(error.wasmStack.every(({ offset }) => (offset ?? 0) > 0));
      });

      it(`has both ends of an exhausted stack in its wasmStack${how}`, async () => {
        const exhausting = guest({
          backend: SandboxBackend.Wasmer,
          wat: `(module (global (mut i32) (i32.const 0))
            (func $endless (call $endless) (global.set 0 (i32.const 1)))
            (func $outer (export "outer") (call $endless) (global.set 0 (i32.const 2))))`,
        });
        const error = await invoke(exhausting);
        assert.equal(error.trap, 'stack-overflow');
        assert.deepEqual(names(error), [...Array<string>(63).fill('endless'), 'outer']);
      });
    }

    it('has the frames of its own call only, when calls are inside one another', () => {
      let inner: string[] = [];
      const { call, instance } = guest({
        backend: SandboxBackend.Wasmer,
        imports: {
          'env.f': () => {
            if (inner.length > 0) throw new Error('the innermost');
            inner = ['begun'];
            inner = names(caught(TrapError, () => instance.invoke('other')));
            throw new Error('the outermost');
          },
        },
        wat: WAITING,
      });
      assert.deepEqual(names(caught(TrapError, () => call('outer'))), ['inner', 'outer']);
      assert.deepEqual(inner, ['other']);
    });
  });
});
