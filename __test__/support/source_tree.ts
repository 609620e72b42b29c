// The import graph of lib/, types included: which files import one another in a circle, and which import what lies above them.
// `node --require ts-node/register __test__/support/source_tree.ts [CLONE]` prints it, for any commit that has a lib/ folder.
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, relative, resolve, sep } from 'node:path';
import {
  createSourceFile,
  forEachChild,
  isCallExpression,
  isExportDeclaration,
  isImportDeclaration,
  isImportTypeNode,
  isLiteralTypeNode,
  isStringLiteralLike,
  type Node,
  ScriptTarget,
  SyntaxKind,
} from 'typescript';

/**
 * The layers, from the lowest up. A file may import files of its own layer and of those below it. Layers on one line stand side by side and do
 * not know one another. A file belongs to the innermost folder that is named here. `biome.json` says the same to the linter.
 */
export const LAYERS: readonly (readonly string[])[] = [
  ['lib/base'],
  ['lib/binding'],
  ['lib/guest', 'lib/gear/scale'],
  ['lib/gear', 'lib/webassembly', 'lib/wasi'],
  ['lib/gear/host', 'lib/command'],
  ['index.ts'],
];

/** An import, by the place where it stands. */
export interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly line: number;
}

export interface SourceTree {
  /** The number of lines of each file, by its path from the root of the clone. */
  readonly files: ReadonlyMap<string, number>;
  readonly arrows: readonly Arrow[];
}

/** Reads index.ts and all of lib/ of a clone. */
export function readSourceTree(root: string): SourceTree {
  const paths = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => posix.join('lib', name.split(sep).join('/')));
  const texts = ['index.ts', ...paths.sort()].map(
    (path) => [path, readFileSync(join(root, path), 'utf8')] as const,
  );
  return sourceTreeOf(new Map(texts));
}

/** The graph of some files, by path. */
export function sourceTreeOf(texts: ReadonlyMap<string, string>): SourceTree {
  const files = new Map([...texts].map(([path, text]) => [path, text.split('\n').length - 1]));
  const arrows = [...texts].flatMap(([from, text]) =>
    importsOf(from, text).flatMap(({ specifier, line }) => {
      const to = targetOf(from, specifier, files);
      return to === undefined ? [] : [{ from, to, line }];
    }),
  );
  return { files, arrows };
}

/** Every module that a file names: by import and export declarations, types too, `import()`, `require()` and the types `import('…')`. */
function importsOf(path: string, text: string): { specifier: string; line: number }[] {
  const source = createSourceFile(path, text, ScriptTarget.Latest, true);
  const found: { specifier: string; line: number }[] = [];
  const visit = (node: Node): void => {
    const specifier = specifierOf(node);
    if (specifier !== undefined) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      found.push({ specifier, line: line + 1 });
    }
    forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function specifierOf(node: Node): string | undefined {
  let named: Node | undefined;
  if (isImportDeclaration(node) || isExportDeclaration(node)) named = node.moduleSpecifier;
  else if (isImportTypeNode(node) && isLiteralTypeNode(node.argument)) named = node.argument.literal;
  else if (isCallExpression(node)) {
    const isImport =
      node.expression.kind === SyntaxKind.ImportKeyword || node.expression.getText() === 'require';
    named = isImport ? node.arguments[0] : undefined;
  }
  return named !== undefined && isStringLiteralLike(named) ? named.text : undefined;
}

function targetOf(from: string, specifier: string, files: ReadonlyMap<string, unknown>): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  const path = posix.join(posix.dirname(from), specifier);
  return [`${path}.ts`, `${path}/index.ts`, path].find((candidate) => files.has(candidate));
}

/** The groups of files that import one another in circles: the strongly connected components of more than one file (Tarjan's algorithm). */
export function circlesIn({ files, arrows }: SourceTree): string[][] {
  const next = new Map<string, Set<string>>([...files.keys()].map((file) => [file, new Set()]));
  for (const { from, to } of arrows) next.get(from)?.add(to);
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    let low = order.get(file) as number;
    stack.push(file);
    for (const target of next.get(file) ?? []) {
      if (!order.has(target)) visit(target);
      if (stack.includes(target)) low = Math.min(low, lowest.get(target) ?? (order.get(target) as number));
    }
    lowest.set(file, low);
    if (low !== order.get(file)) return;
    const component = stack.splice(stack.indexOf(file));
    if (component.length > 1 || next.get(file)?.has(file)) circles.push(component.sort());
  };
  for (const file of files.keys()) if (!order.has(file)) visit(file);
  return circles;
}

/** The layer of a file, and how high it lies; undefined for a file of none. */
export function layerOf(path: string): { readonly name: string; readonly height: number } | undefined {
  const found = LAYERS.flatMap((names, height) => names.map((name) => ({ name, height }))).filter(
    ({ name }) => path === name || path.startsWith(`${name}/`),
  );
  return found.sort((a, b) => b.name.length - a.name.length)[0];
}

/** The imports that lead to a layer above, or to one beside the file's own. */
export function arrowsUpIn({ arrows }: SourceTree): Arrow[] {
  return arrows.filter(({ from, to }) => {
    const [own, other] = [layerOf(from), layerOf(to)];
    if (own === undefined || other === undefined) return false;
    return other.height > own.height || (other.height === own.height && other.name !== own.name);
  });
}

/** One line for each circle: a way through it that comes back to where it began, with the lines of the imports. */
export function describeCircles(tree: SourceTree): string[] {
  return circlesIn(tree).map((files) => {
    const inside = tree.arrows.filter(({ from, to }) => files.includes(from) && files.includes(to));
    const way: Arrow[] = [];
    let at = files[0] as string;
    while (!way.some(({ from }) => from === at)) {
      const arrow = inside.find(({ from }) => from === at) as Arrow;
      way.push(arrow);
      at = arrow.to;
    }
    const round = way.slice(way.findIndex(({ from }) => from === at));
    return `${files.length} files import one another: ${round.map(({ from, line }) => `${from}:${line}`).join(' → ')} → ${at}`;
  });
}

/** One line for each import that leads up. */
export function describeArrowsUp(tree: SourceTree): string[] {
  return arrowsUpIn(tree).map(
    ({ from, to, line }) =>
      `${from}:${line} imports ${to}: ${layerOf(from)?.name} must not know ${layerOf(to)?.name}`,
  );
}

if (require.main === module) {
  const root = resolve(process.argv[2] ?? '.');
  const tree = readSourceTree(root);
  const circles = circlesIn(tree);
  console.log(`${tree.files.size} files, ${tree.arrows.length} imports`);
  console.log(`${circles.flat().length} files in ${circles.length} circles`);
  for (const circle of circles) console.log(`  ${circle.length}: ${circle.join(', ')}`);
  const up = describeArrowsUp(tree);
  console.log(`${up.length} imports lead up or sideways`);
  for (const line of up) console.log(`  ${line}`);
  const lines = new Map<string, number>();
  for (const [path, count] of tree.files) {
    const name = layerOf(path)?.name ?? posix.dirname(relative('.', path));
    lines.set(name, (lines.get(name) ?? 0) + count);
  }
  for (const [name, count] of lines) console.log(`${name}: ${count} lines`);
  const long = [...tree.files].filter(([, count]) => count > 500);
  for (const [path, count] of long) console.log(`longer than 500 lines: ${path} (${count})`);
}
