// Memory.buffer: the guest's own bytes without a copy, and what becomes of a held view when the memory grows.
// Contract: section 4. A view may be stale, but nothing that is done with it may crash.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ArgumentError, type Memory, SandboxComponents, Value } from '../../index';
import { runFile } from '../support/child';
import { forEachBackend } from '../support/engines';
import { type GuestCall, guest } from '../support/guest';
import { wat } from '../support/wat';

const PAGE = 65536;

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "look" (func $look))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "grow and look") (result i32)
    (i32.store8 (i32.const 0) (i32.const 1))
    (drop (memory.grow (i32.const 1)))
    (i32.store8 (i32.const 65536) (i32.const 2))
    (call $look)
    (i32.load8_u (i32.const 65537))))`;

describe('Memory.buffer', () => {
  forEachBackend((backend) => {
    function build(look: (call: GuestCall) => void = () => {}, memory = { initial: 1, maximum: 10 }) {
      return guest({
        backend,
        memory,
        imports: {
          'env.look': (_args, call) => {
            look(call);
            return undefined;
          },
        },
        wat: GUEST,
      });
    }

    it('is an ArrayBuffer of the size of the memory', () => {
      const { memory } = build();
      assert.ok(memory.buffer instanceof ArrayBuffer);
      assert.equal(memory.buffer.byteLength, PAGE);
    });

    it('is the same object until the memory grows', () => {
      const { memory, call } = build();
      const { buffer } = memory;
      call('store', Value.I32(0), Value.I32(1));
      memory.writeFrom(1, Uint8Array.of(1));
      assert.equal(memory.buffer, buffer);
    });

    it('shows what the guest writes', () => {
      const { memory, call } = build();
      const view = new Uint8Array(memory.buffer);
      call('store', Value.I32(100), Value.I32(42));
      assert.equal(view[100], 42);
    });

    it('shows what the host writes', () => {
      const { memory } = build();
      const view = new Uint8Array(memory.buffer);
      memory.writeFrom(7, Uint8Array.of(42));
      assert.equal(view[7], 42);
    });

    it('carries writes to the guest and to the host', () => {
      const { memory, call } = build();
      const view = new Uint8Array(memory.buffer);
      view[PAGE - 1] = 42;
      assert.deepEqual(call('load', Value.I32(PAGE - 1)), Value.I32(42));
      assert.deepEqual(memory.read(PAGE - 1, 1), Uint8Array.of(42));
    });

    it('is detached when the host grows the memory', () => {
      const { memory } = build();
      const { buffer } = memory;
      const view = new Uint8Array(buffer);
      view[3] = 9;
      memory.memoryGrow(2);
      assert.equal(buffer.byteLength, 0);
      assert.equal(view.length, 0);
      assert.equal(view[3], undefined);
      assert.notEqual(memory.buffer, buffer);
      assert.equal(memory.buffer.byteLength, 3 * PAGE);
      assert.equal(new Uint8Array(memory.buffer)[3], 9);
    });

    it('is detached when the guest grows the memory', () => {
      const { memory, call } = build();
      const { buffer } = memory;
      const view = new Uint8Array(buffer);
      view[3] = 9;
      assert.deepEqual(call('grow', Value.I32(2)), Value.I32(1));
      assert.equal(buffer.byteLength, 0);
      assert.equal(view.length, 0);
      assert.equal(memory.buffer.byteLength, 3 * PAGE);
      assert.equal(new Uint8Array(memory.buffer)[3], 9);
      assert.equal(memory.memorySize(), 3);
    });

    it('stays when the growth fails', () => {
      const { memory, call } = build();
      const { buffer } = memory;
      assert.deepEqual(call('grow', Value.I32(10)), Value.I32(-1));
      assert.throws(() => memory.memoryGrow(10));
      assert.equal(buffer.byteLength, PAGE);
      assert.equal(memory.buffer, buffer);
      new Uint8Array(buffer)[0] = 5;
      assert.deepEqual(call('load', Value.I32(0)), Value.I32(5));
    });

    it('shows the guest the growth of the host', () => {
      const { memory, call } = build();
      memory.memoryGrow(1);
      assert.deepEqual(call('size'), Value.I32(2));
      call('store', Value.I32(2 * PAGE - 1), Value.I32(6));
      assert.equal(new Uint8Array(memory.buffer)[2 * PAGE - 1], 6);
    });

    it('works through many growths with every older view detached', () => {
      const { memory, call } = build();
      const buffers = [memory.buffer];
      for (let pages = 2; pages <= 10; pages++) {
        if (pages % 2 === 0) memory.memoryGrow(1);
        else call('grow', Value.I32(1));
        new Uint8Array(memory.buffer)[pages * PAGE - 1] = pages;
        buffers.push(memory.buffer);
      }
      assert.deepEqual(
        buffers.map((buffer) => buffer.byteLength),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 10 * PAGE],
      );
      for (let pages = 2; pages <= 10; pages++) {
        assert.deepEqual(memory.read(pages * PAGE - 1, 1), Uint8Array.of(pages));
      }
    });

    it('is detached during a supervisor call when the guest has grown before it', () => {
      let inside: number[] = [];
      const { memory, call } = build(() => {
        const fresh = new Uint8Array(memory.buffer);
        inside = [before.byteLength, fresh.length, fresh[0], fresh[PAGE]];
        fresh[PAGE + 1] = 77;
      });
      const before = memory.buffer;
      assert.deepEqual(call('grow and look'), Value.I32(77));
      assert.deepEqual(inside, [0, 2 * PAGE, 1, 2]);
    });

    it('is detached when the host grows the memory inside a supervisor call', () => {
      const { memory, call } = build((guestCall) => {
        const held = (guestCall.memory as Memory).buffer;
        guestCall.memory?.memoryGrow(3);
        assert.equal(held.byteLength, 0);
        new Uint8Array((guestCall.memory as Memory).buffer)[PAGE + 1] = 55;
      });
      assert.deepEqual(call('grow and look'), Value.I32(55));
      assert.equal(memory.memorySize(), 5);
      assert.deepEqual(call('size'), Value.I32(5));
    });

    it('stays attached after a supervisor call without growth', () => {
      let taken: ArrayBuffer | undefined;
      const { memory, call } = build((guestCall) => {
        taken = guestCall.memory?.buffer;
      });
      memory.memoryGrow(1);
      call('grow and look');
      assert.ok(taken);
      new Uint8Array(taken)[9] = 8;
      assert.deepEqual(call('load', Value.I32(9)), Value.I32(8));
    });

    it('is one buffer for every handle of the memory', () => {
      const { instance } = guest({ backend, wat: '(module (memory (export "memory") 1 2))' });
      const first = instance.getMemory('memory') as Memory;
      const second = instance.getMemory('memory') as Memory;
      const view = new Uint8Array(first.buffer);
      second.memoryGrow(1);
      assert.equal(view.length, 0);
      assert.equal(first.buffer.byteLength, 2 * PAGE);
    });

    it('may be empty', () => {
      const components = new SandboxComponents<unknown>(backend);
      const memory = components.memory(components.newMemory(0, 1));
      assert.equal(memory.buffer.byteLength, 0);
      memory.memoryGrow(1);
      new Uint8Array(memory.buffer)[0] = 3;
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(3));
    });

    it('may be read from and written to by the memory itself', () => {
      const { memory } = build();
      const view = new Uint8Array(memory.buffer);
      view.set([1, 2, 3, 4]);
      memory.writeFrom(2, view.subarray(0, 4));
      assert.deepEqual(memory.read(0, 6), Uint8Array.of(1, 2, 1, 2, 3, 4));
      memory.readInto(0, view.subarray(1, 5));
      assert.deepEqual(memory.read(0, 6), Uint8Array.of(1, 1, 2, 1, 2, 4));
    });

    it('may be given to the memory when it is detached already, which takes it for empty or refuses it', () => {
      const { memory } = build();
      const view = new Uint8Array(memory.buffer, 0, 16);
      memory.memoryGrow(1);
      memory.writeFrom(0, Uint8Array.of(1));
      for (const use of [() => memory.writeFrom(0, view), () => memory.readInto(0, view)]) {
        try {
          use();
        } catch (error) {
          assert.ok(error instanceof ArgumentError);
        }
      }
      assert.deepEqual(memory.read(0, 1), Uint8Array.of(1));
    });

    it('stays valid after teardown and clear() while the memory has a handle', () => {
      const { components, memory, index, memoryIndex, call } = build();
      const view = new Uint8Array(memory.buffer);
      components.instanceTeardown(index);
      components.memoryTeardown(memoryIndex);
      components.clear();
      view[1] = 4;
      assert.deepEqual(memory.read(1, 1), Uint8Array.of(4));
      assert.deepEqual(call('load', Value.I32(1)), Value.I32(4));
    });

    it('never crashes a process that transfers it, keeps it or outlives its store', async () => {
      const child = await runFile(join(__dirname, 'scripts', 'views.ts'), {
        args: [backend, Buffer.from(wat(GUEST)).toString('base64')],
        execArgv: ['--expose-gc'],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      assert.match(child.stdout, /done/);
    });

    it('never crashes a process that has a byte stream take it over', async () => {
      const wasm = wat(`(module (import "env" "memory" (memory $given 1)) (memory $own (export "own") 1 4)
        (func (export "grow given") (drop (memory.grow $given (i32.const 1))))
        (func (export "grow own") (drop (memory.grow $own (i32.const 1)))))`);
      const child = await runFile(join(__dirname, 'scripts', 'taken_buffers.ts'), {
        args: [backend, Buffer.from(wasm).toString('base64')],
        execArgv: ['--expose-gc'],
      });
      assert.deepEqual({ code: child.code, signal: child.signal }, { code: 0, signal: null }, child.stderr);
      assert.match(child.stdout, /done/);
    });
  });
});
