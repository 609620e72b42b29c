// A guest with everything that the specs of this folder do something hostile to, and the one question that is asked afterwards.
import assert from 'node:assert/strict';
import {
  GuestEnvironment,
  Instantiate,
  type JsSupervisor,
  type Memory,
  type SandboxBackend,
  type UnregisteredInstance,
  Value,
} from '../../index';
import { environment } from '../support/environment';
import { Guest, type GuestFunction } from '../support/guest';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "memory" (memory 1 64))
  (memory (export "own") 1 4)
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (global (export "g") (mut i32) (i32.const 1))
  (global (export "constant") i64 (i64.const 1))
  (func (export "f") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "wide") (param i32 i64 f32 f64))
  (func (export "grow") (result i32) (memory.grow (i32.const 1)))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "trap") unreachable))`;

const SMALL = '(module (func (export "seven") (result i32) (i32.const 7)))';

export class Subject extends Guest {
  declare readonly supervisor: JsSupervisor;
  readonly backend: SandboxBackend;
  /** Answers the guest; a test may put another function here. */
  answer: GuestFunction;
  /** Asynchronous calls that a test has begun and not waited for. */
  readonly pending: Promise<unknown>[] = [];
  readonly #memory: Memory;

  constructor(backend: SandboxBackend, version: Instantiate = Instantiate.Version1) {
    const answer = { current: ([n]: Value[]): Value => n } as { current: GuestFunction };
    super({
      backend,
      version,
      memory: { initial: 1, maximum: 64 },
      imports: { 'env.f': (args, call) => answer.current(args, call) },
      wat: GUEST,
    });
    this.backend = backend;
    this.#memory = super.memory;
    this.answer = answer.current;
    Object.defineProperty(this, 'answer', {
      get: () => answer.current,
      set: (fn: GuestFunction) => {
        answer.current = fn;
      },
    });
  }

  /** Also after its index is gone. */
  override get memory(): Memory {
    return this.#memory;
  }

  /** A small module. */
  get wasm(): Uint8Array {
    return wat(SMALL);
  }

  env(): GuestEnvironment {
    return GuestEnvironment.decode(this.components, Uint8Array.of(0));
  }

  unregistered(): UnregisteredInstance {
    return this.components.instantiate(Instantiate.Version1, this.wasm, this.env(), this.supervisor);
  }
}

/** That the guest, its handles and its components are as good as new. */
export function stillWorks({ components, instance, memory, supervisor, wasm }: Subject): void {
  assert.deepEqual(instance.invoke('f', [Value.I32(5)], supervisor), Value.I32(5));
  memory.writeFrom(7, Uint8Array.of(9));
  assert.deepEqual(instance.invoke('load', [Value.I32(7)], supervisor), Value.I32(9));
  assert.deepEqual(memory.read(7, 1), Uint8Array.of(9));
  assert.equal(new Uint8Array(memory.buffer)[7], 9);
  assert.equal(instance.setGlobalVal('g', Value.I32(3)), true);
  assert.deepEqual(instance.getGlobalVal('g'), Value.I32(3));
  const env = environment(components);
  const index = components
    .instantiate(Instantiate.Version1, wasm, env, supervisor)
    .register(components, undefined);
  assert.deepEqual(components.instance(index).invoke('seven', [], supervisor), Value.I32(7));
  components.instanceTeardown(index);
}
