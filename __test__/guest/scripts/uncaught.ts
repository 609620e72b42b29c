// A whole process in which supervisors throw in every way, to be run with --abort-on-uncaught-exception: it goes on to its end, because
// whoever calls a guest catches everything. Arguments: backend, guest as base64. Says how many calls have failed as they must.
import assert from 'node:assert/strict';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorContext,
  TrapError,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';
import { ProtocolSupervisor, sixSteps } from '../../support/protocol';

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

const components = new SandboxComponents<unknown>(backend);
const reasons: unknown[] = [new Error('why'), undefined, null, 'text', 7n, Symbol('why'), { why: 1 }];
let failed = 0;

type Answer = Parameters<JsSupervisor['define']>[0];

function instanceWith(ctx: SupervisorContext & { define(fn: Answer): number }, fn: Answer): SandboxInstance {
  const env = environment(components, { 'env.f': ctx.define(fn) });
  const made = components.instantiate(Instantiate.Version1, wasm, env, ctx);
  return components.instance(made.register(components, undefined));
}

function isFailedBy(error: unknown, why: unknown): true {
  assert.ok(error instanceof TrapError);
  assert.equal(error.trap, 'supervisor');
  assert.ok(Object.is(error.cause, why));
  failed += 1;
  return true;
}

/** Calls a guest whose supervisor answers so, in both ways; the call must fail by that. */
async function fails(instance: SandboxInstance, why: unknown): Promise<void> {
  assert.throws(
    () => instance.invoke('f', [1]),
    (error) => isFailedBy(error, why),
  );
  await assert.rejects(instance.invokeAsync('f', [1]), (error) => isFailedBy(error, why));
}

async function run(): Promise<void> {
  for (const why of reasons) {
    const fail = (): never => {
      throw why;
    };
    await fails(instanceWith(new JsSupervisor(), fail), why);
    for (const step of sixSteps) {
      // What is allocated for the arguments must be there to be freed.
      const supervisor = new ProtocolSupervisor();
      const instance = instanceWith(supervisor, ([n]) => n);
      supervisor.failAt(step, why);
      await fails(instance, why);
    }
    // Nested calls that fail, and of which the supervisor lets the first one pass.
    const inner = instanceWith(new JsSupervisor(), fail);
    const outer = instanceWith(new JsSupervisor(), () => {
      assert.throws(
        () => inner.invoke('f', [1]),
        (error) => isFailedBy(error, why),
      );
      throw why;
    });
    await fails(outer, why);
    const passing = instanceWith(new JsSupervisor(), ([n]) => {
      assert.throws(() => inner.invoke('f', [1]));
      assert.throws(() => inner.invoke('trap'), TrapError);
      return n;
    });
    assert.deepEqual(passing.invoke('f', [1]), Value.I32(1));
    // A start function.
    const supervisor = new JsSupervisor();
    const env = environment(components, { 'env.f': supervisor.define(fail) });
    const start = Buffer.from(process.argv[4], 'base64');
    const isStartFailed = (error: unknown): boolean =>
      error instanceof InstantiationError && isFailedBy(error.cause, why);
    const version = Instantiate.Version1;
    assert.throws(() => components.instantiate(version, start, env, supervisor), isStartFailed);
    await assert.rejects(components.instantiateAsync(version, start, env, supervisor), isStartFailed);
  }
  const endless = (): never => endless();
  const deep = instanceWith(new JsSupervisor(), endless);
  assert.throws(
    () => deep.invoke('f', [1]),
    (error) => error instanceof TrapError && error.cause instanceof RangeError,
  );
  // What native code refuses is told later.
  await assert.rejects(
    components.instantiateAsync(
      Instantiate.Version1,
      Buffer.from('no module'),
      environment(components),
      new JsSupervisor(),
    ),
    InstantiationError,
  );
}

run().then(() => console.log(`${failed} have failed`));
