// Signals of other libraries, such as jsdom's, which are no AbortSignal of Node's but behave like one; and what does not behave like one.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError, CompiledModule, Instantiate, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, rejection } from '../support/expect';
import { guest } from '../support/guest';
import { wat } from '../support/wat';

/** As other libraries make them: nothing of Node's in it. */
class ForeignSignal {
  aborted = false;
  reason: unknown;
  readonly listeners = new Set<() => void>();
  /** How often somebody has begun to listen. */
  listened = 0;

  addEventListener(type: string, listener: () => void): void {
    assert.equal(type, 'abort');
    this.listened += 1;
    this.listeners.add(listener);
  }

  removeEventListener(type: string, listener: () => void): void {
    assert.equal(type, 'abort');
    this.listeners.delete(listener);
  }

  abort(reason?: unknown): void {
    this.aborted = true;
    this.reason = reason;
    for (const listener of [...this.listeners]) listener();
  }
}

/** Anything as a signal, for TypeScript. */
function options(signal: unknown): { signal: AbortSignal } {
  return { signal: signal as AbortSignal };
}

const GUEST = `(module
  (import "env" "f" (func $f (result i32)))
  (func (export "call") (result i32) (drop (call $f)) (call $f))
  (func (export "spin") (loop $l (br $l)))
  (func (export "seven") (result i32) (i32.const 7)))`;

/** Whatever `run` throws, or rejects with. */
async function thrownBy(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (thrown) {
    return thrown;
  }
  return assert.fail('nothing was thrown');
}

describe('A signal of another library', () => {
  forEachBackend((backend) => {
    const imports = { 'env.f': () => Value.I32(1) };

    it('ends a call before it begins, by its reason', async () => {
      const { instance, supervisor, components } = guest({ backend, wat: GUEST, imports });
      for (const reason of [new Error('enough'), 'text', null, 0]) {
        const signal = new ForeignSignal();
        signal.abort(reason);
        const made = (): unknown =>
          components.instantiate(Instantiate.Version1, wat('(module)'), env, supervisor, options(signal));
        const env = environment(components);
        for (const run of [
          made,
          () => instance.invoke('seven', [], supervisor, options(signal)),
          () => instance.invokeAsync('seven', [], supervisor, options(signal)),
          () =>
            components.instantiateAsync(
              Instantiate.Version1,
              wat('(module)'),
              env,
              supervisor,
              options(signal),
            ),
          () => CompiledModule.compile(backend, wat('(module)'), options(signal)),
        ]) {
          assert.equal(await thrownBy(run), reason);
        }
      }
    });

    it('ends a synchronous call after the supervisor function that aborts it', async () => {
      const signal = new ForeignSignal();
      let calls = 0;
      const { instance, supervisor, call } = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': () => {
            calls += 1;
            signal.abort('enough');
            return Value.I32(1);
          },
        },
      });
      assert.equal(await thrownBy(() => instance.invoke('call', [], supervisor, options(signal))), 'enough');
      assert.equal(calls, 1);
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('ends an asynchronous call that computes, and one that waits for a Promise', async () => {
      const waiting = { 'env.f': () => new Promise<Value>(() => {}) };
      const { instance, supervisor, call } = guest({ backend, wat: GUEST, imports: waiting });
      for (const name of ['spin', 'call']) {
        const signal = new ForeignSignal();
        const reason = new Error(name);
        const ended = thrownBy(() => instance.invokeAsync(name, [], supervisor, options(signal)));
        setTimeout(() => signal.abort(reason), 5);
        assert.equal(await ended, reason);
        assert.equal(signal.listeners.size, 0, 'nobody listens any more');
        assert.deepEqual(call('seven'), Value.I32(7));
      }
    });

    it('has one listener for all its calls, and none after them, however they end', async () => {
      const signal = new ForeignSignal();
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports });
      const calls = Array.from({ length: 20 }, () =>
        instance.invokeAsync('call', [], supervisor, options(signal)),
      );
      assert.equal(signal.listeners.size, 1);
      await Promise.all(calls);
      await instance.invokeAsync('spin', [], supervisor, { ...options(signal), timeout: 5 }).catch(() => {});
      assert.equal(signal.listeners.size, 0);
      assert.equal(signal.listened, 2);
    });

    it('gives an AbortError where it has no reason, the same one for each call', async () => {
      const signal = new ForeignSignal();
      signal.abort();
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports });
      const reason = await thrownBy(() => instance.invoke('seven', [], supervisor, options(signal)));
      assert.ok(reason instanceof DOMException && reason.name === 'AbortError');
      assert.equal(
        await thrownBy(() => instance.invokeAsync('seven', [], supervisor, options(signal))),
        reason,
      );
    });

    it('may work by getters and proxies', async () => {
      const foreign = new ForeignSignal();
      const bound = new Proxy(new AbortController().signal, {
        get(target, key) {
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      const getters = {
        get aborted() {
          return foreign.aborted;
        },
        get addEventListener() {
          return foreign.addEventListener.bind(foreign);
        },
        get removeEventListener() {
          return foreign.removeEventListener.bind(foreign);
        },
      };
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports });
      for (const signal of [bound, getters]) {
        assert.deepEqual(instance.invoke('call', [], supervisor, options(signal)), Value.I32(1));
        assert.deepEqual(await instance.invokeAsync('call', [], supervisor, options(signal)), Value.I32(1));
      }
      assert.equal(foreign.listeners.size, 0);
    });

    it('ends its call by what its getter throws, as nobody could end the call otherwise', async () => {
      const broken = new Error('broken');
      let looks = 0;
      const signal = Object.defineProperty(new ForeignSignal(), 'aborted', {
        get() {
          looks += 1;
          if (looks > 2) throw broken;
          return false;
        },
      });
      const { instance, supervisor, call } = guest({ backend, wat: GUEST, imports });
      assert.equal(await thrownBy(() => instance.invoke('call', [], supervisor, options(signal))), broken);
      looks = 0;
      assert.equal(
        await thrownBy(() => instance.invokeAsync('call', [], supervisor, options(signal))),
        broken,
      );
      assert.deepEqual(call('seven'), Value.I32(7));
    });

    it('may throw when nobody listens to it any more', async () => {
      const signal = Object.assign(new ForeignSignal(), {
        removeEventListener() {
          throw new Error('no');
        },
      });
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports });
      assert.deepEqual(await instance.invokeAsync('call', [], supervisor, options(signal)), Value.I32(1));
      signal.abort('late');
      assert.deepEqual(await instance.invokeAsync('call', [], supervisor), Value.I32(1));
    });

    it('refuses its call before anything has happened if it cannot be listened to', async () => {
      let calls = 0;
      const count = (): Value => {
        calls += 1;
        return Value.I32(1);
      };
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports: { 'env.f': count } });
      for (const cause of [new Error('no'), new RangeError('out of range'), undefined]) {
        const signal = Object.assign(new ForeignSignal(), {
          addEventListener() {
            throw cause;
          },
        });
        const refused = await rejection(
          ArgumentError,
          instance.invokeAsync('call', [], supervisor, options(signal)),
        );
        assert.equal(refused.argument, 'options.signal');
        assert.equal(refused.cause, cause);
        assert.match(refused.message, /options\.signal must be an AbortSignal, or behave like one/);
      }
      assert.deepEqual(await instance.invokeAsync('seven', [], supervisor), Value.I32(7));
      assert.equal(calls, 0);
    });

    it('may end its call while somebody begins to listen to it', async () => {
      const signal = new ForeignSignal();
      signal.addEventListener = () => signal.abort('at once');
      const { instance, supervisor } = guest({ backend, wat: GUEST, imports });
      assert.equal(
        await thrownBy(() => instance.invokeAsync('spin', [], supervisor, options(signal))),
        'at once',
      );
    });
  });
});

