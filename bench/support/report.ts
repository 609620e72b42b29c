/** Prints figures and sizes as tables. */

import type { Figure } from './measure';
import type { Size } from './size';

/** The lines of one table. */
export function table(title: string, peers: readonly string[], figures: readonly Figure[]): string {
  const throughput = figures.every(({ bytes }) => bytes !== undefined);
  const hasTargets = figures.some((figure) => isMet(figure, peers[0]) !== undefined);
  const header = [
    '',
    'median',
    'best',
    ...peers.map((peer) => `× ${peer}`),
    ...(hasTargets ? ['target'] : []),
  ];
  const rows = figures.map((figure) => [
    figure.name,
    ...[figure.median, figure.min].map((ns) => (throughput ? speed(ns, figure.bytes as number) : time(ns))),
    ...peers.map((peer) => ratioTo(figure, peer)),
    ...(hasTargets ? [targetOf(figure, peers[0])] : []),
  ]);
  return [title, ...align([header, ...rows])].join('\n');
}

/** The lines of a table of sizes. */
export function sizeTable(title: string, sizes: readonly Size[]): string {
  const header = ['', 'each', 'target'];
  const rows = sizes.map((size) => {
    const { most } = size;
    const target = most === undefined ? '' : `≤ ${kilobytes(most)}: ${verdict(isSmall(size) === true)}`;
    return [size.name, kilobytes(size.bytes), target];
  });
  return [title, ...align([header, ...rows])].join('\n');
}

/** Whether a size keeps within its limit; undefined if it has none. */
export function isSmall({ bytes, most }: Size): boolean | undefined {
  return most === undefined ? undefined : bytes <= most;
}

/** Whether a figure keeps within all its targets; undefined if it has none. */
export function isMet({ median, target, mostNs, beyond, ratios }: Figure, peer: string): boolean | undefined {
  const ratio = ratios.find((entry) => entry.peer === peer);
  const checks = [
    ...(target === undefined || ratio === undefined ? [] : [ratio.median <= target]),
    ...(mostNs === undefined ? [] : [median <= mostNs]),
    ...(beyond === undefined ? [] : [beyond.ns <= beyond.mostNs]),
  ];
  return checks.length === 0 ? undefined : checks.every(Boolean);
}

function targetOf(figure: Figure, peer: string): string {
  const met = isMet(figure, peer);
  if (met === undefined) return '';
  const { target, mostNs, beyond } = figure;
  const wanted = [
    ...(target === undefined ? [] : [`≤ ${target}`]),
    ...(mostNs === undefined ? [] : [`≤ ${time(mostNs)}`]),
    ...(beyond === undefined ? [] : [`${time(beyond.ns)} more, ≤ ${time(beyond.mostNs)}`]),
  ];
  return `${wanted.join(', ')}: ${verdict(met)}`;
}

function verdict(isMet: boolean): string {
  return isMet ? 'met' : 'MISSED';
}

function ratioTo({ ratios }: Figure, peer: string): string {
  const ratio = ratios.find((entry) => entry.peer === peer);
  if (ratio === undefined) return '';
  // What is a hundred times as fast needs more digits.
  if (ratio.median < 0.1) return ratio.median.toPrecision(2);
  return ratio.median.toFixed(ratio.median < 10 ? 2 : 0);
}

function time(nanoseconds: number): string {
  const unit = UNITS.find(({ least }) => nanoseconds >= least) ?? UNITS[UNITS.length - 1];
  const value = nanoseconds / unit.nanoseconds;
  return `${value.toFixed(value < 100 ? 1 : 0)} ${unit.name}`;
}

const UNITS = [
  { name: 's', nanoseconds: 1e9, least: 1e9 },
  { name: 'ms', nanoseconds: 1e6, least: 1e6 },
  { name: 'µs', nanoseconds: 1e3, least: 1e3 },
  { name: 'ns', nanoseconds: 1, least: 0 },
] as const;

/** Bytes in a nanosecond are gigabytes in a second. */
function speed(nanoseconds: number, bytes: number): string {
  return `${(bytes / nanoseconds).toFixed(2)} GB/s`;
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KB`;
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
