// Where things are that more than one of these tests looks at.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(__dirname, '..', '..', '..');
/** Where `npm run pack` puts tarballs. */
export const RELEASE = join(ROOT, 'release');

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly [field: string]: unknown;
}

export function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
}

/** The name of the package that has this machine's binary. */
export function binaryPackage(): string {
  const packed = readdirSync(RELEASE, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name.startsWith('sandbox-host-'))
    .map(({ name }) => name);
  const here = packed.find((name) => name.startsWith(`sandbox-host-${process.platform}-${process.arch}`));
  if (here === undefined)
    throw new Error(`release/ has no binary for this machine, only ${packed.join(', ')}`);
  return here;
}

/** The tarball of a package. */
export function tarballOf(name: string): string {
  return join(RELEASE, `${name}-${readManifest(join(RELEASE, name)).version}.tgz`);
}
