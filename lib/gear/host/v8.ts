/**
 * V8's own WebAssembly, as far as it is used here. The types are this package's, because those of the DOM's `lib` are not there in
 * many projects for Node.js; the objects of the global `WebAssembly` have these shapes.
 */

/** A `WebAssembly.Memory` (WebAssembly JavaScript Interface, "Memories"), of any realm. */
export interface SupervisorMemoryObject {
  /** All of its bytes; another buffer once it has grown. */
  readonly buffer: ArrayBufferLike;
}

/** A `WebAssembly.Table` (WebAssembly JavaScript Interface, "Tables"), of any realm. */
export interface SupervisorTableObject {
  /** How many elements it has. */
  readonly length: number;
  /**
   * An element of it.
   *
   * @param index - which one, from 0
   * @returns the function there, or null
   */
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
