// Runs TypeScript in a real child process, for tests about exit codes, crashes, logs and memory of a whole process.
// Snippets and scripts get their wasm as base64 arguments: wabt stays with the test.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';

export interface ChildOptions {
  args?: readonly string[];
  /** Flags of node itself. */
  execArgv?: readonly string[];
  env?: Record<string, string>;
  /** Whether it is plain JavaScript, for a process without a compiler in it. */
  isPlain?: boolean;
  /** Milliseconds until the child is killed. */
  timeout?: number;
  /** The most addresses that the child may have, in KiB; only on Unix. */
  addresses?: number;
  /** Whose process it is, if not this user's; only on Unix. */
  user?: { readonly uid?: number; readonly gid?: number };
  /** Signals that the child gets, each once its stdout has this text. */
  signals?: readonly (readonly [text: string, signal: NodeJS.Signals])[];
}

export interface ChildResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  timedOut: boolean;
}

const snippetFolder = join(__dirname, '..', 'sandbox');

/** Runs a TypeScript file. */
export function runFile(file: string, options: ChildOptions = {}): Promise<ChildResult> {
  return run([file, ...(options.args ?? [])], options);
}

/** Runs TypeScript source as if it were a file beside the sandbox specs; `process.argv[1]` is the first argument. */
export function runSnippet(source: string, options: ChildOptions = {}): Promise<ChildResult> {
  const { outputText } = transpileModule(source, {
    compilerOptions: { module: ModuleKind.CommonJS, target: ScriptTarget.ES2022, esModuleInterop: true },
  });
  return run(['--eval', outputText, '--', ...(options.args ?? [])], options);
}

function run(args: readonly string[], options: ChildOptions): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const compiler = options.isPlain === true ? [] : ['--require', 'ts-node/register'];
    const node = [process.execPath, ...(options.execArgv ?? []), ...compiler, ...args];
    const limit = options.addresses;
    const limited =
      limit === undefined ? node : ['sh', '-c', `ulimit -v ${limit} && exec "$0" "$@"`, ...node];
    const child = spawn(limited[0], limited.slice(1), {
      ...options.user,
      cwd: snippetFolder,
      env: childEnvironment(options.env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const result: ChildResult = { code: null, signal: null, stdout: '', stderr: '', timedOut: false };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const before = result.stdout;
      result.stdout += text;
      for (const [awaited, signal] of options.signals ?? [])
        if (!before.includes(awaited) && result.stdout.includes(awaited)) child.kill(signal);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      result.stderr += text;
    });
    const timer = setTimeout(() => {
      result.timedOut = true;
      child.kill('SIGKILL');
    }, options.timeout ?? 120_000);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ ...result, code, signal });
    });
  });
}

/** Without what the test runner tells its own children. */
function childEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, ...extra };
  delete env.NODE_TEST_CONTEXT;
  if (!('NODE_DEBUG' in extra)) delete env.NODE_DEBUG;
  return env;
}
