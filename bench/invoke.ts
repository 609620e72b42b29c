import { JsSupervisor, type SandboxBackend, type SupervisorContext, Value } from 'sandbox-host';
import { ENGINES, instantiate, wat } from './support/guest';
import { LinearSupervisor } from './support/linear_supervisor';
import type { Comparison, Operation } from './support/measure';
import { BARE_CALL, bareCall, CALLS } from './support/peers';
import type { About } from './support/results';
import { instantiateInV8 } from './support/v8';

export const about: About = {
  title: 'Supervisor calls a guest',
  text: [
    '`invoke` of an export that does nothing, or returns its second argument. The peers are a bare `napi_call_function`, and an empty export',
    'in V8, which is called without leaving the engine.',
  ].join('\n'),
};

const TARGET = 2;
const EMPTY_IN_V8 = 'V8, empty export';

const GUEST = `(module
  (func (export "empty"))
  (func (export "second") (param i64 i64) (result i64) (local.get 1)))`;

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(GUEST);
  const empty = (backend: SandboxBackend, what: string, supervisor: SupervisorContext): Operation => {
    const instance = instantiate(backend, wasm, supervisor);
    return {
      name: `${backend}, ${what}`,
      run: () => {
        for (let call = 0; call < CALLS; call += 1) instance.invoke('empty', [], supervisor);
      },
      times: CALLS,
      target: TARGET,
    };
  };
  const second = (backend: SandboxBackend): Operation => {
    const supervisor = new JsSupervisor();
    const instance = instantiate(backend, wasm, supervisor);
    return {
      name: `${backend}, (i64, i64) → i64`,
      run: () => {
        for (let call = 0; call < CALLS; call += 1) {
          instance.invoke('second', [Value.I64(1n), Value.I64(0x0123456789n)], supervisor);
        }
      },
      times: CALLS,
    };
  };
  const inV8 = instantiateInV8(wasm).exports;
  return [
    {
      name: 'invoke',
      operations: [
        bareCall(),
        ...ENGINES.map((backend) => empty(backend, 'empty export', new JsSupervisor())),
        ...ENGINES.map((backend) => empty(backend, 'empty, SupervisorContext', new LinearSupervisor())),
        ...ENGINES.map(second),
        {
          name: EMPTY_IN_V8,
          run: () => {
            for (let call = 0; call < CALLS; call += 1) inV8.empty();
          },
          times: CALLS,
        },
        {
          name: 'V8, (i64, i64) → i64',
          run: () => {
            for (let call = 0; call < CALLS; call += 1) inV8.second(1n, 0x0123456789n);
          },
          times: CALLS,
        },
      ],
      peers: [BARE_CALL, EMPTY_IN_V8],
      rounds: 24,
    },
  ];
}
