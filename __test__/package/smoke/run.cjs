// Runs the suite here, with `--worker` in three workers as well, and says how many checks passed.
'use strict';

const { once } = require('node:events');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const runSuite = require('./suite.cjs');

module.exports = async function runIn(file, sandboxHost, wasm) {
  try {
    let passed = await runSuite(sandboxHost, wasm);
    if (isMainThread && process.argv.includes('--worker')) {
      const inWorkers = await Promise.all([1, 2, 3].map(() => messageOf(new Worker(file))));
      passed += inWorkers.reduce((sum, each) => sum + each, 0);
    }
    if (isMainThread) console.log(`${passed} checks passed`);
    else parentPort.postMessage(passed);
  } catch (error) {
    if (!isMainThread) throw error;
    console.error(error);
    process.exitCode = 1;
  }
};

async function messageOf(worker) {
  const failed = once(worker, 'error').then(([error]) => Promise.reject(error));
  const [passed] = await Promise.race([once(worker, 'message'), failed]);
  await worker.terminate();
  return passed;
}
