import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from 'sandbox-host';
import { definition, wat } from './support/guest';
import type { About } from './support/results';
import type { Sizes } from './support/size';

export const about: About = {
  title: 'Guests that wait',
  text: [
    'The resident memory of ten thousand guests on wasmi, each in an asynchronous call whose supervisor function has returned a Promise that is',
    'pending. Each has a sandboxed memory that nobody touches. wasmer is not here, because there each waiting guest holds a thread.',
  ].join('\n'),
};

const GUESTS = 10_000;
/** Run beforehand, so that code which loads late, threads and V8's first heap are not counted. */
const WARM_UP_GUESTS = 500;
const MOST_BYTES = 16 * 1024;

const GUEST = `(module
  (import "env" "memory" (memory 1 1))
  (import "env" "wait" (func $wait (param i32) (result i64)))
  (func (export "run") (param $id i32) (result i64)
    (i64.add (call $wait (local.get $id)) (i64.extend_i32_u (local.get $id)))))`;

/** What memory this process takes, in bytes. */
interface Usage {
  readonly resident: number;
  /** What of it lives in V8's heap. */
  readonly heap: number;
}

/** When it is measured. */
type Usages = Readonly<Record<'before' | 'made' | 'waiting' | 'done', Usage>>;

export async function sizes(): Promise<Sizes> {
  const { before, made, waiting, done } = await inChild();
  const each = (from: Usage, to: Usage, part: keyof Usage = 'resident'): number =>
    (to[part] - from[part]) / GUESTS;
  return {
    name: `resident memory of ${GUESTS} wasmi guests that wait, for each of them`,
    sizes: [
      { name: 'instantiate, with a memory of one page', bytes: each(before, made) },
      { name: 'suspend', bytes: each(made, waiting) },
      { name: 'in all', bytes: each(before, waiting), most: MOST_BYTES },
      { name: '  of it objects of V8', bytes: each(before, waiting, 'heap') },
      // What the allocator keeps for the next ones counts, too.
      { name: 'not given back when all are gone', bytes: each(before, done) },
    ],
  };
}

/**
 * Measures in a process whose V8 keeps no room in reserve: by default it does so, and gives it back when it likes, some 30 MB after
 * the compiler of ts-node alone, which is more than 10,000 small objects take.
 */
async function inChild(): Promise<Usages> {
  const child = fork(__filename, [], { execArgv: [...process.execArgv, '--optimize-for-size'] });
  let usages: Usages | undefined;
  child.on('message', (message) => {
    usages = message as Usages;
  });
  const [status, signal] = await once(child, 'close');
  if (status !== 0 || usages === undefined) {
    throw new Error(`the process with the guests ended with ${signal ?? `status ${status}`}`);
  }
  return usages;
}

async function measureAndSend(): Promise<void> {
  const wasm = await wat(GUEST);
  await measured(wasm, WARM_UP_GUESTS);
  process.send?.(await measured(wasm, GUESTS));
  process.disconnect();
}

/** Has so many guests wait, then answers them all and checks what they return. */
async function measured(wasm: Uint8Array, count: number): Promise<Usages> {
  const components = new SandboxComponents(SandboxBackend.Wasmi);
  const callers = new Callers(count);
  const before = await usage();

  const instances = Array.from({ length: count }, () => instantiate(components, wasm, callers));
  const made = await usage();

  const calls = Promise.all(
    instances.map((instance, id) => instance.invokeAsync('run', [Value.I32(id)], callers.supervisor)),
  );
  // No call can end before it is answered; one that fails makes the race fail.
  await Promise.race([callers.complete, calls]);
  const waiting = await usage();

  callers.answerAll();
  for (const [id, result] of (await calls).entries()) {
    const wanted = answerTo(id) + BigInt(id);
    if ((result as Value | undefined)?.type !== 'i64' || (result as { value: bigint }).value !== wanted) {
      throw new Error(`guest ${id} returned ${JSON.stringify(result)} instead of ${wanted}`);
    }
  }
  instances.length = 0;
  components.clear();
  return { before, made, waiting, done: await usage() };
}

/** The guests that have called, and what they wait for. */
class Callers {
  readonly supervisor = new JsSupervisor();
  /** Resolves when all have called. */
  readonly complete: Promise<void>;
  readonly waitIndex;
  #answers: (() => void)[] = [];

  constructor(count: number) {
    let complete: () => void;
    this.complete = new Promise((resolve) => {
      complete = resolve;
    });
    this.waitIndex = this.supervisor.define(([id]) => {
      return new Promise<Value>((resolve) => {
        const answer = (): void => resolve(Value.I64(answerTo(Value.toNumber(id))));
        if (this.#answers.push(answer) === count) complete();
      });
    });
  }

  /** Answers in another order than that in which they have called. */
  answerAll(): void {
    const answers = this.#answers;
    this.#answers = [];
    for (const answer of answers.reverse()) answer();
  }
}

/** Another one for each guest, and too large for 32 bits. */
function answerTo(id: number): bigint {
  return BigInt(id) * 1_000_000_007n;
}

function instantiate(
  components: SandboxComponents,
  wasm: Uint8Array,
  { supervisor, waitIndex }: Callers,
): SandboxInstance {
  const memory = components.newMemory(1, 1);
  const environment = GuestEnvironment.decode(components, definition({ wait: waitIndex }, memory));
  const made = components.instantiate(Instantiate.Version1, wasm, environment, supervisor);
  return components.instance(made.register(components, undefined));
}

/** The memory that is in use once all garbage is gone: finalizers run between two collections, and leave more of it. */
async function usage(): Promise<Usage> {
  if (globalThis.gc === undefined)
    throw new Error('this bench needs node --expose-gc, as npm run bench has it');
  for (let collections = 0; collections < COLLECTIONS; collections += 1) {
    globalThis.gc();
    await sleep(COLLECTION_PAUSE_MS);
  }
  return { resident: resident(), heap: process.memoryUsage().heapUsed };
}

const COLLECTIONS = 10;
const COLLECTION_PAUSE_MS = 50;

/** Linux tells exactly; elsewhere libuv knows. */
function resident(): number {
  try {
    const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  } catch {
    // There is no /proc here.
  }
  return process.memoryUsage.rss();
}

if (require.main === module) {
  measureAndSend().catch((error) => {
    console.error(error);
    process.exitCode = 1;
    process.disconnect?.();
  });
}
