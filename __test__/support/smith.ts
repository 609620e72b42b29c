// Modules that nobody wrote: those that crate/support/smith makes of numbers, the same on every machine.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Smithed {
  readonly number: number;
  readonly binary: Uint8Array;
  /** What it was made of: bytes that are as good as random. */
  readonly seed: Uint8Array;
}

/** What a module may have, see crate/support/smith/lib.rs. */
export type SmithKind = 'any' | 'integers' | 'ending';

const ROOT = join(__dirname, '..', '..');

/**
 * Makes modules. `npm test` has built the program that does it; otherwise cargo does so now. The environment variable SANDBOX_HOST_SMITH may name
 * that program instead.
 */
export function smith(kind: SmithKind, count: number, first = 0): Smithed[] {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-host-smith-'));
  try {
    const given = process.env.SANDBOX_HOST_SMITH;
    const [program, ...flags] = given
      ? [given]
      : ['cargo', 'run', '--quiet', '--release', '--package', 'smith', '--'];
    execFileSync(program, [...flags, kind, String(count), folder, String(first)], { cwd: ROOT });
    return Array.from({ length: count }, (_, i) => first + i).flatMap((number) => {
      try {
        const [binary, seed] = ['wasm', 'seed'].map((type) =>
          readFileSync(join(folder, `${number}.${type}`)),
        );
        return [{ number, binary, seed }];
      } catch {
        // Of some numbers no module can be made.
        return [];
      }
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
