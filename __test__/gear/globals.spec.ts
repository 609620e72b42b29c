// Globals of an instance: getGlobalVal and setGlobalVal, and their signal-handler names.
// Contract: section 4. Globals during a call are in reentry.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SandboxError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught } from '../support/expect';
import { guest } from '../support/guest';

const GUEST = `(module
  (global $i32 (export "i32") (mut i32) (i32.const -1))
  (global (export "i64") (mut i64) (i64.const -2))
  (global (export "f32") (mut f32) (f32.const 1.5))
  (global (export "f64") (mut f64) (f64.const -0.5))
  (global (export "constant") i32 (i32.const 7))
  (global (export "vector") (mut v128) (v128.const i64x2 1 2))
  (global (export "function") (mut funcref) (ref.null func))
  (global (export "thing") (mut externref) (ref.null extern))
  (memory (export "memory") 1)
  (func (export "read") (result i32) (global.get $i32))
  (func (export "write") (param i32) (global.set $i32 (local.get 0))))`;

describe('Globals of an instance', () => {
  forEachBackend((backend) => {
    const build = () => guest({ backend, wat: GUEST });

    it('can be read', () => {
      const { instance } = build();
      assert.deepEqual(instance.getGlobalVal('i32'), Value.I32(-1));
      assert.deepEqual(instance.getGlobalVal('i64'), Value.I64(-2n));
      assert.deepEqual(instance.getGlobalVal('f32'), Value.f32(1.5));
      assert.deepEqual(instance.getGlobalVal('f64'), Value.f64(-0.5));
      assert.deepEqual(instance.getGlobalVal('constant'), Value.I32(7));
    });

    it('can be written', () => {
      const { instance } = build();
      const values: [string, Value][] = [
        ['i32', Value.I32(-0x80000000)],
        ['i64', Value.I64(0x7fffffffffffffffn)],
        ['f32', Value.f32(-2.25)],
        ['f64', Value.f64(Number.MAX_VALUE)],
      ];
      for (const [name, value] of values) {
        assert.equal(instance.setGlobalVal(name, value), true);
        assert.deepEqual(instance.getGlobalVal(name), value);
      }
    });

    it('are those that the guest sees', () => {
      const { instance, call } = build();
      instance.setGlobalVal('i32', Value.I32(12));
      assert.deepEqual(call('read'), Value.I32(12));
      call('write', Value.I32(13));
      assert.deepEqual(instance.getGlobalVal('i32'), Value.I32(13));
    });

    it('have other names for signal handlers', () => {
      const { instance } = build();
      assert.equal(instance.signalHandlerSetGlobalVal('i32', Value.I32(4)), true);
      assert.deepEqual(instance.signalHandlerGetGlobalVal('i32'), Value.I32(4));
      assert.equal(instance.signalHandlerGetGlobalVal('unknown'), undefined);
      assert.equal(instance.signalHandlerSetGlobalVal('unknown', Value.I32(4)), false);
    });

    it('are undefined where there is none of that name', () => {
      const { instance } = build();
      for (const name of ['unknown', '', 'memory', 'read', 'i3', 'i32\0']) {
        assert.equal(instance.getGlobalVal(name), undefined);
        assert.equal(instance.setGlobalVal(name, Value.I32(1)), false);
      }
    });

    it('cannot be written when they are immutable', () => {
      const { instance } = build();
      caught(SandboxError, () => instance.setGlobalVal('constant', Value.I32(8)));
      assert.deepEqual(instance.getGlobalVal('constant'), Value.I32(7));
    });

    it('cannot be given a value of another type', () => {
      const { instance } = build();
      caught(SandboxError, () => instance.setGlobalVal('i32', Value.I64(8n)));
      caught(SandboxError, () => instance.setGlobalVal('i64', Value.I32(8)));
      caught(SandboxError, () => instance.setGlobalVal('f32', Value.I32(8)));
      caught(SandboxError, () => instance.setGlobalVal('f64', Value.f32(8)));
      assert.deepEqual(instance.getGlobalVal('i32'), Value.I32(-1));
      assert.deepEqual(instance.getGlobalVal('i64'), Value.I64(-2n));
      assert.deepEqual(instance.getGlobalVal('f32'), Value.f32(1.5));
      assert.deepEqual(instance.getGlobalVal('f64'), Value.f64(-0.5));
    });

    it('cannot carry vectors and references', () => {
      const { instance } = build();
      for (const name of ['vector', 'function', 'thing']) {
        assert.equal(instance.getGlobalVal(name), undefined);
        for (const value of [Value.I32(0), Value.I64(0n), Value.f32(0), Value.f64(0)]) {
          caught(SandboxError, () => instance.setGlobalVal(name, value));
        }
      }
    });

    it('belong to one instance each', () => {
      const { instance, components } = build();
      const other = guest({ backend, components, wat: GUEST }).instance;
      instance.setGlobalVal('i32', Value.I32(100));
      assert.deepEqual(other.getGlobalVal('i32'), Value.I32(-1));
    });

    it('keep what a failed call has left in them', () => {
      const { instance, call } = guest({
        backend,
        wat: `(module (global $g (export "g") (mut i32) (i32.const 0))
          (func (export "f") (global.set $g (i32.const 3)) unreachable))`,
      });
      assert.throws(() => call('f'));
      assert.deepEqual(instance.getGlobalVal('g'), Value.I32(3));
    });
  });
});
