// A whole process that gives buffers of memories to a byte stream, which takes their bytes over: from then on they are in
// another buffer. Arguments: backend, guest as base64. Says "done" when it got to its end.
import assert from 'node:assert/strict';
import {
  Instantiate,
  JsSupervisor,
  type Memory,
  type SandboxBackend,
  SandboxComponents,
} from '../../../index';
import { environment } from '../../support/environment';
import { collectGarbage } from '../../support/garbage';

const PAGE = 65536;
const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');
const supervisor = new JsSupervisor();

interface Subject {
  components: SandboxComponents<unknown>;
  memory: Memory;
  grow(): unknown;
}

/** A guest, with the memory that it has of the supervisor or the one that is its own. */
function subject(which: 'own' | 'given'): Subject {
  const components = new SandboxComponents<unknown>(backend);
  const given = components.newMemory(1, 4);
  const env = environment(components, {}, { 'env.memory': given });
  const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, 0);
  const instance = components.instance(index);
  const memory = which === 'given' ? components.memory(given) : instance.getMemory('own');
  assert.ok(memory);
  memory.writeFrom(5, Uint8Array.of(6));
  return { components, memory, grow: () => instance.invoke(`grow ${which}`, [], supervisor) };
}

/** The bytes of the memory's buffer, taken away from it. */
async function taken({ memory }: Subject): Promise<Uint8Array> {
  const { buffer } = memory;
  const stream = new ReadableStream({
    type: 'bytes',
    start(controller) {
      controller.enqueue(new Uint8Array(buffer as ArrayBuffer, 0, PAGE));
      controller.close();
    },
  });
  assert.equal(buffer.byteLength, 0, 'the stream has taken it over');
  const { value } = await stream.getReader().read();
  assert.ok(value);
  return value;
}

async function main(): Promise<void> {
  for (const which of ['own', 'given'] as const) {
    // Their guests go first.
    const orphans = [];
    for (let i = 0; i < 20; i++) {
      const guest = subject(which);
      orphans.push(await taken(guest));
      guest.components.clear();
    }
    await collectGarbage();
    for (const bytes of orphans) assert.deepEqual([bytes.length, bytes[5]], [PAGE, 6]);
    for (const bytes of orphans) bytes.fill(1);

    // Their memories grow, by the guest and by the host, while it waits too, or they say that they cannot.
    const guest = subject(which);
    const bytes = await taken(guest);
    guest.grow();
    try {
      guest.memory.memoryGrow(1);
    } catch (error) {
      assert.match(String(error), /its buffer was taken away/);
    }
    await collectGarbage();
    assert.deepEqual([bytes.length, bytes[5]], [PAGE, 6]);
    bytes.fill(2);

    // There is a new buffer, and everything goes on.
    const view = new Uint8Array(guest.memory.buffer);
    assert.equal(view[5], 2);
    assert.equal(guest.memory.buffer, view.buffer);
    guest.memory.writeFrom(5, Uint8Array.of(7));
    assert.deepEqual([view[5], bytes[5], guest.memory.read(5, 1)[0]], [7, 7, 7]);
  }

  // Once the bytes are gone a memory may grow again.
  const guest = subject('own');
  await (async () => {
    const bytes = await taken(guest);
    assert.equal(bytes[5], 6);
  })();
  await collectGarbage();
  assert.equal(guest.memory.memoryGrow(1), 1);
  assert.equal(guest.memory.buffer.byteLength, 2 * PAGE);
  console.log('done');
}

void main();
