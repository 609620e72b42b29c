/**
 * V8's own WebAssembly, as far as it is used here. The types are this package's, because those of the DOM's `lib` are not there in
 * many projects for Node.js; the objects of the global `WebAssembly` have these shapes.
 */

/** A `WebAssembly.Memory`. */
export interface SupervisorMemoryObject {
  readonly buffer: ArrayBufferLike;
}

/** A `WebAssembly.Table`. */
export interface SupervisorTableObject {
  readonly length: number;
  get(index: number): unknown;
}

interface V8WebAssembly {
  readonly Module: new (wasm: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: object,
  ) => { readonly exports: Readonly<Record<string, unknown>> };
  readonly Memory: new (type: { initial: number; maximum: number }) => SupervisorMemoryObject;
}

/** The global `WebAssembly`. */
export const v8 = (globalThis as unknown as { readonly WebAssembly: V8WebAssembly }).WebAssembly;
