// A child process that is told what to do, one thing after another, and is started again if it ended: for tests each of which might
// end it, of which there are too many for a process each.
import { type ChildProcess, fork } from 'node:child_process';

const MOST_STDERR = 2000;

export class WorkerProcess {
  readonly #file: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;
  /** The end of what it wrote to stderr. */
  #stderr = '';

  /** Of a TypeScript file that answers each message with one. */
  constructor(file: string, ...args: readonly string[]) {
    this.#file = file;
    this.#args = args;
  }

  /** What it answers. Rejects if it ends before, or takes too long. */
  ask(message: object | number, timeout = 60_000): Promise<unknown> {
    this.#child ??= this.#start();
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const answered = (answer: unknown): void => {
        child.off('exit', exited);
        clearTimeout(timer);
        resolve(answer);
      };
      const exited = (code: number | null, signal: NodeJS.Signals | null): void => {
        child.off('message', answered);
        clearTimeout(timer);
        if (this.#child === child) this.#child = undefined;
        reject(new Error(`the process ended: ${signal ?? `exit status ${code}`}\n${this.#stderr}`));
      };
      const timer = setTimeout(() => child.kill('SIGKILL'), timeout);
      child.once('message', answered);
      child.once('exit', exited);
      child.send(message);
    });
  }

  /** Lets it end. */
  end(): void {
    this.#child?.disconnect();
    this.#child = undefined;
  }

  #start(): ChildProcess {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = fork(this.#file, [...this.#args], {
      execArgv: ['--require', 'ts-node/register'],
      // Bytes go through.
      serialization: 'advanced',
      silent: true,
      env,
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MOST_STDERR);
    });
    return child;
  }
}
