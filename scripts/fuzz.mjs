// `npm run fuzz [instantiate|differential] [-- FLAGS…]`: fuzzes the core until something is found or the time is up, for
// instance `npm run fuzz differential -- -max_total_time=600`. The flags are libFuzzer's. What it finds is in
// fuzz/artifacts/, what it has learnt in fuzz/corpus/. It needs a nightly toolchain and cargo-fuzz, and says so.

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
    // An address sanitizer would look at this crate's code alone: what guests run is machine code that it knows nothing of.
    '--sanitizer=none',
    target,
    '--',
    // Engines keep code, and a module may take some memory of its own.
    '-rss_limit_mb=4096',
    ...flags,
  ]);
} catch (error) {
  fail(error);
}

/** The target, which may be left out, and then what goes to libFuzzer. */
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
