// CompiledModule: compiling off the JavaScript thread, keeping machine code, and the cache on disk.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  ArgumentError,
  CompiledModule,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  LimitError,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  type SandboxOptions,
  Value,
} from '../../index';
import { runSnippet } from '../support/child';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { wat } from '../support/wat';

const GUEST = `(module (memory (export "memory") 1) (global (export "g") i32 (i32.const 5))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func $s (i32.store (i32.const 0) (i32.const 42))) (start $s))`;

/** Takes Cranelift some hundred milliseconds. */
const large = (): Uint8Array => {
  const body = '(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 7)) (i32.const 3)))'.repeat(300);
  return wat(`(module ${`(func (param i32) (result i32) ${body} (local.get 0))`.repeat(60)})`);
};

const supervisor = new JsSupervisor();

/** Makes an instance and looks whether it is one of `GUEST`. */
function use(backend: SandboxBackend, module: CompiledModule | Uint8Array, options?: SandboxOptions): void {
  const components = new SandboxComponents<undefined>(backend, options);
  const made = components.instantiate(Instantiate.Version1, module, environment(components), supervisor);
  const instance = components.instance(made.register(components, undefined));
  assert.deepEqual(instance.invoke('add', [Value.I32(2), Value.I32(3)], supervisor), Value.I32(5));
  assert.equal(instance.getMemory('memory')?.read(0, 1)[0], 42);
  assert.deepEqual(
    instance.exports.map(({ name }) => name),
    ['memory', 'g', 'add'],
  );
}

const folders: string[] = [];
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'sandbox-host-cache-'));
  folders.push(made);
  return made;
};
after(() => {
  for (const made of folders) rmSync(made, { recursive: true });
});

describe('A compiled module', () => {
  forEachBackend((backend) => {
    it('is instantiated as often as one likes, in components with the same options', async () => {
      const module = await CompiledModule.compile(backend, wat(GUEST));
      assert.equal(module.backend, backend);
      use(backend, module);
      use(backend, module);
      use(backend, module, { limits: { memoryBytes: 65_536, instances: 1 } });
      const components = new SandboxComponents<undefined>(backend);
      const made = await components.instantiateAsync(
        Instantiate.Version1,
        module,
        environment(components),
        supervisor,
      );
      assert.equal(made.register(components, undefined), 0);
    });

    it('is refused by components of another backend or with other options', async () => {
      const module = await CompiledModule.compile(backend, wat(GUEST));
      const other = backend === 'wasmi' ? 'wasmer' : 'wasmi';
      for (const use1 of [() => use(other, module), () => use(backend, module, { fuel: true })])
        assert.equal(caught(ArgumentError, use1).argument, 'wasm');
      use(backend, await CompiledModule.compile(backend, wat(GUEST), { fuel: true }), { fuel: true });
    });

    it('is compiled while the event loop runs, and nobody has to wait for it', async () => {
      const controller = new AbortController();
      const compiling = CompiledModule.compile(backend, large(), { signal: controller.signal, cache: false });
      const reason = new Error('changed my mind');
      controller.abort(reason);
      await assert.rejects(compiling, (error) => error === reason);
      await assert.rejects(
        CompiledModule.compile(backend, large(), { signal: AbortSignal.abort(reason) }),
        (error) => error === reason,
      );
      use(backend, await CompiledModule.compile(backend, wat(GUEST), { timeout: 100_000 }));
    });

    it('rejects what is wrong', async () => {
      await assert.rejects(CompiledModule.compile(backend, new Uint8Array(5)), InstantiationError);
      await assert.rejects(
        CompiledModule.compile(backend, wat(GUEST), { limits: { moduleBytes: 10 } }),
        LimitError,
      );
    });

    it('counts against the limits of the components', async () => {
      const module = await CompiledModule.compile(backend, wat(GUEST));
      const few = { limits: { moduleBytes: wat(GUEST).length - 1 } };
      caught(LimitError, () => use(backend, module, few));
    });
  });

  it('of wasmer can be kept as bytes', async () => {
    for (const options of [{}, { fuel: true, limits: { recursionDepth: 50 } }, { deterministic: true }]) {
      const module = await CompiledModule.compile('wasmer', wat(GUEST), options);
      const loaded = CompiledModule.unsafeDeserialize('wasmer', module.serialize(), options);
      use('wasmer', loaded, options);
      assert.deepEqual(loaded.serialize(), module.serialize());
    }
  });

  it('as bytes is refused if it is damaged, or for other options', async () => {
    const bytes = (await CompiledModule.compile('wasmer', wat(GUEST))).serialize();
    const load = (given: Uint8Array, options?: SandboxOptions) => (): unknown =>
      CompiledModule.unsafeDeserialize('wasmer', given, options);
    for (const length of [0, 1, 20, 100, bytes.length - 1])
      assert.match(caught(InstantiationError, load(bytes.slice(0, length))).message, /truncated|damaged/);
    for (let at = 0; at < bytes.length; at += 37) {
      const damaged = bytes.slice();
      damaged[at] ^= 4;
      caught(InstantiationError, load(damaged));
    }
    assert.match(caught(InstantiationError, load(bytes, { fuel: true })).message, /other options/);
    load(bytes)();
  });

  it('of wasmi makes no machine code', async () => {
    const module = await CompiledModule.compile('wasmi', wat(GUEST));
    caught(ArgumentError, () => module.serialize());
    caught(ArgumentError, () => CompiledModule.unsafeDeserialize('wasmi', new Uint8Array(10)));
  });
});

