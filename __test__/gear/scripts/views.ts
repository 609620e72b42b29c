// A whole process that abuses buffers of memories: it transfers them away and keeps them when their store is gone.
// Arguments: backend, guest as base64. Says "done" when it got to its end.
import assert from 'node:assert/strict';
import { Instantiate, JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { environment } from '../../support/environment';
import { collectGarbage } from '../../support/garbage';

const PAGE = 65536;
const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

/** The buffer of a memory of which nothing else is left. */
function orphan(): ArrayBuffer {
  const components = new SandboxComponents<unknown>(backend);
  const memoryIndex = components.newMemory(1, 4);
  const supervisor = new JsSupervisor();
  const look = supervisor.define(() => undefined);
  const env = environment(components, { 'env.look': look }, { 'env.memory': memoryIndex });
  const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, 0);
  components.instance(index).invoke('store', [Value.I32(5), Value.I32(6)], supervisor);
  const { buffer } = components.memory(memoryIndex);
  components.clear();
  return buffer;
}

/** What a test can do to move a buffer elsewhere: it may be refused, or copy, or succeed. */
function transferred(buffer: ArrayBuffer): ArrayBuffer | undefined {
  try {
    return structuredClone(buffer, { transfer: [buffer] });
  } catch {
    return undefined;
  }
}

async function main(): Promise<void> {
  const kept = Array.from({ length: 50 }, orphan);
  await collectGarbage();
  for (const buffer of kept) {
    const view = new Uint8Array(buffer);
    assert.ok(buffer.byteLength === 0 || (buffer.byteLength === PAGE && view[5] === 6));
    view.fill(1);
  }

  const moved = Array.from({ length: 50 }, () => transferred(orphan()));
  await collectGarbage();
  for (const buffer of moved) {
    if (!buffer) continue;
    const view = new Uint8Array(buffer);
    assert.ok(buffer.byteLength === 0 || view[5] === 6);
    view.fill(1);
  }

  const components = new SandboxComponents<unknown>(backend);
  const memory = components.memory(components.newMemory(1, 4));
  memory.writeFrom(0, Uint8Array.of(9));
  const away = transferred(memory.buffer);
  assert.equal(memory.memoryGrow(1), 1);
  assert.deepEqual(memory.read(0, 1), Uint8Array.of(9));
  assert.equal(memory.buffer.byteLength, 2 * PAGE);
  new Uint8Array(memory.buffer)[2 * PAGE - 1] = 1;
  if (away) new Uint8Array(away).fill(2);
  components.clear();
  await collectGarbage();
  if (away) new Uint8Array(away).fill(3);
  process.stdout.write('done\n');
}

void main();
