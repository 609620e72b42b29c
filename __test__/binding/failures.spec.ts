// Which errors of the addon are told from others, and by what.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InternalError } from '../../index';
import { kindOf, translate } from '../../lib/binding/failures';
import { hot, native } from '../../lib/binding/native';

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return assert.fail('it did not throw');
}

describe('An error of the addon', () => {
  it('has its kind as its code, whether napi-rs has made it or not', () => {
    const nobody = 0xffff_fff0;
    assert.equal(kindOf(thrownBy(() => native.memoryBytes(nobody))), 'internal');
    assert.equal(kindOf(thrownBy(() => hot.memoryView(nobody))), 'internal');
    assert.equal(kindOf(thrownBy(() => native.newCache({}, 1, '/dev/null/no-folder'))), 'cache-folder');
    assert.equal(kindOf(native.takeRefusal()), 'internal');
  });

  it('is a bug if it comes of a panic or of an argument of the wrong type', () => {
    const panic = thrownBy(() => native.panicForTests());
    assert.equal(kindOf(panic), 'panic');
    assert.match((translate(panic, 'x') as Error).message, /on purpose.*its store is unusable/);
    const wrong = [
      () => native.memoryBytes('1' as never),
      () => hot.compile(0, null, [] as never),
      () => native.engine({}, {} as never),
      () => hot.memoryView('1' as never),
      () => hot.memoryRead(0, 0, new Uint16Array(1) as never),
    ];
    for (const run of wrong) {
      const error = thrownBy(run);
      assert.equal(kindOf(error), 'internal', String(error));
      assert.ok(translate(error, 'x') instanceof InternalError);
    }
  });

  it('is told from errors of others', () => {
    for (const error of [
      new Error('x'),
      Object.assign(new Error('x'), { code: 'ENOENT' }),
      Object.assign(new Error('x'), { code: 'toString' }),
      { code: 'limit' },
      undefined,
    ]) {
      assert.equal(kindOf(error), undefined);
      assert.equal(translate(error, 'x'), error);
    }
  });

  it('comes of a function of the addon that is called on another object', () => {
    const { memoryBytes, hotFunctions } = native;
    for (const receiver of [undefined, {}, hot]) {
      assert.throws(() => memoryBytes.call(receiver as never, 0), Error);
      assert.throws(() => hotFunctions.call(receiver as never), Error);
    }
  });
});

describe('The functions of the addon', () => {
  it('can be opened several times, and share no numbers', () => {
    const { Binding } = { Binding: native.constructor as new (scratch: ArrayBuffer) => typeof native };
    const other = new Binding(new ArrayBuffer(16 * 1024));
    const { newMemory } = other.hotFunctions();
    assert.equal(other.countForTests(), 0);
    assert.throws(() => newMemory({}, 0, 1, 1), { code: 'internal' });
    assert.throws(() => new Binding(new ArrayBuffer(8)), { code: 'internal' });
  });
});
