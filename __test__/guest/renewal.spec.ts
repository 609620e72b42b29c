// A memory that lives on while very many instances of it come and go gets a fresh store again and again, which must not show. That memory stays flat is in
// rounds.long.spec.ts.
import assert from 'node:assert/strict';
import { ReadableStream } from 'node:stream/web';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { collectGarbage } from '../support/garbage';
import { waitingGuest } from '../support/waiting';
import { wat } from '../support/wat';

const PAGE = 65536;
/** Far more than a store is given up for. */
const MANY = 500;

const GUEST = `(module
  (import "env" "memory" (memory 1 64))
  (global (export "g") (mut i32) (i32.const 0))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)) (global.set 0 (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`;
const TWO = `(module
  (import "env" "a" (memory $a 1 64)) (import "env" "b" (memory $b 1 64))
  (func (export "load a") (param i32) (result i32) (i32.load $a (local.get 0)))
  (func (export "load b") (param i32) (result i32) (i32.load $b (local.get 0)))
  (func (export "store b") (param i32 i32) (i32.store $b (local.get 0) (local.get 1))))`;
const OWN = '(module (import "env" "memory" (memory 1 64)) (memory (export "own") 1 4))';
const FAILS = '(module (import "env" "memory" (memory 1 64)) (data (i32.const -1) "x"))';

class Living {
  readonly components: SandboxComponents<unknown>;
  readonly supervisor = new JsSupervisor();
  readonly index: number;

  constructor(backend: SandboxBackend, initial = 1, components = new SandboxComponents<unknown>(backend)) {
    this.components = components;
    this.index = components.newMemory(initial, 64);
  }

  get memory(): Memory {
    return this.components.memory(this.index);
  }

  instance(source = GUEST, memories: Record<string, number> = { 'env.memory': this.index }): Guest {
    const index = this.#make(source, memories);
    return new Guest(this, this.components.instance(index), index);
  }

  /** Has so many instances come and go, which nobody holds. */
  rounds(
    count = MANY,
    source = GUEST,
    memories: Record<string, number> = { 'env.memory': this.index },
  ): void {
    for (let n = 0; n < count; n++) this.components.instanceTeardown(this.#make(source, memories));
  }

  #make(source: string, memories: Record<string, number>): number {
    const env = environment(this.components, {}, memories);
    return this.components
      .instantiate(Instantiate.Version1, wat(source), env, this.supervisor)
      .register(this.components, undefined);
  }
}

class Guest {
  readonly #living: Living;
  readonly instance: SandboxInstance;
  readonly index: number;

  constructor(living: Living, instance: SandboxInstance, index: number) {
    this.#living = living;
    this.instance = instance;
    this.index = index;
  }

