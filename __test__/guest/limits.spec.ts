// SandboxOptions.limits, features and deterministic, exact at the boundary.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  LimitError,
  type SandboxBackend,
  SandboxComponents,
  type SandboxLimits,
  type SandboxOptions,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { wat } from '../support/wat';

const PAGE = 65_536;

function make(backend: SandboxBackend, limits: SandboxLimits): SandboxComponents<unknown> {
  return new SandboxComponents<unknown>(backend, { limits });
}

const supervisor = new JsSupervisor();

function instantiate(components: SandboxComponents<unknown>, text: string, memory?: number): number {
  const env = environment(components, {}, memory === undefined ? {} : { 'env.memory': memory });
  return components
    .instantiate(Instantiate.Version1, wat(text), env, supervisor)
    .register(components, undefined);
}

function call(components: SandboxComponents<unknown>, index: number, name: string, ...args: number[]) {
  return components.instance(index).invoke(name, args.map(Value.I32), supervisor);
}

const GROWING = `(memory (export "memory") 1)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))`;

describe('A limit', () => {
  forEachBackend((backend) => {
    it('bounds each memory, whoever makes or grows it', () => {
      const components = make(backend, { memoryBytes: 3 * PAGE });
      const error = caught(LimitError, () => components.newMemory(4));
      assert.match(error.message, /262144.*196608/);
      const index = components.newMemory(3);
      assert.equal(components.memory(index).memorySize(), 3);
      const shared = components.newMemory(1, 100);
      const guest = instantiate(
        components,
        `(module (import "env" "memory" (memory 1))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`,
        shared,
      );
      assert.deepEqual(call(components, guest, 'grow', 3), Value.I32(-1));
      assert.equal(components.memory(shared).memoryGrow(1), 1);
      assert.deepEqual(call(components, guest, 'grow', 1), Value.I32(2));
      assert.match(caught(LimitError, () => components.memory(shared).memoryGrow(1)).message, /196608/);
      assert.deepEqual(call(components, guest, 'grow', 0), Value.I32(3));

      const own = instantiate(components, `(module ${GROWING})`);
      assert.deepEqual(call(components, own, 'grow', 3), Value.I32(-1));
      assert.deepEqual(call(components, own, 'grow', 2), Value.I32(1));
      assert.match(
        caught(LimitError, () => instantiate(components, '(module (memory 4))')).message,
        /262144.*196608/,
      );
      assert.deepEqual(call(components, own, 'grow', 0), Value.I32(3));
    });

    it('bounds each memory of asynchronous guests', async () => {
      const components = make(backend, { memoryBytes: 3 * PAGE });
      const env = environment(components);
      await assert.rejects(
        components.instantiateAsync(Instantiate.Version1, wat('(module (memory 4))'), env, supervisor),
        LimitError,
      );
      const made = await components.instantiateAsync(
        Instantiate.Version1,
        wat(`(module ${GROWING})`),
        env,
        supervisor,
      );
      const instance = components.instance(made.register(components, undefined));
      assert.deepEqual(await instance.invokeAsync('grow', [Value.I32(3)], supervisor), Value.I32(-1));
      assert.deepEqual(await instance.invokeAsync('grow', [Value.I32(2)], supervisor), Value.I32(1));
    });

    it('bounds each table', () => {
      const components = make(backend, { tableElements: 10 });
      const table = (minimum: number): string => `(module (table ${minimum} externref)
        (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null extern) (local.get 0))))`;
      const guest = instantiate(components, table(4));
      assert.deepEqual(call(components, guest, 'grow', 7), Value.I32(-1));
      assert.deepEqual(call(components, guest, 'grow', 6), Value.I32(4));
      assert.deepEqual(call(components, guest, 'grow', 1), Value.I32(-1));
      instantiate(components, table(10));
      assert.match(caught(LimitError, () => instantiate(components, table(11))).message, /11.*10/);
    });

    it('bounds how many memories and instances are alive', () => {
      const components = make(backend, { memories: 2, instances: 2 });
      const memories = [components.newMemory(1), components.newMemory(1)];
      assert.match(caught(LimitError, () => components.newMemory(1)).message, /2 memories/);
      components.memoryTeardown(memories[0]);
      assert.equal(components.newMemory(1), 2);
      caught(LimitError, () => components.newMemory(1));
      const instances = [instantiate(components, '(module)'), instantiate(components, '(module)')];
      assert.match(caught(LimitError, () => instantiate(components, '(module)')).message, /2 instances/);
      components.instanceTeardown(instances[1]);
      assert.equal(instantiate(components, '(module)'), 2);
      caught(LimitError, () => instantiate(components, '(module)'));
      components.clear();
      assert.equal(components.newMemory(1), 0);
      assert.equal(instantiate(components, '(module)'), 0);
    });

    it('counts an instance that is not registered when it is', () => {
      const components = make(backend, { instances: 1 });
      const env = environment(components);
      const unregistered = [1, 2].map(() =>
        components.instantiate(Instantiate.Version1, wat('(module)'), env, supervisor),
      );
      unregistered[0].register(components, undefined);
      caught(LimitError, () => unregistered[1].register(components, undefined));
      components.clear();
      assert.equal(unregistered[1].register(components, undefined), 0);
    });

    it('bounds the size of a module', async () => {
      const wasm = wat(`(module ${GROWING})`);
      const components = make(backend, { moduleBytes: wasm.length });
      const env = environment(components);
      components.instantiate(Instantiate.Version1, wasm, env, supervisor);
      const longer = wat(`(module ${GROWING} (func (export "more")))`);
      const expected = new RegExp(`${longer.length} bytes.*${wasm.length}`);
      assert.match(
        caught(LimitError, () => components.instantiate(Instantiate.Version1, longer, env, supervisor))
          .message,
        expected,
      );
      await assert.rejects(
        components.instantiateAsync(Instantiate.Version1, longer, env, supervisor),
        (error) => error instanceof LimitError && expected.test(error.message),
      );
    });

    it('bounds the depth of calls', () => {
      const deep = `(module (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 1)))))`;
      for (const recursionDepth of [1, 50, 2000]) {
        const components = make(backend, { recursionDepth });
        const guest = instantiate(components, deep);
        assert.deepEqual(call(components, guest, 'f', recursionDepth - 1), Value.I32(recursionDepth));
        const error = caught(TrapError, () => call(components, guest, 'f', recursionDepth));
        assert.equal(error.trap, 'stack-overflow');
        assert.deepEqual(call(components, guest, 'f', recursionDepth - 1), Value.I32(recursionDepth));
      }
    });

    it('bounds the stack', () => {
      const deep = `(module (func $f (export "f") (param i32 i64 i64) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (local.get 2))))
          (else (i32.const 1))))
        (func (export "deep") (param i32) (result i32) (call $f (local.get 0) (i64.const 1) (i64.const 2))))`;
      const deepest = (limits: SandboxLimits): number => {
        const components = make(backend, { recursionDepth: 1_000_000, ...limits });
        const guest = instantiate(components, deep);
        let [fits, tooDeep] = [0, 1_000_000];
        while (tooDeep - fits > 100) {
          const middle = (fits + tooDeep) >>> 1;
          try {
            call(components, guest, 'deep', middle);
            fits = middle;
          } catch (error) {
            assert.equal((error as TrapError).trap, 'stack-overflow');
            tooDeep = middle;
          }
        }
        return fits;
      };
      const small = deepest({ stackBytes: 256 * 1024 });
      const large = deepest({ stackBytes: 8 * 1024 * 1024 });
      assert.ok(large > 8 * small, `${small} ${large}`);
      assert.ok(small > 500, `${small}`);
    });

    it('is checked: a wrong one is an error that names it', () => {
      const wrong: [Record<string, unknown>, string][] = [
        [{ limits: 5 }, 'options.limits'],
        [{ limits: { memory: 5 } }, 'options.limits.memory'],
        [{ limits: { memoryBytes: -1 } }, 'options.limits.memoryBytes'],
        [{ limits: { tableElements: 2 ** 32 } }, 'options.limits.tableElements'],
        [{ limits: { stackBytes: 65_535 } }, 'options.limits.stackBytes'],
        [{ limits: { stackBytes: 2 ** 26 + 1 } }, 'options.limits.stackBytes'],
        [{ limits: { recursionDepth: 0 } }, 'options.limits.recursionDepth'],
        [{ features: { memory64: true } }, 'options.features.memory64'],
        [{ features: { fast: true } }, 'options.features.fast'],
        [{ deterministic: true, features: { relaxedSimd: true } }, 'options.features.relaxedSimd'],
      ];
      for (const [options, argument] of wrong) {
        const error = caught(ArgumentError, () => new SandboxComponents(backend, options as SandboxOptions));
        assert.equal(error.argument, argument);
        assert.match(error.message, new RegExp(argument.replaceAll('.', '\\.')));
      }
      new SandboxComponents(backend, { limits: {}, features: {}, deterministic: false, fuel: false });
      new SandboxComponents(backend, { features: { threads: false, memory64: false, exceptions: false } });
    });

    it('of a feature refuses the modules that need it', () => {
      const cases = {
        simd: '(module (func (result v128) (i32x4.splat (i32.const 1))))',
        multiMemory: '(module (memory 1) (memory 1))',
        multiValue: '(module (func (result i32 i64) (i32.const 0) (i64.const 0)))',
        bulkMemory: '(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))',
        floats: '(module (func (param f32)))',
      };
      for (const [name, text] of Object.entries(cases)) {
        const off = new SandboxComponents<unknown>(backend, { features: { [name]: false } });
        const error = caught(InstantiationError, () => instantiate(off, text));
        assert.equal(error.kind, 'ModuleDecoding');
        instantiate(new SandboxComponents<unknown>(backend, { features: { [name]: true } }), text);
      }
    });
  });

  it('of tail calls is for wasmi', () => {
    caught(ArgumentError, () => new SandboxComponents('wasmer', { features: { tailCall: true } }));
    new SandboxComponents('wasmi', { features: { tailCall: true } });
  });
});

