// Tail calls, in a file of their own because only wasmi has them: wasmer's Cranelift does not translate `return_call` and
// `return_call_indirect` (wasmer-compiler-cranelift 7.4.2, translator/code_translator.rs), so wasmer refuses the module.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstantiationError, SandboxBackend, Value } from '../../index';
import { guest } from '../support/guest';

describe('Tail calls', () => {
  const backend = SandboxBackend.Wasmi;
  const run = (wat: string, ...args: Value[]) => guest({ backend, wat }).call('f', ...args);

  it('run a million deep on wasmi', () => {
    assert.deepEqual(
      run(
        `(module (func $count (export "f") (param $n i64) (param $sum i64) (result i64)
          (if (result i64) (i64.eqz (local.get $n))
            (then (local.get $sum))
            (else (return_call $count
              (i64.sub (local.get $n) (i64.const 1)) (i64.add (local.get $sum) (local.get $n)))))))`,
        Value.I64(1_000_000n),
        Value.I64(0n),
      ),
      Value.I64(500_000_500_000n),
    );
  });

  it('run through a table on wasmi', () => {
    assert.deepEqual(
      run(
        `(module (type $step (func (param i32) (result i32))) (table 2 funcref)
          (elem (i32.const 0) $even $odd)
          (func $even (export "f") (type $step)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
            (return_call_indirect (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))
          (func $odd (type $step)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
            (return_call_indirect (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))`,
        Value.I32(1_000_001),
      ),
      Value.I32(0),
    );
  });

  it('reach the supervisor on wasmi', () => {
    const { call } = guest({
      backend,
      imports: { 'env.twice': ([n]) => Value.I32((n as { value: number }).value * 2) },
      wat: `(module (import "env" "twice" (func $twice (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) (return_call $twice (local.get 0))))`,
    });
    assert.deepEqual(call('f', Value.I32(4)), Value.I32(8));
  });

  it('are refused by wasmer when the module is compiled', () => {
    const wat = '(module (func $f (export "f") (return_call $f)))';
    assert.throws(
      () => guest({ backend: SandboxBackend.Wasmer, wat }),
      (error) => error instanceof InstantiationError && error.kind === 'ModuleDecoding',
    );
  });
});
