/** Keeps what was measured: the results of the last run of each bench as JSON, and the page and the plots that are made of them. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pageOf } from './page';
import { plot } from './plot';
import { type Measurements, merge, toJson } from './results';

/** The folder of the plots and the data, beside the page `measurements.md`. */
const FOLDER = 'measurements';

/**
 * Writes the sections of a run, and keeps those of the benches that did not run.
 *
 * @param docs - the folder of the page
 * @param order - the names of all benches there are, in the order of their sections
 */
export function write(docs: string, run: Measurements, order: readonly string[]): void {
  const folder = join(docs, FOLDER);
  mkdirSync(folder, { recursive: true });
  const data = join(folder, 'data.json');
  const old = existsSync(data) ? (JSON.parse(readFileSync(data, 'utf8')) as Measurements) : {};
  // What is written is made of what is read again next time, so that a partial run leaves the rest as it is.
  const json = toJson(merge(old, run, order));
  const measurements = JSON.parse(json) as Measurements;
  writeFileSync(data, json);
  for (const name of readdirSync(folder)) {
    if (name.endsWith('.svg') && !Object.hasOwn(measurements, name.slice(0, -'.svg'.length))) {
      rmSync(join(folder, name));
    }
  }
  for (const [bench, { about, tables }] of Object.entries(measurements)) {
    writeFileSync(join(folder, `${bench}.svg`), plot(about.title, tables));
  }
  writeFileSync(join(docs, `${FOLDER}.md`), pageOf(measurements, FOLDER));
}
