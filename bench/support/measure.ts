/**
 * Measures operations side by side. The machine may be busy with other things at any moment, so the operations take
 * turns, round by round, and what counts is the median of the rounds; a ratio is the median of the rounds' own ratios. Each
 * turn is one measurement of mitata. What the operations do is not known here.
 */

/** Something whose cost is wanted. */
export interface Operation {
  readonly name: string;
  /**
   * Does it {@link Operation.times} times: at least for some microseconds, so that looking at the clock costs nothing. A Promise is
   * waited for.
   */
  readonly run: () => unknown;
  readonly times: number;
  /** Runs before each call of `run`, unmeasured. For an operation that can't be repeated just so. */
  readonly prepare?: () => void;
  /** How many bytes it moves, if speed is what matters. */
  readonly bytes?: number;
  /** The most that it should cost, as a multiple of the first peer. */
  readonly target?: number;
  /** The most that one time should take, in nanoseconds, whatever the peer takes. */
  readonly mostNs?: number;
  /** The most that one time should take longer than the first peer's, in nanoseconds. */
  readonly mostBeyondNs?: number;
}

/** Operations that belong in one table. */
export interface Comparison {
  readonly name: string;
  readonly operations: readonly Operation[];
  /** The names of the operations that all others are compared with. */
  readonly peers: readonly string[];
  readonly rounds: number;
  /** How long one turn of an operation takes at least; but one that has a `prepare` runs once in a turn. */
  readonly turnMs?: number;
  /** Runs after the last round: ends what would keep the process alive. */
  readonly close?: () => unknown;
}

/** What an operation came to. */
export interface Figure {
  readonly name: string;
  /** The median of the rounds, of one time, in nanoseconds. */
  readonly median: number;
  /** The quickest sample of all. */
  readonly min: number;
  readonly bytes?: number;
  /** To each peer. */
  readonly ratios: readonly Ratio[];
  readonly target?: number;
  readonly mostNs?: number;
  /** How much longer than the first peer it takes, in nanoseconds, and the most that it should. */
  readonly beyond?: { readonly ns: number; readonly mostNs: number };
}

/** How many times a peer's time an operation takes: the median of the rounds, and where their middle half lies. */
export interface Ratio {
  readonly peer: string;
  readonly median: number;
  readonly quartiles: readonly [number, number];
}

/** One turn: the median and the minimum of its samples. */
interface Turn {
  readonly median: number;
  readonly min: number;
}

const DEFAULT_TURN_MS = 4;
/** Enough for V8 to see what is hot and to compile it. */
const WARM_UP_MS = 100;

/** Runs the rounds of a comparison. */
export async function measure(comparison: Comparison): Promise<Figure[]> {
  try {
    return await figuresOf(comparison);
  } finally {
    await comparison.close?.();
  }
}

async function figuresOf(comparison: Comparison): Promise<Figure[]> {
  const { operations, rounds, peers } = comparison;
  const turn = await turnOf(comparison.turnMs ?? DEFAULT_TURN_MS);
  for (const operation of operations) await warmUp(operation);
  globalThis.gc?.();
  const turns = new Map<Operation, Turn[]>(operations.map((operation) => [operation, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const operation of operations) {
      // What is put off until the event loop comes round again, as after collected objects, happens between the turns.
      await new Promise(setImmediate);
      turns.get(operation)?.push(await turn(operation));
    }
  }
  const first = turns.get(operations.find(({ name }) => name === peers[0]) as Operation) as Turn[];
  return operations.map((operation) => {
    const own = turns.get(operation) as Turn[];
    const ratios = operations
      .filter((peer) => peers.includes(peer.name) && peer !== operation)
      .map((peer) => ratio(peer, own, turns.get(peer) as Turn[]));
    return {
      name: operation.name,
      median: quantile(
        own.map(({ median }) => median),
        0.5,
      ),
      min: Math.min(...own.map(({ min }) => min)),
      ...(operation.bytes === undefined ? {} : { bytes: operation.bytes }),
      ratios,
      ...(operation.target === undefined ? {} : { target: operation.target }),
      ...(operation.mostNs === undefined ? {} : { mostNs: operation.mostNs }),
      ...(operation.mostBeyondNs === undefined
        ? {}
        : { beyond: { ns: beyond(own, first), mostNs: operation.mostBeyondNs } }),
    };
  });
}

async function turnOf(turnMs: number): Promise<(operation: Operation) => Promise<Turn>> {
  const mitata = await import('mitata');
  const options = {
    min_cpu_time: turnMs * 1e6,
    min_samples: 3,
    // The operations are loops already, and warm.
    warmup_threshold: 0,
    // What garbage they make is part of their cost; no extra collections.
    gc: false,
  };
  return async ({ run, times, prepare }) => {
    if (prepare !== undefined) {
      prepare();
      const nanoseconds = (await once(run)) / times;
      return { median: nanoseconds, min: nanoseconds };
    }
    const { p50, min } = await mitata.measure(run, options);
    return { median: p50 / times, min: min / times };
  };
}

async function once(run: () => unknown): Promise<number> {
  const start = process.hrtime.bigint();
  const done = run();
  if (done instanceof Promise) await done;
  return Number(process.hrtime.bigint() - start);
}

async function warmUp({ run, prepare }: Operation): Promise<void> {
  if (prepare !== undefined) return;
  const end = performance.now() + WARM_UP_MS;
  while (performance.now() < end) {
    const done = run();
    if (done instanceof Promise) await done;
  }
}

function ratio(peer: Operation, own: readonly Turn[], peers: readonly Turn[]): Ratio {
  const ratios = own.map(({ median }, round) => median / peers[round].median);
  return {
    peer: peer.name,
    median: quantile(ratios, 0.5),
    quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
  };
}

/** The median of the rounds' differences to a peer. */
function beyond(own: readonly Turn[], peers: readonly Turn[]): number {
  return quantile(
    own.map(({ median }, round) => median - peers[round].median),
    0.5,
  );
}

function quantile(numbers: readonly number[], part: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(part * (sorted.length - 1))];
}
