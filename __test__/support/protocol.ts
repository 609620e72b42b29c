// A SupervisorContext in plain TypeScript, with a linear memory and an allocator of its own, as a supervisor that is
// itself a wasm module would have. It records the six steps of the protocol, and does any of them in another way when told to.
import { codec, Instantiate, type Value } from '../../index';
import type { DefiningSupervisor, GuestCall, GuestFunction } from './guest';

export type Step =
  | 'allocate arguments'
  | 'write arguments'
  | 'invoke'
  | 'deallocate arguments'
  | 'read result'
  | 'deallocate result';

/** What a successful supervisor call does, in this order. */
export const sixSteps: readonly Step[] = [
  'allocate arguments',
  'write arguments',
  'invoke',
  'deallocate arguments',
  'read result',
  'deallocate result',
];

const upTo = (step: Step): readonly Step[] => sixSteps.slice(0, sixSteps.indexOf(step) + 1);

/** Each way to fail: at these steps, with this message (none: that of what was thrown), after these steps. */
export const stepFailures: readonly { fail: readonly Step[]; message?: string; steps: readonly Step[] }[] = [
  {
    fail: ['allocate arguments'],
    message: "Can't allocate memory in supervisor for the arguments",
    steps: upTo('allocate arguments'),
  },
  {
    fail: ['write arguments'],
    message: "Can't write invoke args into memory",
    steps: ['allocate arguments', 'write arguments', 'deallocate arguments'],
  },
  {
    fail: ['write arguments', 'deallocate arguments'],
    message: 'Failed deallocation after failed write of invoke arguments',
    steps: ['allocate arguments', 'write arguments', 'deallocate arguments'],
  },
  { fail: ['invoke'], steps: ['allocate arguments', 'write arguments', 'invoke', 'deallocate arguments'] },
  {
    fail: ['invoke', 'deallocate arguments'],
    message: 'Failed deallocation after invoke',
    steps: upTo('deallocate arguments'),
  },
  {
    fail: ['deallocate arguments'],
    message: 'Failed deallocation after invoke',
    steps: upTo('deallocate arguments'),
  },
  { fail: ['read result'], message: "Can't read the serialized result from dispatch thunk", steps: sixSteps },
  {
    fail: ['read result', 'deallocate result'],
    message: "Can't deallocate memory for dispatch thunk's result",
    steps: sixSteps,
  },
  {
    fail: ['deallocate result'],
    message: "Can't deallocate memory for dispatch thunk's result",
    steps: sixSteps,
  },
];

type Answer = Value | undefined | { gas: bigint; value?: Value };

/** How a step is done: given what does it, gives what the step gives, or throws. */
export type Way = (run: () => unknown) => unknown;

const HOST_ERROR = Uint8Array.of(1);

export class ProtocolSupervisor implements DefiningSupervisor {
  /** The steps taken so far. */
  readonly steps: Step[] = [];
  /** The SCALE bytes of the arguments of each call. */
  readonly writtenArguments: Uint8Array[] = [];

  readonly #version: Instantiate;
  readonly #memory = new Uint8Array(65536);
  readonly #functions: GuestFunction[] = [];
  readonly #live = new Map<number, 'arguments' | 'result'>();
  readonly #ways = new Map<Step, Way>();
  #resultBytes: Uint8Array | undefined;
  #top = 8;

  constructor(version: Instantiate = Instantiate.Version1) {
    this.#version = version;
  }

  /** Number of bytes of this supervisor's memory. */
  get memorySize(): number {
    return this.#memory.length;
  }

  /** How many allocations nobody has freed. */
  get leaks(): number {
    return this.#live.size;
  }

  /** The function gets a call that has nothing but the gas. */
  define(fn: GuestFunction): number {
    return this.#functions.push(fn) - 1;
  }

  /** From now on this step throws. */
  failAt(step: Step, thrown: unknown): this {
    return this.doAt(step, () => {
      throw thrown;
    });
  }

  /** From now on this step, once done, returns the given thing instead of its result. */
  answerAt(step: Step, answer: unknown): this {
    return this.doAt(step, (run) => {
      run();
      return answer;
    });
  }

