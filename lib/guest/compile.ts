import { native } from '../binding/native';
import { callAsync } from './async_call';
import type { StopConditions } from './call_options';
import { looksLike } from './looks_like';
import { type GuestModule, guestModule } from './module';
import { compileError } from './modules';
import type { CheckedOptions } from './options';

/** Compiles a binary, which nobody writes to, on a native thread. */
export function compileAsync(
  binary: Uint8Array,
  { engine, modules, quota }: CheckedOptions,
  conditions: StopConditions | undefined,
): Promise<GuestModule> {
  return callAsync({
    answerer: undefined,
    conditions,
    argument: 'wasm',
    exportName: undefined,
    doing: 'compiling the module',
    make: () => native.compileAsync(engine.number, modules.number, binary, quota.number),
    result: (call) => modules.keep(guestModule(native.compiledBy(call))),
    refused: (error) => compileError(error, looksLike(binary)),
  });
}
