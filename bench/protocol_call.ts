import { codec, type Value } from 'sandbox-host';
import { CALLING_GUEST, callingIn, callingInV8 } from './support/calling_guest';
import { ENGINES, instantiate, wat } from './support/guest';
import { LinearSupervisor } from './support/linear_supervisor';
import type { Comparison, Operation } from './support/measure';
import { BARE_CALL, bareCall } from './support/peers';
import type { About } from './support/results';

export const about: About = {
  title: 'Guest calls through the six steps',
  text: [
    'The same call through the six steps of a `SupervisorContext` that is written in TypeScript. One such supervisor decodes by hand, the',
    'other one uses the `codec` of this package. The peers are a bare `napi_call_function`, and the same guest in V8 without any protocol.',
  ].join('\n'),
};

const TARGET = 5;
const IN_V8 = 'returns an argument, no protocol';

/** Decodes and encodes with `codec`. Its memory is only as large as two allocations, which is all that calls make. */
class CodecSupervisor extends LinearSupervisor {
  readonly #memory: Uint8Array;
  readonly #fn: (args: Value[]) => Value;

  constructor(fn: (args: Value[]) => Value) {
    super();
    this.#memory = new Uint8Array(64 * 1024);
    this.#fn = fn;
  }

  override writeMemory(address: number, data: Uint8Array): void {
    this.#memory.set(data, address);
  }

  override readMemoryInto(address: number, dest: Uint8Array): void {
    dest.set(this.#memory.subarray(address, address + dest.length));
  }

  override invoke(invokeArgsPtr: number, invokeArgsLen: number): bigint {
    const args = codec.decodeValues(this.#memory.subarray(invokeArgsPtr, invokeArgsPtr + invokeArgsLen));
    const result = codec.encodeDispatchResult({ ok: true, value: this.#fn(args) });
    const address = this.allocateMemory(result.length);
    this.#memory.set(result, address);
    return (BigInt(address) << 32n) | BigInt(result.length);
  }
}

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(CALLING_GUEST);
  const operations: Operation[] = [bareCall()];
  for (const backend of ENGINES) {
    const supervisor = new LinearSupervisor();
    const f = supervisor.define((args) => args[1] as bigint);
    const instance = instantiate(backend, wasm, supervisor, { f });
    operations.push(callingIn(backend, 'decoded by hand', instance, supervisor, TARGET));
  }
  for (const backend of ENGINES) {
    const supervisor = new CodecSupervisor((args) => args[1]);
    const instance = instantiate(backend, wasm, supervisor, { f: 0 });
    operations.push(callingIn(backend, 'decoded by codec', instance, supervisor));
  }
  operations.push(callingInV8(IN_V8, wasm, (_a, b) => b));
  return [
    {
      name: 'guest → six steps of a SupervisorContext → guest: (i64, i64) → i64',
      operations,
      peers: [BARE_CALL, `V8, ${IN_V8}`],
      rounds: 24,
    },
  ];
}
