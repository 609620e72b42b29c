// An empty project outside of the repository, on a PATH that has Node and nothing else.
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';

export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Project {
  readonly folder: string;
  /** Node, and a shell for npm to start scripts with, if there were any. */
  readonly #path: string;

  constructor() {
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), 'sandbox-host-project-')));
    this.#path = join(this.folder, '.path');
    mkdirSync(this.#path);
    if (process.platform !== 'win32') {
      symlinkSync(process.execPath, join(this.#path, 'node'));
      symlinkSync('/bin/sh', join(this.#path, 'sh'));
    }
    this.write('package.json', JSON.stringify({ name: 'project', version: '1.0.0', private: true }));
  }

  write(name: string, text: string | Uint8Array): void {
    const path = join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs a program in the project, on a PATH without anything that could build an addon. */
  async run(program: string, args: readonly string[]): Promise<Ended> {
    const path =
      process.platform === 'win32'
        ? `${dirname(process.execPath)}${delimiter}C:\\Windows\\System32`
        : this.#path;
    const options = {
      cwd: this.folder,
      env: { ...withoutNpm(process.env), PATH: path, Path: path },
      maxBuffer: 2 ** 26,
      timeout: 300_000,
    };
    try {
      return { status: 0, ...(await promisify(execFile)(program, args, options)) };
    } catch (error) {
      const { code, stdout, stderr, signal } = error as Ended & { code: unknown; signal?: string };
      if (typeof code === 'number') return { status: code, stdout, stderr };
      if (signal) return { status: -1, stdout, stderr: `${stderr}\nended by ${signal}` };
      throw error;
    }
  }

  async npm(args: readonly string[], registry: string): Promise<Ended> {
    const common = [
      '--registry',
      registry,
      '--cache',
      join(this.folder, '.npm'),
      '--no-audit',
      '--no-fund',
      '--foreground-scripts',
    ];
    return this.run(process.execPath, [npmScript(), ...args, ...common]);
  }
}

/** npm's own script, which can be run without npm on PATH. */
function npmScript(): string {
  const home = dirname(dirname(realpathSync(process.execPath)));
  const candidates = [
    process.env.npm_execpath ?? '',
    join(home, 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  ];
  const found = candidates.find((path) => path.endsWith('.js') && existsSync(path));
  if (found === undefined) throw new Error(`npm is in none of ${candidates.join(', ')}`);
  return found;
}

/** Without what an npm around this test tells the programs that it starts. */
function withoutNpm(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(npm_|NODE_OPTIONS$|NODE_TEST_CONTEXT$|PATH$)/i.test(name)),
  );
}
