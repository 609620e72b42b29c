// The checks of arguments: what each takes and refuses, what its message says, and that no code of the caller
// runs.
import assert from 'node:assert/strict';
import { describe as group, it } from 'node:test';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import {
  array,
  boolean,
  bytes,
  describe,
  fn,
  int64,
  integer,
  object,
  oneOf,
  string,
  uint32,
  uint64,
  wellFormedString,
} from '../../lib/base/arguments';
import { ArgumentError } from '../../lib/base/errors';

/** A value of each kind, for checks that must refuse all but one. */
const anything: readonly unknown[] = [
  undefined,
  null,
  true,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  2n ** 64n,
  '0',
  Symbol.iterator,
  Object(1),
  { valueOf: () => 1 },
];

function refuses(check: (value: unknown, name: string) => unknown, value: unknown, message: string): void {
  assert.throws(
    () => check(value, 'it'),
    (error) => {
      assert.ok(error instanceof ArgumentError);
      assert.equal(error.message, message);
      assert.equal(error.code, 'ERR_SANDBOX_ARGUMENT');
      assert.equal(error.argument, 'it');
      return true;
    },
  );
}

function refusesAll(check: (value: unknown, name: string) => unknown, values: readonly unknown[]): void {
  for (const value of values) assert.throws(() => check(value, 'it'), ArgumentError, describe(value));
}

/** An object that fails the test when anything of it is touched. */
function untouchable(target: object = {}): object {
  const touched = () => assert.fail('code of the caller was run');
  const traps = Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, touched]));
  return new Proxy(target, traps);
}

function detached<T extends BufferSourceOfTests>(make: (buffer: ArrayBuffer) => T): T {
  const buffer = new ArrayBuffer(16);
  const source = make(buffer);
  structuredClone(buffer, { transfer: [buffer] });
  return source;
}
type BufferSourceOfTests = ArrayBuffer | ArrayBufferView;

group('uint32', () => {
  it('takes each integer of 32 bits', () => {
    for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1]) assert.equal(uint32(value, 'it'), value);
  });

  it('turns -0 into 0', () => {
    assert.ok(Object.is(uint32(-0, 'it'), 0));
  });

  it('refuses everything else', () => {
    refuses(uint32, -1, 'it must be an integer from 0 to 4294967295, got -1');
    refuses(uint32, 2 ** 32, 'it must be an integer from 0 to 4294967295, got 4294967296');
    refuses(uint32, '5', 'it must be an integer from 0 to 4294967295, got "5"');
    refusesAll(uint32, [...anything, 1n]);
  });
});

group('integer', () => {
  it('takes each integer of the range, ends included', () => {
    for (const value of [-2, 0, 3]) assert.equal(integer(value, 'it', -2, 3), value);
    assert.ok(Object.is(integer(-0, 'it'), 0));
    assert.equal(integer(Number.MAX_SAFE_INTEGER, 'it'), Number.MAX_SAFE_INTEGER);
  });

  it('refuses everything else', () => {
    const small = (value: unknown, name: string) => integer(value, name, -2, 3);
    refuses(small, 4, 'it must be an integer from -2 to 3, got 4');
    refusesAll(small, [...anything, -3, 1n]);
    refusesAll(integer, [2 ** 53]);
  });
});

group('int64 and uint64', () => {
  it('take each bigint of the range, ends included', () => {
    for (const value of [-(2n ** 63n), 0n, 2n ** 63n - 1n]) assert.equal(int64(value, 'it'), value);
    for (const value of [0n, 2n ** 64n - 1n]) assert.equal(uint64(value, 'it'), value);
  });

  it('refuse everything else', () => {
    refuses(int64, 2n ** 63n, 'it must be a bigint from -2^63 to 2^63 - 1, got 9223372036854775808n');
    refuses(uint64, -1n, 'it must be a bigint from 0 to 2^64 - 1, got -1n');
    refusesAll(int64, [...anything, 1]);
    refusesAll(uint64, [...anything, 1]);
  });
});

group('boolean, string and fn', () => {
  it('take what they are named after', () => {
    assert.equal(boolean(false, 'it'), false);
    assert.equal(string('', 'it'), '');
    const function_ = () => {};
    assert.equal(fn(function_, 'it'), function_);
  });

  it('refuse everything else', () => {
    refuses(boolean, 0, 'it must be a boolean, got 0');
    refuses(string, 5n, 'it must be a string, got 5n');
    refuses(fn, {}, 'it must be a function, got an object');
    refusesAll(boolean, [undefined, null, 'true', Object(true)]);
    refusesAll(string, [undefined, null, Object('text')]);
    refusesAll(fn, [undefined, null, 'text']);
  });
});

