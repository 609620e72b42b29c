// EnvironmentDefinitionBuilder and GuestEnvironment.decode: what a guest may import, on its way through SCALE.
// The codec itself has tests of its own beside this folder.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  SandboxComponents,
  SandboxError,
  Value,
} from '../../index';
import { forEachBackend, otherThan } from '../support/engines';
import { environment, funcIndex } from '../support/environment';
import { caught } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('EnvironmentDefinitionBuilder', () => {
  it('encodes nothing as an empty list', () => {
    assert.equal(hex(new EnvironmentDefinitionBuilder().encode()), '00');
  });

  it('encodes functions and memories as the reference does', () => {
    const bytes = new EnvironmentDefinitionBuilder()
      .addHostFunc('env', 'f', funcIndex(5))
      .addMemory('kernel', 'memory', 1337)
      .encode();
    assert.ok(bytes instanceof Uint8Array);
    assert.equal(
      hex(bytes),
      [
        '08',
        ['0c', hex(Buffer.from('env')), '04', hex(Buffer.from('f')), '01', '05000000'],
        ['18', hex(Buffer.from('kernel')), '18', hex(Buffer.from('memory')), '02', '39050000'],
      ]
        .flat()
        .join(''),
    );
  });

  it('returns itself', () => {
    const builder = new EnvironmentDefinitionBuilder();
    assert.equal(builder.addHostFunc('a', 'b', funcIndex(0)), builder);
    assert.equal(builder.addMemory('a', 'c', 0), builder);
  });

  it('encodes names beyond ASCII as UTF-8', () => {
    const bytes = new EnvironmentDefinitionBuilder().addMemory('ü', '🔑', 0xffffffff).encode();
    assert.equal(hex(bytes), '0408c3bc10f09f949102ffffffff');
  });

  it('may encode several times and be added to in between', () => {
    const builder = new EnvironmentDefinitionBuilder().addMemory('a', 'b', 0);
    const first = builder.encode();
    assert.deepEqual(builder.encode(), first);
    builder.addMemory('a', 'c', 0);
    assert.equal(builder.encode()[0], 8);
    assert.equal(first[0], 4);
  });
});

describe('GuestEnvironment.decode', () => {
  forEachBackend((backend) => {
    function corrupted(run: () => unknown): string {
      const error = caught(InstantiationError, run);
      assert.equal(error.kind, 'EnvironmentDefinitionCorrupted');
      assert.equal(error.code, 'ERR_SANDBOX_INSTANTIATION');
      return [error.message, (error.cause as Error | undefined)?.message].join(' ');
    }

    const memoryEntry = (index: number) =>
      new EnvironmentDefinitionBuilder().addMemory('env', 'memory', index).encode();

    it('accepts what the builder encodes', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      assert.ok(GuestEnvironment.decode(components, memoryEntry(0)) instanceof GuestEnvironment);
      assert.ok(GuestEnvironment.decode(components, Uint8Array.of(0)) instanceof GuestEnvironment);
    });

    it('accepts bytes in the middle of a larger buffer', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      const entry = memoryEntry(0);
      const padded = new Uint8Array(entry.length + 10).fill(0xff);
      padded.set(entry, 3);
      assert.ok(GuestEnvironment.decode(components, padded.subarray(3, 3 + entry.length)));
    });

    it('refuses corrupted bytes and says why', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      const entry = memoryEntry(0);
      const unknownEntity = entry.slice();
      unknownEntity[entry.length - 5] = 3;
      const brokenText = entry.slice();
      brokenText[2] = 0xff;
      const cases = [
        new Uint8Array(0),
        entry.slice(0, -1),
        entry.slice(0, 5),
        Uint8Array.of(4),
        Uint8Array.of(0xff, 0xff, 0xff, 0xff),
        unknownEntity,
        brokenText,
      ];
      for (const bytes of cases) {
        const error = caught(InstantiationError, () => GuestEnvironment.decode(components, bytes));
        assert.equal(error.kind, 'EnvironmentDefinitionCorrupted', hex(bytes));
        assert.ok(error.cause instanceof Error, hex(bytes));
        assert.ok(error.cause.message.length > 0);
      }
      assert.ok(GuestEnvironment.decode(components, entry));
    });

    it('refuses the index of a memory that never existed', () => {
      const components = new SandboxComponents<unknown>(backend);
      assert.match(
        corrupted(() => GuestEnvironment.decode(components, memoryEntry(0))),
        /non-existent/,
      );
      components.newMemory(1);
      assert.match(
        corrupted(() => GuestEnvironment.decode(components, memoryEntry(1))),
        /non-existent/,
      );
      assert.match(
        corrupted(() => GuestEnvironment.decode(components, memoryEntry(0xffffffff))),
        /non-existent/,
      );
    });

    it('refuses a memory that was torn down', () => {
      const components = new SandboxComponents<unknown>(backend);
      components.newMemory(1);
      components.newMemory(1);
      components.memoryTeardown(0);
      assert.match(
        corrupted(() => GuestEnvironment.decode(components, memoryEntry(0))),
        /torndown/,
      );
      assert.ok(GuestEnvironment.decode(components, memoryEntry(1)));
    });

    it('takes any function index, as only the supervisor knows them', () => {
      const components = new SandboxComponents<unknown>(backend);
      const raw = new EnvironmentDefinitionBuilder().addHostFunc('env', 'f', funcIndex(0xffffffff)).encode();
      assert.ok(GuestEnvironment.decode(components, raw));
    });

    it('keeps a memory alive that is torn down after it', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memory = components.newMemory(1);
      components.memory(memory).writeFrom(0, Uint8Array.of(33));
      const env = environment(components, {}, { 'env.memory': memory });
      components.memoryTeardown(memory);
      const supervisor = new JsSupervisor();
      const index = components
        .instantiate(
          Instantiate.Version1,
          wat(`(module (import "env" "memory" (memory 1))
            (func (export "f") (result i32) (i32.load8_u (i32.const 0))))`),
          env,
          supervisor,
        )
        .register(components, undefined);
      assert.deepEqual(components.instance(index).invoke('f', [], supervisor), Value.I32(33));
    });

    it('does not carry a memory to components of the other engine', () => {
      const components = new SandboxComponents<unknown>(backend);
      const others = new SandboxComponents<unknown>(otherThan(backend));
      const env = environment(others, {}, { 'env.memory': others.newMemory(1) });
      caught(SandboxError, () =>
        components.instantiate(
          Instantiate.Version1,
          wat('(module (import "env" "memory" (memory 1)))'),
          env,
          new JsSupervisor(),
        ),
      );
      assert.equal(guest({ backend, components, wat: '(module (func (export "f")))' }).call('f'), undefined);
    });
  });
});
