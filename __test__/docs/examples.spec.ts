// The examples of the documentation are programs: each ```ts block, in comments and in Markdown, passes the type checker as a module of its
// own. A block that imports from 'sandbox-host' must have all that it uses; a fragment, which does not, is given what GIVEN declares.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';

const ROOT = join(__dirname, '..', '..');
/** Where the type checker finds the blocks, with slashes as it has them. It is not there. */
const FOLDER = `${ROOT.split(sep).join('/')}/__examples__`;

/** A ```ts block. */
interface Block {
  readonly file: string;
  /** The line of its first line of code, from 1. */
  readonly line: number;
  readonly code: string;
}

/** What fragments have in common. An example that needs more declares it. */
const GIVEN = {
  components: 'SandboxComponents',
  supervisor: 'JsSupervisor',
  instance: 'SandboxInstance',
  memory: 'Memory',
  wasm: 'Uint8Array',
  env: 'GuestEnvironment',
  definition: 'Uint8Array',
  controller: 'AbortController',
  host: 'SandboxHost',
};

/** V8's own, for which projects without the DOM's types have none. */
const WEB_ASSEMBLY = `declare namespace WebAssembly {
  class Memory { constructor(type: { initial: number; maximum?: number }); readonly buffer: ArrayBuffer }
  class Table { constructor(type: { element: 'anyfunc'; initial: number }); readonly length: number; get(index: number): unknown }
  function instantiate(wasm: Uint8Array, imports: object): Promise<{ instance: { exports: Record<string, any> } }>;
}`;

/** What the checker must refuse, or it would not be one. */
const REFUSED: readonly Block[] = [
  { file: 'a number that is a string', line: 1, code: "\ncomponents.newMemory('one');" },
  { file: 'a method that there is not', line: 1, code: 'await components.newMemory(1).grow();' },
  {
    file: 'a fragment with an import',
    line: 1,
    code: "import { Value } from 'sandbox-host';\ncomponents.clear();",
  },
  { file: 'no TypeScript', line: 1, code: 'const = 1;' },
];

describe('The examples of the documentation', () => {
  const blocks = [...blocksOfSources(), ...blocksOfPages()];
  const errors = errorsIn([...blocks, ...REFUSED]);
  const errorsOf = (file: string): string[] => errors.filter((error) => error.startsWith(`${file}:`));

  for (const file of new Set(blocks.map((block) => block.file))) {
    const count = blocks.filter((block) => block.file === file).length;
    it(`compile in ${file}, where there ${count === 1 ? 'is one' : `are ${count}`}`, () => {
      assert.equal(errorsOf(file).join('\n'), '');
    });
  }

  it('are found', () => {
    assert.ok(blocks.length >= 60, `there are only ${blocks.length}`);
  });

  it('would not pass with an error in them', () => {
    assert.deepEqual(
      REFUSED.map(({ file }) => errorsOf(file)[0]),
      [
        "a number that is a string:2: Argument of type 'string' is not assignable to parameter of type 'number'.",
        "a method that there is not:1: Property 'grow' does not exist on type 'number'.",
        "a fragment with an import:2: Cannot find name 'components'.",
        'no TypeScript:1: Variable declaration expected.',
      ],
    );
  });
});

/** Those in the comments of the sources. */
function blocksOfSources(): Block[] {
  const files = ['index.ts', ...filesIn('lib', '.ts')];
  return files.flatMap((file) => {
    const text = readFileSync(join(ROOT, file), 'utf8');
    return [...text.matchAll(/\/\*\*.*?\*\//gs)].flatMap(({ 0: comment, index }) => {
      const lines = comment.split('\n').map((line) => line.replace(/^\s*\* ?/, ''));
      return blocksIn(file, lines, lineAt(text, index));
    });
  });
}

function blocksOfPages(): Block[] {
  const files = ['README.md', 'SECURITY.md', ...filesIn(join('docs', 'guides'), '.md')];
  return files.flatMap((file) => blocksIn(file, readFileSync(join(ROOT, file), 'utf8').split('\n'), 1));
}

function filesIn(folder: string, ending: string): string[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name).split(sep).join('/'))
    .sort();
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}

/** The blocks in some lines, of which the first is that line of the file. */
function blocksIn(file: string, lines: readonly string[], first: number): Block[] {
  const blocks: Block[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const fence = /^(\s*)```ts\s*$/.exec(lines[at]);
    if (fence === null) continue;
    const end = lines.findIndex((line, index) => index > at && line.trim() === '```');
    assert.notEqual(end, -1, `${file}:${first + at}: the block has no end`);
    const code = lines.slice(at + 1, end).map((line) => line.slice(fence[1].length));
    blocks.push({ file, line: first + at + 1, code: code.join('\n') });
    at = end;
  }
  return blocks;
}

