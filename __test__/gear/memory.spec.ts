// Memory: reading, writing, growing, and where its bounds are. Views of its bytes are in buffer.spec.ts.
// Contract: section 4; the messages are those of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Memory, SandboxBackend, SandboxComponents, SandboxError } from '../../index';
import { forEachBackend } from '../support/engines';
import { caught } from '../support/expect';
import { guest } from '../support/guest';

const PAGE = 65536;

function newMemory(backend: SandboxBackend, initial: number, maximum?: number): Memory {
  const components = new SandboxComponents<unknown>(backend);
  return components.memory(
    maximum === undefined ? components.newMemory(initial) : components.newMemory(initial, maximum),
  );
}

describe('Memory', () => {
  forEachBackend((backend) => {
    it('is a Memory', () => {
      assert.ok(newMemory(backend, 1) instanceof Memory);
    });

    it('starts as zeros', () => {
      assert.deepEqual(newMemory(backend, 2).read(0, 2 * PAGE), new Uint8Array(2 * PAGE));
    });

    it('reads what was written', () => {
      const memory = newMemory(backend, 1);
      assert.equal(memory.writeFrom(10, Uint8Array.of(1, 2, 3)), undefined);
      assert.deepEqual(memory.read(9, 5), Uint8Array.of(0, 1, 2, 3, 0));
    });

    it('reads into a given array', () => {
      const memory = newMemory(backend, 1);
      memory.writeFrom(0, Uint8Array.of(1, 2, 3));
      const dest = new Uint8Array(5).fill(9);
      assert.equal(memory.readInto(1, dest.subarray(1, 3)), undefined);
      assert.deepEqual(dest, Uint8Array.of(9, 2, 3, 9, 9));
    });

    it('hands out a copy', () => {
      const memory = newMemory(backend, 1);
      const copy = memory.read(0, 4);
      memory.writeFrom(0, Uint8Array.of(1));
      copy[1] = 5;
      assert.deepEqual(copy, Uint8Array.of(0, 5, 0, 0));
      assert.deepEqual(memory.read(0, 4), Uint8Array.of(1, 0, 0, 0));
    });

    it('takes a Buffer and a part of a larger array', () => {
      const memory = newMemory(backend, 1);
      memory.writeFrom(0, Buffer.from('hello'));
      memory.writeFrom(5, Uint8Array.of(1, 2, 3, 4).subarray(1, 3));
      assert.deepEqual(memory.read(0, 8), Uint8Array.from([...Buffer.from('hello'), 2, 3, 0]));
      const dest = Buffer.alloc(5);
      memory.readInto(0, dest);
      assert.equal(dest.toString(), 'hello');
    });

    it('reads and writes up to its last byte', () => {
      const memory = newMemory(backend, 1);
      memory.writeFrom(PAGE - 2, Uint8Array.of(7, 8));
      assert.deepEqual(memory.read(PAGE - 2, 2), Uint8Array.of(7, 8));
      assert.equal(memory.read(0, PAGE).length, PAGE);
    });

    it('reads and writes nothing at its very end', () => {
      const memory = newMemory(backend, 1);
      assert.deepEqual(memory.read(PAGE, 0), new Uint8Array(0));
      memory.readInto(PAGE, new Uint8Array(0));
      memory.writeFrom(PAGE, new Uint8Array(0));
    });

    it('refuses to read outside its bounds', () => {
      const memory = newMemory(backend, 1);
      const ranges = [
        [PAGE, 1],
        [PAGE - 1, 2],
        [0, PAGE + 1],
        [PAGE + 1, 0],
        [0xffffffff, 0],
        [0xffffffff, 1],
        [1, 0xffffffff],
        [0xffffffff, 0xffffffff],
      ];
      for (const [addr, size] of ranges) {
        const error = caught(SandboxError, () => memory.read(addr, size));
        assert.match(error.message, /memory read is out of bounds/, `${addr}, ${size}`);
      }
      assert.equal(memory.read(0, 1).length, 1);
    });

    it('refuses to read into an array outside its bounds and leaves the array as it was', () => {
      const memory = newMemory(backend, 1);
      const dest = new Uint8Array(4).fill(9);
      for (const addr of [PAGE - 3, PAGE, PAGE + 1, 0xffffffff]) {
        const error = caught(SandboxError, () => memory.readInto(addr, dest));
        assert.match(error.message, /memory read is out of bounds/);
      }
      assert.deepEqual(dest, new Uint8Array(4).fill(9));
      assert.match(
        caught(SandboxError, () => memory.readInto(PAGE + 1, new Uint8Array(0))).message,
        /memory read is out of bounds/,
      );
    });

    it('refuses to write outside its bounds and writes nothing then', () => {
      const memory = newMemory(backend, 1);
      for (const addr of [PAGE - 3, PAGE, PAGE + 1, 0xffffffff]) {
        const error = caught(SandboxError, () => memory.writeFrom(addr, Uint8Array.of(1, 2, 3, 4)));
        assert.match(error.message, /memory write is out of bounds/);
      }
      assert.deepEqual(memory.read(PAGE - 4, 4), new Uint8Array(4));
      assert.match(
        caught(SandboxError, () => memory.writeFrom(PAGE + 1, new Uint8Array(0))).message,
        /memory write is out of bounds/,
      );
    });

    it('counts its size in pages', () => {
      assert.equal(newMemory(backend, 0).memorySize(), 0);
      assert.equal(newMemory(backend, 3, 5).memorySize(), 3);
    });

    it('grows and says how large it was', () => {
      const memory = newMemory(backend, 1, 10);
      assert.equal(memory.memoryGrow(2), 1);
      assert.equal(memory.memoryGrow(0), 3);
      assert.equal(memory.memoryGrow(7), 3);
      assert.equal(memory.memorySize(), 10);
    });

    it('keeps its bytes when it grows, and the new ones are zeros', () => {
      const memory = newMemory(backend, 1);
      memory.writeFrom(0, Uint8Array.of(1));
      memory.writeFrom(PAGE - 1, Uint8Array.of(2));
      memory.memoryGrow(3);
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(1));
      assert.deepEqual(memory.read(PAGE - 1, 2), Uint8Array.of(2, 0));
      assert.deepEqual(memory.read(PAGE, 3 * PAGE), new Uint8Array(3 * PAGE));
      memory.writeFrom(4 * PAGE - 1, Uint8Array.of(3));
      assert.deepEqual(memory.read(4 * PAGE - 1, 1), Uint8Array.of(3));
    });

    it('refuses to grow beyond its maximum and stays as it was', () => {
      const memory = newMemory(backend, 1, 3);
      for (const pages of [3, 65536, 0xffffffff]) {
        assert.match(caught(SandboxError, () => memory.memoryGrow(pages)).message, /Cannot grow memory/);
      }
      assert.equal(memory.memorySize(), 1);
      assert.equal(memory.memoryGrow(2), 1);
      assert.match(caught(SandboxError, () => memory.memoryGrow(1)).message, /Cannot grow memory/);
      assert.equal(memory.memorySize(), 3);
    });

    it('refuses to grow beyond what 32 bits can address without a maximum', () => {
      const memory = newMemory(backend, 1);
      for (const pages of [65536, 0xffffffff]) {
        assert.match(caught(SandboxError, () => memory.memoryGrow(pages)).message, /Cannot grow memory/);
      }
      assert.equal(memory.memorySize(), 1);
    });

    it('may have no page at all', () => {
      const memory = newMemory(backend, 0, 1);
      assert.deepEqual(memory.read(0, 0), new Uint8Array(0));
      assert.match(caught(SandboxError, () => memory.read(0, 1)).message, /memory read is out of bounds/);
      assert.equal(memory.memoryGrow(1), 0);
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(0));
    });

    it('may never grow', () => {
      const memory = newMemory(backend, 0, 0);
      assert.equal(memory.memoryGrow(0), 0);
      assert.match(caught(SandboxError, () => memory.memoryGrow(1)).message, /Cannot grow memory/);
    });

    it('says which engine it belongs to', () => {
      const memory = newMemory(backend, 1);
      assert.equal(memory.backend, backend);
      const own = backend === SandboxBackend.Wasmi ? memory.asWasmi() : memory.asWasmer();
      const other = backend === SandboxBackend.Wasmi ? memory.asWasmer() : memory.asWasmi();
      assert.equal(other, undefined);
      assert.ok(own instanceof Memory);
      own.writeFrom(0, Uint8Array.of(5));
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(5));
    });

    it('is seen by its guest', () => {
      const { memory, call } = guest({
        backend,
        memory: { initial: 1 },
        wat: `(module (import "env" "memory" (memory 1))
          (func (export "double")
            (i32.store (i32.const 4) (i32.mul (i32.load (i32.const 0)) (i32.const 2)))))`,
      });
      memory.writeFrom(0, Uint8Array.of(21, 0, 0, 0));
      call('double');
      assert.deepEqual(memory.read(4, 4), Uint8Array.of(42, 0, 0, 0));
    });

    it('may be exported by a guest', () => {
      const { instance } = guest({
        backend,
        wat: `(module (memory (export "own") 2 3) (data (i32.const 8) "hello"))`,
      });
      const memory = instance.getMemory('own');
      assert.ok(memory instanceof Memory);
      assert.equal(Buffer.from(memory.read(8, 5)).toString(), 'hello');
      assert.equal(memory.memoryGrow(1), 2);
      assert.match(caught(SandboxError, () => memory.memoryGrow(1)).message, /Cannot grow memory/);
      assert.equal(memory.backend, backend);
    });

    it('is the same memory when a guest exports the one it imported', () => {
      const { instance, memory } = guest({
        backend,
        memory: { initial: 1 },
        wat: '(module (import "env" "memory" (memory 1)) (export "again" (memory 0)))',
      });
      instance.getMemory('again')?.writeFrom(0, Uint8Array.of(9));
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(9));
    });

    it('is undefined when the guest has no such memory', () => {
      const { instance } = guest({
        backend,
        wat: '(module (memory 1) (func (export "f")) (global (export "g") i32 (i32.const 0)))',
      });
      for (const name of ['memory', 'f', 'g', '']) assert.equal(instance.getMemory(name), undefined);
    });
  });
});
