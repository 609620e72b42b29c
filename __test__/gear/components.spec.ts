// SandboxComponents: the tables of memories and instances, their indices, teardown and clear().
// Contract: section 3. What is reached through a handle is in the specs of memories and instances.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  JsSupervisor,
  MEM_UNLIMITED,
  SandboxBackend,
  SandboxComponents,
  SandboxError,
  SandboxInstance,
  UnregisteredInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, sandboxError } from '../support/expect';
import { wat } from '../support/wat';

const SEVEN = '(module (func (export "seven") (result i32) (i32.const 7)))';

function unregistered(components: SandboxComponents<unknown>): UnregisteredInstance {
  return components.instantiate(
    Instantiate.Version1,
    wat(SEVEN),
    environment(components),
    new JsSupervisor(),
  );
}

function addInstance(components: SandboxComponents<unknown>, dispatchThunk?: unknown): number {
  return unregistered(components).register(components, dispatchThunk);
}

function seven(components: SandboxComponents<unknown>, index: number): void {
  assert.deepEqual(components.instance(index).invoke('seven', [], new JsSupervisor()), Value.I32(7));
}

describe('SandboxComponents', () => {
  it('names its backends', () => {
    assert.deepEqual({ ...SandboxBackend }, { Wasmi: 'wasmi', Wasmer: 'wasmer' });
  });

  it('numbers the versions and the unlimited memory as the reference does', () => {
    assert.equal(Instantiate.Version1, 1);
    assert.equal(Instantiate.Version2, 2);
    assert.equal(MEM_UNLIMITED, 0xffffffff);
  });

  forEachBackend((backend) => {
    it('knows its backend', () => {
      assert.equal(new SandboxComponents(backend).backend, backend);
    });

    it('counts memories from 0', () => {
      const components = new SandboxComponents(backend);
      assert.deepEqual(
        [components.newMemory(1, 2), components.newMemory(1), components.newMemory(0, 0)],
        [0, 1, 2],
      );
    });

    it('counts instances from 0', () => {
      const components = new SandboxComponents<unknown>(backend);
      assert.deepEqual([addInstance(components), addInstance(components)], [0, 1]);
    });

    it('counts an instance when it is registered, not when it is instantiated', () => {
      const components = new SandboxComponents<unknown>(backend);
      const first = unregistered(components);
      const second = unregistered(components);
      assert.ok(first instanceof UnregisteredInstance);
      assert.equal(second.register(components, 'second'), 0);
      assert.equal(first.register(components, 'first'), 1);
      assert.equal(components.dispatchThunk(1), 'first');
    });

    it('hands out instances', () => {
      const components = new SandboxComponents<unknown>(backend);
      const index = addInstance(components);
      assert.ok(components.instance(index) instanceof SandboxInstance);
      seven(components, index);
    });

    it('hands out the same memory object each time', () => {
      const components = new SandboxComponents<unknown>(backend);
      const index = components.newMemory(1);
      assert.equal(components.memory(index), components.memory(index));
    });

    it('keeps the dispatch thunk of each instance, whatever it is', () => {
      const components = new SandboxComponents<unknown>(backend);
      const thunks = [() => 1, { a: 1 }, 'text', 0, null, undefined, Symbol('thunk'), 5n, Number.NaN];
      const indices = thunks.map((thunk) => addInstance(components, thunk));
      for (const [i, thunk] of thunks.entries()) {
        assert.ok(Object.is(components.dispatchThunk(indices[i]), thunk));
      }
    });

    it('reports an instance that never existed', () => {
      const components = new SandboxComponents<unknown>(backend);
      for (const index of [0, 1, 0xffffffff]) {
        const message = 'Trying to access a non-existent instance';
        assert.equal(sandboxError(message, () => components.instance(index)).code, 'ERR_SANDBOX_ARGUMENT');
        assert.equal(
          sandboxError(message, () => components.dispatchThunk(index)).code,
          'ERR_SANDBOX_ARGUMENT',
        );
        assert.equal(
          sandboxError('Trying to teardown a non-existent instance', () => components.instanceTeardown(index))
            .code,
          'ERR_SANDBOX_ARGUMENT',
        );
      }
    });

    it('reports an instance that was torn down', () => {
      const components = new SandboxComponents<unknown>(backend);
      const index = addInstance(components, 'thunk');
      assert.equal(components.instanceTeardown(index), undefined);
      const message = 'Trying to access a torndown instance';
      assert.equal(sandboxError(message, () => components.instance(index)).code, 'ERR_SANDBOX_ARGUMENT');
      assert.equal(sandboxError(message, () => components.dispatchThunk(index)).code, 'ERR_SANDBOX_ARGUMENT');
      assert.equal(
        sandboxError('Double teardown of an instance', () => components.instanceTeardown(index)).code,
        'ERR_SANDBOX_ARGUMENT',
      );
    });

    it('reports a memory that never existed', () => {
      const components = new SandboxComponents<unknown>(backend);
      for (const index of [0, 1, 0xffffffff]) {
        assert.equal(
          sandboxError('Trying to access a non-existent sandboxed memory', () => components.memory(index))
            .code,
          'ERR_SANDBOX_ARGUMENT',
        );
        assert.equal(
          sandboxError('Trying to teardown a non-existent sandboxed memory', () =>
            components.memoryTeardown(index),
          ).code,
          'ERR_SANDBOX_ARGUMENT',
        );
      }
    });

    it('reports a memory that was torn down', () => {
      const components = new SandboxComponents<unknown>(backend);
      const index = components.newMemory(1);
      assert.equal(components.memoryTeardown(index), undefined);
      assert.equal(
        sandboxError('Trying to access a torndown sandboxed memory', () => components.memory(index)).code,
        'ERR_SANDBOX_ARGUMENT',
      );
      assert.equal(
        sandboxError('Double teardown of a sandboxed memory', () => components.memoryTeardown(index)).code,
        'ERR_SANDBOX_ARGUMENT',
      );
    });

    it('does not reuse the index of what was torn down', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      addInstance(components);
      components.memoryTeardown(0);
      components.instanceTeardown(0);
      assert.equal(components.newMemory(1), 1);
      assert.equal(addInstance(components), 1);
      seven(components, 1);
    });

    it('keeps the other indices stable after a teardown', () => {
      const components = new SandboxComponents<unknown>(backend);
      for (const thunk of ['a', 'b', 'c']) addInstance(components, thunk);
      components.instanceTeardown(1);
      assert.equal(components.dispatchThunk(0), 'a');
      assert.equal(components.dispatchThunk(2), 'c');
      seven(components, 2);
    });

    it('forgets everything at clear() and starts at index 0 again', () => {
      const components = new SandboxComponents<unknown>(backend);
      for (let i = 0; i < 3; i++) {
        components.newMemory(1);
        addInstance(components);
      }
      assert.equal(components.clear(), undefined);
      sandboxError('Trying to access a non-existent instance', () => components.instance(0));
      sandboxError('Trying to access a non-existent sandboxed memory', () => components.memory(0));
      assert.equal(components.newMemory(1), 0);
      assert.equal(addInstance(components), 0);
      seven(components, 0);
    });

    it('clears what is empty', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.clear();
      components.clear();
      assert.equal(components.newMemory(1), 0);
    });

    it('refuses a memory whose initial size is above its maximum', () => {
      const components = new SandboxComponents<unknown>(backend);
      caught(SandboxError, () => components.newMemory(5, 3));
      assert.equal(components.newMemory(1), 0, 'a failed memory takes no index');
    });

    it('refuses a memory larger than 32 bits can address', () => {
      const components = new SandboxComponents<unknown>(backend);
      caught(SandboxError, () => components.newMemory(65537));
      caught(SandboxError, () => components.newMemory(0xffffffff));
      assert.equal(components.newMemory(1), 0);
    });

    it('takes MEM_UNLIMITED for a missing maximum', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memory = components.memory(components.newMemory(1, MEM_UNLIMITED));
      assert.equal(memory.memoryGrow(100), 1);
    });

    it('registers an instance only once', () => {
      const components = new SandboxComponents<unknown>(backend);
      const instance = unregistered(components);
      assert.equal(instance.register(components, 1), 0);
      caught(SandboxError, () => instance.register(components, 2));
      assert.equal(components.dispatchThunk(0), 1);
      sandboxError('Trying to access a non-existent instance', () => components.instance(1));
      seven(components, 0);
    });

    it('registers an instance only in the components that made it', () => {
      const components = new SandboxComponents<unknown>(backend);
      const others = new SandboxComponents<unknown>(backend);
      const instance = unregistered(components);
      caught(SandboxError, () => instance.register(others, undefined));
      sandboxError('Trying to access a non-existent instance', () => others.instance(0));
      assert.equal(addInstance(others), 0);
      seven(others, 0);
    });

    it('registers after clear() what was instantiated before it', () => {
      const components = new SandboxComponents<unknown>(backend);
      const instance = unregistered(components);
      components.clear();
      assert.equal(instance.register(components, undefined), 0);
      seven(components, 0);
    });

    it('is empty once disposed, and can be disposed twice', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      addInstance(components);
      components[Symbol.dispose]();
      caught(SandboxError, () => components.instance(0));
      caught(SandboxError, () => components.memory(0));
      components[Symbol.dispose]();
    });

    it('is disposed at the end of a using block', () => {
      let kept: SandboxComponents<unknown>;
      {
        using components = new SandboxComponents<unknown>(backend);
        addInstance(components);
        seven(components, 0);
        kept = components;
      }
      caught(SandboxError, () => kept.instance(0));
    });

    it('lives beside other components without sharing anything', () => {
      const a = new SandboxComponents<unknown>(backend);
      const b = new SandboxComponents<unknown>(backend);
      const memoryOfA = a.memory(a.newMemory(1));
      const memoryOfB = b.memory(b.newMemory(1));
      memoryOfA.writeFrom(0, Uint8Array.of(1));
      assert.deepEqual(memoryOfB.read(0, 1), Uint8Array.of(0));
      a.clear();
      assert.equal(b.memory(0), memoryOfB);
    });
  });
});
