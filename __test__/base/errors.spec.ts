// The error classes: codes, names and fields, which users test instead of messages.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import {
  ArgumentError,
  BusyError,
  CodecError,
  InstantiationError,
  InternalError,
  LimitError,
  NoExportError,
  SandboxError,
  TrapError,
} from '../../lib/base/errors';

const cause = new Error('why');

const table = [
  { Class: SandboxError, code: 'ERR_SANDBOX_ARGUMENT', make: () => new SandboxError('m', { cause }) },
  {
    Class: ArgumentError,
    code: 'ERR_SANDBOX_ARGUMENT',
    make: () => new ArgumentError('m', { argument: 'args[0]', cause }),
    fields: { argument: 'args[0]' },
  },
  {
    Class: TrapError,
    code: 'ERR_SANDBOX_TRAP',
    make: () =>
      new TrapError('m', {
        trap: 'unreachable',
        exportName: 'run',
        wasmStack: [{ functionIndex: 3 }],
        cause,
      }),
    fields: { trap: 'unreachable', exportName: 'run', wasmStack: [{ functionIndex: 3 }] },
  },
  {
    Class: InstantiationError,
    code: 'ERR_SANDBOX_INSTANTIATION',
    make: () => new InstantiationError('m', { kind: 'ModuleDecoding', cause }),
    fields: { kind: 'ModuleDecoding' },
  },
  { Class: LimitError, code: 'ERR_SANDBOX_LIMIT', make: () => new LimitError('m', { cause }) },
  { Class: BusyError, code: 'ERR_SANDBOX_BUSY', make: () => new BusyError('m', { cause }) },
  {
    Class: CodecError,
    code: 'ERR_SANDBOX_CODEC',
    make: () => new CodecError('m', { offset: 3, cause }),
    fields: { offset: 3 },
  },
  {
    Class: NoExportError,
    code: 'ERR_SANDBOX_NO_EXPORT',
    make: () => new NoExportError('m', { exportName: 'run', cause }),
    fields: { exportName: 'run' },
  },
  { Class: InternalError, code: 'ERR_SANDBOX_INTERNAL', make: () => new InternalError('m', { cause }) },
];

for (const { Class, code, make, fields = {} } of table) {
  describe(Class.name, () => {
    it('is an Error and a SandboxError', () => {
      const error = make();
      assert.ok(error instanceof Error);
      assert.ok(error instanceof SandboxError);
      assert.equal(error.constructor, Class);
    });

    it('has its message, its code, its fields and its cause as own properties', () => {
      const error = make();
      assert.equal(error.message, 'm');
      assert.equal(error.cause, cause);
      assert.deepEqual({ ...error }, { code, ...fields });
    });

    it('is named after its class without an own property', () => {
      const error = make();
      assert.equal(error.name, Class.name);
      assert.equal(Object.hasOwn(error, 'name'), false);
      assert.deepEqual(Object.getOwnPropertyDescriptor(Class.prototype, 'name'), {
        value: Class.name,
        writable: true,
        enumerable: false,
        configurable: true,
      });
    });

    it('shows its name, its message and its code when it is printed', () => {
      const shown = inspect(make());
      assert.ok(shown.startsWith(`${Class.name}: m\n`), shown);
      assert.ok(shown.includes(`code: '${code}'`), shown);
    });
  });
}

describe('a SandboxError', () => {
  it('takes another code', () => {
    assert.equal(new SandboxError('late', { code: 'ERR_SANDBOX_TIMEOUT' }).code, 'ERR_SANDBOX_TIMEOUT');
  });

  it('has no cause unless one is given', () => {
    assert.equal(Object.hasOwn(new SandboxError('m'), 'cause'), false);
    assert.equal(Object.hasOwn(new BusyError('m'), 'cause'), false);
    assert.equal(Object.hasOwn(new TrapError('m', { trap: 'supervisor' }), 'cause'), false);
  });

  it('keeps a cause that is undefined, null or no error', () => {
    for (const thrown of [undefined, null, 0, 'text', Symbol('s')]) {
      const error = new TrapError('m', { trap: 'supervisor', cause: thrown });
      assert.ok(Object.hasOwn(error, 'cause'));
      assert.equal(error.cause, thrown);
    }
  });
});

describe('a TrapError', () => {
  it('names no export where a start function trapped', () => {
    assert.equal(new TrapError('m', { trap: 'interrupted' }).exportName, undefined);
  });

  it('has an empty stack where the engine gives none', () => {
    assert.deepEqual(new TrapError('m', { trap: 'interrupted' }).wasmStack, []);
  });
});
