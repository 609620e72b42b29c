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
import type { About } from './support/results';
import type { Situation } from './support/situations';
import { WorkerPeer } from './support/worker_peer';

export const about: About = {
  title: 'Asynchronous calls',
  text: [
    'What a guest beside the event loop pays for a call to its supervisor, and a supervisor for `invokeAsync`. The peer is what one builds today',
    "for the same end: V8's WebAssembly in a worker thread that posts a message and sleeps in `Atomics.wait` until the main thread has answered.",
    'How long that takes depends on how fast the system wakes threads. The hand-over between threads depends on free cores, so everything is',
    'measured in three situations: on all cores, on one core (`taskset -c 0`), and beside two busy loops. The targets are for the first one.',
  ].join('\n'),
  situations: ['one core', 'busy'],
};

const CALL_PEER = 'Worker: postMessage, Atomics.wait';
const ROUND_TRIP_PEER = 'Worker: postMessage, there and back';

/** Calls in a sample: so many that the way into the guest and back costs nothing, and a sample takes some ten milliseconds. */
const QUICK_CALLS = 20_000;
const SLOW_CALLS = 2_000;
const PEER_CALLS = 200;
const ROUND_TRIPS = 100;
const ROUNDS = 12;

type Targets = Pick<Operation, 'target' | 'mostNs'>;

/** A guest that is answered at once: a hundred times as fast as the peer, and at most this. */
const AT_ONCE: Targets = { target: 0.01, mostNs: 2_000 };
/** A guest that is answered by a Promise that has settled already. */
const BY_PROMISE: Targets = { mostNs: 10_000 };

export async function comparisons(situation: Situation): Promise<Comparison[]> {
  const wanted = (targets: Targets): Targets => (situation === 'all cores' ? targets : {});
  // Where each call wakes a thread, as many as on free cores would take minutes.
  const quickCalls = situation === 'all cores' ? QUICK_CALLS : SLOW_CALLS;
  return [await supervisorCalls(wanted, quickCalls), await roundTrips()];
}

async function supervisorCalls(
  wanted: (targets: Targets) => Targets,
  quickCalls: number,
): Promise<Comparison> {
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
    operations.push({ ...callingAsync(name, instance, supervisor, quickCalls), ...wanted(AT_ONCE) });
  }
  for (const backend of ENGINES) {
    const [instance, supervisor] = plain(backend, async (args) => args[1]);
    const name = `${backend}, a function returns a Promise`;
    operations.push({ ...callingAsync(name, instance, supervisor, SLOW_CALLS), ...wanted(BY_PROMISE) });
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
