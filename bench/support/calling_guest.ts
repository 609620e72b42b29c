/** A guest that calls its supervisor as often as it is told, used by the benches of supervisor calls. */

import {
  type AsyncSupervisorContext,
  type SandboxBackend,
  type SandboxInstance,
  type SupervisorContext,
  Value,
} from 'sandbox-host';
import type { Operation } from './measure';
import { CALLS } from './peers';
import { instantiateInV8, type V8Function } from './v8';

/** Calls `env.f` with two i64, and takes an i64 back, as many times as the argument of `run` says. */
export const CALLING_GUEST = `(module
  (import "env" "f" (func $f (param i64 i64) (result i64)))
  (global (export "gear_gas") (mut i64) (i64.const 1000000000))
  (func (export "run") (param $times i32) (result i64)
    (local $last i64)
    (loop $again
      (local.set $last
        (call $f (local.get $last) (i64.add (i64.const 0x0123456789) (i64.extend_i32_u (local.get $times)))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $last)))`;

/** One call into the guest, which then calls out many times. */
export function callingIn(
  backend: SandboxBackend,
  what: string,
  instance: SandboxInstance,
  supervisor: SupervisorContext,
  target?: number,
): Operation {
  const times = [Value.I32(CALLS)];
  return {
    name: `${backend}, ${what}`,
    run: () => instance.invoke('run', times, supervisor),
    times: CALLS,
    ...(target === undefined ? {} : { target }),
  };
}

/** The same beside the event loop. */
export function callingAsync(
  name: string,
  instance: SandboxInstance,
  supervisor: SupervisorContext | AsyncSupervisorContext,
  times: number,
): Operation {
  const args = [Value.I32(times)];
  const run = async (): Promise<void> => {
    const result = (await instance.invokeAsync('run', args, supervisor)) as { value: unknown };
    if (result.value !== LAST_RESULT) throw new Error(`the guest of ${name} returned ${result.value}`);
  };
  return { name, run, times };
}

/** What `run` returns, whatever its argument, if `env.f` returns its second argument. */
export const LAST_RESULT = 0x0123456789n + 1n;

/** The same guest in V8. */
export function callingInV8(what: string, wasm: Uint8Array, f: V8Function): Operation {
  const { run } = instantiateInV8(wasm, { f }).exports;
  return { name: `V8, ${what}`, run: () => run(CALLS), times: CALLS };
}
