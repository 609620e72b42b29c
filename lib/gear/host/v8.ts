/**
 * The part of V8's own WebAssembly that is used here. The types are this package's own, because many
 * Node.js projects do not include the DOM's `lib`. The objects of the global `WebAssembly` have these
 * shapes.
 */

/** A `WebAssembly.Memory` (WebAssembly JavaScript Interface, "Memories"), of any realm. */
export interface SupervisorMemoryObject {
  /** All of its bytes; a new buffer after it has grown. */
  readonly buffer: ArrayBufferLike;
}

/** A `WebAssembly.Table` (WebAssembly JavaScript Interface, "Tables"), of any realm. */
export interface SupervisorTableObject {
  /** The number of elements. */
  readonly length: number;
  /**
   * Returns an element.
   *
   * @param index - the index of the element, from 0
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
