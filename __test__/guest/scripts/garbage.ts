// A whole process in which handles are collected at awkward moments. Arguments: backend, guest as base64.
// Says "done" when it got to its end.
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');

function collect(): void {
  global.gc?.();
}

/** A guest whose supervisor collects garbage while it runs. Only the instance is handed out. */
function lonelyInstance(supervisor: JsSupervisor, ask: number): SandboxInstance {
  const components = new SandboxComponents<unknown>(backend);
  const memory = components.newMemory(1, 4);
  const env = environment(components, { 'env.ask': ask }, { 'env.memory': memory });
  const index = components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, {});
  return components.instance(index);
}

async function main(): Promise<void> {
  const supervisor = new JsSupervisor();
  const ask = supervisor.define((_args, call) => {
    collect();
    call.memory?.read(0, 1);
    collect();
    return undefined;
  });

  // the only handle lives on the stack of the call itself
  for (let i = 0; i < 20; i++) {
    assert.deepEqual(lonelyInstance(supervisor, ask).invoke('run', [], supervisor), Value.I32(42));
    await nextTurn();
  }

  // handles are dropped, collected and taken again
  const instances = Array.from({ length: 50 }, () => lonelyInstance(supervisor, ask));
  for (let i = 0; i < 50; i += 2) instances[i] = lonelyInstance(supervisor, ask);
  collect();
  await nextTurn();
  collect();
  await nextTurn();
  for (const instance of instances) assert.deepEqual(instance.invoke('run', [], supervisor), Value.I32(42));

  // an unregistered instance and an unused environment are just dropped
  for (let i = 0; i < 50; i++) {
    const components = new SandboxComponents<unknown>(backend);
    const env = environment(components, { 'env.ask': ask }, { 'env.memory': components.newMemory(1) });
    components.instantiate(Instantiate.Version1, wasm, env, supervisor);
    environment(components, {}, { 'env.memory': 0 });
    if (i % 2) components.clear();
  }
  collect();
  await nextTurn();
  collect();

  // a memory handle alone keeps its bytes
  const memory = (() => {
    const components = new SandboxComponents<unknown>(backend);
    const index = components.newMemory(1);
    components.memory(index).writeFrom(0, Uint8Array.of(7));
    return components.memory(index);
  })();
  collect();
  await nextTurn();
  collect();
  assert.deepEqual(memory.read(0, 1), Uint8Array.of(7));
  assert.equal(new Uint8Array(memory.buffer)[0], 7);
  process.stdout.write('done\n');
}

void main();
