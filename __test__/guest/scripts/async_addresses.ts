// A whole process that makes asynchronous calls when it has hardly any address space left. Arguments: guest as base64, backend, what it does, and how
// many MB are left. Prints how the calls have ended, by kind.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { JsSupervisor, type SandboxBackend, SandboxComponents, Value } from '../../../index';
import { environment } from '../../support/environment';

const [binary, backend, what, spare] = process.argv.slice(2);
const wasm = Buffer.from(binary, 'base64');
const components = new SandboxComponents<unknown>(backend as SandboxBackend, { cache: false });
const supervisor = new JsSupervisor();
const ended: Record<string, number> = {};

const count = (kind: string): void => {
  ended[kind] = (ended[kind] ?? 0) + 1;
};

/** The error that is at the bottom of it, by its class and code. */
function kindOf(error: unknown): string {
  const { cause } = error as { cause?: unknown };
  if (cause instanceof Error) return kindOf(cause);
  const { name, code, message } = error as { name: string; code?: string; message: string };
  return name === 'LimitError' ? name : `${name} ${code}: ${message}`;
}

async function settle(call: Promise<unknown>): Promise<void> {
  await call.then(
    () => count('value'),
    (error) => count(kindOf(error)),
  );
}

type Inner = (n: Value | undefined) => Promise<Value>;
let inner: Inner = async (n) => n as Value;

const waits = environment(components, {
  'env.f': supervisor.define(async ([n]) => {
    await sleep(10);
    return n;
  }),
});
const nests = environment(components, { 'env.f': supervisor.define(([n]) => inner(n)) });

function make(env: typeof waits) {
  const made = components.instantiate(1, wasm, env, supervisor);
  const instance = components.instance(made.register(components, undefined));
  return (n: number) => instance.invokeAsync('f', [Value.I32(n)], supervisor) as Promise<Value>;
}

const DOES: Record<string, () => () => Promise<void>[]> = {
  waiting() {
    const guests = Array.from({ length: 200 }, () => make(waits));
    return () => guests.map((guest) => settle(guest(1)));
  },
  nested() {
    const guests = Array.from({ length: 30 }, () => make(nests));
    inner = async (n) => {
      const depth = (n as { value: number }).value + 1;
      return depth < guests.length ? await guests[depth](depth) : (n as Value);
    };
    return () => [settle(guests[0](0))];
  },
  instances() {
    return () =>
      Array.from({ length: 50 }, () => settle(components.instantiateAsync(1, wasm, waits, supervisor)));
  },
  compiles() {
    // Each with a custom section of its own.
    const modules = Array.from({ length: 20 }, (_, n) =>
      Buffer.concat([wasm, Buffer.from([0, 3, 1, 65, n])]),
    );
    return () => modules.map((module) => settle(components.instantiateAsync(1, module, waits, supervisor)));
  },
};

async function main(): Promise<void> {
  const run = DOES[what]();
  const used = Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
  execFileSync('prlimit', [`--pid=${process.pid}`, `--as=${(used + Number(spare) * 1000) * 1024}`]);
  await Promise.all(run());
  console.log(`ended ${JSON.stringify(ended)}`);
}

void main();
