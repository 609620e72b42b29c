// What guests compute compared with what V8 computes: modules that nobody wrote run on each engine through this package and in V8, and results,
// traps, calls of the host, globals and memories must be the same after each call. So a fault that both engines have in common shows too.
// The modules are always the same; SANDBOX_HOST_FUZZ=FIRST,COUNT takes others.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxError,
  type SandboxInstance,
  type SandboxOptions,
  TrapError,
  type TrapKind,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { type Smithed, type SmithKind, smith } from '../support/smith';
import { V8 } from '../support/v8';

const [FIRST, COUNT] = (process.env.SANDBOX_HOST_FUZZ ?? '0,400').split(',').map(Number);
/** How often each exported function is called. */
const ROUNDS = 3;
/** What a call may use, where the module does not end by itself. */
const FUEL = 100_000n;
/** V8 has no such limits: where its guest is beyond them, the two need not agree any more. */
const LIMITS = { memoryBytes: 16 << 20, tableElements: 10_000 };

/** Whatever is chosen, the same must come out. */
const OPTIONS: readonly SandboxOptions[] = [
  {},
  { interruptible: false },
  { fuel: true, deterministic: true },
  { fuel: true, interruptible: false, optLevel: 'none' },
  { deterministic: true, limits: { recursionDepth: 8000 } },
];

type Slot = Value['type'];
type Plain = number | bigint;
type Call = readonly [name: string, args: readonly Plain[]];

/** How something ended: with results, by a trap, or because the host threw. `open` is where engines need not agree. */
type Outcome =
  | { readonly results: readonly Plain[] }
  | { readonly trap: readonly TrapKind[] }
  | { readonly thrown: unknown }
  | { readonly open: string };

interface Functions {
  readonly name: string;
  readonly parameters: readonly Slot[];
  readonly results: readonly Slot[];
}

/** Numbers out of the bytes that a module was made of: the edges of the types, and any others. */
class Numbers {
  readonly #bytes: DataView;
  #at = 0;

  constructor(seed: Uint8Array) {
    this.#bytes = new DataView(seed.buffer, seed.byteOffset, seed.byteLength);
  }

  next(type: Slot): Plain {
    const [kind, bits] = [this.#byte(), this.#bits()];
    const edges = EDGES[type];
    if (kind < 128) return edges[kind % edges.length];
    switch (type) {
      case 'i32':
        return Number(BigInt.asIntN(32, bits));
      case 'i64':
        return bits;
      case 'f32':
        return withoutPayload(Value.toNumber(Value.F32(Number(BigInt.asUintN(32, bits)))));
      case 'f64':
        return withoutPayload(Value.toNumber(Value.F64(BigInt.asUintN(64, bits))));
    }
  }

  #byte(): number {
    const byte = this.#bytes.getUint8(this.#at);
    this.#at = (this.#at + 1) % (this.#bytes.byteLength - 8);
    return byte;
  }

  #bits(): bigint {
    return BigInt.asIntN(64, (this.#bytes.getBigInt64(this.#at) << 8n) | BigInt(this.#byte()));
  }
}

const EDGES: Record<Slot, readonly Plain[]> = {
  i32: [0, 1, -1, 2, 255, 65_535, 65_536, 0x7fff_ffff, -0x8000_0000],
  i64: [0n, 1n, -1n, 255n, 0x7fff_ffffn, 0x1_0000_0000n, 2n ** 63n - 1n, -(2n ** 63n)],
  f32: [0, -0, 1, -1.5, Infinity, -Infinity, Number.NaN, 2 ** 31, -(2 ** 63), 2 ** -149],
  f64: [0, -0, 1, -1.5, Infinity, -Infinity, Number.NaN, 2 ** 31, -(2 ** 63), 2 ** -1074],
};

/** JavaScript has one NaN. */
const withoutPayload = (x: number): number => (Number.isNaN(x) ? Number.NaN : x);

const VALUES: Record<Slot, (plain: never) => Value> = {
  i32: Value.I32,
  i64: Value.I64,
  f32: Value.f32,
  f64: Value.f64,
};

const toValue = (type: Slot, plain: Plain): Value => VALUES[type](plain as never);

/** As V8 has it. */
function toPlain(value: Value): Plain {
  return value.type === 'i64' ? value.value : withoutPayload(Value.toNumber(value));
}

const isNumeric = (types: readonly string[]): types is Slot[] => types.every((type) => type in EDGES);

/** The bits of an integer. */
function halves(plain: Plain): readonly number[] {
  if (typeof plain === 'number') return [plain | 0];
  return [Number(BigInt.asIntN(32, plain)), Number(BigInt.asIntN(32, plain >> 32n))];
}

/** What the host answers, in which case it throws, and what it was asked. The same for the same arguments. */
class Host {
  readonly calls: Call[] = [];
  readonly refusal = new Error('the host refuses');

