// `npm run memcheck [FILTER…]`: runs the Rust tests of the core under valgrind, which finds reads of
// freed, foreign and uninitialised memory in unsafe code and in what it calls. Without a filter it runs
// those that take only minutes; tests that measure memory, exhaust stacks or time out are not suitable.
// Needs valgrind.

import { execFileSync } from 'node:child_process';
import { cargoEnvironment } from './cargo.mjs';
import { fail, run, StepError } from './ensure-built.mjs';

/** The default filters: one engine at a time, because a name may say which. */
const FILTERS = [
  'memory::on_',
  'call::on_',
  'host_call::',
  'globals',
  'start::on_',
  'carried::on_',
  'limits::on_',
  'canonical_nans::',
];
const SKIPPED = [
  'alone_on_',
  'deep',
  'depth',
  'stack',
  'endless',
  // A division by zero raises a different signal under valgrind.
  'on_wasmer::a_start_function_that_traps_reports_it',
];

try {
  const filters = process.argv.slice(2);
  const program = testProgram();
  process.exitCode = await run('valgrind', [
    '--quiet',
    '--leak-check=no',
    // The code of wasmer's guests is written as data first.
    '--smc-check=all-non-file',
    '--suppressions=scripts/valgrind.supp',
    '--error-exitcode=9',
    program,
    '--test-threads=1',
    ...(filters.length === 0 ? FILTERS : filters),
    ...SKIPPED.flatMap((name) => ['--skip', name]),
  ]);
} catch (error) {
  fail(error);
}

/** Builds the tests and returns the path of their program. */
function testProgram() {
  const host = /^host: (\S+)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' }))?.[1] ?? '';
  // Builds all tests, as `npm test` does: for some of them cargo would build the engines anew.
  const args = ['test', '--release', '--no-default-features', '--target', host, '--no-run'];
  const output = execFileSync('cargo', [...args, '--message-format=json-render-diagnostics'], {
    env: cargoEnvironment(),
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const messages = output.split('\n').filter((line) => line.startsWith('{'));
  const executable = messages
    .map((line) => JSON.parse(line))
    .findLast(
      ({ executable, target }) => typeof executable === 'string' && target.name === 'core',
    )?.executable;
  if (executable === undefined) throw new StepError('cargo has built no test program');
  return executable;
}
