import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { Comparison, Operation } from './support/measure';
import type { About } from './support/results';

export const about: About = {
  title: 'Loading the package',
  text: [
    'How much longer a process takes that loads the package, from its start to its end, by `require` and by `import`. The peer is a process that',
    'does nothing.',
  ].join('\n'),
};

const ROOT = join(__dirname, '..');
const WANTED_NS = 20e6;

export async function comparisons(): Promise<Comparison[]> {
  return [
    {
      name: 'a process that loads the package',
      operations: [
        node('nothing', '0'),
        { ...node('require', "require('sandbox-host')"), mostBeyondNs: WANTED_NS },
      ],
      peers: ['nothing'],
      rounds: 40,
    },
    {
      name: 'a process of ES modules that loads the package',
      operations: [
        node('nothing', '0', '--input-type=module'),
        { ...node('import', "import 'sandbox-host'", '--input-type=module'), mostBeyondNs: WANTED_NS },
      ],
      peers: ['nothing'],
      rounds: 40,
    },
  ];
}

function node(name: string, code: string, ...flags: string[]): Operation {
  return {
    name,
    // Each turn is one process.
    prepare() {},
    run() {
      const { status, stderr } = spawnSync(process.execPath, [...flags, '--eval', code], { cwd: ROOT });
      if (status !== 0) throw new Error(`${name}: ${stderr}`);
    },
    times: 1,
  };
}
