// Handles in places that are no calls of theirs: cloned, inspected, and given to another copy of the package.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { serialize } from 'node:v8';
import { MessageChannel } from 'node:worker_threads';
import * as sandboxHost from '../../index';
import {
  ArgumentError,
  CompiledModule,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  SandboxHost,
  SandboxInstance,
  UnregisteredInstance,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { caught, rejection } from '../support/expect';
import { V8 } from '../support/v8';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f))
  (import "env" "memory" (memory 1 4))
  (func (export "run") (call $f))
  (global (export "count") i32 (i32.const 1)))`;

type Package = typeof sandboxHost;

/** One of each class, made by a copy of the package. */
async function handlesOf(copy: Package, backend: SandboxBackend) {
  const components = new copy.SandboxComponents<undefined>(backend);
  const supervisor = new copy.JsSupervisor();
  const memoryIndex = components.newMemory(2, 3);
  const builder = new copy.EnvironmentDefinitionBuilder()
    .addHostFunc(
      'env',
      'f',
      supervisor.define(() => undefined),
    )
    .addMemory('env', 'memory', memoryIndex);
  const env = copy.GuestEnvironment.decode(components, builder.encode());
  const make = () => components.instantiate(Instantiate.Version1, wat(GUEST), env, supervisor);
  const instance = components.instance(make().register(components, undefined));
  const memory = new V8.Memory({ initial: 1 });
  const table = new V8.Table({ element: 'anyfunc', initial: 1 });
  return {
    SandboxComponents: components,
    JsSupervisor: supervisor,
    Memory: components.memory(memoryIndex),
    EnvironmentDefinitionBuilder: builder,
    GuestEnvironment: env,
    UnregisteredInstance: make(),
    SandboxInstance: instance,
    CompiledModule: await copy.CompiledModule.compile(backend, wat(GUEST)),
    ModuleCache: new copy.ModuleCache({ entries: 4 }),
    SandboxHost: new copy.SandboxHost({
      backend,
      memory: () => memory,
      table: () => table,
      allocator: { allocate: () => 0, deallocate() {} },
    }),
  };
}

const classes = {
  SandboxComponents,
  JsSupervisor,
  Memory,
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  UnregisteredInstance,
  SandboxInstance,
  CompiledModule,
  ModuleCache,
  SandboxHost,
};

/** The package once more, as a bundle or another module system loads it. */
function anotherCopy(): Package {
  const root = require.resolve('../../index');
  const folder = root.slice(0, -'index.ts'.length);
  const isOurs = (path: string): boolean => path === root || path.startsWith(`${folder}lib/`);
  const kept = Object.entries(require.cache).filter(([path]) => isOurs(path));
  for (const [path] of kept) delete require.cache[path];
  try {
    return require('../../index') as Package;
  } finally {
    for (const path of Object.keys(require.cache).filter(isOurs)) delete require.cache[path];
    for (const [path, module] of kept) require.cache[path] = module;
  }
}

describe('A handle', () => {
  forEachBackend((backend) => {
    it('cannot be cloned, sent or serialised, alone or in something else, which is better than a hollow object', async () => {
      for (const [name, handle] of Object.entries(await handlesOf(sandboxHost, backend))) {
        const isDataCloneError = (error: unknown): boolean =>
          error instanceof DOMException && error.name === 'DataCloneError';
        assert.throws(() => structuredClone(handle), isDataCloneError, name);
        assert.throws(() => structuredClone({ deep: [new Map([[1, handle]])] }), isDataCloneError, name);
        const { port1 } = new MessageChannel();
        assert.throws(() => port1.postMessage(handle), /could not be cloned/, name);
        port1.close();
        assert.throws(() => serialize(handle), /could not be cloned/, name);
      }
    });

    it('is an object of its class, and of nothing else', async () => {
      for (const [name, handle] of Object.entries(await handlesOf(sandboxHost, backend))) {
        const Class = classes[name as keyof typeof classes];
        assert.equal(Object.getPrototypeOf(handle), Class.prototype, name);
        assert.ok(!Object.prototype.isPrototypeOf.call(WeakRef.prototype, handle), name);
        assert.ok(!(handle instanceof WeakRef), name);
        assert.equal('deref' in handle, false, name);
        assert.equal(Object.prototype.toString.call(handle), '[object Object]', name);
      }
    });

    it('shows what it is', async () => {
      const handles = await handlesOf(sandboxHost, backend);
      const shown = Object.fromEntries(
        Object.entries(handles).map(([name, handle]) => [name, inspect(handle)]),
      );
      assert.deepEqual(shown, {
        SandboxComponents: `SandboxComponents { backend: '${backend}', memories: 1, instances: 1 }`,
        JsSupervisor: 'JsSupervisor { functions: 1 }',
        Memory: `Memory { backend: '${backend}', pages: 2, maximum: 3 }`,
        EnvironmentDefinitionBuilder: "EnvironmentDefinitionBuilder { entries: [ 'env.f', 'env.memory' ] }",
        GuestEnvironment: "GuestEnvironment { functions: [ 'env.f' ], memories: [ 'env.memory' ] }",
        UnregisteredInstance:
          'UnregisteredInstance {\n' +
          `  instance: SandboxInstance { backend: '${backend}', exports: [ 'run', 'count' ] }\n}`,
        SandboxInstance: `SandboxInstance { index: 0, backend: '${backend}', exports: [ 'run', 'count' ] }`,
        CompiledModule:
          `CompiledModule {\n  backend: '${backend}',\n  bytes: ${wat(GUEST).length},\n` +
          "  imports: [ 'env.f', 'env.memory' ],\n  exports: [ 'run', 'count' ]\n}",
        ModuleCache: 'ModuleCache { entries: 4 }',
        SandboxHost:
          'SandboxHost {\n' +
          `  components: SandboxComponents { backend: '${backend}', memories: 0, instances: 0 }\n}`,
      });
      assert.equal(inspect([[[handles.Memory]]], { depth: 2 }), '[ [ [ [Memory] ] ] ]');
    });

    it('says that it was torn down, registered, or is busy', async () => {
      const { SandboxComponents: components, ...handles } = await handlesOf(sandboxHost, backend);
      const running = handles.SandboxInstance.invokeAsync('run');
      assert.equal(inspect(handles.Memory), `Memory { backend: '${backend}', isBusy: true }`);
      await running;
      handles.UnregisteredInstance.register(components, undefined);
      assert.equal(inspect(handles.UnregisteredInstance), 'UnregisteredInstance { isRegistered: true }');
      components.instanceTeardown(0);
      assert.match(inspect(handles.SandboxInstance), /isTornDown: true/);
      components.clear();
      assert.match(inspect(handles.Memory), /pages: 2/, 'a memory that is held stays usable');
    });

    it('is shown in few characters, however many names a guest has and however long they are', async () => {
      const exports = Array.from(
        { length: 2_000 },
        (_, index) => `(export "${index}${'x'.repeat(500)}" (func 0))`,
      );
      const module = await CompiledModule.compile(backend, wat(`(module (func) ${exports.join('')})`));
      const shown = inspect(module, { maxArrayLength: null, maxStringLength: null, depth: null });
      assert.ok(shown.length < 1_500, `${shown.length} characters`);
      assert.match(shown, /… and 1990 more/);
    });
  });

  it('runs no code of others when it is shown, and lets impostors be shown as the objects that they are', async () => {
    const fail = (): never => assert.fail('its code has run');
    const { Memory: memory } = await handlesOf(sandboxHost, 'wasmi');
    const custom = (memory as unknown as Record<symbol, (...args: unknown[]) => unknown>)[inspect.custom]!;
    for (const receiver of [
      new Proxy(memory, { get: fail, has: fail, getPrototypeOf: fail }),
      Object.create(Memory.prototype),
      Memory.prototype,
      undefined,
      5,
    ]) {
      assert.equal(custom.call(receiver, 2, {}), receiver);
    }
    for (const Class of Object.values(classes)) {
      assert.equal(typeof inspect(Class.prototype), 'string');
      assert.equal(typeof inspect(Object.create(Class.prototype)), 'string');
    }
    assert.equal(typeof custom.call(memory), 'string');
  });

  it('of another copy of the package is called that, for every argument that takes one', async () => {
    const copy = anotherCopy();
    assert.notEqual(copy.SandboxComponents, SandboxComponents);
    const here = await handlesOf(sandboxHost, 'wasmi');
    const there = (await handlesOf(copy, 'wasmi')) as unknown as typeof here;
    const { SandboxComponents: components, GuestEnvironment: env, JsSupervisor: supervisor } = here;
    const definition = here.EnvironmentDefinitionBuilder.encode();
    const wasm = wat(GUEST);
    const refused = (argument: string, name: string, error: ArgumentError): void => {
      assert.equal(error.argument, argument);
      assert.match(
        error.message,
        new RegExp(`^${argument.replace('.', '\\.')} must be .*, got ${name} of another copy`),
      );
      assert.match(error.message, /of sandbox-host, of version \d+\.\d+\.\d+.*: load the package once$/);
    };
    const v1 = Instantiate.Version1;
    for (const [argument, name, run] of [
      ['components', 'SandboxComponents', () => GuestEnvironment.decode(there.SandboxComponents, definition)],
      [
        'components',
        'SandboxComponents',
        () => here.UnregisteredInstance.register(there.SandboxComponents, undefined),
      ],
      ['env', 'GuestEnvironment', () => components.instantiate(v1, wasm, there.GuestEnvironment, supervisor)],
      [
        'wasm',
        'CompiledModule',
        () => components.instantiate(v1, there.CompiledModule as never, env, supervisor),
      ],
      ['ctx', 'JsSupervisor', () => components.instantiate(v1, wasm, env, there.JsSupervisor)],
      ['ctx', 'JsSupervisor', () => here.SandboxInstance.invoke('run', [], there.JsSupervisor)],
      ['options.cache', 'ModuleCache', () => new SandboxComponents('wasmi', { cache: there.ModuleCache })],
    ] as const) {
      refused(argument, name, caught(ArgumentError, run));
    }
    for (const [argument, name, promise] of [
      ['ctx', 'JsSupervisor', here.SandboxInstance.invokeAsync('run', [], there.JsSupervisor)],
      ['ctx', 'JsSupervisor', components.instantiateAsync(v1, wasm, env, there.JsSupervisor)],
      ['env', 'GuestEnvironment', components.instantiateAsync(v1, wasm, there.GuestEnvironment, supervisor)],
    ] as const) {
      refused(argument, name, await rejection(ArgumentError, promise));
    }
    // Each copy goes on with its own.
    there.SandboxInstance.invoke('run', []);
    here.SandboxInstance.invoke('run', []);
  });

  it('of a class derived from one of another copy is called that too', async () => {
    const copy = anotherCopy();
    class Mine extends copy.SandboxComponents<undefined> {}
    const run = (): unknown => GuestEnvironment.decode(new Mine('wasmi') as never, new Uint8Array([0]));
    assert.match(caught(ArgumentError, run).message, /got SandboxComponents of another copy/);
  });

  it('that only has the prototype is called that', () => {
    const fake = Object.create(SandboxComponents.prototype) as SandboxComponents;
    const error = caught(ArgumentError, () => GuestEnvironment.decode(fake, new Uint8Array([0])));
    assert.match(error.message, /got an object with the prototype of SandboxComponents that is none$/);
  });

  it('can still be derived from', async () => {
    class Mine extends SandboxComponents<undefined> {
      readonly #secret = 5;

      get secret(): number {
        return this.#secret;
      }
    }
    const mine = new Mine('wasmi');
    assert.equal(mine.secret, 5);
    assert.ok(mine instanceof SandboxComponents);
    assert.equal(mine.newMemory(1), 0);
    assert.throws(() => structuredClone(mine), /could not be cloned/);
  });
});