group('wellFormedString', () => {
  it('takes what UTF-8 can encode', () => {
    for (const value of ['', 'env', 'é', '🦀', '\ud83e\udd80', '\0', '\uffff']) {
      assert.equal(wellFormedString(value, 'it'), value);
    }
  });

  it('refuses lone surrogates anywhere', () => {
    refuses(wellFormedString, 'a\ud800', 'it must be a string without lone surrogates, got "a\\ud800"');
    refusesAll(wellFormedString, ['\ud800', '\udfffa', '\udd80\ud83e', 'a\ud83eb', 5]);
  });
});

group('object and array', () => {
  it('take what they are named after', () => {
    for (const value of [{}, Object.create(null), new Date(), new Proxy({}, {})]) {
      assert.equal(object(value, 'it'), value);
    }
    for (const value of [[], [1], new Proxy([], {})]) assert.equal(array(value, 'it'), value);
  });

  it('refuse everything else', () => {
    refuses(object, null, 'it must be an object, got null');
    refuses(object, [1, 2], 'it must be an object, got an array of length 2');
    refuses(array, { length: 1 }, 'it must be an array, got an object');
    refusesAll(object, [undefined, 'text', () => {}]);
    refusesAll(array, [undefined, 'text', new Uint8Array(1)]);
  });

  it('run no traps, and refuse a revoked proxy of an array without throwing something else', () => {
    const proxy = untouchable();
    assert.equal(object(proxy, 'it'), proxy);
    const { proxy: revoked, revoke } = Proxy.revocable([], {});
    revoke();
    refuses(array, revoked, 'it must be an array, got a Proxy');
  });
});

group('oneOf', () => {
  it('takes the allowed values only', () => {
    const colour = (value: unknown, name: string) => oneOf(value, name, ['red', 'green']);
    assert.equal(colour('green', 'it'), 'green');
    refuses(colour, 'blue', 'it must be one of "red", "green", got "blue"');
    refusesAll(colour, [undefined, null, 0, 'RED', Object('red')]);
  });
});

group('bytes', () => {
  const buffer = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7).buffer;
  const shared = new SharedArrayBuffer(8);
  new Uint8Array(shared).set(new Uint8Array(buffer));
  const sources: [name: string, source: unknown, expected: number[]][] = [
    ['an ArrayBuffer', buffer, [0, 1, 2, 3, 4, 5, 6, 7]],
    ['a SharedArrayBuffer', shared, [0, 1, 2, 3, 4, 5, 6, 7]],
    ['a Uint8Array', new Uint8Array(buffer, 1, 3), [1, 2, 3]],
    ['a Uint8Array of shared memory', new Uint8Array(shared, 1, 3), [1, 2, 3]],
    ['an empty Uint8Array', new Uint8Array(buffer, 3, 0), []],
    ['a Buffer', Buffer.from(buffer, 2, 2), [2, 3]],
    ['an Int16Array', new Int16Array(buffer, 2, 2), [2, 3, 4, 5]],
    ['a BigUint64Array', new BigUint64Array(buffer), [0, 1, 2, 3, 4, 5, 6, 7]],
    ['an empty BigUint64Array', new BigUint64Array(buffer, 0, 0), []],
    ['a DataView', new DataView(buffer, 3, 2), [3, 4]],
    ['a Uint8ClampedArray', new Uint8ClampedArray(buffer, 7), [7]],
    ['a Uint8Array of another realm', runInNewContext('new Uint8Array(2)'), [0, 0]],
  ];

  for (const [name, source, expected] of sources) {
    it(`gives a plain Uint8Array over the memory of ${name}`, () => {
      const view = bytes(source, 'it');
      assert.equal(Object.getPrototypeOf(view), Uint8Array.prototype);
      assert.deepEqual([...view], expected);
      const memory = ArrayBuffer.isView(source) ? source.buffer : (source as ArrayBuffer);
      assert.equal(view.buffer, memory);
    });
  }

  it('gives a Uint8Array itself', () => {
    const source = new Uint8Array(3);
    assert.equal(bytes(source, 'it'), source);
  });

  it('trusts no property that the caller can override', () => {
    class Liar extends Uint8Array {
      override get byteLength(): number {
        return assert.fail('code of the caller was run');
      }
      override get byteOffset(): number {
        return assert.fail('code of the caller was run');
      }
      override get buffer(): ArrayBuffer {
        return assert.fail('code of the caller was run');
      }
      override get [Symbol.toStringTag](): 'Uint8Array' {
        return assert.fail('code of the caller was run');
      }
    }
    assert.deepEqual([...bytes(Liar.of(7, 8), 'it')], [7, 8]);
  });

  it('refuses whatever has no bytes', () => {
    refuses(bytes, 'text', 'it must be a buffer or a view of one, not detached, got "text"');
    refuses(bytes, [1, 2], 'it must be a buffer or a view of one, not detached, got an array of length 2');
    refusesAll(bytes, [...anything, {}, untouchable(new Uint8Array(1))]);
  });

  const detachedSources: [name: string, source: unknown][] = [
    ['ArrayBuffer', detached((b) => b)],
    ['Uint8Array', detached((b) => new Uint8Array(b))],
    ['BigInt64Array', detached((b) => new BigInt64Array(b))],
    ['DataView', detached((b) => new DataView(b))],
  ];
  for (const [name, source] of detachedSources) {
    it(`refuses a detached ${name}`, () => {
      refuses(bytes, source, `it must be a buffer or a view of one, not detached, got a detached ${name}`);
    });
  }

  it('refuses a view that its buffer has become too short for', () => {
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(length: number): void };
    const resizable = new Resizable(8, { maxByteLength: 8 });
    const views = [new Uint8Array(resizable, 4, 4), new DataView(resizable, 4, 4)];
    resizable.resize(2);
    refusesAll(bytes, views);
  });
});

