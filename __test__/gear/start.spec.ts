// The start function of a guest: it may call the supervisor, and its trap is a StartTrapped.
// What a supervisor may do meanwhile is the same as in any call, except that there is no instance yet.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type Memory,
  SandboxComponents,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, causedBy } from '../support/expect';
import { type GuestFunction, guest } from '../support/guest';
import { noMemory0 } from '../support/memory0';
import { ProtocolSupervisor, sixSteps } from '../support/protocol';
import { wat } from '../support/wat';

const ASKING = `(module
  (import "env" "memory" (memory 1))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (global $answer (export "answer") (mut i32) (i32.const 0))
  (func $start
    (i32.store8 (i32.const 0) (i32.const 11))
    (global.set $answer (i32.add (call $ask (i32.const 20)) (i32.load8_u (i32.const 1)))))
  (start $start)
  (func (export "f") (result i32) (global.get $answer)))`;

describe('A start function', () => {
  forEachBackend((backend) => {
    /** The TrapError of a start function. */
    function startTrap(run: () => unknown): TrapError {
      const error = caught(InstantiationError, run);
      assert.equal(error.kind, 'StartTrapped');
      assert.equal(error.code, 'ERR_SANDBOX_INSTANTIATION');
      assert.ok(error.cause instanceof TrapError);
      return error.cause;
    }

    const asking = (ask: GuestFunction, version?: Instantiate) =>
      guest({
        backend,
        memory: { initial: 1 },
        imports: { 'env.ask': ask },
        wat: ASKING,
        ...(version === undefined ? {} : { version }),
      });

    it('runs when the guest is instantiated', () => {
      const { call } = guest({
        backend,
        wat: `(module (global $n (mut i32) (i32.const 0))
          (func $start (global.set $n (i32.add (global.get $n) (i32.const 1)))) (start $start)
          (func (export "n") (result i32) (global.get $n)))`,
      });
      assert.deepEqual(call('n'), Value.I32(1));
      assert.deepEqual(call('n'), Value.I32(1));
    });

    it('calls the supervisor and gets its answer', () => {
      let seen: Value[] = [];
      const { call } = asking((args) => {
        seen = args;
        return Value.I32(22);
      });
      assert.deepEqual(seen, [Value.I32(20)]);
      assert.deepEqual(call('f'), Value.I32(22));
    });

    it('speaks the six-step protocol', () => {
      const supervisor = new ProtocolSupervisor();
      const { call } = guest({
        backend,
        supervisor,
        memory: { initial: 1 },
        imports: { 'env.ask': ([n]) => n },
        wat: ASKING,
      });
      assert.deepEqual(supervisor.steps, sixSteps);
      assert.equal(supervisor.leaks, 0);
      assert.deepEqual(call('f'), Value.I32(20));
    });

    it('has no instance yet, but an imported memory', () => {
      const { call } = asking((_args, { instance, memory }) => {
        assert.equal(instance, undefined);
        assert.deepEqual(memory?.read(0, 1), Uint8Array.of(11));
        memory?.writeFrom(1, Uint8Array.of(5));
        return Value.I32(1);
      });
      assert.deepEqual(call('f'), Value.I32(6));
    });

    for (const [what, memory] of [
      ['it exports', '(memory (export "memory") 3)'],
      ['is its own', '(memory 3)'],
    ]) {
      it(`has the guest's memory, which ${what}`, { skip: noMemory0 }, () => {
        let pages: number | undefined;
        guest({
          backend,
          imports: {
            'env.ask': (_args, call) => {
              pages = call.memory?.memorySize();
              return undefined;
            },
          },
          wat: `(module (import "env" "ask" (func $ask)) ${memory} (start $ask))`,
        });
        assert.equal(pages, 3);
      });
    }

    it('has no memory when the guest has none', { skip: noMemory0 }, () => {
      let memory: Memory | undefined | null = null;
      guest({
        backend,
        imports: {
          'env.ask': (_args, call) => {
            memory = call.memory;
            return undefined;
          },
        },
        wat: '(module (import "env" "ask" (func $ask)) (start $ask))',
      });
      assert.equal(memory, undefined);
    });

    it('may be an import itself', () => {
      let calls = 0;
      guest({
        backend,
        imports: {
          'env.ask': () => {
            calls++;
            return undefined;
          },
        },
        wat: '(module (import "env" "ask" (func $ask)) (start $ask))',
      });
      assert.equal(calls, 1);
    });

    it('lets the supervisor use the memory through any handle, with growth and views', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memoryIndex = components.newMemory(1, 4);
      const { call } = guest({
        backend,
        components,
        memory: memoryIndex,
        imports: {
          'env.ask': () => {
            const memory = components.memory(memoryIndex);
            const before = new Uint8Array(memory.buffer);
            assert.equal(before[0], 11);
            assert.equal(memory.memoryGrow(1), 1);
            assert.equal(before.length, 0);
            new Uint8Array(memory.buffer)[1] = 30;
            return Value.I32(memory.memorySize());
          },
        },
        wat: ASKING,
      });
      assert.deepEqual(call('f'), Value.I32(32));
    });

    it('lets the supervisor call another guest of the same memory, and its globals', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memoryIndex = components.newMemory(1);
      const helper = guest({
        backend,
        components,
        memory: memoryIndex,
        wat: `(module (import "env" "memory" (memory 1))
          (global $g (export "g") (mut i32) (i32.const 1))
          (func (export "read") (result i32) (i32.add (global.get $g) (i32.load8_u (i32.const 0)))))`,
      });
      const { call } = guest({
        backend,
        components,
        memory: memoryIndex,
        imports: {
          'env.ask': () => {
            assert.deepEqual(helper.instance.getGlobalVal('g'), Value.I32(1));
            helper.instance.setGlobalVal('g', Value.I32(100));
            return helper.call('read') as Value;
          },
        },
        wat: ASKING,
      });
      assert.deepEqual(call('f'), Value.I32(111));
    });

    it('lets the supervisor call a guest of other components', () => {
      const helper = guest({ backend, wat: '(module (func (export "three") (result i32) (i32.const 3)))' });
      const { call } = asking(() => helper.call('three') as Value);
      assert.deepEqual(call('f'), Value.I32(3));
    });

    it('lets the supervisor instantiate another guest', () => {
      const components = new SandboxComponents<unknown>(backend);
      const { call } = guest({
        backend,
        components,
        memory: { initial: 1 },
        imports: {
          'env.ask': () =>
            guest({
              backend,
              components,
              wat: '(module (func (export "four") (result i32) (i32.const 4)))',
            }).call('four') as Value,
        },
        wat: ASKING,
      });
      assert.deepEqual(call('f'), Value.I32(4));
    });

    it('lets the supervisor tear its memory down and clear everything', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memoryIndex = components.newMemory(1);
      const { call, index } = guest({
        backend,
        components,
        memory: memoryIndex,
        imports: {
          'env.ask': (_args, { memory }) => {
            components.memoryTeardown(memoryIndex);
            components.clear();
            memory?.writeFrom(1, Uint8Array.of(2));
            return Value.I32(40);
          },
        },
        wat: ASKING,
      });
      assert.equal(index, 0);
      assert.deepEqual(call('f'), Value.I32(42));
    });

    it('traps with StartTrapped, and the trap is the cause', () => {
      const trap = startTrap(() =>
        guest({ backend, wat: '(module (func $start unreachable) (start $start))' }),
      );
      assert.equal(trap.trap, 'unreachable');
      const other = startTrap(() =>
        guest({
          backend,
          wat: '(module (func $start (drop (i32.div_u (i32.const 1) (i32.const 0)))) (start $start))',
        }),
      );
      assert.equal(other.trap, 'integer-divide-by-zero');
    });

    it('traps with StartTrapped when its stack overflows', () => {
      const trap = startTrap(() =>
        guest({
          backend,
          wat: `(module (func $deep (result i32) (i32.add (call $deep) (i32.const 1)))
            (func $start (drop (call $deep))) (start $start))`,
        }),
      );
      assert.equal(trap.trap, 'stack-overflow');
    });

    it('traps when the supervisor throws, which is found as the cause of the trap', () => {
      for (const thrown of [new Error('from the start'), 'a string', 7, undefined, null]) {
        const trap = startTrap(() =>
          asking(() => {
            throw thrown;
          }),
        );
        assert.equal(trap.trap, 'supervisor');
        causedBy(trap, thrown);
        assert.equal(trap.message, thrown instanceof Error ? thrown.message : String(thrown));
      }
    });

    it('traps with the message of the failing step of the protocol', () => {
      const thrown = new Error('no memory');
      const supervisor = new ProtocolSupervisor().failAt('allocate arguments', thrown);
      const trap = startTrap(() =>
        guest({
          backend,
          supervisor,
          memory: { initial: 1 },
          imports: { 'env.ask': ([n]) => n },
          wat: ASKING,
        }),
      );
      assert.equal(trap.message, "Can't allocate memory in supervisor for the arguments");
      causedBy(trap, thrown);
    });

    it('leaves components and memory usable when it traps', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memoryIndex = components.newMemory(1);
      const trapping = wat(`(module (import "env" "memory" (memory 1))
        (func $start (i32.store8 (i32.const 3) (i32.const 9)) unreachable) (start $start))`);
      const supervisor = new JsSupervisor();
      for (let i = 0; i < 3; i++) {
        startTrap(() =>
          components.instantiate(
            Instantiate.Version1,
            trapping,
            environment(components, {}, { 'env.memory': memoryIndex }),
            supervisor,
          ),
        );
      }
      assert.deepEqual(components.memory(memoryIndex).read(3, 1), Uint8Array.of(9));
      const { call, index } = guest({
        backend,
        components,
        memory: memoryIndex,
        wat: `(module (import "env" "memory" (memory 1))
          (func (export "read") (result i32) (i32.load8_u (i32.const 3))))`,
      });
      assert.equal(index, 0);
      assert.deepEqual(call('read'), Value.I32(9));
    });

    it('lets the supervisor catch the trap of a nested start function', () => {
      const { call } = asking(() => {
        startTrap(() => guest({ backend, wat: '(module (func $s unreachable) (start $s))' }));
        return Value.I32(8);
      });
      assert.deepEqual(call('f'), Value.I32(8));
    });

    it('runs under Version2 too, when it does not call the supervisor', () => {
      const { call } = guest({
        backend,
        version: Instantiate.Version2,
        wat: `(module (global (export "gear_gas") (mut i64) (i64.const 5))
          (global $n (mut i32) (i32.const 0)) (func $s (global.set $n (i32.const 1))) (start $s)
          (func (export "n") (result i32) (global.get $n)))`,
      });
      assert.deepEqual(call('n'), Value.I32(1));
    });

    // The reference panics here on wasmi and traps on wasmer. Either outcome below is fine, a crash is not.
    it('gets its gas, or traps for want of it, when it calls the supervisor under Version2', () => {
      let gas: bigint | undefined;
      try {
        guest({
          backend,
          version: Instantiate.Version2,
          imports: {
            'env.ask': (_args, call) => {
              gas = call.gas;
              return undefined;
            },
          },
          wat: `(module (import "env" "ask" (func $ask))
            (global (export "gear_gas") (mut i64) (i64.const 5)) (start $ask))`,
        });
        assert.equal(gas, 5n);
      } catch (error) {
        const trap = startTrap(() => {
          throw error;
        });
        assert.equal(trap.message, 'Cannot get gas global from store environment');
      }
    });
  });
});
