// Further copies of the package's JavaScript in this process, as bundles, test runners and other realms have them. Each is loaded from `lib/`
// past Node's own registry, and the native binary is the same for all.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type Context, createContext, Script } from 'node:vm';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';

export type Package = typeof import('../../index');

const INDEX = join(__dirname, '..', '..', 'index.ts');
const compiled = new Map<string, string>();

/** The body of a CommonJS module. */
function bodyOf(file: string): string {
  let body = compiled.get(file);
  if (body === undefined) {
    const options = { module: ModuleKind.CommonJS, target: ScriptTarget.ES2022, esModuleInterop: true };
    body = transpileModule(readFileSync(file, 'utf8'), {
      compilerOptions: options,
      fileName: file,
    }).outputText;
    compiled.set(file, body);
  }
  return body;
}

function fileOf(from: string, id: string): string {
  const path = join(dirname(from), id);
  for (const candidate of [`${path}.ts`, join(path, 'index.ts')]) {
    try {
      bodyOf(candidate);
      return candidate;
    } catch {
      // The next one.
    }
  }
  throw new Error(`${from} imports ${id}, which is nowhere`);
}

/** Loads the package once more, in this realm or in another one. */
export function copyOfPackage(realm?: Context): Package {
  const modules = new Map<string, { exports: unknown }>();
  const load = (file: string): unknown => {
    const known = modules.get(file);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    modules.set(file, module);
    const script = new Script(
      `(function (exports, require, module, __filename, __dirname) {${bodyOf(file)}\n})`,
      {
        filename: file,
      },
    );
    const body = realm === undefined ? script.runInThisContext() : script.runInContext(realm);
    const real = createRequire(file);
    const require = Object.assign((id: string) => (id.startsWith('.') ? load(fileOf(file, id)) : real(id)), {
      resolve: (id: string) => real.resolve(id),
    });
    body(module.exports, require, module, file, dirname(file));
    return module.exports;
  };
  return load(INDEX) as Package;
}

/** A realm with the globals of Node that are not JavaScript's own, as test runners make it. */
export function newRealm(): Context {
  const globals = {
    AbortController,
    AbortSignal,
    Buffer,
    EventTarget,
    TextDecoder,
    TextEncoder,
    clearTimeout,
    performance,
    process,
    queueMicrotask,
    setImmediate,
    setTimeout,
  };
  return createContext({ ...globals });
}
