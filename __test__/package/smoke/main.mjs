// The suite with the package from `import`. `--worker` runs it in a worker as well.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import * as sandboxHost from 'sandbox-host';
import runIn from './run.cjs';

// Both module systems in one process share every class.
const required = createRequire(import.meta.url)('sandbox-host');
for (const [name, value] of Object.entries(sandboxHost)) assert.equal(value, required[name], name);
assert.deepEqual(Object.keys(sandboxHost).sort(), Object.keys(required).sort());

runIn(fileURLToPath(import.meta.url), sandboxHost, readFileSync(new URL('./guest.wasm', import.meta.url)));
