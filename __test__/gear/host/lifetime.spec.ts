// What the supervisor tears down goes at once: a runtime makes a memory and a guest for each message, faster than any collector.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { native } from '../../../lib/binding/native';
import { forEachBackend } from '../../support/engines';
import type { WasmSupervisor } from '../../support/wasm_supervisor';
import { wat } from '../../support/wat';
import { supervisor } from './fixture';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (func (export "run") (result i32) (call $add (i32.const 2) (i32.const 3))))`;

function makeMemory({ ext }: WasmSupervisor): number {
  return ext.memory_new(1, 1);
}

function makeGuest(given: WasmSupervisor, memory: number): number {
  return given.guest(wat(GUEST), { functions: { 'env.add': '$add' }, memories: { 'env.memory': memory } });
}

/** That `run` leaves no native memory or instance behind, not even one that waits for the collector. */
function assertGone(run: () => void): void {
  const before = native.countForTests();
  run();
  // There can be fewer: what earlier tests have left may be collected meanwhile.
  assert.ok(native.countForTests() <= before);
}

describe('What a supervisor has torn down', () => {
  forEachBackend((backend) => {
    it('takes its memory along, whichever goes first', () => {
      const given = supervisor(backend);
      const { ext } = given;
      assertGone(() => ext.memory_teardown(makeMemory(given)));
      assertGone(() => {
        const memory = makeMemory(given);
        const guest = makeGuest(given, memory);
        assert.equal(given.call(guest, 'run')?.type, 'i32');
        ext.instance_teardown(guest);
        ext.memory_teardown(memory);
      });
      assertGone(() => {
        const memory = makeMemory(given);
        const guest = makeGuest(given, memory);
        ext.memory_teardown(memory);
        assert.equal(given.call(guest, 'run')?.type, 'i32');
        ext.instance_teardown(guest);
      });
    });

    it('takes its memory along if its start function trapped', () => {
      const given = supervisor(backend);
      const trapping = wat(`(module
        (import "env" "memory" (memory 1))
        (func $start unreachable)
        (start $start))`);
      assertGone(() => {
        const memory = makeMemory(given);
        assert.equal(given.instantiate(trapping, { memories: { 'env.memory': memory } }), -3);
        given.ext.memory_teardown(memory);
      });
    });

    it('takes its memory along when the host is disposed', () => {
      const given = supervisor(backend);
      assertGone(() => {
        makeGuest(given, makeMemory(given));
        given.host[Symbol.dispose]();
      });
    });

    it('stays for a user of the components who holds it', () => {
      const given = supervisor(backend);
      const memory = makeMemory(given);
      const guest = makeGuest(given, memory);
      const held = given.host.components.memory(memory);
      held.writeFrom(0, Uint8Array.of(7));
      given.ext.instance_teardown(guest);
      given.ext.memory_teardown(memory);
      assert.deepEqual(held.read(0, 1), Uint8Array.of(7));
      assert.equal(held.memorySize(), 1);
    });
  });
});
