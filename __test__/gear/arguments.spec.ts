// Arguments that are nearly right: an ArgumentError names the argument, and nothing is harmed. What is of another kind altogether, for
// every parameter of every public function, is in ../hostile/calls.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EnvironmentDefinitionBuilder,
  type GuestEnvironment,
  Instantiate,
  JsSupervisor,
  type Memory,
  ModuleCache,
  type SandboxBackend,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  type SupervisorContext,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { argumentError, caught } from '../support/expect';
import { type Guest, guest } from '../support/guest';
import { ProtocolSupervisor } from '../support/protocol';
import { wat } from '../support/wat';

// biome-ignore lint/suspicious/noExplicitAny: everything here is of a wrong type
type Anything = any;

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (global (export "g") (mut i32) (i32.const 1))
  (func (export "f") (param i32) (result i32) (local.get 0))
  (func (export "wide") (param i32 i64 f32 f64)))`;

/** Like a Value, but for its type, or for a number that does not fit it. */
const notValue: Anything[] = [
  { type: 'i32' },
  { type: 'v128', value: 1 },
  { type: 'I32', value: 1 },
  { value: 1 },
  { type: 'i32', value: 2 ** 31 },
  { type: 'i32', value: -(2 ** 31) - 1 },
  { type: 'i32', bits: 1 },
];
const badNumbers: [index: number, value: Anything][] = [
  [1, { type: 'i64', value: 1 }],
  [1, { type: 'i64', value: 2n ** 63n }],
  [1, { type: 'i64', value: -(2n ** 63n) - 1n }],
  [2, { type: 'f32', bits: -1 }],
  [2, { type: 'f32', bits: 2 ** 32 }],
  [2, { type: 'f32', bits: 1n }],
  [2, { type: 'f32', value: 1 }],
  [3, { type: 'f64', bits: 1 }],
  [3, { type: 'f64', bits: -1n }],
  [3, { type: 'f64', bits: 2n ** 64n }],
];

/** Like a SupervisorContext, but a method is missing. */
function notContext(): Anything[] {
  const complete: Anything = () => {
    const context = new ProtocolSupervisor();
    return {
      invoke: context.invoke.bind(context),
      readMemoryInto: context.readMemoryInto.bind(context),
      writeMemory: context.writeMemory.bind(context),
      allocateMemory: context.allocateMemory.bind(context),
      deallocateMemory: context.deallocateMemory.bind(context),
    };
  };
  return Object.keys(complete()).map((method) => {
    const lacking = complete();
    delete lacking[method];
    return lacking;
  });
}

interface Subject extends Pick<Guest, 'components' | 'index' | 'supervisor'> {
  instance: SandboxInstance;
  memory: Memory;
  env(): GuestEnvironment;
  wasm: Uint8Array;
  ctx: SupervisorContext;
}

type Row = [
  what: string,
  argument: string,
  bad: Anything[] | (() => Anything[]),
  call: (subject: Subject, bad: Anything) => unknown,
];

const rows: Row[] = [
  ['new SandboxComponents', 'backend', ['v8', 'Wasmi', 'wasmi '], (_s, bad) => new SandboxComponents(bad)],
  ['instantiate', 'version', [0, 3, '1'], (s, bad) => s.components.instantiate(bad, s.wasm, s.env(), s.ctx)],
  [
    'instantiate',
    'env',
    [Uint8Array.of(0), new EnvironmentDefinitionBuilder()],
    (s, bad) => s.components.instantiate(Instantiate.Version1, s.wasm, bad, s.ctx),
  ],
  [
    'instantiate',
    'ctx',
    notContext,
    (s, bad) => s.components.instantiate(Instantiate.Version1, s.wasm, s.env(), bad),
  ],
  ['JsSupervisor.deallocateMemory', 'ptr', [8], (_s, bad) => new JsSupervisor().deallocateMemory(bad)],
  ['invoke', 'args', [[], [Value.I32(1), Value.I32(2)]], (s, bad) => s.instance.invoke('f', bad, s.ctx)],
  [
    'invoke',
    'args[0]',
    [...notValue, Value.I64(1n), Value.f32(1), Value.f64(1)],
    (s, bad) => s.instance.invoke('f', [bad], s.ctx),
  ],
  [
    'invoke',
    'args[3]',
    notValue,
    (s, bad) => s.instance.invoke('wide', [Value.I32(1), Value.I64(1n), Value.f32(1), bad], s.ctx),
  ],
  [
    'invoke',
    'args[1]',
    notValue,
    (s, bad) => s.instance.invoke('wide', [Value.I32(1), bad, Value.f32(1), Value.f64(1)], s.ctx),
  ],
  ['invoke', 'ctx', notContext, (s, bad) => s.instance.invoke('f', [Value.I32(1)], bad)],
  ['setGlobalVal', 'value', notValue, (s, bad) => s.instance.setGlobalVal('g', bad)],
  [
    'signalHandlerSetGlobalVal',
    'value',
    notValue,
    (s, bad) => s.instance.signalHandlerSetGlobalVal('g', bad),
  ],
];

describe('An argument that is nearly right', () => {
  forEachBackend((backend) => {
    for (const [what, argument, bad, call] of rows) {
      it(`of ${what} is reported as ${argument}`, () => {
        const subject = build(backend);
        for (const each of typeof bad === 'function' ? bad() : bad) {
          argumentError(argument, () => call(subject, each));
          stillWorks(subject);
        }
      });
    }

    it('of invoke that is a number out of its range is reported as its args[i]', () => {
      const subject = build(backend);
      const right = [Value.I32(1), Value.I64(1n), Value.f32(1), Value.f64(1)];
      for (const [i, value] of badNumbers) {
        argumentError(`args[${i}]`, () => subject.instance.invoke('wide', right.with(i, value), subject.ctx));
      }
      stillWorks(subject);
    });

    it('of invoke that is a hole in the array is reported as its args[i]', () => {
      const subject = build(backend);
      argumentError('args[0]', () => subject.instance.invoke('f', new Array(1), subject.ctx));
    });

    it('is an unknown option, which is named', () => {
      const subject = build(backend);
      argumentError('nonsense', () => new SandboxComponents(backend, { nonsense: 1 } as Anything));
      argumentError('nonsense', () => new ModuleCache({ nonsense: 1 } as Anything));
      argumentError('nonsense', () =>
        subject.instance.invoke('f', [Value.I32(1)], subject.ctx, { nonsense: 1 } as Anything),
      );
      argumentError('nonsense', () =>
        subject.components.instantiate(Instantiate.Version1, subject.wasm, subject.env(), subject.ctx, {
          nonsense: 1,
        } as Anything),
      );
      stillWorks(subject);
    });

    it('is not undefined in the place of an optional one', () => {
      const subject = build(backend);
      assert.equal(new SandboxComponents(backend, undefined).backend, backend);
      assert.equal(typeof subject.components.newMemory(1, undefined), 'number');
      assert.deepEqual(subject.instance.invoke('f', [Value.I32(1)], subject.ctx, undefined), Value.I32(1));
      assert.deepEqual(subject.instance.invoke('f', [Value.I32(1)], subject.ctx, {}), Value.I32(1));
      assert.ok(
        subject.components.instantiate(Instantiate.Version1, subject.wasm, subject.env(), subject.ctx, {}),
      );
    });

    it('is an index that is no index, not one that is merely unknown', () => {
      const { components } = build(backend);
      assert.equal(
        caught(SandboxError, () => components.instance(0xffffffff)).message,
        'Trying to access a non-existent instance',
      );
      assert.equal(
        caught(SandboxError, () => components.memory(0xffffffff)).message,
        'Trying to access a non-existent sandboxed memory',
      );
      argumentError('instanceIdx', () => components.instance(2 ** 32));
      argumentError('memoryIdx', () => components.memory(2 ** 32));
    });
  });
});

function build(backend: SandboxBackend): Subject {
  const made = guest({ backend, memory: { initial: 1, maximum: 2 }, wat: GUEST });
  const wasm = wat('(module (func (export "seven") (result i32) (i32.const 7)))');
  const env = () => environment(made.components);
  return {
    ...made,
    memory: made.memory,
    wasm,
    env,
    ctx: made.supervisor,
  };
}

function stillWorks({ instance, memory, components, index, ctx }: Subject): void {
  assert.deepEqual(instance.invoke('f', [Value.I32(5)], ctx), Value.I32(5));
  assert.deepEqual(instance.getGlobalVal('g'), Value.I32(1));
  assert.equal(memory.memorySize(), 1);
  assert.deepEqual(memory.read(0, 1), Uint8Array.of(0));
  assert.deepEqual(components.instance(index).invoke('f', [Value.I32(6)], ctx), Value.I32(6));
}
