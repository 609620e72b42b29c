// V8's own WebAssembly, as far as the tests use it: this project's `lib` has no DOM, whose types would have it.
import type { SupervisorMemoryObject, SupervisorTableObject } from '../../index';

interface V8WebAssembly {
  validate(wasm: Uint8Array): boolean;
  readonly Module: {
    new (wasm: Uint8Array): object;
    imports(module: object): { readonly module: string; readonly name: string; readonly kind: string }[];
  };
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
  readonly Memory: new (type: {
    initial: number;
    maximum?: number;
    shared?: boolean;
  }) => SupervisorMemoryObject & { grow(pages: number): number };
  readonly Table: new (type: {
    initial: number;
    element: 'anyfunc' | 'externref';
  }) => SupervisorTableObject & {
    set(index: number, element: unknown): void;
  };
  readonly RuntimeError: ErrorConstructor;
}

export const V8 = (globalThis as unknown as { readonly WebAssembly: V8WebAssembly }).WebAssembly;
