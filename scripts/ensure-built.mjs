// Makes sure that the packages are installed, and that the native addon and dist/ are built and not
// older than their sources. Used by `npm run demo` and `npm test`, and as a command. It needs only Node
// and npm, since it runs before anything is installed. It only knows when `npm run build` must run
// again, not what that does.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { constants, homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

/** The root of the repository, whatever the current directory is. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * A step that failed for a reason that has already been explained; only the message is worth printing.
 */
export class StepError extends Error {
  /** @param {string} message @param {number} [status] - the status that the process should exit with */
  constructor(message, status = 1) {
    super(message);
    this.status = status;
  }
}

/**
 * Installs and builds what is missing or out of date. Progress goes to stderr; nothing is printed if all
 * is done.
 */
export async function ensureBuilt() {
  await ensureInstalled();
  if (!isBuilt()) await build();
  if (!isBundled()) await bundle();
}

/** Installs the npm packages if they are missing or out of date. */
export async function ensureInstalled() {
  if (!isInstalled()) await install();
}

/**
 * Runs a command of the repository with this process's streams and waits for its end.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * void} [started] ~> @param {(child: import('node:child_process').ChildProcess) => void} [started]
 * @returns {Promise<number>} its exit status, or 128 and the signal's number if a signal ended it
 */
export function run(command, args, options = {}, started = () => {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
    // A terminal sends Ctrl-C to the child as well; other senders signal only this process. Either way,
    // this process waits for the child, so that no output comes after it is gone, and then does nothing
    // more.
    let stopped;
    const stop = (signal) => {
      stopped = signal;
      child.kill(signal);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, stop);
    const settle = (settled, value) => {
      for (const signal of signals) process.off(signal, stop);
      if (stopped) process.exit(128 + constants.signals[stopped]);
      settled(value);
    };
    child.on('error', (error) => settle(reject, error));
    child.on('close', (status, signal) => settle(resolve, status ?? 128 + constants.signals[signal]));
    started(child);
  });
}

/**
 * Ends this process as a script should: with the message of a {@link StepError}, or with the stack of a
 * bug.
 */
export function fail(error) {
  console.error(error instanceof StepError ? error.message : error);
  process.exit(error instanceof StepError ? error.status : 1);
}

// npm

function isInstalled() {
  const installed = join(ROOT, 'node_modules', '.package-lock.json');
  const wanted = join(ROOT, 'package-lock.json');
  if (!existsSync(installed)) return false;
  // npm writes both files at once, and git touches files that it does not change: a newer time alone
  // means little.
  return modified(wanted) <= modified(installed) || holdsSamePackages(installed, wanted);
}

function holdsSamePackages(installed, wanted) {
  const packagesOf = (file) => JSON.parse(readFileSync(file, 'utf8')).packages ?? {};
  const there = packagesOf(installed);
  const asked = packagesOf(wanted);
  return Object.entries(asked).every(
    ([path, { version, optional }]) =>
      path === '' || there[path]?.version === version || (optional && !there[path]),
  );
}

async function install() {
  console.error('Installing npm packages …');
  const status = await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  if (status !== 0) throw new StepError('`npm ci` failed: see above.', status);
}

/**
 * npm is a `.cmd` file on Windows, which only a shell can start. Below npm itself, there is a path to
 * its script.
 */
export function npm(args, options, started) {
  const script = process.env.npm_execpath;
  if (script?.endsWith('.js')) return run(process.execPath, [script, ...args], options, started);
  return run('npm', args, { shell: process.platform === 'win32', ...options }, started);
}

// The addon

const NATIVE = join(ROOT, 'native');
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'crate'];
/** Folders of `crate/` that are not part of the addon. */
const TESTS = ['tests', 'support'].map((name) => join(ROOT, 'crate', name));

function addons() {
  if (!existsSync(NATIVE)) return [];
  return readdirSync(NATIVE)
    .filter((name) => name.endsWith('.node'))
    .map((name) => join(NATIVE, name));
}

function isBuilt() {
  const built = Math.max(0, ...addons().map(modified));
  return SOURCES.every((name) => newest(join(ROOT, name)) <= built);
}

