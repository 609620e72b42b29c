// What the specs of this folder share: a supervisor in one call, and what must be true after each failure.
import assert from 'node:assert/strict';
import { type SandboxBackend, type SandboxHostOptions, TrapError, Value } from '../../../index';
import { type SupervisorParts, supervisorText, WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';

export interface FixtureOptions extends SupervisorParts {
  /** Options of the host, besides or instead of those that lead to the supervisor. */
  options?: Partial<SandboxHostOptions>;
}

/** A supervisor with its host. */
export function supervisor(backend: SandboxBackend, fixture: FixtureOptions = {}): WasmSupervisor {
  const { elements, options } = fixture;
  return new WasmSupervisor({ backend, wasm: supervisorWasm(fixture), elements, options });
}

/** The binary of a supervisor; the limits of its memory may be followed by `shared`. */
export function supervisorWasm(parts: SupervisorParts = {}): Uint8Array {
  const limits = parts.memory?.match(/^(.*) shared$/)?.[1];
  return limits === undefined
    ? wat(supervisorText(parts))
    : withSharedMemory(wat(supervisorText({ ...parts, memory: limits })));
}

/** Marks the memory of a module, which must have a maximum, as shared: `wat` has no threads. */
function withSharedMemory(wasm: Uint8Array): Uint8Array {
  const shared = Buffer.from(wasm);
  // The memory section of one memory with two limits of a byte each.
  const section = shared.indexOf(Buffer.of(5, 4, 1, 1));
  assert.ok(section > 0);
  shared[section + 3] = 3;
  return shared;
}

const ADDING = `(module
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1))))`;

/** That the supervisor and its host are as good as new: a new guest runs, calls, and leaves nothing behind. */
export function assertWorks(given: WasmSupervisor): void {
  const live = given.live;
  const index = given.guest(wat(ADDING), { functions: { 'env.add': '$add' } });
  assert.deepEqual(given.call(index, 'add', [Value.I32(2), Value.I32(3)]), Value.I32(5));
  given.ext.instance_teardown(index);
  assert.equal(given.live, live);
}

/** The error by which a guest failed in the last call of the host. */
export function lastTrap(given: WasmSupervisor): TrapError {
  const error = given.host.lastError;
  assert.ok(error instanceof TrapError, `expected a TrapError, got ${error}`);
  return error;
}