  answer(name: string, args: readonly Plain[], result: Slot | undefined): Plain | undefined {
    this.calls.push([name, args]);
    // In numbers of 32 bits, because V8's compiler does not survive the same in bigints (Node 20.20).
    let mixed = name.charCodeAt(1);
    for (const arg of args) {
      for (const half of halves(arg))
        mixed = (Math.imul(mixed ^ half, 0x9e37_79b9) << 13) ^ (mixed >>> 7) ^ half;
    }
    if ((mixed >>> 3) % 61 === 0) throw this.refusal;
    if (result === undefined) return undefined;
    return result === 'i32' ? mixed : BigInt(mixed) * 0x1_0001n;
  }
}

/** The functions of the host whose numbers are integers and that have one result at most: those that a supervisor can have. */
const HOST_FUNCTIONS: Record<string, { readonly parameters: readonly Slot[]; readonly result?: Slot }> = {
  f0: { parameters: [] },
  f1: { parameters: ['i32'], result: 'i32' },
  f2: { parameters: ['i64', 'i32'] },
};

/** A module on one of the engines. */
class Guest {
  readonly host = new Host();
  readonly instance: SandboxInstance | undefined;
  /** How its start function ended. */
  readonly began: Outcome;
  readonly #supervisor = new JsSupervisor();

  constructor(backend: SandboxBackend, binary: Uint8Array, options: SandboxOptions) {
    const { optLevel: _, ...ofWasmi } = options;
    const given = backend === 'wasmer' ? options : ofWasmi;
    const limits = { ...LIMITS, ...options.limits };
    const components = new SandboxComponents<unknown>(backend, { ...given, limits, cache: false });
    const functions = Object.entries(HOST_FUNCTIONS).map(([name, { result }]) => {
      const fn = (args: Value[]): Value | undefined => {
        const answer = this.host.answer(name, args.map(toPlain), result);
        return result === undefined ? undefined : toValue(result, answer as Plain);
      };
      return [`host.${name}`, this.#supervisor.define(fn)] as const;
    });
    const env = environment(components, Object.fromEntries(functions));
    const budget = options.fuel ? { fuel: FUEL } : {};
    this.began = outcomeOf(() => {
      const made = components.instantiate(Instantiate.Version1, binary, env, this.#supervisor, budget);
      (this as { instance: unknown }).instance = components.instance(made.register(components, undefined));
      return [];
    });
    this.#budget = budget;
  }

  readonly #budget: { fuel?: bigint };

  /** What can be called from outside. */
  get functions(): Functions[] {
    return (this.instance?.exports ?? []).flatMap(({ name, kind, type }) => {
      const { parameters, results } = type as { parameters: string[]; results: string[] };
      return kind === 'function' && isNumeric(parameters) && isNumeric(results)
        ? [{ name, parameters, results }]
        : [];
    });
  }

  call({ name, parameters }: Functions, args: readonly Plain[]): Outcome {
    return outcomeOf(() => {
      const values = args.map((arg, i) => toValue(parameters[i], arg));
      const results = this.instance?.invoke(name, values, this.#supervisor, this.#budget);
      return results === undefined ? [] : [results].flat().map(toPlain);
    });
  }
}

function outcomeOf(run: () => readonly Plain[]): Outcome {
  try {
    return { results: run() };
  } catch (error) {
    const trap = error instanceof InstantiationError ? error.cause : error;
    if (!(trap instanceof TrapError)) {
      if (error instanceof InstantiationError && error.kind === 'Instantiation') return segment(error);
      throw error;
    }
    if (trap.trap === 'supervisor') return { thrown: trap.cause };
    if (['stack-overflow', 'out-of-fuel'].includes(trap.trap)) return { open: trap.trap };
    return { trap: [trap.trap] };
  }
}

/** A segment that is out of bounds. */
function segment(error: SandboxError): Outcome {
  assert.match(error.message, /out of bounds/);
  return { trap: [/table/.test(error.message) ? 'table-out-of-bounds' : 'memory-out-of-bounds'] };
}

/** The same in V8. */
class Peer {
  readonly host = new Host();
  readonly began: Outcome;
  exports: Readonly<Record<string, unknown>> = {};

  constructor(binary: Uint8Array) {
    const host = Object.fromEntries(
      Object.entries(HOST_FUNCTIONS).map(([name, { result }]) => [
        name,
        (...args: Plain[]) => this.host.answer(name, args, result),
      ]),
    );
    this.began = this.#outcomeOf(() => {
      this.exports = new V8.Instance(new V8.Module(binary), { host }).exports as typeof this.exports;
      return undefined;
    });
  }

  call({ name }: Functions, args: readonly Plain[]): Outcome {
    return this.#outcomeOf(() => (this.exports[name] as (...args: Plain[]) => unknown)(...args));
  }

  #outcomeOf(run: () => unknown): Outcome {
    let outcome: Outcome;
    try {
      const result = run();
      outcome = { results: (result === undefined ? [] : [result].flat()) as Plain[] };
    } catch (error) {
      outcome = this.#thrown(error);
    }
    return this.#isBeyondLimits ? { open: 'beyond the limits' } : outcome;
  }

