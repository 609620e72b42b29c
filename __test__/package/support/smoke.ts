// The suite in smoke/, for a project that has the package.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { wat } from '../../support/wat';
import type { Project } from './project';

const FOLDER = join(__dirname, '..', 'smoke');

/** How many checks it has: a dozen, on two engines. */
export const CHECKS = 12 * 2;

/** Call it inside a test or a hook, as it needs wabt. */
export function copySmoke(project: Project): void {
  for (const name of readdirSync(FOLDER)) {
    const source = readFileSync(join(FOLDER, name));
    if (name.endsWith('.wat')) project.write(name.replace('.wat', '.wasm'), wat(source.toString()));
    else project.write(name, source);
  }
}