  call(name: string, ...args: number[]): number | undefined {
    return (this.instance.invoke(name, args, this.#living.supervisor) as { value?: number } | undefined)
      ?.value;
  }

  /** Afterwards it goes with its handle. */
  tearDown(): void {
    this.#living.components.instanceTeardown(this.index);
  }
}

/** The bytes of a buffer that a byte stream has taken over: it cannot be told when they go. */
async function taken(buffer: ArrayBuffer): Promise<Uint8Array> {
  const stream = new ReadableStream({
    type: 'bytes',
    start: (controller) => controller.enqueue(new Uint8Array(buffer)),
  });
  const { value } = await stream.getReader().read();
  assert.equal(buffer.byteLength, 0);
  return value as Uint8Array;
}

describe('A memory that lives on', () => {
  forEachBackend((backend) => {
    it('keeps its bytes, its size, its maximum and its buffer', async () => {
      const living = new Living(backend);
      const { memory } = living;
      living.instance().call('grow', 2);
      for (const at of [0, 4096, 2 * PAGE + 5, 3 * PAGE - 1])
        memory.writeFrom(at, Uint8Array.of(at & 255, 9).subarray(0, at === 3 * PAGE - 1 ? 1 : 2));
      const before = memory.read(0, 3 * PAGE);
      const { buffer } = memory;
      for (let round = 0; round < 4; round++) {
        living.rounds();
        await collectGarbage();
        assert.ok(Buffer.from(before).equals(memory.read(0, 3 * PAGE)));
        assert.equal(memory.buffer, buffer);
        assert.equal(buffer.byteLength, 3 * PAGE);
      }
      assert.equal(memory.memoryGrow(61), 3);
      assert.throws(() => memory.memoryGrow(1), { code: 'ERR_SANDBOX_LIMIT' });
      assert.equal(buffer.byteLength, 0);
    });

    it('is the one that instances use, before and after, and so is its buffer', async () => {
      const living = new Living(backend);
      const { memory } = living;
      let view = new Int32Array(memory.buffer);
      for (let n = 0; n < 3 * MANY; n++) {
        const guest = living.instance();
        guest.call('store', 8, n);
        assert.equal(view[2], n);
        view[3] = n + 1;
        assert.equal(guest.call('load', 12), n + 1);
        if (n % 97 === 96) {
          if (n % 2 === 0) guest.call('grow', 1);
          else memory.memoryGrow(1);
          assert.equal(view.length, 0);
          view = new Int32Array(memory.buffer);
          assert.equal(view[2], n);
        }
        guest.tearDown();
        if (n % 50 === 49) await collectGarbage();
      }
      assert.equal(memory.memorySize(), 1 + Math.floor((3 * MANY) / 97));
    });

    it('keeps the store of instances that somebody holds', async () => {
      const living = new Living(backend);
      const held = Array.from({ length: 3 }, (_, n) => {
        const guest = living.instance();
        guest.call('store', 16 + 4 * n, n);
        guest.tearDown();
        return guest;
      });
      living.rounds();
      await collectGarbage();
      living.rounds();
      for (const [n, guest] of held.entries()) {
        assert.equal(guest.call('load', 16 + 4 * n), n);
        assert.deepEqual(guest.instance.getGlobalVal('g'), Value.I32(n));
        guest.call('store', 100, n);
        assert.equal(living.memory.read(100, 1)[0], n);
      }
    });

    it('is moved together with the others that were imported with it, whichever are left', async () => {
      const living = new Living(backend);
      const other = living.components.newMemory(1, 64);
      const both = { 'env.a': living.index, 'env.b': other };
      living.memory.writeFrom(0, Uint8Array.of(1));
      const held = living.components.memory(other);
      const first = living.instance(TWO, both);
      first.call('store b', 4, 44);
      first.tearDown();
      living.rounds(MANY, TWO, both);
      await collectGarbage();
      living.rounds(MANY, TWO, both);
      assert.deepEqual([living.memory.read(0, 1)[0], held.read(4, 1)[0]], [1, 44]);
      assert.equal(living.instance(TWO, both).call('load b', 4), 44);

      // The first one of the store goes.
      for (const gone of [living.index, other]) {
        const each = new Living(backend);
        const [a, b] = [each.index, each.components.newMemory(1, 64)];
        const pair = { 'env.a': a, 'env.b': b };
        each.instance(TWO, pair).tearDown();
        const left = gone === living.index ? b : a;
        each.components.memory(left).writeFrom(8, Uint8Array.of(8));
        each.components.memoryTeardown(left === a ? b : a);
        await collectGarbage();
        each.rounds(MANY, GUEST, { 'env.memory': left });
        await collectGarbage();
        each.rounds(MANY, GUEST, { 'env.memory': left });
        assert.equal(each.components.memory(left).read(8, 1)[0], 8);
        assert.equal(each.instance(GUEST, { 'env.memory': left }).call('load', 8), 8);
      }
    });

    it('leaves memories behind that instances have made, and both stay what they are', async () => {
      const living = new Living(backend);
      const { memory } = living;
      const buffer = new Uint8Array(memory.buffer);
      buffer[0] = 1;
      const guest = living.instance(OWN);
      const own = guest.instance.getMemory('own') as Memory;
      own.writeFrom(0, Buffer.from('own'));
      const view = new Uint8Array(own.buffer);
      guest.tearDown();
      const held = own;
      (guest as { instance?: unknown }).instance = undefined;
      for (let round = 0; round < 3; round++) {
        living.rounds(MANY, round % 2 === 0 ? GUEST : OWN);
        await collectGarbage();
        assert.equal(Buffer.from(held.read(0, 3)).toString(), 'own');
        assert.deepEqual([view.length, view[0], buffer.length, buffer[0]], [PAGE, 111, PAGE, 1]);
        assert.equal(living.instance().call('load', 0), 1);
        assert.equal(own.buffer, view.buffer);
        assert.equal(memory.buffer, buffer.buffer);
      }
      assert.equal(own.memoryGrow(1), 1);
      assert.deepEqual([view.length, buffer.length], [0, PAGE]);
      assert.equal(memory.memoryGrow(1), 1);
      assert.equal(buffer.length, 0);
      assert.equal(Buffer.from(held.read(0, 3)).toString(), 'own');
    });

    it('keeps its bytes in the hands of whoever has taken its buffer', async () => {
      const living = new Living(backend);
      const { memory } = living;
      memory.writeFrom(0, Uint8Array.of(3));
      const { buffer } = memory;
      const taken = new Uint8Array(structuredClone(buffer, { transfer: [buffer] }));
      living.rounds();
      await collectGarbage();
      living.rounds();
      taken[1] = 4;
      assert.equal(taken[0], 3);
      assert.equal(memory.read(0, 1)[0], 3);
      assert.equal(living.instance().call('load', 0) as number & 255, 3);
    });

    for (const isHeld of [false, true]) {
      const held = isHeld ? 'holds the memory' : 'holds nothing else';
      it(`leaves the bytes of a memory of a guest that is gone with whoever has taken its buffer, and ${held}`, async () => {
        const living = new Living(backend);
        const { memory } = living;
        memory.writeFrom(0, Uint8Array.of(3));
        const take = async () => {
          const guest = living.instance(OWN);
          const own = guest.instance.getMemory('own') as Memory;
          own.writeFrom(0, Uint8Array.of(7, 8));
          const bytes = await taken(own.buffer);
          guest.tearDown();
          return { bytes, own: isHeld ? own : undefined };
        };
        const { bytes, own } = await take();
        for (let round = 0; round < 3; round++) {
          await collectGarbage();
          living.rounds(MANY, OWN);
          assert.deepEqual([...bytes.subarray(0, 3)], [7, 8, round]);
          bytes[2] = round + 1;
          assert.equal(own?.read(2, 1)[0], own && round + 1);
          // What the bytes would be by now if they had gone with their store.
          const other = living.instance(OWN);
          assert.deepEqual(other.instance.getMemory('own')?.read(0, 3), new Uint8Array(3));
          other.tearDown();
        }
        assert.equal(memory.read(0, 1)[0], 3);
      });
    }

    it('stays where it is while asynchronous calls of its guests wait, and afterwards too', async () => {
      const components = new SandboxComponents<unknown>(backend);
      const living = new Living(backend, 1, components);
      const waiting = waitingGuest(
        backend,
        `(module (import "env" "memory" (memory 1 64)) (import "env" "f" (func $f (result i32)))
          (func (export "run") (result i32) (i32.store (i32.const 0) (call $f)) (i32.load (i32.const 0))))`,
        { components, memory: living.index },
      );
      for (let round = 0; round < 3; round++) {
        const first = waiting.invoke('run');
        const second = waiting.invoke('run');
        await waiting.isAsked(2 * round + 1);
        const made = Array.from({ length: 100 }, () =>
          components.instantiateAsync(
            Instantiate.Version1,
            wat(GUEST),
            environment(components, {}, { 'env.memory': living.index }),
            living.supervisor,
          ),
        );
        await collectGarbage();
        waiting.asked[2 * round].resolve(Value.I32(round));
        assert.deepEqual(await first, Value.I32(round));
        await waiting.isAsked(2 * round + 2);
        waiting.asked[2 * round + 1].resolve(Value.I32(round + 10));
        assert.deepEqual(await second, Value.I32(round + 10));
        for (const each of await Promise.all(made)) {
          const index = each.register(components, undefined);
          assert.deepEqual(
            await components.instance(index).invokeAsync('load', [0], living.supervisor),
            Value.I32(round + 10),
          );
          components.instanceTeardown(index);
        }
        await collectGarbage();
        living.rounds();
        assert.equal(living.memory.read(0, 1)[0], round + 10);
      }
    });

    it('stays where it is while a guest of its runs whose supervisor has others come and go', async () => {
      const living = new Living(backend);
      const { components, supervisor } = living;
      const other = new Living(backend, 1, components);
      const f = supervisor.define(([n]) => {
        living.rounds(100);
        other.rounds(100);
        living.memory.writeFrom(4, Uint8Array.of(5));
        return n;
      });
      const env = environment(components, { 'env.f': f }, { 'env.memory': living.index });
      const source = `(module (import "env" "memory" (memory 1 64)) (import "env" "f" (func $f (param i32) (result i32)))
        (func (export "run") (param i32) (result i32)
          (i32.store (i32.const 0) (i32.const 30))
          (drop (call $f (i32.const 1)))
          (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))))`;
      for (const name of ['invoke', 'invokeAsync'] as const) {
        const index = components
          .instantiate(Instantiate.Version1, wat(source), env, supervisor)
          .register(components, undefined);
        const instance = components.instance(index);
        components.instanceTeardown(index);
        assert.deepEqual(await instance[name]('run', [1], supervisor), Value.I32(35));
      }
      await collectGarbage();
      living.rounds();
      assert.equal(living.instance().call('load', 0), 30);
    });

    it('survives instances that cannot be made', async () => {
      const living = new Living(backend);
      living.memory.writeFrom(0, Uint8Array.of(6));
      const env = environment(living.components, {}, { 'env.memory': living.index });
      const { buffer } = living.memory;
      for (let n = 0; n < MANY; n++) {
        assert.throws(() => living.instance(FAILS), InstantiationError);
      }
      assert.equal(living.memory.buffer, buffer);
      for (let n = 0; n < MANY; n++) {
        await assert.rejects(
          living.components.instantiateAsync(Instantiate.Version1, wat(FAILS), env, living.supervisor),
          InstantiationError,
        );
      }
      assert.equal(living.instance().call('load', 0), 6);
    });

    it('can be linked with another one once the guests of both are gone', async () => {
      const components = new SandboxComponents<unknown>(backend);
      const [a, b] = [new Living(backend, 1, components), new Living(backend, 1, components)];
      const both = { 'env.a': a.index, 'env.b': b.index };
      const guest = b.instance();
      a.instance().tearDown();
      guest.call('store', 4, 99);
      await collectGarbage();
      a.rounds(1);
      const views = [a, b].map(({ memory }) => new Uint8Array(memory.buffer));
      guest.tearDown();
      (guest as { instance?: unknown }).instance = undefined;
      await collectGarbage();
      await collectGarbage();
      const linked = a.instance(TWO, both);
      assert.equal(linked.call('load b', 4), 99);
      linked.call('store b', 8, 98);
      assert.equal(b.memory.read(8, 1)[0], 98);
      for (const view of views) assert.ok(view.length === 0 || view.length === PAGE);
    });
  });
});
