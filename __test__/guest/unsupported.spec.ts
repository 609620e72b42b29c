// Values that the sandbox API cannot carry (v128, funcref, externref) at its borders: an error, never a crash.
// Inside a guest they work, see features.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { JsSupervisor, SandboxError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, supervisorTrap } from '../support/expect';
import { guest } from '../support/guest';
import { ProtocolSupervisor, sixSteps } from '../support/protocol';

const kinds = [
  ['v128', '(v128.const i64x2 1 2)'],
  ['funcref', '(ref.null func)'],
  ['funcref', '(ref.func $some)'],
  ['externref', '(ref.null extern)'],
] as const;

const SEVEN = '(func (export "seven") (result i32) (i32.const 7))';

describe('A value that the API cannot carry', () => {
  forEachBackend((backend) => {
    for (const [type, constant] of kinds) {
      const some = '(func $some) (elem declare func $some)';

      it(`is refused as a parameter of an export (${type})`, () => {
        const { call } = guest({
          backend,
          wat: `(module ${some} (func (export "f") (param ${type})) (func (export "g") (param i32 ${type})) ${SEVEN})`,
        });
        for (const value of [Value.I32(0), Value.I64(0n), Value.f32(0), Value.f64(0)]) {
          caught(SandboxError, () => call('f', value));
          caught(SandboxError, () => call('g', Value.I32(0), value));
        }
        caught(SandboxError, () => call('f'));
        caught(SandboxError, () => call('f', { type, value: null } as unknown as Value));
        assert.deepEqual(call('seven'), Value.I32(7));
      });

      it(`is refused as a result of an export: ${constant}`, () => {
        const { call } = guest({
          backend,
          wat: `(module ${some} (func (export "one") (result ${type}) ${constant})
            (func (export "two") (result i32 ${type}) (i32.const 1) ${constant}) ${SEVEN})`,
        });
        caught(SandboxError, () => call('one'));
        caught(SandboxError, () => call('two'));
        assert.deepEqual(call('seven'), Value.I32(7));
      });

      it(`traps as an argument of a supervisor call: ${constant}`, () => {
        for (const supervisor of [new JsSupervisor(), new ProtocolSupervisor()]) {
          let calls = 0;
          const count = () => {
            calls++;
            return undefined;
          };
          const { call } = guest({
            backend,
            supervisor,
            imports: { 'env.f': count, 'env.g': count },
            wat: `(module (import "env" "f" (func $f (param ${type}))) (import "env" "g" (func $g (param i32 ${type})))
              ${some} (func (export "f") (call $f ${constant})) (func (export "g") (call $g (i32.const 1) ${constant}))
              ${SEVEN})`,
          });
          assert.match(supervisorTrap(() => call('f')).message, /Unsupported function argument/);
          assert.match(supervisorTrap(() => call('g')).message, /Unsupported function argument/);
          assert.equal(calls, 0);
          if (supervisor instanceof ProtocolSupervisor) assert.deepEqual(supervisor.steps, []);
          assert.deepEqual(call('seven'), Value.I32(7));
        }
      });

      if (constant === '(ref.func $some)') continue;

      it(`traps as the result of a supervisor call (${type})`, () => {
        for (const answer of [undefined, Value.I32(0), Value.I64(0n)]) {
          const protocol = new ProtocolSupervisor();
          for (const supervisor of [new JsSupervisor(), protocol]) {
            const { call } = guest({
              backend,
              supervisor,
              imports: { 'env.f': () => answer },
              wat: `(module (import "env" "f" (func $f (result ${type}))) (func (export "f") (drop (call $f))) ${SEVEN})`,
            });
            supervisorTrap(() => call('f'));
            assert.deepEqual(call('seven'), Value.I32(7));
          }
          assert.equal(protocol.leaks, 0);
        }
      });
    }

    it('may be a type of an import that is never called', () => {
      const { call } = guest({
        backend,
        imports: { 'env.f': () => undefined },
        wat: `(module (import "env" "f" (func (param v128 funcref externref) (result externref))) ${SEVEN})`,
      });
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('is not the only thing: an import of several results cannot be answered either', () => {
      for (const supervisor of [new JsSupervisor(), new ProtocolSupervisor()]) {
        for (const answer of [undefined, Value.I32(1)]) {
          caught(SandboxError, () =>
            guest({
              backend,
              supervisor,
              imports: { 'env.f': () => answer },
              wat: `(module (import "env" "f" (func $f (result i32 i32)))
                (func (export "f") (result i32) (i32.add (call $f))))`,
            }).call('f'),
          );
        }
        assert.deepEqual(guest({ backend, wat: `(module ${SEVEN})` }).call('seven'), Value.I32(7));
      }
    });

    it('ends the protocol as any other supervisor call otherwise', () => {
      const supervisor = new ProtocolSupervisor();
      const { call } = guest({
        backend,
        supervisor,
        imports: { 'env.bad': () => undefined, 'env.good': ([n]) => n },
        wat: `(module (import "env" "bad" (func $bad (param v128)))
          (import "env" "good" (func $good (param i32) (result i32)))
          (func (export "bad") (call $bad (v128.const i64x2 0 0)))
          (func (export "good") (result i32) (call $good (i32.const 3))))`,
      });
      supervisorTrap(() => call('bad'));
      assert.deepEqual(call('good'), Value.I32(3));
      assert.deepEqual(supervisor.steps, sixSteps);
    });
  });
});
