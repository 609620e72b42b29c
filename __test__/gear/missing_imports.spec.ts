// What an environment lacks of what a module imports: all of it at once, as data and in one line that says what can be given.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CompiledModule,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  MEM_UNLIMITED,
  type MissingImport,
  type SandboxBackend,
  SandboxComponents,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, rejection } from '../support/expect';
import { wat } from '../support/wat';

interface Given {
  functions?: Record<string, number>;
  /** The limits in pages, by `module.field`. */
  memories?: Record<string, readonly [initial: number, maximum?: number]>;
}

/** The error for a module that imports what its environment does not have. */
function lacking(backend: SandboxBackend, text: string, given: Given = {}): InstantiationError {
  const components = new SandboxComponents(backend);
  const memories = Object.entries(given.memories ?? {}).map(([name, [initial, maximum = MEM_UNLIMITED]]) => [
    name,
    components.newMemory(initial, maximum),
  ]);
  const env = environment(components, given.functions ?? {}, Object.fromEntries(memories));
  return caught(InstantiationError, () =>
    components.instantiate(Instantiate.Version1, wat(text), env, new JsSupervisor()),
  );
}

function names(missing: readonly MissingImport[] | undefined): string[] | undefined {
  return missing?.map(({ module, name }) => `${module}.${name}`);
}

const EVERY_KIND = `(module
  (import "env" "read" (func (param i32 i64) (result f32 f64)))
  (import "env" "memory" (memory 1 4))
  (import "js" "table" (table 2 8 funcref))
  (import "js" "count" (global (mut i64)))
  (import "js" "limit" (global i32)))`;

describe('Imports that an environment lacks', () => {
  forEachBackend((backend) => {
    it('are all data, with their kinds and types, in the order of the module', () => {
      const { missing, code } = lacking(backend, EVERY_KIND);
      assert.equal(code, 'ERR_SANDBOX_INSTANTIATION');
      assert.deepEqual(missing, [
        {
          module: 'env',
          name: 'read',
          kind: 'function',
          type: { parameters: ['i32', 'i64'], results: ['f32', 'f64'] },
        },
        { module: 'env', name: 'memory', kind: 'memory', type: { minimum: 1, maximum: 4 } },
        {
          module: 'js',
          name: 'table',
          kind: 'table',
          type: { element: 'funcref', minimum: 2, maximum: 8 },
        },
        { module: 'js', name: 'count', kind: 'global', type: { value: 'i64', mutable: true } },
        { module: 'js', name: 'limit', kind: 'global', type: { value: 'i32', mutable: false } },
      ]);
      assert.ok(Object.isFrozen(missing) && missing?.every((one) => Object.isFrozen(one)));
    });

    it('are all named in the message, with their types and what can be given at all', () => {
      assert.equal(
        lacking(backend, EVERY_KIND).message,
        'the environment does not satisfy 5 imports: env.read: a function (i32, i64) -> (f32, f64); ' +
          'env.memory: a memory of 1 page with a maximum of 4; ' +
          'js.table: a table of funcref of 2 elements with a maximum of 8; ' +
          'js.count: a mutable global of type i64; js.limit: a global of type i32. ' +
          'Of these, some can never be satisfied: an environment gives functions and memories only',
      );
    });

    it('are the same for an asynchronous call', async () => {
      const components = new SandboxComponents(backend);
      const promised = components.instantiateAsync(
        Instantiate.Version1,
        wat(EVERY_KIND),
        environment(components),
        new JsSupervisor(),
      );
      const { message, missing } = lacking(backend, EVERY_KIND);
      const error = await rejection(InstantiationError, promised);
      assert.deepEqual([error.message, error.missing], [message, missing]);
    });

    it('are those alone that are lacking', () => {
      const text = `(module
        (import "env" "a" (func)) (import "env" "b" (func)) (import "env" "c" (func)) (import "env" "m" (memory 1)))`;
      const { missing, message } = lacking(backend, text, {
        functions: { 'env.b': 0 },
        memories: { 'env.m': [1] },
      });
      assert.deepEqual(names(missing), ['env.a', 'env.c']);
      assert.equal(
        message,
        'the environment does not satisfy 2 imports: env.a: a function () -> (); env.c: a function () -> ()',
      );
    });

    it('are named alone if there is one', () => {
      for (const [text, message] of [
        [
          '(import "env" "f" (func (param i32)))',
          'the environment has no function for the import env.f: a function (i32) -> ()',
        ],
        [
          '(import "env" "m" (memory 2))',
          'the environment has no memory for the import env.m: a memory of 2 pages with no maximum',
        ],
        [
          '(import "env" "t" (table 1 externref))',
          'the import env.t cannot be satisfied: it is a table of externref of 1 element with no maximum, and an environment gives functions and memories only',
        ],
        [
          '(import "env" "g" (global (mut f64)))',
          'the import env.g cannot be satisfied: it is a mutable global of type f64, and an environment gives functions and memories only',
        ],
      ] as const) {
        assert.equal(lacking(backend, `(module ${text})`).message, message);
      }
    });

    it('say what the environment has under the name of another kind', () => {
      const given: Given = { functions: { 'env.m': 0, 'env.g': 0 }, memories: { 'env.f': [1] } };
      for (const [text, has, message] of [
        [
          '(import "env" "f" (func))',
          'a memory',
          'the environment has no such function for the import env.f: a function () -> (), but it has a memory',
        ],
        [
          '(import "env" "m" (memory 1))',
          'a function',
          'the environment has no such memory for the import env.m: a memory of 1 page with no maximum, but it has a function',
        ],
        [
          '(import "env" "g" (global i32))',
          'a function',
          'the import env.g cannot be satisfied: it is a global of type i32, and an environment gives functions and memories only',
        ],
      ] as const) {
        const error = lacking(backend, `(module ${text})`, given);
        assert.equal(error.missing?.[0]?.given, has);
        assert.equal(error.message, message);
      }
    });

    it('may be memories of another type, which the message tells beside the one that is needed', () => {
      for (const [wanted, given, has] of [
        ['2 4', [1, 4], 'a memory of 1 page with a maximum of 4'],
        ['1 4', [1, 5], 'a memory of 1 page with a maximum of 5'],
        ['1 4', [1], 'a memory of 1 page with no maximum'],
        ['0 0', [0, 1], 'a memory of 0 pages with a maximum of 1'],
      ] as const) {
        const error = lacking(backend, `(module (import "env" "m" (memory ${wanted})))`, {
          memories: { 'env.m': given },
        });
        assert.equal(error.kind, 'Instantiation');
        assert.equal(error.missing?.[0]?.given, has);
        assert.match(error.message, new RegExp(`has no such memory .* but it has ${has}$`));
      }
    });

    it('are none for memories that fit at the edges of their types', () => {
      const components = new SandboxComponents(backend);
      for (const [wanted, initial, maximum] of [
        ['0', 0, MEM_UNLIMITED],
        ['1', 2, 2],
        ['1 4', 1, 4],
        ['1 4', 4, 4],
        ['1 65536', 1, 65_536],
      ] as const) {
        const env = environment(components, {}, { 'env.m': components.newMemory(initial, maximum) });
        const text = `(module (import "env" "m" (memory ${wanted})))`;
        components.instantiate(Instantiate.Version1, wat(text), env, new JsSupervisor());
      }
    });

    it('have the kind of a missing memory if there is one among them, as in the reference', () => {
      const memory = '(import "env" "m" (memory 1))';
      assert.equal(lacking(backend, `(module (import "env" "f" (func)) ${memory})`).kind, 'ModuleDecoding');
      assert.equal(
        lacking(backend, `(module ${memory})`, { functions: { 'env.m': 0 } }).kind,
        'ModuleDecoding',
      );
      assert.equal(lacking(backend, '(module (import "env" "f" (func)))').kind, 'Instantiation');
    });

    it('are all data and a short message, however many there are and however long their names are', () => {
      const long = 'x'.repeat(5_000);
      const many = Array.from(
        { length: 5_000 },
        (_, index) => `(import "${long.slice(0, 40)}" "${index}" (func (param ${'i32 '.repeat(60)})))`,
      );
      const error = lacking(backend, `(module (import "${long}" "${long}" (func)) ${many.join('')})`);
      assert.equal(error.missing?.length, 5_001);
      assert.equal(error.missing?.[0]?.name, long);
      assert.match(error.message, /; and 4991 more$/);
      assert.match(error.message, /and 50 more\) -> \(\)/);
      assert.ok(error.message.length < 3_000, `${error.message.length} characters`);
    });
  });
});