describe('Deterministic guests', () => {
  forEachBackend((backend) => {
    it('have canonical NaNs only', () => {
      const components = new SandboxComponents<unknown>(backend, { deterministic: true });
      const guest = instantiate(
        components,
        `(module
          (func (export "add") (param i32 i32) (result i32)
            (i32.reinterpret_f32 (f32.add (f32.reinterpret_i32 (local.get 0)) (f32.reinterpret_i32 (local.get 1)))))
          (func (export "sqrt") (param i32) (result i32)
            (i32.reinterpret_f32 (f32.sqrt (f32.reinterpret_i32 (local.get 0)))))
          (func (export "promote") (param i32) (result i32)
            (i32.wrap_i64 (i64.shr_u (i64.reinterpret_f64 (f64.promote_f32 (f32.reinterpret_i32 (local.get 0)))) (i64.const 32))))
          (func (export "neg") (param i32) (result i32)
            (i32.reinterpret_f32 (f32.neg (f32.reinterpret_i32 (local.get 0))))))`,
      );
      const [infinity, negative, odd] = [0x7f80_0000, 0xff80_0000 | 0, 0xffc1_2345 | 0];
      assert.deepEqual(call(components, guest, 'add', infinity, negative), Value.I32(0x7fc0_0000));
      assert.deepEqual(call(components, guest, 'add', odd, 0), Value.I32(0x7fc0_0000));
      assert.deepEqual(call(components, guest, 'sqrt', 0xbf80_0000 | 0), Value.I32(0x7fc0_0000));
      assert.deepEqual(call(components, guest, 'promote', odd), Value.I32(0x7ff8_0000));
      assert.deepEqual(
        call(components, guest, 'neg', odd),
        Value.I32(0x7fc1_2345),
        'the sign is all that changes',
      );
      assert.deepEqual(call(components, guest, 'add', 0x3f80_0000, 0x3f80_0000), Value.I32(0x4000_0000));
    });

    it('have no relaxed SIMD', () => {
      // i8x16.relaxed_swizzle, which wabt does not know: (func (param v128 v128) (result v128))
      const code = [0x00, 0x20, 0x00, 0x20, 0x01, 0xfd, 0x80, 0x02, 0x0b];
      const wasm = new Uint8Array([
        ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
        ...[0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b],
        ...[0x03, 0x02, 0x01, 0x00],
        ...[0x0a, code.length + 2, 0x01, code.length, ...code],
      ]);
      const make = (options: SandboxOptions) => (): unknown => {
        const components = new SandboxComponents<unknown>(backend, options);
        return components.instantiate(Instantiate.Version1, wasm, environment(components), supervisor);
      };
      make({})();
      caught(InstantiationError, make({ deterministic: true }));
      caught(InstantiationError, make({ features: { relaxedSimd: false } }));
    });

    it('trap at the same depth', () => {
      const components = new SandboxComponents<unknown>(backend, { deterministic: true });
      const guest = instantiate(
        components,
        `(module (func $f (export "f") (param i32) (result i32)
          (if (result i32) (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 7)))))`,
      );
      assert.deepEqual(call(components, guest, 'f', 10_239), Value.I32(7));
      assert.equal(caught(TrapError, () => call(components, guest, 'f', 10_240)).trap, 'stack-overflow');
    });
  });
});
