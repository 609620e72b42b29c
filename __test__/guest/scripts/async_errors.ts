// A whole process in which asynchronous calls fail in every way. Arguments: backend, guest as base64. Says how many have failed, and exits
// with 1 if Node was told of something that nobody had handled.
import assert from 'node:assert/strict';
import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises';
import {
  type AsyncSupervisorContext,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SupervisorContext,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';
import { ProtocolSupervisor, sixSteps } from '../../support/protocol';
import { failings } from '../../support/ways';

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

for (const event of ['unhandledRejection', 'uncaughtException', 'rejectionHandled'] as const) {
  process.on(event, (...args: unknown[]) => {
    process.stderr.write(`${event}: ${String(args[0])}\n`);
    process.exitCode = 1;
  });
}

const components = new SandboxComponents<unknown>(backend);
const reasons = [new Error('no'), undefined, 'text'];
const failed: Promise<unknown>[] = [];
const isFailed = (call: Promise<unknown>): unknown => failed.push(assert.rejects(call));

/** Calls a new guest with that supervisor, whose function 0 it imports. */
function call(ctx: SupervisorContext | AsyncSupervisorContext, signal?: AbortSignal): Promise<unknown> {
  const env = environment(components, { 'env.f': 0 });
  const made = components.instantiate(Instantiate.Version1, wasm, env, new JsSupervisor());
  const instance = components.instance(made.register(components, undefined));
  return instance.invokeAsync('f', [Value.I32(1)], ctx, signal === undefined ? {} : { signal });
}

/** A supervisor with that function. */
function by(fn: Parameters<JsSupervisor['define']>[0]): JsSupervisor {
  const supervisor = new JsSupervisor();
  supervisor.define(fn);
  return supervisor;
}

function byProtocol(): ProtocolSupervisor {
  const supervisor = new ProtocolSupervisor();
  supervisor.define(([n]) => n);
  return supervisor;
}

function failInEveryWay(): void {
  for (const [, failWith] of failings) {
    for (const why of reasons) {
      const fail = failWith(why) as () => Promise<undefined>;
      isFailed(call(by(fail)));
      for (const step of sixSteps) isFailed(call(byProtocol().doAt(step, fail)));
      const env = environment(components, { 'env.f': 0 });
      isFailed(components.instantiateAsync(Instantiate.Version1, STARTING, env, by(fail)));
    }
  }
  isFailed(call(by(() => Promise.resolve(Value.I64(1n)))));
  isFailed(call(by(() => after(1, 'text' as never))));
  isFailed(call({} as never));
  isFailed(
    components.instantiateAsync(
      Instantiate.Version1,
      wasm.subarray(5),
      environment(components),
      by(() => {}),
    ),
  );
}

/** Calls that are stopped while they wait, for Promises that are rejected later. One signal for all of them. */
async function failAfterTheEnd(): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const rejects: (() => void)[] = [];
  const late = (): Promise<undefined> =>
    new Promise((_, reject) => void rejects.push(() => reject(new Error('late'))));
  for (let n = 0; n < 20; n += 1) {
    isFailed(call(by(late), signal));
    for (const step of sixSteps) isFailed(call(byProtocol().doAt(step, late), signal));
  }
  while (rejects.length < 20 * 7) await nextTurn();
  controller.abort();
  await Promise.all(failed);
  for (const reject of rejects) reject();
}

/** Functions that abort their own call, and then fail. */
function failWhenStopped(): void {
  for (const [, failWith] of failings) {
    const controller = new AbortController();
    const fail = failWith(new Error('no')) as () => Promise<undefined>;
    const stopAndFail = (): Promise<undefined> => {
      controller.abort();
      return fail();
    };
    isFailed(call(by(stopAndFail), controller.signal));
  }
}

// (module (import "env" "f" (func)) (start 0))
const STARTING = Buffer.from('0061736d0100000001040160000002090103656e7601660000080100', 'hex');

async function main(): Promise<void> {
  failInEveryWay();
  await Promise.all(failed);
  await failAfterTheEnd();
  failWhenStopped();
  await Promise.all(failed);
  for (let turn = 0; turn < 5; turn += 1) {
    await nextTurn();
    global.gc?.();
  }
  process.stdout.write(`${failed.length} have failed\n`);
}

void main();
