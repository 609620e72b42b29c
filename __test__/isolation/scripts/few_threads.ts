// A process that may have only a few more threads for a while, and then may again. Arguments: backend, a guest as base64, and how many more. Prints as
// JSON what came of everything that needs a thread, meanwhile and afterwards.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import {
  CompiledModule,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
} from '../../../index';
import { environment } from '../../support/environment';
import { bytes, named, section } from '../../support/module_bytes';

const backend = process.argv[2] as SandboxBackend;
const guest = Buffer.from(process.argv[3] ?? '', 'base64');
const room = Number(process.argv[4]);
const supervisor = new JsSupervisor();

let made = 0;

/** The guest as a module that no cache has. */
const fresh = (): Uint8Array => bytes(guest, section(0, [named('n'), named(String(made++))]));

function instance(of: SandboxBackend): SandboxInstance {
  const components = new SandboxComponents<undefined>(of);
  const env = environment(components, {});
  const index = components
    .instantiate(Instantiate.Version1, fresh(), env, supervisor)
    .register(components, undefined);
  return components.instance(index);
}

async function outcome(act: () => unknown): Promise<string> {
  try {
    await act();
    return 'done';
  } catch (error) {
    const { name, code } = error as Error & { code?: string };
    return `${name} ${code}`;
  }
}

const outcomes = async (known: SandboxInstance): Promise<Record<string, string>> => ({
  'a module is compiled': await outcome(() => instance(backend)),
  'a module is compiled asynchronously': await outcome(() => CompiledModule.compile(backend, fresh())),
  'a call has a timeout': await outcome(() => known.invoke('seven', [], supervisor, { timeout: 10_000 })),
  'a call is asynchronous': await outcome(() => known.invokeAsync('seven', [], supervisor)),
});

/** How many of the processes that set limits are there when one of them does. */
const LIMITERS = 1;

/** A process that sets how many threads this one may have, once it is told to: then it may be too late to start one. */
function limiter(threads: string): () => Promise<void> {
  const limiting = `read go && exec prlimit --pid ${process.pid} --nproc=${threads}:`;
  const child = spawn('sh', ['-c', limiting], { stdio: ['pipe', 'ignore', 'inherit'] });
  return async () => {
    const closed = once(child, 'close');
    child.stdin?.end('go\n');
    const [code] = await closed;
    if (code !== 0) throw new Error(`prlimit has exited with ${code}`);
  };
}

/** What this process may ask for. */
function most(): string {
  const [, hard] = /Max processes +\S+ +(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  if (hard === undefined) throw new Error('the system does not tell its limits');
  return hard;
}

async function main(): Promise<void> {
  // The first module that wasmer compiles here is compiled when there is no thread for that.
  const known = instance('wasmi');
  const [lower, raise] = [
    limiter(String(readdirSync('/proc/self/task').length + LIMITERS + room)),
    limiter(most()),
  ];
  await lower();
  const meanwhile = await outcomes(known);
  await raise();
  console.log(JSON.stringify({ meanwhile, afterwards: await outcomes(instance(backend)) }));
}

void main();
