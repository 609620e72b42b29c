// SandboxInstance.invoke: which export runs, what goes in, what comes out. Traps have a file of their own.
// Contract: section 4.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { JsSupervisor, NoExportError, SandboxError, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { argumentError, caught } from '../support/expect';
import { guest } from '../support/guest';

describe('SandboxInstance.invoke', () => {
  forEachBackend((backend) => {
    it('returns undefined for no result', () => {
      const { call } = guest({ backend, wat: '(module (func (export "f")))' });
      assert.equal(call('f'), undefined);
    });

    it('returns one Value for one result', () => {
      const { call } = guest({
        backend,
        wat: `(module
          (func (export "i32") (result i32) (i32.const -5))
          (func (export "i64") (result i64) (i64.const -6))
          (func (export "f32") (result f32) (f32.const 1.25))
          (func (export "f64") (result f64) (f64.const -1e300)))`,
      });
      assert.deepEqual(call('i32'), { type: 'i32', value: -5 });
      assert.deepEqual(call('i64'), { type: 'i64', value: -6n });
      assert.deepEqual(call('f32'), { type: 'f32', bits: 0x3fa00000 });
      assert.deepEqual(call('f64'), Value.f64(-1e300));
    });

    it('returns an array of Value for several results', () => {
      const { call } = guest({
        backend,
        wat: `(module
          (func (export "two") (result i32 i64) (i32.const 1) (i64.const 2))
          (func (export "four") (result f64 f32 i64 i32)
            (f64.const 1) (f32.const 2) (i64.const 3) (i32.const 4))
          (func (export "turn") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
            (local.get 3) (local.get 2) (local.get 1) (local.get 0)))`,
      });
      assert.deepEqual(call('two'), [Value.I32(1), Value.I64(2n)]);
      assert.deepEqual(call('four'), [Value.f64(1), Value.f32(2), Value.I64(3n), Value.I32(4)]);
      assert.deepEqual(call('turn', Value.I32(-1), Value.I64(-2n), Value.f32(0.5), Value.f64(0.25)), [
        Value.f64(0.25),
        Value.f32(0.5),
        Value.I64(-2n),
        Value.I32(-1),
      ]);
    });

    it('takes the arguments in order', () => {
      const { call } = guest({
        backend,
        wat: `(module (func (export "f") (param i32 i64 f32 f64) (result f64)
          (f64.add
            (f64.add (f64.mul (f64.convert_i32_s (local.get 0)) (f64.const 1000))
                     (f64.mul (f64.convert_i64_s (local.get 1)) (f64.const 100)))
            (f64.add (f64.mul (f64.promote_f32 (local.get 2)) (f64.const 10)) (local.get 3)))))`,
      });
      assert.deepEqual(call('f', Value.I32(1), Value.I64(2n), Value.f32(3), Value.f64(4)), Value.f64(1234));
    });

    it('takes and returns many values', () => {
      const count = 100;
      const { call } = guest({
        backend,
        wat: `(module (func (export "f")
          (param ${'i64 '.repeat(count)}) (result ${'i64 '.repeat(count)})
          ${Array.from({ length: count }, (_, i) => `(local.get ${count - 1 - i})`).join(' ')}))`,
      });
      const args = Array.from({ length: count }, (_, i) => Value.I64(BigInt(i) * -3n));
      assert.deepEqual(call('f', ...args), args.toReversed());
    });

    it('takes plain objects and frozen arrays for Values', () => {
      const { instance } = guest({
        backend,
        wat: '(module (func (export "f") (param i32 f32) (result i32) (local.get 0)))',
      });
      const args = Object.freeze([
        Object.freeze({ type: 'i32', value: 9 } as const),
        Object.freeze({ type: 'f32', bits: 0 } as const),
      ]);
      assert.deepEqual(instance.invoke('f', args, new JsSupervisor()), Value.I32(9));
    });

    it('finds exports of any name', () => {
      const names = ['', ' ', 'ünïcödé', '🔑', 'a.b', '__proto__', 'constructor', 'x'.repeat(1000)];
      const { call } = guest({
        backend,
        wat: `(module
          ${names.map((name, i) => `(func (export "${name}") (result i32) (i32.const ${i}))`).join('\n')}
          (func (export "nul\\00nul") (result i32) (i32.const -1)))`,
      });
      for (const [i, name] of names.entries()) assert.deepEqual(call(name), Value.I32(i));
      assert.deepEqual(call('nul\0nul'), Value.I32(-1));
    });

    it('reports an export that does not exist', () => {
      const { call } = guest({ backend, wat: '(module (func (export "f")) (func $hidden))' });
      for (const name of ['g', '', 'F', 'f\0', 'hidden', '__proto__', 'toString']) {
        const error = caught(NoExportError, () => call(name));
        assert.equal(error.code, 'ERR_SANDBOX_NO_EXPORT');
        assert.ok(error instanceof SandboxError);
      }
      caught(SandboxError, () => call('\ud800'));
      assert.match(caught(NoExportError, () => call('missing')).message, /missing/);
      assert.equal(call('f'), undefined);
    });

    it('reports an export that is not a function', () => {
      const { call } = guest({
        backend,
        wat: `(module (memory (export "memory") 1) (table (export "table") 1 funcref)
          (global (export "global") i32 (i32.const 0)))`,
      });
      for (const name of ['memory', 'table', 'global']) {
        const error = caught(NoExportError, () => call(name));
        assert.equal(error.code, 'ERR_SANDBOX_NO_EXPORT');
        assert.match(error.message, new RegExp(name));
      }
    });

    it('reports a wrong number of arguments', () => {
      const { call } = guest({
        backend,
        wat: '(module (func (export "none")) (func (export "two") (param i32 i64)))',
      });
      argumentError('args', () => call('none', Value.I32(1)));
      argumentError('args', () => call('two'));
      argumentError('args', () => call('two', Value.I32(1)));
      argumentError('args', () => call('two', Value.I32(1), Value.I64(1n), Value.I32(1)));
      assert.equal(call('two', Value.I32(1), Value.I64(1n)), undefined);
    });

    it('reports an argument of the wrong type', () => {
      const { call } = guest({ backend, wat: '(module (func (export "f") (param i32 i64 f32 f64)))' });
      const right = [Value.I32(1), Value.I64(1n), Value.f32(1), Value.f64(1)];
      for (const [i, own] of right.entries()) {
        for (const other of right.filter((value) => value !== own)) {
          argumentError(`args[${i}]`, () => call('f', ...right.with(i, other)));
        }
      }
      assert.equal(call('f', ...right), undefined);
    });

    it('runs an export that is an import of the guest', () => {
      const { call } = guest({
        backend,
        imports: { 'env.twice': ([a]) => Value.I32((a as { value: number }).value * 2) },
        wat: `(module (import "env" "twice" (func (param i32) (result i32)))
          (export "direct" (func 0)))`,
      });
      assert.deepEqual(call('direct', Value.I32(21)), Value.I32(42));
    });

    it('asks the supervisor that it was given, not the one of the instantiation', () => {
      const { instance, call } = guest({
        backend,
        imports: { 'env.who': () => Value.I32(1) },
        wat: `(module (import "env" "who" (func $who (result i32)))
          (func (export "who") (result i32) (call $who)))`,
      });
      const other = new JsSupervisor();
      other.define(() => Value.I32(2));
      assert.deepEqual(instance.invoke('who', [], other), Value.I32(2));
      assert.deepEqual(call('who'), Value.I32(1));
    });

    it('keeps the state of the guest from call to call', () => {
      const { call } = guest({
        backend,
        wat: `(module (global $n (mut i32) (i32.const 0))
          (func (export "next") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))`,
      });
      for (let i = 1; i <= 100; i++) assert.deepEqual(call('next'), Value.I32(i));
    });

    it('carries on after any failed call', () => {
      const { call } = guest({
        backend,
        wat: '(module (func (export "trap") unreachable) (func (export "f") (result i32) (i32.const 1)))',
      });
      caught(TrapError, () => call('trap'));
      caught(NoExportError, () => call('nothing'));
      argumentError('args', () => call('f', Value.I32(1)));
      assert.deepEqual(call('f'), Value.I32(1));
    });
  });
});
