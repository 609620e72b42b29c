// `npm run bench [-- NAMES…] [--write] [--redraw] [--json FILE]`: installs and builds what is missing, then runs bench/index.ts.

import { ensureBuilt, fail, run } from './ensure-built.mjs';

try {
  await ensureBuilt();
  const node = ['--expose-gc', '--require', 'ts-node/register'];
  process.exitCode = await run(process.execPath, [...node, 'bench/index.ts', ...process.argv.slice(2)]);
} catch (error) {
  fail(error);
}
