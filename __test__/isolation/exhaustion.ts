// The ways in which guests and JavaScript exhaust a stack together. Each ends in an error; what came of it is told. Stands alone, because it runs
// in child processes and their workers: scripts/exhaustion.ts.
import {
  CompiledModule,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  type SupervisorContext,
  TrapError,
  Value,
} from '../../index';
import { environment } from '../support/environment';
import type { GuestFunction } from '../support/guest';
import { bytes, named, section } from '../support/module_bytes';
import { ProtocolSupervisor } from '../support/protocol';

/** What to do, and with which guests. */
export interface Task {
  readonly backend: SandboxBackend;
  readonly way: Way;
  /** Imports `env.ask`, and exports `ask`, `endless` and `seven`. */
  readonly guest: Uint8Array;
  /** Imports the same, which its start function calls. */
  readonly starting: Uint8Array;
}

/** What came of it. */
export interface Exhausted {
  /** What was thrown at the bottom: a name, for traps followed by their kind. */
  readonly root: string;
  /** How many traps that says a supervisor function failed were around that. */
  readonly traps: number;
  /** How many calls were open at once. */
  readonly depth: number;
  /** Whether all guests work, old and new. */
  readonly usable: boolean;
  /** What else was thrown on the way, of whatever is no stack that is exhausted. */
  readonly others: readonly string[];
}

const other = (backend: SandboxBackend): SandboxBackend => (backend === 'wasmi' ? 'wasmer' : 'wasmi');

/** A stage for guests, which remembers them. */
class Stage {
  readonly backend: SandboxBackend;
  readonly #binaries: Pick<Task, 'guest' | 'starting'>;
  readonly players: (() => unknown)[] = [];
  depth = 0;
  deepest = 0;

  constructor({ backend, guest, starting }: Task) {
    this.backend = backend;
    this.#binaries = { guest, starting };
  }

