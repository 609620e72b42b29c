import { Instantiate, JsSupervisor, type SandboxBackend, type SupervisorFunction, Value } from 'sandbox-host';
import { CALLING_GUEST, callingIn, callingInV8 } from './support/calling_guest';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import { BARE_CALL, bareCall } from './support/peers';
import type { About } from './support/results';

export const about: About = {
  title: 'Guest calls a JsSupervisor function',
  text: [
    'A guest calls a function of a `JsSupervisor` with two i64 arguments and gets an i64 back. Under Version 2 the call carries gas. The',
    'peers are a bare `napi_call_function`, and the same guest in V8, which calls JavaScript without leaving its engine.',
  ].join('\n'),
};

const TARGET = 2;

/** The call alone, and one that does the least that a function can do with 64-bit integers. */
const FUNCTIONS: Readonly<Record<string, SupervisorFunction>> = {
  'returns an argument': (args) => args[1],
  'adds the arguments': (args) => {
    const [a, b] = args as { value: bigint }[];
    return Value.I64(BigInt.asIntN(64, a.value + b.value));
  },
};

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(CALLING_GUEST);
  const inGuest = (
    backend: SandboxBackend,
    what: string,
    fn: SupervisorFunction,
    version: Instantiate,
    target?: number,
  ): Operation => {
    const supervisor = new JsSupervisor();
    const instance = instantiate(backend, wasm, supervisor, { f: supervisor.define(fn) }, version);
    return callingIn(backend, what, instance, supervisor, target);
  };
  const operations: Operation[] = [bareCall()];
  for (const [what, fn] of Object.entries(FUNCTIONS)) {
    for (const backend of ENGINES) operations.push(inGuest(backend, what, fn, Instantiate.Version1, TARGET));
  }
  for (const backend of ENGINES) {
    const [what, fn] = ['Version2: with gas', FUNCTIONS['returns an argument']];
    operations.push(inGuest(backend, what, fn, Instantiate.Version2));
  }
  operations.push(
    callingInV8('returns an argument', wasm, (_a, b) => b),
    callingInV8('adds the arguments', wasm, (a, b) => BigInt.asIntN(64, (a as bigint) + (b as bigint))),
  );
  return [
    {
      name: 'guest → JsSupervisor → guest: (i64, i64) → i64',
      operations,
      peers: [BARE_CALL, 'V8, returns an argument'],
      rounds: 24,
    },
  ];
}
