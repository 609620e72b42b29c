// What is in the packed packages, looked at as a registry and a reviewer would.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { binaryPackage, type Manifest, RELEASE, ROOT, readManifest, tarballOf } from './support/paths';

const main = readManifest(join(RELEASE, 'sandbox-host'));
const binaryName = binaryPackage();
const binary = readManifest(join(RELEASE, binaryName));
const binaryFile = join(RELEASE, binaryName, binary.main as string);

function filesIn(name: string): string[] {
  const list = execFileSync('tar', ['-tzf', tarballOf(name)], { encoding: 'utf8' });
  return list
    .trim()
    .split('\n')
    .map((path) => path.replace(/^package\//, ''))
    .sort();
}

/** Runs the command of a package that is installed here. */
function tool(packageName: string, args: readonly string[]): string {
  const folder = join(ROOT, 'node_modules', packageName);
  const { bin } = readManifest(folder) as Manifest & { bin: string | Record<string, string> };
  const script = join(folder, typeof bin === 'string' ? bin : Object.values(bin)[0]!);
  try {
    return execFileSync(process.execPath, [script, ...args], { encoding: 'utf8', cwd: ROOT });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${packageName} is not content:\n${stdout}${stderr}`);
  }
}

describe('The packed package', () => {
  it('has what users need, and nothing else', () => {
    assert.deepEqual(filesIn('sandbox-host'), [
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'SECURITY.md',
      'dist/bridge.cjs',
      'dist/index.cjs',
      'dist/index.d.cts',
      'dist/index.d.mts',
      'dist/index.mjs',
      'package.json',
    ]);
  });

  it('runs no script and depends on nothing but the binaries, in exactly its own version', () => {
    for (const field of [
      'scripts',
      'dependencies',
      'devDependencies',
      'peerDependencies',
      'private',
      'napi',
    ]) {
      assert.equal(main[field], undefined, field);
    }
    const platforms = readdirSync(join(ROOT, 'npm'));
    assert.equal(platforms.length, 8);
    assert.deepEqual(
      main.optionalDependencies,
      Object.fromEntries(platforms.map((platform) => [`sandbox-host-${platform}`, main.version])),
    );
  });

  it('has a licence and says which Node it needs', () => {
    assert.equal(main.license, 'GPL-3.0-or-later WITH Classpath-exception-2.0');
    assert.deepEqual(main.engines, { node: '>=20' });
    assert.equal(main.sideEffects, false);
  });

  it('satisfies publint', () => {
    tool('publint', ['run', tarballOf('sandbox-host'), '--strict']);
  });

  it('has types that are right for every module resolution', () => {
    tool('@arethetypeswrong/cli', [tarballOf('sandbox-host'), '--format', 'ascii']);
  });
});

describe('The packed binary', () => {
  it('comes with its licences and nothing else', () => {
    assert.deepEqual(filesIn(binaryName), [
      'LICENSE',
      'README.md',
      'THIRD-PARTY-NOTICES.txt',
      'package.json',
      binary.main as string,
    ]);
  });

  it('is for one platform, says which, and runs no script', () => {
    assert.deepEqual([binary.os, binary.cpu], [[process.platform], [process.arch]]);
    assert.equal(binary.scripts, undefined);
    assert.equal(binary.version, main.version);
    assert.equal(binary.license, main.license);
    assert.deepEqual(binary.engines, main.engines);
  });

  it('names the licence of each crate in it', () => {
    const notices = readFileSync(join(RELEASE, binaryName, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
    for (const crate of ['wasmi 2.0.0: MIT/Apache-2.0', 'wasmer 7.4.2: MIT', 'napi 3.']) {
      assert.ok(notices.includes(`\n${crate}`), crate);
    }
    assert.match(notices, /Permission is hereby granted, free of charge/);
    assert.match(notices, /Apache License\s+Version 2\.0/);
    assert.doesNotMatch(notices, /BUSL|Business Source/);
  });

  it('is smaller than 20 MB', () => {
    const { size } = statSync(binaryFile);
    assert.ok(size < 20e6, `${size} bytes`);
  });

  it('names no folder of the machine that built it', () => {
    const bytes = readFileSync(binaryFile);
    for (const folder of [ROOT, homedir(), process.env.CARGO_HOME, process.env.CARGO_TARGET_DIR]) {
      if (folder !== undefined) assert.equal(bytes.indexOf(`${folder}/`), -1, folder);
    }
  });

  it('is stripped', { skip: process.platform !== 'linux' && 'only ELF files are looked at' }, () => {
    const names = sectionNames(readFileSync(binaryFile));
    assert.ok(names.includes('.text') && names.includes('.dynsym'), names.join(' '));
    assert.deepEqual(
      names.filter((name) => name === '.symtab' || name.startsWith('.debug')),
      [],
    );
  });
});

/** The names of an ELF file's sections. */
function sectionNames(file: Buffer): string[] {
  assert.equal(file.toString('latin1', 0, 4), '\x7fELF');
  const [table, size, count, names] = [
    Number(file.readBigUInt64LE(0x28)),
    file.readUInt16LE(0x3a),
    file.readUInt16LE(0x3c),
    file.readUInt16LE(0x3e),
  ];
  const start = Number(file.readBigUInt64LE(table + names * size + 0x18));
  return Array.from({ length: count }, (_, index) => {
    const name = start + file.readUInt32LE(table + index * size);
    return file.toString('latin1', name, file.indexOf(0, name));
  });
}
