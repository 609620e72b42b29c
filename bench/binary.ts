import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { About } from './support/results';
import type { Sizes } from './support/size';

export const about: About = {
  title: 'Binary',
  text: 'How large the native addon is that a user installs: each one that `native/` has.',
};

const NATIVE = join(__dirname, '..', 'native');
const MOST_BYTES = 20e6;

export async function sizes(): Promise<Sizes> {
  const files = readdirSync(NATIVE).filter((name) => name.endsWith('.node'));
  return {
    name: 'the addon',
    sizes: files.map((name) => ({ name, bytes: statSync(join(NATIVE, name)).size, most: MOST_BYTES })),
  };
}
