// `npm run demo`: installs and builds what is missing, then runs examples/demo.ts. It can be started from any
// directory, exits with the demo's status, and passes Ctrl-C and other signals on to it.

import { ensureBuilt, fail, run } from './ensure-built.mjs';

try {
  await ensureBuilt();
  process.exitCode = await run(process.execPath, ['--require', 'ts-node/register', 'examples/demo.ts']);
} catch (error) {
  fail(error);
}
