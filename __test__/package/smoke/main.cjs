// The suite with the package from `require`. `--worker` runs it in a worker as well.
'use strict';

const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const sandboxHost = require('sandbox-host');
const runIn = require('./run.cjs');

runIn(__filename, sandboxHost, readFileSync(join(__dirname, 'guest.wasm')));
