// The proposals beyond the first version of WebAssembly that both engines run.
// They run inside the guest; what may cross its border is in unsupported.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught } from '../support/expect';
import { guest } from '../support/guest';

describe('Both engines run', () => {
  forEachBackend((backend) => {
    const run = (wat: string, ...args: Value[]) => guest({ backend, wat }).call('f', ...args);

    it('SIMD', () => {
      assert.deepEqual(
        run(`(module (func (export "f") (result i32)
          (i32x4.extract_lane 3
            (i32x4.add (v128.const i32x4 1 2 3 4) (i32x4.splat (i32.const 38))))))`),
        Value.I32(42),
      );
      assert.deepEqual(
        run(`(module (memory 1) (data (i32.const 0) "\\01\\02\\03\\04\\05\\06\\07\\08")
          (func (export "f") (result i32)
            (i32x4.extract_lane 0 (i8x16.swizzle (v128.load (i32.const 0)) (v128.const i32x4 0x00010203 0 0 0)))))`),
        Value.I32(0x01020304),
      );
      assert.deepEqual(
        run(`(module (func (export "f") (result f64)
          (f64x2.extract_lane 1 (f64x2.sqrt (v128.const f64x2 4 9)))))`),
        Value.f64(3),
      );
    });

    it('bulk memory operations', () => {
      assert.deepEqual(
        run(`(module (memory 1) (data $d "abcd")
          (func (export "f") (result i32)
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))
            (data.drop $d)
            (memory.copy (i32.const 8) (i32.const 0) (i32.const 4))
            (memory.fill (i32.const 9) (i32.const 122) (i32.const 1))
            (i32.load (i32.const 8))))`),
        Value.I32(Buffer.from('azcd').readInt32LE()),
      );
      assert.equal(
        caught(TrapError, () =>
          run(`(module (memory 1) (data $d "abcd")
            (func (export "f") (data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))`),
        ).trap,
        'memory-out-of-bounds',
      );
    });

    it('bulk table operations', () => {
      assert.deepEqual(
        run(`(module (table $t 4 funcref) (elem $e func $one $two)
          (type $get (func (result i32)))
          (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
          (func (export "f") (result i32)
            (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2))
            (elem.drop $e)
            (table.copy $t $t (i32.const 2) (i32.const 0) (i32.const 2))
            (i32.add (call_indirect $t (type $get) (i32.const 2))
                     (i32.mul (i32.const 10) (call_indirect $t (type $get) (i32.const 3))))))`),
        Value.I32(21),
      );
    });

    it('multi-value functions and blocks', () => {
      assert.deepEqual(
        run(
          `(module
          (func $swap (param i32 i32) (result i32 i32) (local.get 1) (local.get 0))
          (func (export "f") (param i32 i32) (result i32 i32 i32)
            (local.get 0) (local.get 1)
            (call $swap)
            (block (param i32 i32) (result i32 i32 i32) (i32.const 9))))`,
          Value.I32(1),
          Value.I32(2),
        ),
        [Value.I32(2), Value.I32(1), Value.I32(9)],
      );
    });

    it('reference types', () => {
      assert.deepEqual(
        run(`(module
          (table $functions 1 funcref) (table $things 2 externref)
          (elem declare func $seven)
          (type $get (func (result i32)))
          (func $seven (result i32) (i32.const 7))
          (func (export "f") (result i32)
            (table.set $functions (i32.const 0) (ref.func $seven))
            (drop (table.grow $things (ref.null extern) (i32.const 3)))
            (i32.add
              (i32.add (call_indirect $functions (type $get) (i32.const 0)) (table.size $things))
              (i32.add
                (ref.is_null (table.get $things (i32.const 1)))
                (ref.is_null (select (result funcref) (ref.null func) (ref.func $seven) (i32.const 0)))))))`),
        Value.I32(13),
      );
    });

    it('sign extension', () => {
      assert.deepEqual(
        run(`(module (func (export "f") (result i32 i32 i64)
          (i32.extend8_s (i32.const 0x80)) (i32.extend16_s (i32.const 0x8000)) (i64.extend32_s (i64.const 0x80000000))))`),
        [Value.I32(-128), Value.I32(-32768), Value.I64(-0x80000000n)],
      );
    });

    it('saturating conversions', () => {
      assert.deepEqual(
        run(`(module (func (export "f") (result i32 i32 i64 i64)
          (i32.trunc_sat_f32_s (f32.const 1e30)) (i32.trunc_sat_f64_u (f64.const -5))
          (i64.trunc_sat_f64_s (f64.const nan)) (i64.trunc_sat_f32_u (f32.const inf))))`),
        [Value.I32(0x7fffffff), Value.I32(0), Value.I64(0n), Value.I64(-1n)],
      );
    });

    it('several memories in one module', () => {
      assert.deepEqual(
        run(`(module (memory $a 1) (memory $b 1)
          (func (export "f") (result i32)
            (i32.store8 1 (i32.const 0) (i32.const 5))
            (memory.copy 0 1 (i32.const 3) (i32.const 0) (i32.const 1))
            (i32.add (i32.load8_u 0 (i32.const 3)) (i32.load8_u 1 (i32.const 0)))))`),
        Value.I32(10),
      );
    });

    it('extended constant expressions', () => {
      assert.deepEqual(
        run(`(module (global $g i32 (i32.add (i32.const 40) (i32.const 2)))
          (func (export "f") (result i32) (global.get $g)))`),
        Value.I32(42),
      );
    });
  });
});
