/**
 * Guests that wait for the network: a thousand on wasmi and fifty on wasmer, in one process and at the same time. Their import
 * `env.fetch` is an asynchronous function that awaits the global `fetch`. The guest, `fetch.wat`, does not notice: it just gets a
 * number. This file contains the web server too, so you need nothing else:
 * `node --require ts-node/register examples/fetch.ts`
 */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorFuncIndex,
  Value,
} from 'sandbox-host';
import wabt from 'wabt';

/**
 * On wasmi a waiting guest takes a few kilobytes, and its thread runs other guests. On wasmer each waiting guest holds a native thread;
 * calls for which there is no thread wait their turn.
 */
const CROWDS: readonly (readonly [backend: SandboxBackend, guests: number])[] = [
  [SandboxBackend.Wasmi, 1000],
  [SandboxBackend.Wasmer, 50],
];

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  const text = readFileSync(join(__dirname, 'fetch.wat'), 'utf8');
  const wasm: Uint8Array = parseWat('fetch.wat', text).toBinary({}).buffer;

  const server = new NumberServer();
  try {
    const url = await server.listen();
    await fetchWithoutGuests(CROWDS[0][1], url);
    for (const [backend, count] of CROWDS) await runCrowd(backend, wasm, count, url);
  } finally {
    server.close();
  }
}

/** Makes the same fetches from JavaScript alone, to show how much of the time the network takes. */
async function fetchWithoutGuests(count: number, url: string): Promise<void> {
  // Node loads its `fetch` at the first call.
  await fetchNumber(url, 0);
  const gate = new Gate(MOST_FETCHES);
  using heartbeat = new Heartbeat();
  const started = performance.now();
  await Promise.all(Array.from({ length: count }, (_, id) => gate.pass(() => fetchNumber(url, id))));
  const ms = (performance.now() - started).toFixed(0);
  print(`no guests: ${count} fetches took ${ms} ms`, `no guests: ${heartbeat.report()}`);
}

/** Runs `count` guests at once, and prints the results. */
async function runCrowd(
  backend: SandboxBackend,
  wasm: Uint8Array,
  count: number,
  url: string,
): Promise<void> {
  using components = new SandboxComponents(backend);
  const waiting = new Counter();
  const gate = new Gate(MOST_FETCHES);

  // A supervisor function may return a Promise if `invokeAsync` runs its guests. The guest stays in its call until the Promise has
  // settled. If the Promise rejects, the guest traps, and `invokeAsync` rejects with a TrapError whose `cause` is the reason.
  const supervisor = new JsSupervisor();
  const fetchIndex = supervisor.define(async ([id, ptr], call) => {
    waiting.increase();
    try {
      const { status, number } = await gate.pass(() => fetchNumber(url, Value.toNumber(id)));
      // `call` is valid until this function is done, also after an `await`. `call.memory` belongs to the guest that made this call,
      // however many other guests have called meanwhile.
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setInt32(0, number, true);
      call.memory!.writeFrom(Value.toNumber(ptr), bytes);
      return Value.I32(status);
    } finally {
      waiting.decrease();
    }
  });

  using heartbeat = new Heartbeat();
  const instances: SandboxInstance[] = [];
  for (let id = 0; id < count; id += 1) {
    instances.push(await makeGuest(components, wasm, supervisor, fetchIndex));
  }

  // This calls all guests before it waits for any of them. Each guest has its own memory, and therefore its own store, so no guest waits
  // for another. Calls into a single guest would run one after another.
  const started = performance.now();
  const progress = new Progress(backend, count);
  const results = await Promise.all(
    instances.map(async (instance, id) => {
      const result = await instance.invokeAsync('run', [Value.I32(id)], supervisor);
      progress.done(waiting.now);
      return result as Value;
    }),
  );
  progress.end();

  const ms = (performance.now() - started).toFixed(0);
  const right = results.filter((result, id) => Value.toNumber(result) === numberOf(id) + id).length;
  print(
    `${backend}: ${count} guests took ${ms} ms, and ${right} of them returned the right number`,
    `${backend}: up to ${waiting.most} waited at the same time, and ${heartbeat.report()}`,
  );
  if (right !== count) process.exitCode = 1;
}

