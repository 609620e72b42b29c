/** What a plot shows and where: its rows, its scale and the ticks on it. It does not draw. */

import type { Figure } from './measure';
import { bytes, ratioTo, time, times, titleOf, verdictsOf } from './report';
import type { SizeTable, Table, TimeTable } from './results';

/** What a dot belongs to. */
export type Group = 'wasmi' | 'wasmer' | 'other';

/** The heading of a table, or one of its figures. */
export type Row = Heading | Dot;

export interface Heading {
  readonly kind: 'heading';
  readonly name: string;
  readonly group?: never;
}

export interface Dot {
  readonly kind: 'figure';
  readonly name: string;
  readonly group: Group;
  /** A multiple of the peer, or bytes. */
  readonly value: number;
  /** Where the middle half of the rounds lies. */
  readonly middleHalf?: readonly [number, number];
  readonly target?: number;
  readonly met?: boolean;
  readonly isPeer: boolean;
  /** What stands beside it. */
  readonly label: string;
}

export interface Scale {
  /** The unit. */
  readonly name: string;
  /** Whether there is a 1 × that all is compared with. */
  readonly hasBaseline: boolean;
  readonly least: number;
  readonly most: number;
  readonly ticks: readonly number[];
  /** From a value to its place on the axis, which is linear. */
  readonly place: (value: number) => number;
  readonly label: (tick: number) => string;
}

export interface Layout {
  readonly rows: readonly Row[];
  /** Those that there are, in the order of the legend. */
  readonly groups: readonly Group[];
  readonly scale: Scale;
  readonly hasTargets: boolean;
}

const GROUPS: readonly Group[] = ['wasmi', 'wasmer', 'other'];

/** Tables of one bench are all of times, or all of sizes. */
export function layoutOf(tables: readonly Table[]): Layout {
  const rows = tables.flatMap((table) => [
    { kind: 'heading', name: titleOf(table) } as const,
    ...dotsOf(table),
  ]);
  const dots = rows.filter((row) => row.kind === 'figure');
  return {
    rows,
    groups: GROUPS.filter((group) => dots.some((dot) => dot.group === group)),
    scale: tables.some((table) => 'sizes' in table) ? scaleOfSizes(dots) : scaleOfRatios(dots),
    hasTargets: dots.some(({ target }) => target !== undefined),
  };
}

function dotsOf(table: Table): Dot[] {
  return 'sizes' in table ? dotsOfSizes(table) : dotsOfTimes(table);
}

function dotsOfTimes(table: TimeTable): Dot[] {
  const [peer] = table.peers;
  return table.figures.map((figure) => dotOf(table, figure, peer));
}

function dotOf(table: TimeTable, figure: Figure, peer: string): Dot {
  const { name, median, target } = figure;
  const ratio = ratioTo(figure, peer);
  const own = { kind: 'figure', name: name.trim(), group: groupOf(table, name, name === peer) } as const;
  if (ratio === undefined) return { ...own, value: 1, isPeer: true, label: `1 × = ${time(median)}` };
  return {
    ...own,
    value: ratio.median,
    middleHalf: ratio.quartiles,
    ...(target === undefined ? {} : { target, met: ratio.median <= target }),
    isPeer: false,
    label: `${times(ratio.median)} × · ${time(median)}`,
  };
}

function dotsOfSizes(table: SizeTable): Dot[] {
  const verdicts = new Map(verdictsOf(table).map(({ name, met }) => [name, met]));
  return table.sizes.map(({ name, bytes: value, most }) => ({
    kind: 'figure',
    name: name.trim(),
    group: groupOf(table, name, false),
    value,
    ...(most === undefined ? {} : { target: most, met: verdicts.get(name) === true }),
    isPeer: false,
    label: bytes(value),
  }));
}

/** The engine that a row names, or else its table. */
function groupOf(table: Table, name: string, isPeer: boolean): Group {
  if (isPeer || name.startsWith('V8')) return 'other';
  const [engine] = /\b(?:wasmi|wasmer)\b/.exec(name) ?? /\b(?:wasmi|wasmer)\b/.exec(table.name) ?? [];
  return (engine as Group | undefined) ?? 'other';
}

// Scales

/** How much of the scale's length lies beyond the outermost value. */
const ROOM = 0.04;

function scaleOfRatios(dots: readonly Dot[]): Scale {
  const values = dots.flatMap(valuesOf).filter((value) => value > 0);
  // Differences of a few percent are to look small.
  const [low, high] = [Math.min(0.5, ...values), Math.max(2, ...values)].map(Math.log10);
  const room = (high - low) * ROOM;
  const [least, most] = [10 ** (low - room), 10 ** (high + room)];
  const steps = high - low > 2.5 ? [1] : high - low > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const powers = Array.from({ length: 15 }, (_, index) => index - 7);
  const ticks = powers
    // Negative powers as divisions: 2 * 0.1 is 0.2, 3 * 0.1 is not 0.3.
    .flatMap((power) => steps.map((step) => (power < 0 ? step / 10 ** -power : step * 10 ** power)))
    .filter((tick) => tick >= least && tick <= most);
  return {
    name: "time, as a multiple of the peer's",
    hasBaseline: true,
    least,
    most,
    ticks,
    place: Math.log10,
    label: (tick) => `${tick} ×`,
  };
}

function scaleOfSizes(dots: readonly Dot[]): Scale {
  const high = Math.max(...dots.flatMap(valuesOf));
  const low = Math.min(0, ...dots.flatMap(valuesOf));
  const [unit, name] = high >= 1e6 ? [1e6, 'MB'] : [1024, 'KiB'];
  const step = roundStep((high - low) / unit / 5) * unit;
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return {
    name: `size in ${name}`,
    hasBaseline: false,
    least: low,
    most: high * (1 + ROOM),
    ticks: Array.from({ length: count }, (_, index) => (first + index) * step),
    place: (value) => value,
    label: (tick) => `${Number((tick / unit).toPrecision(6))} ${name}`,
  };
}

/** 1, 2 or 5 times a power of ten, not less than this. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return ([1, 2, 5].find((step) => step * power >= least) ?? 10) * power;
}

function valuesOf({ value, middleHalf, target }: Dot): number[] {
  return [value, ...(middleHalf ?? []), ...(target === undefined ? [] : [target])];
}
