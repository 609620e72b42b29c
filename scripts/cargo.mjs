// `npm run cargo -- ARGUMENTS…`: runs cargo the way all scripts do. The flags keep the machine's paths
// out of binaries (a panic message contains its source file). They are the same for the addon and the
// tests, because otherwise cargo would compile the engines once for each.

import { execFileSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail, ROOT, run } from './ensure-built.mjs';

/** The environment for cargo. Needs rustc on PATH. */
export function cargoEnvironment() {
  const { RUSTFLAGS: given = '', CARGO_TARGET_DIR = join(ROOT, 'target') } = process.env;
  const added = remapFlags([[CARGO_TARGET_DIR, '/target']])
    // RUSTFLAGS is separated by spaces. The other variable is not, but it would hide what napi's command
    // adds to this one.
    .filter((flag) => !/\s/.test(flag) && !given.includes(flag));
  return { ...process.env, RUSTFLAGS: [given, ...added].filter((flags) => flags !== '').join(' ') };
}

/**
 * The flags that replace folders of this machine by names: those of cargo and of Rust. The repository is
 * not one of them, because cargo names its files relative to it; so clones can share what is built.
 *
 * @param {[path: string, name: string][]} [others] - further folders and their names
 */
export function remapFlags(others = []) {
  const sysroot = execFileSync('rustc', ['--print', 'sysroot'], { cwd: ROOT, encoding: 'utf8' }).trim();
  const cargoHome = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const folders = [...others, [cargoHome, '/cargo'], [sysroot, '/rust']];
  return folders.map(([path, name]) => `--remap-path-prefix=${path}=${name}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = await run('cargo', process.argv.slice(2), { env: cargoEnvironment() });
  } catch (error) {
    fail(error);
  }
}
