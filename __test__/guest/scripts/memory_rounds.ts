// Very many instances of one memory, which lives on. Arguments: backend, guest as base64, how the instances end, how many rounds.
// Prints as JSON the least resident size in the second quarter of the rounds and in the last one: between two collections it rises and falls.
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';

const backend = process.argv[2] as SandboxBackend;
const wasm = Buffer.from(process.argv[3], 'base64');
const how = process.argv[4];
const ROUNDS = Number(process.argv[5]);

const components = new SandboxComponents<unknown>(backend);
const supervisor = new JsSupervisor();
const ask = supervisor.define(([n]) => n);
const memoryIndex = components.newMemory(1, 16);
const memory = components.memory(memoryIndex);
const env = environment(components, { 'env.ask': ask }, { 'env.memory': memoryIndex });
let view = new DataView(memory.buffer);

const instantiate = (): number =>
  components.instantiate(Instantiate.Version1, wasm, env, supervisor).register(components, undefined);

const rounds: Record<string, (n: number) => void | Promise<void>> = {
  'torn down'(n) {
    const index = instantiate();
    components.instance(index).invoke('run', [Value.I32(n)], supervisor);
    components.instanceTeardown(index);
  },
  'never handed out'() {
    components.instanceTeardown(instantiate());
  },
  // As soon as a user has held them, only the collector knows that nobody does any more.
  collected(n) {
    const instance = components.instance(instantiate());
    instance.invoke('run', [Value.I32(n)], supervisor);
    components.clear();
    components.newMemory(0);
  },
  'in the turns of the event loop'(n) {
    components.instanceTeardown(instantiate());
    return n % 100 === 0 ? nextTurn() : undefined;
  },
  async asynchronously(n) {
    const made = await components.instantiateAsync(Instantiate.Version1, wasm, env, supervisor);
    const index = made.register(components, undefined);
    const call = components.instance(index).invokeAsync('run', [Value.I32(n)], supervisor);
    if (n % 2 === 0) components.instanceTeardown(index);
    await call;
    if (n % 2 !== 0) components.instanceTeardown(index);
    components.instanceTeardown(instantiate());
  },
  'not made'() {
    assert.throws(instantiate, InstantiationError);
  },
  async 'not made asynchronously'() {
    const made = components.instantiateAsync(Instantiate.Version1, wasm, env, supervisor);
    await assert.rejects(made, InstantiationError);
  },
  'with memories of their own that were looked at, in the turns of the event loop'(n) {
    const index = instantiate();
    const own = components.instance(index).getMemory('own');
    assert.equal(own?.read(0, 1)[0], 0);
    own?.writeFrom(0, Uint8Array.of(7));
    if (n % 10 === 0) assert.equal(new Uint8Array(own?.buffer as ArrayBuffer)[0], 7);
    components.instanceTeardown(index);
    // In a loop that never returns to the event loop such instances pile up until V8 collects them.
    return n % 100 === 0 ? nextTurn() : undefined;
  },
};

async function main(): Promise<void> {
  const round = rounds[how];
  const least = [Infinity, Infinity, Infinity, Infinity];
  for (let n = 0; n < ROUNDS; n++) {
    view.setInt32(1000, n, true);
    const pending = round(n);
    // A loop that awaits nothing never returns to the event loop.
    if (pending !== undefined) await pending;
    // Asynchronous calls detach views, and nothing else here does.
    if (pending !== undefined) view = new DataView(memory.buffer);
    assert.equal(view.getInt32(1000, true), n);
    if (n % (ROUNDS / 200) === 0) {
      const quarter = Math.floor((4 * n) / ROUNDS);
      least[quarter] = Math.min(least[quarter], process.memoryUsage().rss);
    }
  }
  process.stdout.write(JSON.stringify({ early: least[1], late: least[3] }));
}

void main();