describe('What a compiled module imports and exports', () => {
  forEachBackend((backend) => {
    it('is data of the same shape, frozen, and the same each time', async () => {
      const text = `(module
        (import "env" "read" (func (param i64) (result i32)))
        (import "env" "memory" (memory 1))
        (import "js" "table" (table 2 funcref))
        (import "js" "count" (global (mut f32)))
        (func (export "run"))
        (export "again" (memory 0)) (export "table" (table 0)) (export "count" (global 0)))`;
      const module = await CompiledModule.compile(backend, wat(text));
      assert.deepEqual(module.imports, [
        { module: 'env', name: 'read', kind: 'function', type: { parameters: ['i64'], results: ['i32'] } },
        { module: 'env', name: 'memory', kind: 'memory', type: { minimum: 1 } },
        { module: 'js', name: 'table', kind: 'table', type: { element: 'funcref', minimum: 2 } },
        { module: 'js', name: 'count', kind: 'global', type: { value: 'f32', mutable: true } },
      ]);
      assert.deepEqual(module.exports, [
        { name: 'run', kind: 'function', type: { parameters: [], results: [] } },
        { name: 'again', kind: 'memory', type: { minimum: 1 } },
        { name: 'table', kind: 'table', type: { element: 'funcref', minimum: 2 } },
        { name: 'count', kind: 'global', type: { value: 'f32', mutable: true } },
      ]);
      for (const list of [module.imports, module.exports] as (readonly object[])[]) {
        assert.ok(Object.isFrozen(list) && list.every((one) => Object.isFrozen(one)));
      }
      assert.equal(module.imports, module.imports);
      assert.equal(module.exports, module.exports);
    });

    it('is empty for a module without either', async () => {
      const module = await CompiledModule.compile(backend, wat('(module)'));
      assert.deepEqual([module.imports, module.exports], [[], []]);
    });
  });
});
