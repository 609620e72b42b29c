// `node scripts/gear-supervisor.mjs [ARGS FOR CARGO…]`: builds crate/support/gear-supervisor for
// WebAssembly and puts it where the tests look for it, in __test__/vectors/gear_supervisor.wasm. Run it
// by hand after a change to that crate. It needs Rust with the target wasm32-unknown-unknown. One
// dependency must be patched; that crate's Cargo.toml says why. The patched copy is made here, from
// cargo's registry, so that the repository contains no code of others.

import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fail, ROOT, run, StepError } from './ensure-built.mjs';

const CRATE = join(ROOT, 'crate', 'support', 'gear-supervisor');
const RESULT = join(ROOT, '__test__', 'vectors', 'gear_supervisor.wasm');
const TARGET = 'wasm32-unknown-unknown';
/** The dependency whose default features must be off. */
const PATCHED = { name: 'gp-runtime-interface', version: '18.0.0' };

/**
 * Everything that is written apart from the result. It is not below `crate/`, because a test reads the
 * Rust files there.
 */
const WORK = join(ROOT, 'target', 'gear-supervisor');
/**
 * The crate is built as a copy with the patched dependency below it: cargo names what it builds in a
 * workspace by its path in there. So the names, and with them the binary, are the same wherever the
 * repository lies.
 */
const WORKSPACE = join(WORK, 'workspace');
const BUILT = join(WORK, 'built');

try {
  rmSync(WORKSPACE, { recursive: true, force: true });
  for (const name of ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src']) {
    cpSync(join(CRATE, name), join(WORKSPACE, name), { recursive: true, preserveTimestamps: true });
  }
  const patch = join(WORKSPACE, PATCHED.name);
  copyWithoutDefaults(publishedSources(), patch);
  await build(patch);
  // Not copied, because cargo's file is executable.
  writeFileSync(RESULT, readFileSync(join(BUILT, TARGET, 'release', 'gear_supervisor.wasm')));
} catch (error) {
  fail(error);
}

/** The folder in cargo's registry with the published dependency. cargo downloads it if it is missing. */
function publishedSources() {
  const { name, version } = PATCHED;
  // This cannot use the crate itself: without the patch it needs other packages than those in its
  // Cargo.lock. So it uses a package that needs only the dependency, in the versions of that file.
  const probe = join(WORK, 'probe');
  mkdirSync(join(probe, 'src'), { recursive: true });
  writeFileSync(join(probe, 'src', 'lib.rs'), '');
  const dependency = `${name} = { version = "=${version}", default-features = false }`;
  const manifest = [
    '[package]',
    'name = "probe"',
    'edition = "2024"',
    '[workspace]',
    '[dependencies]',
    dependency,
  ];
  writeFileSync(join(probe, 'Cargo.toml'), manifest.join('\n'));
  copyFileSync(join(CRATE, 'Cargo.lock'), join(probe, 'Cargo.lock'));
  const args = ['metadata', '--quiet', '--format-version', '1', '--filter-platform', TARGET];
  const { packages } = JSON.parse(output('cargo', args, probe));
  const found = packages.find((each) => each.name === name && each.version === version);
  if (found === undefined) throw new StepError(`\`cargo metadata\` finds no ${name} ${version}.`);
  return dirname(found.manifest_path);
}

/** Copies a published package with its default features off, without what only its own tests need. */
function copyWithoutDefaults(from, to) {
  mkdirSync(to);
  cpSync(join(from, 'src'), join(to, 'src'), { recursive: true, preserveTimestamps: true });
  // cargo wrote this manifest when it published the package, so each table is separate.
  const tables = readFileSync(join(from, 'Cargo.toml'), 'utf8').split(/^(?=\[)/m);
  const manifest = tables.filter((table) => !table.startsWith('[dev-dependencies.')).join('');
  const changed = manifest.replace(/^default = \["std"\]$/m, 'default = []');
  if (changed === manifest) {
    throw new StepError(`${PATCHED.name} ${PATCHED.version} has not the default features ["std"].`);
  }
  // cargo shows the warnings of packages that it builds by path. These are not ours.
  writeFileSync(join(to, 'Cargo.toml'), `${changed}\n[lints.rust]\nunexpected_cfgs = "allow"\n`);
}

/** Builds the crate with the patched dependency. */
async function build(patch) {
  const config = `patch.crates-io.${PATCHED.name}.path=${JSON.stringify(patch)}`;
  const args = ['build', '--release', '--locked', '--target', TARGET, '--config', config];
  const status = await run('cargo', [...args, ...process.argv.slice(2)], {
    cwd: WORKSPACE,
    env: { ...process.env, CARGO_TARGET_DIR: BUILT, CARGO_ENCODED_RUSTFLAGS: rustflags().join('\x1f') },
  });
  if (status === 0) return;
  // Not checked before: the caller may have told cargo to do without.
  const missing = !existsSync(
    output('rustc', ['--print', 'target-libdir', '--target', TARGET], CRATE).trim(),
  );
  throw new StepError(
    missing
      ? `Building crate/support/gear-supervisor failed: Rust's standard library for ${TARGET} is not installed.\n` +
          `Run \`rustup target add ${TARGET}\`, and then this again.`
      : 'Building crate/support/gear-supervisor failed: see above.',
    status,
  );
}

/** The caller's flags, and flags that keep the paths of this machine out of the binary. */
function rustflags() {
  const { CARGO_ENCODED_RUSTFLAGS: encoded, RUSTFLAGS: plain = '' } = process.env;
  const given = encoded === undefined ? plain.split(' ') : encoded.split('\x1f');
  return [...given.filter((flag) => flag !== ''), ...remapFlags([[ROOT, '/sandbox-host']])];
}

/** The output of a program. */
function output(command, args, cwd) {
  const { error, status, stdout } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (error?.code === 'ENOENT') {
    throw new StepError(
      `This needs Rust, and there is no \`${command}\` on PATH. Install it (https://rustup.rs).`,
    );
  }
  if (error !== undefined) throw error;
  if (status !== 0) throw new StepError(`\`${command} ${args.join(' ')}\` failed: see above.`, status ?? 1);
  return stdout;
}
