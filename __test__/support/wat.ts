// WAT to wasm for the tests, with every feature and the names of functions.
// wabt starts asynchronously: a root hook waits for it, so call `wat` inside a test, not while tests are declared.
import { before } from 'node:test';
import loadWabt from 'wabt';

type Wabt = Awaited<ReturnType<typeof loadWabt>>;

const features = {
  bulk_memory: true,
  extended_const: true,
  multi_memory: true,
  multi_value: true,
  mutable_globals: true,
  reference_types: true,
  sat_float_to_int: true,
  sign_extension: true,
  simd: true,
  tail_call: true,
};

const cache = new Map<string, Uint8Array>();
let wabt: Wabt | undefined;

before(async () => {
  wabt = await loadWabt();
});

/** The binary of a module in text form. The source must be valid. */
export function wat(source: string): Uint8Array {
  return compile(source, true);
}

/** As `wat`, for a module that parses but is invalid. */
export function invalidWat(source: string): Uint8Array {
  return compile(source, false);
}

function compile(source: string, validate: boolean): Uint8Array {
  const known = cache.get(source);
  if (known) return known;
  if (!wabt) throw new Error('wat() was called before the tests started');
  const module = wabt.parseWat('guest.wat', new TextEncoder().encode(source), features);
  try {
    if (validate) (module.validate as (options: object) => void)(features);
    const binary = module.toBinary({ write_debug_names: true }).buffer.slice();
    cache.set(source, binary);
    return binary;
  } finally {
    module.destroy();
  }
}
