// `npm install sandbox-host` as users do it, from a registry on this machine, without Rust on PATH.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { binaryPackage } from './support/paths';
import { Project } from './support/project';
import { type Registry, startRegistry } from './support/registry';

let registry: Registry;
before(async () => {
  registry = await startRegistry();
});
after(() => registry.close());

describe('npm install sandbox-host', () => {
  let project: Project;
  beforeEach(() => {
    project = new Project();
  });
  afterEach(() => project.remove());
  const installed = () =>
    readdirSync(join(project.folder, 'node_modules')).filter((name) => !name.startsWith('.'));
  const load = () => project.run(process.execPath, ['-p', "require('sandbox-host').SandboxBackend.Wasmi"]);

  it('finds no cargo and no compiler on its way', async () => {
    for (const program of ['cargo', 'rustc', 'cc', 'make', 'python3']) {
      const found = await project.run(process.execPath, [
        '-p',
        `require('node:child_process').spawnSync(${JSON.stringify(program)}, ['--version']).error?.code`,
      ]);
      assert.equal(found.stdout.trim(), 'ENOENT', program);
    }
  });

  it("brings the package and this machine's binary, of all eight, and runs no script", async () => {
    const before = registry.fetched.length;
    const { status, stdout, stderr } = await project.npm(['install', 'sandbox-host'], registry.url);
    assert.equal(status, 0, stderr);
    assert.deepEqual(installed(), ['sandbox-host', binaryPackage()]);
    assert.deepEqual(registry.fetched.slice(before).sort(), ['sandbox-host', binaryPackage()]);
    // npm announces each script that it runs by a line of this form.
    assert.doesNotMatch(stdout, /^> /m);
    assert.equal((await load()).stdout, 'wasmi\n');
  });

  it('works again from its lockfile, by npm ci', async () => {
    assert.equal((await project.npm(['install', 'sandbox-host'], registry.url)).status, 0);
    rmSync(join(project.folder, 'node_modules'), { recursive: true });
    const { status, stderr } = await project.npm(['ci'], registry.url);
    assert.equal(status, 0, stderr);
    assert.equal((await load()).stdout, 'wasmi\n');
  });

  it('without optional dependencies leaves a package that says which one is missing', async () => {
    const { status, stderr } = await project.npm(
      ['install', 'sandbox-host', '--omit=optional'],
      registry.url,
    );
    assert.equal(status, 0, stderr);
    assert.deepEqual(installed(), ['sandbox-host']);
    const loaded = await load();
    assert.equal(loaded.status, 1);
    assert.match(
      loaded.stderr,
      new RegExp(`sandbox-host cannot start: the package ${binaryPackage()}, which has the binary`),
    );
    assert.match(loaded.stderr, /--omit=optional/);
  });

  it('for another platform leaves a package that says which one is missing here', async () => {
    const other = process.platform === 'darwin' ? 'linux' : 'darwin';
    const { status } = await project.npm(
      ['install', 'sandbox-host', `--os=${other}`, '--cpu=arm64'],
      registry.url,
    );
    // Its binary is not packed here, and an optional dependency that cannot be had is left out.
    assert.equal(status, 0);
    assert.ok(!existsSync(join(project.folder, 'node_modules', binaryPackage())));
    assert.match((await load()).stderr, new RegExp(`the package ${binaryPackage()}, which has the binary`));
  });

  it('with a damaged binary leaves a package that says so', async () => {
    assert.equal((await project.npm(['install', 'sandbox-host'], registry.url)).status, 0);
    const folder = join(project.folder, 'node_modules', binaryPackage());
    const binary = readdirSync(folder).find((name) => name.endsWith('.node'))!;
    writeFileSync(join(folder, binary), 'not a binary');
    const { status, stderr } = await load();
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`sandbox-host cannot start: ${binaryPackage()} cannot be loaded on`));
  });
});
