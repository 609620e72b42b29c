// `npm run pack [-- --all]`: the packages as they are published, as tarballs in release/: sandbox-host itself, and one for each platform
// whose binary is in native/; `--all` asks for all of them. What a tarball has stands here: its manifest has no scripts, and no dependencies
// but the binaries, in exactly its own version.

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
  // What is packed is what lies in the folder that is made for it.
  const { files: _, ...own } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
  await pack(own.name, { ...own, ...repository() }, [join(folder, 'README.md'), binaryOf(platform)], {
    'THIRD-PARTY-NOTICES.txt': notices,
  });
}

/**
 * Lays a package out in a folder of its own, and packs that.
 *
 * @param {string[]} files - in the repository; those in dist/ stay in that folder, all others come to the top
 * @param {Record<string, string>} [written] - texts by the names of their files
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

/** In the repository. */
function binaryOf(platform) {
  return join('native', `${manifest.napi.binaryName}.${platform}.node`);
}

/** Where the package comes from, which the provenance of a published one is checked against. Known where it is published. */
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
