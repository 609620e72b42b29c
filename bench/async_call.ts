/**
 * What a guest that runs beside the event loop pays for a call to its supervisor, and a supervisor for a call into such a guest. The
 * peer is what one builds today for the same end: V8's WebAssembly in a worker thread that waits for the main thread's answer.
 */

import {
  type AsyncSupervisorContext,
  JsSupervisor,
  type SandboxBackend,
  type SandboxInstance,
  type SupervisorFuncIndex,
  type SupervisorFunction,
} from 'sandbox-host';
import { CALLING_GUEST, callingAsync, LAST_RESULT } from './support/calling_guest';
import { ENGINES, instantiate, wat } from './support/guest';
import { LinearSupervisor } from './support/linear_supervisor';
import type { Comparison, Operation } from './support/measure';
import { WorkerPeer } from './support/worker_peer';

const CALL_PEER = 'Worker: postMessage, Atomics.wait';
const ROUND_TRIP_PEER = 'Worker: postMessage, there and back';

/** Calls in a sample: so many that the way into the guest and back costs nothing, and a sample takes some ten milliseconds. */
const QUICK_CALLS = 20_000;
const SLOW_CALLS = 2_000;
const PEER_CALLS = 200;
const ROUND_TRIPS = 100;
const ROUNDS = 12;

/** A guest that is answered at once: a hundred times as fast as the peer, and at most this. */
const AT_ONCE = { target: 0.01, mostNs: 2_000 };
/** A guest that is answered by a Promise that has settled already. */
const BY_PROMISE = { mostNs: 10_000 };

export async function comparisons(): Promise<Comparison[]> {
  return [await supervisorCalls(), await roundTrips()];
}

async function supervisorCalls(): Promise<Comparison> {
  const wasm = await wat(CALLING_GUEST);
  const peer = await WorkerPeer.start(wasm, (_a, b) => b);
  const plain = (backend: SandboxBackend, fn: SupervisorFunction): [SandboxInstance, JsSupervisor] => {
    const supervisor = new JsSupervisor();
    return [instantiate(backend, wasm, supervisor, { f: supervisor.define(fn) }), supervisor];
  };
  const sixSteps = (backend: SandboxBackend): [SandboxInstance, LinearSupervisor] => {
    const supervisor = new LinearSupervisor();
    const f = supervisor.define((args) => args[1] as bigint);
    return [instantiate(backend, wasm, supervisor, { f }), supervisor];
  };
  const operations: Operation[] = [workerCalls(peer)];
  for (const backend of ENGINES) {
    const [instance, supervisor] = plain(backend, (args) => args[1]);
    const name = `${backend}, a function returns a Value`;
    operations.push({ ...callingAsync(name, instance, supervisor, QUICK_CALLS), ...AT_ONCE });
  }
  for (const backend of ENGINES) {
    const [instance, supervisor] = plain(backend, async (args) => args[1]);
    const name = `${backend}, a function returns a Promise`;
    operations.push({ ...callingAsync(name, instance, supervisor, SLOW_CALLS), ...BY_PROMISE });
  }
  for (const backend of ENGINES) {
    const [instance, supervisor] = sixSteps(backend);
    const name = `${backend}, six steps that return values`;
    operations.push(callingAsync(name, instance, supervisor, SLOW_CALLS));
  }
  for (const backend of ENGINES) {
    const [instance, supervisor] = sixSteps(backend);
    const name = `${backend}, six steps that return Promises`;
    operations.push(callingAsync(name, instance, new InPromises(supervisor), SLOW_CALLS));
  }
  return {
    name: 'guest off the event loop → supervisor on it → guest: (i64, i64) → i64',
    operations,
    peers: [CALL_PEER],
    rounds: ROUNDS,
    close: () => peer.close(),
  };
}

function workerCalls(peer: WorkerPeer): Operation {
  const run = async (): Promise<void> => {
    const result = await peer.run(PEER_CALLS);
    if (result !== LAST_RESULT) throw new Error(`the guest of ${CALL_PEER} returned ${result}`);
  };
  return { name: CALL_PEER, run, times: PEER_CALLS };
}

async function roundTrips(): Promise<Comparison> {
  const wasm = await wat('(module (func (export "empty")))');
  const peer = await WorkerPeer.start(await wat(CALLING_GUEST), (_a, b) => b);
  const empty = (backend: SandboxBackend): Operation => {
    const supervisor = new JsSupervisor();
    const instance = instantiate(backend, wasm, supervisor);
    return {
      name: `${backend}, invokeAsync of an empty export`,
      run: () => oneByOne(() => instance.invokeAsync('empty', [], supervisor)),
      times: ROUND_TRIPS,
    };
  };
  return {
    name: 'main thread → guest → main thread, one after another',
    operations: [
      { name: ROUND_TRIP_PEER, run: () => oneByOne(() => peer.echo()), times: ROUND_TRIPS },
      ...ENGINES.map(empty),
    ],
    peers: [ROUND_TRIP_PEER],
    rounds: ROUNDS,
    close: () => peer.close(),
  };
}

async function oneByOne(trip: () => Promise<unknown>): Promise<void> {
  for (let trips = 0; trips < ROUND_TRIPS; trips += 1) await trip();
}

/** A supervisor whose every step is asynchronous, although it has the answer already. */
class InPromises implements AsyncSupervisorContext {
  readonly #supervisor: LinearSupervisor;

  constructor(supervisor: LinearSupervisor) {
    this.#supervisor = supervisor;
  }

  async allocateMemory(size: number): Promise<number> {
    return this.#supervisor.allocateMemory(size);
  }

  async deallocateMemory(): Promise<void> {
    this.#supervisor.deallocateMemory();
  }

  async writeMemory(address: number, data: Uint8Array): Promise<void> {
    this.#supervisor.writeMemory(address, data);
  }

  async readMemoryInto(address: number, dest: Uint8Array): Promise<void> {
    this.#supervisor.readMemoryInto(address, dest);
  }

  async invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: SupervisorFuncIndex): Promise<bigint> {
    return this.#supervisor.invoke(invokeArgsPtr, invokeArgsLen, funcIdx);
  }
}
