// What the examples print, for the tests that run them here and as users do.

/** The same lines for each engine. */
function onBoth(lines: readonly string[]): string[] {
  return ['wasmi', 'wasmer'].flatMap((backend) => lines.map((line) => `${backend}: ${line}`));
}

function exactly(lines: readonly string[]): RegExp {
  return new RegExp(`^${lines.map((line) => line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('\\n')}\\n$`);
}

const late = 'the event loop was never more than \\d+ ms late';

function fetching(backend: string, count: number, reports: readonly number[]): string[] {
  return [
    ...reports.map((done) => `${backend}: ${done} of ${count} guests are done, \\d+ wait for an answer`),
    `${backend}: ${count} guests took \\d+ ms, and ${count} of them returned the right number`,
    `${backend}: up to \\d+ waited at the same time, and ${late}`,
  ];
}

/** The whole output of each example. The demo's is too long; its last line says that all was right. */
export const EXAMPLE_OUTPUTS: Readonly<Record<string, RegExp>> = {
  quick_start: exactly(
    onBoth([
      'hello from the guest',
      '{"type":"i32","value":23}',
      'hello from the guest',
      'ERR_SANDBOX_TRAP integer-divide-by-zero',
    ]),
  ),
  wasm_supervisor: exactly(
    onBoth([
      'the guest was asked to handle',
      'returned 81 after 3 calls, gas left 790',
      'the guest was asked to handle',
      'returned -3 (Supervisor function returned sandbox::HostError), gas left 40',
    ]),
  ),
  plugin_host: exactly(
    onBoth([
      'good: logs "hello, plugin"',
      'good: answers "HELLO, PLUGIN"',
      'endless: fails with ERR_SANDBOX_TIMEOUT',
      'busy: fails with ERR_SANDBOX_TRAP out-of-fuel',
      'hungry: answers "memory.grow gave -1"',
      'hungry: has 16 pages',
      'curious: fails with ERR_SANDBOX_TRAP memory-out-of-bounds',
      'liar: fails with ERR_SANDBOX_TRAP supervisor: memory read is out of bounds: 100 bytes at 4294967280, size 65536',
    ]),
  ),
  cancel: exactly(
    onBoth([
      'in time: returned 5',
      'computing, by a timeout: ERR_SANDBOX_TIMEOUT',
      'it had got somewhere: true',
      'computing, by a signal: the user has left',
      'sleeping, by a timeout: ERR_SANDBOX_TIMEOUT',
      '100 sleeping, by one signal: closing time',
      'the first one again: returned 5',
      'answers of env.sleep that arrived: 2',
      'answers of env.sleep that nobody wanted any more: 101',
      'calls of compute that failed: 2',
      'calls of sleep that failed: 101',
      'calls of sleep that returned: 2',
    ]),
  ),
  chain_node: exactly(
    onBoth([
      'mint(0, 900) with 1000 gas: done, 182 burned, "minted"',
      'mint(0, 200) with 1000 gas: refused, 70 burned',
      'transfer(0, 1, 300) with 1000 gas: done, 140 burned, "moved"',
      'transfer(1, 2, 500) with 1000 gas: refused, 30 burned',
      'transfer(0, 2, 100) with 130 gas: out of gas, 130 burned',
      'spin() with 100000 gas: out of gas, 100000 burned',
      'balances: 600, 300, 0',
    ]),
  ),
  fetch: new RegExp(
    `^${[
      'no guests: 1000 fetches took \\d+ ms',
      `no guests: ${late}`,
      ...fetching('wasmi', 1000, [250, 500, 750, 1000]),
      ...fetching('wasmer', 50, [13, 26, 39]),
    ].join('\\n')}\\n$`,
  ),
};

/** The end of what `examples/demo.ts` prints. */
export const DEMO_ENDS = /All 3 runs printed the same \d+ lines\.\s*$/;