describe('What does not behave like a signal', () => {
  const methods = { addEventListener() {}, removeEventListener() {} };
  const broken = new Error('broken');
  const throwing = {
    ...methods,
    get aborted() {
      throw broken;
    },
  };

  for (const [name, value, cause] of [
    ['null', null],
    ['a number', 5],
    ['a string', 'abort'],
    ['an object without anything', {}],
    ['an object without methods', { aborted: false }],
    ['an object that cannot be listened to', { aborted: false, removeEventListener() {} }],
    ['an object that cannot be left', { aborted: false, addEventListener() {} }],
    ['an object that does not know whether it is aborted', { aborted: 0, ...methods }],
    ['an AbortController', new AbortController()],
    ['what only has the prototype', Object.create(AbortSignal.prototype), TypeError],
    ['an object whose getter throws', throwing, Error],
  ] as const) {
    it(`is refused by the name of the option: ${name}`, async () => {
      const { instance, supervisor } = guest({ backend: 'wasmi', wat: '(module (func (export "f")))' });
      const errors = [
        caught(ArgumentError, () => instance.invoke('f', [], supervisor, options(value))),
        await rejection(ArgumentError, instance.invokeAsync('f', [], supervisor, options(value))),
        await rejection(ArgumentError, CompiledModule.compile('wasmi', wat('(module)'), options(value))),
      ];
      for (const error of errors) {
        assert.equal(error.argument, 'options.signal');
        assert.match(error.message, /^options\.signal must be an AbortSignal, or behave like one, got /);
        if (cause === undefined) assert.ok(!('cause' in error));
        else assert.ok(error.cause instanceof cause);
      }
    });
  }
});
