// Processes that write heap snapshots, diagnostic reports and profiles while guests run on threads. All of that stops JavaScript where it is, collects
// garbage, and looks at every handle of the event loop. Such a process must get its results, and end by itself: nothing here calls `process.exit`.
//
// The child has the package from dist/, without ts-node: V8 looks up the place of each function for a snapshot, which takes it half a minute
// where the source of TypeScript is loaded.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { SandboxBackend } from '../../index';
import { runSnippet } from '../support/child';
import { forEachBackend } from '../support/engines';
import { wat } from '../support/wat';

const GUEST = `(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "ask") (param $times i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (call $f (i32.const 1))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (func (export "compute") (param $times i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum)))`;

/** What each child has: `guests()` begins calls of every kind and gives what they come to; `take()` writes a snapshot and a report. */
const common = (backend: SandboxBackend): string => `
  const { SandboxComponents, GuestEnvironment, EnvironmentDefinitionBuilder, JsSupervisor, Value } = require('../../dist/index.cjs');
  const v8 = require('node:v8');
  const { Session } = require('node:inspector/promises');
  const { Worker, isMainThread, threadId, workerData } = require('node:worker_threads');
  const { setTimeout: sleep } = require('node:timers/promises');
  const [binary, folder] = isMainThread ? process.argv.slice(1) : workerData;
  const wasm = Buffer.from(binary, 'base64');
  let snapshots = 0;
  function make(answer) {
    const components = new SandboxComponents('${backend}');
    const supervisor = new JsSupervisor();
    const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'f', supervisor.define(([n]) => answer(n))).encode();
    const env = GuestEnvironment.decode(components, definition);
    return components.instance(components.instantiate(1, wasm, env, supervisor).register(components, undefined));
  }
  const call = async (answer, name, times) => (await make(answer).invokeAsync(name, [times])).value;
  const guests = () => Promise.all([
    call((n) => n, 'compute', 30_000_000),
    call((n) => n, 'ask', 20_000),
    call((n) => Promise.resolve(n), 'ask', 2_000),
    call((n) => sleep(1, n), 'ask', 50),
  ]);
  function take() {
    snapshots += 1;
    v8.writeHeapSnapshot(folder + '/' + threadId + '-' + snapshots + '.heapsnapshot');
    process.report.writeReport();
  }
  const tell = (results) => console.log(JSON.stringify(results));
`;

const EXPECTED = [30_000_000, 20_000, 2_000, 50];

interface Written {
  snapshots: number;
  reports: number;
}

/** Runs a child, which must end by itself, having told those results, one after another, and nothing else. Gives how much it has written. */
async function run(
  test: TestContext,
  backend: SandboxBackend,
  source: string,
  results: unknown[],
  execArgv: readonly string[] = [],
): Promise<Written> {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-host-'));
  test.after(() => rmSync(folder, { recursive: true }));
  const { code, signal, stdout, stderr, timedOut } = await runSnippet(common(backend) + source, {
    args: [Buffer.from(wat(GUEST)).toString('base64'), folder],
    execArgv: [`--diagnostic-dir=${folder}`, `--report-dir=${folder}`, ...execArgv],
    isPlain: true,
  });
  assert.deepEqual([code, signal, timedOut], [0, null, false], stderr);
  const told = stdout.split('\n').filter((line) => line !== '');
  assert.deepEqual(
    told.map((line) => JSON.parse(line)),
    results,
  );
  const files = readdirSync(folder);
  return {
    snapshots: files.filter((name) => name.endsWith('.heapsnapshot')).length,
    reports: files.filter((name) => name.startsWith('report.') && name.endsWith('.json')).length,
  };
}

