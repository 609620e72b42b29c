import type { SandboxBackend } from 'sandbox-host';
import { CALLING_GUEST, callingIn } from './support/calling_guest';
import { ENGINES, instantiate, wat } from './support/guest';
import { LinearSupervisor } from './support/linear_supervisor';
import type { Comparison, Operation } from './support/measure';
import { BARE_CALL, bareCall, CALLS } from './support/peers';
import type { About } from './support/results';
import { instantiateBy, wasmSupervisor } from './support/wasm_supervisor';

export const about: About = {
  title: 'Guest calls a WebAssembly supervisor',
  text: [
    "The same call to a supervisor that is WebAssembly in V8: through the host's encoding, the supervisor's allocator and its dispatch thunk,",
    'and back. The peers are the six steps to a supervisor in TypeScript, and a bare `napi_call_function`.',
  ].join('\n'),
};

const TARGET = 1.5;

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(CALLING_GUEST);
  return Promise.all(
    ENGINES.map(async (backend) => {
      const six = inTypeScript(backend, wasm);
      return {
        name: `guest → WebAssembly supervisor in V8 → guest on ${backend}: (i64, i64) → i64`,
        operations: [bareCall(), six, await inWasm(backend, wasm, 1, TARGET), await inWasm(backend, wasm, 2)],
        peers: [six.name, BARE_CALL],
        rounds: 24,
      };
    }),
  );
}

function inTypeScript(backend: SandboxBackend, wasm: Uint8Array): Operation {
  const supervisor = new LinearSupervisor();
  const f = supervisor.define((args) => args[1] as bigint);
  const instance = instantiate(backend, wasm, supervisor, { f });
  return { ...callingIn(backend, '', instance, supervisor), name: 'six steps in TypeScript' };
}

async function inWasm(
  backend: SandboxBackend,
  wasm: Uint8Array,
  version: 1 | 2,
  target?: number,
): Promise<Operation> {
  const { supervisor } = await wasmSupervisor(backend);
  const instance = instantiateBy(supervisor, wasm, version);
  return {
    name: `WebAssembly supervisor, Version${version}`,
    run: () => {
      if (supervisor.run(instance, CALLS) !== 0) throw new Error('the guest failed');
    },
    times: CALLS,
    ...(target === undefined ? {} : { target }),
  };
}
