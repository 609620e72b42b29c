// `npm run build [native|js] [-- FLAGS]`: builds the addon in native/, and everything else that the
// package consists of in dist/. There is one file for each module system: the code is in index.cjs, and
// index.mjs names its exports, so that a process which uses both has each class once. The types are one
// file too, made by API Extractor, without internal ones. It also reports the public API: `npm run api`,
// which is `build js --accept`, accepts that report as docs/sandbox-host.api.md.

import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor';
import { rollup } from 'rollup';
import { cargoEnvironment } from './cargo.mjs';
import { fail, ROOT, run, StepError } from './ensure-built.mjs';

const NATIVE = join(ROOT, 'native');
const DIST = join(ROOT, 'dist');
const BINDING = join(ROOT, 'lib', 'binding');
/** The output of TypeScript, one file for each source. */
const BUILD = join(ROOT, 'build');

try {
  const [first = '', ...others] = process.argv.slice(2);
  const parts = { native: buildNative, js: buildJs };
  if (Object.hasOwn(parts, first)) {
    await parts[first](others);
  } else {
    await buildNative(process.argv.slice(2));
    await buildJs();
  }
} catch (error) {
  fail(error);
}

/**
 * Builds the addon and the types that napi-rs generates. `--accept` also updates TypeScript's generated
 * copies.
 *
 * @param {string[]} given - flags of `napi build`, such as `--target TRIPLE`, and `--accept`
 */
async function buildNative(given) {
  const flags = given.filter((flag) => flag !== '--accept');
  const args = [
    'build',
    '--platform',
    '--release',
    '--no-js',
    '--no-const-enum',
    '--output-dir',
    NATIVE,
    ...flags,
  ];
  const status = await run(process.execPath, ['node_modules/@napi-rs/cli/dist/cli.js', ...args], {
    env: cargoEnvironment(),
  });
  if (status !== 0) throw new StepError('Building the addon failed: see above.', status);
  if (given.includes('--accept')) acceptBinding();
}

/** Copies what is generated from the addon. A test compares the copies. */
function acceptBinding() {
  const addon = readdirSync(NATIVE).find((name) => name.endsWith('.node'));
  const { scratchLayout } = createRequire(import.meta.url)(join(NATIVE, addon));
  copyFileSync(join(NATIVE, 'index.d.ts'), join(BINDING, 'addon.d.ts'));
  writeFileSync(join(BINDING, 'scratch_layout.ts'), scratchLayout());
}

/** @param {string[]} [flags] */
async function buildJs(flags = []) {
  for (const folder of [BUILD, DIST]) rmSync(folder, { recursive: true, force: true });
  mkdirSync(DIST);
  const tsc = ['node_modules/typescript/bin/tsc', '--project', 'tsconfig.build.json'];
  const status = await run(process.execPath, tsc);
  if (status !== 0) throw new StepError('Compiling the TypeScript failed: see above.', status);
  // The compiler does not copy a declaration file.
  copyFileSync(join(BINDING, 'addon.d.ts'), join(BUILD, 'lib', 'binding', 'addon.d.ts'));
  const names = await bundle();
  rollUpTypes(flags.includes('--accept'));
  // Do not import index.cjs directly: before Node imports CommonJS, it scans the file for exported
  // names, which takes longer than everything else for a large file.
  writeFileSync(join(DIST, 'bridge.cjs'), "exports.sandboxHost = require('./index.cjs');\n");
  writeFileSync(join(DIST, 'index.mjs'), esModule(names));
  writeFileSync(join(DIST, 'index.d.mts'), "export * from './index.cjs';\n");
}

/** The module that names the exports of index.cjs. */
function esModule(names) {
  const list = names.map((name) => `  ${name},\n`).join('');
  return `import bridge from './bridge.cjs';\n\nexport const {\n${list}} = bridge.sandboxHost;\n`;
}

/** Writes index.cjs and returns the names that it exports. */
async function bundle() {
  const built = await rollup({
    input: join(BUILD, 'index.js'),
    external: /^node:/,
    onwarn(warning, warn) {
      warn(warning);
      throw new StepError('The bundler warns: see above.');
    },
  });
  const { output } = await built.write({
    file: join(DIST, 'index.cjs'),
    format: 'cjs',
    generatedCode: 'es2015',
  });
  await built.close();
  return output[0].exports;
}

function rollUpTypes(acceptsReport) {
  const config = ExtractorConfig.loadFileAndPrepare(join(ROOT, 'api-extractor.json'));
  const { errorCount } = Extractor.invoke(config, {
    localBuild: acceptsReport,
    messageCallback(message) {
      // A test compares the reports.
      if (message.category === 'console') message.handled = true;
    },
  });
  if (errorCount > 0) throw new StepError('Rolling up the types failed: see above.');
}
