// SandboxHost under the real client: a supervisor in V8 whose guests are driven by the crate gear-sandbox itself. What is
// wanted here is what that crate documents. Hand-written supervisors, which can do what the crate never does, are in the
// other specs of this folder.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstantiationError, SandboxError, TrapError, Value } from '../../../index';
import { forEachBackend, otherThan } from '../../support/engines';
import { caught, sandboxError } from '../../support/expect';
import {
  GearError,
  type GearErrorName,
  type GearInstance,
  type GearMemory,
  GearSupervisor,
  RuntimeError,
  supervisorFunctions,
  supervisorImports,
} from '../../support/gear_supervisor';
import { invalidWat, wat } from '../../support/wat';

const GAS = '(global $gas (export "gear_gas") (mut i64) (i64.const 1000))';

/** A guest with gas whose export `add` calls the supervisor. */
const ADDING = `(module
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  ${GAS}
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1))))`;

const I32 = Value.I32;
const I64 = Value.I64;

/** A guest that gets all functions of the supervisor from `env`, by their names, and perhaps `env.memory`. */
function guest(gear: GearSupervisor, source: string, memory?: GearMemory): GearInstance {
  const environment = gear.environment();
  for (const name of supervisorFunctions) environment.addHostFunc('env', name, name);
  if (memory !== undefined) environment.addMemory('env', 'memory', memory);
  try {
    return gear.instance(environment, wat(source));
  } finally {
    environment.drop();
  }
}

/** The crate gives this error. */
function failsWith(variant: GearErrorName, run: () => unknown): void {
  assert.equal(caught(GearError, run).variant, variant);
}

/** The guest trapped: the crate gives `Execution`, and the host knows why. */
function trapsIn(gear: GearSupervisor, run: () => unknown): TrapError {
  failsWith('Execution', run);
  const { lastError } = gear.host;
  assert.ok(lastError instanceof TrapError, `expected a TrapError, got ${lastError}`);
  return lastError;
}

/** The supervisor itself traps. */
function supervisorTraps(run: () => unknown): void {
  caught(RuntimeError, run);
}

/** Guests can be made, call and are called. */
function works(gear: GearSupervisor): void {
  const made = guest(gear, ADDING);
  assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
  assert.equal(made.gas, 990n);
  made.drop();
}

