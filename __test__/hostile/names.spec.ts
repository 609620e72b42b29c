// Names and types that a guest chooses: they are whole in data and short in messages, and types do not make a small module cost much.
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  CompiledModule,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  NoExportError,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SupervisorEvent,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { guest } from '../support/guest';
import {
  body,
  bytes,
  exported,
  funcType,
  I32,
  I64,
  moduleBytes,
  named,
  repeat,
  vector,
} from '../support/module_bytes';
import { wat } from '../support/wat';

/** Names as long as a module can have them, but for one byte. */
const LONG = 'n'.repeat(99_999);

/** More than any sentence needs that has two names in it. */
const MOST_CHARACTERS = 1_000;

const GUEST = `(module
  (import "${LONG}" "${LONG}" (func $f (result i32)))
  (table (export "t${LONG}") 1 funcref)
  (memory (export "m${LONG}") 1)
  (global (export "g${LONG}") (mut i32) (i32.const 0))
  (func (export "r${LONG}") (param externref))
  (func (export "f${LONG}") (result i32) (call $f))
  (func (export "u${LONG}") unreachable))`;

function longNamed(backend: SandboxBackend) {
  const { instance } = guest({ backend, wat: GUEST, imports: { [`${LONG}.${LONG}`]: () => undefined } });
  return instance;
}

function assertShort(error: Error): void {
  const { message, stack = '' } = error;
  assert.ok(message.length < MOST_CHARACTERS, `a message of ${message.length} characters`);
  assert.ok(message.includes('n'.repeat(50)), 'the message has some of the name');
  assert.ok(stack.length < 5 * MOST_CHARACTERS, `a stack of ${stack.length} characters`);
}

describe('A name that is as long as can be', () => {
  forEachBackend((backend) => {
    it('is short in the message of a trap, and whole beside it', () => {
      const error = caught(TrapError, () => longNamed(backend).invoke(`u${LONG}`));
      assertShort(error);
      assert.equal(error.exportName, `u${LONG}`);
    });

    it('is short where a supervisor function for it gives a wrong result', () => {
      const error = caught(TrapError, () => longNamed(backend).invoke(`f${LONG}`));
      assert.match(error.message, /must return i32, got undefined$/);
      assertShort(error);
    });

    it('is short where an export is missing or of another kind', () => {
      const instance = longNamed(backend);
      for (const [name, what] of [
        [`x${LONG}`, /^there is no export xn+…$/],
        [`t${LONG}`, /^the export tn+… is a table, not a function$/],
        [`m${LONG}`, /^the export mn+… is a memory, not a function$/],
        [`g${LONG}`, /^the export gn+… is a global, not a function$/],
      ] as const) {
        const error = caught(NoExportError, () => instance.invoke(name));
        assert.match(error.message, what);
        assertShort(error);
        assert.equal(error.exportName, name);
      }
      assertShort(caught(ArgumentError, () => instance.invoke(`r${LONG}`, [0])));
    });

    it('is short where a global is of another type', () => {
      const instance = longNamed(backend);
      assertShort(caught(SandboxError, () => instance.setGlobalVal(`g${LONG}`, Value.I64(0n))));
    });

    it('is short where an import is missing, and whole in what is missing', () => {
      const components = new SandboxComponents<unknown>(backend);
      const env = environment(components);
      const error = caught(InstantiationError, () =>
        components.instantiate(Instantiate.Version1, wat(GUEST), env, new JsSupervisor()),
      );
      assertShort(error);
      assert.deepEqual([error.missing?.[0].module, error.missing?.[0].name], [LONG, LONG]);
    });

    it('is short where a module has it twice', () => {
      const wasm = moduleBytes({
        types: vector(1, funcType([])),
        functions: vector(1, 0),
        exports: vector(2, exported(LONG, 'function'), exported(LONG, 'function')),
        code: vector(1, body([])),
      });
      const components = new SandboxComponents<unknown>(backend);
      const error = caught(InstantiationError, () =>
        components.instantiate(Instantiate.Version1, wasm, environment(components), new JsSupervisor()),
      );
      assert.ok(error.message.length < 5_000, `a message of ${error.message.length} characters`);
    });

    it('is whole in the events of supervisor calls', (test) => {
      const names: string[] = [];
      const note = (event: unknown): void => void names.push((event as SupervisorEvent).importName);
      subscribe('tracing:sandbox-host.supervisor:start', note);
      test.after(() => unsubscribe('tracing:sandbox-host.supervisor:start', note));
      caught(TrapError, () => longNamed(backend).invoke(`f${LONG}`));
      assert.deepEqual(names, [`${LONG}.${LONG}`]);
    });
  });
});

describe('A type that many functions have', () => {
  forEachBackend((backend) => {
    // As many as a module can have of a type with as many parameters and results as there can be would take wasmer long to compile.
    const COUNT = 40;
    const wide = funcType(new Array(1000).fill(I32), new Array(1000).fill(I64));

    it('is described once', async () => {
      const wasm = moduleBytes({
        types: vector(2, wide, funcType([])),
        imports: vector(COUNT, repeat(COUNT, named('e'), named('f'), 0, 0)),
        functions: vector(2, 0, 1),
        exports: vector(
          COUNT + 1,
          Array.from({ length: COUNT }, (_, n) => exported(`f${n}`, 'function', COUNT)),
          exported('g', 'function', COUNT + 1),
        ),
        code: vector(2, body(bytes(0)), body([])),
      });
      const { imports, exports } = await CompiledModule.compile(backend, wasm, { optLevel: 'none' });
      assert.equal(new Set(imports.map(({ type }) => type)).size, 1);
      assert.equal(new Set(exports.map(({ type }) => type)).size, 2);
      assert.deepEqual(imports[0].type, exports[0].type);
      assert.ok(Object.isFrozen(imports[0].type) && Object.isFrozen(imports[0].type.parameters));
      assert.deepEqual(exports.at(-1)?.type, { parameters: [], results: [] });
    });
  });
});
