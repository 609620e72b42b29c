/**
 * A registry on this machine that has our packages as they are packed, so that `npm install sandbox-host` does what it will do for users, choice of
 * the platform's package included. Of the platforms that are not packed it knows the manifests, which is all that npm may ask for. For other packages it points
 * to the real registry.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Manifest, RELEASE, ROOT, readManifest, tarballOf } from './paths';
import type { Project } from './project';

export interface Registry {
  readonly url: string;
  /** The tarballs of ours that somebody has fetched, by package name. */
  readonly fetched: readonly string[];
  close(): void;
}

export async function startRegistry(): Promise<Registry> {
  const { stdout } = await promisify(execFile)('npm', ['config', 'get', 'registry'], {
    shell: process.platform === 'win32',
  });
  const real = stdout.trim();
  const manifests = ourManifests();
  const fetched: string[] = [];
  const server = createServer((request, response) => {
    const [name = '', ...rest] = decodeURIComponent(request.url!.slice(1)).split('/');
    const manifest = manifests.get(name);
    if (manifest === undefined) {
      response.writeHead(307, { location: new URL(request.url!.slice(1), real).href }).end();
    } else if (rest.length === 0) {
      response.end(JSON.stringify(packument(manifest)));
    } else {
      fetched.push(name);
      if (existsSync(join(RELEASE, name))) response.end(readFileSync(tarballOf(name)));
      else response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    fetched,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };

  /** What a registry tells of a package that has one version. */
  function packument({ name, version, ...others }: Manifest): object {
    const packed = existsSync(join(RELEASE, name)) ? readFileSync(tarballOf(name)) : Buffer.alloc(0);
    const dist = {
      tarball: `${url}/${name}/-/${name}-${version}.tgz`,
      integrity: `sha512-${createHash('sha512').update(packed).digest('base64')}`,
    };
    return {
      name,
      'dist-tags': { latest: version },
      versions: { [version]: { name, version, ...others, dist } },
    };
  }
}

/** Installs packages into a project, from a registry that is there for so long. */
export async function install(project: Project, ...args: string[]): Promise<void> {
  const registry = await startRegistry();
  try {
    const { status, stderr } = await project.npm(['install', ...args], registry.url);
    assert.equal(status, 0, stderr);
  } finally {
    registry.close();
  }
}

function ourManifests(): Map<string, Manifest> {
  const platforms = readdirSync(join(ROOT, 'npm')).map((platform) =>
    readManifest(join(ROOT, 'npm', platform)),
  );
  const main = readManifest(join(RELEASE, 'sandbox-host'));
  return new Map([main, ...platforms].map((manifest) => [manifest.name, manifest]));
}
