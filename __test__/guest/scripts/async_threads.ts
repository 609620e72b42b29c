// A whole process with many guests that wait at the same time. Arguments: guest as base64, backend, how many guests, `threads` or ''. Prints how
// many calls have ended, and the most threads that the pool had.
import { setTimeout as sleep } from 'node:timers/promises';
import { JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { native } from '../../../lib/binding/native';
import { environment } from '../../support/environment';

const [binary, backend, guests, threads] = process.argv.slice(2);
const wasm = Buffer.from(binary, 'base64');

async function main(): Promise<void> {
  const options = threads === '' ? {} : { threads: Number(threads) };
  const components = new SandboxComponents<unknown>(backend as SandboxBackend, options);
  const supervisor = new JsSupervisor();
  // As many as can wait at the same time do; on wasmer the others come after them.
  const canWait = backend === 'wasmi' ? Number(guests) : Number(threads);
  let waiting = 0;
  let allWait: () => void = () => {};
  const all = new Promise<void>((resolve) => {
    allWait = resolve;
  });
  let most = 0;
  const look = (): void => {
    most = Math.max(most, native.countThreadsForTests());
  };
  const f = supervisor.define(async ([n]) => {
    look();
    waiting += 1;
    if (waiting === canWait) allWait();
    await all;
    // In no order.
    await sleep(((n as { value: number }).value * 7919) % 50);
    look();
    return n;
  });
  const env = environment(components, { 'env.f': f });
  let ended = 0;
  const call = async (n: number): Promise<void> => {
    const made = components.instantiate(1, wasm, env, supervisor);
    const instance = components.instance(made.register(components, undefined));
    await instance.invokeAsync('f', [Value.I32(n)], supervisor);
    ended += 1;
  };
  await Promise.all(Array.from({ length: Number(guests) }, (_, n) => call(n)));
  look();
  console.log(JSON.stringify({ ended, most }));
}

void main();
