/**
 * What one builds today without this package when a guest must not hold up the event loop but calls functions that live there: V8's
 * own WebAssembly in a worker thread, whose import posts a message and sleeps until the main thread has answered. Both sides of it
 * stand here, because they share a few bytes; the worker loads this very file, and nothing of this package.
 */

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { instantiateInV8, type V8Function } from './v8';

/** Answers the guest's calls. */
export type Answer = (a: bigint, b: bigint) => bigint;

/** What the main thread asks the worker for. */
type Order = { readonly run: number } | 'echo';
/** What the worker posts: that the guest calls, or that an order is done, with what `run` returned. */
type Report = 'call' | { readonly result?: bigint };

/** The main thread's side. */
export class WorkerPeer {
  readonly #worker: Worker;
  readonly #shared = new SharedBytes();
  #done: { resolve(result: bigint | undefined): void; reject(error: unknown): void } | undefined;

  private constructor(wasm: Uint8Array, answer: Answer) {
    const data: Data = { wasm, buffer: this.#shared.buffer };
    this.#worker = new Worker(__filename, { workerData: data });
    this.#worker.on('message', (report: Report) => {
      if (report === 'call') this.#shared.answer(answer);
      else this.#done?.resolve(report.result);
    });
    this.#worker.on('error', (error) => this.#done?.reject(error));
  }

  /** Starts the worker. `wasm` imports `env.f` with two i64 and an i64 as its result, and exports `run`, which takes an i32. */
  static async start(wasm: Uint8Array, answer: Answer): Promise<WorkerPeer> {
    const peer = new WorkerPeer(wasm, answer);
    await peer.echo();
    return peer;
  }

  /** Calls the guest's `run`, which calls back as often as its argument says. */
  run(times: number): Promise<bigint | undefined> {
    return this.#order({ run: times });
  }

  /** There and back again. */
  echo(): Promise<unknown> {
    return this.#order('echo');
  }

  close(): Promise<unknown> {
    return this.#worker.terminate();
  }

  #order(order: Order): Promise<bigint | undefined> {
    return new Promise((resolve, reject) => {
      this.#done = { resolve, reject };
      this.#worker.postMessage(order);
    });
  }
}

/**
 * The bytes that both threads see: whether there is an answer, the arguments, and the result. They could be in the message, but that
 * takes longer.
 */
class SharedBytes {
  readonly buffer: SharedArrayBuffer;
  readonly #state: Int32Array;
  readonly #values: BigInt64Array;

  constructor(buffer = new SharedArrayBuffer(32)) {
    this.buffer = buffer;
    this.#state = new Int32Array(buffer, 0, 1);
    this.#values = new BigInt64Array(buffer, 8, 3);
  }

  /** The worker's side of a call: asks by `post`, and sleeps until there is an answer. */
  call(a: bigint, b: bigint, post: () => void): bigint {
    this.#values[0] = a;
    this.#values[1] = b;
    Atomics.store(this.#state, 0, WAITING);
    post();
    Atomics.wait(this.#state, 0, WAITING);
    return this.#values[2];
  }

  /** The main thread's. */
  answer(answer: Answer): void {
    this.#values[2] = answer(this.#values[0], this.#values[1]);
    Atomics.store(this.#state, 0, ANSWERED);
    Atomics.notify(this.#state, 0);
  }
}

const [WAITING, ANSWERED] = [0, 1];

/** What the worker starts with. */
interface Data {
  readonly wasm: Uint8Array;
  readonly buffer: SharedArrayBuffer;
}

function serve({ wasm, buffer }: Data, port: NonNullable<typeof parentPort>): void {
  const shared = new SharedBytes(buffer);
  const post = (report: Report): void => port.postMessage(report);
  const call = (): void => post('call');
  const f: V8Function = (a, b) => shared.call(a as bigint, b as bigint, call);
  const { run } = instantiateInV8(wasm, { f }).exports;
  port.on('message', (order: Order) => {
    post(order === 'echo' ? {} : { result: run(order.run) as bigint });
  });
}

if (!isMainThread && parentPort !== null) serve(workerData as Data, parentPort);