/** The sources of dist/. */
const BUNDLED = [
  'index.ts',
  'lib',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'api-extractor.json',
  'scripts/build.mjs',
];

function isBundled() {
  // The build writes this file last.
  const bundle = join(ROOT, 'dist', 'index.d.mts');
  return existsSync(bundle) && BUNDLED.every((name) => newest(join(ROOT, name)) <= modified(bundle));
}

async function bundle() {
  console.error('Bundling dist/ …');
  const status = await npm(['run', '--silent', 'build', 'js']);
  if (status !== 0) throw new StepError('Bundling failed: see above.', status);
}

/** The time of the latest change to a file, or to anything in a folder. */
function newest(path) {
  if (!existsSync(path) || TESTS.includes(path)) return 0;
  if (!statSync(path).isDirectory()) return modified(path);
  return Math.max(modified(path), ...readdirSync(path).map((name) => newest(join(path, name))));
}

function modified(path) {
  return statSync(path).mtimeMs;
}

async function build() {
  requireCargo();
  const first = addons().length === 0;
  console.error(
    first
      ? 'Building the native addon. The first build compiles two WebAssembly engines: about 10 minutes.'
      : 'Building the native addon: its sources have changed.',
  );
  const started = new Date();
  const output = [];
  const progress = new Progress();
  const status = await npm(['run', 'build', 'native'], { stdio: ['ignore', 'pipe', 'pipe'] }, (child) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output.push(text);
        progress.see(text);
      });
    }
  }).finally(() => progress.end());
  if (status !== 0) {
    console.error(output.join(''));
    throw new StepError(`Building the addon failed after ${progress.elapsed()}: see above.`, status);
  }
  if (addons().length === 0) throw new StepError('`npm run build native` left no addon in native/.');
  // A source that was saved during the build is newer than this time and is built next time. A source
  // whose change made no difference, so that cargo wrote nothing, is not built again forever.
  for (const file of addons()) utimesSync(file, started, started);
  console.error(`Built in ${progress.elapsed()}.`);
}

function requireCargo() {
  const names = process.platform === 'win32' ? ['cargo.exe'] : ['cargo'];
  const has = (folder) => folder !== '' && names.some((name) => existsSync(join(folder, name)));
  if ((process.env.PATH ?? '').split(delimiter).some(has)) return;
  const home = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin');
  throw new StepError(
    has(home)
      ? `Building the native addon needs \`cargo\`, which is in ${home} but not on PATH. Add that folder to PATH.`
      : 'Building the native addon needs Rust, and there is no `cargo` on PATH.\n' +
          'Install Rust (https://rustup.rs), open a new terminal, and run this again.',
  );
}

/**
 * One line that shows how long the build has taken and what it is compiling. On a terminal it is
 * rewritten in place.
 */
class Progress {
  #started = Date.now();
  #crate = '';
  #partial = '';
  #timer;
  #inPlace = Boolean(process.stderr.isTTY) && process.env.TERM !== 'dumb';

  constructor() {
    this.#timer = setInterval(() => this.#show(), this.#inPlace ? 500 : 30_000);
  }

  /**
   * Reads a piece of the build's output. The current crate is the last one that cargo says it compiles.
   */
  see(text) {
    const lines = (this.#partial + text).split('\n');
    this.#partial = lines.pop() ?? '';
    for (const line of lines) {
      const [, crate] = /^\s*Compiling (\S+ v\S+)/.exec(stripVTControlCharacters(line)) ?? [];
      if (crate !== undefined) this.#crate = crate;
    }
  }

  elapsed() {
    const seconds = Math.round((Date.now() - this.#started) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} min`;
  }

  end() {
    clearInterval(this.#timer);
    if (this.#inPlace) process.stderr.write('\r\x1b[K');
  }

  #show() {
    const line = `  building, ${this.elapsed()}${this.#crate && `, ${this.#crate}`}`;
    if (!this.#inPlace) return console.error(line);
    // A line longer than the terminal's width would wrap, and `\r` only returns to the start of its last
    // row.
    process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await ensureBuilt().catch(fail);
  console.error('All is up to date.');
}
