/**
 * A supervisor in WebAssembly for V8, as cheap as a careful author would make it: the counterpart of `linear_supervisor.ts`. Its
 * allocator only moves a mark, which goes back when nothing is allocated any more.
 */

import { type SandboxBackend, SandboxHost } from 'sandbox-host';
import { definition, wat } from './guest';
import { V8 } from './v8';

const SUPERVISOR = `(module
  (import "env" "ext_sandbox_instantiate_version_1" (func $instantiate_1 (param i32 i64 i64 i32) (result i32)))
  (import "env" "ext_sandbox_instantiate_version_2" (func $instantiate_2 (param i32 i64 i64 i32) (result i32)))
  (import "env" "ext_sandbox_invoke_version_1" (func $invoke (param i32 i64 i64 i32 i32 i32) (result i32)))
  (import "env" "ext_sandbox_memory_get_version_1" (func $memory_get (param i32 i32 i32 i32) (result i32)))
  (import "env" "ext_sandbox_memory_set_version_1" (func $memory_set (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (table (export "table") funcref (elem $thunk_1 $thunk_2))
  (global $top (mut i32) (i32.const 1024))
  (global $allocations (mut i32) (i32.const 0))

  (func $allocate (export "allocate") (param $size i32) (result i32)
    (local $address i32)
    (local.set $address (global.get $top))
    (global.set $top (i32.and (i32.add (i32.add (local.get $address) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
    (local.get $address))
  (func (export "deallocate") (param i32)
    (global.set $allocations (i32.sub (global.get $allocations) (i32.const 1)))
    (if (i32.eqz (global.get $allocations)) (then (global.set $top (i32.const 1024)))))

  ;; Version 1: [i64 a, i64 b] -> Ok(Value(I64(b)))
  (func $thunk_1 (param $args i32) (param $len i32) (param $state i32) (param $func i32) (result i64)
    (local $result i32)
    (local.set $result (call $allocate (i32.const 11)))
    (i32.store (local.get $result) (i32.const 0x010100))
    (i64.store offset=3 align=1 (local.get $result) (i64.load offset=11 align=1 (local.get $args)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $result)) (i64.const 32)) (i64.const 11)))
  ;; Version 2: [i64 gas, i64 a, i64 b] -> Ok(gas, Value(I64(b)))
  (func $thunk_2 (param $args i32) (param $len i32) (param $state i32) (param $func i32) (result i64)
    (local $result i32)
    (local.set $result (call $allocate (i32.const 19)))
    (i32.store8 (local.get $result) (i32.const 0))
    (i64.store offset=1 align=1 (local.get $result) (i64.load offset=2 align=1 (local.get $args)))
    (i32.store16 offset=9 align=1 (local.get $result) (i32.const 0x0101))
    (i64.store offset=11 align=1 (local.get $result) (i64.load offset=20 align=1 (local.get $args)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $result)) (i64.const 32)) (i64.const 19)))

  (func (export "instantiate_1") (param i64 i64) (result i32)
    (call $instantiate_1 (i32.const 0) (local.get 0) (local.get 1) (i32.const 7)))
  (func (export "instantiate_2") (param i64 i64) (result i32)
    (call $instantiate_2 (i32.const 1) (local.get 0) (local.get 1) (i32.const 7)))

  ;; Runs "run" of the instance once: the guest then calls \`times\` times.
  (data (i32.const 0) "run" "empty")
  (func (export "run") (param $instance i32) (param $times i32) (result i32)
    (i32.store16 (i32.const 16) (i32.const 0x0004))
    (i32.store align=1 (i32.const 18) (local.get $times))
    (call $invoke (local.get $instance) (i64.const 0x3_0000_0000) (i64.const 0x6_0000_0010)
      (i32.const 32) (i32.const 16) (i32.const 7)))

  ;; Calls "empty" of the instance, and reads or writes some bytes of a memory, \`times\` times.
  (func (export "invoke_empty") (param $instance i32) (param $times i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (loop $again
      (drop (call $invoke (local.get $instance) (i64.const 0x5_0000_0003) (i64.const 0x1_0000_0010)
        (i32.const 32) (i32.const 16) (i32.const 7)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
  (func (export "memory_get") (param $memory i32) (param $size i32) (param $times i32)
    (loop $again
      (drop (call $memory_get (local.get $memory) (i32.const 256) (i32.const 65536) (local.get $size)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
  (func (export "memory_set") (param $memory i32) (param $size i32) (param $times i32)
    (loop $again
      (drop (call $memory_set (local.get $memory) (i32.const 256) (i32.const 65536) (local.get $size)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))`;

/** The exports of the supervisor. */
export interface BenchSupervisor {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly table: { readonly length: number; get(index: number): unknown };
  allocate(size: number): number;
  deallocate(ptr: number): void;
  instantiate_1(wasm: bigint, envDef: bigint): number;
  instantiate_2(wasm: bigint, envDef: bigint): number;
  run(instance: number, times: number): number;
  invoke_empty(instance: number, times: number): void;
  memory_get(memory: number, size: number, times: number): void;
  memory_set(memory: number, size: number, times: number): void;
}

/** A supervisor with its host. */
export async function wasmSupervisor(
  backend: SandboxBackend,
): Promise<{ host: SandboxHost; supervisor: BenchSupervisor }> {
  const module = new V8.Module(await wat(SUPERVISOR));
  let supervisor: BenchSupervisor;
  const host = new SandboxHost({
    backend,
    memory: () => supervisor.memory,
    table: () => supervisor.table,
    allocator: {
      allocate: (size) => supervisor.allocate(size),
      deallocate: (ptr) => supervisor.deallocate(ptr),
    },
  });
  supervisor = new V8.Instance(module, host.imports).exports as unknown as BenchSupervisor;
  return { host, supervisor };
}

/** Puts a guest with an import `env.f` into the supervisor's sandbox. */
export function instantiateBy(supervisor: BenchSupervisor, wasm: Uint8Array, version: 1 | 2 = 1): number {
  const bytes = new Uint8Array(supervisor.memory.buffer);
  const environment = definition({ f: 0 });
  // Beyond what the allocator uses.
  bytes.set(wasm, WASM);
  bytes.set(environment, WASM + wasm.length);
  const at = (address: number, size: number): bigint => (BigInt(size) << 32n) | BigInt(address);
  const instantiate = version === 1 ? supervisor.instantiate_1 : supervisor.instantiate_2;
  const index = instantiate(at(WASM, wasm.length), at(WASM + wasm.length, environment.length));
  if (index < 0) throw new Error(`instantiate returned ${index}`);
  return index;
}

const WASM = 2 * 64 * 1024;
