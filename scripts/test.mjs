// `npm test`: installs and builds what is missing, then type-checks, runs the Rust tests without napi,
// and runs every __test__/**/*.spec.ts with node:test, except __test__/package and the specs that take
// longest or exhaust the system, *.long.spec.ts. `npm run test:long` runs the latter. `npm run test:package`
// builds the site of the docs, packs the packages to publish, and runs __test__/package. Each step runs
// even if a previous one failed. Any failure, or a runner that ran no test, makes the exit status
// non-zero. The last lines sum up what ran; the reader in .ci/run relies on them.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cargoEnvironment } from './cargo.mjs';
import { ensureBuilt, fail, ROOT, run, StepError } from './ensure-built.mjs';

/**
 * @typedef {object} Outcome
 * @property {boolean} ok
 * @property {string} says - the runner's closing line, or why it did not run
 * @property {number} [passed]
 * @property {number} [failed]
 */

/** @type {[name: string, step: () => Promise<Outcome>][]} */
const QUICK = [
  ['types', checkTypes],
  ['rust', testRust],
  ['node', () => testNode((name) => !isOfPackage(name) && !isLong(name))],
];
/** @type {typeof QUICK} */
const LONG = [['long', () => testNode((name) => !isOfPackage(name) && isLong(name))]];
/** @type {typeof QUICK} */
const PACKAGE = [
  ['docs', () => script('docs', 'docs/api has the site, and its links lead somewhere')],
  ['pack', () => script('pack', 'release/ has the tarballs')],
  ['package', () => testNode(isOfPackage)],
];
const isOfPackage = (name) => name.startsWith(join('__test__', 'package'));
const isLong = (name) => name.endsWith('.long.spec.ts');

/** What `npm run test…` runs, by the word that follows the script. */
const STEPS = new Map([
  [undefined, QUICK],
  ['long', LONG],
  ['package', PACKAGE],
]);

try {
  const steps = STEPS.get(process.argv[2]);
  if (steps === undefined)
    throw new StepError(`test.mjs: there are no tests ${process.argv[2]}; there are long and package.`);
  await ensureBuilt();
  const outcomes = [];
  for (const [name, step] of steps) {
    console.log(`\n=== ${name} ===`);
    const started = Date.now();
    const outcome = await step();
    outcomes.push({ name, seconds: Math.round((Date.now() - started) / 1000), ...outcome });
  }
  sumUp(outcomes);
} catch (error) {
  fail(error);
}

/** @returns {Promise<Outcome>} */
async function checkTypes() {
  const status = await run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit']);
  return { ok: status === 0, says: status === 0 ? 'tsc: no errors' : `tsc: exit status ${status}` };
}

/** @param {string} name @param {string} says - if it is content @returns {Promise<Outcome>} */
async function script(name, says) {
  const status = await run(process.execPath, [join('scripts', `${name}.mjs`)]);
  return { ok: status === 0, says: status === 0 ? says : `exit status ${status}` };
}

/** @returns {Promise<Outcome>} */
async function testRust() {
  let output = '';
  const target = hostTarget();
  const cargoTest = (...args) =>
    run(
      'cargo',
      // The target is named, as in the addon's build, so that the engines are compiled once for both.
      ['test', '--release', '--target', target, ...args],
      { stdio: ['inherit', 'pipe', 'inherit'], env: cargoEnvironment() },
      (child) => {
        child.stdout?.setEncoding('utf8').on('data', (text) => {
          output += text;
          process.stdout.write(text);
        });
      },
    );
  const core = await cargoTest('--no-default-features');
  const vectors = await cargoTest('--package', 'scale-vectors');
  const spec = await cargoTest('--package', 'spec-suite');
  const model = await cargoTest('--package', 'handover-model');
  const status = core || vectors || spec || model;
  // One line for each test binary, and one for the doc tests.
  const results = [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)];
  const [passed, failed, ignored] = [1, 2, 3].map((group) =>
    results.reduce((sum, result) => sum + Number(result[group]), 0),
  );
  const ok = status === 0 && passed > 0;
  return {
    ok,
    passed,
    failed,
    says: `test result: ${ok ? 'ok' : 'FAILED'}. ${passed} passed; ${failed} failed; ${ignored} ignored${why(status, passed + failed)}`,
  };
}

/** The machine's target triple, from rustc. */
function hostTarget() {
  const version = execFileSync('rustc', ['-vV'], { encoding: 'utf8' });
  const host = /^host: (\S+)$/m.exec(version)?.[1];
  if (host === undefined) throw new StepError(`rustc -vV names no host:\n${version}`);
  return host;
}

/** @param {(spec: string) => boolean} wanted @returns {Promise<Outcome>} */
async function testNode(wanted) {
  const files = specs().filter(wanted);
  if (files.length === 0) return { ok: false, says: 'no such __test__/**/*.spec.ts' };
  // People read the first reporter and this script the second one, so counts need not be found in
  // coloured text.
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-host-test-'));
  const tap = join(folder, 'tap');
  try {
    const status = await run(process.execPath, [
      '--require=ts-node/register',
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      '--test-reporter=tap',
      `--test-reporter-destination=${tap}`,
      '--test',
      ...files,
    ]);
    const report = readFileSync(tap, 'utf8');
    // The report also contains what tests print, so the last such line is the runner's.
    const count = (what) =>
      Number([...report.matchAll(new RegExp(`^# ${what} (\\d+)$`, 'gm'))].at(-1)?.[1] ?? 0);
    const [tests, passed, failed] = [count('tests'), count('pass'), count('fail') + count('cancelled')];
    return {
      ok: status === 0 && passed > 0,
      passed,
      failed,
      says: `# tests ${tests} # pass ${passed} # fail ${failed}${why(status, tests)}`,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function specs() {
  return readdirSync(join(ROOT, '__test__'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.spec.ts'))
    .map((name) => join('__test__', name))
    .sort();
}

function why(status, tests) {
  if (tests === 0) return ' (no test ran)';
  return status === 0 ? '' : ` (exit status ${status})`;
}

/** @param {(Outcome & { name: string, seconds: number })[]} outcomes */
function sumUp(outcomes) {
  console.log('\n=== summary ===');
  for (const { name, ok, seconds, says } of outcomes) {
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(7)} ${String(seconds).padStart(4)} s  ${says}`);
  }
  const total = (of) => outcomes.reduce((sum, outcome) => sum + (outcome[of] ?? 0), 0);
  console.log(`${total('passed')} passed, ${total('failed')} failed`);
  process.exitCode = outcomes.every(({ ok }) => ok) ? 0 : 1;
}
