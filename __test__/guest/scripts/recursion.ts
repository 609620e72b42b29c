// Guests and JavaScript that call each other until a stack is exhausted. Run by stack.spec.ts on its own thread, and
// as a worker, which posts its outcomes.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Instantiate, JsSupervisor, SandboxBackend, SandboxComponents, Value } from '../../../index';
import { environment } from '../../support/environment';

export const exhaustions = [
  'a guest that recurses',
  'ping-pong with one guest',
  'ping-pong between two guests',
  'ping-pong between both engines',
  'ping-pong with new guests',
] as const;

export type Exhaustion = (typeof exhaustions)[number];

export interface Outcome {
  /** Name of the error that came out. */
  error: string;
  /** How many guest calls were open at once. */
  depth: number;
  /** Whether every guest still works. */
  usable: boolean;
}

interface Player {
  call(name: string, ...args: Value[]): unknown;
}

/** Exhausts a stack. The guest is that of stack.spec.ts: it exports `ask`, `endless` and `seven`. */
export function exhaust(backend: SandboxBackend, wasm: Uint8Array, way: Exhaustion): Outcome {
  const other = backend === SandboxBackend.Wasmi ? SandboxBackend.Wasmer : SandboxBackend.Wasmi;
  let depth = 0;
  let deepest = 0;
  /** Counts the calls of another player. */
  const deeper = (next: () => Player) => (): Value => {
    deepest = Math.max(deepest, ++depth);
    try {
      next().call('ask', Value.I32(depth));
    } finally {
      depth--;
    }
    return Value.I32(0);
  };

  const components = new SandboxComponents<unknown>(backend);
  let players: Player[];
  switch (way) {
    case 'a guest that recurses':
      players = [player(components, wasm, () => Value.I32(0))];
      deepest = 1000;
      break;
    case 'ping-pong with one guest': {
      const self: Player = player(
        components,
        wasm,
        deeper(() => self),
      );
      players = [self];
      break;
    }
    case 'ping-pong between two guests':
    case 'ping-pong between both engines': {
      const second =
        way === 'ping-pong between two guests' ? components : new SandboxComponents<unknown>(other);
      const a: Player = player(
        components,
        wasm,
        deeper(() => b),
      );
      const b: Player = player(
        second,
        wasm,
        deeper(() => a),
      );
      players = [a, b];
      break;
    }
    case 'ping-pong with new guests': {
      const fresh = (): Player => player(components, wasm, deeper(fresh));
      players = [fresh()];
      break;
    }
  }

  const error = nameOfThrown(() =>
    way === 'a guest that recurses' ? players[0].call('endless') : players[0].call('ask', Value.I32(0)),
  );
  const usable = players.every((each) => (each.call('seven') as { value: number }).value === 7);
  return { error, depth: deepest, usable };
}

function player(components: SandboxComponents<unknown>, wasm: Uint8Array, ask: () => Value): Player {
  const supervisor = new JsSupervisor();
  const env = environment(components, { 'env.ask': supervisor.define(ask) });
  const index = components
    .instantiate(Instantiate.Version1, wasm, env, supervisor)
    .register(components, undefined);
  const instance = components.instance(index);
  return { call: (name, ...args) => instance.invoke(name, args, supervisor) };
}

function nameOfThrown(run: () => unknown): string {
  try {
    run();
    return 'nothing';
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}

if (!isMainThread && workerData?.exhaustions) {
  const { exhaustions: ways, backend, wasm } = workerData;
  parentPort?.postMessage((ways as Exhaustion[]).map((way) => exhaust(backend, wasm, way)));
}