  /** The guest as a module that no cache has. */
  get fresh(): Uint8Array {
    return bytes(this.#binaries.guest, section(0, [named('n'), named(String(made++))]));
  }

  /** What calls `name` of a new guest, which asks that function. */
  guest(
    ask: GuestFunction,
    supervisor: SupervisorContext & { define(fn: GuestFunction): number } = new JsSupervisor(),
    version: Instantiate = Instantiate.Version1,
    backend = this.backend,
  ): { call(name: string): unknown; callAsync(name: string): Promise<unknown>; instance: SandboxInstance } {
    const components = new SandboxComponents<unknown>(backend);
    const env = environment(components, { 'env.ask': supervisor.define(ask) });
    const index = components
      .instantiate(version, this.#binaries.guest, env, supervisor)
      .register(components, undefined);
    const instance = components.instance(index);
    const args = (name: string): Value[] => (name === 'ask' ? [Value.I32(0)] : []);
    this.players.push(() => instance.invoke('seven', [], supervisor));
    return {
      call: (name) => instance.invoke(name, args(name), supervisor),
      callAsync: (name) => instance.invokeAsync(name, args(name), supervisor),
      instance,
    };
  }

  /** Instantiates a guest whose start function asks. */
  start(ask: GuestFunction): void {
    const components = new SandboxComponents<unknown>(this.backend);
    const supervisor = new JsSupervisor();
    const env = environment(components, { 'env.ask': supervisor.define(ask) });
    components.instantiate(Instantiate.Version1, this.#binaries.starting, env, supervisor);
  }

  /** A supervisor function that does that, and counts how many are open. */
  deeper(next: () => unknown): () => Value {
    return () => {
      this.deepest = Math.max(this.deepest, ++this.depth);
      try {
        next();
      } finally {
        this.depth--;
      }
      return Value.I32(0);
    };
  }

  get isUsable(): boolean {
    const { call } = this.guest(() => Value.I32(41));
    return (
      Value.toNumber(call('ask') as Value) === 42 &&
      this.players.every((seven) => Value.toNumber(seven() as Value) === 7)
    );
  }
}

let made = 0;

const overflowInJs = (): number => overflowInJs() + 1;

/** How many calls are inside one another where one stack is exhausted at the bottom of them. */
export const NESTINGS = [0, 1, 2, 3, 10];

type Run = (stage: Stage) => unknown;

/** Calls of guests inside one another, at whose bottom a guest or JavaScript calls itself without end. */
function nested(bottom: 'a guest' | 'JavaScript', nesting: number): Run {
  return (stage) => {
    const level = (left: number): { call(name: string): unknown } => {
      const inner = left === 0 ? undefined : level(left - 1);
      return stage.guest(
        stage.deeper(() => {
          if (inner !== undefined) return inner.call('ask');
          return bottom === 'a guest' ? stage.guest(() => undefined).call('endless') : overflowInJs();
        }),
      );
    };
    return level(nesting).call('ask');
  };
}

/** How often something must work at the edge of the stack, and at how many depths it is tried at most. */
const OFTEN = 50;
const MOST_DEPTHS = 5000;

/** Something that is tried at each depth of an exhausted stack, from the innermost frame outwards, until it has worked often. */
function atTheEdge(step: (stage: Stage) => () => unknown): Run {
  return async (stage) => {
    const run = step(stage);
    const pending: Promise<unknown>[] = [];
    let root: unknown;
    let depths = 0;
    let worked = 0;
    const others = new Set<string>();
    const attempt = (): void => {
      try {
        const value = run();
        worked++;
        if (value instanceof Promise) pending.push(value);
      } catch (error) {
        others.add(rootOf(error).root);
      }
    };
    const descend = (): void => {
      try {
        descend();
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        root ??= error;
      }
      if (worked === OFTEN || depths === MOST_DEPTHS) return;
      depths++;
      attempt();
    };
    descend();
    for (const outcome of await Promise.allSettled(pending))
      if (outcome.status === 'rejected') others.add(rootOf(outcome.reason).root);
    if (worked < OFTEN) others.add(`worked ${worked} times only`);
    stage.deepest = depths;
    throw Object.assign(root as Error, { others });
  };
}

const ways = {
  'a guest that recurses': (stage: Stage) => {
    stage.deepest = 1;
    stage.guest(() => undefined).call('endless');
  },
  'a guest that recurses, asynchronously': (stage: Stage) => {
    stage.deepest = 1;
    return stage.guest(() => undefined).callAsync('endless');
  },
  ...(Object.fromEntries(
    (['a guest', 'JavaScript'] as const).flatMap((bottom) =>
      NESTINGS.map((nesting) => [
        `${bottom} that recurses inside ${nesting + 1} guests`,
        nested(bottom, nesting),
      ]),
    ),
  ) as Record<`${'a guest' | 'JavaScript'} that recurses inside ${number} guests`, Run>),
  'a guest that asks itself without end': (stage: Stage) => {
    const self = stage.guest(stage.deeper(() => self.call('ask')));
    self.call('ask');
  },
  'a guest that asks itself without end, asynchronously': (stage: Stage) => {
    const self = stage.guest(stage.deeper(() => self.call('ask')));
    return self.callAsync('ask');
  },
  'a guest that asks itself without end after a Promise': (stage: Stage) => {
    let isLate = false;
    const again = stage.deeper(() => self.call('ask'));
    const self = stage.guest(() => {
      if (isLate) return again();
      isLate = true;
      return Promise.resolve().then(again);
    });
    return self.callAsync('ask');
  },
  'two guests that ask each other without end': (stage: Stage) => {
    const a = stage.guest(stage.deeper(() => b.call('ask')));
    const b = stage.guest(stage.deeper(() => a.call('ask')));
    a.call('ask');
  },
  'guests of both engines that ask each other without end': (stage: Stage) => {
    const a = stage.guest(stage.deeper(() => b.call('ask')));
    const b = stage.guest(
      stage.deeper(() => a.call('ask')),
      new JsSupervisor(),
      Instantiate.Version1,
      other(stage.backend),
    );
    a.call('ask');
  },
  'a guest that asks itself without end by six steps': (stage: Stage) => {
    const self = stage.guest(
      stage.deeper(() => self.call('ask')),
      new ProtocolSupervisor(),
    );
    self.call('ask');
  },
  'a guest that asks itself without end under Version 2': (stage: Stage) => {
    const self = stage.guest(
      stage.deeper(() => self.call('ask')),
      new JsSupervisor(),
      Instantiate.Version2,
    );
    self.call('ask');
  },
  'new guests without end': (stage: Stage) => {
    const again = (): Value => stage.deeper(() => stage.guest(again).call('ask'))();
    again();
  },
  'new guests without end, each asked by a start function': (stage: Stage) => {
    const again = (): Value => stage.deeper(() => stage.start(again))();
    again();
  },
  'a guest whose every caller tries again after it failed': (stage: Stage) => {
    let tries = 0;
    const self = stage.guest(
      stage.deeper(() => {
        try {
          self.call('ask');
        } catch (error) {
          if (tries++ > 1000) throw error;
          self.call('endless');
        }
      }),
    );
    self.call('ask');
  },
  'calls at the edge of the stack': atTheEdge((stage) => {
    const { call } = stage.guest(() => Value.I32(1));
    return () => call('ask');
  }),
  'calls that recurse at the edge of the stack': atTheEdge((stage) => {
    const { call } = stage.guest(() => Value.I32(1));
    return () => {
      try {
        call('endless');
      } catch (error) {
        if (rootOf(error).root !== 'TrapError stack-overflow') throw error;
      }
    };
  }),
  'asynchronous calls at the edge of the stack': atTheEdge((stage) => {
    const { callAsync } = stage.guest(() => Value.I32(1));
    return () => callAsync('ask');
  }),
  'memories at the edge of the stack': atTheEdge((stage) => {
    const components = new SandboxComponents<unknown>(stage.backend);
    return () => {
      const memory = components.memory(components.newMemory(1, 2));
      memory.memoryGrow(1);
      memory.writeFrom(0, memory.read(0, 10));
      return memory.buffer;
    };
  }),
  'guests at the edge of the stack': atTheEdge((stage) => () => stage.start(() => Value.I32(0))),
  'modules at the edge of the stack': atTheEdge((stage) => () => {
    const components = new SandboxComponents<unknown>(stage.backend, { cache: false });
    const supervisor = new JsSupervisor();
    const env = environment(components, { 'env.ask': supervisor.define(() => Value.I32(0)) });
    components.instantiate(Instantiate.Version1, stage.fresh, env, supervisor);
  }),
  'metered, deterministic modules at the edge of the stack': atTheEdge((stage) => () => {
    const options = { cache: false, fuel: true, deterministic: true } as const;
    const components = new SandboxComponents<unknown>(stage.backend, options);
    const supervisor = new JsSupervisor();
    const env = environment(components, { 'env.ask': supervisor.define(() => Value.I32(0)) });
    components.instantiate(Instantiate.Version1, stage.fresh, env, supervisor);
  }),
  'modules compiled asynchronously at the edge of the stack': atTheEdge(
    (stage) => () => CompiledModule.compile(stage.backend, stage.fresh, { cache: false }),
  ),
} satisfies Record<string, Run>;

export type Way = keyof typeof ways;

export const allWays = Object.keys(ways) as Way[];

/** What was thrown in the innermost supervisor function. */
function rootOf(error: unknown): { root: string; traps: number; error: unknown } {
  let traps = 0;
  let at = error;
  while (at instanceof SandboxError && at.cause !== undefined) {
    traps += at instanceof TrapError && at.trap === 'supervisor' ? 1 : 0;
    at = at.cause;
  }
  if (at instanceof TrapError) return { root: `TrapError ${at.trap}`, traps, error: at };
  if (at instanceof RangeError) return { root: 'RangeError', traps, error: at };
  return { root: String(at), traps, error: at };
}

export async function exhaust(task: Task): Promise<Exhausted> {
  const stage = new Stage(task);
  let thrown: unknown = 'nothing';
  try {
    await (ways[task.way] as Run)(stage);
  } catch (error) {
    thrown = error;
  }
  const { root, traps } = rootOf(thrown);
  const others = [...((thrown as { others?: Set<string> }).others ?? [])];
  return { root, traps, depth: stage.deepest, usable: stage.isUsable, others };
}