describe('A supervisor built from the crate gear-sandbox 1.10.0', () => {
  forEachBackend((backend) => {
    /** A test with a supervisor of its own, and what must be true of all of them. */
    function scenario(
      title: string,
      test: (gear: GearSupervisor) => void,
      { trapsItself = false }: { trapsItself?: boolean } = {},
    ): void {
      it(title, () => {
        const gear = new GearSupervisor(backend);
        const before = gear.allocatedBlocks;
        test(gear);
        works(gear);
        gear.dropAll();
        // What a trap left on the supervisor's stack nobody frees or drops.
        if (trapsItself) return;
        assert.deepEqual(gear.alive, [], 'nothing is left in the host');
        assert.equal(gear.allocatedBlocks, before, 'nothing is left in the memory of the supervisor');
      });
    }
    const trapsItself = { trapsItself: true };

    it('imports nothing but functions of a SandboxHost: all but the older instantiate', () => {
      const { env } = new GearSupervisor(backend).host.imports;
      const imports = supervisorImports();
      for (const { module, name, kind } of imports) {
        assert.deepEqual([module, kind], ['env', 'function'], name);
        assert.equal(typeof env[name as keyof typeof env], 'function', name);
      }
      const imported = imports.map(({ name }) => name);
      assert.equal(new Set(imported).size, imported.length);
      const others = Object.keys(env).filter((name) => !imported.includes(name));
      assert.deepEqual(others, ['ext_sandbox_instantiate_version_1']);
    });

    describe('has memories that', () => {
      scenario('have the size that was asked for', (gear) => {
        assert.equal(gear.memory(0).size, 0);
        assert.equal(gear.memory(1).size, 1);
        assert.equal(gear.memory(2, 2).size, 2);
        assert.equal(gear.memory(1, 65_536).size, 1);
        assert.deepEqual(gear.alive, ['memory 0', 'memory 1', 'memory 2', 'memory 3']);
      });

      scenario('are zeroed', (gear) => {
        assert.deepEqual(gear.memory(1).read(0, 65_536), new Uint8Array(65_536));
      });

      scenario('can be written and read', (gear) => {
        const memory = gear.memory(1);
        memory.write(7, Uint8Array.of(1, 2, 3));
        assert.deepEqual(memory.read(6, 5), Uint8Array.of(0, 1, 2, 3, 0));
        memory.write(65_535, Uint8Array.of(255));
        assert.deepEqual(memory.read(65_534, 2), Uint8Array.of(0, 255));
        memory.write(65_536, new Uint8Array(0));
        assert.deepEqual(memory.read(65_536, 0), new Uint8Array(0));
        const page = Uint8Array.from({ length: 65_536 }, (_, index) => index % 251);
        memory.write(0, page);
        assert.deepEqual(memory.read(0, 65_536), page);
        assert.deepEqual(memory.read(1, 65_535), page.subarray(1));
      });

      scenario('have bounds', (gear) => {
        const memory = gear.memory(1);
        memory.write(65_532, Uint8Array.of(1, 2, 3, 4));
        for (const offset of [65_533, 65_536, 65_537, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
          failsWith('OutOfBounds', () => memory.read(offset, 4));
          failsWith('OutOfBounds', () => memory.write(offset, Uint8Array.of(5, 6, 7, 8)));
        }
        failsWith('OutOfBounds', () => memory.read(65_537, 0));
        failsWith('OutOfBounds', () => memory.write(65_537, new Uint8Array(0)));
        failsWith('OutOfBounds', () => memory.read(0, 65_537));
        assert.deepEqual(memory.read(65_532, 4), Uint8Array.of(1, 2, 3, 4));
      });

      scenario('can grow', (gear) => {
        const memory = gear.memory(1);
        memory.write(65_535, Uint8Array.of(9));
        assert.equal(memory.grow(2), 1);
        assert.equal(memory.grow(0), 3);
        assert.equal(memory.size, 3);
        memory.write(196_607, Uint8Array.of(8));
        assert.deepEqual(memory.read(65_535, 2), Uint8Array.of(9, 0));
        assert.deepEqual(memory.read(196_607, 1), Uint8Array.of(8));
      });

      scenario('are read and written as they are after they have grown', (gear) => {
        const memory = gear.memory(1);
        for (let pages = 1; pages < 4; pages += 1) {
          for (let index = 0; index < 20; index += 1) {
            memory.write(pages * 65_536 - 20 + index, Uint8Array.of(index));
            assert.deepEqual(memory.read(pages * 65_536 - 20 + index, 1), Uint8Array.of(index));
            failsWith('OutOfBounds', () => memory.read(pages * 65_536, 1));
            failsWith('OutOfBounds', () => memory.write(pages * 65_536, Uint8Array.of(1)));
          }
          memory.grow(1);
          assert.deepEqual(memory.read(pages * 65_536 - 1, 2), Uint8Array.of(19, 0));
        }
      });

      scenario(
        'grow to their maximum and no further, or the supervisor traps',
        (gear) => {
          const memory = gear.memory(1, 3);
          assert.equal(memory.grow(1), 1);
          caught(SandboxError, () => memory.grow(2));
          caught(SandboxError, () => memory.grow(0xffff_ffff));
          assert.equal(memory.size, 2);
          assert.equal(memory.grow(1), 2);
          assert.equal(memory.size, 3);
        },
        trapsItself,
      );

      scenario('are not too large, or the supervisor traps', (gear) => {
        caught(SandboxError, () => gear.memory(65_537));
        caught(SandboxError, () => gear.memory(0xffff_fffe));
        caught(SandboxError, () => gear.memory(1, 65_537));
        caught(SandboxError, () => gear.memory(2, 1));
        assert.deepEqual(gear.alive, []);
        const memory = gear.memory(1, 2);
        memory.write(0, Uint8Array.of(1));
        assert.deepEqual(memory.read(0, 1), Uint8Array.of(1));
      });

      scenario('can be cloned, and go with the last clone', (gear) => {
        const memory = gear.memory(1);
        const clone = memory.clone();
        memory.write(3, Uint8Array.of(4));
        assert.deepEqual(clone.read(3, 1), Uint8Array.of(4));
        assert.equal(clone.grow(1), 1);
        assert.equal(memory.size, 2);
        memory.drop();
        assert.deepEqual(gear.alive, ['memory 0']);
        const another = clone.clone();
        clone.drop();
        assert.deepEqual(another.read(3, 1), Uint8Array.of(4));
        another.drop();
        assert.deepEqual(gear.alive, []);
      });

      scenario('have an address, each its own and each clone the same', (gear) => {
        const memory = gear.memory(1);
        const other = gear.memory(1);
        assert.notEqual(memory.buff, 0n);
        assert.notEqual(other.buff, 0n);
        assert.notEqual(memory.buff, other.buff);
        assert.equal(memory.clone().buff, memory.buff);
        memory.write(0, Uint8Array.of(1));
        assert.equal(memory.buff, memory.clone().buff);
      });

      scenario('their guests share with it', (gear) => {
        const memory = gear.memory(1, 4);
        const source = `(module
          (import "env" "memory" (memory 1))
          (data (i32.const 16) "abc")
          (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`;
        const [one, two] = [guest(gear, source, memory), guest(gear, source, memory)];
        assert.deepEqual(memory.read(16, 3), Uint8Array.of(97, 98, 99));
        one.invoke('store', I32(100), I32(0x04030201));
        assert.deepEqual(memory.read(100, 4), Uint8Array.of(1, 2, 3, 4));
        memory.write(100, Uint8Array.of(5, 0, 0, 0));
        assert.deepEqual(two.invoke('load', I32(100)), I32(5));
        assert.deepEqual(two.invoke('grow', I32(1)), I32(1));
        assert.equal(memory.size, 2);
        memory.write(131_068, Uint8Array.of(6, 0, 0, 0));
        assert.deepEqual(one.invoke('load', I32(131_068)), I32(6));
        assert.equal(memory.grow(1), 2);
        assert.deepEqual(two.invoke('grow', I32(1)), I32(3));
        assert.deepEqual(two.invoke('grow', I32(1)), I32(-1));
        assert.equal(memory.size, 4);
      });
    });

    describe('has environments that', () => {
      scenario('give guests functions and memories, by any names', (gear) => {
        const memory = gear.memory(1);
        memory.write(4, Uint8Array.of(1, 0, 0, 0));
        const environment = gear
          .environment()
          .addMemory('', 'speicher', memory)
          .addHostFunc('größe', 'δ', 'sub')
          .addHostFunc('', '', 'add')
          .addHostFunc('a', 'not imported', 'fail');
        const made = gear.instance(
          environment,
          wat(`(module
            (import "größe" "δ" (func $sub (param i64 i64) (result i64)))
            (import "" "" (func $add (param i32 i32) (result i32)))
            (import "" "speicher" (memory 1))
            ${GAS}
            (func (export "run") (result i32)
              (call $add (i32.load (i32.const 4)) (i32.wrap_i64 (call $sub (i64.const 50) (i64.const 9))))))`),
        );
        assert.deepEqual(made.invoke('run'), I32(42));
      });

      scenario('can be used for many guests, and are not needed by them', (gear) => {
        const environment = gear.environment().addHostFunc('env', 'add', 'add');
        const one = gear.instance(environment, wat(ADDING));
        const two = gear.instance(environment, wat(ADDING));
        environment.drop();
        assert.deepEqual(one.invoke('add', I32(1), I32(2)), I32(3));
        assert.deepEqual(two.invoke('add', I32(3), I32(4)), I32(7));
        assert.deepEqual([one.gas, two.gas], [990n, 990n]);
        one.drop();
        assert.deepEqual(gear.alive, ['instance 1']);
        assert.deepEqual(two.invoke('add', I32(5), I32(6)), I32(11));
      });

      scenario('keep their memories, as their guests do', (gear) => {
        const memory = gear.memory(1);
        memory.write(0, Uint8Array.of(7));
        const environment = gear.environment().addMemory('env', 'memory', memory);
        memory.drop();
        assert.deepEqual(gear.alive, ['memory 0']);
        const made = gear.instance(
          environment,
          wat(`(module (import "env" "memory" (memory 1))
            (func (export "load") (result i32) (i32.load8_u (i32.const 0))))`),
        );
        environment.drop();
        assert.deepEqual(gear.alive, ['memory 0', 'instance 0']);
        assert.deepEqual(made.invoke('load'), I32(7));
        made.drop();
        assert.deepEqual(gear.alive, []);
      });
    });

    describe('makes instances:', () => {
      scenario('each with an address of its own', (gear) => {
        const made = Array.from({ length: 5 }, () => guest(gear, '(module)'));
        const addresses = made.map(({ ptr }) => ptr);
        assert.equal(new Set(addresses).size, made.length);
        assert.ok(!addresses.includes(0n));
        assert.deepEqual(
          made.map(({ ptr }) => ptr),
          addresses,
        );
        made[0].drop();
        const later = guest(gear, '(module)').ptr;
        assert.ok(!addresses.slice(1).includes(later));
      });

      scenario('with exactly one teardown', (gear) => {
        const made = guest(gear, ADDING);
        const other = guest(gear, ADDING);
        assert.deepEqual(gear.alive, ['instance 0', 'instance 1']);
        made.drop();
        assert.deepEqual(gear.alive, ['instance 1']);
        other.drop();
        assert.deepEqual(gear.alive, []);
      });

      for (const [what, binary] of Object.entries({
        'empty bytes': () => new Uint8Array(0),
        garbage: () => Buffer.from('this is no WebAssembly'),
        'a truncated module': () => wat(ADDING).subarray(0, 20),
        'an invalid module': () => invalidWat('(module (func (result i32) (i64.const 0)))'),
        'a missing function': () => wat('(module (import "env" "unknown" (func)))'),
        'a function of another module': () => wat('(module (import "other" "add" (func)))'),
        'a missing memory': () => wat('(module (import "env" "unknown" (memory 0)))'),
        'a memory that is too small': () => wat('(module (import "env" "memory" (memory 2)))'),
        'a memory without the maximum that is wanted': () =>
          wat('(module (import "env" "memory" (memory 1 9)))'),
        'a memory in place of a function': () => wat('(module (import "env" "memory" (func)))'),
        'a function in place of a memory': () => wat('(module (import "env" "add" (memory 0)))'),
        'a global, which nobody can give': () => wat('(module (import "env" "add" (global i32)))'),
        'a data segment out of bounds': () =>
          wat('(module (import "env" "memory" (memory 1)) (data (i32.const 65535) "ab"))'),
      })) {
        scenario(`Module for ${what}`, (gear) => {
          const environment = gear
            .environment()
            .addHostFunc('env', 'add', 'add')
            .addMemory('env', 'memory', gear.memory(1));
          failsWith('Module', () => gear.instance(environment, binary()));
          assert.ok(gear.host.lastError instanceof InstantiationError);
          assert.notEqual(gear.host.lastError.kind, 'StartTrapped');
          assert.deepEqual(gear.alive, ['memory 0']);
          const good = gear.instance(environment, wat(ADDING));
          assert.deepEqual(good.invoke('add', I32(20), I32(22)), I32(42));
        });
      }

      scenario('Execution for a start function that traps', (gear) => {
        failsWith('Execution', () => guest(gear, '(module (func $start unreachable) (start $start))'));
        const { lastError } = gear.host;
        assert.ok(lastError instanceof InstantiationError);
        assert.equal(lastError.kind, 'StartTrapped');
        assert.ok(lastError.cause instanceof TrapError);
        assert.equal(lastError.cause.trap, 'unreachable');
        assert.deepEqual(gear.alive, []);
      });

      scenario('whose start function can call the supervisor', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "add" (func $add (param i32 i32) (result i32)))
            ${GAS}
            (global $sum (export "sum") (mut i32) (i32.const 0))
            (func $start (global.set $sum (call $add (i32.const 30) (i32.const 12))))
            (start $start))`,
        );
        assert.equal(gear.calls, 1);
        assert.deepEqual(made.getGlobal('sum'), I32(42));
        assert.equal(made.gas, 990n);
      });

      scenario('Execution for a start function whose call fails', (gear) => {
        const source = `(module (import "env" "fail" (func $fail)) ${GAS} (func $start (call $fail)) (start $start))`;
        failsWith('Execution', () => guest(gear, source));
        assert.equal(gear.calls, 1);
        assert.deepEqual(gear.alive, []);
      });

      scenario('with imports of one function that have different types', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "nothing" (func $none))
            (import "env" "nothing" (func $some (param f32 i64)))
            ${GAS}
            (func (export "run") (call $none) (call $some (f32.const 1) (i64.const 2))))`,
        );
        assert.equal(made.invoke('run'), undefined);
        assert.equal(gear.calls, 2);
      });
    });

    describe('invokes exports:', () => {
      const VALUES = `(module
        (global $i32 (export "i32") (mut i32) (i32.const 0))
        (global $i64 (export "i64") (mut i64) (i64.const 0))
        (global $f32 (export "f32") (mut f32) (f32.const 0))
        (global $f64 (export "f64") (mut f64) (f64.const 0))
        (memory (export "memory") 1)
        (func (export "keep") (param i32 i64 f32 f64)
          (global.set $i32 (local.get 0)) (global.set $i64 (local.get 1))
          (global.set $f32 (local.get 2)) (global.set $f64 (local.get 3)))
        (func (export "give i32") (param i32) (result i32) (local.get 0))
        (func (export "give i64") (param i64) (result i64) (local.get 0))
        (func (export "give f32") (param f32) (result f32) (local.get 0))
        (func (export "give f64") (param f64) (result f64) (local.get 0))
        (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
        (func (export "größe") (result i32) (i32.const 3))
        (func (export "") (result i32) (i32.const 4))
        (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1))))`;
      const values = [
        [
          I32(-0x8000_0000),
          I64(-0x8000_0000_0000_0000n),
          Value.F32(0x7fa0_0001),
          Value.F64(0x7ff0_0000_0000_0001n),
        ],
        [
          I32(0x7fff_ffff),
          I64(0x7fff_ffff_ffff_ffffn),
          Value.F32(0xffff_ffff),
          Value.F64(0xffff_ffff_ffff_ffffn),
        ],
        [I32(-1), I64(-1n), Value.f32(-0), Value.f64(-0)],
        [I32(0x0403_0201), I64(0x0807_0605_0403_0201n), Value.f32(1.5), Value.f64(Math.PI)],
      ];

      scenario('with arguments of all four types', (gear) => {
        const made = guest(gear, VALUES);
        for (const args of values) {
          assert.equal(made.invoke('keep', ...args), undefined);
          for (const value of args) assert.deepEqual(made.getGlobal(value.type), value);
        }
      });

      scenario('with a result of each type, NaN payloads included', (gear) => {
        const made = guest(gear, VALUES);
        for (const value of values.flat()) assert.deepEqual(made.invoke(`give ${value.type}`, value), value);
      });

      scenario('by any name', (gear) => {
        const made = guest(gear, VALUES);
        assert.deepEqual(made.invoke('größe'), I32(3));
        assert.deepEqual(made.invoke(''), I32(4));
      });

      for (const [what, name, ...args] of [
        ['a missing export', 'unknown'],
        ['an export that is no function', 'memory'],
        ['too few arguments', 'give i32'],
        ['too many arguments', 'give i32', I32(1), I32(2)],
        ['an argument of another type', 'give i32', I64(1n)],
        ['arguments in another order', 'keep', I64(1n), I32(1), Value.f32(1), Value.f64(1)],
        ['more results than a ReturnValue has room for', 'two'],
      ] as [string, string, ...Value[]][]) {
        scenario(`Execution for ${what}`, (gear) => {
          const made = guest(gear, VALUES);
          failsWith('Execution', () => made.invoke(name, ...args));
          assert.deepEqual(made.invoke('give i32', I32(8)), I32(8));
        });
      }

      scenario('Execution for a trap, after which the guest goes on', (gear) => {
        const made = guest(gear, VALUES);
        assert.equal(
          trapsIn(gear, () => made.invoke('divide', I32(1), I32(0))).trap,
          'integer-divide-by-zero',
        );
        assert.equal(
          trapsIn(gear, () => made.invoke('divide', I32(-0x8000_0000), I32(-1))).trap,
          'integer-overflow',
        );
        assert.deepEqual(made.invoke('divide', I32(7), I32(2)), I32(3));
      });
    });

    describe('has host functions:', () => {
      /** Each function of the supervisor as an export of the same name. */
      const CALLING = `(module
        (import "env" "add" (func $add (param i32 i32) (result i32)))
        (import "env" "sub" (func $sub (param i64 i64) (result i64)))
        (import "env" "nothing" (func $nothing))
        (import "env" "fail" (func $fail))
        (import "env" "abort" (func $abort))
        (import "env" "reenter" (func $reenter (param i32) (result i32)))
        (import "env" "grow" (func $grow (param i32) (result i32)))
        (import "env" "peek" (func $peek (param i32) (result i32)))
        (import "env" "floats" (func $floats (param f32 f64) (result f64)))
        (import "env" "drop_running" (func $drop_running))
        ${GAS}
        (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
        (func (export "sub") (param i64 i64) (result i64) (call $sub (local.get 0) (local.get 1)))
        (func (export "nothing") (call $nothing))
        (func (export "fail") (call $fail))
        (func (export "abort") (call $abort))
        (func (export "reenter") (param i32) (result i32) (call $reenter (local.get 0)))
        (func (export "grow") (param i32) (result i32) (call $grow (local.get 0)))
        (func (export "peek") (param i32) (result i32) (call $peek (local.get 0)))
        (func (export "floats") (param f32 f64) (result f64) (call $floats (local.get 0) (local.get 1)))
        (func (export "drop_running") (result i32) (call $drop_running) (call $add (i32.const 40) (i32.const 2))))`;

      scenario('add, which takes 10 gas', (gear) => {
        const made = guest(gear, CALLING);
        assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
        assert.equal(made.gas, 990n);
        assert.deepEqual(made.invoke('add', I32(0x7fff_ffff), I32(1)), I32(-0x8000_0000));
        assert.equal(made.gas, 980n);
        assert.equal(gear.calls, 2);
      });

      scenario('sub, which takes no gas', (gear) => {
        const made = guest(gear, CALLING);
        assert.deepEqual(made.invoke('sub', I64(1n), I64(0x1_0000_0000n)), I64(-0xffff_ffffn));
        assert.deepEqual(
          made.invoke('sub', I64(-0x8000_0000_0000_0000n), I64(1n)),
          I64(0x7fff_ffff_ffff_ffffn),
        );
        assert.equal(made.gas, 1000n);
      });

      scenario('nothing, which returns nothing', (gear) => {
        const made = guest(gear, CALLING);
        assert.equal(made.invoke('nothing'), undefined);
        assert.equal(made.gas, 1000n);
        assert.equal(gear.calls, 1);
      });

      scenario('fail, with which the guest traps', (gear) => {
        const made = guest(gear, CALLING);
        const trap = trapsIn(gear, () => made.invoke('fail'));
        assert.equal(trap.trap, 'supervisor');
        assert.equal(trap.message, 'Supervisor function returned sandbox::HostError');
        assert.equal(made.gas, 1000n);
        assert.equal(gear.calls, 1);
        assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
      });

      scenario(
        'abort, with which the supervisor traps, and so the guest',
        (gear) => {
          const made = guest(gear, CALLING);
          const trap = trapsIn(gear, () => made.invoke('abort'));
          assert.equal(trap.trap, 'supervisor');
          assert.ok(trap.cause instanceof RuntimeError);
          assert.equal(made.gas, 1000n);
          assert.equal(gear.calls, 1);
          assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
          made.drop();
          assert.deepEqual(gear.alive, []);
        },
        trapsItself,
      );

      scenario(
        'abort, in the inner call of two and in a start function, however often',
        (gear) => {
          const made = guest(gear, CALLING);
          const nested = guest(
            gear,
            `(module
              (import "env" "abort" (func $abort))
              ${GAS}
              (func (export "inner") (param i32) (result i32) (call $abort) (local.get 0)))`,
          );
          const source = `(module (import "env" "abort" (func $abort)) ${GAS} (func $start (call $abort)) (start $start))`;
          gear.exports.set_nested(nested.handle);
          for (let round = 0; round < 200; round += 1) {
            const trap = trapsIn(gear, () => made.invoke('reenter', I32(1)));
            assert.equal(trap.message, 'Supervisor function returned sandbox::HostError');
            failsWith('Execution', () => guest(gear, source));
          }
          assert.deepEqual(gear.alive, ['instance 0', 'instance 1']);
          assert.equal(gear.calls, 600);
          assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
        },
        trapsItself,
      );

      scenario('reenter, which invokes another guest', (gear) => {
        const made = guest(gear, CALLING);
        const nested = guest(
          gear,
          `(module
            (import "env" "add" (func $add (param i32 i32) (result i32)))
            ${GAS}
            (func (export "inner") (param i32) (result i32) (call $add (local.get 0) (i32.const 1))))`,
        );
        gear.exports.set_nested(nested.handle);
        assert.deepEqual(made.invoke('reenter', I32(41)), I32(42));
        assert.deepEqual([made.gas, nested.gas], [1000n, 990n]);
        assert.equal(gear.calls, 2);
      });

      scenario('reenter, which invokes the guest that is running, again and again', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "reenter" (func $reenter (param i32) (result i32)))
            ${GAS}
            (func (export "inner") (param $n i32) (result i32)
              (if (result i32) (i32.eqz (local.get $n))
                (then (i32.const 0))
                (else (i32.add
                  (local.get $n)
                  (call $reenter (i32.sub (local.get $n) (i32.const 1))))))))`,
        );
        gear.exports.set_nested(made.handle);
        assert.deepEqual(made.invoke('inner', I32(50)), I32(1275));
        assert.equal(gear.calls, 50);
      });

      scenario('reenter, which passes on that the inner guest trapped', (gear) => {
        const made = guest(gear, CALLING);
        trapsIn(gear, () => made.invoke('reenter', I32(1)));
        const nested = guest(
          gear,
          '(module (func (export "inner") (param i32) (result i32) (i32.div_u (i32.const 8) (local.get 0))))',
        );
        gear.exports.set_nested(nested.handle);
        assert.equal(
          trapsIn(gear, () => made.invoke('reenter', I32(0))).message,
          'Supervisor function returned sandbox::HostError',
        );
        assert.deepEqual(made.invoke('reenter', I32(4)), I32(2));
      });

      scenario('grow, in which the memory of the supervisor grows', (gear) => {
        const made = guest(gear, CALLING);
        for (const value of [7, -8, 9]) {
          const { pages } = gear;
          assert.deepEqual(made.invoke('grow', I32(value)), I32(value));
          assert.ok(gear.pages > pages);
        }
        assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
      });

      scenario('grow, between calls of one guest that is running', (gear) => {
        const memory = gear.memory(1);
        gear.exports.set_memory(memory.handle);
        memory.write(0, Uint8Array.of(21, 0, 0, 0));
        const made = guest(
          gear,
          `(module
            (import "env" "grow" (func $grow (param i32) (result i32)))
            (import "env" "peek" (func $peek (param i32) (result i32)))
            (import "env" "add" (func $add (param i32 i32) (result i32)))
            ${GAS}
            (func (export "run") (result i32)
              (call $add (call $peek (call $grow (i32.const 0))) (call $peek (call $grow (i32.const 0))))))`,
        );
        const { pages } = gear;
        assert.deepEqual(made.invoke('run'), I32(42));
        assert.ok(gear.pages >= pages + 2);
        assert.equal(made.gas, 990n);
      });

      scenario('peek, which reads a memory', (gear) => {
        const memory = gear.memory(1);
        gear.exports.set_memory(memory.handle);
        memory.write(65_532, Uint8Array.of(1, 2, 3, 0xff));
        const made = guest(gear, CALLING);
        assert.deepEqual(made.invoke('peek', I32(65_532)), I32(0xff03_0201 | 0));
        for (const offset of [65_533, -1]) trapsIn(gear, () => made.invoke('peek', I32(offset)));
        assert.deepEqual(made.invoke('peek', I32(0)), I32(0));
      });

      scenario('peek, which sees what the running guest has done to its memory', (gear) => {
        const memory = gear.memory(1, 40);
        gear.exports.set_memory(memory.handle);
        const made = guest(
          gear,
          `(module
            (import "env" "memory" (memory 1))
            (import "env" "peek" (func $peek (param i32) (result i32)))
            ${GAS}
            (func (export "run") (param $value i32) (result i32) (local $at i32)
              (local.set $at (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
              (i32.store (local.get $at) (local.get $value))
              (call $peek (local.get $at))))`,
          memory,
        );
        for (let value = 1; value < 40; value += 1)
          assert.deepEqual(made.invoke('run', I32(value)), I32(value));
        assert.equal(memory.size, 40);
      });

      scenario('floats, which keeps the payloads of NaNs', (gear) => {
        const made = guest(gear, CALLING);
        for (const value of values64()) {
          assert.deepEqual(made.invoke('floats', Value.F32(0x7fa0_0001), value), value);
        }
        assert.equal(made.gas, 1000n);
      });

      scenario('drop_running, which drops the guest that runs: it goes on, and is gone then', (gear) => {
        const made = guest(gear, CALLING);
        gear.exports.set_nested(made.handle);
        assert.deepEqual(made.invoke('drop_running'), I32(42));
        assert.equal(gear.calls, 2);
        assert.deepEqual(gear.alive, []);
        supervisorTraps(() => made.ptr);
        supervisorTraps(() => made.getGlobal('gear_gas'));
        sandboxError('Trying to access a torndown instance', () => gear.host.components.instance(0));
      });

      scenario('drop_running, which fails if there is no such guest', (gear) => {
        const made = guest(gear, CALLING);
        assert.equal(trapsIn(gear, () => made.invoke('drop_running')).trap, 'supervisor');
        gear.exports.set_nested(made.handle + 1);
        assert.equal(trapsIn(gear, () => made.invoke('drop_running')).trap, 'supervisor');
        assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
      });

      scenario('drop_running, which drops a guest with its memory while both are in use', (gear) => {
        const memory = gear.memory(1);
        const made = guest(
          gear,
          `(module
            (import "env" "memory" (memory 1))
            (import "env" "drop_running" (func $drop_running))
            ${GAS}
            (func (export "run") (result i32)
              (i32.store (i32.const 8) (i32.const 42))
              (call $drop_running)
              (i32.load (i32.const 8))))`,
          memory,
        );
        memory.drop();
        gear.exports.set_nested(made.handle);
        assert.deepEqual(gear.alive, ['memory 0', 'instance 0']);
        assert.deepEqual(made.invoke('run'), I32(42));
        assert.deepEqual(gear.alive, []);
      });

      scenario('drop_running, in an inner call of two', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "reenter" (func $reenter (param i32) (result i32)))
            (import "env" "drop_running" (func $drop_running))
            ${GAS}
            (func (export "outer") (result i32) (i32.add (i32.const 1) (call $reenter (i32.const 40))))
            (func (export "inner") (param i32) (result i32)
              (call $drop_running)
              (i32.add (i32.const 1) (local.get 0))))`,
        );
        gear.exports.set_nested(made.handle);
        assert.deepEqual(made.invoke('outer'), I32(42));
        assert.deepEqual(gear.alive, []);
      });

      scenario('none of which takes other arguments, or gives another result, than it wants', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "add" (func $with_f32 (param f32 f32) (result i32)))
            (import "env" "add" (func $without (result i32)))
            (import "env" "add" (func $to_i64 (param i32 i32) (result i64)))
            (import "env" "add" (func $to_nothing (param i32 i32)))
            (import "env" "nothing" (func $to_something (result i32)))
            ${GAS}
            (func (export "with f32") (drop (call $with_f32 (f32.const 1) (f32.const 2))))
            (func (export "without") (drop (call $without)))
            (func (export "to i64") (drop (call $to_i64 (i32.const 1) (i32.const 2))))
            (func (export "to nothing") (call $to_nothing (i32.const 1) (i32.const 2)))
            (func (export "to something") (drop (call $to_something))))`,
        );
        const names = ['with f32', 'without', 'to i64', 'to nothing', 'to something'];
        for (const name of names)
          assert.equal(trapsIn(gear, () => made.invoke(name)).trap, 'supervisor', name);
        assert.equal(gear.calls, names.length);
        assert.equal(made.gas, 1000n);
      });
    });

    describe('uses gas, which', () => {
      for (const [what, global] of Object.entries({
        'has no gear_gas': '',
        'exports another gear_gas': '(func (export "gear_gas"))',
        'has a gear_gas of another type': '(global (export "gear_gas") (mut i32) (i32.const 1000))',
      })) {
        scenario(`a guest that ${what} cannot pay: it traps when it calls`, (gear) => {
          const made = guest(
            gear,
            `(module
              (import "env" "nothing" (func $nothing))
              ${global}
              (func (export "call") (call $nothing))
              (func (export "seven") (result i32) (i32.const 7)))`,
          );
          trapsIn(gear, () => made.invoke('call'));
          assert.equal(gear.calls, 0);
          assert.deepEqual(made.invoke('seven'), I32(7));
        });
      }

      scenario('can be set before a call, to any i64', (gear) => {
        const made = guest(gear, ADDING);
        for (const gas of [0n, -5n, 0x7fff_ffff_ffff_ffffn, 0x1_0000_0000n]) {
          made.setGlobal('gear_gas', I64(gas));
          assert.deepEqual(made.invoke('add', I32(2), I32(3)), I32(5));
          assert.equal(made.gas, gas - 10n);
        }
        made.setGlobal('gear_gas', I64(-0x8000_0000_0000_0000n));
        made.invoke('add', I32(2), I32(3));
        assert.equal(made.gas, 0x7fff_ffff_ffff_fff6n);
      });

      scenario('goes to the supervisor as the guest left it', (gear) => {
        const made = guest(
          gear,
          `(module
            (import "env" "add" (func $add (param i32 i32) (result i32)))
            ${GAS}
            (func (export "run") (result i64)
              (global.set $gas (i64.sub (global.get $gas) (i64.const 300)))
              (drop (call $add (i32.const 1) (i32.const 2)))
              (global.get $gas)))`,
        );
        assert.deepEqual(made.invoke('run'), I64(690n));
        assert.equal(made.gas, 690n);
      });
    });

    describe('has globals, which', () => {
      const GLOBALS = `(module
        (global (export "i32") (mut i32) (i32.const -1))
        (global (export "i64") (mut i64) (i64.const -2))
        (global (export "f32") (mut f32) (f32.const 1.5))
        (global (export "f64") (mut f64) (f64.const -0.5))
        (global (export "constant") i32 (i32.const 7))
        (func (export "function")))`;

      scenario('can be read', (gear) => {
        const made = guest(gear, GLOBALS);
        assert.deepEqual(made.getGlobal('i32'), I32(-1));
        assert.deepEqual(made.getGlobal('i64'), I64(-2n));
        assert.deepEqual(made.getGlobal('f32'), Value.f32(1.5));
        assert.deepEqual(made.getGlobal('f64'), Value.f64(-0.5));
        assert.deepEqual(made.getGlobal('constant'), I32(7));
      });

      scenario('can be written', (gear) => {
        const made = guest(gear, GLOBALS);
        for (const value of [
          I32(-0x8000_0000),
          I64(0x7fff_ffff_ffff_ffffn),
          Value.F32(0x7fa0_0001),
          Value.F64(0xfff0_0000_0000_0001n),
        ]) {
          made.setGlobal(value.type, value);
          assert.deepEqual(made.getGlobal(value.type), value);
        }
      });

      scenario('are none where there is none of that name', (gear) => {
        const made = guest(gear, GLOBALS);
        for (const name of ['unknown', 'function', '']) {
          assert.equal(made.getGlobal(name), undefined);
          failsWith('NotFound', () => made.setGlobal(name, I32(1)));
        }
      });

      scenario('are not written if they are immutable or of another type', (gear) => {
        const made = guest(gear, GLOBALS);
        failsWith('Other', () => made.setGlobal('constant', I32(8)));
        failsWith('Other', () => made.setGlobal('i32', I64(8n)));
        failsWith('Other', () => made.setGlobal('f64', Value.f32(8)));
        assert.deepEqual(made.getGlobal('constant'), I32(7));
        assert.deepEqual(made.getGlobal('i32'), I32(-1));
        assert.deepEqual(made.getGlobal('f64'), Value.f64(-0.5));
      });
    });

    scenario('frees all that was allocated for a call as soon as it is over', (gear) => {
      const made = guest(
        gear,
        `(module
          (import "env" "add" (func $add (param i32 i32) (result i32)))
          (import "env" "fail" (func $fail))
          ${GAS}
          (func (export "many") (param $n i32)
            (loop $again
              (drop (call $add (i32.const 1) (i32.const 2)))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
          (func (export "fail") (call $fail)))`,
      );
      const before = gear.allocatedBlocks;
      for (let round = 0; round < 20; round += 1) {
        made.invoke('many', I32(50));
        failsWith('Execution', () => made.invoke('fail'));
        failsWith('Execution', () => made.invoke('unknown', I64(1n)));
        made.getGlobal('gear_gas');
        made.getGlobal('unknown');
        made.setGlobal('gear_gas', I64(1000n));
        assert.equal(gear.allocatedBlocks, before);
      }
      assert.equal(gear.calls, 20 * 51);
    });

    describe('does not disturb another one', () => {
      for (const [which, other] of [
        ['on the same engine', backend],
        ['on the other engine', otherThan(backend)],
      ] as const) {
        it(`${which}, side by side`, () => {
          const gears = [new GearSupervisor(backend), new GearSupervisor(other)];
          const memories = gears.map((gear) => gear.memory(1));
          const guests = gears.map((gear, index) => {
            const memory = memories[index];
            gear.exports.set_memory(memory.handle);
            memory.write(0, Uint8Array.of(index + 1, 0, 0, 0));
            return guest(
              gear,
              `(module
                (import "env" "memory" (memory 1))
                (import "env" "peek" (func $peek (param i32) (result i32)))
                (import "env" "add" (func $add (param i32 i32) (result i32)))
                ${GAS}
                (func (export "run") (param i32) (result i32)
                  (call $add (local.get 0) (call $peek (i32.const 0)))))`,
              memory,
            );
          });
          for (let round = 0; round < 10; round += 1) {
            for (const [index, made] of guests.entries()) {
              assert.deepEqual(made.invoke('run', I32(10 * round)), I32(10 * round + index + 1));
            }
          }
          guests[0].invoke('run', I32(0));
          assert.deepEqual(
            guests.map(({ gas }) => gas),
            [890n, 900n],
          );
          assert.deepEqual(
            gears.map(({ calls }) => calls),
            [22, 20],
          );
          gears[0].dropAll();
          assert.deepEqual(
            gears.map(({ alive }) => alive),
            [[], ['memory 0', 'instance 0']],
          );
          assert.deepEqual(guests[1].invoke('run', I32(40)), I32(42));
          gears[1].dropAll();
          assert.deepEqual(
            gears.map(({ allocatedBlocks }) => allocatedBlocks),
            [0, 0],
          );
        });

        it(`${which}, one in the midst of a call of the other`, () => {
          const inner = new GearSupervisor(other);
          const innerGuest = guest(inner, ADDING);
          let times = 0;
          const outer = new GearSupervisor(backend, {
            onAllocate: () => {
              times += 1;
              assert.deepEqual(innerGuest.invoke('add', I32(times), I32(1)), I32(times + 1));
              failsWith('Execution', () => innerGuest.invoke('unknown'));
            },
          });
          const outerGuest = guest(outer, ADDING);
          assert.deepEqual(outerGuest.invoke('add', I32(20), I32(22)), I32(42));
          assert.equal(times, 1);
          assert.equal(outerGuest.gas, 990n);
          // To read the gas takes an allocation, too.
          assert.equal(times, 2);
          assert.equal(innerGuest.gas, 980n);
          assert.deepEqual([outer.calls, inner.calls], [1, 2]);
          assert.equal(outer.host.lastError, undefined);
          outer.dropAll();
          inner.dropAll();
          assert.deepEqual([outer.allocatedBlocks, inner.allocatedBlocks], [0, 0]);
        });
      }

      it('when it traps', () => {
        const [one, two] = [new GearSupervisor(backend), new GearSupervisor(backend)];
        const source = `(module (import "env" "abort" (func $abort)) ${GAS} (func (export "abort") (call $abort)))`;
        const made = guest(one, source);
        trapsIn(one, () => made.invoke('abort'));
        assert.equal(two.host.lastError, undefined);
        works(two);
        works(one);
      });
    });
  });
});

/** NaNs with payloads, signalling and quiet ones, and others. */
function values64(): Value[] {
  return [
    Value.F64(0x7ff0_0000_0000_0001n),
    Value.F64(0xfff0_dead_beef_0001n),
    Value.F64(0xffff_ffff_ffff_ffffn),
    Value.F64(0x7ff8_0000_0000_0000n),
    Value.f64(-0),
    Value.f64(-2.5),
  ];
}
