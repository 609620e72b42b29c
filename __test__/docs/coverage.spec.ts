// The reference documentation is complete: TypeDoc finds a comment at everything public and no broken link in one, and every class,
// function and method shows a call. Pages in Markdown are looked at by `npm run docs`.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';

const ROOT = join(__dirname, '..', '..');

const OTHER_NAME = 'a second name of another method, which has one';
const STEP = 'a step of the protocol, which native code takes; SupervisorContext shows all of them';

/** What needs no example, and why. */
const WITHOUT_EXAMPLE: Readonly<Record<string, string>> = {
  'SandboxInstance.signalHandlerGetGlobalVal': OTHER_NAME,
  'SandboxInstance.signalHandlerSetGlobalVal': OTHER_NAME,
  'JsSupervisor.invoke': STEP,
  'JsSupervisor.readMemoryInto': STEP,
  'JsSupervisor.readMemory': STEP,
  'JsSupervisor.writeMemory': STEP,
  'JsSupervisor.allocateMemory': STEP,
  'JsSupervisor.deallocateMemory': STEP,
};

describe('The reference documentation', () => {
  /** Whether each class, function and method has an example. */
  let hasExample: Map<string, boolean>;
  let warnings: string[];

  before(async () => {
    ({ hasExample, warnings } = await readDocumentation());
  });

  it('has a comment at everything public, and no link that leads nowhere', () => {
    assert.deepEqual(warnings, []);
  });

  it('shows a call of every class, function and method', () => {
    assert.ok(hasExample.size > 60, `there are only ${hasExample.size}`);
    const without = [...hasExample.keys()].filter((name) => !hasExample.get(name));
    assert.deepEqual(without.filter((name) => !Object.hasOwn(WITHOUT_EXAMPLE, name)).sort(), []);
  });

  it('excepts nothing that has an example, or that there is not', () => {
    const needless = Object.keys(WITHOUT_EXAMPLE).filter((name) => hasExample.get(name) !== false);
    assert.deepEqual(needless, []);
  });
});

async function readDocumentation(): Promise<{ hasExample: Map<string, boolean>; warnings: string[] }> {
  // It has no CommonJS.
  const { Application, Logger, LogLevel, ReflectionKind } = await import('typedoc');
  const warnings: string[] = [];
  class KeptWarnings extends Logger {
    override log(message: string, level: (typeof LogLevel)[keyof typeof LogLevel]): void {
      super.log(message, level);
      if (level >= LogLevel.Warn) warnings.push(message);
    }
  }
  const application = await Application.bootstrapWithPlugins({
    options: join(ROOT, 'typedoc.json'),
    readme: 'none',
    projectDocuments: [],
  });
  const logger = new KeptWarnings();
  application.logger = logger;
  const project = await application.convert();
  assert.ok(project !== undefined, warnings.join('\n'));
  application.validate(project);
  assert.equal(logger.warningCount + logger.errorCount, warnings.length);

  const HOLDERS = [ReflectionKind.Class, ReflectionKind.Variable];
  const hasExample = new Map<string, boolean>();
  for (const reflection of project.getReflectionsByKind(ReflectionKind.Class)) {
    hasExample.set(reflection.getFullName(), reflection.comment?.getTag('@example') !== undefined);
  }
  for (const { parent: fn, comment } of project.getReflectionsByKind(ReflectionKind.CallSignature)) {
    // Methods of interfaces and types are a user's to write. Those of a constant, such as `Value`, are functions.
    const holder = fn?.parent?.kindOf(ReflectionKind.TypeLiteral) ? fn.parent.parent : fn?.parent;
    const isMethod = fn?.kindOf(ReflectionKind.Method) && holder?.kindOf(HOLDERS);
    if (fn === undefined || !(isMethod || fn.kindOf(ReflectionKind.Function))) continue;
    hasExample.set(fn.getFullName(), comment?.getTag('@example') !== undefined);
  }
  return { hasExample, warnings };
}
