// The packed package loaded several times in one process, as users come to that: by jest, by two bundles, and in both module systems from different
// folders. What copies must keep apart is tested in full in ../gear/copies.spec.ts.
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { wat } from '../support/wat';
import { binaryPackage } from './support/paths';
import { type Ended, Project } from './support/project';
import { install } from './support/registry';

/** Only for this test, in its project. */
const JEST = 'jest@30.5.2';
const FOLDER = join(__dirname, 'copies');
/** How many tests the files have that jest runs. */
const OF_FILE = 3 * 2;
const OF_RESET = 3;

const project = new Project();
before(async () => {
  await install(project, 'sandbox-host', JEST);
  for (const name of readdirSync(FOLDER)) {
    const source = readFileSync(join(FOLDER, name));
    if (name.endsWith('.wat')) project.write(name.replace('.wat', '.wasm'), wat(source.toString()));
    else project.write(name, source);
  }
  for (const name of ['a', 'b', 'c']) project.write(`${name}.test.js`, "require('./file.cjs');");
  project.write('reset.test.js', "require('./reset.cjs');");
  project.write('jest.config.json', JSON.stringify({ testEnvironment: 'node', transform: {} }));
});
after(() => project.remove());

const run = (script: string): Promise<Ended> => {
  project.write('script.cjs', script);
  return project.run(process.execPath, ['script.cjs']);
};
const isRight = ({ status, stdout, stderr }: Ended): void =>
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: 'right\n', stderr: '' });
const saysRight =
  "then(() => console.log('right'), (error) => { console.error(error); process.exitCode = 1; });";

describe('jest', () => {
  const jest = (...args: string[]): Promise<Ended> =>
    project.run(process.execPath, [join(project.folder, 'node_modules', 'jest', 'bin', 'jest.js'), ...args]);
  const passes = ({ status, stderr }: Ended, tests: number): void => {
    assert.equal(status, 0, stderr);
    assert.match(stderr, new RegExp(`Tests: +${tests} passed, ${tests} total`));
  };

  it('runs several files in one process', async () => {
    passes(await jest('--runInBand', '[abc].test.js'), 3 * OF_FILE);
  });

  it('runs files in processes of its own', async () => {
    passes(await jest('--maxWorkers=2', '[abc].test.js'), 3 * OF_FILE);
  });

  it('runs files in worker threads', async () => {
    passes(await jest('--maxWorkers=2', '--workerThreads', '[abc].test.js'), 3 * OF_FILE);
  });

  it('loads the package again in one file', async () => {
    passes(await jest('--runInBand', 'reset.test.js'), OF_RESET);
  });
});

describe('Copies in different folders', () => {
  const copy = (name: string, folder: string): void =>
    cpSync(join(project.folder, 'node_modules', name), join(project.folder, folder, 'node_modules', name), {
      recursive: true,
    });

  it('of two bundles run their own calls', async () => {
    const bundle = readFileSync(join(project.folder, 'node_modules', 'sandbox-host', 'dist', 'index.cjs'));
    for (const name of ['one', 'two']) project.write(`bundles/${name}.cjs`, bundle);
    const script = `require('./check.cjs')(require('./bundles/one.cjs'), require('./bundles/two.cjs')).${saysRight}`;
    isRight(await run(script));
  });

  it('as an ES module and as CommonJS run their own calls, with one binary', async () => {
    copy('sandbox-host', 'other');
    project.write('other/package.json', '{}');
    const script = `const other = require('node:module').createRequire(require.resolve('./other/package.json'))('sandbox-host');
      import('sandbox-host').then((own) => require('./check.cjs')(own, other)).${saysRight}`;
    isRight(await run(script));
  });

  it('as an ES module and as CommonJS run their own calls, with a binary each', async () => {
    for (const name of ['sandbox-host', binaryPackage()]) copy(name, 'third');
    project.write('third/package.json', '{}');
    project.write('third/entry.mjs', "export * from 'sandbox-host';");
    const script = `import('./third/entry.mjs').then((own) => require('./check.cjs')(own, require('sandbox-host'))).${saysRight}`;
    isRight(await run(script));
  });

  it('run their own calls in worker threads, beside the main thread', async () => {
    copy('sandbox-host', 'other');
    project.write('other/package.json', '{}');
    project.write(
      'pair.cjs',
      `const other = require('node:module').createRequire(require.resolve('./other/package.json'))('sandbox-host');
      module.exports = require('./check.cjs')(require('sandbox-host'), other);`,
    );
    const script = `const { Worker } = require('node:worker_threads');
      const ends = [1, 2].map(() => new Promise((resolve, reject) => {
        new Worker("require('./pair.cjs')", { eval: true }).once('exit', (code) => (code === 0 ? resolve() : reject(code)));
      }));
      Promise.all([...ends, require('./pair.cjs')]).${saysRight}`;
    isRight(await run(script));
  });
});