  /** From now on this step is done that way. */
  doAt(step: Step, way: Way): this {
    this.#ways.set(step, way);
    return this;
  }

  /** From now on every call is answered by these bytes. */
  resultBytes(bytes: Uint8Array): this {
    this.#resultBytes = bytes;
    return this;
  }

  /** From now on every call is answered by `HostError`. */
  hostError(): this {
    return this.resultBytes(HOST_ERROR);
  }

  /** Ends all misbehaviour and forgets the steps. */
  behave(): void {
    this.#ways.clear();
    this.#resultBytes = undefined;
    this.#live.clear();
    this.steps.length = 0;
  }

  allocateMemory(size: number): number {
    return this.#step('allocate arguments', () => this.#allocate(size, 'arguments'));
  }

  writeMemory(address: number, data: Uint8Array): undefined {
    return this.#step<undefined>('write arguments', () => {
      this.#memory.set(data, address);
      this.writtenArguments.push(data.slice());
    });
  }

  invoke(invokeArgsPtr: number, invokeArgsLen: number, funcIdx: number): bigint {
    return this.#step('invoke', () => {
      const args = codec.decodeValues(this.#memory.slice(invokeArgsPtr, invokeArgsPtr + invokeArgsLen));
      const bytes = this.#dispatch(args, funcIdx);
      const ptr = this.#allocate(bytes.length, 'result');
      this.#memory.set(bytes, ptr);
      return pack(ptr, bytes.length);
    });
  }

  readMemoryInto(address: number, dest: Uint8Array): undefined {
    return this.#step<undefined>('read result', () => {
      if (address + dest.length > this.#memory.length) throw new RangeError('read outside the memory');
      dest.set(this.#memory.subarray(address, address + dest.length));
    });
  }

  deallocateMemory(ptr: number): undefined {
    const kind = this.#live.get(ptr);
    if (!kind) throw new Error(`nothing is allocated at ${ptr}`);
    return this.#step<undefined>(`deallocate ${kind}`, () => void this.#live.delete(ptr));
  }

  /** For a `readMemory` of a subclass. */
  protected read(address: number, size: number): Uint8Array {
    return this.#step('read result', () => this.#memory.slice(address, address + size));
  }

  #dispatch(args: Value[], funcIdx: number): Uint8Array {
    const fn = this.#functions[funcIdx];
    if (!fn) throw new Error(`no supervisor function ${funcIdx}`);
    if (this.#version === Instantiate.Version1) {
      const answer = fn(args, {} as GuestCall) as Value | undefined;
      return this.#resultBytes ?? okBytes(codec.encodeReturnValue(answer));
    }
    const [gas, ...rest] = args;
    if (gas?.type !== 'i64') throw new Error('the first argument must be the gas');
    const answer = fn(rest, { gas: gas.value } as GuestCall) as Answer;
    const full = answer && 'gas' in answer ? answer : { gas: gas.value, value: answer };
    return this.#resultBytes ?? okBytes(gasBytes(full.gas), codec.encodeReturnValue(full.value));
  }

  #step<T>(step: Step, run: () => T): T {
    this.steps.push(step);
    const way = this.#ways.get(step);
    return way === undefined ? run() : (way(run) as T);
  }

  #allocate(size: number, kind: 'arguments' | 'result'): number {
    if (this.#live.size === 0) this.#top = 8;
    const ptr = this.#top;
    if (ptr + size > this.#memory.length) throw new RangeError('the supervisor is out of memory');
    this.#top = (ptr + Math.max(size, 1) + 7) & ~7;
    this.#live.set(ptr, kind);
    return ptr;
  }
}

/** The result of `SupervisorContext.invoke`. */
export function pack(ptr: number, len: number): bigint {
  return BigInt.asIntN(64, (BigInt(ptr) << 32n) | BigInt(len));
}

/** `Ok(…)` in SCALE. */
function okBytes(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from([0, ...parts.flatMap((part) => [...part])]);
}

function gasBytes(gas: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, gas, true);
  return bytes;
}
