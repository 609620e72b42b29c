// Runs the same tests on every engine. A test for one engine only stands outside and says why.
// Import it in every spec of guests.
import { describe } from 'node:test';
import { SandboxBackend } from '../../index';

export const backends = [SandboxBackend.Wasmi, SandboxBackend.Wasmer] as const;

export function forEachBackend(define: (backend: SandboxBackend) => void): void {
  for (const backend of backends) describe(`on ${backend}`, () => define(backend));
}

/** The other engine, for tests in which both meet. */
export function otherThan(backend: SandboxBackend): SandboxBackend {
  return backend === SandboxBackend.Wasmi ? SandboxBackend.Wasmer : SandboxBackend.Wasmi;
}
