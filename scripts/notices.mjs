// The licences of everything that is linked into the binary, which must be distributed with it. Texts
// that several crates share are included once.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './ensure-built.mjs';

const LICENCE_FILE = /^(licen[cs]e|copying|copyright|notice|unlicense)/i;

/** The text for a package with the binary. Needs cargo, and the sources that it has downloaded. */
export function thirdPartyNotices() {
  const crates = linkedCrates();
  const users = new Map();
  for (const crate of crates) {
    for (const text of licenceTexts(crate)) users.set(text, [...(users.get(text) ?? []), nameOf(crate)]);
  }
  const rule = '-'.repeat(80);
  return [
    'The binary in this package contains the crates below, each under its own licence. The texts that they come with follow.',
    'Those without a text of their own are under the standard text of the licence that they name.\n',
    ...crates.map((crate) => `${nameOf(crate)}: ${crate.license ?? 'see its text'}${by(crate)}`),
    ...[...users].flatMap(([text, names]) => ['', rule, `${names.join(', ')}:`, '', text]),
    '',
  ].join('\n');
}

/** All packages that the addon depends on when it runs, on any platform, by name. */
function linkedCrates() {
  const { packages, resolve } = JSON.parse(
    execFileSync('cargo', ['metadata', '--format-version', '1', '--locked'], {
      cwd: ROOT,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    }),
  );
  const dependencies = new Map(resolve.nodes.map(({ id, deps }) => [id, deps]));
  const linked = new Set([resolve.root]);
  // Iteration over a set includes items that are added meanwhile.
  for (const id of linked) {
    for (const { pkg, dep_kinds } of dependencies.get(id)) {
      if (dep_kinds.some(({ kind }) => kind === null)) linked.add(pkg);
    }
  }
  linked.delete(resolve.root);
  return packages.filter(({ id }) => linked.has(id)).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

function licenceTexts({ manifest_path }) {
  const folder = dirname(manifest_path);
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name))
    .map(({ name }) => readFileSync(join(folder, name), 'utf8').replaceAll('\r\n', '\n').trim());
}

function nameOf({ name, version }) {
  return `${name} ${version}`;
}

function by({ authors }) {
  return authors.length === 0 ? '' : `, by ${authors.join(', ')}`;
}