describe('A cache on disk', () => {
  it('keeps machine code for the next cache, and for other processes', async () => {
    const unsafeDirectory = join(folder(), 'made when missing');
    const compile = (): void => use('wasmer', wat(GUEST), { cache: new ModuleCache({ unsafeDirectory }) });
    compile();
    const files = readdirSync(unsafeDirectory);
    assert.equal(files.length, 1);
    const before = readFileSync(join(unsafeDirectory, files[0]));
    compile();
    assert.deepEqual(readdirSync(unsafeDirectory), files);
    const child = await runSnippet(
      `import { ModuleCache, SandboxComponents, JsSupervisor, GuestEnvironment, EnvironmentDefinitionBuilder, Instantiate } from '../../index';
       const cache = new ModuleCache({ unsafeDirectory: process.argv[1] });
       const components = new SandboxComponents('wasmer', { cache });
       const env = GuestEnvironment.decode(components, new EnvironmentDefinitionBuilder().encode());
       components.instantiate(Instantiate.Version1, Buffer.from(process.argv[2], 'base64'), env, new JsSupervisor());`,
      { args: [unsafeDirectory, Buffer.from(wat(GUEST)).toString('base64')] },
    );
    assert.equal(child.code, 0, child.stderr);
    assert.deepEqual(readdirSync(unsafeDirectory), files);
    assert.deepEqual(readFileSync(join(unsafeDirectory, files[0])), before);
  });

  it('keeps what depends on the options apart, and nothing of wasmi', () => {
    const unsafeDirectory = folder();
    const count = (backend: SandboxBackend, options: SandboxOptions): number => {
      use(backend, wat(GUEST), { ...options, cache: new ModuleCache({ unsafeDirectory }) });
      return readdirSync(unsafeDirectory).length;
    };
    assert.equal(count('wasmi', {}), 0);
    assert.equal(count('wasmer', {}), 1);
    assert.equal(count('wasmer', { fuel: true }), 2);
    assert.equal(count('wasmer', { optLevel: 'none' }), 3);
    assert.equal(count('wasmer', { interruptible: false }), 4);
    assert.equal(count('wasmer', { limits: { memoryBytes: 65_536 } }), 4);
    assert.equal(count('wasmer', { features: { simd: false } }), 4);
  });

  it('compiles again what is damaged', () => {
    const unsafeDirectory = folder();
    const compile = (): void => use('wasmer', wat(GUEST), { cache: new ModuleCache({ unsafeDirectory }) });
    compile();
    const file = join(unsafeDirectory, readdirSync(unsafeDirectory)[0]);
    const good = readFileSync(file);
    for (const bytes of [good.subarray(0, 50), Buffer.alloc(0), Buffer.alloc(good.length, 7)]) {
      writeFileSync(file, bytes);
      compile();
      assert.deepEqual(readFileSync(file).subarray(0, 52), good.subarray(0, 52));
      assert.equal(readFileSync(file).length, good.length);
    }
  });

  it('refuses a folder that it cannot use or should not trust', () => {
    const file = join(folder(), 'file');
    writeFileSync(file, '');
    for (const unsafeDirectory of [file, '', 'a\0b', 5] as string[]) {
      const error = caught(ArgumentError, () => new ModuleCache({ unsafeDirectory }));
      assert.equal(error.argument, 'options.unsafeDirectory');
    }
    if (process.platform === 'win32') return;
    const open = folder();
    chmodSync(open, 0o777);
    caught(ArgumentError, () => new ModuleCache({ unsafeDirectory: open }));
    assert.ok(existsSync(open));
  });
});