describe('A process whose guests run on threads ends by itself', { concurrency: 2 }, () => {
  forEachBackend((backend) => {
    it('when it writes snapshots and reports beside them', async (test) => {
      const source = `
        guests().then(tell);
        take();
        setTimeout(take, 20);`;
      assert.deepEqual(await run(test, backend, source, [EXPECTED]), { snapshots: 2, reports: 2 });
    });

    it('when it writes them after they have ended', async (test) => {
      const source = `guests().then(tell).then(take);`;
      assert.deepEqual(await run(test, backend, source, [EXPECTED]), { snapshots: 1, reports: 1 });
    });

    it('when it writes them in a supervisor call', async (test) => {
      const source = `
        let asked = 0;
        const answer = (n) => {
          asked += 1;
          if (asked === 5) take();
          return n;
        };
        guests().then(tell);
        call(answer, 'ask', 10).then(tell);
        asked = 0;
        tell(make(answer).invoke('ask', [8]).value);`;
      const written = await run(test, backend, source, [8, 10, EXPECTED]);
      assert.deepEqual(written, { snapshots: 1, reports: 1 });
    });

    it('when signals make it write them', async (test) => {
      // Nothing but the guests keeps it alive.
      const source = `
        guests().then(tell);
        process.kill(process.pid, 'SIGUSR2');
        process.kill(process.pid, 'SIGWINCH');`;
      const flags = ['--heapsnapshot-signal=SIGUSR2', '--report-on-signal', '--report-signal=SIGWINCH'];
      assert.deepEqual(await run(test, backend, source, [EXPECTED], flags), { snapshots: 1, reports: 1 });
    });

    it('when an inspector session takes them, with profiles', async (test) => {
      const source = `
        (async () => {
          const session = new Session();
          session.connect();
          const calls = guests();
          for (const method of ['Profiler.enable', 'Profiler.start', 'HeapProfiler.enable', 'HeapProfiler.startSampling'])
            await session.post(method);
          for (const method of ['HeapProfiler.takeHeapSnapshot', 'HeapProfiler.collectGarbage'])
            await session.post(method);
          const results = await calls;
          for (const method of ['HeapProfiler.stopSampling', 'Profiler.stop', 'HeapProfiler.takeHeapSnapshot'])
            await session.post(method);
          tell(results);
        })();`;
      await run(test, backend, source, [EXPECTED], ['--cpu-prof', '--heap-prof']);
    });

    it('when nobody reads its snapshots to the end', async (test) => {
      const source = `
        guests().then(tell);
        const begun = v8.getHeapSnapshot();
        begun.once('data', () => begun.pause());
        v8.getHeapSnapshot().destroy();`;
      await run(test, backend, source, [EXPECTED]);
    });

    it('when its workers write them too', async (test) => {
      const source = `
        guests().then(tell);
        take();
        if (isMainThread) {
          const source = process.execArgv[process.execArgv.indexOf('--eval') + 1];
          for (let n = 0; n < 2; n += 1) new Worker(source, { eval: true, workerData: [binary, folder] });
          setTimeout(take, 50);
        }`;
      const written = await run(test, backend, source, [EXPECTED, EXPECTED, EXPECTED]);
      assert.deepEqual(written, { snapshots: 4, reports: 4 });
    });

    it('when all calls have been stopped while it wrote one', async (test) => {
      const source = `
        const calls = [
          make((n) => n).invokeAsync('compute', [0], undefined, { timeout: 1 }),
          make((n) => new Promise(() => {})).invokeAsync('ask', [1], undefined, { timeout: 1 }),
          make((n) => new Promise(() => {})).invokeAsync('ask', [1], undefined, { signal: AbortSignal.timeout(1) }),
        ];
        take();
        Promise.allSettled(calls).then((calls) => tell(calls.map(({ reason }) => reason.code ?? reason.name)));`;
      const told = ['ERR_SANDBOX_TIMEOUT', 'ERR_SANDBOX_TIMEOUT', 23];
      assert.deepEqual(await run(test, backend, source, [told]), { snapshots: 1, reports: 1 });
    });
  });
});
