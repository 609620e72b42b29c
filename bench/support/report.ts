/** Prints figures as tables. */

import type { Figure } from './measure';

/** The lines of one table. */
export function table(title: string, peers: readonly string[], figures: readonly Figure[]): string {
  const throughput = figures.every(({ bytes }) => bytes !== undefined);
  const hasTargets = figures.some(({ target }) => target !== undefined);
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

/** Whether a figure keeps within its target; undefined if it has none. */
export function isMet({ target, ratios }: Figure, peer: string): boolean | undefined {
  const ratio = ratios.find((entry) => entry.peer === peer);
  return target === undefined || ratio === undefined ? undefined : ratio.median <= target;
}

function targetOf(figure: Figure, peer: string): string {
  const met = isMet(figure, peer);
  return met === undefined ? '' : `≤ ${figure.target}: ${met ? 'met' : 'MISSED'}`;
}

function ratioTo({ ratios }: Figure, peer: string): string {
  const ratio = ratios.find((entry) => entry.peer === peer);
  return ratio === undefined ? '' : ratio.median.toFixed(ratio.median < 10 ? 2 : 0);
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
