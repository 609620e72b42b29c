// `npm run docs`: builds the site of the API and the guides with typedoc, in docs/api. typedoc fails if
// something public has no docs or a link in them is broken. Then this script checks the site as a
// browser would follow it: each link within the site, and each anchor in a page.

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { ensureInstalled, fail, ROOT, run, StepError } from './ensure-built.mjs';

const SITE = join(ROOT, 'docs', 'api');
/** The anchors in each page that a link refers to. */
const places = new Map();

try {
  await ensureInstalled();
  const status = await run(process.execPath, ['node_modules/typedoc/bin/typedoc']);
  if (status !== 0) throw new StepError('typedoc is not content: see above.', status);
  const pages = readdirSync(SITE, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.html'),
  );
  const broken = pages.flatMap((page) => brokenLinks(join(SITE, page)));
  for (const link of broken) console.error(link);
  if (broken.length > 0) throw new StepError(`${broken.length} links lead nowhere: see above.`);
  console.log(`docs/api has ${pages.length} pages, and no link in them leads nowhere.`);
} catch (error) {
  fail(error);
}

function brokenLinks(page) {
  return [...linksIn(page)]
    .filter((link) => !/^[a-z]+:/i.test(link))
    .filter((link) => !leadsSomewhere(page, link))
    .map((link) => `${relative(SITE, page)}: ${link}`);
}

function leadsSomewhere(page, link) {
  const [path, place] = link.split('#').map(decodeURIComponent);
  const target = path === '' ? page : join(dirname(page), path.replace(/\?.*/, ''));
  if (!existsSync(target) || !statSync(target).isFile()) return false;
  return !place || !target.endsWith('.html') || placesIn(target).has(place);
}

function linksIn(page) {
  return attributes(page, /\b(?:href|src)="([^"]*)"/g);
}

function placesIn(page) {
  if (!places.has(page)) places.set(page, attributes(page, /\bid="([^"]*)"/g));
  return places.get(page);
}

function attributes(page, pattern) {
  const found = readFileSync(page, 'utf8').matchAll(pattern);
  return new Set([...found].map(([, value]) => value.replaceAll('&amp;', '&').replaceAll('&quot;', '"')));
}
