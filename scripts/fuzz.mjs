// `npm run fuzz [instantiate|differential] [-- FLAGS…]`: fuzzes the core until it finds something or the
// time is up, for example `npm run fuzz differential -- -max_total_time=600`. The flags are libFuzzer's.
// Findings are in fuzz/artifacts/, the corpus is in fuzz/corpus/. It needs a nightly toolchain and
// cargo-fuzz, and says so.

import { execFileSync } from 'node:child_process';
import { fail, run, StepError } from './ensure-built.mjs';

const TARGETS = ['instantiate', 'differential'];

try {
  const [target, ...flags] = named(process.argv.slice(2));
  requireTools();
  process.exitCode = await run('cargo', [
    '+nightly',
    'fuzz',
    'run',
    // An address sanitizer would only check this crate's code: guests run as machine code that it cannot
    // see.
    '--sanitizer=none',
    target,
    '--',
    // Engines keep code, and a module may use memory of its own.
    '-rss_limit_mb=4096',
    ...flags,
  ]);
} catch (error) {
  fail(error);
}

/** The target, which may be omitted, and then the arguments for libFuzzer. */
function named([first, ...others]) {
  if (first === undefined || first.startsWith('-')) return [TARGETS[1], ...[first ?? []].flat(), ...others];
  if (TARGETS.includes(first)) return [first, ...others];
  throw new StepError(`There is no target ${first}, only ${TARGETS.join(' and ')}.`);
}

function requireTools() {
  const missing = [];
  if (!works('cargo', ['+nightly', '--version']))
    missing.push('a nightly toolchain: rustup toolchain install nightly');
  if (!works('cargo', ['fuzz', '--version'])) missing.push('cargo-fuzz: cargo install cargo-fuzz --locked');
  if (missing.length > 0) throw new StepError(`To fuzz, this is missing:\n  ${missing.join('\n  ')}`);
}

function works(command, args) {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
