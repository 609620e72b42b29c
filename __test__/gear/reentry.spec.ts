// What a supervisor function may do while a guest is waiting for it: memory, globals, nested calls, new guests.
// The start function has the same rights, see start.spec.ts; teardown inside a call is in lifetime.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  JsSupervisor,
  NoExportError,
  type SandboxBackend,
  SandboxComponents,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend, otherThan } from '../support/engines';
import { argumentError, caught, causedBy, supervisorTrap } from '../support/expect';
import { type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor, sixSteps } from '../support/protocol';

const PAGE = 65536;

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (global $counter (export "counter") (mut i32) (i32.const 5))
  (func (export "run") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 77))
    (global.set $counter (i32.const 6))
    (call $ask (local.get 0)))
  (func (export "sum after") (param i32) (result i32)
    (i32.add (call $ask (local.get 0))
             (i32.add (global.get $counter) (i32.load8_u (i32.const 20)))))
  (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "size after") (param i32) (result i32)
    (drop (call $ask (local.get 0)))
    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const ${PAGE})) (i32.const 1)) (i32.const 9))
    (memory.size))
  (func (export "trap") unreachable)
  (func (export "factorial") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0))
      (then (i32.const 1))
      (else (i32.mul (local.get 0) (call $ask (i32.sub (local.get 0) (i32.const 1))))))))`;

const number = (value: unknown) => (value as { value: number }).value;

describe('Inside a supervisor call', () => {
  forEachBackend((backend) => {
    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      describe(`under Version${version}`, () => inside(backend, version));
    }
  });
});

function inside(backend: SandboxBackend, version: Instantiate): void {
  function build(ask: GuestFunction, components = new SandboxComponents<unknown>(backend)) {
    return guest({
      backend,
      version,
      components,
      memory: { initial: 1, maximum: 10 },
      imports: { 'env.ask': ask },
      wat: GUEST,
    });
  }

  it('the memory can be read', () => {
    const { call, memory } = build((_args, guestCall) => {
      assert.deepEqual(guestCall.memory?.read(16, 1), Uint8Array.of(77));
      const dest = new Uint8Array(1);
      memory.readInto(16, dest);
      assert.equal(new Uint8Array(memory.buffer)[16], 77);
      return Value.I32(dest[0]);
    });
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(77));
  });

  it('the memory can be written', () => {
    const { call, memory } = build(() => {
      memory.writeFrom(20, Uint8Array.of(100));
      return Value.I32(1);
    });
    assert.deepEqual(call('sum after', Value.I32(0)), Value.I32(106));
  });

  it('the memory can be written through a view', () => {
    const { call, memory } = build(() => {
      new Uint8Array(memory.buffer)[20] = 50;
      view[20] += 1;
      return Value.I32(1);
    });
    const view = new Uint8Array(memory.buffer);
    assert.deepEqual(call('sum after', Value.I32(0)), Value.I32(57));
  });

  it('the memory can grow, and the guest goes on in the larger one', () => {
    const { call, memory } = build((_args, guestCall) => {
      assert.equal(guestCall.memory?.memoryGrow(2), 1);
      assert.equal(memory.memorySize(), 3);
      return Value.I32(0);
    });
    assert.deepEqual(call('size after', Value.I32(0)), Value.I32(3));
    assert.deepEqual(memory.read(3 * PAGE - 1, 1), Uint8Array.of(9));
  });

  it('the memory cannot grow beyond its maximum, and the guest goes on', () => {
    const { call, memory } = build(() => {
      assert.throws(() => memory.memoryGrow(10), /Cannot grow memory/);
      return Value.I32(0);
    });
    assert.deepEqual(call('size after', Value.I32(0)), Value.I32(1));
  });

  it('globals can be read', () => {
    const { call, instance } = build((_args, guestCall) => {
      assert.deepEqual(guestCall.instance?.getGlobalVal('counter'), Value.I32(6));
      assert.deepEqual(instance.signalHandlerGetGlobalVal('counter'), Value.I32(6));
      return instance.getGlobalVal('counter');
    });
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(6));
  });

  it('globals can be written', () => {
    const { call, instance } = build((_args, guestCall) => {
      assert.equal(instance.setGlobalVal('counter', Value.I32(40)), true);
      assert.deepEqual(guestCall.instance?.getGlobalVal('counter'), Value.I32(40));
      assert.equal(guestCall.instance?.signalHandlerSetGlobalVal('counter', Value.I32(50)), true);
      return Value.I32(1);
    });
    assert.deepEqual(call('sum after', Value.I32(0)), Value.I32(51));
  });

  it('exports can be listed', () => {
    const { call, instance } = build(() => Value.I32(instance.exports.length));
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(instance.exports.length));
  });

  it('the running guest can be called', () => {
    const { call, supervisor } = build(
      ([n], guestCall) => guestCall.instance?.invoke('double', [n], supervisor) as Value,
    );
    assert.deepEqual(call('run', Value.I32(21)), Value.I32(42));
  });

  it('the running guest can be called through any handle', () => {
    const components = new SandboxComponents<unknown>(backend);
    const { call } = build(
      ([n]) => components.instance(0).invoke('double', [n], new JsSupervisor()) as Value,
      components,
    );
    assert.deepEqual(call('run', Value.I32(21)), Value.I32(42));
  });

  it('calls can nest a hundred deep', () => {
    let depth = 0;
    let deepest = 0;
    const { call, supervisor } = build(([n], guestCall) => {
      deepest = Math.max(deepest, ++depth);
      const result = guestCall.instance?.invoke('factorial', [n], supervisor);
      depth--;
      return result as Value;
    });
    assert.deepEqual(call('factorial', Value.I32(10)), Value.I32(3628800));
    assert.equal(deepest, 10);
    call('factorial', Value.I32(100));
    assert.equal(deepest, 100);
  });

  it('each nested call asks the supervisor that it was given', () => {
    const trace: string[] = [];
    const supervisorOf = (name: string) => {
      const supervisor = new JsSupervisor();
      supervisor.define(([n], guestCall) => {
        trace.push(`${name} ${number(n)}`);
        if (number(n) === 0) return Value.I32(0);
        const other = name === 'a' ? b : a;
        guestCall.instance?.invoke('run', [Value.I32(number(n) - 1)], other);
        trace.push(`${name} again`);
        return guestCall.instance?.invoke('double', [n], other) as Value;
      });
      return supervisor;
    };
    const a = supervisorOf('a');
    const b = supervisorOf('b');
    const { instance } = build(() => Value.I32(0));
    assert.deepEqual(instance.invoke('run', [Value.I32(2)], a), Value.I32(4));
    assert.deepEqual(trace, ['a 2', 'b 1', 'a 0', 'b again', 'a again']);
  });

  it('a nested call may grow the memory', () => {
    const { call, supervisor, instance, memory } = build(() => {
      const view = new Uint8Array(memory.buffer);
      assert.deepEqual(instance.invoke('grow', [Value.I32(4)], supervisor), Value.I32(1));
      assert.equal(view.length, 0);
      return Value.I32(0);
    });
    assert.deepEqual(call('size after', Value.I32(0)), Value.I32(5));
    assert.deepEqual(memory.read(5 * PAGE - 1, 1), Uint8Array.of(9));
  });

  it('a nested call may trap and be caught', () => {
    const { call, supervisor, instance } = build(() => {
      const error = caught(TrapError, () => instance.invoke('trap', [], supervisor));
      assert.equal(error.trap, 'unreachable');
      return instance.invoke('double', [Value.I32(4)], supervisor) as Value;
    });
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(8));
  });

  it('a nested call may trap and take the outer one along', () => {
    const { call, supervisor, instance } = build(() => instance.invoke('trap', [], supervisor) as Value);
    const error = supervisorTrap(() => call('run', Value.I32(0)));
    assert.ok(error.cause instanceof TrapError);
    assert.equal(error.cause.trap, 'unreachable');
    assert.deepEqual(call('double', Value.I32(1)), Value.I32(2));
  });

  it('an error thrown many levels down arrives with every level as a cause', () => {
    const root = { root: true };
    const { call, supervisor } = build(([n], guestCall) => {
      if (number(n) === 0) throw root;
      return guestCall.instance?.invoke('run', [Value.I32(number(n) - 1)], supervisor) as Value;
    });
    let error = supervisorTrap(() => call('run', Value.I32(5)));
    for (let level = 0; level < 5; level++) {
      assert.ok(error.cause instanceof TrapError);
      error = error.cause;
    }
    causedBy(error, root);
    assert.deepEqual(call('double', Value.I32(1)), Value.I32(2));
  });

  it('a nested call may fail for its arguments', () => {
    const { call, supervisor, instance } = build(() => {
      caught(NoExportError, () => instance.invoke('nothing', [], supervisor));
      argumentError('args', () => instance.invoke('double', [], supervisor));
      argumentError('args[0]', () => instance.invoke('double', [Value.I64(1n)], supervisor));
      return Value.I32(3);
    });
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(3));
  });

  it('another guest of the same memory can be called', () => {
    const components = new SandboxComponents<unknown>(backend);
    const first = build(() => other.call('load', Value.I32(16)) as Value, components);
    const other = guest({
      backend,
      version,
      components,
      memory: first.memoryIndex,
      imports: { 'env.ask': () => Value.I32(0) },
      wat: GUEST,
    });
    assert.deepEqual(first.call('run', Value.I32(0)), Value.I32(77));
  });

  it('another guest of another memory can be called', () => {
    const components = new SandboxComponents<unknown>(backend);
    const other = build(() => Value.I32(0), components);
    const first = build(([n]) => other.call('double', n) as Value, components);
    assert.deepEqual(first.call('run', Value.I32(5)), Value.I32(10));
    assert.deepEqual(other.memory.read(16, 1), Uint8Array.of(0));
  });

  it('a guest of the other engine can be called, and call back', () => {
    const other = guest({
      backend: otherThan(backend),
      version,
      memory: { initial: 1 },
      imports: { 'env.ask': ([n]) => first.call('double', n) as Value },
      wat: GUEST,
    });
    const first = build(([n]) => other.call('run', n) as Value);
    assert.deepEqual(first.call('run', Value.I32(5)), Value.I32(10));
  });

  it('both engines trap within each other', () => {
    const other = guest({
      backend: otherThan(backend),
      version,
      memory: { initial: 1 },
      imports: { 'env.ask': () => first.call('trap') as Value },
      wat: GUEST,
    });
    const first = build(([n]) => other.call('run', n) as Value);
    for (let i = 0; i < 100; i++) {
      const error = supervisorTrap(() => first.call('run', Value.I32(0)));
      const middle = error.cause as TrapError;
      assert.equal(middle.trap, 'supervisor');
      assert.equal((middle.cause as TrapError).trap, 'unreachable');
    }
    assert.deepEqual(first.call('double', Value.I32(1)), Value.I32(2));
    assert.deepEqual(other.call('double', Value.I32(1)), Value.I32(2));
  });

  it('guests can be made, run and torn down', () => {
    const components = new SandboxComponents<unknown>(backend);
    const { call } = build(([n]) => {
      const made = build(() => Value.I32(0), components);
      assert.equal(made.index, 1);
      assert.equal(made.memoryIndex, 1);
      const result = made.call('double', n) as Value;
      components.instanceTeardown(made.index);
      components.memoryTeardown(made.memoryIndex);
      return result;
    }, components);
    assert.deepEqual(call('run', Value.I32(5)), Value.I32(10));
  });

  it('a guest can be made that shares the memory of the running one', () => {
    const components = new SandboxComponents<unknown>(backend);
    const { call, memoryIndex } = build(() => {
      const made = guest({
        backend,
        version,
        components,
        memory: memoryIndex,
        imports: { 'env.ask': () => Value.I32(0) },
        wat: GUEST,
      });
      return made.call('load', Value.I32(16)) as Value;
    }, components);
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(77));
    assert.deepEqual(
      components.instance(1).invoke('load', [Value.I32(16)], new JsSupervisor()),
      Value.I32(77),
    );
  });

  it('memories can be made', () => {
    const components = new SandboxComponents<unknown>(backend);
    const { call } = build(() => {
      const index = components.newMemory(1, 2);
      components.memory(index).writeFrom(0, Uint8Array.of(3));
      assert.equal(components.memory(index).memoryGrow(1), 1);
      return Value.I32(index);
    }, components);
    assert.deepEqual(call('run', Value.I32(0)), Value.I32(1));
    assert.deepEqual(components.memory(1).read(0, 1), Uint8Array.of(3));
  });

  it('the six steps may use memory, globals and nested calls too', () => {
    const supervisor = new ProtocolSupervisor(version);
    const made = guest({
      backend,
      version,
      memory: { initial: 1 },
      supervisor,
      imports: {
        'env.ask': ([n]) => {
          assert.deepEqual(made.memory.read(16, 1), Uint8Array.of(77));
          made.memory.writeFrom(20, Uint8Array.of(1));
          assert.deepEqual(made.instance.getGlobalVal('counter'), Value.I32(6));
          made.instance.setGlobalVal('counter', Value.I32(7));
          if (number(n) > 0) made.call('run', Value.I32(number(n) - 1));
          return made.call('double', n) as Value;
        },
      },
      wat: GUEST,
    });
    assert.deepEqual(made.call('run', Value.I32(1)), Value.I32(2));
    assert.deepEqual(supervisor.steps, [...sixSteps.slice(0, 3), ...sixSteps, ...sixSteps.slice(3)]);
    assert.equal(supervisor.leaks, 0);
  });

  it('any step of the protocol may re-enter the guest', () => {
    const { instance } = build(() => Value.I32(0));
    for (const at of sixSteps) {
      const supervisor = new ProtocolSupervisor(version).doAt(at, (run) => {
        assert.deepEqual(instance.invoke('double', [Value.I32(3)], new JsSupervisor()), Value.I32(6));
        return run();
      });
      supervisor.define(([n]) => n);
      assert.deepEqual(instance.invoke('run', [Value.I32(8)], supervisor), Value.I32(8), at);
      assert.deepEqual(supervisor.steps, sixSteps);
    }
  });
}