/** What is wrong with the blocks, as `file:line: message`. One program has them all, because making one takes a second. */
function errorsIn(blocks: readonly Block[]): string[] {
  const ambient = `${FOLDER}/web_assembly.d.ts`;
  const given = `${FOLDER}/given.d.ts`;
  const names = publicNames();
  const files = new Map([
    [ambient, WEB_ASSEMBLY],
    [given, declarations(names)],
  ]);
  const modules = blocks.map((block, index) => {
    const path = `${FOLDER}/example${index}.ts`;
    files.set(path, `${preludeOf(block.code, names)}${block.code}`);
    return { path, block };
  });
  const program = programOf(files);
  return modules.flatMap(({ path, block }) => {
    const source = program.getSourceFile(path);
    const diagnostics = [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
    ];
    return diagnostics.map(({ start = 0, messageText }) => {
      const line = block.line + (source?.getLineAndCharacterOfPosition(start).line ?? 0);
      return `${block.file}:${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
  });
}

function programOf(files: ReadonlyMap<string, string>): ts.Program {
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    // So that each has a scope of its own, and may use `await`.
    moduleDetection: ts.ModuleDetectionKind.Force,
    esModuleInterop: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules', '@types')],
    paths: { 'sandbox-host': [join(ROOT, 'index.ts')] },
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.getSourceFile = (path, version, ...rest) => {
    const text = files.get(path);
    return text === undefined
      ? getSourceFile(path, version, ...rest)
      : ts.createSourceFile(path, text, version);
  };
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.readFile = (path) => files.get(path) ?? readFile(path);
  // Nobody looks for a file in a folder that is not there.
  host.directoryExists = (path) => path === FOLDER || ts.sys.directoryExists(path);
  return ts.createProgram([...files.keys()], options, host);
}

/** The names that index.ts exports. */
function publicNames(): string[] {
  const source = sourceOf(readFileSync(join(ROOT, 'index.ts'), 'utf8'));
  return source.statements.filter(ts.isExportDeclaration).flatMap(({ exportClause }) => {
    assert.ok(exportClause !== undefined, 'index.ts names what it exports');
    if (ts.isNamespaceExport(exportClause)) return [exportClause.name.text];
    return exportClause.elements.map(({ name }) => name.text);
  });
}

function declarations(names: readonly string[]): string {
  const lines = Object.entries(GIVEN).map(([name, type]) => `export declare const ${name}: ${type};`);
  return [`import { ${names.join(', ')} } from 'sandbox-host';`, ...lines].join('\n');
}

/** What goes before a block, on its first line; nothing if it imports from this package itself. */
function preludeOf(code: string, names: readonly string[]): string {
  const source = sourceOf(code);
  const isWhole = source.statements.some(
    (statement) =>
      ts.isImportDeclaration(statement) &&
      ts.isStringLiteral(statement.moduleSpecifier) &&
      statement.moduleSpecifier.text === 'sandbox-host',
  );
  if (isWhole) return '';
  const own = namesDeclaredIn(source);
  const others = (all: readonly string[]): string => all.filter((name) => !own.has(name)).join(', ');
  const given = others(Object.keys(GIVEN));
  return `import { ${others(names)} } from 'sandbox-host'; import { ${given} } from './given'; `;
}

function sourceOf(code: string): ts.SourceFile {
  return ts.createSourceFile('source.ts', code, ts.ScriptTarget.ESNext);
}

/** The names that the statements of a module declare, which are not to be declared twice. */
function namesDeclaredIn(source: ts.SourceFile): Set<string> {
  const names = new Set<string>();
  const add = (name: ts.BindingName | undefined): void => {
    if (name === undefined) return;
    if (ts.isIdentifier(name)) names.add(name.text);
    else for (const element of name.elements) if (ts.isBindingElement(element)) add(element.name);
  };
  for (const statement of source.statements) {
    if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations) add(name);
    } else if (
      ts.isFunctionDeclaration(statement) ||
      ts.isClassDeclaration(statement) ||
      ts.isInterfaceDeclaration(statement) ||
      ts.isTypeAliasDeclaration(statement)
    ) {
      add(statement.name);
    }
  }
  return names;
}
