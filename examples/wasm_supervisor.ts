/**
 * A supervisor that is itself WebAssembly runs in V8, and its guests run on wasmi and wasmer, as in a Gear node. The
 * supervisor is `wasm_supervisor.wat`, whose comments explain each step. This file is its host.
 * `node --require ts-node/register examples/wasm_supervisor.ts`
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SandboxBackend, SandboxHost } from 'sandbox-host';
import wabt from 'wabt';

const GUEST = `(module
  (import "env" "memory" (memory 1))
  (import "env" "log" (func $log (param i32 i32)))
  (import "env" "square" (func $square (param i32) (result i32)))
  (global (export "gear_gas") (mut i64) (i64.const 0))
  (data (i32.const 16) "the guest was asked to ")

  ;; The supervisor has written the name of this function at address 0.
  (func (export "handle") (param $n i32) (result i32)
    (memory.copy (i32.const 39) (i32.const 0) (i32.const 6))
    (call $log (i32.const 16) (i32.const 29))
    (call $square (call $square (local.get $n)))))`;

/** What the supervisor exports. */
interface Supervisor {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly table: { readonly length: number; get(index: number): unknown };
  allocate(size: number): number;
  deallocate(ptr: number): void;
  run(wasmPtr: number, wasmLen: number, n: number, gas: bigint): number;
  gas_left(): bigint;
  calls(): number;
}

/** The part of V8's WebAssembly that this example needs. (Projects with the DOM's types need no such declaration.) */
declare const WebAssembly: {
  instantiate(wasm: Uint8Array, imports: object): Promise<{ instance: { exports: unknown } }>;
};

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  const compile = (wat: string): Uint8Array =>
    parseWat('module.wat', wat, { bulk_memory: true }).toBinary({}).buffer;
  const supervisorWasm = compile(readFileSync(join(__dirname, 'wasm_supervisor.wat'), 'utf8'));
  const guestWasm = compile(GUEST);

  for (const backend of Object.values(SandboxBackend)) {
    // The host must exist before its supervisor, because it provides the imports. It asks for the exports only when it needs them.
    let supervisor: Supervisor;
    const host = new SandboxHost({
      backend,
      memory: () => supervisor.memory,
      table: () => supervisor.table,
      allocator: {
        allocate: (size) => supervisor.allocate(size),
        deallocate: (ptr) => supervisor.deallocate(ptr),
      },
    });
    const print = (ptr: number, len: number): void => {
      const text = Buffer.from(supervisor.memory.buffer, ptr, len).toString();
      console.log(`${backend}: ${text}`);
    };
    const { instance } = await WebAssembly.instantiate(supervisorWasm, {
      ...host.imports,
      console: { print },
    });
    supervisor = instance.exports as Supervisor;

    // Put the guest's binary beyond the addresses that the supervisor uses.
    const address = 32 * 1024;
    new Uint8Array(supervisor.memory.buffer).set(guestWasm, address);

    const rich = supervisor.run(address, guestWasm.length, 3, 1000n);
    console.log(
      `${backend}: returned ${rich} after ${supervisor.calls()} calls, gas left ${supervisor.gas_left()}`,
    );

    const poor = supervisor.run(address, guestWasm.length, 3, 150n);
    console.log(
      `${backend}: returned ${poor} (${host.lastError?.message}), gas left ${supervisor.gas_left()}`,
    );
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
