import { ENGINES, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';
import { CALLS } from './support/peers';
import type { About } from './support/results';
import { instantiateInV8 } from './support/v8';
import { instantiateBy, wasmSupervisor } from './support/wasm_supervisor';

export const about: About = {
  title: 'Host functions of a WebAssembly supervisor',
  text: [
    'What a WebAssembly supervisor pays for the `ext_sandbox_*` functions that it calls most. The peer is the least that any host function',
    'costs it: an import that is an empty JavaScript function.',
  ].join('\n'),
};

const EMPTY_IMPORT = 'V8, an empty import';

const GUEST = `(module
  (import "env" "f" (func))
  (func (export "empty")))`;

const CALLER = `(module
  (import "env" "f" (func $f (param i32 i32 i32 i32) (result i32)))
  (func (export "run") (param $times i32)
    (loop $again
      (drop (call $f (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))`;

/** In bytes. */
const SIZES: readonly (readonly [name: string, bytes: number])[] = [
  ['8 B', 8],
  ['32 B', 32],
  ['4 KiB', 4096],
];

export async function comparisons(): Promise<Comparison[]> {
  const guest = await wat(GUEST);
  const { run } = instantiateInV8(await wat(CALLER), { f: () => 0 }).exports;
  const empty: Operation = { name: EMPTY_IMPORT, run: () => run(CALLS), times: CALLS };
  return Promise.all(
    ENGINES.map(async (backend) => {
      const { host, supervisor } = await wasmSupervisor(backend);
      const instance = instantiateBy(supervisor, guest);
      const memory = host.imports.env.ext_sandbox_memory_new_version_1(1, 1);
      const operation = (name: string, run: () => void): Operation => ({ name, run, times: CALLS });
      return {
        name: `host functions on ${backend}, called from WebAssembly in V8`,
        operations: [
          empty,
          operation('invoke an empty export', () => supervisor.invoke_empty(instance, CALLS)),
          ...SIZES.flatMap(([name, bytes]) => [
            operation(`memory_get of ${name}`, () => supervisor.memory_get(memory, bytes, CALLS)),
            operation(`memory_set of ${name}`, () => supervisor.memory_set(memory, bytes, CALLS)),
          ]),
        ],
        peers: [EMPTY_IMPORT],
        rounds: 16,
      };
    }),
  );
}
