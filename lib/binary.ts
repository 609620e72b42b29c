/** Finds the native binary for this machine: the one built in `native/`, or the platform package that npm installed. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The platforms that binaries are made for, as `<platform>-<arch>` of Node and the name's ending. */
const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64-gnu': 'linux-x64-gnu',
  'linux-arm64-gnu': 'linux-arm64-gnu',
  'linux-x64-musl': 'linux-x64-musl',
  'linux-arm64-musl': 'linux-arm64-musl',
  'darwin-x64': 'darwin-x64',
  'darwin-arm64': 'darwin-arm64',
  'win32-x64': 'win32-x64-msvc',
  'win32-arm64': 'win32-arm64-msvc',
};

/** Loads the addon. Throws an error that names the platform, the missing package and the remedy. */
export function loadBinary(): unknown {
  const name = platformName();
  const triple = PLATFORMS[name];
  if (triple === undefined) {
    throw new Error(`sandbox-host has no binary for ${name}; it can be built from its repository with Rust`);
  }
  // From `lib/` under ts-node, or from `dist/lib/`.
  const built = ['..', '../..']
    .map((up) => join(__dirname, up, 'native', `sandbox-host.${triple}.node`))
    .find(existsSync);
  if (built !== undefined) return require(built);
  const packageName = `sandbox-host-${triple}`;
  try {
    return require(packageName);
  } catch (cause) {
    throw new Error(
      `sandbox-host cannot load its binary for ${name}: the optional dependency ${packageName} is missing or broken. ` +
        'Install again without --omit=optional (or --no-optional) and on the machine that will run it; ' +
        'in a clone of the repository run `npm run build`',
      { cause },
    );
  }
}

function platformName(): string {
  const base = `${process.platform}-${process.arch}`;
  return process.platform === 'linux' ? `${base}-${isMusl() ? 'musl' : 'gnu'}` : base;
}

function isMusl(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime === undefined;
}