/** Makes an instance with its own memory. Only the pages that the guest touches take physical memory. */
async function makeGuest(
  components: SandboxComponents,
  wasm: Uint8Array,
  supervisor: JsSupervisor,
  fetchIndex: SupervisorFuncIndex,
): Promise<SandboxInstance> {
  const definition = new EnvironmentDefinitionBuilder()
    .addHostFunc('env', 'fetch', fetchIndex)
    .addMemory('env', 'memory', components.newMemory(1, 1));
  const env = GuestEnvironment.decode(components, definition.encode());
  // The first guest compiles the module, on another thread. The others get it from the cache.
  const made = await components.instantiateAsync(Instantiate.Version1, wasm, env, supervisor);
  return components.instance(made.register(components, undefined));
}

// --- the network ----------------------------------------------------------------------------------------------------

/**
 * Node's `fetch` opens a connection for each request that finds no idle one. A thousand requests at once would need two thousand
 * sockets, because this process has both ends of each connection, and many systems allow 1,024. So at most 32 fetches run at a time.
 * This does not matter to the guests, which wait in any case. 32 fetches keep this process busy; more would only cause larger bursts.
 */
const MOST_FETCHES = 32;

/** How long the server waits before each answer. */
const ANSWER_AFTER_MS = 5;

/** The server's answer. */
function numberOf(id: number): number {
  return id * id + 1;
}

async function fetchNumber(url: string, id: number): Promise<{ status: number; number: number }> {
  const response = await fetch(`${url}/numbers/${id}`);
  // The connection is free for the next request when the whole answer has been read.
  return { status: response.status, number: Number(await response.text()) };
}

/** Answers /numbers/ID after a few milliseconds. */
class NumberServer {
  readonly #server: Server = createServer((request, response) => {
    const id = /^\/numbers\/(\d+)$/.exec(request.url ?? '')?.[1];
    setTimeout(() => {
      if (id === undefined) response.writeHead(404).end();
      else response.end(`${numberOf(Number(id))}`);
    }, ANSWER_AFTER_MS);
  });

  /** Starts the server on a free port, and returns its address. */
  async listen(): Promise<string> {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }

  close(): void {
    this.#server.close();
    // Idle connections stay open for later requests, and keep the process alive.
    this.#server.closeAllConnections();
  }
}

/** Lets only a limited number through at a time; the others wait in a queue. */
class Gate {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(most: number) {
    this.#free = most;
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      // Hands the place to the next in the queue, if any.
      const next = this.#queue.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

// --- output ---------------------------------------------------------------------------------------------------------

/** Holds a current count and its maximum. */
class Counter {
  now = 0;
  most = 0;

  increase(): void {
    this.now += 1;
    this.most = Math.max(this.most, this.now);
  }

  decrease(): void {
    this.now -= 1;
  }
}

/** Measures whether the event loop is free, by the greatest delay of a timer. */
class Heartbeat {
  #latest = 0;
  #due = performance.now() + BEAT_MS;
  readonly #timer = setInterval(() => {
    const now = performance.now();
    this.#latest = Math.max(this.#latest, now - this.#due);
    this.#due = now + BEAT_MS;
  }, BEAT_MS);

  report(): string {
    return `the event loop was never more than ${this.#latest.toFixed(0)} ms late`;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

const BEAT_MS = 5;

/** Shows the progress: on a terminal in one line that it redraws, elsewhere in one line for each quarter of the guests. */
class Progress {
  readonly #backend: SandboxBackend;
  readonly #count: number;
  #done = 0;
  #shownAt = 0;

  constructor(backend: SandboxBackend, count: number) {
    this.#backend = backend;
    this.#count = count;
  }

  /** Records that one more guest is done, while `waiting` guests still wait. */
  done(waiting: number): void {
    this.#done += 1;
    const line = `${this.#backend}: ${this.#done} of ${this.#count} guests are done, ${waiting} wait for an answer`;
    if (!process.stdout.isTTY) {
      if (this.#done % Math.ceil(this.#count / 4) === 0) print(line);
    } else if (performance.now() - this.#shownAt > REDRAW_MS) {
      this.#shownAt = performance.now();
      process.stdout.write(`\r${line}${CLEAR_REST}`);
    }
  }

  /** Clears the progress line. */
  end(): void {
    if (process.stdout.isTTY) process.stdout.write(`\r${CLEAR_REST}`);
  }
}

const REDRAW_MS = 40;
const CLEAR_REST = '\x1b[K';

function print(...lines: string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
