// `npm run pack [-- --all]`: packs the packages to publish as tarballs in release/: sandbox-host itself,
// and one for each platform whose binary is in native/; `--all` requires all of them. This script
// defines the contents of a tarball: its manifest has no scripts, and no dependencies except the
// binaries, in exactly its own version.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fail, npm, ROOT, StepError } from './ensure-built.mjs';
import { thirdPartyNotices } from './notices.mjs';

const RELEASE = join(ROOT, 'release');
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const platforms = readdirSync(join(ROOT, 'npm'));

try {
  const found = platforms.filter((platform) => existsSync(join(ROOT, binaryOf(platform))));
  const missing = platforms.filter((platform) => !found.includes(platform));
  if (found.length === 0 || (process.argv.includes('--all') && missing.length > 0)) {
    throw new StepError(`native/ has no binary for ${missing.join(', ')}.`);
  }
  rmSync(RELEASE, { recursive: true, force: true });
  const notices = thirdPartyNotices();
  for (const platform of found) await packPlatform(platform, notices);
  await packMain();
} catch (error) {
  fail(error);
}

async function packMain() {
  const { name, version, description, keywords, license, type, main, types, exports, engines, sideEffects } =
    manifest;
  await pack(
    name,
    {
      ...{ name, version, description, keywords, license, ...repository() },
      ...{ type, main, types, exports, engines, sideEffects },
      optionalDependencies: Object.fromEntries(platforms.map((platform) => [`${name}-${platform}`, version])),
    },
    [
      ...readdirSync(join(ROOT, 'dist')).map((file) => join('dist', file)),
      'README.md',
      'CHANGELOG.md',
      'SECURITY.md',
    ],
  );
}

async function packPlatform(platform, notices) {
  const folder = join('npm', platform);
  // The contents of the folder that is created for a package are what is packed.
  const { files: _, ...own } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
  await pack(own.name, { ...own, ...repository() }, [join(folder, 'README.md'), binaryOf(platform)], {
    'THIRD-PARTY-NOTICES.txt': notices,
  });
}

/**
 * Lays out a package in a folder of its own, and packs it.
 *
 * @param {string[]} files - in the repository; those in dist/ stay in that folder, all others are moved
 *   to the top
 * @param {Record<string, string>} [written] - texts by their file names
 */
async function pack(name, packed, files, written = {}) {
  const folder = join(RELEASE, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(packed, undefined, 2)}\n`);
  for (const file of ['LICENSE', ...files]) {
    const copy = join(folder, dirname(file) === 'dist' ? file : basename(file));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(join(ROOT, file), copy);
  }
  for (const [file, text] of Object.entries(written)) writeFileSync(join(folder, file), text);
  const status = await npm(['pack', folder, '--pack-destination', RELEASE, '--loglevel=error']);
  if (status !== 0) throw new StepError(`Packing ${name} failed: see above.`, status);
}

/** The path of a platform's binary in the repository. */
function binaryOf(platform) {
  return join('native', `${manifest.napi.binaryName}.${platform}.node`);
}

/**
 * The origin of the package, against which the provenance of a published package is checked. It is known
 * where the package is published.
 */
function repository() {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
  if (GITHUB_REPOSITORY === undefined) return {};
  const url = `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`;
  return {
    repository: { type: 'git', url: `git+${url}.git` },
    homepage: `${url}#readme`,
    bugs: `${url}/issues`,
  };
}
