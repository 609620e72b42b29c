// SandboxInstance.exports: names, kinds and types, in the order of the module.
// The shapes of the types are those of the JavaScript type reflection proposal.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { forEachBackend } from '../support/engines';
import { guest } from '../support/guest';

describe('SandboxInstance.exports', () => {
  forEachBackend((backend) => {
    const exportsOf = (wat: string) => [...guest({ backend, wat }).instance.exports];

    it('is empty for a module without exports', () => {
      assert.deepEqual(exportsOf('(module (func))'), []);
    });

    it('describes functions', () => {
      assert.deepEqual(
        exportsOf(`(module
          (func (export "nothing"))
          (func (export "numbers") (param i32 i64) (param f32 f64) (result i64)
            (local.get 1))
          (func (export "several") (result i32 f64) (i32.const 0) (f64.const 0))
          (func (export "others") (param v128 funcref externref)))`),
        [
          { name: 'nothing', kind: 'function', type: { parameters: [], results: [] } },
          {
            name: 'numbers',
            kind: 'function',
            type: { parameters: ['i32', 'i64', 'f32', 'f64'], results: ['i64'] },
          },
          { name: 'several', kind: 'function', type: { parameters: [], results: ['i32', 'f64'] } },
          {
            name: 'others',
            kind: 'function',
            type: { parameters: ['v128', 'funcref', 'externref'], results: [] },
          },
        ],
      );
    });

    it('describes memories', () => {
      assert.deepEqual(exportsOf('(module (memory (export "open") 2))'), [
        { name: 'open', kind: 'memory', type: { minimum: 2 } },
      ]);
      assert.deepEqual(exportsOf('(module (memory (export "bounded") 0 65536))'), [
        { name: 'bounded', kind: 'memory', type: { minimum: 0, maximum: 65536 } },
      ]);
    });

    it('describes tables', () => {
      assert.deepEqual(
        exportsOf(`(module
          (table (export "functions") 1 5 funcref) (table (export "things") 0 externref))`),
        [
          { name: 'functions', kind: 'table', type: { element: 'funcref', minimum: 1, maximum: 5 } },
          { name: 'things', kind: 'table', type: { element: 'externref', minimum: 0 } },
        ],
      );
    });

    it('describes globals', () => {
      assert.deepEqual(
        exportsOf(`(module
          (global (export "a") i32 (i32.const 1)) (global (export "b") (mut i64) (i64.const 1))
          (global (export "c") f32 (f32.const 1)) (global (export "d") (mut f64) (f64.const 1))
          (global (export "e") (mut v128) (v128.const i64x2 0 0)))`),
        [
          { name: 'a', kind: 'global', type: { value: 'i32', mutable: false } },
          { name: 'b', kind: 'global', type: { value: 'i64', mutable: true } },
          { name: 'c', kind: 'global', type: { value: 'f32', mutable: false } },
          { name: 'd', kind: 'global', type: { value: 'f64', mutable: true } },
          { name: 'e', kind: 'global', type: { value: 'v128', mutable: true } },
        ],
      );
    });

    it('keeps the order of the module across kinds', () => {
      const list = exportsOf(`(module
        (global $g i32 (i32.const 0)) (memory $m 1) (table $t 1 funcref) (func $f)
        (export "z" (func $f)) (export "y" (memory $m)) (export "x" (table $t))
        (export "w" (global $g)) (export "again" (func $f)))`);
      assert.deepEqual(
        list.map(({ name, kind }) => [name, kind]),
        [
          ['z', 'function'],
          ['y', 'memory'],
          ['x', 'table'],
          ['w', 'global'],
          ['again', 'function'],
        ],
      );
    });

    it('lists what the guest imports and exports again', () => {
      const { instance } = guest({
        backend,
        memory: { initial: 1 },
        imports: { 'env.f': () => undefined },
        wat: `(module (import "env" "memory" (memory 1)) (import "env" "f" (func (param i64)))
          (export "m" (memory 0)) (export "f" (func 0)))`,
      });
      assert.deepEqual(
        instance.exports.map(({ name, kind }) => [name, kind]),
        [
          ['m', 'memory'],
          ['f', 'function'],
        ],
      );
    });

    it('does not change when the caller changes the list', () => {
      const { instance } = guest({ backend, wat: '(module (func (export "f")))' });
      try {
        (instance.exports as unknown[]).length = 0;
      } catch {
        // a frozen list is as good
      }
      assert.equal(instance.exports.length, 1);
      assert.equal(instance.invoke('f', [], guest({ backend, wat: '(module)' }).supervisor), undefined);
    });
  });
});
