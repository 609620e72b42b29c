// A whole process that makes asynchronous calls of every kind, over and over. Arguments: backend, guest as base64. Prints what memory it has
// after 5,000 of them, and after each 10,000 more.
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Instantiate, JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { native } from '../../../lib/binding/native';
import { environment } from '../../support/environment';
import { ProtocolSupervisor } from '../../support/protocol';
import { answers, failings } from '../../support/ways';

/** What {@link measure} gives. */
export interface Measured {
  readonly rss: number;
  readonly heap: number;
  readonly handles: number;
}

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

/** How many calls make a round, see {@link round}. */
const CALLS = 100;

const components = new SandboxComponents<unknown>(backend);
const supervisor = new JsSupervisor();
let way = 0;
let onAsked: () => void = () => {};
const isAsked = (): Promise<void> => new Promise((resolve) => (onAsked = resolve));
const ways = answers.map(([, answer]) => answer);
const answer = supervisor.define(([n]) => ways[way++ % ways.length](() => n) as Promise<Value>);
const never = supervisor.define(() => {
  onAsked();
  return new Promise<Value>(() => {});
});
const fails = supervisor.define(() => failings[way++ % failings.length][1]('no')(() => {}) as Promise<Value>);
const context = new ProtocolSupervisor();
context.define(([n]) => n);
context.doAt('invoke', (run) => ways[way++ % ways.length](run));

function make(f: number) {
  const env = environment(components, { 'env.f': f });
  const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor);
  return components.instance(made.register(components, undefined));
}

const answering = Array.from({ length: 8 }, () => make(answer));
const waiting = make(never);
const failing = make(fails);
const computing = make(answer);

/** A hundred calls: most of them go well, others fail, trap, are stopped while they wait or compute, or make instances that are torn down. */
async function round(): Promise<void> {
  const n = Value.I32(1);
  const controller = new AbortController();
  const { signal } = controller;
  const calls = Array.from({ length: 80 }, (_, index) => {
    const ctx = index % 4 === 0 ? context : supervisor;
    return answering[index % answering.length].invokeAsync('f', [n], ctx, index % 8 === 0 ? { signal } : {});
  });
  const made = Array.from({ length: 10 }, () => instantiate());
  const ended = [
    failing.invokeAsync('f', [n], supervisor),
    failing.invokeAsync('f', [n], supervisor),
    failing.invokeAsync('trap', [], supervisor),
    computing.invokeAsync('endless', [], supervisor, { timeout: 1 }),
    waiting.invokeAsync('f', [n], supervisor, { timeout: 1 }),
    waiting.invokeAsync('f', [n], supervisor, { timeout: 1, signal: new AbortController().signal }),
  ].map((call) => assert.rejects(call));
  await Promise.all([...calls, ...made, ...ended]);
  const aborted = [
    computing.invokeAsync('endless', [], supervisor, { signal }),
    waiting.invokeAsync('f', [n], supervisor, { signal }),
    waiting.invokeAsync('f', [n], supervisor, { signal }),
    waiting.invokeAsync('nothing', [], supervisor, { signal }),
  ].map((call) => assert.rejects(call));
  await isAsked();
  controller.abort();
  await Promise.all(aborted);
  context.steps.length = 0;
  context.writtenArguments.length = 0;
}

async function instantiate(): Promise<void> {
  const passing = new SandboxComponents<unknown>(backend);
  const env = environment(passing, { 'env.f': answer });
  const made = await passing.instantiateAsync(Instantiate.Version1, wasm, env, supervisor);
  const index = made.register(passing, undefined);
  const call = passing.instance(index).invokeAsync('f', [Value.I32(1)], supervisor);
  passing.instanceTeardown(index);
  await call;
}

/** The bytes of the process, those on V8's heap, and how many native things there are, once everything is collected that can be. */
async function measure(): Promise<Measured> {
  for (let turn = 0; turn < 5; turn += 1) {
    global.gc?.();
    await nextTurn();
  }
  native.sweep();
  const { rss, heapUsed } = process.memoryUsage();
  return { rss, heap: heapUsed, handles: native.countForTests() };
}

async function main(): Promise<void> {
  const measured: Measured[] = [];
  for (const count of [5_000, 10_000, 10_000, 10_000]) {
    for (let n = 0; n < count; n += CALLS) await round();
    measured.push(await measure());
  }
  process.stdout.write(JSON.stringify(measured));
}

void main();
