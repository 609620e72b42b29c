/** Puts figures and sizes into words: the cells of their tables, and whether they keep to their targets. */

import type { Figure, Ratio } from './measure';
import type { SizeTable, Table, TimeTable } from './results';
import { WORDS } from './situations';
import type { Size } from './size';

/** A target, what was found instead, and whether that is good enough. */
export interface Verdict {
  /** The row of the table. */
  readonly name: string;
  readonly wanted: string;
  readonly found: string;
  readonly met: boolean;
}

/** The name of a table, with its situation if that is a special one. */
export function titleOf({ name, situation }: Table): string {
  return situation === 'all cores' ? name : `${name}, ${WORDS[situation]}`;
}

/** The header of a table and its rows. The first column is text, the others are numbers. */
export function cellsOf(table: Table): string[][] {
  return 'sizes' in table ? sizeCells(table) : timeCells(table);
}

/** What the targets of a table have come to. */
export function verdictsOf(table: Table): Verdict[] {
  const verdicts =
    'sizes' in table
      ? table.sizes.map(verdictOnSize)
      : table.figures.map((figure) => verdictOnFigure(figure, table.peers[0]));
  return verdicts.filter((verdict) => verdict !== undefined);
}

/** `31 of 36 targets met`. */
export function summaryOf(tables: readonly Table[]): string {
  const verdicts = tables.flatMap(verdictsOf);
  return `${verdicts.filter(({ met }) => met).length} of ${verdicts.length} targets met`;
}

/** The lines of a table for a terminal. */
export function toText(table: Table): string {
  return [titleOf(table), ...align(cellsOf(table))].join('\n');
}

function timeCells({ peers, figures }: TimeTable): string[][] {
  const throughput = figures.every(({ bytes }) => bytes !== undefined);
  const verdicts = figures.map((figure) => verdictOnFigure(figure, peers[0]));
  const hasTargets = verdicts.some((verdict) => verdict !== undefined);
  const hasBeyond = figures.some(({ beyond }) => beyond !== undefined);
  const header = [
    '',
    'median',
    'best',
    ...peers.map((peer) => `× ${peer}`),
    ...(hasBeyond ? [`more than ${peers[0]}`] : []),
    ...(hasTargets ? ['target'] : []),
  ];
  const rows = figures.map((figure, row) => [
    figure.name,
    ...[figure.median, figure.min].map((ns) => (throughput ? speed(ns, figure.bytes as number) : time(ns))),
    ...peers.map((peer) => {
      const ratio = ratioTo(figure, peer);
      return ratio === undefined ? '' : times(ratio.median);
    }),
    ...(hasBeyond ? [figure.beyond === undefined ? '' : time(figure.beyond.ns)] : []),
    ...(hasTargets ? [targetCell(verdicts[row])] : []),
  ]);
  return [header, ...rows];
}

function sizeCells({ sizes }: SizeTable): string[][] {
  const rows = sizes.map((size) => [size.name, bytes(size.bytes), targetCell(verdictOnSize(size))]);
  return [['', 'each', 'target'], ...rows];
}

function targetCell(verdict: Verdict | undefined): string {
  return verdict === undefined ? '' : `${verdict.wanted}: ${verdict.met ? 'met' : 'MISSED'}`;
}

function verdictOnSize({ name, bytes: found, most }: Size): Verdict | undefined {
  if (most === undefined) return undefined;
  return { name, wanted: `≤ ${bytes(most)}`, found: bytes(found), met: found <= most };
}

/** A figure may have several targets, all of which it has to keep to. */
function verdictOnFigure(figure: Figure, peer: string): Verdict | undefined {
  const { name, median, target, mostNs, beyond } = figure;
  const ratio = ratioTo(figure, peer);
  const checks = [
    ...(target === undefined || ratio === undefined
      ? []
      : [{ wanted: `≤ ${target} ×`, found: `${times(ratio.median)} ×`, met: ratio.median <= target }]),
    ...(mostNs === undefined
      ? []
      : [{ wanted: `≤ ${time(mostNs)}`, found: time(median), met: median <= mostNs }]),
    ...(beyond === undefined
      ? []
      : [
          {
            wanted: `≤ ${time(beyond.mostNs)} more`,
            found: `${time(beyond.ns)} more`,
            met: beyond.ns <= beyond.mostNs,
          },
        ]),
  ];
  if (checks.length === 0) return undefined;
  return {
    name,
    wanted: checks.map(({ wanted }) => wanted).join(', '),
    found: checks.map(({ found }) => found).join(', '),
    met: checks.every(({ met }) => met),
  };
}

/** How many times a peer's time a figure takes; undefined for the peer itself. */
export function ratioTo({ ratios }: Figure, peer: string): Ratio | undefined {
  return ratios.find((entry) => entry.peer === peer);
}

/** A ratio in digits. What is a hundred times as fast needs more of them. */
export function times(ratio: number): string {
  if (ratio < 0.1) return ratio.toPrecision(2);
  return ratio.toFixed(ratio < 10 ? 2 : 0);
}

/** A time with its unit. */
export function time(nanoseconds: number): string {
  return withUnit(nanoseconds, TIMES);
}

/** A size with its unit. */
export function bytes(count: number): string {
  return withUnit(count, SIZES);
}

interface Unit {
  readonly name: string;
  readonly size: number;
  /** The least that is given in this unit. */
  readonly least: number;
}

const TIMES: readonly Unit[] = [
  { name: 's', size: 1e9, least: 1e9 },
  { name: 'ms', size: 1e6, least: 1e6 },
  { name: 'µs', size: 1e3, least: 1e3 },
  { name: 'ns', size: 1, least: 0 },
];

const SIZES: readonly Unit[] = [
  { name: 'MB', size: 1e6, least: 1e6 },
  { name: 'KiB', size: 1024, least: 0 },
];

function withUnit(amount: number, units: readonly Unit[]): string {
  const unit = units.find(({ least }) => Math.abs(amount) >= least) as Unit;
  const value = amount / unit.size;
  return `${value.toFixed(Math.abs(value) < 100 ? 1 : 0)} ${unit.name}`;
}

/** Bytes in a nanosecond are gigabytes in a second. */
function speed(nanoseconds: number, count: number): string {
  return `${(count / nanoseconds).toFixed(2)} GB/s`;
}

/** Pads the columns: the first to the right, numbers to the left. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('  ')
      .trimEnd(),
  );
}