  #thrown(error: unknown): Outcome {
    if (error === this.host.refusal) return { thrown: error };
    if (error instanceof RangeError) return { open: 'stack-overflow' };
    if (!(error instanceof V8.RuntimeError)) throw error;
    const found = TRAPS.find(([message]) => message.test(error.message));
    assert.ok(found, `what V8 says is not known: ${error.message}`);
    return { trap: found[1] };
  }

  get #isBeyondLimits(): boolean {
    return Object.values(this.exports).some((object) => {
      const { buffer, length } = object as { buffer?: ArrayBuffer; length?: number };
      if (buffer !== undefined) return buffer.byteLength > LIMITS.memoryBytes;
      return typeof object !== 'function' && (length ?? 0) > LIMITS.tableElements;
    });
  }
}

const TRAPS: readonly (readonly [message: RegExp, kinds: readonly TrapKind[]])[] = [
  [/unreachable/, ['unreachable']],
  [/(memory access|data segment).*out of bounds/, ['memory-out-of-bounds']],
  [/(table|element segment).*out of bounds/, ['table-out-of-bounds']],
  [/null function or function signature/, ['indirect-call-null', 'indirect-call-signature']],
  [/by zero/, ['integer-divide-by-zero']],
  [/divide result unrepresentable/, ['integer-overflow']],
  [/float unrepresentable/, ['integer-overflow', 'invalid-conversion']],
];

/** What the modules of one kind came to. */
interface Tally {
  modules: number;
  calls: number;
  traps: number;
  hostCalls: number;
  refusals: number;
  bytes: number;
  globals: number;
  open: number;
}

/** Compares a module on an engine with V8. Gives up where the two need not agree any more. */
function compare(guest: Guest, v8: () => Peer, seed: Uint8Array, tally: Tally): void {
  if ('open' in guest.began) {
    tally.open++;
    return;
  }
  const peer = v8();
  const numbers = new Numbers(seed);
  if (!same('its beginning', guest.began, peer.began, tally)) return;
  sameState('its beginning', guest, peer, tally);
  if (!('results' in guest.began)) return;
  for (let round = 0; round < ROUNDS; round++) {
    for (const fn of guest.functions) {
      const args = fn.parameters.map((type) => numbers.next(type));
      const what = `${fn.name}(${args.map(String).join(', ')})`;
      const outcome = guest.call(fn, args);
      // V8 would not stop.
      if ('open' in outcome) {
        tally.open++;
        return;
      }
      if (!same(what, outcome, peer.call(fn, args), tally)) return;
      sameState(what, guest, peer, tally);
    }
  }
}

function same(what: string, guest: Outcome, peer: Outcome, tally: Tally): boolean {
  if ('open' in guest || 'open' in peer) {
    tally.open++;
    return false;
  }
  if ('trap' in guest && 'trap' in peer) {
    assert.ok(peer.trap.includes(guest.trap[0]), `${what}: traps by ${guest.trap}, in V8 by ${peer.trap}`);
    tally.traps++;
  } else if ('thrown' in guest && 'thrown' in peer) {
    assert.equal((guest.thrown as Error).message, (peer.thrown as Error).message, what);
    tally.refusals++;
  } else {
    assert.deepEqual(guest, peer, what);
  }
  tally.calls++;
  return true;
}

