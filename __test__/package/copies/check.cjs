// Two copies of the package in one process: does each run its own calls? Throws if not.
'use strict';

const assert = require('node:assert/strict');
const guestOf = require('./guest.cjs');

module.exports = async function check(first, second) {
  assert.notEqual(first.SandboxComponents, second.SandboxComponents);
  for (const backend of ['wasmi', 'wasmer']) {
    const answers = [];
    const later = () => new Promise((resolve) => answers.push(resolve));
    const [a, b] = [guestOf(first, backend, (n) => n + 1), guestOf(second, backend, (n) => n + 1000)];
    const [x, y] = [guestOf(first, backend, later), guestOf(second, backend, later)];
    const pending = [x.callAsync('main', [1]), y.callAsync('main', [2])];
    const spinning = y.instance && guestOf(second, backend, later).callAsync('spin', [], { timeout: 300 });
    spinning.catch(() => {});
    for (let round = 0; round < 20; round++) {
      assert.deepEqual([a.call('main', [round]), b.call('main', [round])], [round + 1, round + 1000]);
      const both = [b.callAsync('main', [round]), a.callAsync('main', [round])];
      assert.deepEqual(await Promise.all(both), [round + 1000, round + 1]);
    }
    for (const [own, other, guest] of [
      [first, second, a],
      [second, first, b],
    ]) {
      const isOwn = (error) =>
        error instanceof own.TrapError &&
        !(error instanceof other.TrapError) &&
        error.code === 'ERR_SANDBOX_TRAP';
      assert.throws(() => guest.call('trap'), isOwn);
      await assert.rejects(guest.callAsync('trap'), isOwn);
      await assert.rejects(guest.callAsync('spin', [], { timeout: 20 }), { code: 'ERR_SANDBOX_TIMEOUT' });
    }
    while (answers.length < 2) await new Promise(setImmediate);
    for (const [n, answer] of answers.entries()) answer(n + 7);
    assert.deepEqual((await Promise.all(pending)).sort(), [7, 8]);
    await assert.rejects(
      spinning,
      (error) => error instanceof second.SandboxError && error.code === 'ERR_SANDBOX_TIMEOUT',
    );
  }
};
