// SandboxComponents.instantiate: what a module may be, and which kind of InstantiationError says what is wrong.
// Names of imports are in imports.spec.ts, the start function is in start.spec.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { invalidWat, wat } from '../support/wat';

const SEVEN = '(module (func (export "seven") (result i32) (i32.const 7)))';

describe('SandboxComponents.instantiate', () => {
  forEachBackend((backend) => {
    function instance(
      wasm: ArrayBuffer | ArrayBufferView,
      memories: Record<string, number> = {},
      components = fresh(),
    ) {
      const unregistered = components.instantiate(
        Instantiate.Version1,
        wasm,
        environment(components, {}, memories),
        new JsSupervisor(),
      );
      return components.instance(unregistered.register(components, undefined));
    }

    function fresh(): SandboxComponents<unknown> {
      return new SandboxComponents<unknown>(backend);
    }

    function fails(kind: InstantiationError['kind'], run: () => unknown): InstantiationError {
      const error = caught(InstantiationError, run);
      assert.equal(error.kind, kind, error.message);
      assert.equal(error.code, 'ERR_SANDBOX_INSTANTIATION');
      assert.ok(error instanceof SandboxError);
      assert.ok(error.message.length > 0);
      return error;
    }

    function seven(subject: SandboxInstance): void {
      assert.deepEqual(subject.invoke('seven', [], new JsSupervisor()), Value.I32(7));
    }

    it('takes shared memory, of which it makes a copy first', () => {
      const wasm = wat(SEVEN);
      const shared = new Uint8Array(new SharedArrayBuffer(wasm.length));
      shared.set(wasm);
      const subject = instance(shared);
      shared.fill(0);
      seven(subject);
    });

    it('takes any BufferSource', () => {
      const wasm = wat(SEVEN);
      const padded = new Uint8Array(wasm.length + 16).fill(0xff);
      padded.set(wasm, 5);
      seven(instance(wasm));
      seven(instance(wasm.slice().buffer));
      seven(instance(Buffer.from(wasm)));
      seven(instance(padded.subarray(5, 5 + wasm.length)));
      seven(instance(new DataView(padded.buffer, 5, wasm.length)));
    });

    it('takes a view of elements wider than a byte', () => {
      const wasm = wat('(module (func (export "seven") (result i32) (i32.const 7)) (memory 1))');
      const custom = (size: number) => Uint8Array.from([0, size + 1, 0, ...new Array(size).fill(0)]);
      const bytes = Buffer.concat([wasm, custom((4 - ((wasm.length + 3) % 4)) % 4)]);
      assert.equal(bytes.length % 4, 0);
      seven(instance(new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))));
    });

    it('does not look at the bytes again once it has returned', () => {
      const wasm = wat(SEVEN).slice();
      const first = instance(wasm);
      wasm.fill(0);
      seven(first);
    });

    it('runs an empty module', () => {
      assert.deepEqual([...instance(wat('(module)')).exports], []);
    });

    it('makes independent instances of one module', () => {
      const wasm = wat(`(module (global $n (mut i32) (i32.const 0))
        (func (export "next") (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))`);
      const components = fresh();
      const [a, b] = [instance(wasm, {}, components), instance(wasm, {}, components)];
      const supervisor = new JsSupervisor();
      a.invoke('next', [], supervisor);
      a.invoke('next', [], supervisor);
      assert.deepEqual(b.invoke('next', [], supervisor), Value.I32(1));
    });

    describe('fails with ModuleDecoding', () => {
      const cases: [what: string, bytes: () => Uint8Array][] = [
        ['no bytes at all', () => new Uint8Array(0)],
        ['bytes that are no module', () => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)],
        ['a module in text form', () => Buffer.from(SEVEN)],
        ['only the magic number', () => wat(SEVEN).slice(0, 4)],
        ['an unknown version', () => Uint8Array.from([...wat(SEVEN).slice(0, 4), 2, 0, 0, 0])],
        ['the header of a component', () => Uint8Array.from([...wat(SEVEN).slice(0, 4), 0x0d, 0, 1, 0])],
        ['a module cut short', () => wat(SEVEN).slice(0, -5)],
        ['a module with rubbish behind it', () => Uint8Array.from([...wat(SEVEN), 0xff, 0xff])],
        ['a body that leaves the wrong type', () => invalidWat('(module (func (result i32) (i64.const 1)))')],
        [
          'a body that is never called and leaves nothing',
          () => invalidWat('(module (func (export "seven") (result i32) (i32.const 7)) (func (result i32)))'),
        ],
        ['a body that uses no local', () => invalidWat('(module (func (local.set 0 (i32.const 1))))')],
        ['a load without a memory', () => invalidWat('(module (func (drop (i32.load (i32.const 0)))))')],
        [
          'two exports of one name',
          () => invalidWat('(module (func) (export "a" (func 0)) (export "a" (func 0)))'),
        ],
        ['a start function with a parameter', () => invalidWat('(module (func (param i32)) (start 0))')],
      ];
      for (const [what, bytes] of cases) {
        it(`for ${what}`, () => {
          const components = fresh();
          fails('ModuleDecoding', () => instance(bytes(), {}, components));
          seven(instance(wat(SEVEN), {}, components));
        });
      }

      it('for a memory that the environment does not have', () => {
        const error = fails('ModuleDecoding', () =>
          instance(wat('(module (import "env" "lost" (memory 1)))')),
        );
        assert.match(`${error.message} ${(error.cause as Error | undefined)?.message}`, /lost/);
      });

      it('for every invalid module once more, as nothing broken is remembered', () => {
        const bytes = invalidWat('(module (func (result i32) (i64.const 1)))');
        const components = fresh();
        for (let i = 0; i < 3; i++) fails('ModuleDecoding', () => instance(bytes, {}, components));
      });
    });

    it('says why a module is invalid', () => {
      const error = fails('ModuleDecoding', () =>
        instance(invalidWat('(module (func (result i32) (i64.const 1)))')),
      );
      assert.ok(error.cause !== undefined);
      assert.match(`${error.message} ${(error.cause as Error).message}`, /type/i);
    });

    describe('fails with Instantiation', () => {
      it('for a function that the environment does not have', () => {
        const error = fails('Instantiation', () =>
          instance(wat('(module (import "env" "lost" (func)) (func (export "f")))')),
        );
        assert.match(`${error.message} ${(error.cause as Error | undefined)?.message}`, /lost/);
      });

      it('for an imported global or table', () => {
        fails('Instantiation', () => instance(wat('(module (import "env" "g" (global i32)))')));
        fails('Instantiation', () => instance(wat('(module (import "env" "t" (table 1 funcref)))')));
      });

      it('for a memory that is too small', () => {
        const components = fresh();
        const memory = components.newMemory(1, 10);
        const wasm = wat('(module (import "env" "memory" (memory 2)))');
        fails('Instantiation', () => instance(wasm, { 'env.memory': memory }, components));
        components.memory(memory).memoryGrow(1);
        instance(wasm, { 'env.memory': memory }, components);
      });

      it('for a memory that may grow larger than the guest allows', () => {
        const components = fresh();
        const wasm = wat('(module (import "env" "memory" (memory 1 4)))');
        for (const memory of [components.newMemory(1, 5), components.newMemory(1)]) {
          fails('Instantiation', () => instance(wasm, { 'env.memory': memory }, components));
        }
        instance(wasm, { 'env.memory': components.newMemory(1, 4) }, components);
      });

      it('for a data segment out of bounds', () => {
        fails('Instantiation', () => instance(wat('(module (memory 1) (data (i32.const 65535) "ab"))')));
        fails('Instantiation', () => instance(wat('(module (memory 0) (data (i32.const 0) "a"))')));
        fails('Instantiation', () => instance(wat('(module (memory 1) (data (i32.const -1) "a"))')));
      });

      it('for a data segment out of bounds of an imported memory, which stays usable', () => {
        const components = fresh();
        const index = components.newMemory(1);
        const memory = components.memory(index);
        memory.writeFrom(0, Uint8Array.of(1));
        fails('Instantiation', () =>
          instance(
            wat('(module (import "env" "memory" (memory 1)) (data (i32.const 65536) "a"))'),
            { 'env.memory': index },
            components,
          ),
        );
        assert.deepEqual(memory.read(0, 1), Uint8Array.of(1));
        instance(
          wat('(module (import "env" "memory" (memory 1)) (data (i32.const 1) "a"))'),
          { 'env.memory': index },
          components,
        );
        assert.deepEqual(memory.read(0, 2), Uint8Array.of(1, 97));
      });

      it('for an element segment out of bounds', () => {
        fails('Instantiation', () =>
          instance(wat('(module (table 1 funcref) (elem (i32.const 1) 0) (func))')),
        );
        fails('Instantiation', () =>
          instance(wat('(module (table 2 funcref) (elem (i32.const 1) 0 0) (func))')),
        );
      });
    });

    it('leaves no index behind when it fails', () => {
      const components = fresh();
      fails('Instantiation', () => instance(wat('(module (import "env" "lost" (func)))'), {}, components));
      const index = components
        .instantiate(Instantiate.Version1, wat(SEVEN), environment(components), new JsSupervisor())
        .register(components, undefined);
      assert.equal(index, 0);
    });

    it('fails a hundred times without harm to what runs already', () => {
      const components = fresh();
      const alive = instance(wat(SEVEN), {}, components);
      for (let i = 0; i < 100; i++) {
        fails('Instantiation', () =>
          instance(wat('(module (memory 1) (data (i32.const -1) "a"))'), {}, components),
        );
        seven(alive);
      }
    });
  });
});
