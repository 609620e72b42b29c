// A test file of jest that loads the package several times itself.
/* global test, expect, jest */
'use strict';

const check = require('./check.cjs');

const first = require('sandbox-host');

test('after jest.resetModules there is another copy', async () => {
  jest.resetModules();
  const second = require('sandbox-host');
  await check(first, second);
  await check(second, first);
});

test('jest.isolateModules gives another copy', async () => {
  let second;
  jest.isolateModules(() => {
    second = require('sandbox-host');
  });
  await check(first, second);
});

test('very many copies one after another', () => {
  const guestOf = require('./guest.cjs');
  for (let n = 0; n < 20; n++) {
    jest.resetModules();
    expect(guestOf(require('sandbox-host'), 'wasmi', (x) => x + n).call('main', [1])).toBe(n + 1);
  }
});
