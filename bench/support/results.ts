/** What a run of the benches comes to, in the form in which it is kept in docs/measurements/data.json. */

import type { Figure } from './measure';
import type { Situation } from './situations';
import type { Size } from './size';

/** What a bench says of itself: the heading and the first paragraph of its section, in Markdown. */
export interface About {
  readonly title: string;
  readonly text: string;
  /** Where else it is to be measured than on all cores. */
  readonly situations?: readonly Situation[];
}

/** Figures, or sizes, that are compared with one another. */
export type Table = TimeTable | SizeTable;

export interface TimeTable {
  readonly name: string;
  readonly situation: Situation;
  /** The names of the figures that all others are compared with. */
  readonly peers: readonly string[];
  /** Times are in nanoseconds. */
  readonly figures: readonly Figure[];
}

export interface SizeTable {
  readonly name: string;
  readonly situation: Situation;
  readonly sizes: readonly Size[];
}

/** Where and when something was measured. It does not say whose machine it was. */
export interface Machine {
  /** The day, as `2025-12-31`. */
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  /** As Node has it: `linux x64`. */
  readonly system: string;
  readonly node: string;
  /** The load average of one minute when the run began; undefined where the system has none. */
  readonly load?: number;
}

/** What one bench has measured. */
export interface Section {
  readonly about: Pick<About, 'title' | 'text'>;
  readonly machine: Machine;
  readonly tables: readonly Table[];
  /** Why something was not measured, in sentences. */
  readonly notes: readonly string[];
}

/** The sections by the names of their benches. */
export type Measurements = Readonly<Record<string, Section>>;

/**
 * Puts the sections of a run in the place of older ones, and keeps those of benches that did not run.
 *
 * @param order - the names of all benches there are; sections of others are dropped
 */
export function merge(old: Measurements, run: Measurements, order: readonly string[]): Measurements {
  const sections = { ...old, ...run };
  const names = order.filter((name) => Object.hasOwn(sections, name));
  return Object.fromEntries(names.map((name) => [name, sections[name]]));
}

/** The text of data.json. More than four digits of a figure would only be noise in its history. */
export function toJson(measurements: Measurements): string {
  const rounded = (_key: string, value: unknown): unknown =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
  return `${JSON.stringify(measurements, rounded, 2)}\n`;
}
