// The packed types, as programs in TypeScript see them.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Project } from './support/project';
import { install } from './support/registry';

/**
 * The oldest version that the types are for, one in between, the newest that this repository is built with, and the
 * compiler that is a native program.
 */
const COMPILERS = ['5.7.3', '5.9.3', '6.0.3', '7.0.2'];

const RIGHT = `
import { SandboxComponents, JsSupervisor, TrapError, Value, codec, type SandboxInstance, type SupervisorContext } from 'sandbox-host';

using components = new SandboxComponents<string>('wasmer', { fuel: true, limits: { memoryBytes: 65536 } });
const supervisor: SupervisorContext = new JsSupervisor();
declare const instance: SandboxInstance;
const result: Value | Value[] | undefined = instance.invoke('run', [Value.I32(1), Value.F64(0n)], supervisor, { fuel: 1n, timeout: 5 });
const plain: Value | Value[] | undefined = instance.invoke('run', [1, 2n]);
const later: Promise<Value | Value[] | undefined> = instance.invokeAsync('run', [], supervisor, { signal: AbortSignal.timeout(5) });
const bytes: Uint8Array = codec.encodeValues([{ type: 'i64', value: 1n }]);
try {
  void [result, plain, later, bytes, components.dispatchThunk(0).length];
} catch (error) {
  if (error instanceof TrapError && error.trap === 'out-of-fuel') console.log(error.wasmStack[0]?.functionName);
}
export {};
`;

/** What must not compile, a line each. */
const WRONG = [
  "Value.I32('1');",
  "new SandboxComponents('v8');",
  "new SandboxComponents('wasmi', { feul: true });",
  "instance.invoke('run', ['1'], supervisor);",
  "instance.invoke('run', [], supervisor, { fuel: 1 });",
  "supervisor.define(() => 'text');",
  'new SandboxInstance();',
  "codec.encodeValues('');",
];

const project = new Project();
const typescript = (version: string) => `typescript-${version}`;

before(async () => {
  const compilers = COMPILERS.map((version) => `${typescript(version)}@npm:typescript@${version}`);
  await install(project, 'sandbox-host', '@types/node@20', ...compilers);
  for (const name of ['right.mts', 'right.cts']) project.write(name, RIGHT);
  const wrong = [
    "import { JsSupervisor, SandboxComponents, SandboxInstance, Value, codec } from 'sandbox-host';",
    'declare const instance: SandboxInstance;',
    'const supervisor = new JsSupervisor();',
    ...WRONG.map((line) => `// @ts-expect-error\n${line}`),
    'void SandboxComponents;\nexport {};',
  ].join('\n');
  for (const name of ['wrong.mts', 'wrong.cts']) project.write(name, wrong);
});
after(() => project.remove());

/** With the library's own declarations checked, as `strict` projects may have it. */
const COMMON = [
  '--noEmit',
  '--strict',
  '--exactOptionalPropertyTypes',
  '--skipLibCheck',
  'false',
  '--types',
  'node',
  '--target',
  'es2022',
  '--lib',
  'es2022,esnext.disposable',
];

for (const version of COMPILERS) {
  describe(`The types in TypeScript ${version}`, () => {
    const compile = (...args: string[]) =>
      project.run(process.execPath, [`node_modules/${typescript(version)}/bin/tsc`, ...COMMON, ...args]);

    const resolutions = {
      'Node, from both module systems': ['--module', 'nodenext'],
      'Node 16, from both module systems': ['--module', 'node16'],
      'a bundler': ['--module', 'esnext', '--moduleResolution', 'bundler'],
    };
    for (const [name, flags] of Object.entries(resolutions)) {
      it(`are found and right for ${name}`, async () => {
        const { status, stdout } = await compile(...flags, 'right.mts', 'right.cts');
        assert.equal(stdout, '');
        assert.equal(status, 0);
      });
    }

    it('refuse what is wrong', async () => {
      const { status, stdout } = await compile('--module', 'nodenext', 'wrong.mts', 'wrong.cts');
      assert.equal(stdout, '');
      assert.equal(status, 0);
    });
  });
}