group('describe', () => {
  const cases: [value: unknown, text: string][] = [
    [undefined, 'undefined'],
    [null, 'null'],
    [true, 'true'],
    [-0, '-0'],
    [1.5, '1.5'],
    [Number.NaN, 'NaN'],
    [-5n, '-5n'],
    [2n ** 200n, 'a bigint of more than 128 bits'],
    [-(2n ** 200n), 'a bigint of more than 128 bits'],
    ['a "b"\n', '"a \\"b\\"\\n"'],
    ['\ud800', '"\\ud800"'],
    ['x'.repeat(60), `"${'x'.repeat(60)}"`],
    ['x'.repeat(61), `"${'x'.repeat(60)}…" of 61 characters`],
    [Symbol('s'), 'Symbol(s)'],
    [() => {}, 'a function'],
    [class A {}, 'a function'],
    [{}, 'an object'],
    [Object.create(null), 'an object'],
    [[1, 2, 3], 'an array of length 3'],
    [new Date(0), 'an instance of Date'],
    [new Map(), 'an instance of Map'],
    [Promise.resolve(), 'an instance of Promise'],
    [new (class Guest {})(), 'an instance of Guest'],
    [new (class {})(), 'an object'],
    [new Uint8Array(3), 'a Uint8Array of 3 bytes'],
    [new Int16Array(3), 'an Int16Array of 6 bytes'],
    [new ArrayBuffer(4), 'an ArrayBuffer of 4 bytes'],
    [new SharedArrayBuffer(4), 'a SharedArrayBuffer of 4 bytes'],
    [new DataView(new ArrayBuffer(4), 1), 'a DataView of 3 bytes'],
    [new Proxy({}, {}), 'a Proxy'],
    [new Proxy(() => {}, {}), 'a Proxy'],
  ];

  for (const [value, text] of cases) {
    it(`says ${text}`, () => {
      assert.equal(describe(value), text);
    });
  }

  it('runs no code of the value', () => {
    const fail = () => assert.fail('code of the caller was run');
    const getters = { get: fail };
    assert.equal(describe(untouchable()), 'a Proxy');
    assert.equal(describe(untouchable(() => {})), 'a Proxy');
    assert.equal(
      describe({ toString: fail, valueOf: fail, toJSON: fail, [Symbol.toPrimitive]: fail }),
      'an object',
    );
    assert.equal(describe(Object.defineProperty({}, 'constructor', getters)), 'an object');
    assert.equal(describe(Object.create(untouchable())), 'an object');
    assert.equal(describe(Object.create(Object.defineProperty({}, 'constructor', getters))), 'an object');
    assert.equal(describe(Object.create({ constructor: untouchable(() => {}) })), 'an object');
    const nameless = Object.defineProperty(() => {}, 'name', getters);
    assert.equal(describe(Object.create({ constructor: nameless })), 'an object');
    assert.equal(describe(nameless), 'a function');
  });

  it('takes a revoked proxy', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    assert.equal(describe(proxy), 'a Proxy');
  });

  it('gives a short text for anything', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withTypedArray: true }), (value) => {
        const text = describe(value);
        assert.ok(text.length > 0 && text.length < 420, text);
      }),
    );
  });

  it('is quick about an enormous bigint', () => {
    const huge = 1n << 30_000_000n;
    const start = performance.now();
    describe(huge);
    describe(-huge);
    assert.ok(performance.now() - start < 1000);
  });
});
