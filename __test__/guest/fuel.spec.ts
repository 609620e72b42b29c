// Fuel: what a call may use and has left, alone and in calls inside calls, on every path into a guest.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ArgumentError,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SandboxOptions,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught } from '../support/expect';
import { type Guest, type GuestFunction, guest } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "nothing"))
  (func $work (export "work") (param i32) (result i32)
    (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i32.const 7))
  (func (export "ask") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "ask then work") (param i32) (result i32) (drop (call $f (local.get 0))) (call $work (local.get 0)))
  (func (export "trap") unreachable)
  (func (export "endless") (loop $l (br $l))))`;

/** Without a budget it counts from here. */
const UNLIMITED = 2n ** 63n - 1n;

const metered = (backend: SandboxBackend, f: GuestFunction = ([n]) => n, options?: SandboxOptions): Guest =>
  guest({ backend, wat: GUEST, imports: { 'env.f': f }, components: components(backend, options) });

const components = (backend: SandboxBackend, options: SandboxOptions = {}): SandboxComponents<unknown> =>
  new SandboxComponents<unknown>(backend, { fuel: true, ...options });

/** What a call uses. */
function used({ instance, supervisor }: Guest, name: string, ...args: Value[]): bigint {
  instance.invoke(name, args, supervisor, { fuel: 1_000_000n });
  return 1_000_000n - left(instance);
}

function left(instance: SandboxInstance): bigint {
  assert.ok(instance.fuel !== undefined);
  return instance.fuel;
}

/** Why the innermost guest ended. */
function rootTrap(error: unknown): string | undefined {
  if (error instanceof InstantiationError) return rootTrap(error.cause);
  if (!(error instanceof TrapError)) return undefined;
  return error.trap === 'supervisor' ? rootTrap(error.cause) : error.trap;
}

function outOfFuel(run: () => unknown): void {
  assert.equal(rootTrap(caught(TrapError, run)), 'out-of-fuel');
}

async function runsOut(call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => rootTrap(error) === 'out-of-fuel');
}

describe('Fuel', () => {
  forEachBackend((backend) => {
    it('bounds a call exactly, and tells what is left', () => {
      const it = metered(backend);
      const { instance, supervisor } = it;
      assert.equal(instance.fuel, undefined);
      const needed = used(it, 'work', Value.I32(100));
      assert.ok(needed > 300n && needed < 1000n, `${needed}`);
      for (const extra of [0n, 1n, 1000n]) {
        instance.invoke('work', [Value.I32(100)], supervisor, { fuel: needed + extra });
        assert.equal(instance.fuel, extra);
      }
      for (const fuel of [0n, 1n, needed - 1n]) {
        outOfFuel(() => instance.invoke('work', [Value.I32(100)], supervisor, { fuel }));
        assert.equal(instance.fuel, 0n);
      }
      outOfFuel(() => instance.invoke('endless', [], supervisor, { fuel: 1_000_000n }));
      assert.deepEqual(instance.invoke('work', [Value.I32(1)], supervisor, { fuel: 100n }), Value.I32(7));
    });

    it('is counted without a budget, too', () => {
      const it = metered(backend);
      const needed = used(it, 'work', Value.I32(100));
      it.call('work', Value.I32(100));
      assert.equal(left(it.instance), UNLIMITED - needed);
    });

    it('is left when the guest traps, and untouched by calls that do not begin', () => {
      const { instance, supervisor } = metered(backend);
      caught(TrapError, () => instance.invoke('trap', [], supervisor, { fuel: 1000n }));
      const after = left(instance);
      assert.ok(after > 990n && after < 1000n, `${after}`);
      caught(ArgumentError, () => instance.invoke('work', [], supervisor, { fuel: 5n }));
      assert.throws(() =>
        instance.invoke('nothing', [], supervisor, { fuel: 5n, signal: AbortSignal.abort() }),
      );
      assert.equal(left(instance), after);
    });

    it('is the same on every run, interrupted or not, synchronous or not', async () => {
      const it = metered(backend);
      const { instance, supervisor } = it;
      const needed = used(it, 'ask then work', Value.I32(50_000));
      for (let round = 0; round < 3; round += 1) {
        assert.equal(used(it, 'ask then work', Value.I32(50_000)), needed);
        const options = { fuel: 1_000_000n, timeout: 100_000 };
        instance.invoke('ask then work', [Value.I32(50_000)], supervisor, options);
        assert.equal(1_000_000n - left(instance), needed);
        await instance.invokeAsync('ask then work', [Value.I32(50_000)], supervisor, options);
        assert.equal(1_000_000n - left(instance), needed);
      }
      const uninterruptible = metered(backend, undefined, { interruptible: false });
      assert.equal(used(uninterruptible, 'ask then work', Value.I32(50_000)), needed);
    });

    it('bounds an asynchronous call, also over the Promise of its supervisor', async () => {
      const { instance, supervisor } = metered(
        backend,
        (args) => new Promise((go) => setImmediate(go, args[0])),
      );
      await instance.invokeAsync('ask then work', [Value.I32(10)], supervisor, { fuel: 1000n });
      const needed = 1000n - left(instance);
      await instance.invokeAsync('ask then work', [Value.I32(10)], supervisor, { fuel: needed });
      assert.equal(left(instance), 0n);
      await runsOut(
        instance.invokeAsync('ask then work', [Value.I32(10)], supervisor, { fuel: needed - 1n }),
      );
      await runsOut(instance.invokeAsync('endless', [], supervisor, { fuel: 100_000n }));
      assert.equal(left(instance), 0n);
    });

    it('of a call is drawn on by the calls inside it', () => {
      const inner = metered(backend);
      const outer = metered(backend, ([n]) => {
        inner.call('work', Value.I32(100));
        return n;
      });
      const { instance, supervisor } = outer;
      const inside = used(inner, 'work', Value.I32(100));
      const all = used(outer, 'ask', Value.I32(1));
      const alone = all - inside;
      assert.ok(alone > 0n && alone < 20n, `${alone}`);
      instance.invoke('ask', [Value.I32(1)], supervisor, { fuel: all });
      assert.equal(left(instance), 0n);
      outOfFuel(() => instance.invoke('ask', [Value.I32(1)], supervisor, { fuel: 100n }));
    });

    it('given to a call inside another may only be tighter', () => {
      const inner = metered(backend);
      const seen: bigint[] = [];
      const outer = metered(backend, ([n]) => {
        inner.instance.invoke('nothing', [], inner.supervisor, { fuel: UNLIMITED });
        seen.push(left(inner.instance));
        inner.instance.invoke('nothing', [], inner.supervisor, { fuel: 5n });
        seen.push(left(inner.instance));
        return n;
      });
      outer.instance.invoke('ask', [Value.I32(1)], outer.supervisor, { fuel: 1000n });
      assert.ok(seen[0] > 900n && seen[0] < 1000n, `${seen[0]}`);
      assert.equal(seen[1], 4n);
    });

    it('is drawn on through components that do not meter, and by start functions', () => {
      const innermost = metered(backend);
      const middle = guest({
        backend,
        wat: GUEST,
        imports: {
          'env.f': ([n]) => {
            innermost.call('work', Value.I32(1000));
            return n;
          },
        },
      });
      const outer = metered(backend, ([n]) => middle.call('ask', n) as Value);
      outOfFuel(() => outer.instance.invoke('ask', [Value.I32(1)], outer.supervisor, { fuel: 1000n }));
      assert.deepEqual(
        outer.instance.invoke('ask', [Value.I32(1)], outer.supervisor, { fuel: 100_000n }),
        Value.I32(1),
      );
      assert.ok(left(outer.instance) < 97_000n);

      const starting = `(module (func $s (loop $l (br $l))) (start $s))`;
      const starts = metered(backend, ([n]) => {
        const all = components(backend);
        all.instantiate(Instantiate.Version1, wat(starting), environment(all), new JsSupervisor());
        return n;
      });
      outOfFuel(() => starts.instance.invoke('ask', [Value.I32(1)], starts.supervisor, { fuel: 1000n }));
    });

    it('bounds a start function', async () => {
      const all = components(backend);
      const supervisor = new JsSupervisor();
      const wasm = wat('(module (func $s (loop $l (br $l))) (start $s))');
      const env = environment(all);
      const run = (): unknown =>
        all.instantiate(Instantiate.Version1, wasm, env, supervisor, { fuel: 1000n });
      const error = caught(InstantiationError, run);
      assert.equal(error.kind, 'StartTrapped');
      assert.equal((error.cause as TrapError).trap, 'out-of-fuel');
      await assert.rejects(
        all.instantiateAsync(Instantiate.Version1, wasm, env, supervisor, { fuel: 1000n }),
        (thrown) => (thrown as InstantiationError).kind === 'StartTrapped',
      );
      const fine = wat('(module (func $s) (start $s))');
      const made = all.instantiate(Instantiate.Version1, fine, env, supervisor, { fuel: 1000n });
      assert.equal(all.instance(made.register(all, undefined)).fuel, 999n);
    });

    it('taken by asynchronous calls inside an asynchronous call comes back when they are over', async () => {
      const inner = [metered(backend), metered(backend)];
      const run = ({ instance, supervisor }: Guest, fuel?: bigint): Promise<unknown> =>
        instance.invokeAsync('work', [Value.I32(100)], supervisor, fuel === undefined ? {} : { fuel });
      const inside = used(inner[0], 'work', Value.I32(100));
      let how: () => Promise<unknown> = async () => {};
      const { instance, supervisor } = metered(backend, async ([n]) => {
        await how();
        return n;
      });
      const ask = (fuel: bigint): Promise<unknown> =>
        instance.invokeAsync('ask', [Value.I32(1)], supervisor, { fuel });
      await ask(10_000n);
      const alone = 10_000n - left(instance);
      how = async () => {
        for (const one of inner) await run(one);
      };
      await ask(10_000n);
      assert.equal(10_000n - left(instance), alone + 2n * inside);
      how = () => Promise.all(inner.map((one) => run(one, 2n * inside)));
      await ask(10_000n);
      assert.equal(10_000n - left(instance), alone + 2n * inside);
      how = () => run(inner[0]);
      await runsOut(ask(inside));
      // Together they may not use more than there is, although each alone could.
      how = () => Promise.all(inner.map((one) => run(one)));
      await assert.rejects(ask(alone + inside), TrapError);
      await ask(100_000n).catch(() => {});
      how = async () => {};
      await ask(100n);
    });

    it('is refused where nobody meters, and outside its range', () => {
      const unmetered = guest({ backend, wat: GUEST, imports: { 'env.f': ([n]) => n } });
      const error = caught(ArgumentError, () =>
        unmetered.instance.invoke('nothing', [], unmetered.supervisor, { fuel: 1n }),
      );
      assert.equal(error.argument, 'options.fuel');
      unmetered.call('nothing');
      assert.equal(unmetered.instance.fuel, undefined);
      const { instance, supervisor } = metered(backend);
      for (const fuel of [-1n, 2n ** 63n]) {
        const refused = caught(ArgumentError, () => instance.invoke('nothing', [], supervisor, { fuel }));
        assert.equal(refused.argument, 'options.fuel');
      }
      instance.invoke('nothing', [], supervisor, { fuel: UNLIMITED });
      assert.equal(instance.fuel, UNLIMITED - 1n);
    });
  });

  it('is counted alike on both backends', () => {
    const counts = (backend: SandboxBackend): bigint[] => {
      const it = metered(backend);
      return [
        used(it, 'nothing'),
        used(it, 'work', Value.I32(1000)),
        used(it, 'ask', Value.I32(1)),
        used(it, 'ask then work', Value.I32(33)),
      ];
    };
    assert.deepEqual(counts('wasmi'), counts('wasmer'));
  });
});
