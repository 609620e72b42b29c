// How the imports of a guest find the functions and memories of its environment.
// What goes wrong when one is missing is in instantiation.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  SandboxComponents,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment, funcIndex } from '../support/environment';
import { caught } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

describe('Imports of a guest', () => {
  forEachBackend((backend) => {
    it('link under any module name', () => {
      for (const module of ['env', 'seal0', '', 'ünïcödé', 'wasi_snapshot_preview1', '__proto__']) {
        const components = new SandboxComponents<unknown>(backend);
        const supervisor = new JsSupervisor();
        const answer = supervisor.define(() => Value.I32(42));
        const memory = components.newMemory(1);
        components.memory(memory).writeFrom(3, Uint8Array.of(5));
        const raw = new EnvironmentDefinitionBuilder()
          .addHostFunc(module, 'answer', funcIndex(answer))
          .addMemory(module, 'bytes', memory)
          .encode();
        const index = components
          .instantiate(
            Instantiate.Version1,
            wat(`(module
              (import "${module}" "answer" (func $answer (result i32)))
              (import "${module}" "bytes" (memory 1))
              (func (export "f") (result i32) (i32.add (call $answer) (i32.load8_u (i32.const 3)))))`),
            GuestEnvironment.decode(components, raw),
            supervisor,
          )
          .register(components, undefined);
        assert.deepEqual(components.instance(index).invoke('f', [], supervisor), Value.I32(47));
      }
    });

    it('tell fields of one name apart by their module', () => {
      const { call } = guest({
        backend,
        imports: { 'a.f': () => Value.I32(1), 'b.f': () => Value.I32(2) },
        wat: `(module
          (import "a" "f" (func $a (result i32))) (import "b" "f" (func $b (result i32)))
          (func (export "f") (result i32) (i32.add (i32.mul (call $a) (i32.const 10)) (call $b))))`,
      });
      assert.deepEqual(call('f'), Value.I32(12));
    });

    it('may ask for one function twice', () => {
      let calls = 0;
      const { call } = guest({
        backend,
        imports: { 'env.f': () => Value.I32(++calls) },
        wat: `(module
          (import "env" "f" (func $a (result i32))) (import "env" "f" (func $b (result i32)))
          (func (export "f") (result i32) (i32.add (i32.mul (call $a) (i32.const 10)) (call $b))))`,
      });
      assert.deepEqual(call('f'), Value.I32(12));
    });

    it('may ask for one function with different types', () => {
      const seen: Value[][] = [];
      const { call } = guest({
        backend,
        imports: {
          'env.f': (args) => {
            seen.push(args);
            return args[0];
          },
        },
        wat: `(module
          (import "env" "f" (func $a (param i32) (result i32)))
          (import "env" "f" (func $b (param i64 f64) (result i64)))
          (import "env" "f" (func $c))
          (func (export "a") (result i32) (call $a (i32.const 1)))
          (func (export "b") (result i64) (call $b (i64.const 2) (f64.const 3)))
          (func (export "c") (call $c)))`,
      });
      assert.deepEqual(call('a'), Value.I32(1));
      assert.deepEqual(call('b'), Value.I64(2n));
      assert.equal(call('c'), undefined);
      assert.deepEqual(seen, [[Value.I32(1)], [Value.I64(2n), Value.f64(3)], []]);
    });

    it('may ask for one memory twice', () => {
      const { call } = guest({
        backend,
        memory: { initial: 1 },
        wat: `(module (import "env" "memory" (memory $a 1)) (import "env" "memory" (memory $b 1))
          (func (export "f") (result i32)
            (i32.store 0 (i32.const 8) (i32.const 11)) (i32.load 1 (i32.const 8))))`,
      });
      assert.deepEqual(call('f'), Value.I32(11));
    });

    it('come in any order and number', () => {
      const names = Array.from({ length: 60 }, (_, i) => `f${i}`);
      const { call } = guest({
        backend,
        imports: Object.fromEntries(
          names.toReversed().map((name) => [`env.${name}`, () => Value.I32(Number(name.slice(1)))]),
        ),
        wat: `(module
          ${names.map((name) => `(import "env" "${name}" (func $${name} (result i32)))`).join('\n')}
          ${names.map((name) => `(func (export "${name}") (result i32) (call $${name}))`).join('\n')})`,
      });
      for (const [i, name] of names.entries()) assert.deepEqual(call(name), Value.I32(i));
    });

    it('may be fewer than what the environment has', () => {
      const { call } = guest({
        backend,
        memory: { initial: 1 },
        imports: { 'env.unused': () => undefined, 'env.used': () => Value.I32(1) },
        wat: `(module (import "env" "used" (func $used (result i32)))
          (func (export "f") (result i32) (call $used)))`,
      });
      assert.deepEqual(call('f'), Value.I32(1));
    });

    it('take the last of several entries of one name', () => {
      const components = new SandboxComponents<unknown>(backend);
      const supervisor = new JsSupervisor();
      const first = supervisor.define(() => Value.I32(1));
      const second = supervisor.define(() => Value.I32(2));
      const raw = new EnvironmentDefinitionBuilder()
        .addHostFunc('env', 'f', funcIndex(first))
        .addHostFunc('env', 'f', funcIndex(second))
        .encode();
      const index = components
        .instantiate(
          Instantiate.Version1,
          wat('(module (import "env" "f" (func (result i32))) (export "f" (func 0)))'),
          GuestEnvironment.decode(components, raw),
          supervisor,
        )
        .register(components, undefined);
      assert.deepEqual(components.instance(index).invoke('f', [], supervisor), Value.I32(2));
    });

    it('keep a function and a memory of one name apart', () => {
      const components = new SandboxComponents<unknown>(backend);
      const supervisor = new JsSupervisor();
      const f = supervisor.define(() => undefined);
      const memory = components.newMemory(1);
      const kindOf = (source: string, functions: Record<string, number>, memories: Record<string, number>) =>
        caught(InstantiationError, () =>
          components.instantiate(
            Instantiate.Version1,
            wat(source),
            environment(components, functions, memories),
            supervisor,
          ),
        ).kind;
      assert.equal(kindOf('(module (import "env" "x" (func)))', {}, { 'env.x': memory }), 'Instantiation');
      assert.equal(kindOf('(module (import "env" "x" (memory 1)))', { 'env.x': f }, {}), 'ModuleDecoding');
      components.instantiate(
        Instantiate.Version1,
        wat('(module (import "env" "x" (func)) (import "env" "x" (memory 1)))'),
        environment(components, { 'env.x': f }, { 'env.x': memory }),
        supervisor,
      );
    });

    it('link a function index that the supervisor does not know, which traps when it is called', () => {
      const components = new SandboxComponents<unknown>(backend);
      const supervisor = new JsSupervisor();
      const index = components
        .instantiate(
          Instantiate.Version1,
          wat(`(module (import "env" "f" (func $f)) (func (export "call") (call $f))
            (func (export "seven") (result i32) (i32.const 7)))`),
          environment(components, { 'env.f': 99 }),
          supervisor,
        )
        .register(components, undefined);
      const instance = components.instance(index);
      assert.throws(() => instance.invoke('call', [], supervisor), /99/);
      assert.deepEqual(instance.invoke('seven', [], supervisor), Value.I32(7));
    });
  });
});
