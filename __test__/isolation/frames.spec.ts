// The last bytes of a guest's stack: whatever runs there, an instruction that the engine has a function for, the host, or a function whose
// frame is larger than all that is left, the guest traps, nothing is locked or half done, and it can be called again.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { JsSupervisor, SandboxComponents, type SandboxInstance, TrapError, Value } from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, rejection } from '../support/expect';
import { guest } from '../support/guest';
import {
  type Bytes,
  body,
  exported,
  funcType,
  I32,
  I64,
  i32Const,
  moduleBytes,
  uleb,
  vector,
} from '../support/module_bytes';

/** What a guest may do at each depth of its recursion, that it must not be stopped in the middle of. */
const INSTRUCTIONS: Record<string, string> = {
  'memory.grow': '(drop (memory.grow (i32.const 0)))',
  'memory.fill': '(memory.fill (i32.const 0) (i32.const 1) (i32.const 100))',
  'memory.copy': '(memory.copy (i32.const 0) (i32.const 1) (i32.const 100))',
  'memory.init': '(memory.init $data (i32.const 0) (i32.const 0) (i32.const 2))',
  'table.grow': '(drop (table.grow $table (ref.null func) (i32.const 1)))',
  'table.set': '(table.set $table (i32.const 0) (ref.func $nothing))',
  'table.get': '(drop (table.get $table (i32.const 0)))',
  'table.fill': '(table.fill $table (i32.const 0) (ref.func $nothing) (i32.const 1))',
  'table.copy': '(table.copy $table $table (i32.const 0) (i32.const 1) (i32.const 1))',
  'table.init': '(table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 1))',
  'ref.func': '(global.set $reference (ref.func $nothing))',
  call_indirect: '(call_indirect $table (i32.const 1))',
  'a call of the host': '(drop (call $ask (i32.const 1)))',
};

/** How many words the frame around the recursion has: so the stack ends somewhere else each time. */
const PADDINGS = [0, 1, 2, 3, 5, 8];

const recursing = (instruction: string): string => `(module
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (memory (export "memory") 1 500)
  (table $table 10 2000000 funcref)
  (global $reference (mut funcref) (ref.null func))
  (data $data "data") (elem $elements func $nothing) (elem (table $table) (i32.const 1) func $nothing)
  (func $nothing)
  (func $recurse (result i32) ${instruction} (i32.add (call $recurse) (i32.const 1)))
  (func (export "once") (result i32) ${instruction} (i32.const 7))
  ${PADDINGS.map((words) => padded(words)).join('\n')})`;

function padded(words: number): string {
  const all = Array.from({ length: words }, (_, i) => i);
  return `(func (export "${words}") (result i32) (local ${'i64 '.repeat(words)})
    ${all.map((i) => `(local.set ${i} (i64.load (i32.const ${8 * i})))`).join('\n')}
    (call $recurse)
    ${all.map((i) => `(i32.add (i32.wrap_i64 (local.get ${i})))`).join('\n')})`;
}

/** A function that calls itself, with so many locals that are alive all the time; and one that gives 7. */
function wide(locals: number): Uint8Array {
  const each = (code: (index: number) => Bytes): Bytes => Array.from({ length: locals }, (_, i) => code(i));
  const load = (index: number): Bytes => [i32Const(8 * index), 0x29, 0, 0, 0x21, uleb(index)];
  const add = (index: number): Bytes => [0x20, uleb(index), 0xa7, 0x6a];
  return moduleBytes({
    types: vector(1, funcType([], [I32])),
    functions: vector(2, 0, 0),
    memories: vector(1, 0, 1),
    exports: vector(2, exported('recurse', 'function', 0), exported('seven', 'function', 1)),
    code: vector(2, body([each(load), 0x10, 0, each(add)], locals, I64), body(i32Const(7))),
  });
}

describe('At the end of its stack a guest', () => {
  forEachBackend((backend) => {
    for (const [what, instruction] of Object.entries(INSTRUCTIONS)) {
      it(`traps, and works again: with ${what} at each depth`, async () => {
        const { instance, supervisor, call, memory } = guest({
          backend,
          imports: { 'env.ask': ([n]) => n },
          wat: recursing(instruction),
        });
        for (const words of PADDINGS.map(String)) {
          assert.equal(caught(TrapError, () => call(words)).trap, 'stack-overflow');
          const late = await rejection(TrapError, instance.invokeAsync(words, [], supervisor));
          assert.equal(late.trap, 'stack-overflow');
          assert.deepEqual(call('once'), Value.I32(7));
          const pages = memory.memorySize();
          assert.equal(memory.memoryGrow(1), pages);
          assert.equal(memory.read(pages * 65536, 65536).length, 65536);
        }
      });
    }

    for (const [locals, stackBytes] of [
      [100, 65_536],
      [3000, 65_536],
      [3000, undefined],
    ] as const) {
      const size = stackBytes === undefined ? 'as it is by default' : `of ${stackBytes} bytes`;
      it(`traps, and works again: with frames of ${locals} locals on a stack ${size}`, () => {
        const instance = wideGuest(locals, stackBytes === undefined ? {} : { limits: { stackBytes } });
        for (let round = 0; round < 5; round++) {
          const error = caught(TrapError, () => instance.invoke('recurse', [], new JsSupervisor()));
          assert.equal(error.trap, 'stack-overflow');
          assert.deepEqual(instance.invoke('seven', [], new JsSupervisor()), Value.I32(7));
        }
      });
    }

    function wideGuest(locals: number, options: object): SandboxInstance {
      const components = new SandboxComponents<unknown>(backend, options);
      const env = environment(components);
      const made = components.instantiate(1, wide(locals), env, new JsSupervisor());
      return components.instance(made.register(components, undefined));
    }
  });
});
