/** V8's own WebAssembly, as far as the benchmarks use it: this project's `lib` has no DOM, whose types would have it. */

export type V8Function = (...args: (number | bigint)[]) => number | bigint | undefined;

export interface V8Instance {
  readonly exports: Readonly<Record<string, V8Function>>;
}

interface V8WebAssembly {
  readonly Module: new (wasm: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => V8Instance;
  readonly Memory: new (type: { initial: number; maximum: number }) => object;
}

export const V8 = (globalThis as unknown as { WebAssembly: V8WebAssembly }).WebAssembly;

/** Compiles and links in one go; `functions` are what it imports from `env`. */
export function instantiateInV8(wasm: Uint8Array, functions: Record<string, V8Function> = {}): V8Instance {
  return new V8.Instance(new V8.Module(wasm), { env: functions });
}