/** That both have asked the host the same, and have the same in all that they export. */
function sameState(what: string, { host, instance }: Guest, peer: Peer, tally: Tally): void {
  assert.deepEqual(host.calls, peer.host.calls, `${what}: the calls of the host`);
  tally.hostCalls += host.calls.length;
  host.calls.length = 0;
  peer.host.calls.length = 0;
  for (const { name, kind, type } of instance?.exports ?? []) {
    const other = peer.exports[name] as { value: Plain; buffer: ArrayBuffer };
    if (kind === 'global' && isNumeric([type.value as string])) {
      assert.deepEqual(toPlain(instance?.getGlobalVal(name) as Value), other.value, `${what}: ${name}`);
      tally.globals++;
    } else if (kind === 'memory') {
      const bytes = Buffer.from(instance?.getMemory(name)?.buffer as ArrayBuffer);
      const others = Buffer.from(other.buffer);
      const isSame = bytes.equals(others);
      const at = isSame ? 0 : bytes.findIndex((byte, index) => byte !== others[index]);
      assert.ok(
        isSame,
        `${what}: ${name} of ${bytes.length} bytes, in V8 of ${others.length}, from byte ${at}`,
      );
      tally.bytes += bytes.length;
    }
  }
}

describe('Modules that nobody wrote', () => {
  /** Those that V8 takes too. */
  const modules = new Map<SmithKind, Smithed[]>();

  before(() => {
    for (const kind of ['ending', 'integers'] as const) {
      const made = smith(kind, COUNT, FIRST).filter(({ binary }) => V8.validate(binary));
      assert.ok(made.length > COUNT / 3, `V8 takes ${made.length} modules of kind ${kind} only`);
      modules.set(kind, made);
    }
  });

  forEachBackend((backend) => {
    const compareAll = (kind: SmithKind, optionsOf: (number: number) => SandboxOptions): Tally => {
      const tally: Tally = {
        modules: 0,
        calls: 0,
        traps: 0,
        hostCalls: 0,
        refusals: 0,
        bytes: 0,
        globals: 0,
        open: 0,
      };
      const differences: string[] = [];
      for (const { number, binary, seed } of modules.get(kind) as Smithed[]) {
        if (!isLinkable(binary)) continue;
        const options = optionsOf(number);
        try {
          compare(new Guest(backend, binary, options), () => new Peer(binary), seed, tally);
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          const hex = Buffer.from(binary).toString('hex');
          differences.push(
            `module ${number} of kind ${kind} with ${JSON.stringify(options)}: ${message}\n${hex}`,
          );
        }
        tally.modules++;
      }
      assert.ok(differences.length === 0, `${differences.length} differences:\n${differences.join('\n\n')}`);
      return tally;
    };

    it('compute what V8 computes: those with floats and vectors that end by themselves', () => {
      const { calls, traps, bytes, globals, open, modules } = compareAll(
        'ending',
        (number) => OPTIONS[number % OPTIONS.length],
      );
      const all = JSON.stringify({ calls, traps, bytes, globals, open, modules });
      assert.ok(calls > 1.5 * modules && traps > modules / 4 && calls > 2 * traps, all);
      assert.ok(globals > calls && bytes > 0 && open < modules / 10, all);
    });

    it('compute what V8 computes: those of integers that call the host', () => {
      // With fuel, because they may not end.
      const { calls, traps, hostCalls, refusals, bytes, globals, open, modules } = compareAll(
        'integers',
        (number) => ({ ...OPTIONS[number % OPTIONS.length], fuel: true }),
      );
      const all = JSON.stringify({ calls, traps, hostCalls, refusals, bytes, globals, open, modules });
      assert.ok(
        calls > modules && hostCalls > modules / 4 && refusals > 0 && globals > calls && bytes > 0,
        all,
      );
    });
  });
});

/** Whether it imports nothing but what the host has here. */
function isLinkable(binary: Uint8Array): boolean {
  return V8.Module.imports(new V8.Module(binary)).every(
    ({ module, name, kind }) => kind === 'function' && module === 'host' && name in HOST_FUNCTIONS,
  );
}
