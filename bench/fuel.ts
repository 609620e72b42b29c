/** What it costs that guests are metered: the same guest with and without fuel. Neither can be interrupted, or both. */

import { Instantiate, JsSupervisor, type SandboxBackend, type SandboxOptions, Value } from '../index';
import { ENGINES, instantiate, wat } from './support/guest';
import type { Comparison, Operation } from './support/measure';

const GUEST = `(module
  (memory 1)
  (func $fib (export "calls") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "loops") (param $times i32) (result i32)
    (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.xor (local.get $times) (i32.const 0x5555))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (func (export "sieve") (param $end i32) (result i32)
    (local $at i32) (local $multiple i32) (local $count i32)
    (memory.fill (i32.const 0) (i32.const 0) (local.get $end))
    (local.set $at (i32.const 2))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $at)))
        (then
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (local.set $multiple (i32.mul (local.get $at) (i32.const 2)))
          (block $done
            (loop $mark
              (br_if $done (i32.ge_u (local.get $multiple) (local.get $end)))
              (i32.store8 (local.get $multiple) (i32.const 1))
              (local.set $multiple (i32.add (local.get $multiple) (local.get $at)))
              (br $mark)))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end))))
    (local.get $count)))`;

/** The exports, with an argument that takes them about a millisecond in the interpreter. */
const WORK: readonly (readonly [what: string, name: string, argument: number])[] = [
  ['calls: fib', 'calls', 18],
  ['the tightest loop', 'loops', 50_000],
  ['loops over memory: a sieve', 'sieve', 20_000],
];

const WAYS: readonly (readonly [name: string, options: SandboxOptions, target?: number])[] = [
  ['neither', { interruptible: false }],
  ['interruptible', {}],
  ['metered', { fuel: true, interruptible: false }, 1.3],
  ['metered and interruptible', { fuel: true }, 1.3],
];

export async function comparisons(): Promise<Comparison[]> {
  const wasm = await wat(GUEST);
  return ENGINES.flatMap((backend) =>
    WORK.map(([what, name, argument]) => ({
      name: `${backend}, ${what}`,
      operations: WAYS.map(([way, options, target]) => ({
        ...operation(backend, wasm, name, argument, way, options),
        // The interpreter's own meter is not ours to better.
        ...(target === undefined || backend === 'wasmi' ? {} : { target }),
      })),
      peers: [WAYS[0][0]],
      rounds: 24,
    })),
  );
}

function operation(
  backend: SandboxBackend,
  wasm: Uint8Array,
  name: string,
  argument: number,
  way: string,
  options: SandboxOptions,
): Operation {
  const supervisor = new JsSupervisor();
  const instance = instantiate(backend, wasm, supervisor, {}, Instantiate.Version1, options);
  const args = [Value.I32(argument)];
  return { name: way, run: () => instance.invoke(name, args, supervisor), times: 1 };
}
