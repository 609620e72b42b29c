// A test file of jest; there are several like it, each of which leaves calls pending for the next one.
/* global describe, test, expect */
'use strict';

const sh = require('sandbox-host');
const guestOf = require('./guest.cjs');

describe.each(['wasmi', 'wasmer'])('%s', (backend) => {
  test('answers, synchronously and asynchronously', async () => {
    const { call, callAsync } = guestOf(sh, backend, (n) => n + process.pid);
    for (let n = 0; n < 20; n++) {
      expect(call('main', [n])).toBe(n + process.pid);
      await expect(callAsync('main', [n])).resolves.toBe(n + process.pid);
    }
  });

  test('throws errors of its own classes, which are errors of this realm', async () => {
    const { call, callAsync, components } = guestOf(sh, backend, (n) => n);
    expect(() => call('trap')).toThrow(sh.TrapError);
    expect(() => call('nothing')).toThrow(sh.NoExportError);
    expect(() => call('spin', [], { timeout: 10 })).toThrow(
      expect.objectContaining({ code: 'ERR_SANDBOX_TIMEOUT' }),
    );
    expect(() => components.newMemory(5, 3)).toThrow(sh.ArgumentError);
    const memory = components.memory(components.newMemory(1, 2));
    expect(() => memory.memoryGrow(9)).toThrow(expect.objectContaining({ code: 'ERR_SANDBOX_LIMIT' }));
    expect(() => memory.read(65536, 1)).toThrow(/^memory read is out of bounds/);
    expect(memory.buffer).toBeInstanceOf(ArrayBuffer);
    const error = await callAsync('trap').catch((error) => error);
    expect(error).toBeInstanceOf(sh.TrapError);
    expect(error).toBeInstanceOf(sh.SandboxError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_SANDBOX_TRAP', trap: 'unreachable', name: 'TrapError' });
    const compiled = sh.CompiledModule.compile(backend, Uint8Array.of(1, 2, 3));
    await expect(compiled).rejects.toMatchObject({
      code: 'ERR_SANDBOX_INSTANTIATION',
      kind: 'ModuleDecoding',
      message: expect.not.stringMatching(/^Error/),
    });
  });

  test('may leave a call pending', async () => {
    const asked = await new Promise((resolve) => {
      const { callAsync } = guestOf(sh, backend, (n) => {
        resolve(n);
        return new Promise((answer) => setTimeout(() => answer(1), 200));
      });
      callAsync('main', [3]).catch(() => {});
    });
    expect(asked).toBe(3);
  });
});
