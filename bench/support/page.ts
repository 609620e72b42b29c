/** Writes docs/measurements.md out of the results. Everything in it that is not a figure or a bench's own words stands here. */

import { describe } from './machine';
import { cellsOf, summaryOf, titleOf, verdictsOf } from './report';
import type { Measurements, Section, Table } from './results';

const INTRODUCTION = `# Measurements

What things cost: in time as multiples of a peer of the same run, in size as bytes. \`npm run bench -- --write\` writes this page and
its plots out of what it measures on the machine at hand, so edit the benches in \`bench/\` instead of it.

\`\`\`sh
npm run bench                          # measures everything and prints it
npm run bench -- --write               # writes this page, too
npm run bench -- --write invoke load   # measures what is named; the other sections stay as they are
\`\`\``;

const HOW_TO_READ = `## How to read it

- Each bench runs in a process of its own. The operations of a table take turns, round by round. A time is the median of the rounds.
- A ratio is the median of the rounds' own ratios, so a load that comes and goes falls on both sides of it. Trust ratios, not times. A
  ratio to the first peer is what a target is for.
- \`napi_call_function\` is native code that calls an empty JavaScript function without arguments: the least that any way from native code
  into JavaScript costs.
- All guests are interruptible, as they are by default, unless a table says otherwise. What runs is \`dist/\`, which users have.`;

/** The page. Its plots are in the folder `plots`, as `<bench>.svg`. */
export function pageOf(measurements: Measurements, plots: string): string {
  const sections = Object.entries(measurements);
  return [
    INTRODUCTION,
    sections.map(([, { about }]) => `- ${linkTo(about.title)}`).join('\n'),
    HOW_TO_READ,
    targets(sections.map(([, section]) => section)),
    ...sections.map(([bench, section]) => sectionOf(bench, section, plots)),
  ]
    .join('\n\n')
    .concat('\n');
}

function targets(sections: readonly Section[]): string {
  const rows = sections.flatMap(({ about, tables }) =>
    tables.flatMap((table) =>
      verdictsOf(table).map(({ name, wanted, found, met }) => [
        linkTo(about.title),
        tables.length === 1 ? name : `${name.trim()} (${titleOf(table)})`,
        found,
        wanted,
        met ? 'met' : '**missed**',
      ]),
    ),
  );
  if (rows.length === 0) return '## Targets\n\nNone of these has a target.';
  const summary = summaryOf(sections.flatMap(({ tables }) => tables));
  return `## Targets\n\n${summary}.\n\n${markdownTable([['bench', 'what', 'found', 'wanted', ''], ...rows], 2)}`;
}

function sectionOf(bench: string, { about, machine, tables, notes }: Section, plots: string): string {
  const parts = [
    `## ${about.title}`,
    about.text,
    `${describe(machine)} To repeat it: \`npm run bench -- --write ${bench}\`.`,
    ...notes,
    `![${about.title}: a plot of the tables below](${plots}/${bench}.svg)`,
    ...tables.map(tableOf),
  ];
  return parts.join('\n\n');
}

function tableOf(table: Table): string {
  return `**${escaped(titleOf(table))}**\n\n${markdownTable(cellsOf(table))}`;
}

/** The first columns, which are text, go to the left, numbers to the right. */
function markdownTable([header, ...rows]: readonly (readonly string[])[], textColumns = 1): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => escaped(cell)).join(' | ')} |`;
  const rule = `|${header.map((_, column) => (column < textColumns ? '---' : '---:')).join('|')}|`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

function escaped(cell: string): string {
  return cell.trim().replaceAll('|', '\\|').replaceAll('<', '&lt;');
}

function linkTo(title: string): string {
  return `[${title}](#${anchor(title)})`;
}

/** What forges and typedoc make of a heading. */
function anchor(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}
