// Everything that reads or writes a guest's memory, in a process whose loader forbids buffers over native memory.
// Arguments: backend, guest as base64. Says "done" when it got to its end.
import assert from 'node:assert/strict';
import {
  codec,
  Instantiate,
  JsSupervisor,
  LimitError,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
  type SupervisorContext,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';
import { caught } from '../../support/expect';

const PAGE = 65_536;
const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

function refusesBuffer(memory: Memory): void {
  const error = caught(LimitError, () => memory.buffer);
  assert.equal(error.code, 'ERR_SANDBOX_LIMIT');
  assert.match(error.message, /Memory\.read and Memory\.writeFrom/);
}

/** Copies of all sizes, so often that a view would have been made by now. */
function copies(memory: Memory): void {
  for (const size of [0, 1, 31, 33, 4095, 4096, PAGE]) {
    for (let round = 0; round < 20; round += 1) {
      const bytes = new Uint8Array(size).fill(round + size);
      memory.writeFrom(PAGE - size, bytes);
      assert.deepEqual(memory.read(PAGE - size, size), bytes);
      const dest = Buffer.alloc(size);
      memory.readInto(PAGE - size, dest);
      assert.deepEqual(new Uint8Array(dest), bytes);
    }
  }
  assert.throws(() => memory.read(memory.memorySize() * PAGE, 1), { code: 'ERR_SANDBOX_ARGUMENT' });
}

const components = new SandboxComponents<undefined>(backend);
const memoryIndex = components.newMemory(1, 4);
const memory = components.memory(memoryIndex);
const seen: unknown[] = [];

/** What guests call: adds one to the byte at the address. */
function bump(address: Value, of: Memory | undefined): Value {
  assert.ok(of !== undefined);
  refusesBuffer(of);
  const at = Value.toNumber(address) as number;
  const next = of.read(at, 1)[0]! + 1;
  of.writeFrom(at, Uint8Array.of(next));
  seen.push(next);
  return Value.I32(next);
}

/** The same by the six steps of the protocol. */
class Protocol implements SupervisorContext {
  readonly #bytes = new Uint8Array(PAGE);
  #top = 8;

  invoke(ptr: number, len: number): bigint {
    const [address] = codec.decodeValues(this.#bytes.subarray(ptr, ptr + len));
    const value = bump(address!, memory);
    const result = codec.encodeDispatchResult({ ok: true, value });
    this.#bytes.set(result, 4096);
    return (4096n << 32n) | BigInt(result.length);
  }

  readMemoryInto(address: number, dest: Uint8Array): void {
    dest.set(this.#bytes.subarray(address, address + dest.length));
  }

  writeMemory(address: number, data: Uint8Array): void {
    this.#bytes.set(data, address);
  }

  allocateMemory(size: number): number {
    this.#top += size;
    return this.#top - size;
  }

  deallocateMemory(): void {}
}

async function main(): Promise<void> {
  refusesBuffer(memory);
  copies(memory);
  assert.equal(memory.memoryGrow(1), 1);
  copies(memory);

  const supervisor = new JsSupervisor();
  const index = supervisor.define(([address], call) => bump(address!, call.memory));
  const env = environment(components, { 'env.bump': index }, { 'env.memory': memoryIndex });
  const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor);
  const instance = components.instance(made.register(components, undefined));
  memory.writeFrom(100, Uint8Array.of(5));
  assert.deepEqual(instance.invoke('bump', [100]), Value.I32(6));
  assert.deepEqual(instance.invoke('bump', [100], new Protocol()), Value.I32(7));
  assert.deepEqual(await instance.invokeAsync('bump', [100]), Value.I32(8));
  assert.deepEqual(await instance.invokeAsync('bump', [100], new Protocol()), Value.I32(9));
  assert.deepEqual(instance.invoke('load', [100]), Value.I32(9));
  assert.deepEqual(seen, [6, 7, 8, 9]);
  refusesBuffer(memory);

  // There is nothing to be copied of an empty memory.
  assert.equal(components.memory(components.newMemory(0, 1)).buffer.byteLength, 0);
  process.stdout.write('done\n');
}

void main();
